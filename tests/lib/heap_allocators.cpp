// SPDX-License-Identifier: MIT
// A heap as the memory of the standard library's containers.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>

#include <ipcdoor/heap.hpp>

#include "lib/heap_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

TEST_CASE("std::pmr containers of one process live in the heap", "[heap][pmr]") {
    store shop(64 * page, 512 * page);
    heap_resource memory(shop.mine);
    heap_resource same(shop.mine);
    CHECK(memory == same);
    CHECK_FALSE(memory == *std::pmr::new_delete_resource());
    {
        std::pmr::vector<std::pmr::string> words(&memory);
        for (int i = 0; i < 500; ++i)
            words.emplace_back("a word of some length, number " + std::to_string(i));
        CHECK(shop.mine.check().blocks == 501);
        CHECK(shop.mine.offset_of(words.data()) != 0);
        CHECK(words[499] == "a word of some length, number 499");
        CHECK_THROWS_AS(words.reserve(1 << 30), std::bad_alloc);
    }
    CHECK(shop.mine.check().blocks == 0);
    CHECK(shop.mine.statistics().lost_frees == 0);
}

TEST_CASE("an allocator finds the heap of the process that uses it", "[heap][allocator]") {
    auto shop = std::make_unique<store>();
    visitor other(shop->name);
    using numbers = heap_allocator<std::uint64_t>;
    auto* const mine =
        shop->mine.find_or_construct<numbers>("allocator", shop->mine.allocator<std::uint64_t>());
    auto* const theirs = other.theirs.find<numbers>("allocator");
    REQUIRE(theirs != nullptr);
    const offset_ptr<std::uint64_t> got = mine->allocate(100);
    const std::uint64_t offset = shop->mine.offset_of(got.get());
    auto* const seen = static_cast<std::uint64_t*>(other.theirs.at(offset, 800));
    got[99] = 42;
    CHECK(seen[99] == 42);
    theirs->deallocate(seen, 100);
    CHECK(other.theirs.check().blocks == 1);
    CHECK(*theirs == other.theirs.allocator<char>());
    CHECK_FALSE(*theirs == shop->mine.allocator<char>());
    CHECK_THROWS_AS(theirs->allocate(1 << 28), std::bad_alloc);
    CHECK_THROWS_AS(theirs->allocate(~std::size_t{0} / 8), std::bad_alloc);
    {
        endpoint third = other.at.attach(shop->name);
        auto* const raw =
            reinterpret_cast<numbers*>(third.data().data() + other.theirs.offset_of(theirs));
        CHECK(error_of([&] { (void)raw->allocate(1); }) == EPERM);
    }
}
