// SPDX-License-Identifier: MIT
//
// mutex: mutual exclusion between processes that need not know each other, with priority
// inheritance, and with recovery when an owner dies.
//
//     ipcdoor::mutex lock(door, "table");
//     {
//         ipcdoor::mutex_guard held(lock, std::chrono::seconds(1));
//         if (held.owner_died()) {
//             repair();                // what the dead one was changing
//             lock.make_consistent();
//         }
//         change();
//     }
//
// A death of the owner's process, its execve(), or the end of the owner's thread is found
// by the next one that locks, who is told (as by EOWNERDEAD of POSIX's robust mutexes). If
// it unlocks without make_consistent(), nobody can lock the mutex any more:
// ENOTRECOVERABLE.
//
// A thread that ends leaves what it holds when its thread_local objects are destroyed, so it
// does not matter who gets its number. One that ends behind the C library's back (by the
// system call), or locks later than that, is found by its number: where another thread of its
// process has that by now, only when that one has ended, too.
//
// How. The lock word is a futex that the kernel knows as one with priority inheritance: who
// waits lends the owner its priority. It holds the owner's thread number. Beside it in the
// same 64-bit word stands the owner's attachment, {slot, generation}; user space takes and
// leaves both in one step, so there is no moment at which one of them says something else.
// Uncontended calls make no system call.
//
// When the kernel hands the futex to a waiter, the record is the former owner's until that
// waiter is back in user space. So who goes to wait enters {thread, attachment} in a table
// first, and leaves it when the record is its own: the table comes before the record.
//
// Where an owner may die, and who finds out:
//
//     the thread alone, by its end          it notes its death and hands it on by itself
//     holding, others wait in the kernel    the kernel hands it on and says so
//     holding, nobody waits                 the number is no thread's: FUTEX_LOCK_PI says
//                                           ESRCH; or it is another thread's by now: the
//                                           attachment is dead, or its process has no
//                                           thread of that number
//     handed it, not back in user space     the same, by the table
//     between any two steps of lock()       either it is not the owner yet, or as above
//     and unlock()
//
// Thread numbers mean something in one PID namespace only: opening it from another one is
// EXDEV. A process that shares memory can write the word as well: between processes that
// do not trust each other it excludes nobody, but waiting still ends at the deadline.
//
// Threads: any number may use one at once; only destroying it must be alone. Who destroys it
// while it holds it dies as owner. A fork()ed child may only destroy it, and opens its own.
//
// Errors, as ipcdoor::error: ETIMEDOUT, EDEADLK this thread holds it, or owners wait for
// each other in a circle (the kernel finds that out; one of PREEMPT_RT with
// CONFIG_DEBUG_RT_MUTEXES does not, and the deadlines end it), EPERM unlocking what another
// thread holds, or a fork()ed child; ENOTRECOVERABLE, EPROTO what is there is malformed or was
// overwritten, EXDEV, ENOSYS a kernel without FUTEX_PI; and those of opening (semaphore.hpp).
#ifndef IPCDOOR_MUTEX_HPP
#define IPCDOOR_MUTEX_HPP

#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/shared_object.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/thread_end.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/sync_layout.hpp>

namespace ipcdoor {

namespace detail {

// This thread's number, asked of the kernel once for each thread and process.
inline std::uint32_t thread_number(pid_t process) noexcept {
    struct known {
        pid_t process;
        std::uint32_t thread;
    };
    thread_local known mine{0, 0};
    if (mine.process != process) [[unlikely]]
        mine = {process, static_cast<std::uint32_t>(::syscall(SYS_gettid))};
    return mine.thread;
}

}  // namespace detail

struct mutex_options {
    opening how = opening::open_or_create;
    std::uint32_t mode = 0600;   // of the name: using it takes reading and writing
    std::uint32_t members = 32;  // processes that may have it open at once, 2 to 256
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

enum class lock_result {
    busy,  // try_lock() only
    acquired,
    owner_died,  // acquired; what it protects may be half changed
};

class mutex {
public:
    // The bytes that a placed one takes in DATA.
    static constexpr std::uint64_t bytes() noexcept { return sizeof(mutex_layout); }

