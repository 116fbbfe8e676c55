// SPDX-License-Identifier: MIT
//
// What receives from many connections of one name in one place: lets senders in, waits for their
// descriptors, and says whose turn it is. mailbox.hpp and signal_box.hpp have what comes.
//
// One of the threads that wait sleeps at the descriptors, for all of them: it leads. The others
// wait until it tells them what it has found.
#ifndef IPCDOOR_DETAIL_RECEPTION_HPP
#define IPCDOOR_DETAIL_RECEPTION_HPP

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/owned_fd.hpp>

namespace ipcdoor::detail {

class reception {
public:
    reception(const reception&) = delete;
    reception& operator=(const reception&) = delete;

protected:
    // Never used again for another connection.
    using connection_id = std::uint64_t;

    // `what` begins the texts of errors.
    reception(const char* what, listener listening, std::size_t max_senders)
        : what_(what),
          max_senders_(max_senders),
          listener_(std::move(listening)),
          epoll_(descriptor(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
          wake_(descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
        watch(wake_.get(), EPOLLIN, wake_tag);
        watch(listener_.fd(), EPOLLIN, listener_tag);
    }
    virtual ~reception() = default;

    // ---- what a derived class says; the mutex is held ----

    virtual std::size_t senders_here() const = 0;
    // A connection whose descriptor it watch()es from now on.
    virtual void admit(endpoint accepted) = 0;
    // Its descriptor is readable.
    virtual void found_ready(connection_id id) = 0;
    // Of the most urgent thing that it has; -1 where it has nothing or is gone.
    virtual int next_priority(connection_id id) = 0;

    // ---- what it calls ----

    int readable_fd() const noexcept { return epoll_.get(); }

    // `take`, with the mutex, until it returns true; false at the deadline. Throws ECANCELED once
    // this is closed, and what check_owner() throws.
    template <class Take>
    bool take_until(std::uint64_t deadline_ns, Take take) {
        check_owner();
        std::unique_lock lock(mutex_);
        const hand_on next_one{changed_};
        for (bool looked = false;;) {
            if (closed_) throw_error(ECANCELED, what_ + ": it was closed");
            // Those who have something are found out by looking, also while there are others.
            if (++takes_since_look_ > looked_at && !leading_) lead(lock, 0);
            if (take(lock)) return true;
            if (!ready_.empty()) continue;  // came while the mutex was given up
            const bool past = deadline::at_ns(deadline_ns).is_past();
            if (past && looked) return false;
            if (leading_) {
                if (past || !wait_until(changed_, lock, deadline_ns)) looked = true;
                continue;
            }
            lead(lock, deadline_ns);
            looked = true;
        }
    }

    // Throws EPERM in a forked child, whose epoll instance is the parent's: what it took there, or
    // no longer watched, would be the parent's loss.
    void check_owner() const {
        if (!maker_.is_mine()) {
            throw_error(EPERM, what_ + ": it belongs to the parent process: make one in this one");
        }
    }

    // Sends everybody away, now and later.
    void close_reception() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        wake_leader();
        changed_.notify_all();
    }

    // The mutex is held for all that follows.

    // Makes the descriptor readable once more, also for the thread that leads.
    void wake_leader() noexcept {
        const std::uint64_t one = 1;
        static_cast<void>(::write(wake_.get(), &one, sizeof one));
    }

    connection_id new_id() noexcept { return next_id_++; }
    void watch(int fd, std::uint32_t events, std::uint64_t tag) {
        epoll_event wanted{};
        wanted.events = events;
        wanted.data.u64 = tag;
        descriptor(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &wanted), "epoll_ctl");
    }
    void forget(int fd) noexcept { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }
    // A sender has left: there is a place for another.
    void let_in_again() {
        if (full_) watch_listener_again();
    }

