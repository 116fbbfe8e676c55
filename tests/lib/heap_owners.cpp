// SPDX-License-Identifier: MIT
// A heap whose users die: what they owned comes back, and their lock is taken over.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <ipcdoor/heap.hpp>

#include "lib/heap_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

// ---- owners ------------------------------------------------------------------

TEST_CASE("owned allocations go with their process, shared ones stay", "[heap][fork]") {
    store shop;
    const shared<std::atomic<std::uint64_t>> kept;
    gate ready;
    child owner([&] {
        visitor other(shop.name);
        (void)other.theirs.allocate_owned(100);
        (void)other.theirs.allocate_owned(1000, 1024);
        void* const given = other.theirs.allocate_owned(200);
        fill(given, 200, 5);
        other.theirs.share(given);
        *kept = other.theirs.offset_of(given);
        (void)other.theirs.allocate(300);
        ready.open();
        for (;;) ::pause();
        return 0;
    });
    ready.wait();
    void* const mine = shop.mine.allocate_owned(64);
    CHECK(shop.mine.check().owned == 4);
    CHECK(shop.mine.reclaim() == 0);
    owner.kill();
    CHECK(owner.wait().signaled(9));
    CHECK(shop.mine.reclaim() == 2);
    CHECK(shop.mine.statistics().reclaimed == 2);
    CHECK(holds(shop.mine.at(*kept), 200, 5));
    CHECK(shop.mine.check().blocks == 3);
    shop.mine.deallocate(shop.mine.at(*kept));
    shop.mine.deallocate(mine);
    CHECK(shop.mine.check().blocks == 1);
}

TEST_CASE("an allocation that finds no room takes it from the dead", "[heap]") {
    store shop(heap_data_bytes(100 * 64));
    {
        visitor other(shop.name);
        CHECK(error_of([&] {
                  for (;;) (void)other.theirs.allocate_owned(64);
              }) == ENOMEM);
        CHECK(error_of([&] { (void)shop.mine.allocate(64); }) == ENOMEM);
    }
    void* const all = shop.mine.allocate(90 * 64);
    CHECK(shop.mine.check().blocks == 1);
    shop.mine.deallocate(all);
}

TEST_CASE("an owner's slot that is attached again owns nothing of its predecessor's", "[heap]") {
    store shop;
    {
        visitor first(shop.name);
        (void)first.theirs.allocate_owned(64);
    }
    visitor second(shop.name);
    CHECK(second.end.slot() == 1);
    (void)second.theirs.allocate_owned(64);
    CHECK(shop.mine.reclaim() == 1);
    CHECK(shop.mine.check().owned == 1);
}

// ---- the lock ----------------------------------------------------------------

TEST_CASE("a lock that its owner keeps ends in a timeout", "[heap]") {
    store shop;
    visitor other(shop.name);
    const std::uint64_t held = heap_identity(other.end.slot(), other.end.info().generation);
    header_of(shop.end).lock = held;
    CHECK(error_of([&] { (void)shop.mine.allocate(1, 1, 0s); }) == ETIMEDOUT);
    CHECK(error_of([&] { (void)shop.mine.allocate(1, 1, 20ms); }) == ETIMEDOUT);
    CHECK(error_of([&] { (void)shop.mine.check(20ms); }) == ETIMEDOUT);
    CHECK(header_of(shop.end).lock.load() == held);
    header_of(shop.end).lock = 0;
    shop.mine.deallocate(shop.mine.allocate(1));
}

TEST_CASE("who sleeps for the lock is woken by its release and by its owner's death",
          "[heap][threads]") {
    store shop;
    for (const bool dies : {false, true}) {
        auto other = std::make_unique<visitor>(shop.name);
        const std::uint64_t held = heap_identity(other->end.slot(), other->end.info().generation);
        header_of(shop.end).lock = held;
        blocking_thread waiter([&] {
            void* const got = shop.mine.allocate(1, 1, soon);
            shop.mine.deallocate(got);
        });
        while (header_of(shop.end).waiting[0].load() == 0) std::this_thread::yield();
        waiter.wait_asleep();
        const auto before = shop.mine.statistics().takeovers;
        if (dies) {
            other.reset();
        } else {
            // As the owner does it.
            header_of(other->end).lock = 0;
            header_of(other->end).waiting[0].fetch_and(0);
            other->end.ring(shop.end.slot(), 1);
        }
        waiter.join();
        CHECK(shop.mine.statistics().takeovers == before + (dies ? 1 : 0));
    }
}

TEST_CASE("a lock of nobody's is taken over", "[heap]") {
    store shop;
    const auto info = shop.end.info();
    for (const std::uint64_t nobody :
         {std::uint64_t{1}, ~std::uint64_t{0}, heap_identity(200, 1), heap_identity(5, 1),
          heap_identity(info.slot, info.generation), heap_identity(info.slot, info.generation + 2),
          std::uint64_t{1} << 63}) {
        INFO(nobody);
        header_of(shop.end).lock = nobody;
        shop.mine.deallocate(shop.mine.allocate(1, 1, soon));
        CHECK(header_of(shop.end).lock.load() == 0);
    }
    CHECK(shop.mine.check().blocks == 0);
}

TEST_CASE("a connection's DATA carries a heap, also when one side is dead", "[heap][threads]") {
    door at = test_door();
    const std::string name = unique_name();
    listener open = at.listen(name, {.data_bytes = 64 * page, .source = source()});
    std::optional<endpoint> client;
    std::thread connecting([&] { client.emplace(at.connect(name, soon)); });
    endpoint server = open.accept(soon);
    connecting.join();
    heap mine(server);
    std::optional<heap> theirs(std::in_place, *client);
    void* const got = theirs->allocate_owned(100);
    CHECK(*theirs->find_or_construct<int>("number", 4) == 4);
    CHECK(*mine.find<int>("number") == 4);
    const std::uint64_t held = heap_identity(client->slot(), client->info().generation);
    header_of(server).lock = held;
    blocking_thread waiter([&] { mine.deallocate(mine.allocate(1, 1, soon)); });
    waiter.wait_asleep();
    CHECK(got != nullptr);
    theirs.reset();
    client.reset();
    waiter.join();
    CHECK(mine.statistics().takeovers == 1);
    CHECK(mine.reclaim() == 1);
    CHECK(mine.check().blocks == 1);
    // Two threads of the one that is left.
    std::thread second([&] {
        for (int i = 0; i < 100; ++i) mine.deallocate(mine.allocate(10));
    });
    for (int i = 0; i < 100; ++i) mine.deallocate(mine.allocate(10));
    second.join();
    CHECK(mine.check().blocks == 1);
    // One of them waits for what the other one constructs.
    struct slow {
        slow(heap& at, std::thread& other, slow*& seen) {
            other =
                std::thread([&] { seen = at.find_or_construct<slow>("slow", at, other, seen); });
            std::this_thread::sleep_for(30ms);
        }
        int value = 7;
    };
    std::thread waiting;
    slow* seen = nullptr;
    auto* const made = mine.find_or_construct<slow>("slow", mine, waiting, seen);
    waiting.join();
    CHECK(seen == made);
    CHECK(made->value == 7);
}
