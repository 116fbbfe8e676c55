// SPDX-License-Identifier: MIT
// Named objects in a heap: found by all, constructed once.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/heap.hpp>

#include "lib/heap_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

struct two_numbers {
    std::uint64_t first = 1;
    std::uint64_t second = 2;
};

}  // namespace

TEST_CASE("a named object is the same one for all", "[heap][root]") {
    store shop;
    visitor other(shop.name);
    CHECK(shop.mine.find<two_numbers>("numbers") == nullptr);
    auto* const mine = shop.mine.find_or_construct<two_numbers>("numbers");
    CHECK(mine->second == 2);
    mine->second = 3;
    auto* const theirs = other.theirs.find_or_construct<two_numbers>("numbers");
    CHECK(theirs != mine);
    CHECK(theirs->second == 3);
    CHECK(other.theirs.offset_of(theirs) == shop.mine.offset_of(mine));
    CHECK(error_of([&] { (void)other.theirs.find<int>("numbers"); }) == EPROTOTYPE);
    CHECK(error_of([&] { (void)other.theirs.find_or_construct<int>("numbers"); }) == EPROTOTYPE);
    CHECK(other.theirs.find<two_numbers>("number") == nullptr);
    CHECK(*other.theirs.find_or_construct<int>("", 5) == 5);
    CHECK(shop.mine.check().roots == 2);
    CHECK(error_of([&] { shop.mine.deallocate(mine); }) == EINVAL);
    CHECK(other.theirs.destroy<two_numbers>("numbers"));
    CHECK_FALSE(other.theirs.destroy<two_numbers>("numbers"));
    CHECK(shop.mine.find<two_numbers>("numbers") == nullptr);
    CHECK(shop.mine.destroy<int>(""));
    CHECK(shop.mine.check().blocks == 0);
}

TEST_CASE("many names, of all lengths and alignments", "[heap][root]") {
    store shop(64 * page, 1024 * page);
    struct alignas(256) wide {
        std::uint64_t value;
    };
    for (unsigned i = 0; i < 500; ++i) {
        const std::string name = std::to_string(i) + std::string(i % 250, 'n');
        auto* const made = shop.mine.find_or_construct<wide>(name, wide{i});
        CHECK(reinterpret_cast<std::uintptr_t>(made) % 256 == 0);
    }
    CHECK(shop.mine.check().roots == 500);
    for (unsigned i = 0; i < 500; i += 3)
        CHECK(shop.mine.destroy<wide>(std::to_string(i) + std::string(i % 250, 'n')));
    for (unsigned i = 0; i < 500; ++i) {
        auto* const found = shop.mine.find<wide>(std::to_string(i) + std::string(i % 250, 'n'));
        CHECK((found == nullptr) == (i % 3 == 0));
        if (found != nullptr) CHECK(found->value == i);
    }
    CHECK(shop.mine.check().roots == 333);
}

TEST_CASE("one constructs, the others wait for it", "[heap][root][fork][threads]") {
    store shop;
    const shared<std::atomic<int>> made;
    struct slow {
        explicit slow(std::atomic<int>& count) {
            ++count;
            std::this_thread::sleep_for(50ms);
            ready = 77;
        }
        std::atomic<int> ready{0};
    };
    std::vector<child> children;
    for (int c = 0; c < 3; ++c)
        children.emplace_back([&] {
            visitor other(shop.name);
            return other.theirs.find_or_construct<slow>("slow", *made)->ready == 77 ? 0 : 1;
        });
    std::vector<std::thread> threads;
    std::atomic<int> good{0};
    for (int t = 0; t < 3; ++t)
        threads.emplace_back(
            [&] { good += shop.mine.find_or_construct<slow>("slow", *made)->ready == 77 ? 1 : 0; });
    for (std::thread& each : threads) each.join();
    for (child& each : children) CHECK(each.wait().exited());
    CHECK(good == 3);
    CHECK(made->load() == 1);
}

