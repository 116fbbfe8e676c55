// SPDX-License-Identifier: MIT
//
// door: where endpoints come from. door() opens what $IPCDOOR_URI names, or else
// the local module's door, or else, without the module, the software back end.
//
//     ipcdoor::door door;
//     ipcdoor::endpoint end = door.connect("echo", std::chrono::seconds(1));
//
// Sizes of 0 mean the default: one page for slots, no DATA. Sizes are rounded up
// to pages. Threads: several may use a door at once.
#ifndef IPCDOOR_DOOR_HPP
#define IPCDOOR_DOOR_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>

namespace ipcdoor {

struct listen_options {
    std::uint64_t slot_bytes = 0;
    std::uint64_t data_bytes = 0;
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint32_t mode = 0600;  // connecting needs the write bit
    std::uint32_t backlog = 128;
    bool stamps = false;
};

struct create_options {
    std::uint64_t data_bytes = 0;
    std::uint64_t max_data_bytes = 0;  // 0: data_bytes
    std::uint64_t slot_bytes = 0;
    std::uint32_t slots = 2;
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint32_t mode = 0600;
    bool stamps = false;
};

struct attach_options {
    bool read_only = false;
    std::uint32_t slot = IPCDOOR_ANY_SLOT;
};

class door {
public:
    // By URI: "local:", "door:/dev/ipcdoor0", "soft:", "soft:/PATH"; empty means
    // $IPCDOOR_URI, and where that is unset, "local:".
    explicit door(const std::string& uri = {}) {
        ipcdoor_door* opened = nullptr;
        detail::throw_if(ipcdoor_door_open(uri.c_str(), &opened));
        handle_.reset(opened);
    }

    // Takes over what ipcdoor_door_open() has opened.
    explicit door(ipcdoor_door* opened) noexcept : handle_(opened) {}

    ipcdoor_door* get() const noexcept { return handle_.get(); }
    // Gives it back to the caller, to close; this is of no use any more.
    ipcdoor_door* release() noexcept { return handle_.release(); }

    // "kernel" or "soft"
    std::string_view backend() const noexcept { return ipcdoor_door_backend(get()); }

    struct ipcdoor_info info() const {
        struct ipcdoor_info known {};
        detail::throw_if(ipcdoor_door_info(get(), &known));
        return known;
    }

    // ---- connections ----

    listener listen(const std::string& name, const listen_options& options = {}) {
        ipcdoor_listen_options wanted{};
        wanted.size = sizeof(wanted);
        wanted.name = name.c_str();
        wanted.slot_bytes = options.slot_bytes;
        wanted.data_bytes = options.data_bytes;
        wanted.source = options.source;
        wanted.mode = options.mode;
        wanted.backlog = options.backlog;
        wanted.stamps = options.stamps ? 1 : 0;
        ipcdoor_listener* made = nullptr;
        detail::throw_if(ipcdoor_listen(get(), &wanted, &made));
        return listener(made);
    }

    // Waits until the other side has accepted. Throws with is_timeout() at the
    // deadline, and is_interrupt() where a signal handler ran.
    endpoint connect(const std::string& name, deadline until = {}) {
        ipcdoor_endpoint* made = nullptr;
        detail::throw_if(ipcdoor_connect(get(), name.c_str(), until.ns(), &made));
        return endpoint(made);
    }

    // ---- segments ----

    // A new segment, anonymous where `name` is empty; the endpoint has slot 0.
    endpoint create(const std::string& name, const create_options& options = {}) {
        ipcdoor_create_options wanted{};
        wanted.size = sizeof(wanted);
        wanted.name = name.empty() ? nullptr : name.c_str();
        wanted.data_bytes = options.data_bytes;
        wanted.max_data_bytes = options.max_data_bytes;
        wanted.slot_bytes = options.slot_bytes;
        wanted.slots = options.slots;
        wanted.source = options.source;
        wanted.mode = options.mode;
        wanted.stamps = options.stamps ? 1 : 0;
        ipcdoor_endpoint* made = nullptr;
        detail::throw_if(ipcdoor_create(get(), &wanted, &made));
        return endpoint(made);
    }

    endpoint attach(const std::string& name, const attach_options& options = {}) {
        ipcdoor_attach_options wanted{};
        wanted.size = sizeof(wanted);
        wanted.name = name.c_str();
        wanted.read_only = options.read_only ? 1 : 0;
        wanted.fixed_slot = options.slot != IPCDOOR_ANY_SLOT ? 1 : 0;
        wanted.slot = wanted.fixed_slot != 0 ? options.slot : 0;
        ipcdoor_endpoint* made = nullptr;
        detail::throw_if(ipcdoor_attach(get(), &wanted, &made));
        return endpoint(made);
    }

    // By a descriptor of an endpoint; it stays the caller's. Kernel only.
    endpoint attach(int fd, bool read_only = false) {
        ipcdoor_endpoint* made = nullptr;
        detail::throw_if(ipcdoor_attach_fd(get(), fd, read_only ? 1 : 0, &made));
        return endpoint(made);
    }

private:
    struct closer {
        void operator()(ipcdoor_door* handle) const noexcept { ipcdoor_door_close(handle); }
    };

    std::unique_ptr<ipcdoor_door, closer> handle_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_DOOR_HPP
