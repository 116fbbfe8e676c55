// SPDX-License-Identifier: MIT
// Streams in place without blocking, as an event loop uses them.
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "lib/stream_support.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a stream is read in place without blocking, and poll tells when again",
          "[stream][poll]") {
    auto ends = socket_pair(10'000);
    stream_socket& from = ends.first;
    stream_socket& to = ends.second;
    CHECK_FALSE(from.try_peek());
    CHECK_FALSE(is_readable(from.fd()));
    to.write("hello", soon);
    REQUIRE(becomes_readable(from.fd()));
    auto some = from.try_peek();
    REQUIRE(some);
    CHECK(some->size() == 5);
    // What is not consumed stays, and nobody else reads meanwhile.
    std::thread other([&] {
        std::byte one[1];
        CHECK_IN_THREAD(!from.try_read(one));
    });
    other.join();
    from.consume(2);
    some = from.try_peek();
    REQUIRE(some);
    CHECK(std::memcmp(some->data(), "llo", 3) == 0);
    from.consume(3);
    CHECK_FALSE(from.try_peek());
    CHECK_FALSE(is_readable(from.fd()));
    to.shutdown_write();
    REQUIRE(becomes_readable(from.fd()));
    some = from.try_peek();
    REQUIRE(some);
    CHECK(some->empty());
    // The end is not held: it can be asked for again.
    CHECK(from.try_peek().value().empty());
}

TEST_CASE("a stream is written in place without blocking, and poll tells when again",
          "[stream][poll]") {
    auto ends = socket_pair(10'000);
    stream_socket& from = ends.first;
    stream_socket& to = ends.second;
    std::uint64_t written = 0;
    while (auto room = to.try_reserve(3000)) {
        REQUIRE(!room->empty());
        std::memset(room->data(), 'x', room->size());
        written += room->size();
        to.commit(room->size());
    }
    CHECK(written == to.capacity());
    CHECK_FALSE(is_readable(to.fd()));
    std::string all(written, ' ');
    REQUIRE(from.read_exact(std::as_writable_bytes(std::span(all)), soon));
    CHECK(all == std::string(written, 'x'));
    REQUIRE(becomes_readable(to.fd()));
    auto room = to.try_reserve(100);
    REQUIRE(room);
    to.commit(0);  // given up: nothing was written
    CHECK(from.readable() == 0);
    CHECK_FALSE(is_readable(to.fd()));
    from.shutdown_read();
    CHECK(error_of([&] { (void)to.try_reserve(1); }) == EPIPE);
}

TEST_CASE("two event loops carry a stream in place with no more wake-ups than there is to do",
          "[stream][poll]") {
    auto ends = socket_pair(8192);
    stream_socket& from = ends.first;
    stream_socket& to = ends.second;
    const std::uint64_t total = 100'000 + scaled(20'000'000);
    std::uint64_t writer_wakeups = 0;
    std::thread writer([&] {
        for (std::uint64_t at = 0; at < total;) {
            const auto room =
                to.try_reserve(static_cast<std::size_t>(std::min<std::uint64_t>(total - at, 5000)));
            if (!room) {
                if (!becomes_readable(to.fd())) std::abort();
                ++writer_wakeups;
                continue;
            }
            for (std::size_t i = 0; i < room->size(); ++i)
                (*room)[i] = static_cast<std::byte>((at + i) % 251);
            at += room->size();
            to.commit(room->size());
        }
        to.shutdown_write();
    });
    std::uint64_t at = 0;
    std::uint64_t wrong = 0;
    for (;;) {
        const auto some = from.try_peek();
        if (!some) {
            REQUIRE(becomes_readable(from.fd()));
            continue;
        }
        if (some->empty()) break;
        for (std::size_t i = 0; i < some->size(); ++i)
            if ((*some)[i] != static_cast<std::byte>((at + i) % 251)) ++wrong;
        at += some->size();
        from.consume(some->size());
    }
    writer.join();
    CHECK(at == total);
    CHECK(wrong == 0);
    // A loop that spins has one for each look; this one sleeps until half is free.
    CHECK(writer_wakeups <= total / 1000);
}
