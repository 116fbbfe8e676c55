// SPDX-License-Identifier: MIT
//
// wait_set: waits for any of many things, or for all of them at once: messages, vectors,
// pulses, bytes, room, connections, semaphores, timers, descriptors (wait_source.hpp).
//
//     ipcdoor::wait_set set;
//     ipcdoor::message got;
//     std::uint64_t expired = 0;
//     ipcdoor::timer tick(std::chrono::seconds(1), std::chrono::seconds(1));
//     const auto from_peer = set.add(ipcdoor::on_message(channel, got));
//     const auto each_second = set.add(ipcdoor::on_timer(tick, expired));
//     for (;;) {
//         const ipcdoor::wait_report now = set.wait_any();
//         if (now.error_number != 0) set.remove(now.id);   // EPIPE: the peer is dead
//         else if (now.id == from_peer) use(got);
//         else if (now.id == each_second) report(expired);
//     }
//
// wait_any() returns a source whose attempt has succeeded: what it takes is taken, and in the
// variable that was given with it. Sources that take nothing (on_readable, on_descriptor,
// on_hint) are hints.
//
// wait_all() returns when all of its sources were taken in one go, and otherwise none:
//
//   gives back  is taken while the others are tried, and given back before the thread sleeps.
//               So two that want the same things in different orders never wait for each
//               other; they try again after a random pause.
//   looked at   is taken only once everything else is. Where somebody else is quicker then,
//               what of this kind was taken already is kept.
//   keeps       is taken as soon as all seem ready. When another one is not after all, it is
//               kept.
//
// Kept means: it stays with the set, in its variable, and the next wait has it without
// another attempt: wait_any() reports it, wait_all() counts it. So a wait_all() that
// ends without success loses nothing, and has reported nothing.
//
// Cost: that of the sources that are ready, however many there are. A set has one epoll, in
// which descriptors stay, level-triggered: an event is one epoll_wait() and the source's own
// attempt, and several events share the epoll_wait(). Sources of which the descriptor does
// not say all (level_triggered, wait_source.hpp) are tried in vain once before the set sleeps.
// What is ready and nobody's is watched no longer until it is somebody's again.
//
// The set learns which source was reported after which. Where that was right of late it tries
// the next one without asking the kernel, and does not watch those that will have their turn;
// each eighth report it asks all the same. One source that has ever more, or many that come
// in turn, then cost their attempts only. Where such an attempt is in vain it asks the kernel
// again, and the more often that happens the rarer it tries, in the end after 64 times that it
// would have been right.
//
// Fairness: sources that are ready are served in turn, and each that becomes ready joins
// them after at most eight reports, or eight for each 64 that are ready. A descriptor that
// stays readable although attempts find nothing again and again rests for 1 ms, and in the end
// 16 ms, at a time.
//
// A source that throws an ipcdoor::error (EPIPE, EPROTO, EMFILE…) is reported with that
// error once, and set aside: nobody looks at it any more until it is resumed or removed. What
// else it throws comes out of the wait, and it stays in.
//
// Sources are added and removed while others wait. A descriptor may have several sources (a
// stream's two directions). Remove a source before what it is of is closed or destroyed.
//
// Threads. Any number may use a set at once; several that wait share the sources. What one
// has been told of, another may be told of at once, and fill the same variable: add such
// sources with wait_mode::once, and resume() them when the variable has been read. Only
// destroying the set must be alone, after close() has sent the waiting ones away. A forked
// child may only destroy it: EPERM.
//
// Event loops. Where try_any() returns nothing, fd() becomes readable once there may be
// something; or await async_wait_any(). Linux lets five epolls watch each other in a row: on
// soft an endpoint has two of them, a mailbox or a signal_box three.
//
// Errors, as ipcdoor::error: ETIMEDOUT the deadline passed, ECANCELED cancel() or close() was
// called, ENOENT no such source, EINVAL; EPERM the descriptor is one that cannot be waited
// for, a regular file's, or the set is a parent process's; EBADF it is not open, or was closed
// before its source was removed while somebody else has it open, a forked child say; ELOOP see
// above; EOPNOTSUPP wait_all() of a source that nobody can take back (any_only).
#ifndef IPCDOOR_WAIT_SET_HPP
#define IPCDOOR_WAIT_SET_HPP

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/async.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/any_source.hpp>
#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/detail/wait_registry.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/wait_source.hpp>

