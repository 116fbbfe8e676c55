// SPDX-License-Identifier: MIT
//
// mailbox: a name to which any number of processes send messages and calls, and one
// place to receive them all. Each sender has a connection of its own, so a sender that
// is broken, hostile or slow harms itself alone: a channel that breaks the protocol is
// dropped and counted, and those that have something are served in turn: three times the
// most urgent message of the first 32 of them, then who has waited longest.
//
//     ipcdoor::mailbox box(door, "log");
//     for (;;) {
//         ipcdoor::delivery got = box.receive();
//         write(box.peer(got.from).uid, got.content.text());
//     }
//
// Senders use a channel: ipcdoor::channel to(door.connect("log")).
//
// Threads. Any number may use a mailbox at once; several that receive share the work.
// Only destroying it must be alone, after close() has sent the receivers away. A fork()ed
// child may only destroy it (EPERM).
//
// Event loops. fd() is readable while there may be something: try_receive() until it
// returns false.
#ifndef IPCDOOR_MAILBOX_HPP
#define IPCDOOR_MAILBOX_HPP

#include <sys/epoll.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/reception.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/message.hpp>

namespace ipcdoor {

// A sender of a mailbox, never used again for another one.
using sender_id = std::uint64_t;

struct mailbox_options {
    // Of each connection. Messages of up to this size lie in one record.
    std::uint64_t record_bytes = 4096;
    std::uint32_t mode = 0600;  // connecting needs the write bit
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint32_t backlog = 128;
    // Further ones wait in the backlog until somebody leaves.
    std::size_t max_senders = 4096;
    channel_options channel{};
    // Told of each sender that left, with the reason; called by a thread in receive() or
    // disconnect(). It must not throw, nor receive there.
    std::function<void(sender_id, const error&)> on_gone{};
};

struct delivery {
    message content;
    sender_id from = 0;
};

struct mailbox_stats {
    std::uint64_t connected = 0;  // senders that came
    std::uint64_t gone = 0;       // of them, left or died
    std::uint64_t broken = 0;     // of these, dropped because they broke the protocol
    int last_refusal = 0;         // errno of the last time that nobody could be let in
};

class mailbox : private detail::reception {
public:
    // Listens at once. Throws what door::listen() throws.
    mailbox(door& at, const std::string& name, mailbox_options options = {})
        : reception("mailbox",
                    at.listen(name, {.slot_bytes = channel_slot_bytes(options.record_bytes),
                                     .source = options.source,
                                     .mode = options.mode,
                                     .backlog = options.backlog}),
                    options.max_senders),
          options_(std::move(options)) {}

    // The next message or request of any sender; blocks while there is none. Throws
    // ETIMEDOUT, and ECANCELED once it is closed.
    delivery receive(deadline until = {}) {
        delivery got;
        receive(got, until);
        return got;
    }
    // The same, reusing the memory of `into`.
    void receive(delivery& into, deadline until = {}) {
        if (!next(into, until.ns()))
            detail::throw_error(ETIMEDOUT,
                                "mailbox: the deadline passed while waiting for a message");
    }
    // False where there is none. Never blocks.
    [[nodiscard]] bool try_receive(delivery& into) { return next(into, 0); }

    // Answers a request. Throws what channel::reply() throws, and EPIPE where the sender
    // has left.
    void reply(const delivery& request, const bytes_view& bytes, deadline until = {}) {
        sender(request.from)->reply(request.content, bytes, until);
    }
    void send(sender_id to, const bytes_view& bytes, const send_options& options = {},
              deadline until = {}) {
        sender(to)->send(bytes, options, until);
    }

    // The channel to a sender, for loans, and for calls whose replies come by then() or
    // co_await in receive(). Who waits there for a message or a reply would take the
    // sender's messages away from the mailbox. EPIPE where it has left.
    std::shared_ptr<channel> sender(sender_id id) {
        const std::lock_guard lock(mutex_);
        const auto found = senders_.find(id);
        if (found == senders_.end())
            detail::throw_error(EPIPE, "mailbox: sender " + std::to_string(id) + " has left");
        return found->second.end;
    }
    // Who a sender is, as the kernel captured it.
    struct ipcdoor_peer_info peer(sender_id id) {
        return sender(id)->peer();
    }

    // Ends a connection; on_gone is told ECANCELED.
    void disconnect(sender_id id) {
        check_owner();
        std::shared_ptr<channel> gone;
        {
            const std::lock_guard lock(mutex_);
            gone = drop(id);
        }
        if (gone && options_.on_gone)
            options_.on_gone(id, error(ECANCELED, "mailbox: it was disconnected here"));
    }

