// SPDX-License-Identifier: MIT
// The ring beside a hostile peer: every shared word is set to every kind of
// wrong value, at rest and while the other side works. The honest side must
// either go on or throw EPROTO, and stay inside its memory (ASan watches).
#include <array>
#include <atomic>
#include <cerrno>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/error_of.hpp"
#include "support/vandal.hpp"
#include "unit/ring_pair.hpp"
#include "unit/wrong_values.hpp"

using namespace ipcdoor;
using test::error_of;
using test::pattern;
using test::ring_pair;
using test::vandal;
using test::wrong_values;
using test::xorshift64;

namespace {

// Cursors in mid-ring: two records consumed, three readable.
void half_fill(ring_pair& ring) {
    for (std::uint64_t i = 0; i < 5; ++i) REQUIRE(ring.producer.push(pattern(i, 40)));
    (void)ring.producer.publish();
    for (int i = 0; i < 2; ++i) {
        REQUIRE(ring.consumer.peek());
        ring.consumer.consume();
    }
    (void)ring.consumer.publish();
}

// Reads until the ring is empty or refused; touches every byte that it is given.
int drain(ring_pair& ring) {
    return error_of([&] {
        unsigned sum = 0;
        for (int i = 0; i < 1000; ++i) {
            const auto record = ring.consumer.peek();
            if (!record) break;
            // Atomic, because a hostile producer may write there meanwhile.
            for (const std::byte& byte : record->payload)
                sum += __atomic_load_n(reinterpret_cast<const unsigned char*>(&byte),
                                       __ATOMIC_RELAXED);
            ring.consumer.consume();
            (void)ring.consumer.publish();
        }
        static std::atomic<unsigned> sink;
        sink = sum;
    });
}

int fill(ring_pair& ring) {
    return error_of([&] {
        for (int i = 0; i < 1000; ++i) {
            if (!ring.producer.push(pattern(0, 16))) {
                (void)ring.producer.publish();
                (void)ring.producer.arm(100);
                break;
            }
            (void)ring.producer.publish();
        }
    });
}

}  // namespace

TEST_CASE("a consumer survives every wrong tail", "[ring][hostile]") {
    for (const std::uint64_t wrong : wrong_values(5 * 48, 1024)) {
        CAPTURE(wrong);
        ring_pair ring;
        half_fill(ring);
        ring.from().output.tail = wrong;
        const int error = drain(ring);
        CHECK((error == 0 || error == EPROTO));
        // Behind what was there, too far, or between records: refused whatever
        // follows. (It is looked at when all that was there has been read.)
        if (wrong - 5 * 48 > 1024 || wrong % 8 != 0) {
            CHECK(error == EPROTO);
            CHECK(ring.consumer.poisoned());
            ring.from().output.tail = 5 * 48;
            CHECK(drain(ring) == EPROTO);
            CHECK(error_of([&] { (void)ring.consumer.arm(); }) == EPROTO);
        }
    }
}

TEST_CASE("a consumer survives every wrong record header", "[ring][hostile]") {
    for (const std::uint64_t wrong : wrong_values(40, 1024)) {
        CAPTURE(wrong);
        ring_pair ring;
        half_fill(ring);
        ring.header_at(2 * 48) = wrong;
        const int error = drain(ring);
        CHECK((error == 0 || error == EPROTO));
        const std::uint64_t bytes = wrong & 0xffffffff;
        if (bytes > ring.producer.max_payload()) CHECK(error == EPROTO);
    }
}

TEST_CASE("a record may end at the readable window and not a byte behind it", "[ring][hostile]") {
    for (const std::uint64_t bytes : {3 * 48 - 8, 3 * 48 - 7, 3 * 48, 500, 504, 505}) {
        CAPTURE(bytes);
        ring_pair ring;
        half_fill(ring);
        ring.header_at(2 * 48) = bytes;
        // At once, not when the next record turns out to be missing.
        CHECK(error_of([&] { (void)ring.consumer.peek(); }) == (bytes <= 3 * 48 - 8 ? 0 : EPROTO));
        CHECK(drain(ring) == (bytes <= 3 * 48 - 8 ? 0 : EPROTO));
    }
}

TEST_CASE("wrap markers where none belong are refused", "[ring][hostile]") {
    const std::uint64_t wrap = std::uint64_t{ring_wrap_type} << 32;
    SECTION("at the beginning of the data") {
        ring_pair ring;
        REQUIRE(ring.producer.push({}));
        (void)ring.producer.publish();
        ring.header_at(0) = wrap | (1024 - 8);
        ring.from().output.tail = 1024;
        CHECK(drain(ring) == EPROTO);
    }
    SECTION("too short to reach the end") {
        ring_pair ring;
        half_fill(ring);
        ring.header_at(2 * 48) = wrap | 40;
        CHECK(drain(ring) == EPROTO);
    }
    SECTION("with nothing behind it") {
        ring_pair ring;
        half_fill(ring);
        ring.header_at(2 * 48) = wrap | (1024 - 2 * 48 - 8);
        ring.from().output.tail = 1024;
        CHECK(drain(ring) == EPROTO);
    }
    SECTION("one after the other") {
        ring_pair ring;
        half_fill(ring);
        ring.header_at(2 * 48) = wrap | (1024 - 2 * 48 - 8);
        ring.header_at(0) = wrap | (1024 - 8);
        ring.from().output.tail = 1024 + 2 * 48;
        CHECK(drain(ring) == EPROTO);
    }
}

