// SPDX-License-Identifier: MIT
// Mutexes between processes: exclusion, deadlines, priority inheritance, guards, forked copies.
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/mutex.hpp>

#include "lib/lib_support.hpp"
#include "lib/mutex_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a mutex excludes threads of all processes", "[mutex][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    mutex lock(at, name, options());
    shared<std::atomic<std::uint64_t>> counter;
    const std::uint64_t each = 1 + scaled(3000);
    const auto work = [&](mutex& mine) {
        for (std::uint64_t i = 0; i < each; ++i) {
            mutex_guard held(mine, soon);
            // Not an atomic step: two at once would lose one.
            const std::uint64_t seen = counter->load(std::memory_order_relaxed);
            if (i % 64 == 0) std::this_thread::yield();
            counter->store(seen + 1, std::memory_order_relaxed);
        }
    };
    std::vector<child> all;
    for (int p = 0; p < 2; ++p) {
        all.emplace_back([&] {
            door own = test_door();
            mutex mine(own, name, options(opening::open_only));
            work(mine);
            return 0;
        });
    }
    std::thread first([&] { work(lock); });
    std::thread second([&] { work(lock); });
    work(lock);
    first.join();
    second.join();
    for (auto& one : all) CHECK(one.wait().exited());
    CHECK(*counter == 5 * each);
}

TEST_CASE("try_lock and deadlines", "[mutex]") {
    mutex_ground here;
    CHECK(here.lock.try_lock() == lock_result::acquired);
    std::thread([&] {
        CHECK_IN_THREAD(here.lock.try_lock() == lock_result::busy);
        const auto before = std::chrono::steady_clock::now();
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(30ms); }) == ETIMEDOUT);
        CHECK_IN_THREAD(std::chrono::steady_clock::now() - before >= 30ms);
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(0s); }) == ETIMEDOUT);
        // A second and more: the wait is looked after in between.
        const auto later = std::chrono::steady_clock::now();
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(1200ms); }) == ETIMEDOUT);
        CHECK_IN_THREAD(std::chrono::steady_clock::now() - later >= 1200ms);
    }).join();
    here.lock.unlock();
    // Free, though the deadline has passed.
    CHECK(here.lock.lock(std::chrono::steady_clock::now() - 1h) == lock_result::acquired);
    here.lock.unlock();
    CHECK(mutex_futex_of(here.layout().word) == 0);
}

TEST_CASE("EDEADLK for who holds it, EPERM for who does not", "[mutex]") {
    mutex_ground here;
    endpoint end = here.at.attach(here.name);
    mutex other(end, {}, options());
    CHECK(error_of([&] { here.lock.unlock(); }) == EPERM);
    CHECK(error_of([&] { here.lock.make_consistent(); }) == EPERM);
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    CHECK(error_of([&] { here.lock.lock(soon); }) == EDEADLK);
    CHECK(here.lock.try_lock() == lock_result::busy);
    // The same thread by another attachment.
    CHECK(error_of([&] { other.lock(soon); }) == EDEADLK);
    CHECK(other.try_lock() == lock_result::busy);
    CHECK(error_of([&] { other.unlock(); }) == EPERM);
    CHECK(error_of([&] { here.lock.make_consistent(); }) == EINVAL);
    std::thread([&] { CHECK_IN_THREAD(error_of([&] { here.lock.unlock(); }) == EPERM); }).join();
    here.lock.unlock();
    CHECK(error_of([&] { here.lock.unlock(); }) == EPERM);
    CHECK(other.lock(soon) == lock_result::acquired);
    other.unlock();
}

namespace {

// The kernel's own lock with priority inheritance, for comparison.
class plain_pi_lock {
public:
    // Throws the kernel's error.
    void lock(std::chrono::seconds limit) {
        timespec until{};
        ::clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += limit.count();
        if (::syscall(SYS_futex, &word_, FUTEX_LOCK_PI, 0, &until) != 0)
            detail::throw_error(errno, "FUTEX_LOCK_PI");
    }
    void unlock() {
        if (::syscall(SYS_futex, &word_, FUTEX_UNLOCK_PI) != 0)
            detail::throw_error(errno, "FUTEX_UNLOCK_PI");
    }

private:
    std::uint32_t word_ = 0;
};

// The errors of two threads of which each holds one lock and waits for the other's; 0: got it.
template <class Lock>
std::array<int, 2> wait_in_a_circle(Lock& one, Lock& two, std::chrono::seconds limit) {
    std::array<int, 2> ends{};
    std::atomic<bool> has_two{false};
    one.lock(limit);
    std::thread other([&] {
        two.lock(limit);
        has_two = true;
        ends[1] = error_of([&] {
            one.lock(limit);
            one.unlock();
        });
        two.unlock();
    });
    while (!has_two) std::this_thread::yield();
    ends[0] = error_of([&] {
        two.lock(limit);
        two.unlock();
    });
    one.unlock();
    other.join();
    return ends;
}

}  // namespace

