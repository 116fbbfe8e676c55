// SPDX-License-Identifier: MIT
// The heap: allocations and named objects that processes share, and what becomes of them
// when one dies or lies.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/heap.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t page = 4096;

create_options data_of(std::uint64_t bytes, std::uint64_t most = 0) {
    create_options wanted;
    wanted.data_bytes = bytes;
    wanted.max_data_bytes = most;
    wanted.slots = 8;
    wanted.source = source();
    return wanted;
}

// A segment, and heaps in it by further endpoints of this process.
struct store {
    explicit store(std::uint64_t bytes = 64 * page, std::uint64_t most = 0,
                   const heap_options& options = {})
        : name(unique_name()),
          at(test_door()),
          end(at.create(name, data_of(bytes, most))),
          mine(end, options) {}

    std::string name;
    door at;
    endpoint end;
    heap mine;
};

// In any process.
struct visitor {
    explicit visitor(const std::string& name, const heap_options& options = {})
        : at(test_door()), end(at.attach(name)), theirs(end, options) {}
    door at;
    endpoint end;
    heap theirs;
};

void fill(void* memory, std::size_t bytes, unsigned number) {
    std::memset(memory, static_cast<int>(number * 37 + 1), bytes);
}
bool holds(const void* memory, std::size_t bytes, unsigned number) {
    const auto* const all = static_cast<const unsigned char*>(memory);
    return std::all_of(all, all + bytes, [number](unsigned char byte) {
        return byte == static_cast<unsigned char>(number * 37 + 1);
    });
}

heap_header& header_of(endpoint& end) { return *reinterpret_cast<heap_header*>(end.data().data()); }

struct two_numbers {
    std::uint64_t first = 1;
    std::uint64_t second = 2;
};

}  // namespace

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

// ---- named objects ----

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

// ---- owners ----

TEST_CASE("owned allocations go with their process, shared ones stay", "[heap][fork]") {
    store shop;
    const shared<std::atomic<std::uint64_t>> kept;
    const gate ready;
    child owner([&] {
        visitor other(shop.name);
        (void)other.theirs.allocate_owned(100);
        (void)other.theirs.allocate_owned(1000, 1024);
        void* const given = other.theirs.allocate_owned(200);
        fill(given, 200, 5);
        other.theirs.share(given);
        *kept = other.theirs.offset_of(given);
        (void)other.theirs.allocate(300);
        const_cast<gate&>(ready).open();
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

// ---- the lock ----

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
        std::atomic<int> tid{0};
        std::thread waiter([&] {
            tid = static_cast<int>(::gettid());
            void* const got = shop.mine.allocate(1, 1, soon);
            shop.mine.deallocate(got);
        });
        while (tid == 0) std::this_thread::yield();
        while (header_of(shop.end).waiting[0].load() == 0) std::this_thread::yield();
        wait_thread_asleep(::getpid(), tid);
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
    std::atomic<int> tid{0};
    std::thread waiter([&] {
        tid = static_cast<int>(::gettid());
        mine.deallocate(mine.allocate(1, 1, soon));
    });
    while (tid == 0) std::this_thread::yield();
    wait_thread_asleep(::getpid(), tid);
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
}

TEST_CASE("a child has no heap", "[heap][fork]") {
    store shop;
    child forked([&] { return error_of([&] { (void)shop.mine.reclaim(); }) == EPERM ? 0 : 1; });
    CHECK(forked.wait().exited());
    shop.mine.deallocate(shop.mine.allocate(1));
}

// ---- liars ----

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
    std::atomic<bool> done{false};
    std::thread liar([&] {
        std::mt19937_64 random(99);
        auto* const words = reinterpret_cast<shared_u64*>(other.end.data().data());
        while (!done) {
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
        }
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
    done = true;
    liar.join();
    for (const int code : seen) {
        INFO(code);
        CHECK(std::set<int>{0, EPROTO, ENOMEM, EINVAL, ETIMEDOUT, EPROTOTYPE, EBUSY, EDEADLK}.count(
                  code) == 1);
    }
}

// ---- allocators ----

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
