// SPDX-License-Identifier: MIT
// Pipes within one process: bytes, their end, deadlines, threads, in place, and a
// hostile peer. pipe_death.cpp has processes that die, pipe_open.cpp names.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <stdexcept>
#include <vector>

#include "lib/stream_support.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

// ---- bytes ------------------------------------------------------------------

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

// ---- the end ----------------------------------------------------------------

TEST_CASE("a closed pipe is read to its end, which stays", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.write("last words", soon);
    SECTION("closed") { writer.close(); }
    SECTION("destroyed") { const pipe_writer gone = std::move(writer); }
    // NOLINTNEXTLINE(bugprone-use-after-move): one section runs at a time.
    SECTION("shut down") { writer.shutdown_write(); }
    CHECK(read_all(reader) == "last words");
    for (int i = 0; i < 2; ++i) {
        CHECK(read_once(reader).empty());
        std::byte one[1];
        CHECK(reader.try_read(one) == std::optional<std::size_t>(0));
        CHECK_FALSE(reader.read_exact(one, soon));
        CHECK(reader.peek(soon).empty());
    }
}

TEST_CASE("a reader that waits is told of the end", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    std::size_t got = 1;
    blocking_thread waiting([&, &from = reader] { got = read_once(from).size(); });
    waiting.wait_asleep();
    SECTION("closed") { writer.close(); }
    SECTION("shut down") { writer.shutdown_write(); }
    waiting.join();
    CHECK(got == 0);
}

TEST_CASE("a pipe that was aborted is never taken for a whole one", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.write("half of", soon);
    SECTION("abort()") { writer.abort(); }
    SECTION("an exception") {
        try {
            const pipe_writer local = std::move(writer);
            throw std::runtime_error("the program fails");
        } catch (const std::runtime_error&) {
        }
    }
    CHECK(read_until_error(reader) == std::pair(std::string("half of"), EPIPE));
    CHECK(error_of([&, &from = reader] { read_once(from); }) == EPIPE);
    std::byte one[1];
    CHECK(error_of([&, &from = reader] { (void)from.try_read(one); }) == EPIPE);
    CHECK(error_of([&, &from = reader] { (void)from.peek(soon); }) == EPIPE);
}

TEST_CASE("a pipe that lives and dies while an exception is handled closes cleanly", "[pipe]") {
    // Destructors run code, too.
    struct last_act {
        std::function<void()> run;
        ~last_act() { run(); }
    };
    auto [writer, reader] = pipe_pair();
    try {
        const last_act act{[&, &to = writer] {
            pipe_writer inside = std::move(to);
            inside.write("whole", soon);
        }};
        throw std::runtime_error("the program fails");
    } catch (const std::runtime_error&) {
    }
    CHECK(read_all(reader) == "whole");
}

TEST_CASE("read_exact tells an end in the middle from an end", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.write("abcde", soon);
    std::string three(3, '\0');
    CHECK(reader.read_exact(room_of(three), soon));
    CHECK(three == "abc");
    std::size_t done = 99;
    CHECK(error_of([&, &from = reader] { (void)from.read_exact(room_of(three), done, 20ms); }) ==
          ETIMEDOUT);
    CHECK(done == 2);
    writer.write("f", soon);
    writer.close();
    CHECK(error_of([&, &from = reader] { (void)from.read_exact(room_of(three), done, soon); }) ==
          ENODATA);
    CHECK(done == 1);
    CHECK(three[0] == 'f');
    CHECK_FALSE(reader.read_exact(room_of(three), done, soon));
    CHECK(done == 0);
}

TEST_CASE("a writer is told at once that the reader has gone", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.write("x", soon);
    SECTION("closed") { reader.close(); }
    SECTION("shut down") { reader.shutdown_read(); }
    CHECK(error_of([&, &to = writer] { to.write("y", soon); }) == EPIPE);
    CHECK(error_of([&, &to = writer] { to.write_some("y", soon); }) == EPIPE);
    CHECK(error_of([&, &to = writer] { (void)to.try_write("y"); }) == EPIPE);
    CHECK(error_of([&, &to = writer] { (void)to.reserve(1, soon); }) == EPIPE);
    CHECK(error_of([&, &to = writer] { to.drain(soon); }) == EPIPE);
}

TEST_CASE("a writer that waits for room is told that the reader has gone", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    int error = 0;
    std::size_t written = 0;
    blocking_thread waiting([&, &to = writer] {
        error = error_of([&] { to.write(std::string(150, 'x'), written, soon); });
    });
    waiting.wait_asleep();
    SECTION("closed") { reader.close(); }
    SECTION("shut down") { reader.shutdown_read(); }
    SECTION("aborted") { reader.abort(); }
    waiting.join();
    CHECK(error == EPIPE);
    CHECK(written == 100);
}