    // Removes the one whose turn it is from those that are ready, of which there are some: three
    // times the most urgent of the first 32, then who has waited longest, or an urgent flood would
    // starve it.
    connection_id choose() {
        const std::size_t chosen = ++taken_ % 4 == 0 ? 0 : most_urgent();
        const connection_id id = ready_[chosen];
        ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(chosen));
        return id;
    }

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<connection_id> ready_;  // mutex_
    bool leading_ = false;             // mutex_: a thread waits for descriptors
    bool closed_ = false;              // mutex_
    int last_refusal_ = 0;             // mutex_: errno of the last time that nobody could be let in

private:
    static constexpr std::uint64_t wake_tag = 0;
    static constexpr std::uint64_t listener_tag = 1;
    static constexpr connection_id first_id = 2;
    static constexpr std::size_t looked_at = 32;
    static constexpr std::uint64_t retry_after_ns = 100'000'000;

    int descriptor(int fd, const char* call) const {
        if (fd < 0) throw_error(errno, what_ + ": " + call + ": " + std::strerror(errno));
        return fd;
    }

    // Waits for descriptors, for all.
    void lead(std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns) {
        if (full_ && retry_ns_ != 0 && deadline::at_ns(retry_ns_).is_past()) watch_listener_again();
        leading_ = true;
        takes_since_look_ = 0;
        const std::uint64_t until_ns =
            full_ && retry_ns_ != 0 ? std::min(deadline_ns, retry_ns_) : deadline_ns;
        lock.unlock();
        epoll_event events[64];
        const int ready = ::epoll_wait(epoll_.get(), events, 64, epoll_timeout_ms(until_ns));
        const int error_number = errno;
        lock.lock();
        leading_ = false;
        changed_.notify_one();
        if (ready < 0 && error_number != EINTR)
            throw_error(error_number, what_ + ": epoll_wait: " + std::strerror(error_number));
        // Edges come once: all of them are noted before anything that may fail.
        bool newcomers = false;
        std::uint64_t woken = 0;
        for (int i = 0; i < ready; ++i) {
            const std::uint64_t tag = events[i].data.u64;
            if (tag == listener_tag)
                newcomers = true;
            else if (tag != wake_tag)
                found_ready(tag);
            else if (!closed_)
                static_cast<void>(::read(wake_.get(), &woken, sizeof woken));
        }
        if (newcomers) admit_newcomers();
    }

    void admit_newcomers() {
        try {
            // Others wait for the mutex, and who is refused may come again and again.
            for (int i = 0; i < 64; ++i) {
                if (senders_here() >= max_senders_) break;
                std::optional<endpoint> accepted = listener_.try_accept();
                if (!accepted) return;
                admit(std::move(*accepted));
            }
            if (senders_here() < max_senders_) return;
            retry_ns_ = 0;
        } catch (const error& wrong) {
            // No descriptors or no memory left, by whoever's fault: a while later there
            // may be. Those that are here are served meanwhile.
            retry_ns_ = ipcdoor_deadline_ns(retry_after_ns);
            last_refusal_ = wrong.error_number();
        }
        // The listener is looked at again when somebody leaves.
        forget(listener_.fd());
        full_ = true;
    }

    void watch_listener_again() {
        full_ = false;
        retry_ns_ = 0;
        watch(listener_.fd(), EPOLLIN, listener_tag);
    }

    std::size_t most_urgent() {
        std::size_t chosen = 0;
        int urgent = -1;
        const std::size_t some = std::min(ready_.size(), looked_at);
        if (some == 1) return 0;
        for (std::size_t i = 0; i < some; ++i) {
            const int priority = next_priority(ready_[i]);
            if (priority <= urgent) continue;
            urgent = priority;
            chosen = i;
        }
        return chosen;
    }

    const fork_mark maker_;
    const std::string what_;
    const std::size_t max_senders_;
    listener listener_;
    const owned_fd epoll_;
    const owned_fd wake_;

    connection_id next_id_ = first_id;  // mutex_
    bool full_ = false;                 // mutex_: the listener is not looked at
    std::uint64_t retry_ns_ = 0;        // mutex_: when again; 0: when one leaves
    unsigned taken_ = 0;                // mutex_
    unsigned takes_since_look_ = 0;     // mutex_
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_RECEPTION_HPP
