// SPDX-License-Identifier: MIT
// A byte stream beside a hostile peer: every shared word is set to every kind of wrong
// value, at rest and while the other side works. The honest side must either go on or
// throw EPROTO for good, and stay inside its memory (ASan watches).
#include <cerrno>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/error_of.hpp"
#include "support/vandal.hpp"
#include "unit/stream_pair.hpp"
#include "unit/wrong_values.hpp"

using namespace ipcdoor;
using test::error_of;
using test::stream_pair;
using test::vandal;
using test::wrong_values;
using test::xorshift64;

namespace {

constexpr std::uint64_t capacity = 1000;

// Cursors in mid-stream: 700 bytes passed, 300 readable.
void half_fill(stream_pair& stream) {
    std::uint64_t wrong = 0;
    REQUIRE(stream.put(0, capacity) == capacity);
    (void)stream.producer.publish();
    REQUIRE(stream.take(0, 700, wrong) == 700);
    (void)stream.consumer.publish();
}

int drain(stream_pair& stream) {
    return error_of([&] {
        for (int i = 0; i < 1000; ++i) {
            const std::uint64_t bytes = stream.consumer.look();
            // What is handed out lies in the ring.
            if (bytes > capacity) throw std::logic_error("more than the ring holds");
            if (bytes == 0) break;
            stream.consumer.advance(std::min<std::uint64_t>(bytes, 37));
            (void)stream.consumer.publish();
        }
    });
}

int fill(stream_pair& stream) {
    return error_of([&] {
        for (int i = 0; i < 1000; ++i) {
            const std::uint64_t bytes = stream.producer.room(capacity);
            if (bytes > capacity) throw std::logic_error("more than the ring holds");
            if (bytes == 0) break;
            stream.producer.advance(std::min<std::uint64_t>(bytes, 37));
            (void)stream.producer.publish();
        }
    });
}

}  // namespace

TEST_CASE("a stream's consumer survives every wrong tail", "[stream][hostile]") {
    for (const std::uint64_t wrong : wrong_values(1000, capacity)) {
        CAPTURE(wrong);
        stream_pair stream(capacity);
        half_fill(stream);
        stream.from().output.tail = wrong;
        const int error = drain(stream);
        // Known before were 300 bytes from 700 on, of which the reader has published.
        if (wrong < 1000 || wrong > 700 + capacity) {
            CHECK(error == EPROTO);
            CHECK(stream.consumer.poisoned());
            stream.from().output.tail = 1000;
            CHECK(drain(stream) == EPROTO);
            CHECK(error_of([&] { (void)stream.consumer.arm(); }) == EPROTO);
            CHECK(error_of([&] { (void)stream.consumer.readable(); }) == EPROTO);
        } else {
            CHECK(error == 0);
        }
    }
}

TEST_CASE("a stream's producer survives every wrong head", "[stream][hostile]") {
    for (const std::uint64_t wrong : wrong_values(700, capacity)) {
        CAPTURE(wrong);
        stream_pair stream(capacity);
        half_fill(stream);
        REQUIRE(stream.producer.room(1) == 700);  // it knows the right one
        stream.to().input.head = wrong;
        const int error = fill(stream);
        // It looks with 1000 bytes published.
        if (wrong < 700 || wrong > 1000) {
            CHECK(error == EPROTO);
            CHECK(stream.producer.poisoned());
            stream.to().input.head = 700;
            CHECK(fill(stream) == EPROTO);
            CHECK(error_of([&] { (void)stream.producer.arm(1); }) == EPROTO);
        } else {
            CHECK(error == 0);
        }
    }
}

TEST_CASE("wrong armed words cost a stream doorbells and nothing else", "[stream][hostile]") {
    for (const std::uint64_t wrong : wrong_values(1000, capacity)) {
        CAPTURE(wrong);
        stream_pair stream(capacity);
        half_fill(stream);
        stream.to().input.armed = wrong;
        stream.from().output.armed = wrong;
        CHECK(fill(stream) == 0);
        CHECK(drain(stream) == 0);
    }
}

