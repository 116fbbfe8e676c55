// SPDX-License-Identifier: MIT
//
// Remote procedure calls: a function in another process, called as if it were local.
//
//     ipcdoor::rpc::server server(door, "calc");
//     server.bind("add", [](int a, int b) { return a + b; });
//     server.serve();
//
//     ipcdoor::rpc::client calc(door, "calc");
//     int sum = calc.call<int>("add", 2, 3);
//
// Arguments and results are what rpc_codec.hpp can carry: numbers, text, sequences,
// maps, optionals, tuples, and structures of these. Both sides compare signatures: a
// method of that name with other types is refused, and the error names both.
//
// Deadlines travel with the call: a server does not begin one that nobody waits for any
// more, and a handler that takes an rpc::context first can ask for what is left of its time
// and whether the caller has cancelled.
//
// Errors that a call throws, as ipcdoor::error with these codes, or as rpc::failure:
//
//   ENOSYS      the server has no method of that name
//   EINVAL      it has one with another signature
//   EBADMSG     what came is malformed
//   ECANCELED   the server or this client was closed
//   ETIMEDOUT   the deadline passed, here or there
//   EPIPE       the server died; whether it did what was asked is not known
//   any         the error_number() of an ipcdoor::error that the handler let go
//   failure     what a handler threw: an rpc::failure with its code and text, any other
//               exception with the code failure::uncaught and what() it said
//
// Who has another serialiser uses bind_raw(), call_raw() and start_raw(): the bytes are
// theirs, begin on a multiple of 8, and the signature is any text that both sides agree on.
// Who keeps to rpc_codec.hpp's format and signatures there can talk to bind() and call().
//
// Threads. A client and a server may be used by any number at once; serve() in several
// threads is a pool. bind() all methods before the first serve().
#ifndef IPCDOOR_RPC_HPP
#define IPCDOOR_RPC_HPP

#include <atomic>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/rendezvous.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/rpc_codec.hpp>

namespace ipcdoor::rpc {

// What a handler throws to its caller, and what arrives there.
class failure : public std::runtime_error {
public:
    static constexpr std::int32_t uncaught = -1;

    failure(std::int32_t code, const std::string& text) : std::runtime_error(text), code_(code) {}
    std::int32_t code() const noexcept { return code_; }

private:
    std::int32_t code_;
};

// ---- on the wire ------------------------------------------------------------

// Before the arguments.
struct call_header {
    std::uint64_t method;       // hash of its name
    std::uint64_t signature;    // hash of its signature
    std::uint64_t deadline_ns;  // CLOCK_MONOTONIC
};

// Before the result; an error has its text there.
struct reply_header {
    std::uint32_t kind;  // reply_kind
    std::int32_t code;
};

enum class reply_kind : std::uint32_t { result = 0, system = 1, failure = 2 };

// A message, not a call: the caller gives up the call with this id.
struct cancel_message {
    std::uint64_t id;
};

// Of what a peer may send without a pause, before an event loop has its turn.
inline constexpr int at_a_time = 64;

// ---- server -----------------------------------------------------------------

// What a handler may ask about its call.
class context {
public:
    deadline until() const noexcept { return deadline::at_ns(deadline_ns_); }
    // True once the caller has cancelled, its deadline has passed, it has died, or the
    // server was stopped. Cancels and deaths are noticed by threads that serve: one must
    // be left that is not in a handler.
    bool cancelled() const noexcept {
        return cancelled_.load(std::memory_order_acquire) || until().is_past();
    }
    // Who calls, as the kernel captured it.
    const struct ipcdoor_peer_info& caller() const noexcept { return caller_; }

private:
    friend class server;