namespace ipcdoor {

// A source of a wait_set, never used again for another one.
using source_id = std::uint64_t;

// How often a source is reported.
enum class wait_mode {
    always,  // whenever there is something
    once,    // then it is set aside until it is resumed
};

struct wait_report {
    source_id id = 0;
    int error_number = 0;  // 0: it was taken; else why it is set aside, see failure()

    friend bool operator==(const wait_report&, const wait_report&) = default;
};

class wait_set {
public:
    wait_set() : wake_(registry::descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
        registry_.watch_waker(wake_.get());
    }
    wait_set(const wait_set&) = delete;
    wait_set& operator=(const wait_set&) = delete;

    // ---- sources ----

    // Takes a source in: set.add(on_message(channel, into)).
    template <waitable Source>
    source_id add(Source what, wait_mode mode = wait_mode::always) {
        return add_source<Source>(std::move(what), what, mode);
    }
    // The same with a source that stays the caller's, and where it is.
    template <waitable Source>
    source_id add_borrowed(Source& what, wait_mode mode = wait_mode::always) {
        return add_source<Source&>(what, what, mode);
    }

    // Takes a source out. When this returns nobody is in its attempt any more, and no wait
    // reports it. True: something had been taken that was not reported and cannot be given
    // back; it is in the source's variable. From a source's own try_take() it does not wait.
    bool remove(source_id id) {
        check_owner();
        std::unique_ptr<detail::any_source> what;  // destroyed with nothing locked
        std::unique_lock lock(mutex_);
        const auto found = sources_.find(id);
        if (found == sources_.end()) throw_unknown(id);
        const source_ptr gone = std::move(found->second);
        sources_.erase(found);
        gone->removed = true;
        registry_.unwatch(*gone);
        tell_all_waiters();
        if (gone->claimant == std::this_thread::get_id()) return false;
        released_.wait(lock, [&] { return gone->claimant == std::thread::id(); });
        what = std::move(gone->what);
        registry_.forget(gone);
        return gone->kept;
    }

    // Looks again at a source that was set aside: what was wrong has been put right, or what
    // was taken has been used.
    void resume(source_id id) {
        check_owner();
        const std::lock_guard lock(mutex_);
        const source_ptr again = find(id);
        if (again->now != state::aside) return;
        again->failure.reset();
        registry_.make_ready(again);
        tell();
    }

    // The error for which a source was set aside, if that was why.
    std::optional<error> failure(source_id id) const {
        check_owner();
        const std::lock_guard lock(mutex_);
        return find(id)->failure;
    }

    bool contains(source_id id) const {
        check_owner();
        const std::lock_guard lock(mutex_);
        return sources_.find(id) != sources_.end();
    }
    std::size_t size() const {
        check_owner();
        const std::lock_guard lock(mutex_);
        return sources_.size();
    }

    // ---- waiting ----

    // The next source that was taken, or has failed. Blocks while there is none, also where
    // the set is empty.
    wait_report wait_any(deadline until = {}) {
        wait_report got;
        if (next({&got, 1}, until.ns()) == 0) throw_timeout("any source");
        return got;
    }
    // The same without blocking.
    [[nodiscard]] std::optional<wait_report> try_any() {
        wait_report got;
        if (next({&got, 1}, 0) == 0) return std::nullopt;
        return got;
    }

    // As many as there are now, each once, and at least one: how many.
    std::size_t wait_some(std::span<wait_report> into, deadline until = {}) {
        if (into.empty()) detail::throw_error(EINVAL, "wait_set: no memory for reports");
        const std::size_t got = next(into, until.ns());
        if (got == 0) throw_timeout("any source");
        return got;
    }
    [[nodiscard]] std::size_t try_some(std::span<wait_report> into) { return next(into, 0); }

