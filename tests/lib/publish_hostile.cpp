// SPDX-License-Identifier: MIT
// Publish and subscribe: peers that break the protocol harm nobody else.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/false_publisher.hpp"
#include "lib/lib_support.hpp"
#include "lib/publish_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A subscriber that writes what it likes into its slot.
struct false_reader {
    explicit false_reader(newspaper& news) : end(news.at.connect(news.name, soon)), giver(1) {
        mine = reinterpret_cast<subscriber_slot*>(end.memory().data());
    }
    void greet(newspaper& news) {
        mine->descriptor_socket.store(giver.word());
        mine->version_min.store(1);
        mine->version_max.store(1);
        mine->magic.store(subscribe_magic);
        const auto before = news.paper.subscribers();
        news.poll_until([&] {
            end.ring(1 - end.slot(), detail::hello_vector);
            return news.paper.subscribers() != before;
        });
    }

    endpoint end;
    detail::descriptor_receiver giver;
    subscriber_slot* mine;
};

// A false one connects while the publisher accepts.
false_reader intruder(newspaper& news) {
    return let_in(news.paper, [&] { return false_reader(news); });
}

}  // namespace

TEST_CASE("a subscriber that writes into a sample is ended, and the others see nothing of it",
          "[publish][hostile][fork]") {
    newspaper news;
    subscriber honest = news.subscribe();
    gate held;
    const auto bad_reader = [&](const std::function<void(std::byte*)>& write) {
        return child([&] {
            ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it
            door at = test_door();
            subscriber mine(at, news.name, {}, soon);
            const sample got = mine.take(soon);
            held.open();
            write(const_cast<std::byte*>(got.bytes().data()));
            return 0;
        });
    };
    bool faults = false;
    child bad;
    SECTION("by a store") {
        faults = true;
        bad = bad_reader([](std::byte* at) { *static_cast<volatile std::byte*>(at) = {}; });
    }
    SECTION("by way of /proc") {
        bad = bad_reader([](std::byte* at) {
            const owned_fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
            EXPECT_CHILD(memory);
            char zero = 0;
            EXPECT_CHILD(::pwrite(memory.get(), &zero, 1,
                                  static_cast<off_t>(reinterpret_cast<std::uintptr_t>(at))) < 0);
        });
    }
    news.poll_until([&] { return news.paper.subscribers() == 2; });
    news.paper.publish(pattern(1, 64));
    const sample got = honest.take(soon);
    held.wait();
    CHECK((faults ? bad.wait().signaled(SIGSEGV) : bad.wait().exited()));
    CHECK(text(got) == pattern(1, 64));
    news.paper.publish(pattern(2, 64));
    CHECK(text(honest.take(soon)) == pattern(2, 64));
}

TEST_CASE("a subscriber that lies is dropped alone", "[publish]") {
    newspaper news({.queue = 4, .max_loans = 1, .chunks = 8});
    subscriber honest = news.subscribe();
    auto liar = intruder(news);
    std::uint64_t broken = 1;

    SECTION("about what it is") {
        liar.mine->version_min.store(2);
        liar.mine->version_max.store(1);
        liar.mine->magic.store(subscribe_magic);
        liar.end.ring(1 - liar.end.slot(), detail::hello_vector);
    }
    SECTION("with the magic of something else") {
        liar.mine->magic.store(message_magic);
        liar.end.ring(1 - liar.end.slot(), detail::hello_vector);
    }
    SECTION("about its socket") {
        liar.mine->version_min.store(1);
        liar.mine->version_max.store(1);
        liar.mine->descriptor_socket.store(~std::uint64_t{0});
        liar.mine->magic.store(subscribe_magic);
        liar.end.ring(1 - liar.end.slot(), detail::hello_vector);
    }
    SECTION("about what it has taken") {
        liar.greet(news);
        liar.mine->head.store(1000);
    }
    SECTION("and gives back what it has taken") {
        liar.greet(news);
        for (std::uint64_t i = 1; i <= 4; ++i) news.paper.publish(i);
        for (int i = 0; i < 4; ++i) static_cast<void>(honest.take(soon));
        liar.mine->head.store(3);
        news.paper.publish(std::uint64_t{5});
        static_cast<void>(honest.take(soon));
        liar.mine->head.store(2);
    }
    SECTION("about what it holds") {
        liar.greet(news);
        liar.mine->holds[3].store(9);
    }
    SECTION("by saying nothing") { broken = 0; }
    SECTION("by holding and never reading") {
        liar.greet(news);
        liar.mine->holds[0].store(1);
        liar.mine->holds[1].store(2);
        broken = 0;
    }
    const auto before = news.paper.stats().published;
    for (std::uint64_t i = 1; i <= 100; ++i) {
        news.paper.publish(pattern(i, 64), soon);
        const sample got = honest.take(soon);
        REQUIRE(got.sequence() == before + i);
        REQUIRE(text(got) == pattern(i, 64));
    }
    news.poll_until([&] { return news.paper.stats().broken >= broken; });
    CHECK(news.paper.stats().broken == broken);
    CHECK(honest.stats().dropped == 0);
}