    std::uint64_t deadline_ns_ = IPCDOOR_NO_DEADLINE;
    std::atomic<bool> cancelled_{false};
    struct ipcdoor_peer_info caller_ {};
};

struct server_stats {
    std::uint64_t calls = 0;      // received
    std::uint64_t failed = 0;     // of them, answered with an error
    std::uint64_t expired = 0;    // of these, not begun, their deadline had passed
    std::uint64_t cancelled = 0;  // cancel messages that found their call
};

class server {
public:
    server(door& at, const std::string& name, mailbox_options options = {})
        : box_(at, name, with_departures(std::move(options))) {}
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    // Adds a method: any callable whose arguments and result can be carried, without
    // overloads; an rpc::context& may come first. Text and bytes may be taken as
    // std::string_view and std::span<const std::byte>, valid during the call.
    // Throws EEXIST where the name is taken.
    template <class Handler>
    void bind(const std::string& name, Handler handler) {
        add(name, std::function(std::move(handler)));
    }

    // Adds a method whose arguments and result are encoded bytes: the handler is called with
    // (rpc::context&, std::span<const std::byte>), valid during the call, and returns what has
    // data() and size(), in bytes. Throws EEXIST likewise.
    template <class Handler>
    void bind_raw(const std::string& name, std::string signature, Handler handler) {
        insert({name, std::move(signature), 0,
                [handler = std::move(handler)](server& self, const delivery& call, context& about,
                                               reader& from) {
                    const auto result = handler(about, from.take(from.left()));
                    self.answer_raw(call, std::as_bytes(std::span(result.data(), result.size())));
                }});
    }

    // Serves until stop(). Returns as soon as stopped; throws for errors that are not a
    // client's.
    void serve() {
        delivery got;
        while (serve_one(got, {})) {
        }
    }
    // Serves one call, or what else there is to do. False: stopped, or the deadline passed.
    bool serve_one(deadline until = {}) {
        delivery got;
        return serve_one(got, until);
    }
    // What there is to do now, for event loops, but not without end: fd() is readable when
    // there is more.
    void poll() {
        delivery got;
        try {
            for (int i = 0; i < at_a_time; ++i) {
                if (!box_.try_receive(got)) return;
                handle(got);
            }
            box_.remind();
        } catch (const error& wrong) {
            if (wrong.error_number() != ECANCELED) throw;  // stopped
        }
    }
    int fd() const noexcept { return box_.fd(); }

    // From any thread, also from a handler. Handlers that ask their context learn of it;
    // their results are still sent.
    void stop() {
        {
            const std::lock_guard lock(running_mutex_);
            stopped_.store(true, std::memory_order_relaxed);
            for (const auto& [call, about] : running_)
                about->cancelled_.store(true, std::memory_order_release);
        }
        box_.close();
    }
    bool stopped() const noexcept { return stopped_.load(std::memory_order_relaxed); }

    mailbox& clients() noexcept { return box_; }
    server_stats stats() const noexcept {
        return {calls_.load(std::memory_order_relaxed), failed_.load(std::memory_order_relaxed),
                expired_.load(std::memory_order_relaxed),
                cancelled_.load(std::memory_order_relaxed)};
    }

private:
    // Reuses the memory of `got`.
    bool serve_one(delivery& got, deadline until) {
        try {
            box_.receive(got, until);
        } catch (const error& wrong) {
            if (wrong.error_number() == ECANCELED || wrong.is_timeout()) return false;
            throw;
        }
        handle(got);
        return true;
    }

    struct method {
        std::string name;
        std::string signature;
        std::uint64_t signature_hash = 0;
        std::function<void(server&, const delivery&, context&, reader&)> run;
    };