    mutex(door& at, const std::string& name, const mutex_options& options = {})
        : object_(kind(), at, name, common(options), bytes(), filler{own_namespace()}),
          shared_(*reinterpret_cast<mutex_layout*>(object_.base())),
          record_(mutex_record(object_.slot(), object_.generation())) {
        check_namespace();
    }
    // It rings no vector: only the offset counts.
    mutex(endpoint& end, const place& where, const mutex_options& options = {})
        : object_(kind(), end, where, options.how, bytes(), filler{own_namespace()}),
          shared_(*reinterpret_cast<mutex_layout*>(object_.base())),
          record_(mutex_record(object_.slot(), object_.generation())) {
        check_namespace();
    }
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    ~mutex() {
        if (object_.is_mine()) {
            die_if_held();
        } else {
            thread_end_.forget();
        }
    }

    // Locks it, waiting until the deadline. A mutex that is free is locked even when the
    // deadline has passed, as by pthread_mutex_timedlock(3).
    lock_result lock(deadline until = {}) {
        object_.check();
        thread_end_.watch(object_.process());
        const std::uint32_t me = this_thread();
        if (take_free(me)) [[likely]]
            return entered(me, false);
        return lock_slowly(me, until.ns());
    }

    // busy where another thread holds it. Never waits.
    [[nodiscard]] lock_result try_lock() {
        object_.check();
        thread_end_.watch(object_.process());
        const std::uint32_t me = this_thread();
        if (take_free(me)) [[likely]]
            return entered(me, false);
        const std::uint64_t seen = shared_.word.load(std::memory_order_acquire);
        const std::uint32_t owner = mutex_futex_of(seen) & FUTEX_TID_MASK;
        if (owner != 0 && owner != me && !owner_is_dead(seen)) return lock_result::busy;
        if (held_by_this_thread()) return lock_result::busy;
        return lock_slowly(me, 0, true);
    }

    // After owner_died, once what it protects is whole again; by who holds it.
    void make_consistent() {
        object_.check();
        if (!held_by_this_thread()) not_mine("make_consistent");
        std::uint32_t state = mutex_inconsistent;
        if (!shared_.state.compare_exchange_strong(state, mutex_consistent))
            detail::throw_error(EINVAL, "mutex: it is not inconsistent: no owner has died");
        IPCDOOR_STEP("lock:consistent");
    }

    void unlock() {
        object_.check();
        if (!held_by_this_thread()) [[unlikely]]
            not_mine("unlock");
        if (shared_.state.load(std::memory_order_relaxed) == mutex_inconsistent) [[unlikely]]
            shared_.state.store(mutex_not_recoverable, std::memory_order_relaxed);
        IPCDOOR_STEP("unlock:judged");
        leave(this_thread());
    }

    // Whether the calling thread has it locked by this object.
    bool held_by_this_thread() const noexcept {
        return holder_.load(std::memory_order_relaxed) == this_thread();
    }

private:
    // How long the kernel is trusted to wait for the right thread. A number could have
    // become another thread's between the look at it and the system call.
    static constexpr std::uint64_t look_every_ns = 1'000'000'000;

    struct pid_namespace {
        std::uint64_t inode;
        std::uint64_t device;
    };

    static const detail::object_kind& kind() noexcept {
        static constexpr detail::object_kind one{"mutex", mutex_magic, sizeof(mutex_layout)};
        return one;
    }
    static detail::object_options common(const mutex_options& options) noexcept {
        return {options.how, options.mode, options.members, options.source};
    }
    struct filler {
        pid_namespace where;
        void operator()(sync_header& header, std::byte*) const noexcept {
            header.parameter[0].store(where.inode, std::memory_order_relaxed);
            header.parameter[1].store(where.device, std::memory_order_relaxed);
        }
    };

