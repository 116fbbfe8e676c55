// SPDX-License-Identifier: MIT
// The ring between two honest sides in one thread: records, room, arming.
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "support/catch.hpp"
#include "support/error_of.hpp"
#include "unit/ring_pair.hpp"

using namespace ipcdoor;
using test::error_of;
using test::is_pattern;
using test::pattern;
using test::ring_pair;

TEST_CASE("a ring hands records over in order, with type, flags and content", "[ring]") {
    ring_pair ring;
    REQUIRE(ring.producer.push(pattern(1, 5), 7, 0x8001));
    REQUIRE(ring.producer.push(pattern(2, 64), 0xfffe, 0));
    CHECK_FALSE(ring.consumer.peek());  // not published yet
    CHECK_FALSE(ring.producer.publish());

    auto record = ring.consumer.peek();
    REQUIRE(record);
    CHECK(record->type == 7);
    CHECK(record->flags == 0x8001);
    CHECK(record->payload.size() == 5);
    CHECK(is_pattern(record->payload, 1));
    ring.consumer.consume();
    record = ring.consumer.peek();
    REQUIRE(record);
    CHECK(record->type == 0xfffe);
    CHECK(record->payload.size() == 64);
    CHECK(is_pattern(record->payload, 2));
    ring.consumer.consume();
    CHECK_FALSE(ring.consumer.peek());
}

TEST_CASE("a ring keeps records of zero bytes apart", "[ring]") {
    ring_pair ring;
    for (int i = 0; i < 3; ++i) REQUIRE(ring.producer.push({}, static_cast<std::uint16_t>(i)));
    CHECK_FALSE(ring.producer.publish());
    for (int i = 0; i < 3; ++i) {
        const auto record = ring.consumer.peek();
        REQUIRE(record);
        CHECK(record->type == i);
        CHECK(record->payload.empty());
        ring.consumer.consume();
    }
    CHECK_FALSE(ring.consumer.peek());
}

TEST_CASE("a ring takes the largest record wherever its cursors stand", "[ring]") {
    ring_pair ring(256);
    const std::size_t largest = ring.producer.max_payload();
    CHECK(largest == 256 / 2 - 8);
    for (std::size_t offset = 0; offset < 256; offset += 8) {
        REQUIRE(ring.producer.push(pattern(offset, largest)));
        (void)ring.producer.publish();
        const auto record = ring.consumer.peek();
        REQUIRE(record);
        CHECK(record->payload.size() == largest);
        CHECK(is_pattern(record->payload, offset));
        ring.consumer.consume();
        (void)ring.consumer.publish();
        // One header more moves the next round's start on.
        REQUIRE(ring.producer.push({}));
        (void)ring.producer.publish();
        REQUIRE(ring.consumer.peek());
        ring.consumer.consume();
        (void)ring.consumer.publish();
    }
}

TEST_CASE("a ring refuses a record that is too large with EMSGSIZE and goes on", "[ring]") {
    ring_pair ring;
    const std::size_t largest = ring.producer.max_payload();
    CHECK(error_of([&] { ring.producer.push(pattern(0, largest + 1)); }) == EMSGSIZE);
    CHECK(error_of([&] { ring.producer.reserve(~std::size_t{0}); }) == EMSGSIZE);
    CHECK(error_of([&] { (void)ring.producer.arm(largest + 1); }) == EMSGSIZE);
    CHECK(ring.producer.push(pattern(0, largest)));
}

TEST_CASE("a full ring takes nothing until the consumer has published room", "[ring]") {
    ring_pair ring(256);
    int pushed = 0;
    while (ring.producer.push(pattern(0, 24))) ++pushed;
    CHECK(pushed == 256 / 32);
    (void)ring.producer.publish();
    REQUIRE(ring.consumer.peek());
    ring.consumer.consume();
    CHECK_FALSE(ring.producer.push(pattern(0, 24)));
    (void)ring.consumer.publish();
    CHECK(ring.producer.push(pattern(0, 24)));
}

TEST_CASE("a reserved record may be committed shorter", "[ring]") {
    ring_pair ring(256);
    for (std::uint64_t i = 0; i < 100; ++i) {
        std::byte* const to = ring.producer.reserve(100);
        REQUIRE(to != nullptr);
        const auto payload = pattern(i, i % 101);
        if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
        ring.producer.commit(payload.size());
        (void)ring.producer.publish();
        const auto record = ring.consumer.peek();
        REQUIRE(record);
        CHECK(record->payload.size() == i % 101);
        CHECK(is_pattern(record->payload, i));
        ring.consumer.consume();
        (void)ring.consumer.publish();
    }
}