    template <class Result, class... Args>
    void add(const std::string& name, std::function<Result(Args...)> handler) {
        add_method<Result, std::decay_t<Args>...>(
            name, [handler = std::move(handler)](server& self, const delivery& call, context&,
                                                 reader& from) {
                std::tuple<std::decay_t<Args>...> args{decode<std::decay_t<Args>>(from)...};
                from.finish();
                self.run<Result>(call, [&]() -> Result {
                    return std::apply(
                        [&](auto&... all) -> Result {
                            return handler(std::forward<Args>(static_cast<Args&&>(all))...);
                        },
                        args);
                });
            });
    }
    template <class Result, class... Args>
    void add(const std::string& name, std::function<Result(context&, Args...)> handler) {
        add_method<Result, std::decay_t<Args>...>(
            name, [handler = std::move(handler)](server& self, const delivery& call, context& about,
                                                 reader& from) {
                std::tuple<std::decay_t<Args>...> args{decode<std::decay_t<Args>>(from)...};
                from.finish();
                self.run<Result>(call, [&]() -> Result {
                    return std::apply(
                        [&](auto&... all) -> Result {
                            return handler(about, std::forward<Args>(static_cast<Args&&>(all))...);
                        },
                        args);
                });
            });
    }

    template <class Result, class... Args, class Run>
    void add_method(const std::string& name, Run run) {
        insert({name, signature<Result, Args...>(), 0, std::move(run)});
    }

    void insert(method made) {
        made.signature_hash = hash(made.signature);
        const std::string name = made.name;
        const auto [at, added] = methods_.emplace(hash(name), std::move(made));
        if (!added) {
            ipcdoor::detail::throw_error(EEXIST, "rpc: there is a method '" + at->second.name +
                                                     "' already; '" + name +
                                                     "' needs another name");
        }
    }

    // Runs a handler and answers with its result.
    template <class Result, class Call>
    void run(const delivery& call, Call handler) {
        if constexpr (std::is_void_v<Result>) {
            handler();
            answer(call, {});
        } else {
            answer(call, {}, handler());
        }
    }

    template <class... Result>
    void answer(const delivery& call, const reply_header& header, const Result&... result) {
        send_reply(call, sizeof header + (std::size_t{0} + ... + encoded_bytes(result)),
                   [&](writer& to) {
                       to.raw(&header, sizeof header);
                       (encode(to, result), ...);
                   });
    }
    void answer_raw(const delivery& call, std::span<const std::byte> result) {
        const reply_header header{};
        send_reply(call, sizeof header + result.size(), [&](writer& to) {
            to.raw(&header, sizeof header);
            to.raw(result.data(), result.size());
        });
    }

    template <class Fill>
    void send_reply(const delivery& call, std::size_t bytes, Fill fill) {
        const auto end = box_.sender(call.from);
        try {
            if (bytes <= end->max_record_bytes(call.content.priority())) {
                loaned_message loan = end->loan_reply(call.content, bytes, reply_until());
                writer to(loan.bytes());
                fill(to);
                loan.publish();
            } else {
                std::vector<std::byte> memory(bytes);
                writer to(memory);
                fill(to);
                end->reply(call.content, memory, reply_until());
            }
        } catch (const error& wrong) {
            if (wrong.error_number() == EMSGSIZE) throw;  // an error's reply is shorter
            throw not_answered(wrong.what());
        }
    }

    // A reply could not be sent, so there is no use in sending another one about that.
    struct not_answered : std::runtime_error {
        using std::runtime_error::runtime_error;
    };

    // A client that takes no replies may hold up a thread for as long, and is dropped then.
    static deadline reply_until() { return std::chrono::seconds(5); }

    void answer_error(const delivery& call, reply_kind kind, std::int32_t code,
                      std::string_view text) {
        failed_.fetch_add(1, std::memory_order_relaxed);
        answer(call, {static_cast<std::uint32_t>(kind), code}, text);
    }

    // ---- calls ----

