// SPDX-License-Identifier: MIT
// Mutexes between processes: exclusion, deadlines, priority inheritance, and owners that
// die at every moment.
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include <ipcdoor/mutex.hpp>

#include "lib/lib_support.hpp"
#include "lib/random_deaths.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

mutex_options options(opening how = opening::open_or_create) {
    mutex_options made;
    made.how = how;
    made.source = source();
    return made;
}

std::uint32_t tid() { return static_cast<std::uint32_t>(::syscall(SYS_gettid)); }

// A mutex in DATA, and the same by other attachments, as other processes have it.
struct ground {
    ground()
        : name(unique_name()),
          at(test_door()),
          end(at.create(name, {.data_bytes = 8192, .slots = 8, .source = source()})),
          lock(end, {}, options()) {}
    mutex_layout& layout() { return *reinterpret_cast<mutex_layout*>(end.data().data()); }
    std::string name;
    door at;
    endpoint end;
    mutex lock;
};

// The same in another process.
struct visitor {
    explicit visitor(const ground& of)
        : at(test_door()), end(at.attach(of.name)), lock(end, {}, options()) {}
    door at;
    endpoint end;
    mutex lock;
};

// Owns the mutex by now, and keeps it.
child owner_of(const ground& of) {
    gate taken;
    child owner([&] {
        visitor mine(of);
        EXPECT_CHILD(mine.lock.lock(soon) == lock_result::acquired);
        taken.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    taken.wait();
    return owner;
}

// The number of a thread that was there, and is no more.
std::uint32_t dead_thread() {
    std::uint32_t number = 0;
    std::thread([&] { number = tid(); }).join();
    // join() returns when the kernel has cleared the number; the thread may still be going.
    while (::syscall(SYS_tkill, number, 0) == 0) std::this_thread::yield();
    return number;
}

// The record of an attachment that is dead, and was met by `here`.
std::uint32_t dead_record(ground& here) {
    endpoint gone = here.at.attach(here.name);
    const std::uint32_t record = mutex_record(gone.slot(), gone.info().generation);
    (void)here.end.slot_state(gone.slot());
    gone.close();
    return record;
}

}  // namespace

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
    ground here;
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
    ground here;
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
    ground one;
    ground two;
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
    ground here;
    here.lock.lock(soon);
    shared<std::atomic<int>> handled;
    static std::atomic<int>* count;
    count = &*handled;
    child waiter([&] {
        struct sigaction action {};
        action.sa_handler = [](int) { ++*count; };
        ::sigaction(SIGUSR1, &action, nullptr);
        visitor mine(here);
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
    ground here;
    here.lock.lock(soon);
    gate tried;
    child waiter([&] {
        visitor mine(here);
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
    ground here;
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

// ---- deaths ----

TEST_CASE("an owner that was killed is told of, waited for or not", "[mutex][fork][death]") {
    const bool awaited = GENERATE(false, true);
    ground here;
    child owner = owner_of(here);
    CHECK(here.lock.try_lock() == lock_result::busy);
    lock_result got = lock_result::busy;
    std::thread waiter;
    if (awaited) {
        waiter = std::thread([&] {
            got = here.lock.lock(soon);
            if (got == lock_result::owner_died) here.lock.make_consistent();
            here.lock.unlock();
        });
        std::this_thread::sleep_for(50ms);
    }
    owner.kill();
    CHECK(owner.wait().signaled(SIGKILL));
    if (awaited) {
        waiter.join();
    } else {
        got = GENERATE(false, true) ? here.lock.try_lock() : here.lock.lock(soon);
        if (got == lock_result::owner_died) here.lock.make_consistent();
        here.lock.unlock();
    }
    CHECK(got == lock_result::owner_died);
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
}

TEST_CASE("of several that wait one is told of the death, and the others come after it",
          "[mutex][fork][death]") {
    ground here;
    child owner = owner_of(here);
    shared<std::atomic<int>> told;
    std::vector<child> waiters;
    for (int i = 0; i < 4; ++i) {
        waiters.emplace_back([&] {
            visitor mine(here);
            const lock_result got = mine.lock.lock(soon);
            if (got == lock_result::owner_died) {
                ++*told;
                mine.lock.make_consistent();
            }
            mine.lock.unlock();
            return 0;
        });
        waiters.back().wait_asleep();
    }
    owner.kill();
    for (auto& one : waiters) CHECK(one.wait().exited());
    CHECK(*told == 1);
    CHECK(mutex_futex_of(here.layout().word) == 0);
}

TEST_CASE("without make_consistent() nobody can lock it any more", "[mutex][death]") {
    ground here;
    here.layout().word = mutex_word(dead_thread(), dead_record(here));
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    std::atomic<int> error{0};
    std::thread waiter([&] { error = error_of([&] { here.lock.lock(soon); }); });
    std::this_thread::sleep_for(50ms);
    here.lock.unlock();
    waiter.join();
    CHECK(error == ENOTRECOVERABLE);
    CHECK(error_of([&] { here.lock.lock(soon); }) == ENOTRECOVERABLE);
    CHECK(error_of([&] { (void)here.lock.try_lock(); }) == ENOTRECOVERABLE);
    CHECK_FALSE(here.lock.held_by_this_thread());
    CHECK(mutex_futex_of(here.layout().word) == 0);
}

TEST_CASE("an owner that dies without having made it consistent is told of as well",
          "[mutex][death]") {
    ground here;
    here.layout().word = mutex_word(dead_thread(), dead_record(here));
    here.layout().state = mutex_inconsistent;
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    here.lock.make_consistent();
    here.lock.unlock();
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
}

TEST_CASE("a thread that ends while it holds the mutex is a dead owner", "[mutex][death]") {
    const bool awaited = GENERATE(false, true);
    ground here;
    std::atomic<bool> end{false};
    std::atomic<bool> holds{false};
    std::thread owner([&] {
        here.lock.lock(soon);
        holds = true;
        while (!end) std::this_thread::sleep_for(1ms);
    });
    while (!holds) std::this_thread::yield();
    std::thread ender([&] {
        if (awaited) std::this_thread::sleep_for(50ms);
        end = true;
    });
    if (!awaited) {
        ender.join();
        owner.join();
    }
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    if (awaited) {
        ender.join();
        owner.join();
    }
    here.lock.make_consistent();
    here.lock.unlock();
}

// Runs `run` as the first process of a PID namespace of its own, where the next thread's number
// can be chosen. The code 77: not here.
child_status with_numbers_of_its_own(const std::function<int()>& run) {
    child outer([&] {
        if (::geteuid() != 0 || ::access("/proc/sys/kernel/ns_last_pid", W_OK) != 0 ||
            ::unshare(CLONE_NEWPID) != 0)
            return 77;
        // It sees no parent, so it cannot be a `child`.
        const pid_t inner = ::fork();
        if (inner == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            try {
                ::_exit(run());
            } catch (const std::exception& wrong) {
                std::fprintf(stderr, "%s\n", wrong.what());
                ::_exit(1);
            }
        }
        int status = 0;
        EXPECT_CHILD(::waitpid(inner, &status, 0) == inner);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    });
    return outer.wait();
}

// Runs `run` in a new thread of this number.
void with_number(std::uint32_t number, const std::function<void()>& run) {
    for (bool done = false; !done;) {
        std::ofstream("/proc/sys/kernel/ns_last_pid") << number - 1;
        std::thread([&] {
            if (tid() != number) return;  // the former one is not gone yet
            run();
            done = true;
        }).join();
    }
}

TEST_CASE("a thread that ends is a dead owner, whoever has its number by now",
          "[mutex][fork][namespace][death]") {
    if (!has_threads_in_children) {
        std::printf("skipped: ThreadSanitizer lets a child have no threads\n");
        return;
    }
    const child_status end = with_numbers_of_its_own([] {
        for (int who = 0; who < 4; ++who) {
            ground here;
            visitor same_process(here);
            std::uint32_t number = 0;
            std::thread([&] {
                number = tid();
                here.lock.lock(soon);
            }).join();
            const auto told = [](mutex& lock) {
                return lock.try_lock() == lock_result::owner_died;
            };
            const auto told_in_a_child = [&] {
                child other([&] {
                    visitor its(here);
                    return told(its.lock) ? 0 : 1;
                });
                return other.wait().exited();
            };
            bool right = false;
            with_number(number, [&] {
                switch (who) {
                    case 0: right = told(here.lock); break;
                    case 1: right = told(same_process.lock); break;
                    case 2: std::thread([&] { right = told(here.lock); }).join(); break;
                    default: right = told_in_a_child();
                }
            });
            if (!right) std::fprintf(stderr, "case %d\n", who);
            EXPECT_CHILD(right);
        }
        return 0;
    });
    if (end.exited(77)) std::printf("skipped: thread numbers cannot be chosen here\n");
    CHECK((end.exited() || end.exited(77)));
}

TEST_CASE("a mutex that is destroyed while another thread holds it is nothing to that thread",
          "[mutex][death]") {
    ground here;
    auto goes = std::make_unique<visitor>(here);
    std::atomic<bool> holds{false};
    std::atomic<bool> end{false};
    std::thread owner([&] {
        mutex own(here.end, {.offset = 2432}, options());
        goes->lock.lock(soon);
        own.lock(soon);
        holds = true;
        while (!end) std::this_thread::sleep_for(1ms);
        own.unlock();
    });
    while (!holds) std::this_thread::yield();
    goes.reset();
    end = true;
    owner.join();
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    here.lock.make_consistent();
    here.lock.unlock();
}

TEST_CASE("of several mutexes a thread leaves those that it holds at its end", "[mutex][death]") {
    ground here;
    mutex second(here.end, {.offset = 2432}, options());
    std::thread([&] {
        here.lock.lock(soon);
        second.lock(soon);
        here.lock.unlock();
    }).join();
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    CHECK(second.lock(soon) == lock_result::owner_died);
    second.make_consistent();
    second.unlock();
    here.lock.unlock();
}

TEST_CASE("a number that is another thread's by now does not keep the mutex",
          "[mutex][fork][death]") {
    ground here;
    // An innocent thread of another process that has no part in this.
    gate over;
    child innocent([&] {
        over.wait();
        return 0;
    });
    const auto number = static_cast<std::uint32_t>(innocent.pid());
    const std::uint32_t waiters = GENERATE(std::uint32_t{0}, std::uint32_t{FUTEX_WAITERS});
    const std::uint32_t dead = dead_record(here);
    SECTION("the attachment is dead") {
        here.layout().word = mutex_word(number | waiters, dead);
        CHECK(here.lock.try_lock() == lock_result::owner_died);
        here.lock.make_consistent();
        here.lock.unlock();
        here.layout().word = mutex_word(number | waiters, dead);
        CHECK(here.lock.lock(soon) == lock_result::owner_died);
    }
    SECTION("the attachment is alive, and its process has no such thread") {
        const std::uint32_t alive = mutex_record(here.end.slot(), here.end.info().generation);
        here.layout().word = mutex_word(number | waiters, alive);
        CHECK(here.lock.lock(soon) == lock_result::owner_died);
    }
    SECTION("it is this very thread's") {
        here.layout().word = mutex_word(tid() | waiters, dead);
        CHECK(here.lock.lock(soon) == lock_result::owner_died);
        here.lock.make_consistent();
        here.lock.unlock();
        const std::uint32_t alive = mutex_record(here.end.slot(), here.end.info().generation);
        here.layout().word = mutex_word(tid() | waiters, alive);
        CHECK(here.lock.lock(soon) == lock_result::owner_died);
    }
    here.lock.make_consistent();
    here.lock.unlock();
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
    CHECK(mutex_futex_of(here.layout().word) == 0);
    over.open();
    CHECK(innocent.wait().exited());
}

TEST_CASE("a waiter that died when it was handed the mutex is found by its entry",
          "[mutex][fork][death]") {
    ground here;
    const std::uint32_t alive = mutex_record(here.end.slot(), here.end.info().generation);
    gate over;
    child innocent([&] {
        over.wait();
        return 0;
    });
    SECTION("its number is nobody's; the record is the former owner's, who lives") {
        const std::uint32_t number = dead_thread();
        here.layout().waiters[17] = mutex_word(number, dead_record(here));
        here.layout().word = mutex_word(number | FUTEX_WAITERS, alive);
    }
    SECTION("its number is another thread's") {
        const auto number = static_cast<std::uint32_t>(innocent.pid());
        here.layout().waiters[17] = mutex_word(number, dead_record(here));
        here.layout().word = mutex_word(number | FUTEX_WAITERS, alive);
    }
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    here.lock.make_consistent();
    here.lock.unlock();
    over.open();
    CHECK(innocent.wait().exited());
}

TEST_CASE("who finds no place in the table of waiters waits all the same", "[mutex][death]") {
    ground here;
    const std::uint64_t dead = mutex_word(dead_thread(), dead_record(here));
    here.lock.lock(soon);
    const std::uint64_t lives =
        mutex_word(tid(), mutex_record(here.end.slot(), here.end.info().generation));
    for (shared_u64& entry : here.layout().waiters) entry = lives;
    std::thread([&] {
        CHECK_IN_THREAD(here.lock.try_lock() == lock_result::busy);
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(20ms); }) == ETIMEDOUT);
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(0s); }) == ETIMEDOUT);
    }).join();
    // The dead make room.
    for (shared_u64& entry : here.layout().waiters) entry = dead;
    lock_result got = lock_result::busy;
    std::thread waiter([&] {
        got = here.lock.lock(soon);
        here.lock.unlock();
    });
    spin_until([&] { return (mutex_futex_of(here.layout().word) & FUTEX_WAITERS) != 0; });
    CHECK(here.layout().waiters[255] == 0);
    here.lock.unlock();
    waiter.join();
    CHECK(got == lock_result::acquired);
}

