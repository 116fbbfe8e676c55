// SPDX-License-Identifier: MIT
// A heap in which somebody writes what is not so.
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>

#include <ipcdoor/heap.hpp>

#include "lib/heap_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a damaged heap is an error", "[heap][hostile]") {
    store shop;
    heap_header& head = header_of(shop.end);
    (void)shop.mine.find_or_construct<int>("root");
    void* const piece = shop.mine.allocate(200);
    const auto try_all = [&] {
        std::set<int> seen;
        seen.insert(error_of([&] { shop.mine.deallocate(shop.mine.allocate(10, 8, soon), soon); }));
        seen.insert(error_of([&] { (void)shop.mine.find<int>("root"); }));
        seen.insert(error_of([&] { (void)shop.mine.find_or_construct<int>("other"); }));
        seen.insert(error_of([&] { (void)shop.mine.reclaim(soon); }));
        seen.insert(error_of([&] { (void)shop.mine.check(soon); }));
        CHECK(head.lock.load() == 0);
        return seen;
    };
    SECTION("limit") {
        for (const std::uint64_t limit :
             {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
            head.limit = limit;
            CHECK(try_all() == std::set<int>{EPROTO});
        }
    }
    SECTION("journal") {
        head.journal.first = 5;
        head.journal.granules = 1;
        head.journal.operation = heap_freeing;
        CHECK(try_all() == std::set<int>{EPROTO});
        head.journal.first = head.limit - 1;
        head.journal.granules = ~std::uint64_t{0};
        CHECK(try_all() == std::set<int>{EPROTO});
        head.journal.granules = 1;
        head.journal.link = 13;
        CHECK(try_all() == std::set<int>{EPROTO});
        head.journal.link = offsetof(heap_header, roots);
        head.journal.target = ~std::uint64_t{0};
        CHECK(try_all() == std::set<int>{EPROTO});
        head.journal.target = 0;
        head.journal.used = ~std::uint64_t{0};
        CHECK(try_all() == std::set<int>{EPROTO});
    }
    SECTION("roots") {
        for (shared_u64& bucket : head.roots)
            if (bucket != 0) {
                heap_root& record = *static_cast<heap_root*>(shop.mine.at(bucket));
                const auto at = bucket.load();
                for (const std::uint64_t wrong : {at, at + 1, at + 64, ~std::uint64_t{0}}) {
                    record.next = wrong;
                    CHECK(try_all().count(EPROTO) == 1);
                }
                record.next = 0;
                record.object = ~std::uint32_t{0};
                CHECK(try_all().count(EPROTO) == 1);
                record.object = 1;
                CHECK(try_all().count(EPROTO) == 1);
                bucket = ~std::uint64_t{0};
                CHECK(try_all().count(EPROTO) == 1);
            }
    }
    SECTION("bits") {
        auto* const words = reinterpret_cast<shared_u64*>(shop.end.data().data() + 2 * page);
        const std::uint64_t count = 3 * heap_geometry_of(64 * page, page).bitmap_words;
        for (std::uint64_t i = 0; i < count; ++i) words[i] = ~std::uint64_t{0};
        CHECK(try_all().count(EPROTO) == 1);
        for (std::uint64_t i = 0; i < count; ++i) words[i] = 0;
        CHECK(try_all().count(EPROTO) == 1);
        CHECK(error_of([&] { shop.mine.deallocate(piece); }) == EINVAL);
    }
    SECTION("counts") {
        head.used = 0;
        CHECK(error_of([&] { (void)shop.mine.check(); }) == EPROTO);
        CHECK(error_of([&] { shop.mine.deallocate(piece); }) == EPROTO);
        head.used = ~std::uint64_t{0};
        CHECK(error_of([&] { (void)shop.mine.allocate(1); }) == EPROTO);
    }
}

TEST_CASE("whatever is written while a heap works, it fails or goes on",
          "[heap][hostile][threads]") {
    store shop(24 * page, 48 * page, {.patience = 5ms});
    visitor other(shop.name);  // its mapping is the liar's
    auto* const words = reinterpret_cast<shared_u64*>(other.end.data().data());
    vandal liar([&](xorshift64& random) {
        // Header, bitmaps, and the first granules, where roots are.
        const auto which = random() % 3;
        const std::uint64_t at = which == 0   ? random() % (sizeof(heap_header) / 8)
                                 : which == 1 ? 2 * page / 8 + random() % 40
                                              : 2 * page / 8 + random() % 300;
        const std::uint64_t values[] = {0,
                                        ~std::uint64_t{0},
                                        random(),
                                        words[at] + 1,
                                        words[at] - 1,
                                        random() % (24 * page),
                                        words[at] ^ 64};
        words[at] = values[random() % 7];
        if (random() % 50 == 0) {  // at times what makes sense, so that it gets anywhere
            header_of(other.end).limit = 24 * page / 64;
            header_of(other.end).journal.operation = 0;
            header_of(other.end).lock = 0;
        }
        std::this_thread::yield();
    });
    std::set<int> seen;
    const std::uint64_t rounds = scaled(4000);
    for (std::uint64_t i = 0; i < rounds || seen.count(EPROTO) == 0; ++i) {
        void* got = nullptr;
        seen.insert(error_of([&] { got = shop.mine.allocate(i % 400, 8, 5ms); }));
        if (got != nullptr) seen.insert(error_of([&] { shop.mine.deallocate(got, 5ms); }));
        seen.insert(error_of([&] { (void)shop.mine.allocate_owned(i % 100, 8, 5ms); }));
        seen.insert(error_of([&] { (void)shop.mine.find_or_construct<int>("name", 5); }));
        seen.insert(error_of([&] { (void)shop.mine.destroy<int>("name"); }));
        seen.insert(error_of([&] { (void)shop.mine.reclaim(5ms); }));
        if (i % 16 == 0) seen.insert(error_of([&] { (void)shop.mine.check(5ms); }));
    }
    liar.stop();
    for (const int code : seen) {
        INFO(code);
        CHECK(std::set<int>{0, EPROTO, ENOMEM, EINVAL, ETIMEDOUT, EPROTOTYPE, EBUSY, EDEADLK}.count(
                  code) == 1);
    }
}