    // Takes all of these sources. Throws the error of one that has failed, EINVAL where one
    // is named twice or none is, ENOENT also where one is removed meanwhile.
    void wait_all(std::span<const source_id> ids, deadline until = {}) {
        if (!all(&ids, until.ns())) throw_timeout("all sources");
    }
    // All that are in the set, whoever comes and goes meanwhile.
    void wait_all(deadline until = {}) {
        if (!all(nullptr, until.ns())) throw_timeout("all sources");
    }
    [[nodiscard]] bool try_all(std::span<const source_id> ids) { return all(&ids, 0); }
    [[nodiscard]] bool try_all() { return all(nullptr, 0); }

    // Sends those away who wait now, with ECANCELED. From any thread.
    void cancel() {
        check_owner();
        const std::lock_guard lock(mutex_);
        ++cancels_;
        changed_.notify_all();
        wake_leader();
    }
    // The same, and everybody who waits later.
    void close() {
        check_owner();
        const std::lock_guard lock(mutex_);
        closed_ = true;
        changed_.notify_all();
        wake_leader();
    }

    // Readable while there may be something: try_any() until it returns nothing. Stays the
    // set's.
    int fd() const noexcept { return registry_.fd(); }

private:
    using registry = detail::wait_registry;
    using source = registry::source;
    using source_ptr = registry::source_ptr;
    using state = registry::state;

    static constexpr source_id first_source = 1;
    static constexpr unsigned reports_between_looks = 8;
    static constexpr std::size_t events_at_once = 64;
    enum class outcome { taken, nothing, failed };

    // Whoever waits. It may have taken a notice that was meant for another one.
    struct waiter {
        wait_set& set;
        const bool for_all;
        const std::uint64_t cancels;

        waiter(wait_set& of, bool all) : set(of), for_all(all), cancels(of.cancels_) {
            if (for_all) ++set.all_waiters_;
        }
        ~waiter() {
            if (for_all) --set.all_waiters_;
            if (!set.registry_.ready().empty())
                set.tell();
            else
                set.changed_.notify_one();
        }
        waiter(const waiter&) = delete;
        waiter& operator=(const waiter&) = delete;

        void check() const {
            if (set.closed_) detail::throw_error(ECANCELED, "wait_set: it was closed");
            if (set.cancels_ != cancels)
                detail::throw_error(ECANCELED, "wait_set: the wait was cancelled");
        }
    };

    void check_owner() const {
        maker_.check("wait_set: it is the parent process's; make one in this one");
    }

    [[noreturn]] static void throw_timeout(const char* what) {
        detail::throw_error(ETIMEDOUT,
                            std::string("wait_set: the deadline passed while waiting for ") + what);
    }
    [[noreturn]] static void throw_unknown(source_id id) {
        detail::throw_error(
            ENOENT, "wait_set: there is no source " + std::to_string(id) + ", or it was removed");
    }
    [[noreturn]] static void throw_failure(const source& of) {
        detail::throw_error(
            of.failure->error_number(),
            "wait_set: source " + std::to_string(of.id) + ": " + of.failure->what());
    }

    // ---- sources; mutex_ is held in all of what follows, but where it says otherwise ----

    const source_ptr& find(source_id id) const {
        const auto found = sources_.find(id);
        if (found == sources_.end()) throw_unknown(id);
        return found->second;
    }

    // Locks by itself.
    template <class Source, class Object>
    source_id add_source(Source&& given, Object& object, wait_mode mode) {
        check_owner();
        // Before it is moved away.
        const int fd = object.fd();
        std::uint32_t events = EPOLLIN;
        if constexpr (requires { object.events(); }) events = object.events();
        auto added = std::make_shared<source>();
        added->fd = fd;
        added->once = mode == wait_mode::once;
        added->what = std::make_unique<detail::some_source<Source>>(std::forward<Source>(given));
        const std::lock_guard lock(mutex_);
        if (closed_) detail::throw_error(ECANCELED, "wait_set: it was closed");
        added->id = next_id_++;
        const auto place = sources_.emplace(added->id, added).first;
        try {
            registry_.watch(added, events);
            // What is there already may not show in the descriptor: it is tried first.
            registry_.make_ready(added);
        } catch (...) {
            registry_.unwatch(*added);
            sources_.erase(place);
            throw;
        }
        tell();
        return added->id;
    }

