// SPDX-License-Identifier: MIT
// The heap: memory that processes allocate together. heap_objects.cpp has what is found by
// name, heap_owners.cpp the dead and the lock, heap_hostile.cpp lies, heap_containers.cpp and
// heap_allocators.cpp what the standard library and Boost make of it.
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/heap.hpp>

#include "lib/heap_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

TEST_CASE("allocations lie apart, aligned, and hold what was written", "[heap]") {
    store shop;
    struct piece {
        void* memory;
        std::size_t bytes;
    };
    std::vector<piece> pieces;
    for (const std::size_t align : {1, 8, 64, 128, 512, 4096}) {
        for (const std::size_t bytes : {0, 1, 63, 64, 65, 1000, 5000}) {
            void* const memory = shop.mine.allocate(bytes, align);
            CHECK(reinterpret_cast<std::uintptr_t>(memory) % align == 0);
            fill(memory, bytes, static_cast<unsigned>(pieces.size()));
            pieces.push_back({memory, bytes});
        }
    }
    CHECK(shop.mine.check().blocks == pieces.size());
    for (unsigned i = 0; i < pieces.size(); ++i) {
        INFO(i);
        CHECK(holds(pieces[i].memory, pieces[i].bytes, i));
    }
    for (const piece& each : pieces) shop.mine.deallocate(each.memory);
    const heap_report after = shop.mine.check();
    CHECK(after.blocks == 0);
    CHECK(after.used == 0);
    CHECK(after.largest_free == after.free);
    CHECK(shop.mine.statistics().peak > 0);
}

TEST_CASE("a heap refuses what it cannot do, and stays as it is", "[heap]") {
    store shop;
    heap& mine = shop.mine;
    CHECK(error_of([&] { (void)mine.allocate(1, 3); }) == EINVAL);
    CHECK(error_of([&] { (void)mine.allocate(1, 8192); }) == EINVAL);
    CHECK(error_of([&] { (void)mine.allocate(1 << 30); }) == ENOMEM);
    CHECK(error_of([&] { (void)mine.allocate(~std::size_t{0}); }) == ENOMEM);
    char elsewhere = 0;
    auto* const one = static_cast<char*>(mine.allocate(300));
    CHECK(error_of([&] { mine.deallocate(&elsewhere); }) == EINVAL);
    CHECK(error_of([&] { mine.deallocate(one + 1); }) == EINVAL);
    CHECK(error_of([&] { mine.deallocate(one + 64); }) == EINVAL);
    CHECK(error_of([&] { mine.deallocate(shop.end.data().data()); }) == EINVAL);
    CHECK(error_of([&] { mine.share(one); }) == EINVAL);
    CHECK(mine.check().blocks == 1);
    mine.deallocate(one);
    CHECK(error_of([&] { mine.deallocate(one); }) == EINVAL);
    mine.deallocate(nullptr);
    CHECK(mine.check().blocks == 0);
    CHECK(error_of([&] { (void)mine.find<int>(std::string(256, 'x')); }) == EINVAL);
    CHECK(mine.find<int>(std::string(255, 'x')) == nullptr);
    CHECK(error_of([&] { (void)mine.offset_of(&elsewhere); }) == EINVAL);
    CHECK(error_of([&] { (void)mine.at(1 << 30); }) == EINVAL);
}

TEST_CASE("not every endpoint can carry a heap", "[heap]") {
    door at = test_door();
    {
        const std::string name = unique_name();
        endpoint none = at.create(name, {.slots = 2, .source = source()});
        CHECK(error_of([&] { const heap wrong(none); }) == ENODATA);
    }
    {
        const std::string name = unique_name();
        endpoint small = at.create(name, data_of(2 * page));
        CHECK(error_of([&] { const heap wrong(small); }) == EINVAL);
    }
    store shop;
    endpoint reader = at.attach(shop.name, {.read_only = true});
    CHECK(error_of([&] { const heap wrong(reader); }) == EACCES);
    endpoint other = at.attach(shop.name);
    CHECK(error_of([&] { const heap wrong(other, {.vector = 64}); }) == EINVAL);
    {
        const std::string name = unique_name();
        endpoint used = at.create(name, data_of(16 * page));
        header_of(used).magic = 1;
        CHECK(error_of([&] { const heap wrong(used); }) == EPROTO);
        header_of(used).magic = heap_magic;
        header_of(used).version_min = 7;
        header_of(used).version_max = 9;
        CHECK(error_of([&] { const heap wrong(used); }) == EPROTONOSUPPORT);
        header_of(used).version_min = 1;
        CHECK(error_of([&] { const heap wrong(used); }) == EPROTO);  // its sizes
    }
}

