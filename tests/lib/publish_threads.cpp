// SPDX-License-Identifier: MIT
// Publish and subscribe: several threads at one publisher or subscriber.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/lib_support.hpp"
#include "lib/publish_support.hpp"
#include "support/catch.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("block: a long stream loses nothing", "[publish]") {
    newspaper news({.queue = 8, .max_held = 2, .slow = slow_subscriber::block});
    std::vector<subscriber> readers;
    for (int i = 0; i < 3; ++i) readers.push_back(news.subscribe());
    const std::uint64_t count = scaled(20'000);
    std::vector<std::thread> reading;
    for (subscriber& reader : readers) {
        reading.emplace_back([&reader, count] {
            for (std::uint64_t i = 1; i <= count; ++i) {
                const sample got = reader.take(soon);
                CHECK_IN_THREAD(got.sequence() == i);
                CHECK_IN_THREAD(got.as<std::uint64_t>() == i * 3);
            }
        });
    }
    for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(i * 3, soon);
    for (std::thread& thread : reading) thread.join();
    CHECK(news.paper.stats().dropped == 0);
}

TEST_CASE("drop_oldest against takers that never stop: no sample is torn or comes twice",
          "[publish]") {
    newspaper news({.chunk_bytes = 512, .queue = 2, .max_held = 2});
    subscriber reader = news.subscribe();
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> taken{0};
    std::thread reading([&] {
        std::uint64_t last = 0;
        for (;;) {
            const bool over = done;
            const std::optional<sample> got = reader.try_take();
            if (!got) {
                if (over) return;
                continue;
            }
            CHECK_IN_THREAD(got->sequence() > last);
            last = got->sequence();
            CHECK_IN_THREAD(text(*got) == pattern(last, 512));
            ++taken;
        }
    });
    const std::uint64_t count = scaled(20'000);
    for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(pattern(i, 512));
    done = true;
    reading.join();
    CHECK(taken == reader.stats().taken);
    CHECK(taken + reader.stats().dropped == count);
}

TEST_CASE("publish() that waits is woken although another thread polls", "[publish]") {
    newspaper news({.queue = 1, .slow = slow_subscriber::block});
    subscriber reader = news.subscribe();
    const std::uint64_t count = scaled(5'000);
    std::atomic<bool> done{false};
    std::thread polling([&] {
        while (!done) news.paper.poll();
    });
    std::thread publishing([&] {
        for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(i, forever);
    });
    for (std::uint64_t i = 1; i <= count; ++i) REQUIRE(reader.take(forever).sequence() == i);
    publishing.join();
    done = true;
    polling.join();
}

TEST_CASE("a thread that waits for a chunk gets what the others leave", "[publish][threads]") {
    newspaper news({.queue = 1, .max_held = 4, .max_loans = 2, .chunks = 3});
    subscriber reader = news.subscribe();
    std::vector<sample> held;
    const auto publish_and_take = [&](std::uint64_t i) {
        news.paper.publish(i);
        held.push_back(reader.take(soon));
    };
    publish_and_take(1);
    std::optional<loan> other;
    SECTION("a loan that is dropped") {
        publish_and_take(2);
        other.emplace(news.paper.lend());
    }
    SECTION("a sample that is taken back from the queue") {
        news.paper.publish(std::uint64_t{2});
        other.emplace(news.paper.lend());
    }
    const bool publishes = held.size() == 1;

    std::atomic<bool> lent{false};
    blocking_thread waiting([&] {
        static_cast<void>(news.paper.lend());
        lent = true;
    });
    waiting.wait_asleep();
    CHECK_FALSE(lent);
    if (publishes)
        news.paper.publish(std::move(*other));
    else
        other.reset();
    const auto limit = std::chrono::steady_clock::now() + soon;
    while (!lent && std::chrono::steady_clock::now() < limit) std::this_thread::sleep_for(1ms);
    CHECK(lent);
    held.clear();  // wakes it in any case
    waiting.join();
}

TEST_CASE("several threads share one subscriber's samples", "[publish]") {
    newspaper news({.queue = 16, .max_held = 8, .slow = slow_subscriber::block});
    subscriber reader = news.subscribe();
    const std::uint64_t count = scaled(4'000);
    std::vector<std::atomic<int>> seen(count + 1);
    std::vector<std::thread> reading;
    std::atomic<std::uint64_t> left{count};
    for (int i = 0; i < 4; ++i) {
        reading.emplace_back([&] {
            for (;;) {
                try {
                    const sample got = reader.take(soon);
                    ++seen[got.sequence()];
                    --left;
                } catch (const error& wrong) {
                    CHECK_IN_THREAD(wrong.is_peer_death());
                    return;
                }
            }
        });
    }
    {
        const publisher ends = [&] {
            for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(i, soon);
            return std::move(news.paper);
        }();
        while (left != 0) std::this_thread::sleep_for(1ms);
    }
    for (std::thread& thread : reading) thread.join();
    CHECK(std::all_of(seen.begin() + 1, seen.end(), [](const auto& times) { return times == 1; }));
}

TEST_CASE("several threads publish through one publisher", "[publish]") {
    newspaper news({.queue = 8, .max_loans = 4, .slow = slow_subscriber::block});
    subscriber reader = news.subscribe();
    const std::uint64_t each = scaled(2'000);
    std::vector<std::thread> writing;
    for (std::uint64_t writer = 0; writer < 4; ++writer) {
        writing.emplace_back([&news, writer, each] {
            for (std::uint64_t i = 1; i <= each; ++i) news.paper.publish(writer << 32 | i, soon);
        });
    }
    std::uint64_t last[4] = {};
    for (std::uint64_t i = 1; i <= 4 * each; ++i) {
        const sample got = reader.take(soon);
        REQUIRE(got.sequence() == i);
        const auto value = got.as<std::uint64_t>();
        REQUIRE(value >> 32 < 4);
        REQUIRE((value & 0xffffffff) == ++last[value >> 32]);
    }
    for (std::thread& thread : writing) thread.join();
}