    // ---- attempts ----

    static void claim(source& one) {
        one.now = state::claimed;
        one.disturbed = false;
        one.claimant = std::this_thread::get_id();
    }

    // Ends a claim, when the state has been set.
    void release(source& one) {
        one.claimant = {};
        if (one.removed) released_.notify_all();
    }

    // Runs a call of a claimed source's with nothing locked. Its error is noted, and the
    // source failed then; anything else is thrown, with the source still claimed.
    template <class Call>
    outcome run(std::unique_lock<std::mutex>& lock, const source_ptr& one, Call call) {
        std::optional<error> trouble;
        bool done = false;
        {
            struct relock {
                std::unique_lock<std::mutex>& lock;
                ~relock() { lock.lock(); }
            };
            lock.unlock();
            const relock again{lock};
            try {
                done = call(*one->what);
            } catch (const error& wrong) {
                trouble = wrong;
            }
        }
        if (!trouble) return done ? outcome::taken : outcome::nothing;
        registry_.make_failed(one, *trouble, true);
        return outcome::failed;
    }
    outcome attempt(std::unique_lock<std::mutex>& lock, const source_ptr& one) {
        return run(lock, one, [](detail::any_source& what) { return what.try_take(); });
    }
    outcome confirm(std::unique_lock<std::mutex>& lock, const source_ptr& one) {
        return run(lock, one, [](detail::any_source& what) {
            what.confirm();
            return true;
        });
    }
    void give_back(std::unique_lock<std::mutex>& lock, const source_ptr& one) {
        const outcome back = run(lock, one, [](detail::any_source& what) {
            what.give_back();
            return true;
        });
        // Nobody was told, so the next wait does.
        if (back == outcome::failed) registry_.make_failed(one, error(*one->failure), false);
    }

    // It is reported as taken.
    void make_reported(const source_ptr& one) {
        one->kept = false;
        registry_.make_taken(one);
    }

    // What is to be reported of a claimed source, if anything.
    std::optional<wait_report> serve(std::unique_lock<std::mutex>& lock, const source_ptr& one) {
        struct releaser {
            wait_set& set;
            const source_ptr& one;
            ~releaser() {
                // Something was thrown.
                if (one->now == state::claimed) set.registry_.make_ready(one);
                set.release(*one);
            }
        } const at_end{*this, one};
        outcome got = outcome::taken;
        if (!one->kept) {
            got = attempt(lock, one);
            if (got == outcome::taken && one->removed && one->what->gives_back()) {
                give_back(lock, one);
                return std::nullopt;
            }
        }
        if (got == outcome::taken) {
            // If it is removed from here on, it is known to have been taken.
            one->kept = true;
            got = confirm(lock, one);
            registry_.disturb_others_of(*one);
        }
        if (one->removed) return std::nullopt;
        if (got == outcome::nothing) {
            registry_.make_idle(one);
            return std::nullopt;
        }
        if (got == outcome::failed) {
            one->kept = false;
            return wait_report{one->id, one->failure->error_number()};
        }
        make_reported(one);
        return wait_report{one->id, 0};
    }

    // ---- waiting for descriptors ----

    // For all threads. `look`: not because there is nothing.
    void lead(std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns, bool look = false) {
        // Who wants all has to know of all.
        const std::size_t most =
            all_waiters_ == 0 ? events_at_once : std::max(events_at_once, registry_.events());
        if (events_.size() < most) events_.resize(most);
        leading_ = true;
        reports_since_look_ = 0;
        registry_.begin_look();
        lock.unlock();
        const int ready = ::epoll_wait(registry_.fd(), events_.data(), static_cast<int>(most),
                                       detail::epoll_timeout_ms(deadline_ns));
        const int error_number = errno;
        lock.lock();
        leading_ = false;
        // Somebody else may lead, or take what there is.
        if (all_waiters_ != 0)
            changed_.notify_all();
        else
            changed_.notify_one();
        if (ready < 0 && error_number != EINTR)
            detail::throw_error(
                error_number, std::string("wait_set: epoll_wait: ") + std::strerror(error_number));
        const std::size_t known = registry_.ready().size();
        // Where more is ready than fits, what is known makes room.
        const bool sleeping = !look || static_cast<std::size_t>(ready) == most;
        bool wrong = false;
        for (int i = 0; i < ready; ++i)
            if (!note(events_[static_cast<std::size_t>(i)].data.u64, sleeping)) wrong = true;
        registry_.order_ready(known);
        if (wrong && registry_.ready().empty())
            detail::throw_error(EBADF,
                                "wait_set: a descriptor was closed while a source of it was in the "
                                "set, and another process, or another descriptor, has it open; "
                                "remove a source before you close what it is of");
    }

