// SPDX-License-Identifier: MIT
//
// The sources of a wait_set: what state each is in, whose descriptors are watched, and which
// are to be tried. It tries none itself.
//
// Not thread-safe: the set's mutex is held.
#ifndef IPCDOOR_DETAIL_WAIT_REGISTRY_HPP
#define IPCDOOR_DETAIL_WAIT_REGISTRY_HPP

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/detail/any_source.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/wait_source.hpp>

namespace ipcdoor::detail {

class wait_registry {
public:
    // idle: the last attempt found nothing, and the descriptor is watched.
    // ready: it is to be tried.
    // claimed: a thread is at it.
    // resting: as idle, but the descriptor is readable nevertheless.
    // aside: nobody looks at it until it is resumed.
    enum class state { idle, ready, claimed, resting, aside };

    struct source {
        std::uint64_t id = 0;
        int fd = -1;
        bool once = false;
        std::unique_ptr<any_source> what;
        // All of these: the set's mutex.
        state now = state::ready;
        bool queued = false;      // in ready()
        bool kept = false;        // taken, and not reported
        bool disturbed = false;   // while claimed: its descriptor may have told another one
        bool removed = false;     // taken out of the set
        bool unreported = false;  // failed, and nobody was told
        unsigned in_vain = 0;     // attempts
        std::uint64_t call = 0;   // that reported it last
        std::uint64_t rest_ns = 0;
        std::thread::id claimant;
        std::optional<error> failure;
    };
    using source_ptr = std::shared_ptr<source>;