    static pid_namespace own_namespace() {
        struct stat about {};
        if (::stat("/proc/self/ns/pid", &about) == 0) return {about.st_ino, about.st_dev};
        const int why = errno;
        // A kernel without PID namespaces has one.
        if (why == ENOENT && ::stat("/proc/self/stat", &about) == 0) return {0, 0};
        detail::throw_error(why, std::string("mutex: /proc/self/ns/pid: ") + std::strerror(why) +
                                     " (is /proc mounted?)");
    }
    void check_namespace() const {
        const pid_namespace here = own_namespace();
        if (object_.parameter(0) == here.inode && object_.parameter(1) == here.device) return;
        detail::throw_error(EXDEV,
                            "mutex: it was made in another PID namespace, whose thread numbers "
                            "mean nothing here; use a resource_semaphore of one unit");
    }

    std::uint32_t this_thread() const noexcept { return detail::thread_number(object_.process()); }

    [[noreturn]] static void not_mine(const char* what) {
        detail::throw_error(EPERM,
                            std::string("mutex: ") + what + " is for the thread that holds it");
    }

    // ---- taking and leaving it ----

    // What this thread's death comes to.
    void die_if_held() noexcept {
        if (!held_by_this_thread()) return;
        const std::uint32_t me = this_thread();
        const std::uint32_t owner =
            mutex_futex_of(shared_.word.load(std::memory_order_acquire)) & FUTEX_TID_MASK;
        if (owner != me && owner != 0) {
            // It was taken away, and what it protects is its new owner's.
            holder_.store(0, std::memory_order_relaxed);
            return;
        }
        std::uint32_t consistent = mutex_consistent;
        shared_.state.compare_exchange_strong(consistent, mutex_inconsistent);
        IPCDOOR_STEP("close:inconsistent");
        try {
            leave(me);
        } catch (const error&) {
            // It was overwritten: nothing of it is held here any more.
        }
    }

    bool take_free(std::uint32_t me) noexcept {
        std::uint64_t seen = shared_.word.load(std::memory_order_relaxed);
        return mutex_futex_of(seen) == 0 &&
               shared_.word.compare_exchange_strong(seen, mutex_word(me, record_));
    }

    // The word is this thread's. The state is looked at after that.
    lock_result entered(std::uint32_t me, bool owner_died) {
        IPCDOOR_STEP("lock:taken");
        holder_.store(me, std::memory_order_relaxed);
        if (owner_died) [[unlikely]] {
            std::uint32_t consistent = mutex_consistent;
            shared_.state.compare_exchange_strong(consistent, mutex_inconsistent);
            IPCDOOR_STEP("lock:inconsistent");
        }
        const std::uint32_t state = shared_.state.load(std::memory_order_acquire);
        if (state == mutex_consistent) [[likely]]
            return lock_result::acquired;
        if (state == mutex_inconsistent) return lock_result::owner_died;
        leave(me);
        not_recoverable();
    }

    [[noreturn]] static void not_recoverable() {
        detail::throw_error(ENOTRECOVERABLE,
                            "mutex: an owner died, and the next one unlocked it without "
                            "make_consistent(): make another one");
    }

