// SPDX-License-Identifier: MIT
// Waiting for a pipe: deadlines, several threads, signal handlers, event loops.

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/pipe.hpp>

#include "lib/lib_support.hpp"
#include "lib/stream_support.hpp"
#include "support/catch.hpp"
#include "support/counted_signal.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

// ---- deadlines ---------------------------------------------------------------

TEST_CASE("every wait of a pipe ends at its deadline, and not before", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    const auto times_out = [](const std::function<void(deadline)>& call) {
        const std::uint64_t before = now_ns();
        CHECK(error_of([&] { call(30ms); }) == ETIMEDOUT);
        CHECK(now_ns() - before >= 30'000'000);
        CHECK(error_of([&] { call(0s); }) == ETIMEDOUT);
    };
    std::string room(10, '\0');
    times_out([&, &from = reader](deadline until) { (void)from.read(room_of(room), until); });
    times_out([&, &from = reader](deadline until) { (void)from.read_exact(room_of(room), until); });
    times_out([&, &from = reader](deadline until) { (void)from.peek(until); });
    std::size_t written = 99;
    times_out(
        [&, &to = writer](deadline until) { to.write(std::string(150, 'x'), written, until); });
    CHECK(written == 0);  // the second one: it was full already
    times_out([&, &to = writer](deadline until) { to.write_some("x", until); });
    times_out([&, &to = writer](deadline until) { (void)to.reserve(1, until); });
    times_out([&, &to = writer](deadline until) { to.drain(until); });
    // Nothing of it is broken.
    CHECK(read_once(reader) == std::string(100, 'x'));
    writer.write("y", soon);
    CHECK(read_once(reader) == "y");

    auto ends = connected_pair(stream_slot_bytes(100));
    pipe_reader alone(std::move(ends.first));
    times_out([&](deadline until) { alone.await_peer(until); });
    times_out([&](deadline until) { (void)alone.peek(until); });
}

TEST_CASE("a failed write says in words how far it came", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    try {
        writer.write(std::string(150, 'x'), 20ms);
        FAIL("150 bytes fit into 100");
    } catch (const error& wrong) {
        CHECK(wrong.is_timeout());
        CHECK(std::string(wrong.what()).find("100 of 150 bytes") != std::string::npos);
    }
}

TEST_CASE("who waits for another thread's turn waits until the deadline", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    int error = 0;
    // In place: the turn is this thread's.
    REQUIRE(writer.reserve(10, soon).size() == 10);
    std::thread([&, &to = writer] { error = error_of([&] { to.write("x", 20ms); }); }).join();
    CHECK(error == ETIMEDOUT);
    bool tried = true;
    std::thread([&, &to = writer] { tried = to.try_write("x").has_value(); }).join();
    CHECK_FALSE(tried);
    CHECK(error_of([&, &to = writer] { to.write("x", soon); }) == EDEADLK);
    CHECK(error_of([&, &to = writer] { (void)to.reserve(1, soon); }) == EDEADLK);
    blocking_thread waiting([&, &to = writer] { to.write("second", soon); });
    waiting.wait_asleep();
    CHECK_FALSE(waiting.ended());
    writer.commit(0);
    waiting.join();

    REQUIRE(reader.peek(soon).size() == 6);
    std::thread([&, &from = reader] { error = error_of([&] { (void)from.peek(20ms); }); }).join();
    CHECK(error == ETIMEDOUT);
    CHECK(error_of([&, &from = reader] { read_once(from); }) == EDEADLK);
    reader.consume(0);
    CHECK(read_once(reader) == "second");
}

// ---- threads -----------------------------------------------------------------

TEST_CASE("what several threads write stays in one piece each", "[pipe]") {
    // Smaller than most pieces, so that writers block in the middle of them.
    auto [writer, reader] = pipe_pair(300);
    constexpr unsigned threads = 4;
    const std::uint64_t each = scaled(400);
    std::vector<std::thread> writers;
    for (unsigned t = 0; t < threads; ++t) {
        writers.emplace_back([&, t, &to = writer] {
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::uint64_t head[3] = {t, i, (i * 131 + t * 17) % 1000};
                const std::string body = pattern(t * 1000 + i, head[2]);
                const std::array<bytes_view, 2> parts{bytes_view(head), bytes_view(body)};
                to.write_gathered(parts, soon);
            }
        });
    }
    std::map<std::uint64_t, std::uint64_t> next;
    for (std::uint64_t n = 0; n < threads * each; ++n) {
        std::uint64_t head[3] = {};
        REQUIRE(reader.read_exact(std::as_writable_bytes(std::span(head)), soon));
        REQUIRE(head[0] < threads);
        REQUIRE(head[1] == next[head[0]]++);
        REQUIRE(head[2] == (head[1] * 131 + head[0] * 17) % 1000);
        std::string body(head[2], '\0');
        REQUIRE(reader.read_exact(room_of(body), soon));
        REQUIRE(body == pattern(head[0] * 1000 + head[1], head[2]));
    }
    for (std::thread& thread : writers) thread.join();
    CHECK(reader.readable() == 0);
}