TEST_CASE("a heap grows up to the declared maximum and moves nothing", "[heap]") {
    store shop(8 * page, 256 * page);
    visitor other(shop.name);
    void* const before = shop.mine.allocate(100);
    fill(before, 100, 7);
    const std::uint64_t place = shop.mine.offset_of(before);
    std::vector<void*> all;
    std::uint64_t grown = shop.mine.statistics().bytes;
    CHECK(grown == 8 * page);
    CHECK(error_of([&] {
              for (;;) {
                  all.push_back(shop.mine.allocate(3000));
                  fill(all.back(), 3000, static_cast<unsigned>(all.size()));
              }
          }) == ENOMEM);
    CHECK(shop.mine.statistics().bytes == 256 * page);
    CHECK(shop.end.info().data_bytes == 256 * page);
    CHECK(all.size() * 3008 > 256 * page - shop.mine.statistics().overhead - 3 * page - 3008);
    CHECK(holds(before, 100, 7));
    // The other one sees what was added since it came.
    CHECK(holds(other.theirs.at(place, 100), 100, 7));
    bool all_there = true;
    for (unsigned i = 0; i < all.size(); ++i) {
        const auto offset = shop.mine.offset_of(all[i]);
        all_there = all_there && holds(other.theirs.at(offset, 3000), 3000, i + 1);
        other.theirs.deallocate(other.theirs.at(offset));
    }
    CHECK(all_there);
    CHECK(shop.mine.check().blocks == 1);
    CHECK(other.theirs.statistics().used == 128);
}

TEST_CASE("a heap takes what its DATA has grown by, or may still grow by", "[heap]") {
    SECTION("another one has grown it") {
        store shop(8 * page, 64 * page);
        shop.end.grow(40 * page);
        void* const got = shop.mine.allocate(20 * page);
        fill(got, 20 * page, 1);
        CHECK(shop.end.info().data_bytes == 40 * page);
        CHECK(shop.mine.check().blocks == 1);
    }
    SECTION("the last pages are fewer than an alignment may need") {
        store shop(8 * page, 16 * page);
        void* const got = shop.mine.allocate(8 * page - 64, page);
        fill(got, 8 * page - 64, 2);
        CHECK(shop.end.info().data_bytes == 16 * page);
        CHECK(shop.mine.check().blocks == 1);
    }
    SECTION("it may not grow any more") {
        door at = test_door();
        endpoint end = at.create("", data_of(8 * page, 64 * page));
        heap mine(end);
        end.seal(IPCDOOR_SEAL_GROW);
        CHECK(error_of([&] { (void)mine.allocate(20 * page); }) == ENOMEM);
        mine.deallocate(mine.allocate(100));
        CHECK(mine.check().blocks == 0);
    }
}

TEST_CASE("DATA that may only grow carries a heap from nothing", "[heap]") {
    store shop(0, 64 * page);
    CHECK(shop.mine.statistics().bytes > shop.mine.statistics().overhead);
    void* const large = shop.mine.allocate(32 * page);
    fill(large, 32 * page, 3);
    CHECK(shop.mine.check().blocks == 1);
}