    void leave(std::uint32_t me) {
        holder_.store(0, std::memory_order_relaxed);
        std::uint64_t seen = mutex_word(me, record_);
        if (shared_.word.compare_exchange_strong(seen, 0)) [[likely]] {
            IPCDOOR_STEP("unlock:left");
            return;
        }
        for (;;) {
            if ((mutex_futex_of(seen) & FUTEX_TID_MASK) != me) {
                detail::throw_error(EPROTO,
                                    "mutex: it was taken away: this process was thought dead, or "
                                    "a broken or hostile one has overwritten the word");
            }
            // Somebody waits in the kernel. What this thread wrote is published by a write.
            shared_.word.fetch_add(0);
            IPCDOOR_STEP("unlock:published");
            const int why = futex(FUTEX_UNLOCK_PI, nullptr);
            if (why == 0) {
                IPCDOOR_STEP("unlock:handed");
                return;
            }
            seen = shared_.word.load(std::memory_order_acquire);
            if (why == EAGAIN || why == EINTR) continue;
            // EINVAL: those who wait there do so for a thread whose number was this one's, or
            // was written by somebody; they come back to look (look_every_ns).
            if ((mutex_futex_of(seen) & FUTEX_TID_MASK) == me &&
                shared_.word.compare_exchange_strong(seen, 0))
                return;
        }
    }

    // ---- when it is not free ----

    // This thread's entry among those that the kernel may hand the futex to.
    class waiter {
    public:
        waiter(mutex& of, std::uint32_t me, std::uint64_t deadline_ns) : entry_(nullptr) {
            const std::uint64_t mine = mutex_word(me, of.record_);
            for (;;) {
                for (shared_u64& entry : of.shared_.waiters) {
                    std::uint64_t seen = entry.load(std::memory_order_relaxed);
                    // A dead thread's, which had this number before.
                    if (seen != 0 && mutex_futex_of(seen) == me) {
                        entry.compare_exchange_strong(seen, 0);
                        seen = entry.load(std::memory_order_relaxed);
                    }
                    if (seen == 0 && entry_ == nullptr && entry.compare_exchange_strong(seen, mine))
                        entry_ = &entry;
                }
                if (entry_ != nullptr || deadline::at_ns(deadline_ns).is_past()) break;
                of.forget_dead_waiters();
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            IPCDOOR_STEP("lock:announced");
        }
        waiter(const waiter&) = delete;
        waiter& operator=(const waiter&) = delete;
        ~waiter() {
            if (entry_ != nullptr) entry_->store(0, std::memory_order_release);
            IPCDOOR_STEP("lock:withdrawn");
        }
        bool is_entered() const noexcept { return entry_ != nullptr; }

    private:
        shared_u64* entry_;
    };

    void forget_dead_waiters() {
        const std::uint32_t owner =
            mutex_futex_of(shared_.word.load(std::memory_order_acquire)) & FUTEX_TID_MASK;
        for (shared_u64& entry : shared_.waiters) {
            std::uint64_t seen = entry.load(std::memory_order_acquire);
            const std::uint32_t thread = mutex_futex_of(seen);
            if (seen != 0 && thread != owner && is_dead(mutex_record_of(seen), thread))
                entry.compare_exchange_strong(seen, 0);
        }
    }

    lock_result lock_slowly(std::uint32_t me, std::uint64_t deadline_ns, bool only_try = false) {
        bool died = false;
        {
            const waiter announced(*this, me, deadline_ns);
            if (!wait_for_it(me, deadline_ns, only_try, announced.is_entered(), died))
                return lock_result::busy;
        }
        return entered(me, died);
    }

