// SPDX-License-Identifier: MIT
// Kills processes at random moments while they use semaphores, a mutex, a condition and a
// barrier; each time the others must go on, and nothing may be lost for ever.
//
//     sync_kills [--seconds S] [--seed N]
//
//   --seconds  of kills, 10 unless given
//   --seed     of the random numbers; printed, so that a run can be repeated
//
// Four processes acquire and release units, post and acquire counts, lock, and meet at a
// barrier, while they are killed one by one: never more holders than units, every unit back
// in the end, one owner of the mutex, no phase that ends early. Whatever sleeps for a minute
// is a hang, and the program ends with 1. (A death at each step of each operation is what
// tests/lib/crash has.)
//
// The back end and the source are those of support/door_under_test.hpp.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/barrier.hpp>
#include <ipcdoor/condition.hpp>
#include <ipcdoor/mutex.hpp>
#include <ipcdoor/semaphore.hpp>

#include "support/door_under_test.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::chrono::seconds soon{60};

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

// Whatever the dead ones were at, all of it works for those that are left.
void check_all(things& here, things& other) {
    // The dead ones may have posted or taken.
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

    // The dead ones may have broken the barrier, or not be known yet to have died.
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

void kill_at_random(std::chrono::seconds how_long, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const std::string name = "kills-" + std::to_string(::getpid());
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
            spin_until([&] { return seen->rounds[i] != before; });
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
    kill_at_random(std::chrono::seconds(seconds), seed);
    std::printf("ok\n");
    return 0;
} catch (const std::exception& wrong) {
    std::printf("FAILED: %s\n", wrong.what());
    return 1;
}
