// SPDX-License-Identifier: MIT
// Condition variables between processes.
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include <ipcdoor/condition.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A queue of units in memory shared with children, its mutex and its condition.
struct state {
    std::atomic<std::uint64_t> units;
    std::atomic<std::uint64_t> waiting;
    std::atomic<std::uint64_t> taken;
};

struct monitor {
    explicit monitor(const std::string& name)
        : at(test_door()),
          lock(at, name, {.source = source()}),
          changed(at, name + "-changed", {.source = source()}) {}
    door at;
    mutex lock;
    condition changed;
};

void take_one(monitor& here, state& shared_state) {
    mutex_guard held(here.lock, soon);
    ++shared_state.waiting;
    while (shared_state.units == 0) {
        if (!here.changed.wait(held, soon)) throw error(ETIMEDOUT, "nothing came");
        if (held.owner_died()) here.lock.make_consistent();
    }
    --shared_state.waiting;
    --shared_state.units;
    ++shared_state.taken;
}

void wait_for(const std::atomic<std::uint64_t>& word, std::uint64_t value) {
    spin_until([&] { return word == value; });
}

}  // namespace

TEST_CASE("waiting ends when it is notified, and the mutex is held again", "[condition][fork]") {
    const std::string name = unique_name();
    monitor here(name);
    shared<state> shared_state;
    child waiter([&] {
        monitor mine(name);
        mutex_guard held(mine.lock, soon);
        ++shared_state->waiting;
        while (shared_state->units == 0) EXPECT_CHILD(mine.changed.wait(held, soon));
        EXPECT_CHILD(held.owns() && mine.lock.held_by_this_thread());
        return 0;
    });
    wait_for(shared_state->waiting, 1);
    {
        mutex_guard held(here.lock, soon);
        shared_state->units = 1;
    }
    here.changed.notify_one();
    CHECK(waiter.wait().exited());
}

TEST_CASE("the deadline passes: false, and the mutex is held", "[condition]") {
    monitor here(unique_name());
    mutex_guard held(here.lock, soon);
    const auto until = std::chrono::steady_clock::now() + 30ms;
    while (here.changed.wait(held, until)) {
    }
    CHECK(std::chrono::steady_clock::now() >= until);
    CHECK(held.owns());
    CHECK_FALSE(here.changed.wait(
        held, [] { return false; }, 10ms));
    CHECK(here.changed.wait(
        held, [] { return true; }, 0s));
    held.unlock();
    CHECK(error_of([&] { here.changed.wait(held, soon); }) == EPERM);
    here.changed.notify_one();
    here.changed.notify_all();
}

TEST_CASE("each notification serves one, of several processes and of several threads of one",
          "[condition][fork][threads]") {
    const std::string name = unique_name();
    monitor here(name);
    shared<state> shared_state;
    const std::uint64_t each = 1 + scaled(300);
    constexpr std::uint64_t takers = 6;
    std::vector<child> all;
    for (int p = 0; p < 3; ++p) {
        all.emplace_back([&] {
            monitor mine(name);
            for (std::uint64_t i = 0; i < each; ++i) take_one(mine, *shared_state);
            return 0;
        });
    }
    // And three that share a process and its doorbell.
    monitor crowd(name);
    std::vector<std::thread> some;
    for (int t = 0; t < 3; ++t) {
        some.emplace_back([&] {
            for (std::uint64_t i = 0; i < each; ++i) take_one(crowd, *shared_state);
        });
    }
    for (std::uint64_t i = 1; i <= takers * each; ++i) {
        {
            mutex_guard held(here.lock, soon);
            ++shared_state->units;
        }
        here.changed.notify_one();
        // One at a time every now and then, so that no later one repairs a lost one.
        if (i % 3 == 0) wait_for(shared_state->taken, i);
    }
    for (auto& one : some) one.join();
    for (auto& one : all) CHECK(one.wait().exited());
    CHECK(shared_state->units == 0);
}

TEST_CASE("notify_all wakes all", "[condition][fork][threads]") {
    const std::string name = unique_name();
    monitor here(name);
    shared<state> shared_state;
    std::vector<child> all;
    for (int p = 0; p < 3; ++p) {
        all.emplace_back([&] {
            monitor mine(name);
            take_one(mine, *shared_state);
            return 0;
        });
    }
    monitor crowd(name);
    std::vector<std::thread> some;
    for (int t = 0; t < 3; ++t) some.emplace_back([&] { take_one(crowd, *shared_state); });
    wait_for(shared_state->waiting, 6);
    {
        mutex_guard held(here.lock, soon);
        shared_state->units = 6;
    }
    here.changed.notify_all();
    for (auto& one : some) one.join();
    for (auto& one : all) CHECK(one.wait().exited());
}