TEST_CASE("a dead thread's entry of this one's number is taken out", "[mutex][death]") {
    ground here;
    const std::uint32_t record = dead_record(here);
    here.lock.lock(soon);
    std::thread([&] {
        here.layout().waiters[9] = mutex_word(tid(), record);
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(10ms); }) == ETIMEDOUT);
    }).join();
    CHECK(here.layout().waiters[9] == 0);
    here.lock.unlock();
}

TEST_CASE("a waiter that was handed the mutex and lives is not robbed", "[mutex][death]") {
    ground here;
    endpoint end = here.at.attach(here.name);
    // In the moment after the kernel's hand-over: the record is a dead one's still.
    std::atomic<std::uint32_t> number{0};
    std::atomic<bool> stop{false};
    std::thread handed([&] {
        number = tid();
        while (!stop) std::this_thread::sleep_for(1ms);
    });
    while (number == 0) std::this_thread::yield();
    here.layout().waiters[200] =
        mutex_word(number, mutex_record(end.slot(), end.info().generation));
    here.layout().word = mutex_word(number | FUTEX_WAITERS, dead_record(here));
    CHECK(here.lock.try_lock() == lock_result::busy);
    CHECK(error_of([&] { here.lock.lock(50ms); }) == ETIMEDOUT);
    stop = true;
    handed.join();
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    here.lock.make_consistent();
    here.lock.unlock();
}

