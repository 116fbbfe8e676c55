// SPDX-License-Identifier: MIT
// Ends that do not fit, and hostile peers of a pipe.
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <ipcdoor/message.hpp>
#include <ipcdoor/pipe.hpp>
#include <ipcdoor/stream.hpp>

#include "lib/lib_support.hpp"
#include "lib/stream_support.hpp"
#include "support/catch.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("two ends of the same kind find out, both", "[pipe][hostile]") {
    auto ends = connected_pair(stream_slot_bytes(100));
    SECTION("writers") {
        pipe_writer first(std::move(ends.first));
        int error = 0;
        blocking_thread blocked(
            [&] { error = error_of([&] { first.write(std::string(1 << 16, 'x'), soon); }); });
        blocked.wait_asleep();
        pipe_writer second(std::move(ends.second));
        blocked.join();
        CHECK(error == EPROTO);
        CHECK(error_of([&] { second.write("x", soon); }) == EPROTO);
        CHECK(error_of([&] { first.await_peer(soon); }) == EPROTO);
    }
    SECTION("readers") {
        pipe_reader first(std::move(ends.first));
        int error = 0;
        blocking_thread blocked([&] { error = error_of([&] { (void)first.peek(soon); }); });
        blocked.wait_asleep();
        pipe_reader second(std::move(ends.second));
        blocked.join();
        CHECK(error == EPROTO);
        CHECK(error_of([&] { (void)second.peek(soon); }) == EPROTO);
    }
    SECTION("a pipe's end and a stream socket") {
        pipe_reader first(std::move(ends.first));
        stream_socket second(std::move(ends.second));
        CHECK(error_of([&] { (void)first.peek(soon); }) == EPROTO);
        CHECK(error_of([&] { second.write("x", soon); }) == EPROTO);
    }
    SECTION("a channel") {
        pipe_reader first(std::move(ends.first));
        channel second(std::move(ends.second));
        CHECK(error_of([&] { (void)first.peek(soon); }) == EPROTO);
        CHECK(error_of([&] { (void)second.receive(soon); }) == EPROTO);
    }
}

TEST_CASE("an endpoint that cannot carry a pipe is refused", "[pipe]") {
    door local = test_door();
    create_options options;
    options.source = source();
    CHECK(error_of([&] { const pipe_writer writer(local.create("", options)); }) == EINVAL);
    auto ends = connected_pair(stream_slot_bytes(100));
    endpoint twice(ends.first.release());
    ring_slot& slot = *reinterpret_cast<ring_slot*>(twice.memory().data());
    slot.magic = ring_magic;
    CHECK(error_of([&] { const pipe_writer writer(std::move(twice)); }) == EBUSY);
}

TEST_CASE("a reader survives every wrong word of its writer", "[pipe][hostile]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    stream_puppet puppet(std::move(ends.first));
    pipe_reader reader(std::move(ends.second));
    const auto reads = [&] {
        return error_of([&, &from = reader] {
            for (int i = 0; i < 100; ++i) {
                std::string some(777, '\0');
                if (from.read(room_of(some), 10ms) == 0) return;
            }
        });
    };
    SECTION("magic") { puppet.slot().magic = 12345; }
    SECTION("roles") { puppet.open(stream_reads); }
    SECTION("capacity") {
        puppet.open(stream_writes);
        puppet.slot().capacity = puppet.capacity + 1;
    }
    SECTION("tail beyond the capacity") {
        puppet.open(stream_writes);
        puppet.slot().output.tail = puppet.capacity + 1;
    }
    SECTION("tail backwards") {
        puppet.open(stream_writes);
        puppet.slot().output.tail = 100;
        CHECK(reads() == ETIMEDOUT);
        puppet.slot().output.tail = 99;
    }
    SECTION("tail far away") {
        puppet.open(stream_writes);
        puppet.slot().output.tail = ~std::uint64_t{0};
    }
    puppet.ring(detail::stream_link::reader_vector);
    CHECK(reads() == EPROTO);
    CHECK(reads() == EPROTO);
    std::byte one[1];
    CHECK(error_of([&, &from = reader] { (void)from.try_read(one); }) == EPROTO);
}

TEST_CASE("a stream that ended has ended, whatever its writer says later", "[pipe][hostile]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    stream_puppet puppet(std::move(ends.first));
    pipe_reader reader(std::move(ends.second));
    puppet.open(stream_writes);
    puppet.slot().output.tail = 10;
    puppet.slot().finished = 77;
    CHECK(read_all(reader).size() == 10);
    puppet.slot().output.tail = 20;
    puppet.slot().finished = 0;
    puppet.ring(detail::stream_link::reader_vector);
    CHECK(read_once(reader).empty());
}

TEST_CASE("a writer survives every wrong word of its reader", "[pipe][hostile]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    stream_puppet puppet(std::move(ends.first));
    pipe_writer writer(std::move(ends.second));
    const auto writes = [&] {
        return error_of([&] { writer.write(std::string(10'000, 'x'), 10ms); });
    };
    const std::uint64_t capacity = writer.capacity();
    SECTION("magic") { puppet.slot().magic = 12345; }
    SECTION("roles") { puppet.open(stream_writes); }
    SECTION("head beyond the tail") {
        puppet.open(stream_reads);
        CHECK(writes() == ETIMEDOUT);
        puppet.slot().input.head = capacity + 1;
    }
    SECTION("head backwards") {
        puppet.open(stream_reads);
        CHECK(writes() == ETIMEDOUT);
        puppet.slot().input.head = 100;
        CHECK(writes() == ETIMEDOUT);
        puppet.slot().input.head = 99;
    }
    SECTION("head before its header is there") {
        CHECK(writes() == ETIMEDOUT);
        puppet.slot().input.head = ~std::uint64_t{0};
    }
    CHECK(writes() == EPROTO);
    CHECK(writes() == EPROTO);
    CHECK(error_of([&] { (void)writer.try_write("x"); }) == EPROTO);
}
