// SPDX-License-Identifier: MIT
// Pipes within one process: bytes, copied and in place. pipe_end.cpp has what follows the
// last one, pipe_waiting.cpp deadlines, threads and event loops, pipe_hostile.cpp peers that
// do not fit or lie, pipe_death.cpp processes that die, pipe_open.cpp names.
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <ipcdoor/pipe.hpp>

#include "lib/lib_support.hpp"
#include "lib/stream_support.hpp"
#include "support/catch.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

// ---- bytes -------------------------------------------------------------------

TEST_CASE("bytes come out of a pipe in order and without boundaries", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.write("one", soon);
    writer.write(" two", soon);
    CHECK(reader.readable() == 7);
    CHECK(read_once(reader, 5) == "one t");
    CHECK(read_once(reader) == "wo");
    CHECK(reader.readable() == 0);
    writer.write(std::uint32_t{0x01020304}, soon);
    std::uint32_t number = 0;
    CHECK(reader.read_exact(std::as_writable_bytes(std::span(&number, 1)), soon));
    CHECK(number == 0x01020304);
}

TEST_CASE("a pipe can be written before its reader is there", "[pipe]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    pipe_writer writer(std::move(ends.first));
    writer.write("early", soon);
    CHECK(writer.writable() == writer.capacity() - 5);
    pipe_reader reader(std::move(ends.second));
    CHECK(read_once(reader) == "early");
    CHECK(writer.writable() == writer.capacity());
}

TEST_CASE("a reader that waits is woken by the writer's arrival and first byte", "[pipe]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    pipe_reader reader(std::move(ends.second));
    std::string got;
    blocking_thread waiting([&] { got = read_once(reader); });
    waiting.wait_asleep();
    pipe_writer writer(std::move(ends.first));
    waiting.wait_asleep();
    CHECK(got.empty());
    writer.write("x", soon);
    waiting.join();
    CHECK(got == "x");
}

TEST_CASE("a write of nothing and a read into nothing do nothing", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.write("", soon);
    CHECK(writer.write_some("", soon) == 0);
    CHECK(writer.try_write("") == std::optional<std::size_t>(0));
    CHECK(reader.readable() == 0);
    writer.write("x", soon);
    CHECK(reader.read({}, soon) == 0);
    CHECK(reader.read_exact({}, soon));
    CHECK(read_once(reader) == "x");
}

TEST_CASE("every amount crosses the end of a pipe at every offset", "[pipe]") {
    constexpr std::uint64_t capacity = 37;
    auto [writer, reader] = pipe_pair(capacity);
    REQUIRE(writer.capacity() == capacity);
    std::uint64_t number = 0;
    for (std::uint64_t offset = 0; offset < capacity; ++offset) {
        for (std::uint64_t bytes = 1; bytes <= capacity; ++bytes) {
            const std::string text = pattern(++number, bytes);
            writer.write(text, soon);
            std::string back(bytes, '\0');
            REQUIRE(reader.read_exact(room_of(back), soon));
            REQUIRE(back == text);
        }
    }
}

TEST_CASE("a pipe of one byte carries everything", "[pipe]") {
    auto [writer, reader] = pipe_pair(1);
    REQUIRE(writer.capacity() == 1);
    const std::string text = pattern(1, scaled(3000));
    blocking_thread writing([&, &to = writer] {
        to.write(text, soon);
        to.close();
    });
    CHECK(read_all(reader) == text);
}

