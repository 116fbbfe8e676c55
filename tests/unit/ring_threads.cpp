// SPDX-License-Identifier: MIT
// The ring between two threads, with a semaphore for a doorbell: order, content,
// no lost wake-up, few doorbells. What TSan can see of the memory order, it sees
// here.
#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

#include "support/catch.hpp"
#include "unit/bell.hpp"
#include "unit/ring_pair.hpp"

using namespace ipcdoor;
using test::bell;
using test::is_pattern;
using test::pattern;
using test::ring_pair;

namespace {

struct line {
    explicit line(std::uint64_t capacity) : ring(capacity) {}

    void send(std::span<const std::byte> payload) {
        while (!ring.producer.push(payload)) {
            if (ring.producer.arm(payload.size())) space.wait();
        }
        ring.producer.disarm();
        if (ring.producer.publish()) data.ring();
    }

    ring_record receive() {
        for (;;) {
            if (const auto record = ring.consumer.peek()) return *record;
            if (ring.consumer.arm()) data.wait();
        }
    }
    void release() {
        ring.consumer.consume();
        if (ring.consumer.publish()) space.ring();
    }

    ring_pair ring;
    bell data;
    bell space;
};

}  // namespace

TEST_CASE("two threads pass a small ring's records in order without a lost wake-up",
          "[ring][threads]") {
    constexpr std::uint64_t count = 100'000;
    line link(256);
    std::thread sender([&] {
        for (std::uint64_t i = 0; i < count; ++i) link.send(pattern(i, i % 113));
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        const ring_record record = link.receive();
        if (record.payload.size() != i % 113 || !is_pattern(record.payload, i)) ++wrong;
        link.release();
    }
    sender.join();
    CHECK(wrong == 0);
    CHECK_FALSE(link.ring.consumer.peek());
}

TEST_CASE("two threads ping-pong over two rings without a lost wake-up", "[ring][threads]") {
    constexpr std::uint64_t count = 20'000;
    line there(256);
    line back(256);
    std::thread echo([&] {
        for (std::uint64_t i = 0; i < count; ++i) {
            const ring_record record = there.receive();
            std::array<std::byte, 8> copy;
            std::copy(record.payload.begin(), record.payload.end(), copy.begin());
            there.release();
            back.send(copy);
        }
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        there.send(pattern(i, 8));
        if (!is_pattern(back.receive().payload, i)) ++wrong;
        back.release();
    }
    echo.join();
    CHECK(wrong == 0);
    // One doorbell at most for each message; none is asked for twice.
    CHECK(there.data.rings <= count);
    CHECK(back.data.rings <= count);
}

TEST_CASE("a sender rings nobody while the receiver is awake", "[ring][threads]") {
    line link(1 << 16);
    for (std::uint64_t i = 0; i < 500; ++i) link.send(pattern(i, 64));
    for (std::uint64_t i = 0; i < 500; ++i) {
        link.receive();
        link.release();
    }
    CHECK(link.data.rings == 0);
    CHECK(link.space.rings == 0);
}