TEST_CASE("the death of the one that was notified wakes another", "[condition][fork][death]") {
    const std::string name = unique_name();
    monitor here(name);
    shared<state> shared_state;
    const auto body = [&] {
        monitor mine(name);
        take_one(mine, *shared_state);
        return 0;
    };
    child first(body);
    wait_for(shared_state->waiting, 1);
    first.wait_asleep();
    // It is notified, and does not come to act.
    first.kill(SIGSTOP);
    {
        mutex_guard held(here.lock, soon);
        shared_state->units = 1;
    }
    here.changed.notify_one();
    {
        mutex_guard held(here.lock, soon);
        shared_state->units = 0;
    }
    child second(body);
    wait_for(shared_state->waiting, 2);
    second.wait_asleep();
    {
        mutex_guard held(here.lock, soon);
        shared_state->units = 1;
    }
    first.kill();
    CHECK(first.wait().signaled(SIGKILL));
    CHECK(second.wait().exited());
}

TEST_CASE("a waiter is told that the mutex's owner died meanwhile", "[condition][fork][death]") {
    const std::string name = unique_name();
    monitor here(name);
    shared<state> shared_state;
    child breaker([&] {
        monitor mine(name);
        while (shared_state->waiting == 0) std::this_thread::sleep_for(1ms);
        mutex_guard held(mine.lock, soon);
        mine.changed.notify_all();
        ::raise(SIGKILL);
        return 0;
    });
    mutex_guard held(here.lock, soon);
    shared_state->waiting = 1;
    bool told = false;
    while (!told) {
        REQUIRE(here.changed.wait(held, soon));
        told = held.owner_died();
    }
    here.lock.make_consistent();
    CHECK(breaker.wait().signaled(SIGKILL));
}

TEST_CASE("a wait that throws hands its notification on", "[condition][threads]") {
    const std::string name = unique_name();
    door at = test_door();
    condition teller(at, name + "-changed", {.source = source()});
    // In this order they are told.
    monitor first(name);
    monitor second(name);
    mutex lost(first.at, name + "-lost", {.source = source()});
    std::atomic<bool> changed{false};
    bool handed_on = true;
    int error_number = 0;
    {
        blocking_thread failing([&] {
            mutex_guard held(lost, soon);
            // It may be woken by who has come.
            while (error_number == 0) error_number = error_of([&] { first.changed.wait(held); });
        });
        failing.wait_asleep();
        blocking_thread other([&] {
            mutex_guard held(second.lock, soon);
            while (!changed) second.changed.wait(held);
        });
        other.wait_asleep();
        // An owner ends, and what it left is not made consistent.
        std::thread([&] { lost.lock(soon); }).join();
        CHECK(lost.lock(soon) == lock_result::owner_died);
        lost.unlock();
        changed = true;
        teller.notify_one();
        try {
            spin_until([&] { return other.ended(); });
        } catch (const std::runtime_error&) {
            handed_on = false;
            teller.notify_all();
        }
    }
    CHECK(error_number == ENOTRECOVERABLE);
    CHECK(handed_on);
}

TEST_CASE("a wait whose mutex was taken away says so, and holds it again", "[condition][hostile]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    mutex lock(end, {.offset = 0});
    condition changed(end, {.offset = 4096, .vector = 9});
    mutex_guard held(lock, soon);
    reinterpret_cast<mutex_layout*>(end.data().data())->word = 0;
    CHECK(error_of([&] { changed.wait(held, soon); }) == EPROTO);
    CHECK(held.owns());
    CHECK(lock.held_by_this_thread());
}

TEST_CASE("mutex and condition side by side in DATA", "[condition][place]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    endpoint other = at.attach(name);
    mutex lock(end, {.offset = 0});
    condition changed(end, {.offset = 4096, .vector = 9});
    mutex other_lock(other, {.offset = 0});
    condition other_changed(other, {.offset = 4096, .vector = 9});
    std::atomic<bool> done{false};
    std::thread waiter([&] {
        mutex_guard held(lock, soon);
        while (!done) changed.wait(held, soon);
    });
    std::this_thread::sleep_for(20ms);
    {
        mutex_guard held(other_lock, soon);
        done = true;
        other_changed.notify_one();
    }
    waiter.join();
    // Something else at that offset.
    CHECK(error_of([&] { condition c(other, {.offset = 0, .vector = 9}); }) == EPROTO);
}

TEST_CASE("whatever is written into a condition, calls end by their deadline",
          "[condition][hostile]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    endpoint bad = at.attach(name);
    mutex lock(at, unique_name(), {.source = source()});
    condition changed(end, {.offset = 0, .vector = 8});
    auto& layout = *reinterpret_cast<condition_layout*>(bad.data().data());
    vandal writer([&](xorshift64& random) {
        const std::uint64_t x = random();
        layout.line.sleeping[x % 4] = x;
        layout.line.polling[x / 4 % 4] = ~x;
        layout.line.next = static_cast<std::uint32_t>(x);
        layout.line.generation[x % 256] = static_cast<std::uint32_t>(x >> 32) % 3;
        if (x % 16 == 0) layout.notified = x;
        if (x % 4 == 0) bad.ring(end.slot(), 8, x);
    });
    const std::uint64_t rounds = 1 + scaled(50);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        mutex_guard held(lock, soon);
        changed.wait(held, 2ms);
        CHECK(held.owns());
        CHECK_FALSE(changed.wait(
            held, [] { return false; }, 2ms));
        CHECK(held.owns());
        changed.notify_one();
        changed.notify_all();
    }
    writer.stop();
}