TEST_CASE("shutting down wakes this side's threads, in line or asleep", "[pipe]") {
    auto [writer, reader] = pipe_pair(100);
    std::atomic<int> told{0};
    SECTION("writing") {
        std::vector<std::unique_ptr<blocking_thread>> threads;
        for (int i = 0; i < 3; ++i) {
            threads.push_back(std::make_unique<blocking_thread>([&, &to = writer] {
                if (error_of([&] { to.write(std::string(150, 'x'), soon); }) == EPIPE) ++told;
            }));
        }
        for (auto& thread : threads) thread->wait_asleep();
        writer.shutdown_write();
        for (auto& thread : threads) thread->join();
        CHECK(told == 3);
        CHECK(error_of([&, &to = writer] { to.write("y", soon); }) == EPIPE);
        // What the first had written is there, and then a clean end.
        CHECK(read_all(reader) == std::string(100, 'x'));
    }
    SECTION("reading") {
        std::vector<std::unique_ptr<blocking_thread>> threads;
        for (int i = 0; i < 3; ++i) {
            threads.push_back(std::make_unique<blocking_thread>([&, &from = reader] {
                if (read_once(from).empty()) ++told;
            }));
        }
        for (auto& thread : threads) thread->wait_asleep();
        reader.shutdown_read();
        for (auto& thread : threads) thread->join();
        CHECK(told == 3);
        CHECK(read_once(reader).empty());
    }
}

TEST_CASE("what is moved from or closed does nothing but fail", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    pipe_writer moved = std::move(writer);
    // NOLINTNEXTLINE(bugprone-use-after-move): that is what is tested.
    CHECK(error_of([&, &to = writer] { to.write("x", soon); }) == EBADF);
    CHECK_FALSE(writer);
    writer.close();
    writer.abort();
    CHECK(moved);
    moved.write("x", soon);
    moved.close();
    CHECK(error_of([&] { moved.write("x", soon); }) == EBADF);
    CHECK(error_of([&] { (void)moved.fd(); }) == EBADF);
    CHECK(read_all(reader) == "x");
    reader.close();
    CHECK(error_of([&, &from = reader] { (void)from.peek(soon); }) == EBADF);
    // Assigning closes what was there.
    auto [other_writer, other_reader] = pipe_pair();
    auto third = pipe_pair();
    other_writer = std::move(third.first);
    CHECK(read_once(other_reader).empty());
}

TEST_CASE("drain waits for the reader", "[pipe]") {
    auto [writer, reader] = pipe_pair();
    writer.drain(soon);  // nothing to wait for
    writer.write("four", soon);
    CHECK(error_of([&, &to = writer] { to.drain(20ms); }) == ETIMEDOUT);
    std::atomic<bool> drained{false};
    blocking_thread draining([&, &to = writer] {
        to.drain(soon);
        drained = true;
    });
    draining.wait_asleep();
    CHECK(read_once(reader, 3) == "fou");
    CHECK_FALSE(drained);
    CHECK(read_once(reader, 3) == "r");
    draining.join();
    CHECK(drained);

    writer.write("more", soon);
    writer.shutdown_write();
    SECTION("read and gone") {
        CHECK(read_all(reader) == "more");
        reader.close();
        writer.drain(soon);
    }
    SECTION("gone") {
        reader.close();
        CHECK(error_of([&, &to = writer] { to.drain(soon); }) == EPIPE);
    }
}

// ---- deadlines --------------------------------------------------------------

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

// ---- in place ---------------------------------------------------------------

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

// ---- threads ----------------------------------------------------------------

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
    static std::atomic<int> handled;
    handled = 0;
    struct sigaction action {};
    struct sigaction before {};
    action.sa_handler = [](int) { ++handled; };
    ::sigaction(SIGUSR1, &action, &before);
    auto [writer, reader] = pipe_pair(100);
    std::string got;
    blocking_thread reading([&, &from = reader] { got = read_once(from); });
    for (int i = 0; i < 5; ++i) {
        reading.wait_asleep();
        ::pthread_kill(reading.handle(), SIGUSR1);
        while (handled <= i) std::this_thread::yield();
    }
    CHECK(got.empty());
    writer.write("x", soon);
    reading.join();
    CHECK(got == "x");

    writer.write(std::string(100, 'x'), soon);
    blocking_thread writing([&, &to = writer] { to.write("y", soon); });
    for (int i = 5; i < 10; ++i) {
        writing.wait_asleep();
        ::pthread_kill(writing.handle(), SIGUSR1);
        while (handled <= i) std::this_thread::yield();
    }
    CHECK_FALSE(writing.ended());
    CHECK(read_once(reader) == std::string(100, 'x'));
    writing.join();
    ::sigaction(SIGUSR1, &before, nullptr);
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

// ---- event loops ------------------------------------------------------------

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

// ---- what does not fit, and hostile peers ------------------------------------

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
