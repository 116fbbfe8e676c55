// SPDX-License-Identifier: MIT
// The cursors of a byte stream: room and bytes at every offset of small rings, who is
// asked to ring and when, and two threads that pass bytes with a semaphore for a
// doorbell. What TSan can see of the memory order, it sees here.
#include <algorithm>
#include <cstdint>
#include <thread>

#include "support/catch.hpp"
#include "unit/bell.hpp"
#include "unit/stream_pair.hpp"

using namespace ipcdoor;
using test::bell;
using test::stream_pair;

TEST_CASE("a stream's cursors carry every amount across the end of every small ring",
          "[stream][cursor]") {
    for (const std::uint64_t capacity : {1, 2, 3, 5, 7, 8, 13, 64, 100}) {
        stream_pair stream(capacity);
        REQUIRE(stream.capacity == capacity);
        std::uint64_t wrong = 0;
        std::uint64_t passed = 0;
        // Every amount from every offset: 1, 2, …, capacity, 1, …
        for (std::uint64_t amount = 1; passed < 40 * capacity * (capacity + 1);
             amount = amount % capacity + 1) {
            REQUIRE(stream.producer.room(capacity) == capacity);
            REQUIRE(stream.put(passed, amount) == amount);
            CHECK(stream.consumer.readable() == 0);  // not published
            (void)stream.producer.publish();
            REQUIRE(stream.take(passed, capacity, wrong) == amount);
            // Not given back yet.
            if (amount == capacity) CHECK(stream.producer.room(1) == 0);
            (void)stream.consumer.publish();
            passed += amount;
        }
        CHECK(wrong == 0);
        CHECK(stream.consumer.readable() == 0);
    }
}

TEST_CASE("a stream's producer is woken when what it needs is there, and once",
          "[stream][cursor]") {
    stream_pair stream(10);
    std::uint64_t wrong = 0;
    REQUIRE(stream.put(0, 99) == 10);
    (void)stream.producer.publish();
    REQUIRE(stream.producer.arm(4));
    for (int i = 0; i < 3; ++i) {
        REQUIRE(stream.take(0, 1, wrong) == 1);
        CHECK_FALSE(stream.consumer.publish());
    }
    REQUIRE(stream.take(0, 1, wrong) == 1);
    CHECK(stream.consumer.publish());
    REQUIRE(stream.take(0, 1, wrong) == 1);
    CHECK_FALSE(stream.consumer.publish());
    CHECK_FALSE(stream.producer.arm(4));
    CHECK(stream.from().output.armed == 0);
    // For everything: until nothing is left to read.
    REQUIRE(stream.producer.arm(10));
    REQUIRE(stream.take(0, 4, wrong) == 4);
    CHECK_FALSE(stream.consumer.publish());
    REQUIRE(stream.take(0, 4, wrong) == 1);
    CHECK(stream.consumer.publish());
    CHECK(stream.producer.room(10) == 10);
}

TEST_CASE("a stream's consumer is woken when what it needs is there, and once",
          "[stream][cursor]") {
    stream_pair stream(10);
    REQUIRE(stream.consumer.arm(3));
    REQUIRE(stream.put(0, 2) == 2);
    CHECK_FALSE(stream.producer.publish());
    REQUIRE(stream.put(0, 1) == 1);
    CHECK(stream.producer.publish());
    REQUIRE(stream.put(0, 1) == 1);
    CHECK_FALSE(stream.producer.publish());
    CHECK_FALSE(stream.consumer.arm(3));
    CHECK(stream.to().input.armed == 0);
    CHECK(stream.consumer.readable() == 4);
}

TEST_CASE("cursors of records keep to their alignment", "[stream][cursor]") {
    ring_output output{};
    ring_input input{};
    detail::producer_cursor<8> producer("ring", output, 64, input);
    detail::consumer_cursor<8> consumer("ring", input, 64, output);
    producer.advance(16);
    CHECK_FALSE(producer.publish());
    CHECK(consumer.readable() == 16);
    consumer.advance(8);
    CHECK_FALSE(consumer.publish());
    CHECK(producer.room(64) == 56);

    output.tail = 20;
    CHECK_THROWS_AS(consumer.look(), error);
    CHECK(consumer.poisoned());
    input.head = 12;
    CHECK_THROWS_AS(producer.room(64), error);
    CHECK(producer.poisoned());
}

TEST_CASE("two threads hammer small streams without a lost byte or wake-up",
          "[stream][cursor][threads]") {
    constexpr std::uint64_t count = 300'000;
    for (const std::uint64_t capacity : {1, 7, 64, 1000}) {
        CAPTURE(capacity);
        stream_pair stream(capacity);
        bell data;
        bell space;
        const std::uint64_t total = capacity == 1 ? count / 10 : count;
        std::thread writer([&] {
            for (std::uint64_t sent = 0; sent < total;) {
                const std::uint64_t bytes =
                    stream.put(sent, std::min<std::uint64_t>(total - sent, 1 + sent % 97));
                sent += bytes;
                if (stream.producer.publish()) data.ring();
                if (bytes == 0 && stream.producer.arm(std::max<std::uint64_t>(1, capacity / 2)))
                    space.wait();
            }
        });
        std::uint64_t wrong = 0;
        for (std::uint64_t read = 0; read < total;) {
            const std::uint64_t bytes = stream.take(read, 1 + read % 61, wrong);
            read += bytes;
            if (stream.consumer.publish()) space.ring();
            if (bytes == 0 && stream.consumer.arm()) data.wait();
        }
        writer.join();
        CHECK(wrong == 0);
        CHECK(stream.consumer.look() == 0);
        CHECK(stream.producer.room(capacity) == capacity);
    }
}

TEST_CASE("nobody rings while the other side of a stream is awake", "[stream][cursor]") {
    stream_pair stream(1000);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < 500; ++i) {
        REQUIRE(stream.put(i, 1) == 1);
        CHECK_FALSE(stream.producer.publish());
        REQUIRE(stream.take(i, 1, wrong) == 1);
        CHECK_FALSE(stream.consumer.publish());
    }
    CHECK(wrong == 0);
}