TEST_CASE("a subscriber that comes and goes by its flag keeps no more than its share",
          "[publish][hostile]") {
    // By default there are chunks for whatever the subscribers do.
    newspaper news({.queue = 16, .max_held = 4, .max_loans = 1, .max_subscribers = 2});
    subscriber honest = news.subscribe();
    auto liar = intruder(news);
    liar.greet(news);
    // Its queue would keep what it held when it closed, and not the others' latest.
    for (std::uint64_t i = 1; i <= 100; ++i) {
        liar.mine->closed.store(0);
        std::optional<loan> next = news.paper.try_lend();
        REQUIRE(next);
        if (i > 16) liar.mine->closed.store(1);
        REQUIRE(news.paper.try_publish(std::move(*next)) == i);
    }
    for (std::uint64_t i = 85; i <= 100; ++i) CHECK(honest.take(soon).sequence() == i);
}

TEST_CASE("whatever a subscriber writes, lending never waits and the others get all",
          "[publish][hostile][threads]") {
    newspaper news({.queue = 4, .max_held = 2, .max_loans = 1, .max_subscribers = 2});
    subscriber honest = news.subscribe();
    auto liar = intruder(news);
    liar.greet(news);
    vandal writer([&](xorshift64& random) {
        const std::uint64_t x = random();
        liar.mine->holds[x % publish_max_held].store(static_cast<std::uint32_t>(x >> 32) %
                                                     (news.paper.chunks() + 1));
        liar.mine->closed.store(x >> 8 & 1);
        liar.mine->armed.store(x >> 9 & 63);
        if (x % 8 == 0)
            static_cast<void>(
                ipcdoor_ring(liar.end.get(), 1 - liar.end.slot(), 0, 1 + x / 8 % 8, x));
    });
    const std::uint64_t count = scaled(5'000);
    for (std::uint64_t i = 1; i <= count; ++i) {
        std::optional<loan> next = news.paper.try_lend();
        REQUIRE(next);
        next->emplace<std::uint64_t>(i);
        REQUIRE(news.paper.try_publish(std::move(*next)) == i);
        REQUIRE(honest.take(soon).as<std::uint64_t>() == i);
    }
    writer.stop();
    CHECK(honest.stats().dropped == 0);
}

TEST_CASE("what a subscriber that lies has held wakes who waits for it", "[publish][hostile]") {
    newspaper news({.queue = 1, .max_held = 4, .max_loans = 2, .chunks = 3});
    auto liar = intruder(news);
    liar.greet(news);
    loan other = news.paper.lend();
    for (std::uint32_t chunk = 1; chunk <= 3; ++chunk) liar.mine->holds[chunk].store(chunk);
    std::atomic<bool> needs_more{false};
    std::atomic<bool> lent{false};
    // Those that were free are lent first.
    blocking_thread waiting([&] {
        static_cast<void>(news.paper.publish(news.paper.lend()));
        static_cast<void>(news.paper.publish(news.paper.lend()));
        needs_more = true;
        static_cast<void>(news.paper.lend());
        lent = true;
    });
    spin_until([&] { return needs_more.load(); });
    waiting.wait_asleep();
    CHECK_FALSE(lent);
    // Found out by another thread, which does not wait.
    liar.mine->head.store(1000);
    news.paper.publish(std::move(other));
    const auto limit = std::chrono::steady_clock::now() + soon;
    while (!lent && std::chrono::steady_clock::now() < limit) std::this_thread::sleep_for(1ms);
    CHECK(lent);
    CHECK(news.paper.stats().broken == 1);
    if (!lent) intruder(news);  // ends the wait
    waiting.join();
}

TEST_CASE("a publisher whose header is impossible is refused", "[publish]") {
    false_publisher liar;
    int expected = EPROTO;
    SECTION("magic") {
        liar.serve([](publisher_slot& slot) { slot.version_max.store(0); });
    }
    SECTION("version") {
        liar.serve([](publisher_slot& slot) {
            slot.version_min.store(7);
            slot.version_max.store(9);
        });
        expected = EPROTONOSUPPORT;
    }
    SECTION("chunks") {
        liar.serve([](publisher_slot& slot) { slot.chunks.store(5); });
    }
    SECTION("no chunks") {
        liar.serve([](publisher_slot& slot) { slot.chunks.store(0); });
    }
    SECTION("chunk size") {
        liar.serve([](publisher_slot& slot) { slot.chunk_bytes.store(~std::uint64_t{0}); });
    }
    SECTION("pool size") {
        liar.serve([](publisher_slot& slot) { slot.pool_bytes.store(1 << 20); });
    }
    SECTION("queue") {
        liar.serve([](publisher_slot& slot) { slot.queue_capacity.store(4096); });
    }
    SECTION("holds") {
        liar.serve([](publisher_slot& slot) { slot.max_held.store(257); });
    }
    SECTION("another packet's number") {
        liar.serve([](publisher_slot& slot) { slot.pool_token.store(99); });
    }
    CHECK(error_of([&] { subscriber(liar.at, liar.name, {}, soon); }) == expected);
}

TEST_CASE("a publisher that could take its pages away is refused", "[publish]") {
    false_publisher liar;
    liar.pool = memory(1);
    liar.serve([](publisher_slot& slot) { slot.pool_bytes.store(4 * 4096); });
    CHECK(error_of([&] { subscriber(liar.at, liar.name, {}, soon); }) == EPROTO);
}

TEST_CASE("a publisher that lies in its queue is found out", "[publish]") {
    false_publisher liar;
    liar.serve([](publisher_slot&) {});
    subscriber reader(liar.at, liar.name, {}, soon);
    liar.serving.join();
    liar.put(0, 10);
    CHECK(reader.take(soon).size() == 10);
    SECTION("a chunk that is none") { liar.put(4, 10); }
    SECTION("more than a chunk") { liar.put(0, 4097); }
    SECTION("a tail beyond its queue") { liar.mine->tail.store(1000); }
    SECTION("a tail that goes back") { liar.mine->tail.store(0); }
    SECTION("a floor beyond the tail") { liar.mine->floor.store(50); }
    CHECK(error_of([&] { static_cast<void>(reader.try_take()); }) == EPROTO);
    CHECK(error_of([&] { static_cast<void>(reader.take(soon)); }) == EPROTO);
}

TEST_CASE("a publisher that never greets makes its subscriber's deadline pass", "[publish]") {
    door at = test_door();
    const std::string name = unique_name();
    listener silent = at.listen(name, {.slot_bytes = publish_slot_bytes(16), .source = source()});
    endpoint accepted;
    std::thread accepting([&] { accepted = silent.accept(soon); });
    CHECK(error_of([&] { subscriber(at, name, {}, 300ms); }) == ETIMEDOUT);
    accepting.join();
}