TEST_CASE("much data goes through small pipes unchanged", "[pipe]") {
    for (const std::uint64_t capacity : {2, 100, 4096, 10'000}) {
        CAPTURE(capacity);
        auto [writer, reader] = pipe_pair(capacity);
        const std::string text = pattern(capacity, scaled(capacity < 100 ? 20'000 : 2'000'000));
        blocking_thread writing([&, &to = writer] {
            std::size_t at = 0;
            for (std::size_t bytes = 1; at < text.size(); bytes = bytes * 3 % 9001) {
                const std::size_t some = std::min(bytes, text.size() - at);
                to.write(std::string_view(text).substr(at, some), soon);
                at += some;
            }
            to.close();
        });
        const std::string got = read_all(reader);
        CHECK(got.size() == text.size());
        CHECK(got == text);
    }
}

TEST_CASE("a full pipe takes what fits and no more", "[pipe]") {
    auto [writer, reader] = pipe_pair(1000);
    const std::string text = pattern(1, 1500);
    CHECK(writer.try_write(text) == std::optional<std::size_t>(1000));
    CHECK(writer.writable() == 0);
    CHECK_FALSE(writer.try_write(text));
    CHECK(error_of([&, &to = writer] { to.write_some(text, 0s); }) == ETIMEDOUT);
    CHECK(read_once(reader, 10) == text.substr(0, 10));
    CHECK(writer.write_some(text.substr(1000), soon) == 10);
    CHECK(read_once(reader, 2000) == text.substr(10, 1000));
}

TEST_CASE("gathered and scattered parts are one stretch of bytes", "[pipe]") {
    auto [writer, reader] = pipe_pair(20);
    const std::array<bytes_view, 4> parts{bytes_view("head"), bytes_view(""), bytes_view("body"),
                                          bytes_view("tail")};
    writer.write_gathered(parts, soon);
    std::string first(3, '\0');
    std::string second(6, '\0');
    std::string third(20, '\0');
    const std::array<std::span<std::byte>, 4> into{room_of(first), std::span<std::byte>(),
                                                   room_of(second), room_of(third)};
    CHECK(reader.read_scattered(into, soon) == 12);
    CHECK(first == "hea");
    CHECK(second == "dbodyt");
    CHECK(third.substr(0, 3) == "ail");

    std::string big = pattern(3, 50);
    const std::array<iovec, 2> vectors{iovec{big.data(), 7}, iovec{big.data() + 7, 43}};
    std::string back(50, '\0');
    blocking_thread writing([&, &to = writer] { to.write_gathered(vectors, soon); });
    std::size_t got = 0;
    while (got < 50) {
        const std::array<iovec, 2> rooms{iovec{back.data() + got, 1},
                                         iovec{back.data() + got + 1, 50 - got - 1}};
        got += reader.read_scattered(rooms, soon);
    }
    CHECK(back == big);
}

// ---- in place ----------------------------------------------------------------

TEST_CASE("bytes are written and read in place, across the end at every offset", "[pipe]") {
    constexpr std::uint64_t capacity = 29;
    auto [writer, reader] = pipe_pair(capacity);
    std::string sent;
    std::string got;
    const std::string text = pattern(5, 30 * capacity * capacity);
    std::size_t asked = 0;
    std::size_t read = 0;
    while (got.size() < text.size()) {
        if (sent.size() < text.size() && writer.writable() != 0) {
            asked = asked % capacity + 1;
            const auto room = writer.reserve(asked, soon);
            REQUIRE(!room.empty());
            REQUIRE(room.size() <= asked);
            const std::size_t used = std::min(room.size(), text.size() - sent.size());
            std::memcpy(room.data(), text.data() + sent.size(), used);
            writer.commit(used);
            sent.append(text, sent.size(), used);
        }
        const auto bytes = reader.peek(soon);
        REQUIRE(!bytes.empty());
        read = std::min(bytes.size(), read % capacity + 1);
        got.append(reinterpret_cast<const char*>(bytes.data()), read);
        reader.consume(read);
    }
    CHECK(got == text);
}

TEST_CASE("more cannot be committed or consumed than was given", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    writer.commit(0);   // nothing reserved
    reader.consume(0);  // nothing peeked
    CHECK(error_of([&, &to = writer] { to.commit(1); }) == EINVAL);
    CHECK(error_of([&, &from = reader] { from.consume(1); }) == EINVAL);
    CHECK(error_of([&, &to = writer] { (void)to.reserve(0, soon); }) == EINVAL);
    REQUIRE(writer.reserve(10, soon).size() == 10);
    CHECK(error_of([&, &to = writer] { to.commit(11); }) == EINVAL);
    writer.commit(10);
    REQUIRE(reader.peek(soon).size() == 10);
    CHECK(error_of([&, &from = reader] { from.consume(11); }) == EINVAL);
    reader.consume(10);
    CHECK(reader.readable() == 0);
}

TEST_CASE("a pipe closed between reserve and commit ends cleanly without that", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    writer.write("before", soon);
    REQUIRE(!writer.reserve(10, soon).empty());
    SECTION("closed") { writer.close(); }
    SECTION("shut down, then committed") {
        writer.shutdown_write();
        CHECK(read_once(reader) == "before");
        std::byte one[1];
        CHECK_FALSE(reader.try_read(one));  // the end comes with the commit
        writer.commit(0);
    }
    CHECK(read_until_error(reader).second == 0);
}
