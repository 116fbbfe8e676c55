// SPDX-License-Identifier: MIT
//
// The sources of a wait_set: what state each is in, whose descriptors are watched, which are
// to be tried, and which one probably is next. It tries none itself.
//
// Not thread-safe: the set's mutex is held.
#ifndef IPCDOOR_DETAIL_WAIT_REGISTRY_HPP
#define IPCDOOR_DETAIL_WAIT_REGISTRY_HPP

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
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
    struct watched;
    static constexpr unsigned most_doubts = 63;

public:
    // idle: the descriptor tells when it is to be tried, and is watched.
    // ready: it is to be tried.
    // claimed: a thread is at it.
    // resting: as idle, but the descriptor is readable nevertheless.
    // aside: nobody looks at it until it is resumed.
    enum class state { idle, ready, claimed, resting, aside };

    // How often something was wrong of late, and for how many times that it would have been
    // right it is not relied on.
    struct doubt {
        unsigned times = 0;
        unsigned pause = 0;

        void wrong() noexcept {
            times = std::min(2 * times + 1, most_doubts);
            pause = times;
        }
        void right() noexcept {
            if (pause != 0) --pause;
        }
    };

    // Why a source is tried although its descriptor has told of nothing, and would.
    enum class reliance {
        none,
        guess,  // it has followed before on the one that was reported last
        turn,   // it was reported in a known order, and this is its turn again
    };

    struct source {
        std::uint64_t id = 0;
        int fd = -1;
        bool once = false;
        std::unique_ptr<any_source> what;
        // All of these: the set's mutex.
        watched* at = nullptr;  // its descriptor, until it is removed
        state now = state::ready;
        bool queued = false;      // in ready()
        bool kept = false;        // taken, and not reported
        bool disturbed = false;   // while claimed: its descriptor may have told another one
        bool removed = false;     // taken out of the set
        bool unreported = false;  // failed, and nobody was told
        reliance why = reliance::none;
        bool told = true;            // ready, and not only because it was so before
        unsigned in_vain = 0;        // attempts
        std::uint64_t follower = 0;  // the source that was reported next, when this was last
        doubt surprises;             // that it was another one
        std::uint64_t call = 0;      // that reported it last
        std::uint64_t report = 0;    // the last one of it
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

    // How many events there can be at once.
    std::size_t events() const noexcept { return watched_.size() + 2; }

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
            if (const int wrong =
                    control(EPOLL_CTL_ADD, added->fd, events, tag_of(added->fd, place->second))) {
                watched_.erase(place);
                throw_watch(added->fd, wrong);
            }
            added->at = &place->second;
            return;
        }
        watched& at = found->second;
        at.sources.push_back(added);
        at.events |= events;
        at.now = watching::stopped;
        if (const int wrong = watch_again(added->fd, at)) {
            at.sources.pop_back();
            throw_watch(added->fd, wrong);
        }
        added->at = &at;
    }

    void unwatch(source& gone) {
        if (last_.get() == &gone) last_.reset();
        if (gone.at == nullptr) return;
        watched& at = *std::exchange(gone.at, nullptr);
        at.sources.erase(std::remove_if(at.sources.begin(), at.sources.end(),
                                        [&](const source_ptr& one) { return one.get() == &gone; }),
                         at.sources.end());
        if (!at.sources.empty()) return;
        if (control(EPOLL_CTL_DEL, gone.fd, 0, 0) != 0) lost_.insert(tag_of(gone.fd, at));
        watched_.erase(gone.fd);
    }

    // What epoll_wait() has returned. False: it is of a descriptor that was closed while it
    // was watched, and is open elsewhere. The kernel tells of it for ever. `sleeping`: whoever
    // asked would have slept, and had better not be woken by what others are at.
    bool note(std::uint64_t tag, bool sleeping) {
        if (tag == rest_tag) {
            std::uint64_t count = 0;
            static_cast<void>(::read(rest_timer_.get(), &count, sizeof count));
            end_rests();
            return true;
        }
        const int fd = static_cast<int>(tag & 0xffffffff);
        const auto found = watched_.find(fd);
        if (found == watched_.end() || found->second.serial != tag >> 32)
            return lost_.count(tag) == 0;
        watched& at = found->second;
        if (at.now == watching::once) at.now = watching::stopped;
        bool wanted = false;
        bool soon_wanted = false;
        for (const source_ptr& one : at.sources) {
            if (one->now == state::idle) {
                make_ready(one);
                wanted = true;
            } else if (one->now == state::claimed) {
                one->disturbed = true;
                soon_wanted = true;
            } else if (one->now == state::ready && one->why != reliance::turn) {
                soon_wanted = true;
            }
        }
        if (wanted) {
            at.unwanted = 0;
            return true;
        }
        if (at.now != watching::level ||
            (soon_wanted && (!sleeping || ++at.unwanted < most_unwanted)))
            return true;
        // The kernel tells of it once more, and then no longer.
        if (control(EPOLL_CTL_MOD, fd, at.events | EPOLLONESHOT, tag) != 0)
            return lost_.insert(tag).second;
        at.now = watching::once;
        return true;
    }

    // Whether the next of those that are ready has had its turn, and others that have had
    // theirs may be ready again: the kernel is to be asked first.
    bool turn_is_over() const noexcept {
        return left_ && !ready_.empty() && ready_.front()->report > reports_at_look_;
    }
    void begin_look() noexcept {
        left_ = false;
        reports_at_look_ = reports_;
    }

    // Puts those that have become ready, behind the first so many, into turn: those whose last
    // report is longest ago come first, also before the others that are ready.
    void order_ready(std::size_t known) {
        if (ready_.size() == known) return;
        const std::uint64_t first = known == 0 ? 0 : ready_.front()->report;
        const auto turn = [&](const source_ptr& one) {
            return std::tuple(one->report < first, one->report, one->id);
        };
        std::sort(ready_.begin() + static_cast<std::ptrdiff_t>(known), ready_.end(),
                  [&](const source_ptr& a, const source_ptr& b) { return turn(a) < turn(b); });
        while (ready_.back()->report < first) {
            ready_.push_front(std::move(ready_.back()));
            ready_.pop_back();
        }
    }

    // ---- what becomes of a source ----

    void make_ready(const source_ptr& one) {
        enqueue(one);
        one->now = state::ready;
        one->told = true;
        one->why = reliance::none;
    }

    void make_failed(const source_ptr& one, const error& why, bool reported) {
        one->failure = why;
        one->now = state::aside;
        one->unreported = !reported;
        if (one->unreported) enqueue(one);
    }

    // An attempt has found nothing.
    void make_idle(const source_ptr& one) {
        const reliance why = std::exchange(one->why, reliance::none);
        if (why == reliance::guess) vain_guesses_.wrong();
        if (why == reliance::turn) vain_turns_.wrong();
        if (std::exchange(one->disturbed, false)) {
            make_ready(one);
            return;
        }
        if (one->at == nullptr) return;
        if (why == reliance::none && ++one->in_vain >= patience) {
            one->in_vain = patience;
            try {
                if (events_of(one->fd, static_cast<short>(one->at->events)) != 0) {
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
        wait_for(one);
    }

    // It is reported as taken.
    void make_taken(const source_ptr& one) {
        one->in_vain = 0;
        one->rest_ns = 0;
        const reliance why = std::exchange(one->why, reliance::none);
        if (why == reliance::guess) vain_guesses_.times = 0;
        if (why == reliance::turn) vain_turns_.times = 0;
        if (why != reliance::none && last_ && last_->follower == one->id)
            last_->surprises.times = 0;
        if (one->once) {
            one->now = state::aside;
            return;
        }
        const bool told_by_kernel = one->at != nullptr && one->what->level_triggered();
        if (told_by_kernel && !stays_ready(one)) {
            left_ = true;
            wait_for(one);
            return;
        }
        make_ready(one);
        one->told = false;
        if (told_by_kernel) one->why = reliance::turn;
    }

    // It was put among the ready for what happened before, which is not so any more: the
    // kernel tells of it just as well.
    bool is_doubtful(const source& one) const noexcept {
        return one.why == reliance::turn && !one.kept && one.at != nullptr &&
               vain_turns_.pause != 0;
    }
    void wait_for(const source_ptr& one) {
        one->why = reliance::none;
        one->now = state::idle;
        if (const int wrong = watch_again(one->fd, *one->at)) {
            make_failed(one,
                        error(wrong, "wait_set: descriptor " + std::to_string(one->fd) +
                                         " cannot be watched any more: " + std::strerror(wrong)),
                        false);
        }
    }

    // An attempt has succeeded. It may have changed what the descriptor tells others of.
    void disturb_others_of(const source& one) {
        if (one.at == nullptr || one.at->sources.size() == 1) return;
        for (const source_ptr& other : one.at->sources) {
            if (other.get() == &one) continue;
            if (other->now == state::idle || other->now == state::resting) make_ready(other);
            if (other->now == state::claimed) other->disturbed = true;
        }
    }

    // ---- which one is next ----

    // It was reported.
    void learn(const source_ptr& reported) {
        reported->report = ++reports_;
        if (last_ && last_->follower == reported->id) {
            last_->surprises.right();
            vain_guesses_.right();
            vain_turns_.right();
        } else if (last_) {
            // It has to follow once more before that is relied on.
            if (std::exchange(last_->follower, reported->id) == 0)
                last_->surprises.pause = 1;
            else
                last_->surprises.wrong();
        }
        last_ = reported;
    }

    // The source that has followed before on the one that was reported last, to be tried
    // although its descriptor has told of nothing yet. 0: none.
    std::uint64_t expected() const noexcept {
        if (!last_ || last_->surprises.pause != 0 || vain_guesses_.pause != 0) return 0;
        if (ready_.empty()) return last_->follower;
        // A source that was reported, and is tried again just in case, can wait.
        return ready_.front()->told ? 0 : last_->follower;
    }
    // Unless it would jump the queue.
    void guess(const source_ptr& expected) {
        if (expected->now != state::idle) return;
        if (!ready_.empty() && ready_.front()->report < expected->report) return;
        expected->why = reliance::guess;
        expected->told = false;
        expected->now = state::ready;
        if (!std::exchange(expected->queued, true)) ready_.push_front(expected);
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

    // How often nobody may want to hear of a descriptor before it is watched no longer, if
    // somebody is about to.
    static constexpr unsigned most_unwanted = 4;
    // One wrong guess costs so many system calls at most.
    static constexpr std::size_t most_relied_on = 64;

    enum class watching { level, once, stopped };

    // A descriptor, and the sources that it is of.
    struct watched {
        std::uint32_t serial = 0;
        std::uint32_t events = 0;
        watching now = watching::level;
        unsigned unwanted = 0;
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
    int watch_again(int fd, watched& at) noexcept {
        at.unwanted = 0;
        if (at.now == watching::level) return 0;
        int wrong = control(EPOLL_CTL_MOD, fd, at.events, tag_of(fd, at));
        // It was closed, and is something else now.
        if (wrong == ENOENT) wrong = control(EPOLL_CTL_ADD, fd, at.events, tag_of(fd, at));
        if (wrong == 0) at.now = watching::level;
        return wrong;
    }

    // Where the reports come in a known order, no descriptor need be watched, and telling of
    // events costs nothing; a source is tried when it is its turn.
    bool stays_ready(const source_ptr& one) const noexcept {
        return last_ && last_->follower == one->id && last_->surprises.pause == 0 &&
               vain_guesses_.pause == 0 && vain_turns_.pause == 0 && ready_.size() < most_relied_on;
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
    std::unordered_set<std::uint64_t> lost_;            // tags of note()
    source_ptr last_;                                   // that was reported
    std::uint64_t reports_ = 0;
    std::uint64_t reports_at_look_ = 0;
    doubt vain_guesses_;
    doubt vain_turns_;
    bool left_ = false;  // since then: ready, was reported, and waits for the kernel
    std::uint32_t next_serial_ = first_serial;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_WAIT_REGISTRY_HPP