TEST_CASE("pop copies a record out and leaves it there where the buffer is small", "[ring]") {
    ring_pair ring;
    REQUIRE(ring.producer.push(pattern(3, 10), 4));
    (void)ring.producer.publish();
    std::array<std::byte, 9> small;
    std::array<std::byte, 10> large;
    CHECK(error_of([&] { ring.consumer.pop(small); }) == EMSGSIZE);
    const auto record = ring.consumer.pop(large);
    REQUIRE(record);
    CHECK(record->type == 4);
    CHECK(record->payload.data() == large.data());
    CHECK(is_pattern(record->payload, 3));
    CHECK_FALSE(ring.consumer.pop(large));
}

TEST_CASE("random sizes pass a ring unchanged over many laps", "[ring]") {
    ring_pair ring(512);
    std::mt19937_64 random(20);
    std::deque<std::pair<std::uint64_t, std::size_t>> under_way;
    std::uint64_t number = 0;
    for (int step = 0; step < 50'000; ++step) {
        if (random() % 2 == 0) {
            const std::size_t bytes = random() % (ring.producer.max_payload() + 1);
            if (ring.producer.push(pattern(number, bytes))) under_way.emplace_back(number++, bytes);
            if (random() % 3 == 0) (void)ring.producer.publish();
        } else if (const auto record = ring.consumer.peek()) {
            REQUIRE(!under_way.empty());
            REQUIRE(record->payload.size() == under_way.front().second);
            REQUIRE(is_pattern(record->payload, under_way.front().first));
            under_way.pop_front();
            ring.consumer.consume();
            if (random() % 3 == 0) (void)ring.consumer.publish();
        } else {
            (void)ring.producer.publish();
            (void)ring.consumer.publish();
        }
    }
    CHECK(number > 10'000);
}

TEST_CASE("the doorbell is asked for once for each time the consumer arms", "[ring]") {
    ring_pair ring;
    REQUIRE(ring.producer.push({}));
    CHECK_FALSE(ring.producer.publish());  // nobody sleeps
    CHECK_FALSE(ring.consumer.arm());      // there is something to read
    REQUIRE(ring.consumer.peek());
    ring.consumer.consume();
    (void)ring.consumer.publish();

    REQUIRE(ring.consumer.arm());
    REQUIRE(ring.consumer.arm());  // arming twice is arming
    REQUIRE(ring.producer.push({}));
    CHECK(ring.producer.publish());
    REQUIRE(ring.producer.push({}));
    CHECK_FALSE(ring.producer.publish());  // rung already
    for (int i = 0; i < 2; ++i) {
        REQUIRE(ring.consumer.peek());
        ring.consumer.consume();
    }
    (void)ring.consumer.publish();
    REQUIRE(ring.consumer.arm());
    ring.consumer.disarm();
    REQUIRE(ring.producer.push({}));
    CHECK_FALSE(ring.producer.publish());
}

TEST_CASE("a producer is woken when there is room for its record, not before", "[ring]") {
    ring_pair ring(256);
    while (ring.producer.push(pattern(0, 24))) {
    }
    (void)ring.producer.publish();
    REQUIRE(ring.producer.arm(56));  // two records' worth
    REQUIRE(ring.consumer.peek());
    ring.consumer.consume();
    CHECK_FALSE(ring.consumer.publish());
    REQUIRE(ring.consumer.peek());
    ring.consumer.consume();
    CHECK(ring.consumer.publish());
    REQUIRE(ring.consumer.peek());
    ring.consumer.consume();
    CHECK_FALSE(ring.consumer.publish());  // rung already
    CHECK_FALSE(ring.producer.arm(56));
    CHECK(ring.producer.push(pattern(0, 56)));
}

TEST_CASE("a slot tells its capacity and a fitting slot size gives it back", "[ring]") {
    CHECK(ring_capacity(0) == 0);
    CHECK(ring_capacity(ring_slot_bytes(0) - 1) == 0);
    CHECK(ring_capacity(4096) == 2048);
    CHECK(ring_capacity(std::uint64_t{1} << 40) == ring_max_capacity);
    for (std::uint64_t capacity = 256; capacity <= 1 << 20; capacity *= 2) {
        CHECK(ring_capacity(ring_slot_bytes(capacity)) == capacity);
        CHECK(ring_capacity(ring_slot_bytes(capacity - 1)) == capacity);
        CHECK(ring_capacity(ring_slot_bytes(capacity + 1)) == 2 * capacity);
    }
    ring_pair ring;
    CHECK(verify_ring_slot(ring.producer_slot.get(), ring.slot_bytes) == ring.capacity);
    CHECK(verify_ring_slot(ring.consumer_slot.get(), ring.slot_bytes) == 0);  // not yet
    CHECK(error_of([&] { init_ring_slot(ring.consumer_slot.get(), 2048 + 255); }) == EINVAL);
}
