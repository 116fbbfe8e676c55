// SPDX-License-Identifier: MIT
// Kills processes at every step of every operation of semaphores, mutexes, conditions and
// barriers, and then at random moments; each time the others must go on, and nothing may
// be lost for ever.
//
//     sync_kills [--seconds S] [--seed N]
//
//   --seconds  of random kills, 10 unless given
//   --seed     of the random numbers; printed, so that a run can be repeated
//
// First each operation runs in a process of its own that dies at its first step, then at
// its second, and so on, until it has none left (IPCDOOR_STEP). Then four processes
// acquire and release units, post and acquire counts, lock, and meet at a barrier, while
// they are killed one by one: never more holders than units, every unit back in the end,
// one owner of the mutex, no phase that ends early. Whatever sleeps for a minute is a hang,
// and the program ends with 1.
//
// The back end and the source are those of support/door_under_test.hpp.
#define IPCDOOR_STEPS

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/barrier.hpp>
#include <ipcdoor/condition.hpp>
#include <ipcdoor/mutex.hpp>
#include <ipcdoor/semaphore.hpp>

#include "support/door_under_test.hpp"
#include "support/process.hpp"

namespace {

// The step at which this process dies, counted down; 0: it does not.
std::atomic<std::uint64_t> steps_left{0};

}  // namespace

namespace ipcdoor::detail {

void step(const char*) noexcept {
    if (steps_left.load(std::memory_order_relaxed) == 0) return;
    if (steps_left.fetch_sub(1) == 1) ::kill(::getpid(), SIGKILL);
}

}  // namespace ipcdoor::detail

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::chrono::seconds soon{60};

unsigned number = 0;

std::string a_name() {
    return "kills-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
}

void expect(bool right, const char* what) {
    if (right) return;
    std::printf("FAILED: %s\n", what);
    std::fflush(stdout);
    std::exit(1);
}

constexpr std::uint32_t units = 2;
constexpr std::uint32_t parties = 2;

// All objects at once, as each process opens them.
struct things {
    explicit things(const std::string& name)
        : at(door_uri()),
          count(at, name + "-count", {.initial = 1, .source = source()}),
          resource(at, name + "-units", {.units = units, .source = source()}),
          lock(at, name + "-lock", {.source = source()}),
          changed(at, name + "-changed", {.source = source()}),
          meeting(at, name + "-meeting", {.parties = parties, .source = source()}) {}
    door at;
    semaphore count;
    resource_semaphore resource;
    mutex lock;
    condition changed;
    barrier meeting;
};

lock_result lock_it(mutex& lock) {
    const lock_result got = lock.lock(soon);
    if (got == lock_result::owner_died) lock.make_consistent();
    return got;
}

// ---- at every step ----

struct operation {
    const char* name;
    std::function<void(things&)> run;
    std::function<void(things&)> help;  // by another process meanwhile
};