    bool wait_for_it(std::uint32_t me, std::uint64_t deadline_ns, bool only_try, bool announced,
                     bool& died) {
        for (;;) {
            if (shared_.state.load(std::memory_order_acquire) == mutex_not_recoverable)
                not_recoverable();
            std::uint64_t seen = shared_.word.load(std::memory_order_acquire);
            const std::uint32_t futex_word = mutex_futex_of(seen);
            const std::uint32_t owner = futex_word & FUTEX_TID_MASK;
            if (owner == 0) {
                if (shared_.word.compare_exchange_strong(
                        seen, mutex_word(me | (futex_word & FUTEX_WAITERS), record_))) {
                    IPCDOOR_STEP("lock:found");
                    died = (futex_word & FUTEX_OWNER_DIED) != 0;
                    return true;
                }
                continue;
            }
            if (owner == me && !is_stale_mine(seen)) {
                if (only_try) return false;
                detail::throw_error(EDEADLK, "mutex: this thread holds it already");
            }
            if (owner == me || owner_is_dead(seen)) {
                if (recover(seen, me, announced, died)) return true;
                if (only_try) return false;
                pause(deadline_ns);
            } else if (only_try) {
                return false;
            } else if (!announced) {
                pause(deadline_ns);
            } else if (!deadline::at_ns(deadline_ns).is_past()) {
                const int why = wait_in_kernel(deadline_ns);
                if (why == 0) {
                    died = claim(me);
                    return true;
                }
                judge(why);
                continue;
            }
            if (deadline::at_ns(deadline_ns).is_past()) {
                detail::throw_error(ETIMEDOUT,
                                    "mutex: the deadline passed, another thread holds it");
            }
        }
    }

    static void pause(std::uint64_t deadline_ns) {
        if (!deadline::at_ns(deadline_ns).is_past())
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }

    // What FUTEX_LOCK_PI failed with, and need not be the end.
    static void judge(int why) {
        switch (why) {
            case ETIMEDOUT:
            case EINTR:
            case ESRCH: return;
            case EAGAIN: std::this_thread::yield(); return;
            case EINVAL:
                // Others wait there for a thread that is not the one in the word: the kernel
                // is about to hand it to one of them (the owner has just died), or somebody
                // has written the word, and then they come back to look.
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
                return;
            case EDEADLK:
                detail::throw_error(EDEADLK,
                                    "mutex: its owner waits, over others, for what this thread "
                                    "holds");
            case ENOSYS: detail::throw_error(ENOSYS, "mutex: this kernel has no FUTEX_LOCK_PI");
            case EPERM:
                detail::throw_error(EPROTO,
                                    "mutex: its word names a thread of the kernel: a broken or "
                                    "hostile process has written there; make another one");
            default:
                detail::throw_error(why,
                                    std::string("mutex: FUTEX_LOCK_PI: ") + std::strerror(why));
        }
    }

    // The kernel has put this thread into the word. True where it says that the owner died;
    // that is noted before the bit is taken away.
    bool claim(std::uint32_t me) {
        IPCDOOR_STEP("lock:handed");
        std::uint64_t seen = shared_.word.load(std::memory_order_acquire);
        bool died = false;
        for (;;) {
            const std::uint32_t futex_word = mutex_futex_of(seen);
            if ((futex_word & FUTEX_TID_MASK) != me) object_.malformed("its word was overwritten");
            if ((futex_word & FUTEX_OWNER_DIED) != 0 && !died) {
                died = true;
                std::uint32_t consistent = mutex_consistent;
                shared_.state.compare_exchange_strong(consistent, mutex_inconsistent);
                IPCDOOR_STEP("lock:told");
            }
            if (shared_.word.compare_exchange_strong(
                    seen, mutex_word(futex_word & ~std::uint32_t{FUTEX_OWNER_DIED}, record_)))
                return died;
        }
    }

    // Takes it from an owner that is dead. False: not now, look again.
    bool recover(std::uint64_t seen, std::uint32_t me, bool announced, bool& died) {
        const std::uint32_t owner = mutex_futex_of(seen) & FUTEX_TID_MASK;
        if ((mutex_futex_of(seen) & FUTEX_WAITERS) != 0 && owner != me) {
            if (!announced) return false;
            // Those who waited for it when it died are handed it by the kernel, which says
            // EINVAL until the first one has it. With any other error there are none, or
            // they wait for a stranger that has the number now, and come back to look. They
            // have never seen it alive and the wait began in the moment between that look
            // and the system call, in which it died and its number went round: the stranger
            // would have to end, too, to make one of them an owner beside this one.
            const int why = futex(FUTEX_TRYLOCK_PI, nullptr);
            if (why == 0) {
                died = claim(me);
                return true;
            }
            if (why == EINVAL) return false;
            // It may have set FUTEX_WAITERS.
            const std::uint64_t now = shared_.word.load(std::memory_order_acquire);
            if ((mutex_futex_of(now) & FUTEX_TID_MASK) != owner ||
                mutex_record_of(now) != mutex_record_of(seen))
                return false;
            seen = now;
        }
        const std::uint32_t flags = mutex_futex_of(seen) & FUTEX_WAITERS;
        if (!shared_.word.compare_exchange_strong(seen, mutex_word(me | flags, record_)))
            return false;
        IPCDOOR_STEP("lock:recovered");
        died = true;
        return true;
    }

