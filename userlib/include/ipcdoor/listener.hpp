// SPDX-License-Identifier: MIT
//
// listener: a name that others connect to. Made by door::listen().
//
// Threads: several may accept() at once.
#ifndef IPCDOOR_LISTENER_HPP
#define IPCDOOR_LISTENER_HPP

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>

namespace ipcdoor {

class listener {
public:
    listener() noexcept = default;
    explicit listener(ipcdoor_listener* handle) noexcept : handle_(handle) {}

    explicit operator bool() const noexcept { return handle_ != nullptr; }
    ipcdoor_listener* get() const noexcept { return handle_.get(); }

    // The name is free again; connections live on.
    void close() noexcept { handle_.reset(); }

    // Readable while a connection waits. Stays the listener's.
    int fd() const { return detail::throw_if(ipcdoor_listener_fd(get())); }

    // The next connection. Throws with is_timeout() at the deadline; goes on
    // after signal handlers ran.
    endpoint accept(deadline until = {}) {
        std::optional<endpoint> accepted = try_accept(until);
        if (!accepted) detail::throw_error(ETIMEDOUT, ipcdoor_error());
        return std::move(*accepted);
    }

    // The same, with nothing at the deadline.
    [[nodiscard]] std::optional<endpoint> try_accept(deadline until = std::chrono::seconds(0)) {
        ipcdoor_endpoint* made = nullptr;
        int result;
        do {
            result = ipcdoor_accept(get(), until.ns(), &made);
        } while (result == -EINTR);
        if (result == -ETIMEDOUT) return std::nullopt;
        detail::throw_if(result);
        return endpoint(made);
    }

private:
    struct closer {
        void operator()(ipcdoor_listener* handle) const noexcept { ipcdoor_listener_close(handle); }
    };

    std::unique_ptr<ipcdoor_listener, closer> handle_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_LISTENER_HPP