TEST_CASE("several threads that read get every byte once", "[pipe]") {
    auto [writer, reader] = pipe_pair(300);
    const std::uint64_t numbers = scaled(20'000);
    std::vector<std::atomic<int>> seen(numbers);
    std::vector<std::thread> readers;
    for (int t = 0; t < 4; ++t) {
        readers.emplace_back([&, &from = reader] {
            std::uint64_t number = 0;
            while (from.read_exact(std::as_writable_bytes(std::span(&number, 1)), soon))
                ++seen.at(number);
        });
    }
    for (std::uint64_t i = 0; i < numbers; ++i) writer.write(i, soon);
    writer.close();
    for (std::thread& thread : readers) thread.join();
    CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& count) { return count == 1; }));
}

TEST_CASE("signal handlers run while a pipe waits, and it waits on", "[pipe]") {
    counted_signal signals;
    auto [writer, reader] = pipe_pair(100);
    std::string got;
    blocking_thread reading([&, &from = reader] { got = read_once(from); });
    for (int i = 0; i < 5; ++i) {
        reading.wait_asleep();
        signals.interrupt(reading.handle());
    }
    CHECK(got.empty());
    writer.write("x", soon);
    reading.join();
    CHECK(got == "x");

    writer.write(std::string(100, 'x'), soon);
    blocking_thread writing([&, &to = writer] { to.write("y", soon); });
    for (int i = 0; i < 5; ++i) {
        writing.wait_asleep();
        signals.interrupt(writing.handle());
    }
    CHECK_FALSE(writing.ended());
    CHECK(read_once(reader) == std::string(100, 'x'));
    writing.join();
}

TEST_CASE("a pipe that spins before it sleeps carries the same", "[pipe]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    stream_options spinning;
    spinning.spin_ns = 20'000;
    spinning.limit_bytes = 100;
    pipe_writer writer(std::move(ends.first), spinning);
    pipe_reader reader(std::move(ends.second), spinning);
    const std::string text = pattern(2, scaled(50'000));
    blocking_thread writing([&] {
        writer.write(text, soon);
        writer.close();
    });
    CHECK(read_all(reader) == text);
}

// ---- event loops -------------------------------------------------------------

TEST_CASE("the descriptor tells when to read again, and only then", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    std::byte room[64];
    const int fd = reader.fd();
    REQUIRE_FALSE(reader.try_read(room));
    CHECK_FALSE(is_readable(fd));
    for (int i = 0; i < 20; ++i) {
        writer.write("x", soon);
        REQUIRE(becomes_readable(fd));
        CHECK(reader.try_read(room) == std::optional<std::size_t>(1));
        CHECK_FALSE(reader.try_read(room));
        CHECK_FALSE(is_readable(fd));
    }
    SECTION("closed") {
        writer.close();
        REQUIRE(becomes_readable(fd));
        CHECK(reader.try_read(room) == std::optional<std::size_t>(0));
    }
    SECTION("shut down") {
        writer.shutdown_write();
        REQUIRE(becomes_readable(fd));
        CHECK(reader.try_read(room) == std::optional<std::size_t>(0));
    }
    SECTION("aborted") {
        writer.abort();
        // On the kernel's back end this is EPOLLHUP, which needs not be asked for.
        REQUIRE(becomes_readable(fd));
        CHECK(error_of([&, &from = reader] { (void)from.try_read(room); }) == EPIPE);
    }
}

TEST_CASE("the descriptor tells when to write again, for half of the room", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    const int fd = writer.fd();
    const std::string much(1000, 'x');
    REQUIRE(writer.try_write(much) == std::optional<std::size_t>(100));
    REQUIRE_FALSE(writer.try_write(much));
    CHECK_FALSE(is_readable(fd));
    CHECK(read_once(reader, 49).size() == 49);
    CHECK_FALSE(is_readable(fd));
    CHECK(read_once(reader, 1).size() == 1);
    REQUIRE(becomes_readable(fd));
    CHECK(writer.try_write(much) == std::optional<std::size_t>(50));
    CHECK_FALSE(is_readable(fd));
    // Little is wanted: for little it wakes.
    REQUIRE_FALSE(writer.try_write("y"));
    CHECK(read_once(reader, 1).size() == 1);
    REQUIRE(becomes_readable(fd));
    CHECK(writer.try_write("y") == std::optional<std::size_t>(1));
    REQUIRE_FALSE(writer.try_write("y"));
    reader.close();
    REQUIRE(becomes_readable(fd));
    CHECK(error_of([&, &to = writer] { (void)to.try_write("y"); }) == EPIPE);
}

TEST_CASE("a blocking call takes over from a try that found nothing", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    std::byte room[64];
    REQUIRE_FALSE(reader.try_read(room));
    std::string got;
    blocking_thread reading([&, &from = reader] { got = read_once(from); });
    reading.wait_asleep();
    writer.write("x", soon);
    reading.join();
    CHECK(got == "x");
    REQUIRE_FALSE(reader.try_read(room));
    CHECK_FALSE(is_readable(reader.fd()));
}