    bool note(std::uint64_t tag, bool sleeping) {
        if (tag != registry::waker_tag) return registry_.note(tag, sleeping);
        std::uint64_t count = 0;
        // Once closed it stays readable.
        if (!closed_) static_cast<void>(::read(wake_.get(), &count, sizeof count));
        return true;
    }

    void wake_leader() noexcept {
        const std::uint64_t one = 1;
        static_cast<void>(::write(wake_.get(), &one, sizeof one));
    }

    // There is something in ready_ for another thread. Followers look at ready_, with the
    // mutex, before they sleep; the leader and who polls fd() sleep in the kernel, where the
    // eventfd stays readable until somebody has come back.
    void tell() {
        if (all_waiters_ != 0)
            changed_.notify_all();
        else
            changed_.notify_one();
        if ((leading_ && (followers_ == 0 || all_waiters_ != 0)) || std::exchange(polled_, false))
            wake_leader();
    }
    // Something has changed that only they are interested in.
    void tell_all_waiters() {
        if (all_waiters_ == 0) return;
        changed_.notify_all();
        if (leading_) wake_leader();
    }

    // Sleeps until something may have changed. False: the deadline has passed.
    bool sleep(std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns) {
        if (!leading_) {
            lead(lock, deadline_ns);
            return true;
        }
        ++followers_;
        const bool told = detail::wait_until(changed_, lock, deadline_ns);
        --followers_;
        return told;
    }

    // ---- any ----

    // One report; nothing also where the next one would be of a source that this call has
    // reported already.
    std::optional<wait_report> take(std::unique_lock<std::mutex>& lock, std::uint64_t call,
                                    bool any_will_do) {
        while (!registry_.ready().empty() && registry_.ready().front()->call != call) {
            const source_ptr one = std::move(registry_.ready().front());
            registry_.ready().pop_front();
            one->queued = false;
            if (one->removed) continue;
            if (one->now == state::aside && std::exchange(one->unreported, false))
                return wait_report{one->id, one->failure->error_number()};
            if (one->now != state::ready) continue;
            if (any_will_do && registry_.is_doubtful(*one)) {
                registry_.wait_for(one);
                continue;
            }
            claim(*one);
            if (const auto got = serve(lock, one)) {
                one->call = call;
                registry_.learn(one);
                return got;
            }
        }
        return std::nullopt;
    }

    std::size_t take(std::unique_lock<std::mutex>& lock, std::span<wait_report> into) {
        const std::uint64_t call = ++calls_;
        std::size_t count = 0;
        while (count < into.size()) {
            try {
                const auto got = take(lock, call, into.size() == 1);
                if (!got) break;
                into[count++] = *got;
            } catch (...) {
                if (count == 0) throw;
                break;  // the source is tried again, by the next wait
            }
        }
        return count;
    }

    // Where nothing is known to be ready, the source that has followed before may be: then
    // the kernel need not be asked: it is tried first.
    void guess() {
        const source_id expected = registry_.expected();
        if (expected == 0) return;
        const auto found = sources_.find(expected);
        if (found != sources_.end()) registry_.guess(found->second);
    }

