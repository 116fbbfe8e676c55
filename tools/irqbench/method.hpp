// SPDX-License-Identifier: MIT
//
// Owns: the interface behind which every measured way of waking a peer stands, ipcdoor's sources
// and the system's own alike. One object exists per method; it is made before the fork and both
// processes carry on with their copy of it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "irqbench/model.hpp"
#include "irqbench/shared.hpp"

namespace irqbench {

// This method does not exist here; the text says why and what would help.
struct unavailable : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// errno in words behind `what`.
std::string with_errno(const std::string& what);

enum class side { ringer = 0, waiter = 1 };

class method {
public:
    method(std::string name, method_kind kind) : name_(std::move(name)), kind_(kind) {}
    virtual ~method() = default;
    method(const method&) = delete;
    method& operator=(const method&) = delete;

    const std::string& name() const { return name_; }
    method_kind kind() const { return kind_; }

    // Before the fork: descriptors and memory that both sides inherit.
    virtual void prepare() {}
    // After the fork, first on both sides, then, if both succeeded, connect() on both sides.
    virtual void open(side) {}
    virtual void connect(side) {}
    // Before each batch.
    virtual void begin_batch() {}

    // Rings the other side; takes one ring of the other side's, blocking.
    virtual void send() = 0;
    virtual void receive() = 0;
    // send() and receive(), in one call where the method has one.
    virtual void exchange() {
        send();
        receive();
    }
    // Takes all that was rung so far, one at least, and says how many; a method that does not count
    // takes one.
    virtual std::uint64_t receive_some() {
        receive();
        return 1;
    }

    // The answering side of round trips: all of the ringer's exchanges; `last` is not 0 from before
    // the last of them.
    virtual void answer(const std::atomic<std::uint32_t>& last) {
        receive();
        while (last.load() == 0) exchange();
        send();
    }

    // `count` one way, one after the other, as fast as the method lets them; then the word that all
    // have come, back.
    virtual void send_many(std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) send();
        receive();
    }
    virtual void receive_many(std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) receive();
        send();
    }

    // The kernel's view of the ring just received; false where it has none.
    virtual bool read_stamps(kernel_stamps&) { return false; }

private:
    std::string name_;
    method_kind kind_;
};

using method_list = std::vector<std::unique_ptr<method>>;

// The eight of the system.
std::unique_ptr<method> make_eventfd();
std::unique_ptr<method> make_futex();
std::unique_ptr<method> make_pipe();
std::unique_ptr<method> make_unix_stream();
std::unique_ptr<method> make_unix_datagram();
std::unique_ptr<method> make_posix_mq();
std::unique_ptr<method> make_posix_semaphore();
std::unique_ptr<method> make_realtime_signal();

// Names for --methods, in the order they are measured.
const std::vector<std::string>& peer_names();
std::unique_ptr<method> make_peer(const std::string& name);

// A door of the library: `uri` and one of IPCDOOR_SOURCE_*. With stamps it is a method_kind::source
// named after the source, without a method_kind::door named "ipcdoor:SOURCE".
std::unique_ptr<method> make_door(std::string uri, std::uint32_t source, bool stamps);
// The same by bare ioctls on the device node `path`, named "ioctl:SOURCE".
std::unique_ptr<method> make_door_ioctl(std::string path, std::uint32_t source);
// The library's software back end, named "ipcdoor:soft".
std::unique_ptr<method> make_soft_door();

}  // namespace irqbench
