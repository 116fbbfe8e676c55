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
// Only destroying it must be alone, after close() has sent the receivers away.
//
// Event loops. fd() is readable while there may be something: try_receive() until it
// returns false.
#ifndef IPCDOOR_MAILBOX_HPP
#define IPCDOOR_MAILBOX_HPP

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/owned_fd.hpp>

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

class mailbox {
public:
    // Listens at once. Throws what door::listen() throws.
    mailbox(door& at, const std::string& name, mailbox_options options = {})
        : options_(std::move(options)),
          listener_(at.listen(name, {.slot_bytes = channel_slot_bytes(options_.record_bytes),
                                     .source = options_.source,
                                     .mode = options_.mode,
                                     .backlog = options_.backlog})),
          epoll_(descriptor(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
          wake_(descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
        watch(wake_.get(), EPOLLIN, wake_tag);
        watch(listener_.fd(), EPOLLIN, listener_tag);
    }
    mailbox(const mailbox&) = delete;
    mailbox& operator=(const mailbox&) = delete;

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
    int fd() const noexcept { return epoll_.get(); }

    // Makes fd() readable once more, for an event loop that leaves something for later.
    void remind() {
        const std::lock_guard lock(mutex_);
        wake_leader();
    }

    // Sends everybody away who receives, now and later. From any thread.
    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        wake_leader();
        changed_.notify_all();
    }

private:
    static constexpr std::uint64_t wake_tag = 0;
    static constexpr std::uint64_t listener_tag = 1;
    static constexpr sender_id first_sender = 2;
    static constexpr std::size_t looked_at = 32;

    struct place {
        std::shared_ptr<channel> end;
        bool queued = false;   // in ready_
        bool serving = false;  // a thread is receiving from it
        bool again = false;    // and it has become ready meanwhile
    };

    static int descriptor(int fd, const char* what) {
        if (fd < 0)
            detail::throw_error(errno,
                                std::string("mailbox: ") + what + ": " + std::strerror(errno));
        return fd;
    }

    void watch(int fd, std::uint32_t events, std::uint64_t tag) {
        epoll_event wanted{};
        wanted.events = events;
        wanted.data.u64 = tag;
        descriptor(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &wanted), "epoll_ctl");
    }

    // ---- receiving ----

    bool next(delivery& into, std::uint64_t deadline_ns) {
        std::unique_lock lock(mutex_);
        const detail::hand_on next_one{changed_};
        for (bool looked = false;;) {
            if (closed_) detail::throw_error(ECANCELED, "mailbox: it was closed");
            // Those who have something are found out by looking, also while there are others.
            if (++takes_since_look_ > looked_at && !leading_) lead(lock, 0);
            if (take(into, lock)) {
                // Somebody else may go on with what is left, also who waits for descriptors.
                if (!ready_.empty()) {
                    changed_.notify_one();
                    if (leading_) wake_leader();
                }
                return true;
            }
            const bool past = deadline::at_ns(deadline_ns).is_past();
            if (past && looked) return false;
            if (leading_) {
                if (past || !detail::wait_until(changed_, lock, deadline_ns)) looked = true;
                continue;
            }
            lead(lock, deadline_ns);
            looked = true;
        }
    }

    // Waits for descriptors, for all.
    void lead(std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns) {
        if (full_ && retry_ns_ != 0 && ipcdoor_now_ns() >= retry_ns_) watch_listener_again();
        leading_ = true;
        takes_since_look_ = 0;
        lock.unlock();
        epoll_event events[64];
        const int ready = ::epoll_wait(
            epoll_.get(), events, 64,
            detail::epoll_timeout_ms(full_ && retry_ns_ != 0 ? std::min(deadline_ns, retry_ns_)
                                                             : deadline_ns));
        const int error_number = errno;
        lock.lock();
        leading_ = false;
        changed_.notify_one();
        if (ready < 0 && error_number != EINTR)
            detail::throw_error(error_number,
                                std::string("mailbox: epoll_wait: ") + std::strerror(error_number));
        // Edges come once: all of them are noted before anything that may fail.
        bool newcomers = false;
        std::uint64_t woken = 0;
        for (int i = 0; i < ready; ++i) {
            const std::uint64_t tag = events[i].data.u64;
            if (tag == listener_tag)
                newcomers = true;
            else if (tag != wake_tag)
                enqueue(tag);
            else if (!closed_)
                static_cast<void>(::read(wake_.get(), &woken, sizeof woken));
        }
        if (newcomers) admit();
    }

