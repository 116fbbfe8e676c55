// SPDX-License-Identifier: MIT
//
// co_await on what ipcdoor can wait for, in the program's own event loop:
//
//     ipcdoor::detached_task serve(my_loop& loop, ipcdoor::channel& from) {
//         for (;;) {
//             ipcdoor::message request = co_await ipcdoor::async_receive(loop, from);
//             co_await ipcdoor::async_send(loop, from, request.bytes());
//         }
//     }
//
// Any loop will do that can call a function once when a descriptor is readable (epoll,
// Boost.Asio, io_uring, sd-event: docs/examples has an adapter for each):
//
//     void when_readable(int fd, std::function<void()> ready);  // one at a time for each fd
//     void forget(int fd);                                      // ready is not called any more
//
// Each operation is tried first, and the loop only asked where there is nothing to do. It
// is tried again whenever the descriptor is readable, so it does not matter who else uses
// the channel meanwhile. A coroutine goes on in the loop's thread, and is to be begun there.
// A coroutine that is destroyed while it waits, in that thread, leaves the loop.
//
// One coroutine at a time may wait for one object (its descriptor). Whoever wants to
// receive and to send at once gives them to one coroutine, or to threads.
//
// A peer that never pauses never sends its coroutine back to the loop: do not serve
// strangers without a limit on how much is done at once.
//
// Errors are thrown by co_await: those of the operation of the same name without async_,
// but ETIMEDOUT; those of when_readable().
#ifndef IPCDOOR_ASYNC_HPP
#define IPCDOOR_ASYNC_HPP

#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/stream.hpp>

namespace ipcdoor {

template <class Loop>
concept event_loop = requires(Loop& loop, int fd, std::function<void()> ready) {
    loop.when_readable(fd, ready);
    loop.forget(fd);
};

// A coroutine that nobody waits for: it begins at once and frees itself at its end. What
// it throws ends the program.
struct detached_task {
    struct promise_type {
        detached_task get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
    };
};

// Waits until `attempt` succeeds: it returns an optional, whose content is the result, or
// a bool; and is tried at first, and whenever `fd` is readable. A failed attempt has to
// leave `fd` unreadable until there is something new, as every try_ of this library does.
template <event_loop Loop, std::invocable Attempt>
class [[nodiscard]] async_until {
    using tried = std::invoke_result_t<Attempt&>;

public:
    async_until(Loop& loop, int fd, Attempt attempt)
        : loop_(loop), fd_(fd), attempt_(std::move(attempt)) {}
    async_until(const async_until&) = delete;
    async_until& operator=(const async_until&) = delete;
    ~async_until() {
        if (waiting_) loop_.forget(fd_);
    }

    bool await_ready() { return try_once(); }
    void await_suspend(std::coroutine_handle<> waiter) {
        waiter_ = waiter;
        wait();
    }
    auto await_resume() {
        if (failure_) std::rethrow_exception(failure_);
        if constexpr (!std::is_same_v<tried, bool>) return std::move(*outcome_);
    }

private:
    // Also true where it has failed.
    bool try_once() noexcept {
        try {
            outcome_ = attempt_();
            return static_cast<bool>(outcome_);
        } catch (...) {
            failure_ = std::current_exception();
            return true;
        }
    }

    void wait() {
        // The loop may call back before this returns, in another thread: then this is gone.
        waiting_ = true;
        const auto ready = [this] {
            waiting_ = false;
            if (!try_once()) {
                try {
                    wait();
                    return;
                } catch (...) {
                    failure_ = std::current_exception();
                }
            }
            waiter_.resume();  // this may be gone now
        };
        try {
            loop_.when_readable(fd_, ready);
        } catch (...) {
            waiting_ = false;
            throw;
        }
    }

    Loop& loop_;
    const int fd_;
    Attempt attempt_;
    tried outcome_{};
    std::exception_ptr failure_;
    std::coroutine_handle<> waiter_;
    bool waiting_ = false;
};

// ---- connections and doorbells ----------------------------------------------

// The next connection: an endpoint.
template <event_loop Loop>
auto async_accept(Loop& loop, listener& from) {
    return async_until(loop, from.fd(), [&from] { return from.try_accept(); });
}
// A stream_socket.
template <event_loop Loop>
auto async_accept(Loop& loop, stream_listener& from) {
    return async_until(loop, from.fd(), [&from] { return from.try_accept(); });
}

// Vectors of `mask` that were rung: an event. Nobody else may leave other vectors of the
// endpoint pending, which would keep the loop busy.
template <event_loop Loop>
auto async_wait(Loop& loop, endpoint& at, std::uint64_t mask = all_vectors) {
    return async_until(loop, at.fd(),
                       [&at, mask] { return at.wait(mask, std::chrono::seconds(0)); });
}

// ---- messages ---------------------------------------------------------------

// The next message or request.
template <event_loop Loop>
auto async_receive(Loop& loop, channel& from) {
    return async_until(loop, from.fd(), [&from] { return from.try_receive(); });
}
// A delivery.
template <event_loop Loop>
auto async_receive(Loop& loop, mailbox& from) {
    return async_until(loop, from.fd(), [&from] {
        std::optional<delivery> got(std::in_place);
        if (!from.try_receive(*got)) got.reset();
        return got;
    });
}

// The bytes are the caller's, and have to stay until it is done; they lie in one record.
template <event_loop Loop>
auto async_send(Loop& loop, channel& to, const bytes_view& bytes,
                const send_options& options = {}) {
    return async_until(loop, to.fd(), [&to, bytes, options] {
        if (to.try_send(bytes, options)) return true;
        to.take_rings();
        return false;
    });
}

// The reply to a request, a message; the channel may have other users, who receive. What
// comes meanwhile and is no reply waits for their receive(). Throws what start_call()
// throws at once: the request is sent within this call, and blocks where there is no room
// for it.
template <event_loop Loop>
auto async_call(Loop& loop, channel& at, const bytes_view& request,
                const send_options& options = {}, deadline until = {}) {
    return async_until(loop, at.fd(), [reply = at.start_call(request, options, until)]() mutable {
        return reply.try_get();
    });
}

// ---- streams ----------------------------------------------------------------

// Some bytes, at least one, or 0 at the end: how many.
template <event_loop Loop, class Reader>
auto async_read(Loop& loop, Reader& from, std::span<std::byte> into) {
    return async_until(loop, from.fd(), [&from, into] { return from.try_read(into); });
}

// Some of the bytes, at least one: how many. They have to stay until it is done.
template <event_loop Loop, class Writer>
auto async_write_some(Loop& loop, Writer& to, const bytes_view& bytes) {
    return async_until(loop, to.fd(), [&to, bytes] { return to.try_write(bytes); });
}

}  // namespace ipcdoor

#endif  // IPCDOOR_ASYNC_HPP