TEST_CASE("every malformed header of a stream's slot is refused with a clear error",
          "[stream][hostile]") {
    stream_pair stream(capacity);
    stream_slot& slot = stream.from();
    const auto verify = [&](std::uint32_t roles = stream_reads) {
        return error_of([&] { verify_stream_slot(&slot, stream.slot_bytes, roles); });
    };
    REQUIRE(verify() == 0);
    REQUIRE(verify_stream_slot(&slot, stream.slot_bytes, stream_reads) == capacity);

    SECTION("not written yet") {
        slot.magic = 0;
        CHECK(verify_stream_slot(&slot, stream.slot_bytes, stream_reads) == 0);
    }
    SECTION("magic") {
        for (const std::uint64_t wrong :
             {std::uint64_t{1}, ~std::uint64_t{0}, stream_magic + 1, ring_magic}) {
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
        slot.version_min = stream_version_max + 1;
        slot.version_max = stream_version_max + 2;
        CHECK(verify() == EPROTONOSUPPORT);
        slot.version_min = 1;
        slot.version_max = ~std::uint32_t{0};  // a newer program that speaks ours too
        CHECK(verify() == 0);
    }
    SECTION("capacity") {
        for (const std::uint64_t wrong :
             {std::uint64_t{0}, capacity + 1, capacity + stream_data_offset, std::uint64_t{1} << 32,
              std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
            CAPTURE(wrong);
            slot.capacity = wrong;
            CHECK(verify() == EPROTO);
        }
        // Any number that fits will do.
        for (std::uint64_t right = 1; right <= capacity; ++right) {
            slot.capacity = right;
            REQUIRE(verify_stream_slot(&slot, stream.slot_bytes, stream_reads) == right);
        }
    }
    SECTION("offset of the data") {
        for (const std::uint32_t wrong : {0U, 8U, 768U, 2047U, 2049U, 4096U, ~0U}) {
            slot.data_offset = wrong;
            CHECK(verify() == EPROTO);
        }
    }
    SECTION("a slot too small for it") {
        for (const std::uint64_t bytes : {0, 640, 2048, 2049, 3047})
            CHECK(error_of([&] { verify_stream_slot(&slot, bytes, stream_reads); }) == EPROTO);
    }
    SECTION("roles") {
        CHECK(verify(stream_writes) == EPROTO);
        CHECK(verify(stream_reads | stream_writes) == EPROTO);
        slot.roles = stream_reads;
        CHECK(verify(stream_writes) == 0);
        CHECK(verify() == EPROTO);
        slot.roles = stream_reads | stream_writes;
        CHECK(verify() == EPROTO);
        CHECK(verify(stream_writes) == EPROTO);
        CHECK(verify(stream_reads | stream_writes) == 0);
        for (const std::uint32_t wrong : {0U, 4U, 7U, ~0U}) {
            slot.roles = wrong;
            CHECK(verify() == EPROTO);
            CHECK(verify(stream_reads | stream_writes) == EPROTO);
        }
    }
}

TEST_CASE("two ends of the same kind are told apart in words", "[stream][hostile]") {
    stream_pair stream(capacity);
    try {
        verify_stream_slot(&stream.from(), stream.slot_bytes, stream_writes);
        FAIL("two writers fit");
    } catch (const error& wrong) {
        CHECK(std::string(wrong.what()).find("this end is a pipe's writer") != std::string::npos);
        CHECK(std::string(wrong.what()).find("which is a pipe's writer") != std::string::npos);
    }
}

TEST_CASE("a slot too small for a stream is refused", "[stream]") {
    alignas(ring_line_bytes) std::byte memory[stream_data_offset] = {};
    CHECK(error_of([&] { init_stream_slot(memory, 0, stream_reads); }) == EINVAL);
    CHECK(error_of([&] { init_stream_slot(memory, sizeof memory, stream_reads); }) == EINVAL);
    CHECK(stream_slot_bytes(0) == stream_data_offset + 1);
    CHECK(stream_capacity(stream_slot_bytes(12345)) == 12345);
    CHECK(stream_slot_bytes(~std::uint64_t{0}) == ~std::uint64_t{0});
}

TEST_CASE("a stream's cursors work beside a peer that scribbles over its own words",
          "[stream][hostile]") {
    std::mt19937_64 seeds(7);
    for (int round = 0; round < 40; ++round) {
        const bool against_consumer = round % 2 == 0;
        stream_pair stream(capacity);
        half_fill(stream);
        vandal scribbler(
            [&](xorshift64& random) {
                const auto values = wrong_values(stream.from().output.tail, capacity);
                const std::uint64_t value = values[random() % values.size()];
                if (against_consumer) {
                    switch (random() % 4) {
                        case 0: stream.from().output.armed = value; break;
                        // Plausible, so that much is read.
                        case 1:
                        case 2: stream.from().output.tail += random() % 64; break;
                        default:
                            if (random() % 64 == 0) stream.from().output.tail = value;
                    }
                } else {
                    switch (random() % 3) {
                        case 0: stream.to().input.armed = value; break;
                        case 1: stream.to().input.head = stream.from().output.tail.load(); break;
                        default:
                            if (random() % 64 == 0) stream.to().input.head = value;
                    }
                }
            },
            seeds());
        int error = 0;
        for (int i = 0; i < 200 && error == 0; ++i) {
            error = against_consumer ? drain(stream) : fill(stream);
            if (error == 0 && against_consumer)
                error = error_of([&] { (void)stream.consumer.arm(); });
        }
        scribbler.stop();
        CHECK((error == 0 || error == EPROTO));
    }
}
