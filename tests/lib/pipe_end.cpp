// SPDX-License-Identifier: MIT
// How a pipe ends: closed, shut down, aborted, drained, and what either side is told.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/pipe.hpp>

#include "lib/lib_support.hpp"
#include "lib/stream_support.hpp"
#include "support/catch.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

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
