// SPDX-License-Identifier: MIT
//
// The server of remote calls: methods by name, on a mailbox. rpc.hpp has the whole story of
// errors, deadlines and threads.
#ifndef IPCDOOR_RPC_SERVER_HPP
#define IPCDOOR_RPC_SERVER_HPP

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
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
#include <ipcdoor/door.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/rpc_codec.hpp>
#include <ipcdoor/rpc_wire.hpp>

namespace ipcdoor::rpc {

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

}  // namespace ipcdoor::rpc

#endif  // IPCDOOR_RPC_SERVER_HPP