TEST_CASE("a producer survives every wrong head", "[ring][hostile]") {
    for (const std::uint64_t wrong : wrong_values(2 * 48, 1024)) {
        CAPTURE(wrong);
        ring_pair ring;
        half_fill(ring);
        // It looks when it has no room left, with everything published.
        while (ring.producer.push(pattern(0, 16))) {
        }
        (void)ring.producer.publish();
        const std::uint64_t tail = ring.from().output.tail;
        ring.to().input.head = wrong;
        const int error = fill(ring);
        if (wrong > tail || wrong < 2 * 48 || wrong % 8 != 0) {
            CHECK(error == EPROTO);
            CHECK(ring.producer.poisoned());
            ring.to().input.head = 2 * 48;
            CHECK(fill(ring) == EPROTO);
            CHECK(error_of([&] { (void)ring.producer.arm(8); }) == EPROTO);
        } else {
            CHECK(error == 0);
        }
    }
}

TEST_CASE("wrong armed words cost doorbells and nothing else", "[ring][hostile]") {
    for (const std::uint64_t wrong : wrong_values(5 * 48, 1024)) {
        CAPTURE(wrong);
        ring_pair ring;
        half_fill(ring);
        ring.to().input.armed = wrong;
        ring.from().output.armed = wrong;
        CHECK(fill(ring) == 0);
        CHECK(drain(ring) == 0);
    }
}

TEST_CASE("every malformed slot header is refused with a clear error", "[ring][hostile]") {
    ring_pair ring;
    ring_slot& slot = ring.from();
    const auto verify = [&] { return error_of([&] { verify_ring_slot(&slot, ring.slot_bytes); }); };
    REQUIRE(verify() == 0);

    SECTION("magic") {
        for (const std::uint64_t wrong : {std::uint64_t{1}, ~std::uint64_t{0}, ring_magic + 1}) {
            slot.magic = wrong;
            CHECK(verify() == EPROTO);
        }
    }
    SECTION("versions") {
        slot.version_min = 2;
        slot.version_max = 1;
        CHECK(verify() == EPROTO);
        slot.version_min = 0;
        slot.version_max = 0;
        CHECK(verify() == EPROTO);
        slot.version_min = ring_version_max + 1;
        slot.version_max = ring_version_max + 2;
        CHECK(verify() == EPROTONOSUPPORT);
        slot.version_min = 1;
        slot.version_max = ~std::uint32_t{0};  // a newer program that speaks ours too
        CHECK(verify() == 0);
    }
    SECTION("capacity") {
        for (const std::uint64_t wrong :
             {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{128}, std::uint64_t{1000},
              std::uint64_t{1025}, std::uint64_t{2048}, std::uint64_t{1} << 31,
              std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
            CAPTURE(wrong);
            slot.capacity = wrong;
            CHECK(verify() == EPROTO);
        }
    }
    SECTION("offset of the data") {
        for (const std::uint32_t wrong : {0U, 8U, 640U, 2047U, 2056U, 4096U, ~0U}) {
            slot.data_offset = wrong;
            CHECK(verify() == EPROTO);
        }
    }
    SECTION("a slot too small for it") {
        for (const std::uint64_t bytes : {0, 640, 2048, 3071})
            CHECK(error_of([&] { verify_ring_slot(&slot, bytes); }) == EPROTO);
    }
}

TEST_CASE("a consumer works beside a producer that scribbles over its own words",
          "[ring][hostile]") {
    std::mt19937_64 seeds(7);
    for (int round = 0; round < 40; ++round) {
        ring_pair ring;
        half_fill(ring);
        vandal scribbler(
            [&](xorshift64& random) {
                const auto values = wrong_values(ring.from().output.tail, ring.capacity);
                const std::uint64_t value = values[random() % values.size()];
                switch (random() % 4) {
                    case 0: ring.from().output.tail = value; break;
                    case 1: ring.from().output.armed = value; break;
                    // Plausible cursors, so that many records are read.
                    case 2: ring.from().output.tail += 8 * (random() % 8); break;
                    default: ring.header_at(random() % 128 * 8) = value & 0xffff0000007fULL;
                }
            },
            seeds());
        int error = 0;
        for (int i = 0; i < 200 && error == 0; ++i) {
            error = drain(ring);
            if (error == 0) error = error_of([&] { (void)ring.consumer.arm(); });
        }
        scribbler.stop();
        CHECK((error == 0 || error == EPROTO));
    }
}

TEST_CASE("a producer works beside a consumer that scribbles over its own words",
          "[ring][hostile]") {
    std::mt19937_64 seeds(8);
    for (int round = 0; round < 40; ++round) {
        ring_pair ring;
        half_fill(ring);
        vandal scribbler(
            [&](xorshift64& random) {
                const auto values = wrong_values(ring.from().output.tail, ring.capacity);
                const std::uint64_t value = values[random() % values.size()];
                switch (random() % 3) {
                    case 0: ring.to().input.armed = value; break;
                    case 1: ring.to().input.head = ring.from().output.tail.load(); break;
                    default:
                        if (random() % 64 == 0) ring.to().input.head = value;
                }
            },
            seeds());
        int error = 0;
        for (int i = 0; i < 200 && error == 0; ++i) error = fill(ring);
        scribbler.stop();
        CHECK((error == 0 || error == EPROTO));
    }
}
