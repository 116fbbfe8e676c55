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
#include "support/process.hpp"
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
                const auto object = record.object.load();
                const auto name_bytes = record.name_bytes.load();
                for (const std::uint64_t wrong : {at, at + 1, at + 64, ~std::uint64_t{0}}) {
                    record.next = wrong;
                    CHECK(try_all().count(EPROTO) == 1);
                }
                record.next = 0;
                record.object = ~std::uint32_t{0};
                CHECK(try_all().count(EPROTO) == 1);
                record.object = 1;
                CHECK(try_all().count(EPROTO) == 1);
                record.object = object;
                // Found in any bucket, with a name that goes beyond it.
                record.name_bytes = 255;
                for (shared_u64& other : head.roots) other = at;
                const std::string name(255, 'n');
                CHECK(error_of([&] { (void)shop.mine.find<int>(name); }) == EPROTO);
                for (shared_u64& other : head.roots) other = 0;
                bucket = at;
                record.name_bytes = name_bytes;
                // One that goes, and leads to nowhere.
                record.next = at + 1;
                CHECK(error_of([&] { (void)shop.mine.destroy<int>("root"); }) == EPROTO);
                record.next = 0;
                bucket = ~std::uint64_t{0};
                CHECK(try_all().count(EPROTO) == 1);
                break;
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
        words[heap_geometry_of(64 * page, page).first / 64 + 1] = 4;
        CHECK(error_of([&] { (void)shop.mine.check(); }) == EPROTO);
    }
    SECTION("what an allocator cannot free is counted, and what it cannot get is an error") {
        auto of = shop.mine.allocator<char>();
        const auto got = of.allocate(10);
        head.limit = 0;
        of.deallocate(got, 10);
        CHECK(shop.mine.statistics().lost_frees == 1);
        CHECK(error_of([&] { (void)of.allocate(10); }) == EPROTO);
    }
    SECTION("counts") {
        head.used = 0;
        CHECK(error_of([&] { (void)shop.mine.check(); }) == EPROTO);
        CHECK(error_of([&] { shop.mine.deallocate(piece); }) == EPROTO);
        head.used = ~std::uint64_t{0};
        CHECK(error_of([&] { (void)shop.mine.allocate(1); }) == EPROTO);
    }
}

namespace {

// A liar's roots: each in a granule of its own, the first one at `first`, followed by one
// allocation that takes all the rest.
struct false_roots {
    false_roots(endpoint& end, std::uint64_t from, std::uint64_t count, std::uint64_t last)
        : first(from), data(end.data().data()), bitmaps(heap_geometry_of(end.data().size(), page)) {
        for (std::uint64_t granule = first; granule < last; ++granule) {
            set(0, granule);
            if (granule < first + count) set(1, granule);
        }
        for (std::uint64_t i = 0; i < count; ++i) {
            heap_root& made = at(i);
            made.next = i + 1 < count ? (first + i + 1) * heap_granule : 0;
            made.builder = heap_identity(7, 1);  // nobody
            made.serial = i + 1000;
            made.object = sizeof(heap_root) + 4;
            made.name_bytes = 4;
        }
        for (shared_u64& bucket : header_of(end).roots) bucket = first * heap_granule;
        header_of(end).used = last - first;
        header_of(end).blocks = count;
    }
    heap_root& at(std::uint64_t i) const {
        return *reinterpret_cast<heap_root*>(data + (first + i) * heap_granule);
    }
    void set(unsigned bitmap, std::uint64_t granule) const {
        reinterpret_cast<shared_u64*>(data + bitmaps.bitmap(bitmap))[granule / 64] |=
            std::uint64_t{1} << granule % 64;
    }

    std::uint64_t first;
    std::byte* data;
    heap_geometry bitmaps;
};

}  // namespace

TEST_CASE("roots that lead nowhere take no longer than DATA is large", "[heap][hostile]") {
    // With work for each pair of granules, this would not come to its end while a child is
    // waited for.
    const std::uint64_t bytes = 64 << 20;
    store shop(bytes);
    const std::uint64_t first = heap_geometry_of(bytes, page).first;
    const std::uint64_t last = bytes / heap_granule;
    SECTION("a circle") {
        const false_roots lies(shop.end, first, 1, last);
        lies.at(0).next = first * heap_granule;
        child searcher([&] {
            visitor other(shop.name);
            for (int i = 0; i < 10; ++i) {
                EXPECT_CHILD(error_of([&] { (void)other.theirs.find<int>("four"); }) == EPROTO);
                EXPECT_CHILD(error_of([&] { (void)other.theirs.check(); }) == EPROTO);
            }
            return 0;
        });
        CHECK(searcher.wait().exited());
    }
    SECTION("many that their makers have left") {
        const std::uint64_t count = 50'000;
        const false_roots lies(shop.end, first, count, last);
        for (shared_u64& bucket : header_of(shop.end).roots) bucket = 0;
        header_of(shop.end).roots[5] = first * heap_granule;
        child searcher([&] {
            visitor other(shop.name);
            EXPECT_CHILD(other.theirs.reclaim() == count);
            EXPECT_CHILD(other.theirs.check().roots == 0);
            return 0;
        });
        CHECK(searcher.wait().exited());
    }
    CHECK(header_of(shop.end).lock == 0);
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