TEST_CASE("a member that may be handed the mutex once more is not robbed", "[mutex][fork][death]") {
    ground here;
    gate attached;
    gate over;
    child member([&] {
        door own = test_door();
        endpoint end = own.attach(here.name);
        attached.open();
        over.wait();
        return 0;
    });
    attached.wait();
    // It was handed the mutex by this process, has taken it and left the table, all since the
    // look at the word. The word may come back while it is judged: the same two, once more.
    here.layout().word = mutex_word(static_cast<std::uint32_t>(member.pid()) | FUTEX_WAITERS,
                                    mutex_record(here.end.slot(), here.end.info().generation));
    CHECK(here.lock.try_lock() == lock_result::busy);
    over.open();
    CHECK(member.wait().exited());
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    here.lock.make_consistent();
    here.lock.unlock();
}

TEST_CASE("an owner that executes another program is a dead one", "[mutex][fork][death]") {
    ground here;
    gate taken;
    child owner([&] {
        visitor mine(here);
        mine.lock.lock(soon);
        taken.open();
        ::execl("/bin/sh", "sh", "-c", "exec sleep 60", nullptr);
        return 1;
    });
    taken.wait();
    CHECK(here.lock.lock(soon) == lock_result::owner_died);
    here.lock.make_consistent();
    here.lock.unlock();
    owner.kill();
}