    void wake_leader() noexcept {
        const std::uint64_t one = 1;
        static_cast<void>(::write(wake_.get(), &one, sizeof one));
    }

    void enqueue(sender_id id) {
        const auto found = senders_.find(id);
        if (found == senders_.end()) return;
        if (found->second.serving)
            found->second.again = true;
        else if (!std::exchange(found->second.queued, true))
            ready_.push_back(id);
    }

    void admit() {
        try {
            while (senders_.size() < options_.max_senders) {
                std::optional<endpoint> accepted = listener_.try_accept();
                if (!accepted) return;
                admit(std::move(*accepted));
            }
            retry_ns_ = 0;
        } catch (const error& wrong) {
            // No descriptors or no memory left, by whoever's fault: a while later there
            // may be. Those that are here are served meanwhile.
            retry_ns_ = ipcdoor_deadline_ns(100'000'000);
            last_refusal_ = wrong.error_number();
        }
        // The listener is looked at again when somebody leaves.
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.fd(), nullptr);
        full_ = true;
    }

    void admit(endpoint accepted) {
        const sender_id id = next_id_++;
        auto end = std::make_shared<channel>(std::move(accepted), options_.channel);
        // Edges: a thread that waits for the others is not to be woken by this one
        // as long as another serves it.
        watch(end->fd(), EPOLLIN | EPOLLET, id);
        senders_.emplace(id, place{std::move(end)});
        ++stats_.connected;
        enqueue(id);
    }

    void watch_listener_again() {
        full_ = false;
        retry_ns_ = 0;
        watch(listener_.fd(), EPOLLIN, listener_tag);
    }

    // Its channel, to be destroyed with nothing locked.
    std::shared_ptr<channel> drop(sender_id id) {
        const auto found = senders_.find(id);
        if (found == senders_.end()) return nullptr;
        std::shared_ptr<channel> end = std::move(found->second.end);
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, end->fd(), nullptr);
        senders_.erase(found);
        ++stats_.gone;
        if (full_) watch_listener_again();
        return end;
    }

    // Takes a message of one of those that have some; the most urgent of the first. The
    // mutex is not held while a channel is received from: what follows a reply is done
    // there, and may use this.
    bool take(delivery& into, std::unique_lock<std::mutex>& lock) {
        while (!ready_.empty()) {
            // Now and then who has waited longest, or an urgent flood would starve it.
            const std::size_t chosen = ++taken_ % 4 == 0 ? 0 : most_urgent();
            const sender_id id = ready_[chosen];
            ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(chosen));
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

    std::size_t most_urgent() {
        std::size_t chosen = 0;
        int urgent = -1;
        const std::size_t some = std::min(ready_.size(), looked_at);
        if (some == 1) return 0;
        for (std::size_t i = 0; i < some; ++i) {
            const auto found = senders_.find(ready_[i]);
            if (found == senders_.end()) continue;
            const int priority = found->second.end->next_priority();
            if (priority <= urgent) continue;
            urgent = priority;
            chosen = i;
        }
        return chosen;
    }

    const mailbox_options options_;
    listener listener_;
    const owned_fd epoll_;
    const owned_fd wake_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::unordered_map<sender_id, place> senders_;  // mutex_
    std::deque<sender_id> ready_;                   // mutex_
    sender_id next_id_ = first_sender;              // mutex_
    bool leading_ = false;                          // mutex_: a thread waits for descriptors
    bool full_ = false;                             // mutex_: the listener is not looked at
    std::uint64_t retry_ns_ = 0;                    // mutex_: when again; 0: when one leaves
    int last_refusal_ = 0;                          // mutex_
    unsigned taken_ = 0;                            // mutex_
    unsigned takes_since_look_ = 0;                 // mutex_
    bool closed_ = false;                           // mutex_
    mailbox_stats stats_;                           // mutex_
};

}  // namespace ipcdoor

#endif  // IPCDOOR_MAILBOX_HPP