    // ---- who lives ----

    bool owner_is_dead(std::uint64_t seen) const {
        const std::uint32_t owner = mutex_futex_of(seen) & FUTEX_TID_MASK;
        // Who was handed it is in the table until the record is its own, which comes first:
        // a record found after the table is as old as the word, or the word has changed and
        // nothing can be taken by what was seen.
        for (const shared_u64& entry : shared_.waiters) {
            const std::uint64_t waiting = entry.load(std::memory_order_acquire);
            if (waiting == 0 || mutex_futex_of(waiting) != owner) continue;
            if (!is_dead(mutex_record_of(waiting), owner)) return false;
            // With two records for one number, exclusion comes before progress.
            return mutex_record_of(waiting) == mutex_record_of(seen) ||
                   is_dead(mutex_record_of(seen), owner);
        }
        return is_dead(mutex_record_of(seen), owner) && !is_thread_of_member(owner);
    }

    // Whoever was handed it may have taken it and left the table before the look there, and may
    // have been handed it by the same owner once more, who may have died since: the word is what
    // was seen. So it is no dead one's while a living member has a thread of that number; should
    // that be a stranger to the mutex, exclusion comes before progress.
    bool is_thread_of_member(std::uint32_t thread) const {
        if (!exists(thread)) return false;
        for (std::uint32_t slot = 0; slot < object_.slots(); ++slot) {
            if (object_.state_of(slot).state != IPCDOOR_SLOT_ALIVE) continue;
            const pid_t process = process_of(slot);
            if (process <= 0 || is_thread_of(process, thread)) return true;
        }
        return false;
    }

    // Whether this is no living thread of the attachment.
    bool is_dead(std::uint32_t record, std::uint32_t thread) const {
        const std::uint32_t slot = record & 0xff;
        if (slot >= object_.slots()) return !exists(thread);
        const auto state = object_.state_of(slot);
        // On soft: it died before this process came, or this process could not take it up
        // for want of descriptors. If there is such a thread, it is not robbed.
        if (state.state == IPCDOOR_SLOT_EMPTY) return !exists(thread);
        if (state.state != IPCDOOR_SLOT_ALIVE) return true;
        if (mutex_record(slot, state.generation) != record) return true;
        const pid_t process = process_of(slot);
        return process > 0 ? !is_thread_of(process, thread) : !exists(thread);
    }

    pid_t process_of(std::uint32_t slot) const {
        if (slot == object_.slot()) return object_.process();
        struct ipcdoor_peer_info peer {};
        peer.slot = slot;
        detail::throw_if(ipcdoor_peer_info(object_.end(), &peer));
        return peer.pid;
    }

    // Asks the kernel by a futex of one's own: could that thread own one? It counts one that
    // has ended, but is not reaped yet, as gone, which kill(2) does not.
    static bool exists(std::uint32_t thread) noexcept {
        std::uint32_t owned = thread;
        return ::syscall(SYS_futex, &owned, FUTEX_TRYLOCK_PI_PRIVATE, 0, nullptr, nullptr, 0) ==
                   0 ||
               errno != ESRCH;
    }
    static bool is_thread_of(pid_t process, std::uint32_t thread) noexcept {
        // EPERM is another user's thread.
        const bool member = ::syscall(SYS_tgkill, process, thread, 0) == 0 || errno != ESRCH;
        return member && exists(thread);
    }