TEST_CASE("who destroys a mutex that it holds dies as its owner", "[mutex][death]") {
    const std::string name = unique_name();
    door at = test_door();
    mutex stays(at, name, options());
    auto goes = std::make_unique<mutex>(at, name, options());
    goes->lock(soon);
    goes.reset();
    CHECK(stays.lock(soon) == lock_result::owner_died);
    stays.make_consistent();
    stays.unlock();
}

TEST_CASE("a guard unlocks, and says whether the owner had died", "[mutex]") {
    ground here;
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

TEST_CASE("a mutex that is taken away from its owner is nothing to whoever leaves it",
          "[mutex][hostile]") {
    ground here;
    auto goes = std::make_unique<visitor>(here);
    goes->lock.lock(soon);
    here.layout().word = 0;
    goes.reset();
    {
        const mutex_guard held(here.lock, soon);
        CHECK(held.owner_died());
        here.lock.make_consistent();
        here.layout().word = 0;
    }
    CHECK_FALSE(here.lock.held_by_this_thread());
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    // And who comes while it is held, but said to be lost, is told so.
    here.layout().state = mutex_not_recoverable;
    std::thread([&] {
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(soon); }) == ENOTRECOVERABLE);
    }).join();
    here.layout().state = mutex_consistent;
    here.lock.unlock();
}

