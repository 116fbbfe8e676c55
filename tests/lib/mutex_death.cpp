// SPDX-License-Identifier: MIT
// Mutexes between processes: owners and waiters that die at every moment.
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/mutex.hpp>

#include "lib/lib_support.hpp"
#include "lib/mutex_support.hpp"
#include "lib/random_deaths.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Owns the mutex by now, and keeps it.
child owner_of(const mutex_ground& of) {
    gate taken;
    child owner([&] {
        mutex_visitor mine(of);
        EXPECT_CHILD(mine.lock.lock(soon) == lock_result::acquired);
        taken.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    taken.wait();
    return owner;
}

// Leaves it in order; what locking it has told before.
lock_result leave(mutex& lock, lock_result told) {
    if (told == lock_result::owner_died) lock.make_consistent();
    lock.unlock();
    return told;
}

// Locks it, and leaves it in order; what locking it has told.
lock_result pass_through(mutex& lock) { return leave(lock, lock.lock(soon)); }

}  // namespace

TEST_CASE("an owner that was killed is told of, waited for or not", "[mutex][fork][death]") {
    const bool awaited = GENERATE(false, true);
    mutex_ground here;
    child owner = owner_of(here);
    CHECK(here.lock.try_lock() == lock_result::busy);
    lock_result got = lock_result::busy;
    std::thread waiter;
    if (awaited) {
        waiter = std::thread([&] { got = pass_through(here.lock); });
        std::this_thread::sleep_for(50ms);
    }
    owner.kill();
    CHECK(owner.wait().signaled(SIGKILL));
    if (awaited) {
        waiter.join();
    } else {
        got = leave(here.lock, GENERATE(false, true) ? here.lock.try_lock() : here.lock.lock(soon));
    }
    CHECK(got == lock_result::owner_died);
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
}

TEST_CASE("of several that wait one is told of the death, and the others come after it",
          "[mutex][fork][death]") {
    mutex_ground here;
    child owner = owner_of(here);
    shared<std::atomic<int>> told;
    std::vector<child> waiters;
    for (int i = 0; i < 4; ++i) {
        waiters.emplace_back([&] {
            mutex_visitor mine(here);
            if (pass_through(mine.lock) == lock_result::owner_died) ++*told;
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
    mutex_ground here;
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
    mutex_ground here;
    here.layout().word = mutex_word(dead_thread(), dead_record(here));
    here.layout().state = mutex_inconsistent;
    CHECK(pass_through(here.lock) == lock_result::owner_died);
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
}

TEST_CASE("a thread that ends while it holds the mutex is a dead owner", "[mutex][death]") {
    const bool awaited = GENERATE(false, true);
    mutex_ground here;
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
    const lock_result got = here.lock.lock(soon);
    if (awaited) {
        ender.join();
        owner.join();
    }
    CHECK(leave(here.lock, got) == lock_result::owner_died);
}

namespace {

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

}  // namespace

TEST_CASE("a thread that ends is a dead owner, whoever has its number by now",
          "[mutex][fork][namespace][death]") {
    if (!has_threads_in_children) {
        std::printf("skipped: ThreadSanitizer lets a child have no threads\n");
        return;
    }
    const child_status end = with_numbers_of_its_own([] {
        for (int who = 0; who < 4; ++who) {
            mutex_ground here;
            mutex_visitor same_process(here);
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
                    mutex_visitor its(here);
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
    mutex_ground here;
    auto goes = std::make_unique<mutex_visitor>(here);
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
    CHECK(pass_through(here.lock) == lock_result::owner_died);
}

TEST_CASE("of several mutexes a thread leaves those that it holds at its end", "[mutex][death]") {
    mutex_ground here;
    mutex second(here.end, {.offset = 2432}, options());
    std::thread([&] {
        here.lock.lock(soon);
        second.lock(soon);
        here.lock.unlock();
    }).join();
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    CHECK(pass_through(second) == lock_result::owner_died);
    here.lock.unlock();
}

TEST_CASE("a number that is another thread's by now does not keep the mutex",
          "[mutex][fork][death]") {
    mutex_ground here;
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
        CHECK(leave(here.lock, here.lock.try_lock()) == lock_result::owner_died);
        here.layout().word = mutex_word(number | waiters, dead);
        CHECK(pass_through(here.lock) == lock_result::owner_died);
    }
    SECTION("the attachment is alive, and its process has no such thread") {
        const std::uint32_t alive = mutex_record(here.end.slot(), here.end.info().generation);
        here.layout().word = mutex_word(number | waiters, alive);
        CHECK(pass_through(here.lock) == lock_result::owner_died);
    }
    SECTION("it is this very thread's") {
        here.layout().word = mutex_word(tid() | waiters, dead);
        CHECK(pass_through(here.lock) == lock_result::owner_died);
        const std::uint32_t alive = mutex_record(here.end.slot(), here.end.info().generation);
        here.layout().word = mutex_word(tid() | waiters, alive);
        CHECK(pass_through(here.lock) == lock_result::owner_died);
    }
    CHECK(here.lock.lock(soon) == lock_result::acquired);
    here.lock.unlock();
    CHECK(mutex_futex_of(here.layout().word) == 0);
    over.open();
    CHECK(innocent.wait().exited());
}

TEST_CASE("a waiter that died when it was handed the mutex is found by its entry",
          "[mutex][fork][death]") {
    mutex_ground here;
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
    CHECK(pass_through(here.lock) == lock_result::owner_died);
    over.open();
    CHECK(innocent.wait().exited());
}

TEST_CASE("who finds no place in the table of waiters waits all the same", "[mutex][death]") {
    mutex_ground here;
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
    mutex_ground here;
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
    mutex_ground here;
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
    CHECK(pass_through(here.lock) == lock_result::owner_died);
}

TEST_CASE("a member that may be handed the mutex once more is not robbed", "[mutex][fork][death]") {
    mutex_ground here;
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
    CHECK(pass_through(here.lock) == lock_result::owner_died);
}

TEST_CASE("an owner that executes another program is a dead one", "[mutex][fork][death]") {
    mutex_ground here;
    gate taken;
    child owner([&] {
        mutex_visitor mine(here);
        mine.lock.lock(soon);
        taken.open();
        ::execl("/bin/sh", "sh", "-c", "exec sleep 60", nullptr);
        return 1;
    });
    taken.wait();
    CHECK(pass_through(here.lock) == lock_result::owner_died);
    owner.kill();
}

TEST_CASE("who destroys a mutex that it holds dies as its owner", "[mutex][death]") {
    const std::string name = unique_name();
    door at = test_door();
    mutex stays(at, name, options());
    auto goes = std::make_unique<mutex>(at, name, options());
    goes->lock(soon);
    goes.reset();
    CHECK(pass_through(stays) == lock_result::owner_died);
}

TEST_CASE("random deaths of owners and waiters: exclusion, and nobody waits for ever",
          "[mutex][fork][death]") {
    mutex_ground here;
    struct record {
        std::atomic<std::uint32_t> inside;  // who is in the critical section, plus one
        std::atomic<std::uint32_t> wrong;
        std::atomic<std::uint64_t> rounds;
        std::atomic<std::uint64_t> died;
    };
    shared<record> seen;
    const auto body = [&](std::size_t index) {
        return [&, self = static_cast<std::uint32_t>(index)] {
            mutex_visitor mine(here);
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
    pass_through(here.lock);
}
