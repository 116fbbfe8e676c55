// SPDX-License-Identifier: MIT
// Mutexes between processes: hostile words.
#include <linux/futex.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include <ipcdoor/mutex.hpp>

#include "lib/lib_support.hpp"
#include "lib/mutex_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a mutex that is taken away from its owner is nothing to whoever leaves it",
          "[mutex][hostile]") {
    mutex_ground here;
    auto goes = std::make_unique<mutex_visitor>(here);
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
    mutex_ground here;
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

TEST_CASE("who has lost the mutex and ends says nothing of the one that has it",
          "[mutex][hostile]") {
    mutex_ground here;
    const bool by_thread = GENERATE(false, true);
    std::atomic<bool> locked{false};
    std::atomic<bool> taken{false};
    std::atomic<bool> gone{false};
    std::optional<mutex_visitor> lost(here);
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

TEST_CASE("whatever is written into a mutex, calls end by their deadline", "[mutex][hostile]") {
    mutex_ground here;
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