    std::size_t next(std::span<wait_report> into, std::uint64_t deadline_ns) {
        check_owner();
        std::unique_lock lock(mutex_);
        const waiter here(*this, false);
        for (bool looked = false;;) {
            here.check();
            // Those who became ready are found out by looking, also while there are others.
            const bool due = ++reports_since_look_ > reports_between_looks;
            if ((due || registry_.turn_is_over()) && !leading_) lead(lock, 0, true);
            // Who asks for more than one wants to know of all that are ready, from the kernel.
            if (into.size() == 1) guess();
            if (const std::size_t got = take(lock, into)) return got;
            const bool past = deadline::at_ns(deadline_ns).is_past();
            if (past && looked) {
                polled_ = true;
                return 0;
            }
            // Another thread's look is as good.
            looked = (past && leading_) || !sleep(lock, deadline_ns) || past;
        }
    }

    // ---- all ----

    std::vector<source_ptr> wanted(const std::span<const source_id>* ids) const {
        std::vector<source_ptr> all;
        if (ids == nullptr) {
            all.reserve(sources_.size());
            for (const auto& [id, one] : sources_) all.push_back(one);
        } else {
            all.reserve(ids->size());
            for (const source_id id : *ids) all.push_back(find(id));
        }
        if (all.empty()) detail::throw_error(EINVAL, "wait_set: there is nothing to wait for");
        for (const source_ptr& one : all) {
            if (one->what->any_only())
                detail::throw_error(EOPNOTSUPP,
                                    "wait_set: what source " + std::to_string(one->id) +
                                        " does cannot be undone, so it is for wait_any() only");
            if (one->failure) {
                one->unreported = false;
                throw_failure(*one);
            }
        }
        return all;
    }

    bool all(const std::span<const source_id>* ids, std::uint64_t deadline_ns) {
        check_owner();
        if (ids != nullptr) {
            std::vector<source_id> sorted(ids->begin(), ids->end());
            std::sort(sorted.begin(), sorted.end());
            if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
                detail::throw_error(EINVAL, "wait_set: a source is named twice");
        }
        std::unique_lock lock(mutex_);
        const waiter here(*this, true);
        unsigned collisions = 0;
        for (bool looked = false;;) {
            here.check();
            const std::vector<source_ptr> those = wanted(ids);
            // Nothing is taken before all seem ready.
            if (std::all_of(those.begin(), those.end(),
                            [](const source_ptr& one) { return one->now == state::ready; })) {
                const taking round = take_all(lock, those);
                if (round == taking::done) return true;
                if (round == taking::gave_back) pause(lock, ++collisions, deadline_ns);
                if (std::all_of(those.begin(), those.end(),
                                [](const source_ptr& one) { return one->now == state::ready; }) &&
                    !deadline::at_ns(deadline_ns).is_past())
                    continue;
            }
            const bool past = deadline::at_ns(deadline_ns).is_past();
            if (past && looked) {
                polled_ = true;
                return false;
            }
            looked = (past && leading_) || !sleep(lock, deadline_ns) || past;
        }
    }