TEST_CASE("two that wait for each other: EDEADLK for one of them, or both", "[mutex][threads]") {
    plain_pi_lock first;
    plain_pi_lock second;
    const auto plain = wait_in_a_circle(first, second, 2s);
    mutex_ground one;
    mutex_ground two;
    const auto has = [](const std::array<int, 2>& ends, int what) {
        return std::find(ends.begin(), ends.end(), what) != ends.end();
    };
    if (has(plain, ETIMEDOUT)) {
        // PREEMPT_RT with CONFIG_DEBUG_RT_MUTEXES.
        const auto ends = wait_in_a_circle(one.lock, two.lock, 2s);
        CHECK(has(ends, ETIMEDOUT));
        CHECK_FALSE(has(ends, EDEADLK));
        return;
    }
    const auto ends = wait_in_a_circle(one.lock, two.lock, soon);
    INFO(ends[0] << " " << ends[1]);
    CHECK(has(ends, EDEADLK));
    // Each may find out before the other one has given up.
    CHECK((ends[0] == EDEADLK || ends[0] == 0));
    CHECK((ends[1] == EDEADLK || ends[1] == 0));
}

TEST_CASE("waiting for a mutex goes on after signal handlers", "[mutex][fork]") {
    mutex_ground here;
    here.lock.lock(soon);
    shared<std::atomic<int>> handled;
    static std::atomic<int>* count;
    count = &*handled;
    child waiter([&] {
        struct sigaction action {};
        action.sa_handler = [](int) { ++*count; };
        ::sigaction(SIGUSR1, &action, nullptr);
        mutex_visitor mine(here);
        EXPECT_CHILD(mine.lock.lock(soon) == lock_result::acquired);
        mine.lock.unlock();
        return 0;
    });
    waiter.wait_asleep();
    for (int i = 1; i <= 3; ++i) {
        waiter.kill(SIGUSR1);
        spin_until([&] { return *handled >= i; });
    }
    here.lock.unlock();
    CHECK(waiter.wait().exited());
}