    std::size_t senders() const {
        const std::lock_guard lock(mutex_);
        return senders_.size();
    }
    mailbox_stats stats() const {
        const std::lock_guard lock(mutex_);
        mailbox_stats now = stats_;
        now.last_refusal = last_refusal_;
        return now;
    }

    // Readable while there may be something to receive. Stays the mailbox's.
    int fd() const noexcept { return readable_fd(); }

    // Makes fd() readable once more, for an event loop that leaves something for later.
    void remind() {
        const std::lock_guard lock(mutex_);
        wake_leader();
    }

    // Sends everybody away who receives, now and later. From any thread.
    void close() { close_reception(); }

private:
    struct place {
        std::shared_ptr<channel> end;
        bool queued = false;   // in ready_
        bool serving = false;  // a thread is receiving from it
        bool again = false;    // and it has become ready meanwhile
    };

    bool next(delivery& into, std::uint64_t deadline_ns) {
        return take_until(deadline_ns, [&](std::unique_lock<std::mutex>& lock) {
            if (!take(into, lock)) return false;
            // Somebody else may go on with what is left, also who waits for descriptors.
            if (!ready_.empty()) {
                changed_.notify_one();
                if (leading_) wake_leader();
            }
            return true;
        });
    }

    std::size_t senders_here() const override { return senders_.size(); }
    void found_ready(sender_id id) override { enqueue(id); }
    int next_priority(sender_id id) override {
        const auto found = senders_.find(id);
        return found == senders_.end() ? -1 : found->second.end->next_priority();
    }

    void enqueue(sender_id id) {
        const auto found = senders_.find(id);
        if (found == senders_.end()) return;
        if (found->second.serving)
            found->second.again = true;
        else if (!std::exchange(found->second.queued, true))
            ready_.push_back(id);
    }

    void admit(endpoint accepted) override {
        const sender_id id = new_id();
        auto end = std::make_shared<channel>(std::move(accepted), options_.channel);
        // Edges: a thread that waits for the others is not to be woken by this one
        // as long as another serves it.
        watch(end->fd(), EPOLLIN | EPOLLET, id);
        senders_.emplace(id, place{std::move(end)});
        ++stats_.connected;
        enqueue(id);
    }

    // Its channel, to be destroyed with nothing locked.
    std::shared_ptr<channel> drop(sender_id id) {
        const auto found = senders_.find(id);
        if (found == senders_.end()) return nullptr;
        std::shared_ptr<channel> end = std::move(found->second.end);
        forget(end->fd());
        senders_.erase(found);
        ++stats_.gone;
        let_in_again();
        return end;
    }

    // Takes a message of one of those that have some; the most urgent of the first. The
    // mutex is not held while a channel is received from: what follows a reply is done
    // there, and may use this.
    bool take(delivery& into, std::unique_lock<std::mutex>& lock) {
        while (!ready_.empty()) {
            const sender_id id = choose();
            const auto found = senders_.find(id);
            if (found == senders_.end()) continue;
            found->second.queued = false;
            found->second.serving = true;
            std::shared_ptr<channel> end = found->second.end;
            if (!ready_.empty()) changed_.notify_one();
            lock.unlock();
            std::optional<error> trouble;
            bool received = false;
            try {
                received = end->try_receive(into.content);
            } catch (const error& wrong) {
                trouble = wrong;
            } catch (const std::exception& wrong) {
                trouble.emplace(ENOMEM, wrong.what());
            }
            lock.lock();
            if (trouble) {
                if (!trouble->is_peer_death()) ++stats_.broken;
                end = drop(id);
                lock.unlock();
                const bool was_here = end != nullptr;
                end.reset();
                if (was_here && options_.on_gone) options_.on_gone(id, *trouble);
                lock.lock();
                continue;
            }
            if (const auto still = senders_.find(id); still != senders_.end()) {
                still->second.serving = false;
                if (std::exchange(still->second.again, false) || received) enqueue(id);
            }
            if (!received) continue;
            into.from = id;
            return true;
        }
        return false;
    }

    const mailbox_options options_;
    std::unordered_map<sender_id, place> senders_;  // mutex_
    mailbox_stats stats_;                           // mutex_
};

}  // namespace ipcdoor

#endif  // IPCDOOR_MAILBOX_HPP
