// SPDX-License-Identifier: MIT
//
// The client of remote calls, on a channel, and the results of calls that were started.
// rpc.hpp has the whole story of errors, deadlines and threads.
#ifndef IPCDOOR_RPC_CLIENT_HPP
#define IPCDOOR_RPC_CLIENT_HPP

#include <atomic>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/rendezvous.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/rpc_codec.hpp>
#include <ipcdoor/rpc_wire.hpp>

namespace ipcdoor::rpc {

namespace detail {

using signature_text = std::string (*)();

// What follows the header of a reply; throws the error that it carries. `called` tells the
// signature that was called.
template <class Called>
reader result_of(const message& reply, std::string_view method, Called called) {
    reader from(reply.bytes());
    reply_header header;
    std::memcpy(&header, from.take(sizeof header).data(), sizeof header);
    switch (static_cast<reply_kind>(header.kind)) {
        case reply_kind::result: return from;
        case reply_kind::system: {
            std::string text = std::string(method) + ": " + decode<std::string>(from);
            if (header.code == EINVAL) text += "; it was called as " + std::string(called());
            ipcdoor::detail::throw_error(header.code > 0 ? header.code : EBADMSG, text);
        }
        case reply_kind::failure: throw failure(header.code, decode<std::string>(from));
    }
    reader::wrong("a reply of an unknown kind");
}

template <class Result>
Result unpack(const message& reply, std::string_view method, signature_text called) {
    static_assert(!is_view<Result>(),
                  "a result cannot be a view of a message that is gone by then: take a "
                  "std::string or std::vector");
    reader from = result_of(reply, method, called);
    if constexpr (std::is_void_v<Result>) {
        from.finish();
    } else {
        Result result = decode<Result>(from);
        from.finish();
        return result;
    }
}

// What a call needs and leaves behind for the next one.
struct call_memory {
    std::vector<std::byte> request;
    message reply;
    std::atomic<bool> taken{false};
};

}  // namespace detail

// The result of a call that was started; see pending_reply.
template <class Result>
class [[nodiscard]] pending {
public:
    bool ready() const noexcept { return reply_.ready(); }
    // Once. Throws what call() throws.
    Result get() { return detail::unpack<Result>(reply_.get(until_), method_, called_); }
    // Up to another deadline than the call's.
    Result get(deadline until) {
        return detail::unpack<Result>(reply_.get(until), method_, called_);
    }
    // Does `what` once get() returns, or throws, at once; as pending_reply::then().
    void then(const std::function<void()>& what) { reply_.then(what); }

    bool await_ready() const noexcept { return reply_.await_ready(); }
    bool await_suspend(std::coroutine_handle<> waiting) { return reply_.await_suspend(waiting); }
    Result await_resume() {
        return detail::unpack<Result>(reply_.await_resume(), method_, called_);
    }

private:
    friend class client;
    pending(pending_reply reply, std::string method, detail::signature_text called, deadline until)
        : reply_(std::move(reply)), method_(std::move(method)), called_(called), until_(until) {}

    pending_reply reply_;
    std::string method_;
    detail::signature_text called_;
    deadline until_;
};

// An encoded result, in the message that brought it.
class raw_result {
public:
    std::span<const std::byte> bytes() const noexcept {
        return reply_.bytes().subspan(sizeof(reply_header));
    }

private:
    friend class client;
    friend class pending_raw;
    raw_result(message reply, std::string_view method, std::string_view signature)
        : reply_(std::move(reply)) {
        detail::result_of(reply_, method, [&] { return signature; });
    }

    message reply_;
};

// As pending, for start_raw().
class [[nodiscard]] pending_raw {
public:
    bool ready() const noexcept { return reply_.ready(); }
    raw_result get() { return get(until_); }
    // EINVAL where it has given a reply before.
    raw_result get(deadline until) {
        if (taken_)
            ipcdoor::detail::throw_error(EINVAL, method_ + ": the result was taken already");
        message reply = reply_.get(until);
        taken_ = true;
        return {std::move(reply), method_, signature_};
    }
    void then(const std::function<void()>& what) { reply_.then(what); }

private:
    friend class client;
    pending_raw(pending_reply reply, std::string method, std::string signature, deadline until)
        : reply_(std::move(reply)),
          method_(std::move(method)),
          signature_(std::move(signature)),
          until_(until) {}

    pending_reply reply_;
    std::string method_;
    std::string signature_;
    deadline until_;
    bool taken_ = false;
};

struct client_options {
    // How long a call may take where nothing else is said.
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);
    unsigned priority = 0;
    channel_options channel;
};

class client {
public:
    // Connects, and goes on after signal handlers ran. Throws what else door::connect() throws.
    client(door& at, const std::string& name, deadline until = std::chrono::seconds(30),
           const client_options& options = {})
        : client(
              channel(ipcdoor::detail::connect_through_signals(at, name, until), options.channel),
              options) {}
    explicit client(channel end, const client_options& options = {})
        : end_(std::move(end)), options_(options) {}