    // The word has this thread's number. True where this is a dead thread's, of the same
    // number: what this object holds it knows, and what another attachment of this process
    // holds is alive.
    bool is_stale_mine(std::uint64_t seen) const {
        if (held_by_this_thread()) return false;
        const std::uint32_t record = mutex_record_of(seen);
        return record == record_ || is_dead(record, this_thread());
    }

    // ---- the futex ----

    // 0 or an errno value.
    int futex(int operation, const timespec* until) const noexcept {
        auto* const word = reinterpret_cast<std::uint32_t*>(&shared_.word);
        return ::syscall(SYS_futex, word, operation, 0, until, nullptr, 0) == 0 ? 0 : errno;
    }

    // Until it is this thread's, the deadline, or it is time to look. FUTEX_LOCK_PI2 (Linux
    // 5.14) takes CLOCK_MONOTONIC, as all deadlines here are. FUTEX_LOCK_PI before it takes
    // CLOCK_REALTIME: what is left until then is added to that clock's time, so a clock that
    // is set meanwhile moves the look, which comes within a second anyway.
    int wait_in_kernel(std::uint64_t deadline_ns) noexcept {
        IPCDOOR_STEP("lock:waiting");
        const std::uint64_t until_ns = std::min(deadline_ns, ipcdoor_deadline_ns(look_every_ns));
        if (!without_pi2_.load(std::memory_order_relaxed)) {
            const timespec until = detail::to_timespec(until_ns);
            const int why = futex(lock_pi2, &until);
            if (why != ENOSYS) return why;
            without_pi2_.store(true, std::memory_order_relaxed);
        }
        timespec now{};
        ::clock_gettime(CLOCK_REALTIME, &now);
        const timespec until = detail::to_timespec(detail::to_ns(now) + detail::ns_until(until_ns));
        return futex(FUTEX_LOCK_PI, &until);
    }

    static constexpr int lock_pi2 = 13;  // FUTEX_LOCK_PI2, which older headers lack

    detail::shared_object object_;
    mutex_layout& shared_;
    const std::uint32_t record_;
    std::atomic<std::uint32_t> holder_{0};  // the thread that holds it by this object
    std::atomic<bool> without_pi2_{false};
    detail::thread_end thread_end_{
        this, [](void* object) noexcept { static_cast<mutex*>(object)->die_if_held(); }};
};

// Holds a mutex for its own lifetime.
class mutex_guard {
public:
    // Throws what mutex::lock() throws.
    explicit mutex_guard(mutex& of, deadline until = {}) : mutex_(of) { lock(until); }
    mutex_guard(const mutex_guard&) = delete;
    mutex_guard& operator=(const mutex_guard&) = delete;
    // What is inconsistent still is not recoverable then.
    ~mutex_guard() {
        if (!owns_) return;
        try {
            mutex_.unlock();
        } catch (const error&) {
            // It was taken away, or this is a child: nothing is held here.
        }
    }

    void lock(deadline until = {}) {
        if (owns_) detail::throw_error(EDEADLK, "mutex_guard: it holds the mutex already");
        const lock_result got = mutex_.lock(until);
        owns_ = true;
        owner_died_ = got == lock_result::owner_died;
    }
    void unlock() {
        if (!owns_) detail::throw_error(EPERM, "mutex_guard: it does not hold the mutex");
        owns_ = false;
        mutex_.unlock();
    }

    // Whether the last time that it was locked a former owner had died; see
    // mutex::make_consistent().
    bool owner_died() const noexcept { return owner_died_; }
    bool owns() const noexcept { return owns_; }
    mutex& of() const noexcept { return mutex_; }

private:
    mutex& mutex_;
    bool owns_ = false;
    bool owner_died_ = false;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_MUTEX_HPP
