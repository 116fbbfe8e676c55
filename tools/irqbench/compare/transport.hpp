// SPDX-License-Identifier: MIT
//
// Owns: what the compared methods have in common: messages of one size between the two measured
// processes, filled by who sends and checked by who receives. As with every method, one object is
// made before the fork and both processes carry on with their copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ipcdoor/ipcdoor.hpp>
#include <memory>
#include <string>
#include <vector>

#include "irqbench/clock.hpp"
#include "irqbench/compare/payload.hpp"
#include "irqbench/method.hpp"

namespace irqbench::compare {

// Where ipcdoor's methods connect.
struct door_choice {
    std::string uri;
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

// What lies between sender and receiver, on both sides of a comparison wherever it can be chosen.
inline constexpr std::size_t queue_bytes = std::size_t{256} << 10;
// Signals and rings of a throughput measurement that are sent before the receiver has to say that
// it took them: fewer than any of the queues holds.
inline constexpr std::uint64_t burst = 32;
// Messages of the shared memory that may be filled before the receiver has read them.
inline constexpr std::size_t memory_buffers = 4;
// From here on calls and their replies are written and read in place.
inline constexpr std::size_t in_place_bytes = 4096;

class transport : public method {
public:
    transport(std::string name, method_kind kind, std::size_t bytes)
        : method(std::move(name), kind), bytes_(bytes) {}

    // One deadline a batch, as with irqbench's other methods: computing it for each call would put
    // a timestamp into the measured path that the counterparts do not have.
    void begin_batch() override { until_ = ipcdoor::deadline::at_ns(now_ns() + batch_ns); }

protected:
    static constexpr std::uint64_t batch_ns = 60'000'000'000U;

    void fill_next(std::span<std::byte> memory) { fill(memory, sent_++); }
    void check_next(std::span<const std::byte> memory) {
        check(memory, bytes_, received_++, name());
    }

    const std::size_t bytes_;
    ipcdoor::deadline until_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
};

// One that copies: messages are made in a buffer of the sender's and end in one of the receiver's.
class copying_transport : public transport {
public:
    copying_transport(std::string name, method_kind kind, std::size_t bytes)
        : transport(std::move(name), kind, bytes), out_(bytes) {}

    void send() final { put(next()); }
    void receive() final { check_next(get()); }
    void exchange() final { check_next(put_get(next())); }

protected:
    virtual void put(std::span<const std::byte> message) = 0;
    virtual std::span<const std::byte> get() = 0;
    virtual std::span<const std::byte> put_get(std::span<const std::byte> message) {
        put(message);
        return get();
    }

private:
    std::span<const std::byte> next() {
        fill_next(out_);
        return out_;
    }

    std::vector<std::byte> out_;
};

// An end of a connection of ipcdoor's, made in open() and connect().
class connector {
public:
    explicit connector(door_choice door);
    void open(side s, std::uint64_t slot_bytes);
    ipcdoor::endpoint connect(side s);
    const std::string& label() const { return label_; }
    ipcdoor::door& door() { return *door_; }
    void open_door();
    std::uint32_t source() const { return choice_.source; }

private:
    door_choice choice_;
    std::string label_;
    std::unique_ptr<ipcdoor::door> door_;
    ipcdoor::listener listener_;
};

// ipcdoor's errors of making a connection: the method is not there, for that reason.
template <class Step>
auto or_unavailable(Step step) {
    try {
        return step();
    } catch (const ipcdoor::error& e) {
        throw unavailable(e.what());
    }
}

using transport_pointer = std::unique_ptr<method>;

transport_pointer make_message(const door_choice& door, std::size_t bytes);
transport_pointer make_message_in_place(const door_choice& door, std::size_t bytes);
transport_pointer make_call(const door_choice& door, std::size_t bytes);
transport_pointer make_rpc(const door_choice& door, std::size_t bytes);
transport_pointer make_door_pipe(const door_choice& door, std::size_t bytes);
transport_pointer make_door_stream(const door_choice& door, std::size_t bytes);
transport_pointer make_door_memory(const door_choice& door, std::size_t bytes);
transport_pointer make_pulse(const door_choice& door, std::size_t bytes);
transport_pointer make_bound_signal(const door_choice& door, std::size_t bytes);
transport_pointer make_doorbell(const door_choice& door, std::size_t bytes);

transport_pointer make_unix_seqpacket(const door_choice& door, std::size_t bytes);
transport_pointer make_queue(const door_choice& door, std::size_t bytes);
transport_pointer make_unix_request(const door_choice& door, std::size_t bytes);
transport_pointer make_kernel_pipe(const door_choice& door, std::size_t bytes);
transport_pointer make_kernel_stream(const door_choice& door, std::size_t bytes);
transport_pointer make_memfd(const door_choice& door, std::size_t bytes);
transport_pointer make_eventfd_bell(const door_choice& door, std::size_t bytes);
transport_pointer make_futex_bell(const door_choice& door, std::size_t bytes);
transport_pointer make_sigqueue_bell(const door_choice& door, std::size_t bytes);

}  // namespace irqbench::compare