    wait_registry()
        : epoll_(descriptor(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
          rest_timer_(descriptor(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                                 "timerfd_create")) {
        watch_always(rest_timer_.get(), rest_tag);
    }
    wait_registry(const wait_registry&) = delete;
    wait_registry& operator=(const wait_registry&) = delete;

    static int descriptor(int fd, const char* what) {
        if (fd < 0)
            throw_error(errno, std::string("wait_set: ") + what + ": " + std::strerror(errno));
        return fd;
    }

    // Readable while note() has something to do.
    int fd() const noexcept { return epoll_.get(); }

    // Those to be tried or reported, in turn.
    std::deque<source_ptr>& ready() noexcept { return ready_; }

    // ---- descriptors ----

    // The set's own descriptor, by which it wakes who waits; note() is not for its tag.
    static constexpr std::uint64_t waker_tag = 0;
    void watch_waker(int fd) { watch_always(fd, waker_tag); }

    void watch(const source_ptr& added, std::uint32_t events) {
        const auto found = watched_.find(added->fd);
        if (found == watched_.end()) {
            watched made;
            made.serial = next_serial_++;
            made.events = events;
            made.sources.push_back(added);
            const auto place = watched_.emplace(added->fd, std::move(made)).first;
            if (const int wrong = control(EPOLL_CTL_ADD, added->fd, events | EPOLLONESHOT,
                                          tag_of(added->fd, place->second))) {
                watched_.erase(place);
                throw_watch(added->fd, wrong);
            }
            place->second.armed = true;
            return;
        }
        watched& at = found->second;
        at.sources.push_back(added);
        at.events |= events;
        at.armed = false;
        if (const int wrong = arm(added->fd, at)) {
            at.sources.pop_back();
            throw_watch(added->fd, wrong);
        }
    }

    void unwatch(const source& gone) {
        const auto found = watched_.find(gone.fd);
        if (found == watched_.end()) return;
        auto& all = found->second.sources;
        all.erase(std::remove_if(all.begin(), all.end(),
                                 [&](const source_ptr& one) { return one.get() == &gone; }),
                  all.end());
        if (!all.empty()) return;
        static_cast<void>(control(EPOLL_CTL_DEL, gone.fd, 0, 0));
        watched_.erase(found);
    }

    // What epoll_wait() has returned.
    void note(std::uint64_t tag) {
        if (tag == rest_tag) {
            std::uint64_t count = 0;
            static_cast<void>(::read(rest_timer_.get(), &count, sizeof count));
            end_rests();
            return;
        }
        const auto found = watched_.find(static_cast<int>(tag & 0xffffffff));
        if (found == watched_.end() || found->second.serial != tag >> 32) return;
        found->second.armed = false;
        for (const source_ptr& one : found->second.sources)
            if (one->now == state::idle) make_ready(one);
    }

    // ---- what becomes of a source ----

    void make_ready(const source_ptr& one) {
        enqueue(one);
        one->now = state::ready;
    }

    void make_failed(const source_ptr& one, const error& why, bool reported) {
        one->failure = why;
        one->now = state::aside;
        one->unreported = !reported;
        if (one->unreported) enqueue(one);
    }

    // An attempt has found nothing.
    void make_idle(const source_ptr& one) {
        if (std::exchange(one->disturbed, false)) {
            make_ready(one);
            return;
        }
        const auto found = watched_.find(one->fd);
        if (found == watched_.end()) return;
        if (++one->in_vain >= patience) {
            one->in_vain = patience;
            try {
                if (events_of(one->fd, static_cast<short>(found->second.events)) != 0) {
                    rest(one);
                    return;
                }
            } catch (const error& wrong) {
                make_failed(one, wrong, false);
                return;
            }
            one->in_vain = 0;
            one->rest_ns = 0;
        }
        one->now = state::idle;
        if (const int wrong = arm(one->fd, found->second)) {
            make_failed(one,
                        error(wrong, "wait_set: descriptor " + std::to_string(one->fd) +
                                         " cannot be watched any more: " + std::strerror(wrong)),
                        false);
        }
    }

    // An attempt has succeeded. It may have changed what the descriptor tells others of.
    void disturb_others_of(const source& one) {
        const auto found = watched_.find(one.fd);
        if (found == watched_.end() || found->second.sources.size() == 1) return;
        for (const source_ptr& other : found->second.sources) {
            if (other.get() == &one) continue;
            if (other->now == state::idle || other->now == state::resting) make_ready(other);
            if (other->now == state::claimed) other->disturbed = true;
        }
    }

    // Nobody uses it any more.
    void forget(const source_ptr& gone) {
        ready_.erase(std::remove(ready_.begin(), ready_.end(), gone), ready_.end());
        std::erase_if(resting_, [&](const auto& rest) { return rest.second == gone; });
    }

private:
    static constexpr std::uint64_t rest_tag = 1;
    static constexpr std::uint32_t first_serial = 1;
    static constexpr unsigned patience = 8;  // attempts in vain before a look at the level
    static constexpr std::uint64_t least_rest_ns = 1'000'000;
    static constexpr std::uint64_t most_rest_ns = 16'000'000;

    // A descriptor, and the sources that it is of.
    struct watched {
        std::uint32_t serial = 0;
        std::uint32_t events = 0;
        bool armed = false;
        std::vector<source_ptr> sources;
    };

    int control(int operation, int fd, std::uint32_t events, std::uint64_t tag) noexcept {
        epoll_event wanted{};
        wanted.events = events;
        wanted.data.u64 = tag;
        return ::epoll_ctl(epoll_.get(), operation, fd, &wanted) == 0 ? 0 : errno;
    }
    [[noreturn]] static void throw_watch(int fd, int error_number) {
        const char* const remedy =
            error_number == EPERM   ? "; a regular file cannot be waited for"
            : error_number == ELOOP ? "; too many epolls would watch each other in a row"
            : error_number == EBADF ? "; remove a source before you close what it is of"
                                    : "";
        throw_error(error_number, "wait_set: watching descriptor " + std::to_string(fd) + ": " +
                                      std::strerror(error_number) + remedy);
    }
    static std::uint64_t tag_of(int fd, const watched& at) noexcept {
        return std::uint64_t{at.serial} << 32 | static_cast<std::uint32_t>(fd);
    }

    // 0 or an errno value.
    int arm(int fd, watched& at) noexcept {
        if (at.armed) return 0;
        int wrong = control(EPOLL_CTL_MOD, fd, at.events | EPOLLONESHOT, tag_of(fd, at));
        // It was closed, and is something else now.
        if (wrong == ENOENT)
            wrong = control(EPOLL_CTL_ADD, fd, at.events | EPOLLONESHOT, tag_of(fd, at));
        at.armed = wrong == 0;
        return wrong;
    }

    void watch_always(int fd, std::uint64_t tag) {
        if (const int wrong = control(EPOLL_CTL_ADD, fd, EPOLLIN, tag)) throw_watch(fd, wrong);
    }

    void enqueue(const source_ptr& one) {
        if (!std::exchange(one->queued, true)) ready_.push_back(one);
    }

    void rest(const source_ptr& one) {
        one->now = state::resting;
        one->rest_ns = std::clamp(2 * one->rest_ns, least_rest_ns, most_rest_ns);
        resting_.emplace(ipcdoor_deadline_ns(one->rest_ns), one);
        set_rest_timer();
    }

    void set_rest_timer() noexcept {
        itimerspec at{};
        if (!resting_.empty()) at.it_value = to_timespec(resting_.begin()->first);
        static_cast<void>(::timerfd_settime(rest_timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr));
    }

    void end_rests() {
        const std::uint64_t now = ipcdoor_now_ns();
        while (!resting_.empty() && resting_.begin()->first <= now) {
            const source_ptr one = std::move(resting_.begin()->second);
            resting_.erase(resting_.begin());
            if (one->now == state::resting && !one->removed) make_ready(one);
        }
        set_rest_timer();
    }

    const owned_fd epoll_;
    const owned_fd rest_timer_;
    std::unordered_map<int, watched> watched_;  // by descriptor
    std::deque<source_ptr> ready_;
    std::multimap<std::uint64_t, source_ptr> resting_;  // until when
    std::uint32_t next_serial_ = first_serial;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_WAIT_REGISTRY_HPP