TEST_CASE("who waits for the wrong owner keeps nobody from leaving, and looks again",
          "[mutex][hostile][threads]") {
    ground here;
    const std::uint32_t record = mutex_record(here.end.slot(), here.end.info().generation);
    std::atomic<std::uint32_t> number{0};
    std::atomic<bool> stop{false};
    std::thread other([&] {
        number = tid();
        while (!stop) std::this_thread::sleep_for(1ms);
    });
    while (number == 0) std::this_thread::yield();
    here.lock.lock(soon);
    here.layout().word = mutex_word(number, record);
    lock_result got = lock_result::busy;
    std::thread misled([&] {
        got = here.lock.lock(soon);
        here.lock.unlock();
    });
    spin_until([&] { return (mutex_futex_of(here.layout().word) & FUTEX_WAITERS) != 0; });
    here.layout().word = mutex_word(tid() | FUTEX_WAITERS, record);
    // The kernel knows another owner than the word says.
    std::thread([&] {
        CHECK_IN_THREAD(error_of([&] { here.lock.lock(20ms); }) == ETIMEDOUT);
    }).join();
    CHECK(error_of([&] { here.lock.unlock(); }) == 0);
    misled.join();
    CHECK(got == lock_result::acquired);
    stop = true;
    other.join();
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
    ground here;
    here.lock.lock(soon);
    child heir([&] {
        EXPECT_CHILD(error_of([&] { here.lock.unlock(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { here.lock.lock(soon); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)here.lock.try_lock(); }) == EPERM);
        // One of its own knows the child's number, not the parent's.
        visitor mine(here);
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

TEST_CASE("who has lost the mutex and ends says nothing of the one that has it",
          "[mutex][hostile]") {
    ground here;
    const bool by_thread = GENERATE(false, true);
    std::atomic<bool> locked{false};
    std::atomic<bool> taken{false};
    std::atomic<bool> gone{false};
    std::optional<visitor> lost(here);
    std::thread former([&] {
        CHECK_IN_THREAD(lost->lock.lock(soon) == lock_result::acquired);
        locked = true;
        spin_until([&] { return taken.load(); });
        if (!by_thread) lost.reset();
    });
    std::thread owner([&] {
        spin_until([&] { return locked.load(); });
        here.layout().word = 0;
        CHECK_IN_THREAD(here.lock.lock(soon) == lock_result::acquired);
        taken = true;
        spin_until([&] { return gone.load(); });
        here.lock.unlock();
    });
    former.join();
    gone = true;
    owner.join();
    CHECK(here.layout().state == mutex_consistent);
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
}

TEST_CASE("random deaths of owners and waiters: exclusion, and nobody waits for ever",
          "[mutex][fork][death]") {
    ground here;
    struct record {
        std::atomic<std::uint32_t> inside;  // who is in the critical section, plus one
        std::atomic<std::uint32_t> wrong;
        std::atomic<std::uint64_t> rounds;
        std::atomic<std::uint64_t> died;
    };
    shared<record> seen;
    const auto body = [&](std::size_t index) {
        return [&, self = static_cast<std::uint32_t>(index)] {
            visitor mine(here);
            for (;;) {
                const lock_result got = mine.lock.lock(soon);
                if (got == lock_result::owner_died) {
                    seen->inside = 0;
                    ++seen->died;
                    mine.lock.make_consistent();
                }
                // A mark left by a dead one without the news of it would be wrong.
                if (seen->inside.exchange(self + 1) != 0) ++seen->wrong;
                for (int i = 0; i < 50; ++i)
                    if (seen->inside != self + 1) ++seen->wrong;
                seen->inside = 0;
                ++seen->rounds;
                mine.lock.unlock();
            }
            return 0;
        };
    };
    random_deaths(1 + scaled(100), 4711, seen->rounds, body, [](std::size_t) {});
    CHECK(seen->wrong == 0);
    const lock_result last = here.lock.lock(soon);
    if (last == lock_result::owner_died) here.lock.make_consistent();
    here.lock.unlock();
}

TEST_CASE("whatever is written into a mutex, calls end by their deadline", "[mutex][hostile]") {
    ground here;
    endpoint bad = here.at.attach(here.name);
    auto& layout = *reinterpret_cast<mutex_layout*>(bad.data().data());
    const std::uint32_t self = mutex_record(here.end.slot(), here.end.info().generation);
    vandal writer([&](xorshift64& random) {
        const std::uint32_t own = tid();
        const std::uint64_t x = random();
        const std::uint32_t numbers[] = {0, 1, 2, own, static_cast<std::uint32_t>(x)};
        const std::uint32_t record = x % 3 == 0 ? self : static_cast<std::uint32_t>(x >> 32);
        layout.word =
            mutex_word(numbers[x % 5] | static_cast<std::uint32_t>(x & 0xc0000000), record);
        layout.waiters[x % 256] = mutex_word(numbers[x / 8 % 5], record);
        layout.state = x % 5 == 0 ? static_cast<std::uint32_t>(x) % 3 : 0;
        if (x % 16 == 0) std::this_thread::sleep_for(1ms);
    });
    const std::uint64_t rounds = 1 + scaled(100);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        const int locked = error_of([&] { here.lock.lock(5ms); });
        CHECK((locked == 0 || locked == ETIMEDOUT || locked == EPROTO || locked == EDEADLK ||
               locked == ENOTRECOVERABLE));
        if (locked != 0) continue;
        const int unlocked = error_of([&] { here.lock.unlock(); });
        CHECK((unlocked == 0 || unlocked == EPROTO));
    }
    writer.stop();
}