TEST_CASE("a constructor that throws leaves nothing", "[heap][root]") {
    store shop;
    struct fails {
        explicit fails(heap& at) {
            (void)at.allocate(500);
            throw std::runtime_error("no");
        }
    };
    CHECK_THROWS_AS(shop.mine.find_or_construct<fails>("fails", shop.mine), std::runtime_error);
    CHECK(shop.mine.check().blocks == 0);
    struct itself {
        explicit itself(heap& at) { (void)at.find_or_construct<itself>("itself", at); }
    };
    CHECK(error_of([&] { (void)shop.mine.find_or_construct<itself>("itself", shop.mine); }) ==
          EDEADLK);
    CHECK(shop.mine.check().blocks == 0);
    // What a constructor that succeeded has allocated stays.
    struct keeps {
        explicit keeps(heap& at) : memory(static_cast<char*>(at.allocate(500))) {}
        offset_ptr<char> memory;
    };
    auto* const kept = shop.mine.find_or_construct<keeps>("keeps", shop.mine);
    CHECK(shop.mine.reclaim() == 0);
    CHECK(shop.mine.check().blocks == 2);
    shop.mine.deallocate(kept->memory.get());
    CHECK(shop.mine.destroy<keeps>("keeps"));
    CHECK(shop.mine.check().blocks == 0);
}

TEST_CASE("an object whose maker was killed is nobody's", "[heap][root][fork][death]") {
    store shop;
    const shared<std::atomic<std::uint64_t>> inside;
    struct unfinished {
        unfinished() = default;
        unfinished(heap& at, std::atomic<std::uint64_t>& count) {
            (void)at.allocate(500);
            ++count;
            for (;;) std::this_thread::sleep_for(soon);
        }
    };
    for (std::uint64_t round = 1; round <= 3; ++round) {
        child maker([&] {
            visitor other(shop.name);
            (void)other.theirs.find_or_construct<unfinished>("object", other.theirs, *inside);
            return 1;
        });
        spin_until([&] { return *inside == round; });
        CHECK(shop.mine.find<unfinished>("object") == nullptr);
        maker.kill();
        CHECK(maker.wait().signaled(9));
        switch (round) {
            case 1: CHECK(shop.mine.find<unfinished>("object") == nullptr); break;
            case 2: CHECK_FALSE(shop.mine.destroy<unfinished>("object")); break;
            default:
                CHECK(shop.mine.find_or_construct<unfinished>("object") != nullptr);
                CHECK(shop.mine.destroy<unfinished>("object"));
        }
        CHECK(shop.mine.statistics().reclaimed == 2 * round);
        CHECK(shop.mine.check().blocks == 0);
    }
}

TEST_CASE("what another thread allocates meanwhile is not the constructor's", "[heap][root]") {
    store shop;
    void* const owned = shop.mine.allocate_owned(10);
    void* meanwhile = nullptr;
    struct fails {
        fails(heap& at, void*& other) {
            (void)at.allocate(500);
            std::thread([&] { other = at.allocate(500); }).join();
            throw std::runtime_error("no");
        }
    };
    CHECK_THROWS_AS(shop.mine.find_or_construct<fails>("fails", shop.mine, meanwhile),
                    std::runtime_error);
    CHECK(shop.mine.check().blocks == 2);
    shop.mine.deallocate(meanwhile);
    shop.mine.deallocate(owned);
    CHECK(shop.mine.check().blocks == 0);
}

TEST_CASE("an object of more than 4 GiB has no room", "[heap][root]") {
    store shop;
    struct huge {
        char bytes[std::uint64_t{5} << 30];
    };
    CHECK(error_of([&] { (void)shop.mine.find<huge>("huge"); }) == ENOMEM);
}

TEST_CASE("who waits for an object that is never done, waits until its deadline", "[heap][root]") {
    store shop(64 * page, 0, {.patience = 50ms});
    visitor other(shop.name);
    struct waits {
        explicit waits(const std::function<void()>& body) { body(); }
    };
    int inside = 0;
    (void)other.theirs.find_or_construct<waits>("waits", [&] {
        const std::function<void()> nothing = [] {};
        inside = error_of([&] { (void)shop.mine.find_or_construct<waits>("waits", nothing); });
        CHECK(shop.mine.find<waits>("waits") == nullptr);
        CHECK(error_of([&] { (void)shop.mine.destroy<waits>("waits"); }) == EBUSY);
    });
    CHECK(inside == ETIMEDOUT);
    CHECK(shop.mine.find<waits>("waits") != nullptr);
}