    // Whoever has collided with another one that wants the same waits for a while, of random
    // length, with nothing taken.
    void pause(std::unique_lock<std::mutex>& lock, unsigned collisions, std::uint64_t deadline_ns) {
        if (collisions < 2 || deadline::at_ns(deadline_ns).is_past()) return;
        // Marsaglia's xorshift. Up to 40 us at first, and a good millisecond in the end.
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        random_ ^= random_ << 17;
        const std::uint64_t most = std::uint64_t{10'000} << std::min(collisions, 7U);
        const std::uint64_t ns = random_ % most;
        lock.unlock();
        std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
        lock.lock();
    }

    enum class taking { done, missed, gave_back };

    // One round: all of them, which are ready, or none.
    taking take_all(std::unique_lock<std::mutex>& lock, const std::vector<source_ptr>& those) {
        for (const source_ptr& one : those) claim(*one);
        struct round_of {
            wait_set& set;
            std::unique_lock<std::mutex>& lock;
            const std::vector<source_ptr>& those;
            std::vector<source_ptr> held;  // taken, can be given back
            bool all_taken = false;

            // Whatever happened: nothing is held after this.
            bool end() {
                const bool some = !held.empty();
                for (const source_ptr& one : held) {
                    if (one->now != state::claimed) continue;
                    try {
                        set.give_back(lock, one);
                    } catch (...) {
                        // Not an error of this library's: the source is the user's own.
                        set.registry_.make_failed(
                            one, error(EIO, "wait_set: give_back() has thrown"), false);
                    }
                }
                held.clear();
                for (const source_ptr& one : those) {
                    if (one->now == state::claimed) set.registry_.make_ready(one);
                    set.release(*one);
                }
                set.tell();
                return some;
            }
            ~round_of() {
                if (!all_taken) end();
            }
        } round{*this, lock, those, {}, false};
        round.held.reserve(those.size());

        const auto missed = [&](const source_ptr& one, outcome got) {
            if (got == outcome::failed) throw_failure(*one);
            if (!one->removed) registry_.make_idle(one);
            round.all_taken = true;  // this ends the round by itself
            return round.end() ? taking::gave_back : taking::missed;
        };
        // Those that give back first, those that are only looked at last.
        for (const source_ptr& one : those) {
            if (one->kept || !one->what->gives_back()) continue;
            const outcome got = attempt(lock, one);
            if (got == outcome::taken) round.held.push_back(one);
            if (got != outcome::taken || one->removed) return missed(one, got);
        }
        for (const source_ptr& one : those) {
            if (one->kept || !one->what->looks()) continue;
            outcome got = run(lock, one, [](detail::any_source& what) { return what.ready(); });
            if (got == outcome::nothing) {
                // So that its descriptor tells.
                got = attempt(lock, one);
                one->kept = got == outcome::taken;
            }
            if (got != outcome::taken || one->removed) return missed(one, got);
        }
        for (const bool looking : {false, true}) {
            for (const source_ptr& one : those) {
                if (one->kept || one->what->gives_back() || one->what->looks() != looking) continue;
                const outcome got = attempt(lock, one);
                one->kept = got == outcome::taken;
                if (got != outcome::taken || one->removed) return missed(one, got);
            }
        }
        // Nothing stands in the way any more. What fails from here on has been taken.
        round.all_taken = true;
        for (const source_ptr& one : those) {
            try {
                static_cast<void>(confirm(lock, one));
            } catch (...) {
                registry_.make_failed(one, error(EIO, "wait_set: confirm() has thrown"), false);
            }
            if (one->now == state::aside) {
                one->kept = false;
                registry_.make_failed(one, error(*one->failure), false);
            } else {
                make_reported(one);
            }
            registry_.disturb_others_of(*one);
        }
        for (const source_ptr& one : those) release(*one);
        return taking::done;
    }

    const detail::fork_mark maker_;
    const owned_fd wake_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;   // for followers
    std::condition_variable released_;  // for remove()
    registry registry_;                 // mutex_, and what follows
    std::unordered_map<source_id, source_ptr> sources_;
    source_id next_id_ = first_source;
    std::vector<epoll_event> events_;  // of who leads
    bool leading_ = false;             // a thread waits for descriptors
    bool polled_ = false;              // somebody was sent back to fd()
    bool closed_ = false;
    unsigned followers_ = 0;    // threads that sleep on changed_
    unsigned all_waiters_ = 0;  // threads in wait_all()
    unsigned reports_since_look_ = 0;
    std::uint64_t calls_ = 0;
    std::uint64_t cancels_ = 0;
    std::uint64_t random_ = ipcdoor_now_ns() | 1;
};

// What another set reports, once it was taken there.
class on_any {
public:
    on_any(wait_set& of, wait_report& into) : of_(&of), into_(&into) {}
    int fd() const noexcept { return of_->fd(); }
    bool try_take() {
        const std::optional<wait_report> got = of_->try_any();
        if (got) *into_ = *got;
        return got.has_value();
    }

private:
    wait_set* of_;
    wait_report* into_;
};

// A wait_report, in the program's own event loop (async.hpp).
template <event_loop Loop>
auto async_wait_any(Loop& loop, wait_set& at) {
    return async_until(loop, at.fd(), [&at] { return at.try_any(); });
}

}  // namespace ipcdoor

#endif  // IPCDOOR_WAIT_SET_HPP