// Whatever the dead one was at, all of it works for those that are left.
void check_all(things& here, things& other) {
    // The count is 0, 1 or 2: it had one, and the dead one may have posted or taken.
    while (here.count.try_acquire()) {
    }
    std::thread waiter([&] { other.count.acquire(soon); });
    here.count.post();
    waiter.join();
    expect(here.count.value() == 0, "a unit was made of nothing");
    here.count.post();

    for (std::uint32_t i = 0; i < units; ++i) here.resource.acquire(soon);
    expect(!other.resource.try_acquire(), "more units than there are");
    std::thread holder([&] { other.resource.acquire(soon); });
    for (std::uint32_t i = 0; i < units; ++i) here.resource.release();
    holder.join();
    other.resource.release();
    expect(here.resource.value() == units, "a unit was lost");

    lock_it(here.lock);
    here.lock.unlock();
    {
        // Both know the same mutex.
        mutex_guard held(here.lock, soon);
        expect(other.lock.try_lock() == lock_result::busy, "the mutex does not exclude");
    }
    std::atomic<bool> done{false};
    std::thread told([&] {
        mutex_guard held(other.lock, soon);
        while (!done) expect(other.changed.wait(held, soon), "nobody was notified");
    });
    std::this_thread::sleep_for(1ms);
    {
        mutex_guard held(here.lock, soon);
        done = true;
    }
    here.changed.notify_one();
    told.join();

    // The dead one may have broken the barrier, or not be known yet to have died.
    for (int tries = 0;; ++tries) {
        std::atomic<int> failed{0};
        const auto meet = [&failed](barrier& at) {
            try {
                at.arrive_and_wait(soon);
            } catch (const error& wrong) {
                expect(wrong.is_peer_death(), wrong.what());
                ++failed;
            }
        };
        std::thread party([&] { meet(other.meeting); });
        meet(here.meeting);
        party.join();
        if (failed == 0) break;
        expect(tries < 1'000, "the barrier stays broken");
        here.meeting.reset();
    }
}

std::uint64_t kill_at_every_step(const operation& what) {
    for (std::uint64_t step = 1;; ++step) {
        const std::string name = a_name();
        things here(name);
        things other(name);
        gate ready;
        child victim([&] {
            things mine(name);
            ready.open();
            steps_left = step;
            what.run(mine);
            steps_left = 0;
            return 0;
        });
        ready.wait();
        if (what.help) what.help(here);
        const child_status end = victim.wait();
        expect(end.exited() || end.signaled(SIGKILL), what.name);
        check_all(here, other);
        if (end.exited()) return step - 1;
    }
}

// The objects are made by a process that dies at it; another one opens them at the same
// time, or after that.
std::uint64_t kill_while_opening(bool at_once) {
    for (std::uint64_t step = 1;; ++step) {
        const std::string name = a_name();
        gate started;
        child victim([&] {
            steps_left = step;
            started.open();
            things mine(name);
            steps_left = 0;
            return 0;
        });
        std::unique_ptr<things> here;
        started.wait();
        if (at_once) {
            std::this_thread::sleep_for(std::chrono::microseconds(step * 37 % 4'000));
            here = std::make_unique<things>(name);
        }
        const child_status end = victim.wait();
        expect(end.exited() || end.signaled(SIGKILL), "opening");
        if (!here) here = std::make_unique<things>(name);
        things other(name);
        check_all(*here, other);
        // How many there are depends on who is faster.
        if (at_once ? step == 100 : end.exited()) return step - 1;
    }
}

void at_every_step() {
    const auto nap = [](things&) { std::this_thread::sleep_for(2ms); };
    const std::vector<operation> operations = {
        {"post", [](things& mine) { mine.count.post(); }, {}},
        {"acquire", [](things& mine) { mine.count.acquire(soon); }, {}},
        {"acquire that waits",
         [](things& mine) {
             mine.count.acquire(soon);
             mine.count.acquire(soon);
         },
         [](things& here) {
             std::this_thread::sleep_for(2ms);
             here.count.post();
         }},
        {"acquire that gives up",
         [](things& mine) {
             mine.count.acquire(soon);
             try {
                 mine.count.acquire(1ms);
             } catch (const error&) {
             }
         },
         {}},
        {"acquire a unit and release it",
         [](things& mine) {
             mine.resource.acquire(soon);
             mine.resource.acquire(soon);
             mine.resource.release();
             mine.resource.release();
         },
         {}},
        {"acquire a unit, waiting",
         [](things& mine) {
             mine.resource.acquire(soon);
             mine.resource.acquire(soon);
             mine.resource.release();
         },
         [](things& here) {
             if (!here.resource.try_acquire()) return;
             std::this_thread::sleep_for(2ms);
             here.resource.release();
         }},
        {"lock and unlock",
         [](things& mine) {
             lock_it(mine.lock);
             mine.lock.unlock();
         },
         {}},
        {"lock and unlock, others wait",
         [](things& mine) {
             for (int i = 0; i < 20; ++i) {
                 lock_it(mine.lock);
                 std::this_thread::sleep_for(100us);
                 mine.lock.unlock();
             }
         },
         [](things& here) {
             for (int i = 0; i < 20; ++i) {
                 lock_it(here.lock);
                 std::this_thread::sleep_for(100us);
                 here.lock.unlock();
             }
         }},
        {"wait for a condition",
         [](things& mine) {
             mutex_guard held(mine.lock, soon);
             mine.changed.wait(held, 5ms);
         },
         [nap](things& here) {
             nap(here);
             here.changed.notify_one();
         }},
        {"notify",
         [nap](things& mine) {
             nap(mine);
             mine.changed.notify_one();
             mine.changed.notify_all();
         },
         [](things& here) {
             mutex_guard held(here.lock, soon);
             here.changed.wait(held, 5ms);
             if (held.owner_died()) here.lock.make_consistent();
         }},
        {"arrive",
         [](things& mine) {
             try {
                 mine.meeting.arrive_and_wait(soon);
             } catch (const error& wrong) {
                 expect(wrong.is_peer_death(), wrong.what());
             }
         },
         [](things& here) {
             try {
                 here.meeting.arrive_and_wait(soon);
             } catch (const error& wrong) {
                 expect(wrong.is_peer_death(), wrong.what());
             }
         }},
        {"break and reset",
         [](things& mine) {
             try {
                 mine.meeting.arrive_and_wait(1ms);
             } catch (const error&) {
             }
             mine.meeting.reset();
         },
         {}},
    };
    std::printf("opening: %llu steps\n",
                static_cast<unsigned long long>(kill_while_opening(false)));
    static_cast<void>(kill_while_opening(true));
    for (const operation& one : operations) {
        std::printf("%s: %llu steps\n", one.name,
                    static_cast<unsigned long long>(kill_at_every_step(one)));
        std::fflush(stdout);
    }
}

// ---- at random ----

struct record {
    std::array<std::atomic<std::uint32_t>, 4> holds;  // of the resource
    std::atomic<std::uint32_t> inside;                // the owner of the mutex
    std::atomic<std::uint32_t> wrong;
    std::array<std::atomic<std::uint64_t>, 4> rounds;
};

void meet(barrier& at) {
    try {
        at.arrive_and_wait(20ms);
    } catch (const error& wrong) {
        expect(wrong.is_peer_death() || wrong.is_timeout(), wrong.what());
        at.reset();
    }
}

[[noreturn]] void work(const std::string& name, record& seen, std::uint32_t self) {
    things mine(name);
    for (;;) {
        mine.resource.acquire(soon);
        seen.holds[self] = 1;
        std::uint32_t all = 0;
        for (auto& one : seen.holds) all += one;
        // The mark of the one that was killed is taken back a moment later.
        if (all > units + 1) ++seen.wrong;
        seen.holds[self] = 0;
        mine.resource.release();

        mine.count.post();
        mine.count.acquire(soon);

        {
            mutex_guard held(mine.lock, soon);
            if (held.owner_died()) {
                seen.inside = 0;
                mine.lock.make_consistent();
            }
            if (seen.inside.exchange(self + 1) != 0) ++seen.wrong;
            for (int i = 0; i < 50; ++i)
                if (seen.inside != self + 1) ++seen.wrong;
            seen.inside = 0;
            if (seen.rounds[self] % 8 == 0) {
                mine.changed.wait(held, 1ms);
                if (held.owner_died()) {
                    seen.inside = 0;
                    mine.lock.make_consistent();
                }
            }
        }
        mine.changed.notify_one();
        if (seen.rounds[self] % 16 == 0) meet(mine.meeting);
        ++seen.rounds[self];
    }
}

void at_random(std::chrono::seconds how_long, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const std::string name = a_name();
    auto stays = std::make_unique<things>(name);
    shared<record> seen;
    std::vector<child> all;
    const auto start = [&](std::uint32_t self) {
        return child([&, self] {
            work(name, *seen, self);
            return 0;
        });
    };
    for (std::uint32_t i = 0; i < 4; ++i) all.push_back(start(i));
    std::uint64_t kills = 0;
    const auto end = std::chrono::steady_clock::now() + how_long;
    while (std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 5'000));
        const std::uint32_t victim = static_cast<std::uint32_t>(random() % 4);
        all[victim].kill();
        expect(all[victim].wait().signaled(SIGKILL), "a worker ended by itself");
        seen->holds[victim] = 0;
        all[victim] = start(victim);
        ++kills;
        // On soft a member that never waits takes up no newcomers, and 4,096 may be left.
        if (kills % 512 == 0) {
            auto next = std::make_unique<things>(name);
            stays = std::move(next);
        }
        // Each of them gets round, the new one too.
        if (kills % 16 != 0) continue;
        for (std::uint32_t i = 0; i < 4; ++i) {
            const std::uint64_t before = seen->rounds[i];
            const std::uint64_t limit = now_ns() + 60'000'000'000;
            while (seen->rounds[i] == before && now_ns() < limit)
                std::this_thread::sleep_for(100us);
            expect(seen->rounds[i] != before, "a worker sleeps for ever");
        }
    }
    for (auto& one : all) one.kill();
    for (auto& one : all) static_cast<void>(one.wait());
    expect(seen->wrong == 0, "more holders than there may be");
    expect(stays->resource.value() == units, "units were lost, or made of nothing");
    things other(name);
    check_all(*stays, other);
    std::uint64_t rounds = 0;
    for (auto& one : seen->rounds) rounds += one;
    std::printf("random: %llu kills in %llu rounds\n", static_cast<unsigned long long>(kills),
                static_cast<unsigned long long>(rounds));
}

}  // namespace

int main(int argc, char** argv) try {
    std::uint64_t seconds = 10;
    std::uint64_t seed = std::random_device{}();
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        if (option == "--seconds")
            seconds = std::strtoull(argv[i + 1], nullptr, 10);
        else if (option == "--seed")
            seed = std::strtoull(argv[i + 1], nullptr, 10);
        else
            argc = 0;
    }
    if (argc % 2 == 0) {
        std::fprintf(stderr, "usage: sync_kills [--seconds S] [--seed N]\n");
        return 2;
    }
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    at_every_step();
    at_random(std::chrono::seconds(seconds), seed);
    std::printf("ok\n");
    return 0;
} catch (const std::exception& wrong) {
    std::printf("FAILED: %s\n", wrong.what());
    return 1;
}