namespace {

// From here on this process has no FUTEX_LOCK_PI2, as on Linux before 5.14. False: not possible.
bool forget_lock_pi2() {
    sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 13, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(rules), rules};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

TEST_CASE("without FUTEX_LOCK_PI2 deadlines hold all the same", "[mutex][fork]") {
    mutex_ground here;
    here.lock.lock(soon);
    gate tried;
    child waiter([&] {
        mutex_visitor mine(here);
        const bool forgotten = forget_lock_pi2();
        if (forgotten) {
            const auto before = std::chrono::steady_clock::now();
            EXPECT_CHILD(error_of([&] { mine.lock.lock(30ms); }) == ETIMEDOUT);
            EXPECT_CHILD(std::chrono::steady_clock::now() - before >= 30ms);
        }
        tried.open();
        if (!forgotten) return 77;
        EXPECT_CHILD(mine.lock.lock(soon) == lock_result::acquired);
        mine.lock.unlock();
        return 0;
    });
    tried.wait();
    here.lock.unlock();
    const child_status end = waiter.wait();
    if (end.exited(77)) std::printf("skipped: no seccomp filters here\n");
    CHECK((end.exited() || end.exited(77)));
}

TEST_CASE("who waits lends its priority to who holds the mutex", "[mutex][priority]") {
    mutex_ground here;
    sched_param urgent{};
    urgent.sched_priority = 10;
    // Of a thread: 20 usually, -1 - N at real-time priority N.
    const auto priority_of = [](std::uint32_t thread) {
        std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
        std::string line;
        std::getline(stat, line);
        std::istringstream rest(line.substr(line.rfind(')') + 2));
        std::string field;
        for (int i = 3; i <= 18; ++i) rest >> field;
        return std::stol(field);
    };
    std::atomic<std::uint32_t> owner{0};
    std::atomic<bool> release{false};
    std::thread holder([&] {
        here.lock.lock(soon);
        owner = tid();
        while (!release) std::this_thread::sleep_for(1ms);
        here.lock.unlock();
        owner = 0;
        while (release) std::this_thread::sleep_for(1ms);
    });
    while (owner == 0) std::this_thread::sleep_for(1ms);
    const std::uint32_t thread = owner;
    const long before = priority_of(thread);
    std::atomic<bool> allowed{true};
    std::thread waiter([&] {
        if (::sched_setscheduler(0, SCHED_FIFO, &urgent) != 0) allowed = false;
        here.lock.lock(soon);
        here.lock.unlock();
    });
    // What never comes is found by the number of looks.
    for (int i = 0; i < 30'000 && allowed && priority_of(thread) != -11; ++i)
        std::this_thread::sleep_for(1ms);
    const long lent = priority_of(thread);
    release = true;
    waiter.join();
    while (owner != 0) std::this_thread::sleep_for(1ms);
    const long after = priority_of(thread);
    release = false;
    holder.join();
    if (!allowed) {
        std::printf("skipped: no right to real-time priorities\n");
        return;
    }
    CHECK(before > 0);
    CHECK(lent == -11);
    CHECK(after == before);
}

TEST_CASE("a guard unlocks, and says whether the owner had died", "[mutex]") {
    mutex_ground here;
    {
        mutex_guard held(here.lock, soon);
        CHECK_FALSE(held.owner_died());
        CHECK(error_of([&] { held.lock(); }) == EDEADLK);
        held.unlock();
        CHECK(error_of([&] { held.unlock(); }) == EPERM);
        held.lock(soon);
        CHECK(here.lock.held_by_this_thread());
    }
    CHECK_FALSE(here.lock.held_by_this_thread());
    here.layout().word = mutex_word(dead_thread(), dead_record(here));
    {
        mutex_guard held(here.lock, soon);
        CHECK(held.owner_died());
        here.lock.make_consistent();
    }
    mutex_guard held(here.lock, soon);
    CHECK_FALSE(held.owner_died());
}

TEST_CASE("a forked child may destroy its copy of a mutex, and the parent holds it still",
          "[mutex][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    auto lock = std::make_unique<mutex>(at, name, options());
    lock->lock(soon);
    child heir([&] {
        lock.reset();
        return 0;
    });
    CHECK(heir.wait().exited());
    std::thread([&] { CHECK_IN_THREAD(lock->try_lock() == lock_result::busy); }).join();
    CHECK(lock->held_by_this_thread());
    lock->unlock();
}

TEST_CASE("a forked child may not use its parent's mutex", "[mutex][fork]") {
    mutex_ground here;
    here.lock.lock(soon);
    child heir([&] {
        EXPECT_CHILD(error_of([&] { here.lock.unlock(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { here.lock.lock(soon); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)here.lock.try_lock(); }) == EPERM);
        // One of its own knows the child's number, not the parent's.
        mutex_visitor mine(here);
        EXPECT_CHILD(mine.lock.try_lock() == lock_result::busy);
        EXPECT_CHILD(mine.lock.lock(soon) == lock_result::acquired);
        mine.lock.unlock();
        return 0;
    });
    heir.wait_asleep();
    here.lock.unlock();
    CHECK(heir.wait().exited());
}

TEST_CASE("EXDEV in another PID namespace", "[mutex][fork][namespace]") {
    if (::geteuid() != 0) {
        std::printf("skipped: only root can make PID namespaces\n");
        return;
    }
    const std::string name = unique_name();
    door at = test_door();
    mutex lock(at, name, options());
    child outer([&] {
        if (::unshare(CLONE_NEWPID) != 0) return 77;
        const pid_t inner = ::fork();
        if (inner == 0) {
            door own = test_door();
            const int why = error_of([&] { mutex mine(own, name, options(opening::open_only)); });
            ::_exit(why == EXDEV ? 0 : 1);
        }
        int status = 0;
        EXPECT_CHILD(::waitpid(inner, &status, 0) == inner);
        EXPECT_CHILD(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return 0;
    });
    const child_status end = outer.wait();
    if (end.exited(77)) std::printf("skipped: no PID namespaces here\n");
    CHECK((end.exited() || end.exited(77)));
}