    void handle(const delivery& got) try {
        if (!got.content.is_request()) {
            cancel(got);
            return;
        }
        calls_.fetch_add(1, std::memory_order_relaxed);
        try {
            dispatch(got);
        } catch (const not_answered&) {
            throw;
        } catch (const failure& wrong) {
            answer_error(got, reply_kind::failure, wrong.code(), wrong.what());
        } catch (const error& wrong) {
            answer_error(got, reply_kind::system, wrong.error_number(), wrong.what());
        } catch (const std::exception& wrong) {
            answer_error(got, reply_kind::failure, failure::uncaught, wrong.what());
        } catch (...) {
            answer_error(got, reply_kind::failure, failure::uncaught,
                         "something that is no std::exception");
        }
    } catch (const std::exception&) {
        // The reply could not be sent: who called is gone, broken, or takes nothing; or
        // what came was neither a call nor a cancel; or there is no memory for it.
        box_.disconnect(got.from);
    }

    void dispatch(const delivery& got) {
        reader from(got.content.bytes());
        call_header header;
        std::memcpy(&header, from.take(sizeof header).data(), sizeof header);
        const auto found = methods_.find(header.method);
        if (found == methods_.end())
            ipcdoor::detail::throw_error(ENOSYS, "rpc: the server has no such method");
        const method& called = found->second;
        if (called.signature_hash != header.signature) {
            ipcdoor::detail::throw_error(
                EINVAL, "rpc: the server's '" + called.name + "' is " + called.signature);
        }
        if (deadline::at_ns(header.deadline_ns).is_past()) {
            expired_.fetch_add(1, std::memory_order_relaxed);
            ipcdoor::detail::throw_error(ETIMEDOUT,
                                         "rpc: the call's deadline passed before it was begun");
        }
        context about;
        about.deadline_ns_ = header.deadline_ns;
        // In this order: who leaves before the one is found out by the other.
        const running here(*this, {got.from, got.content.request_id()}, about);
        about.caller_ = box_.peer(got.from);
        called.run(*this, got, about, from);
    }

    using call_key = std::pair<sender_id, std::uint64_t>;

    // A call's place among those that can be cancelled.
    class running {
    public:
        running(server& owner, const call_key& key, context& about) : owner_(owner), key_(key) {
            const std::lock_guard lock(owner_.running_mutex_);
            owner_.running_[key_] = &about;
            if (owner_.stopped()) about.cancelled_.store(true, std::memory_order_relaxed);
        }
        ~running() {
            const std::lock_guard lock(owner_.running_mutex_);
            owner_.running_.erase(key_);
        }
        running(const running&) = delete;
        running& operator=(const running&) = delete;

    private:
        server& owner_;
        const call_key key_;
    };

    void cancel(const delivery& got) {
        const auto wanted = got.content.as<cancel_message>();
        const std::lock_guard lock(running_mutex_);
        const auto found = running_.find({got.from, wanted.id});
        if (found == running_.end()) return;  // it is done, or was never begun
        cancelled_.fetch_add(1, std::memory_order_relaxed);
        found->second->cancelled_.store(true, std::memory_order_release);
    }

    // Whoever leaves cancels what it has asked for.
    mailbox_options with_departures(mailbox_options options) {
        options.on_gone = [this, told = std::move(options.on_gone)](sender_id id,
                                                                    const error& why) {
            {
                const std::lock_guard lock(running_mutex_);
                for (auto at = running_.lower_bound({id, 0});
                     at != running_.end() && at->first.first == id; ++at)
                    at->second->cancelled_.store(true, std::memory_order_relaxed);
            }
            if (told) told(id, why);
        };
        return options;
    }

    std::unordered_map<std::uint64_t, method> methods_;
    std::mutex running_mutex_;
    std::map<call_key, context*> running_;  // running_mutex_
    std::atomic<std::uint64_t> calls_{0};
    std::atomic<std::uint64_t> failed_{0};
    std::atomic<std::uint64_t> expired_{0};
    std::atomic<std::uint64_t> cancelled_{0};
    std::atomic<bool> stopped_{false};
    mailbox box_;
};

// ---- client -----------------------------------------------------------------

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

#endif  // IPCDOOR_RPC_HPP