    template <class Result, class... Args>
    Result call(std::string_view method, const Args&... args) {
        return call_until<Result>(options_.timeout, method, args...);
    }
    template <class Result, class... Args>
    Result call_until(deadline until, std::string_view method, const Args&... args) {
        memory_user memory(*kept_);
        exchange(
            until, argument_bytes(args...),
            [&](writer& to) { fill<Result>(to, until, method, args...); }, memory->request,
            memory->reply);
        return detail::unpack<Result>(memory->reply, method, &signature<Result, Args...>);
    }

    // Starts a call and goes on.
    template <class Result, class... Args>
    pending<Result> start(std::string_view method, const Args&... args) {
        return start_until<Result>(options_.timeout, method, args...);
    }
    template <class Result, class... Args>
    pending<Result> start_until(deadline until, std::string_view method, const Args&... args) {
        std::vector<std::byte> memory(argument_bytes(args...));
        writer to(memory);
        fill<Result>(to, until, method, args...);
        return {end_.start_call(memory, {.priority = options_.priority}, until),
                std::string(method), &signature<Result, Args...>, until};
    }

    // The same with encoded arguments; see server::bind_raw().
    raw_result call_raw(deadline until, std::string_view method, std::string_view signature,
                        std::span<const std::byte> arguments) {
        message reply;
        std::vector<std::byte> memory;
        exchange(
            until, sizeof(call_header) + arguments.size(),
            [&](writer& to) { fill_raw(to, until, method, signature, arguments); }, memory, reply);
        return {std::move(reply), method, signature};
    }
    pending_raw start_raw(deadline until, std::string_view method, std::string_view signature,
                          std::span<const std::byte> arguments) {
        std::vector<std::byte> memory(sizeof(call_header) + arguments.size());
        writer to(memory);
        fill_raw(to, until, method, signature, arguments);
        return {end_.start_call(memory, {.priority = options_.priority}, until),
                std::string(method), std::string(signature), until};
    }

    // Tells the server that nobody wants the result any more: a handler that asks its
    // context learns of it, if it has begun by then. The reply, if one comes, can still be
    // got. Never blocks; false where the ring has no room for it now.
    template <class Result>
    bool cancel(const pending<Result>& call) {
        return call.ready() || cancel_call(call.reply_.id());
    }
    bool cancel(const pending_raw& call) { return call.ready() || cancel_call(call.reply_.id()); }

    // Lets results come in whose calls were started. For event loops: after this, end().fd()
    // becomes readable when there are more; so also once after starting a call.
    void poll() {
        message none;
        for (int i = 0; i < at_a_time; ++i)
            if (!end_.try_receive(none)) return;
        end_.remind();
    }
    channel& end() noexcept { return end_; }

private:
    template <class... Args>
    static std::size_t argument_bytes(const Args&... args) {
        return sizeof(call_header) + (std::size_t{0} + ... + encoded_bytes(args));
    }

    // What a call needs memory for, kept for the next one: large blocks that are fetched from
    // the kernel each time cost more than the call. One call at a time has it, others
    // have their own.
    using kept_memory = detail::call_memory;
    class memory_user {
    public:
        explicit memory_user(kept_memory& kept)
            : kept_(kept.taken.exchange(true) ? nullptr : &kept) {
            if (kept_ == nullptr) own_.emplace();
        }
        ~memory_user() {
            if (kept_ != nullptr) kept_->taken.store(false);
        }
        memory_user(const memory_user&) = delete;
        memory_user& operator=(const memory_user&) = delete;
        kept_memory* operator->() noexcept { return kept_ != nullptr ? kept_ : &*own_; }

    private:
        kept_memory* const kept_;
        std::optional<kept_memory> own_;
    };

    template <class Fill>
    void exchange(deadline until, std::size_t bytes, Fill write, std::vector<std::byte>& memory,
                  message& reply) {
        if (bytes <= end_.max_record_bytes(options_.priority)) {
            loaned_message loan = end_.loan_request(bytes, {.priority = options_.priority}, until);
            writer to(loan.bytes());
            write(to);
            end_.call(std::move(loan), reply, until);
        } else {
            memory.resize(bytes);
            writer to(memory);
            write(to);
            end_.call(memory, {.priority = options_.priority}, reply, until);
        }
    }

    template <class Result, class... Args>
    static void fill(writer& to, deadline until, std::string_view method, const Args&... args) {
        // the same for all calls of these types
        static const std::uint64_t signature_hash = hash(signature<Result, Args...>());
        const call_header header{hash(method), signature_hash, until.ns()};
        to.raw(&header, sizeof header);
        (encode(to, args), ...);
    }
    static void fill_raw(writer& to, deadline until, std::string_view method,
                         std::string_view signature, std::span<const std::byte> arguments) {
        const call_header header{hash(method), hash(signature), until.ns()};
        to.raw(&header, sizeof header);
        to.raw(arguments.data(), arguments.size());
    }

    bool cancel_call(std::uint64_t id) {
        return end_.send_if_room(cancel_message{id}, {.priority = options_.priority});
    }

    channel end_;
    client_options options_;
    std::unique_ptr<kept_memory> kept_ = std::make_unique<kept_memory>();
};

}  // namespace ipcdoor::rpc

#endif  // IPCDOOR_RPC_CLIENT_HPP