TEST_CASE("freed memory is used again, neighbours join", "[heap]") {
    store shop(heap_data_bytes(100 * 64));
    std::vector<void*> all;
    CHECK(error_of([&] {
              for (;;) all.push_back(shop.mine.allocate(64));
          }) == ENOMEM);
    REQUIRE(all.size() >= 100);
    for (std::size_t i = 0; i < all.size(); i += 2) shop.mine.deallocate(all[i]);
    CHECK(shop.mine.check().largest_free == 64);
    CHECK(error_of([&] { (void)shop.mine.allocate(65); }) == ENOMEM);
    for (std::size_t i = 1; i < all.size(); i += 2) shop.mine.deallocate(all[i]);
    void* const whole = shop.mine.allocate(all.size() * 64);
    CHECK(error_of([&] { (void)shop.mine.allocate(1); }) == ENOMEM);
    shop.mine.deallocate(whole);
}

TEST_CASE("a long sequence of allocations of all kinds keeps the heap whole", "[heap]") {
    store shop(32 * page, 512 * page);
    visitor other(shop.name);
    std::mt19937 random(20);
    struct piece {
        std::uint64_t offset;
        std::size_t bytes;
        unsigned number;
    };
    std::vector<piece> live;
    heap* const both[] = {&shop.mine, &other.theirs};
    std::uint64_t wrong = 0;
    const std::uint64_t rounds = scaled(20'000);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        heap& at = *both[random() % 2];
        if (live.size() < 200 && random() % 5 != 0) {
            const std::size_t bytes = random() % 8 == 0 ? random() % 20'000 : random() % 300;
            const std::size_t align = std::size_t{1} << random() % 10;
            void* const got =
                random() % 4 == 0 ? at.allocate_owned(bytes, align) : at.allocate(bytes, align);
            if (reinterpret_cast<std::uintptr_t>(got) % align != 0) ++wrong;
            fill(got, bytes, static_cast<unsigned>(i));
            live.push_back({at.offset_of(got), bytes, static_cast<unsigned>(i)});
        } else if (!live.empty()) {
            std::swap(live[random() % live.size()], live.back());
            const piece gone = live.back();
            live.pop_back();
            if (!holds(at.at(gone.offset, gone.bytes), gone.bytes, gone.number)) ++wrong;
            at.deallocate(at.at(gone.offset));
        }
        if (i % 1000 == 0 && at.check().blocks != live.size()) ++wrong;
    }
    CHECK(wrong == 0);
    for (const piece& each : live) other.theirs.deallocate(other.theirs.at(each.offset));
    CHECK(shop.mine.check().blocks == 0);
}

TEST_CASE("threads and processes allocate at once", "[heap][fork][threads]") {
    store shop(64 * page, 2048 * page);
    const std::uint64_t rounds = scaled(2000);
    const auto work = [rounds](heap& at, unsigned number) {
        std::vector<std::pair<void*, std::size_t>> mine;
        std::mt19937 random(number);
        for (std::uint64_t i = 0; i < rounds; ++i) {
            const std::size_t bytes = 1 + random() % 700;
            mine.emplace_back(at.allocate(bytes), bytes);
            fill(mine.back().first, bytes, number);
            if (mine.size() < 20) continue;
            const auto which = random() % mine.size();
            if (!holds(mine[which].first, mine[which].second, number)) return false;
            at.deallocate(mine[which].first);
            mine[which] = mine.back();
            mine.pop_back();
        }
        for (const auto& each : mine) {
            if (!holds(each.first, each.second, number)) return false;
            at.deallocate(each.first);
        }
        return true;
    };
    std::vector<child> children;
    for (unsigned c = 0; c < 2; ++c)
        children.emplace_back([&, c] {
            visitor other(shop.name);
            return work(other.theirs, 10 + c) ? 0 : 1;
        });
    std::atomic<unsigned> good{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t)
        threads.emplace_back([&, t] { good += work(shop.mine, t) ? 1 : 0; });
    for (std::thread& each : threads) each.join();
    CHECK(good == 3);
    for (child& each : children) CHECK(each.wait().exited());
    CHECK(shop.mine.check().blocks == 0);
}

TEST_CASE("a child has no heap", "[heap][fork]") {
    store shop;
    child forked([&] { return error_of([&] { (void)shop.mine.reclaim(); }) == EPERM ? 0 : 1; });
    CHECK(forked.wait().exited());
    shop.mine.deallocate(shop.mine.allocate(1));
}
