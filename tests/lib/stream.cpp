// SPDX-License-Identifier: MIT
// Stream sockets: both directions at once, half close, listeners, many connections in
// one event loop, death. What they share with pipes is tested there.
#include <cerrno>
#include <chrono>
#include <map>
#include <vector>

#include "lib/event_loop.hpp"
#include "lib/stream_support.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

stream_listen_options on_source(std::uint64_t capacity = 4096) {
    stream_listen_options options;
    options.capacity_bytes = capacity;
    options.source = source();
    return options;
}

}  // namespace

TEST_CASE("a stream socket carries both directions, each with its own end", "[stream]") {
    auto [one, other] = socket_pair();
    one.write("there", soon);
    other.write("and back", soon);
    CHECK(read_once(other) == "there");
    CHECK(read_once(one) == "and back");

    one.write("last", soon);
    one.shutdown_write();
    CHECK(read_all(other) == "last");
    CHECK(error_of([&, &to = one] { to.write("x", soon); }) == EPIPE);
    // The other direction goes on.
    other.write("still here", soon);
    CHECK(read_once(one) == "still here");
    other.close();
    CHECK(read_once(one).empty());
}

TEST_CASE("a stream socket whose reading was shut down still writes", "[stream]") {
    auto [one, other] = socket_pair();
    other.write("dropped", soon);
    one.shutdown_read();
    CHECK(read_once(one).empty());
    CHECK(error_of([&, &to = other] { to.write("x", soon); }) == EPIPE);
    one.write("y", soon);
    CHECK(read_once(other) == "y");
}

TEST_CASE("both directions are in use at once, by several threads", "[stream]") {
    auto [one, other] = socket_pair(500);
    const std::string there = pattern(1, scaled(500'000));
    const std::string back = pattern(2, scaled(500'000));
    std::string got_there;
    std::string got_back;
    {
        blocking_thread a([&, &end = one] {
            end.write(there, soon);
            end.shutdown_write();
        });
        blocking_thread b([&, &end = one] { got_back = read_all(end); });
        blocking_thread c([&, &end = other] {
            end.write(back, soon);
            end.shutdown_write();
        });
        got_there = read_all(other);
    }
    CHECK(got_there == there);
    CHECK(got_back == back);
}

TEST_CASE("questions and answers go back and forth without a lost wake-up", "[stream][fork]") {
    const std::uint64_t count = scaled(3000);
    service local(stream_slot_bytes(4096));
    child peer([&] {
        stream_socket end(local.connect());
        std::uint64_t number = 0;
        while (end.read_exact(std::as_writable_bytes(std::span(&number, 1)), soon))
            end.write(number * 3, soon);
        return 0;
    });
    stream_socket end(local.accept());
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        end.write(i, soon);
        std::uint64_t answer = 0;
        REQUIRE(end.read_exact(std::as_writable_bytes(std::span(&answer, 1)), soon));
        if (answer != i * 3) ++wrong;
    }
    CHECK(wrong == 0);
    end.shutdown_write();
    CHECK(peer.wait().exited());
    CHECK(read_once(end).empty());
}

TEST_CASE("a name takes stream connections, and says who is there", "[stream][fork]") {
    const std::string name = unique_name();
    door local = test_door();
    stream_listener names(local, name, on_source(100'000));
    CHECK_FALSE(names.try_accept());
    CHECK(error_of([&] { (void)names.accept(20ms); }) == ETIMEDOUT);
    CHECK_FALSE(is_readable(names.fd()));
    child peer([&] {
        door mine = test_door();
        stream_socket end = connect_stream(mine, name, {}, soon);
        end.write("hello", soon);
        EXPECT_CHILD(read_all(end) == "and good-bye");
        return 0;
    });
    REQUIRE(becomes_readable(names.fd()));
    stream_socket end = names.accept(soon);
    CHECK(end.capacity() >= 100'000);
    CHECK(end.peer_info().pid == peer.pid());
    CHECK(end.peer_info().uid == ::getuid());
    std::string text(5, '\0');
    CHECK(end.read_exact(room_of(text), soon));
    CHECK(text == "hello");
    end.write("and good-bye", soon);
    end.close();
    CHECK(peer.wait().exited());
    names.close();
    CHECK(error_of([&] { (void)connect_stream(local, name, {}, soon); }) == ENOENT);
}

TEST_CASE("connecting to a stream listener that does not accept ends at the deadline", "[stream]") {
    const std::string name = unique_name();
    door local = test_door();
    CHECK(error_of([&] { (void)connect_stream(local, name, {}, 20ms); }) == ENOENT);
    const stream_listener names(local, name, on_source());
    const std::uint64_t before = now_ns();
    CHECK(error_of([&] { (void)connect_stream(local, name, {}, 20ms); }) == ETIMEDOUT);
    CHECK(now_ns() - before >= 20'000'000);
}

// ---- event loops ------------------------------------------------------------

TEST_CASE("a level-triggered loop is woken once for each thing there is to do", "[stream]") {
    auto [one, other] = socket_pair(100);
    epoll_set loop;
    loop.add(one.fd(), 0);
    std::byte room[1000];
    const std::string much(1000, 'x');
    // At first stale rings may wake it: each is taken by the try that finds nothing.
    const auto settle = [&, &end = one] {
        while (!loop.wait(0ms).empty()) {
            REQUIRE_FALSE(end.try_read(room));
        }
        REQUIRE_FALSE(end.try_read(room));
        loop.wakeups = 0;
    };
    settle();
    const std::uint64_t rounds = scaled(200);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        other.write("x", soon);
        REQUIRE(loop.wait().size() == 1);
        REQUIRE(one.try_read(room) == std::optional<std::size_t>(1));
        REQUIRE_FALSE(one.try_read(room));
        REQUIRE(loop.wait(0ms).empty());
    }
    CHECK(loop.wakeups == rounds);

    // Writing as well: woken for room, and not for the other direction's leavings.
    loop.wakeups = 0;
    for (std::uint64_t i = 0; i < rounds; ++i) {
        REQUIRE(one.try_write(much));
        REQUIRE_FALSE(one.try_write(much));
        REQUIRE(loop.wait(0ms).empty());
        CHECK(read_once(other, 1000).size() == 100);
        REQUIRE(loop.wait().size() == 1);
    }
    CHECK(loop.wakeups == rounds);
    // Whoever no longer wants to write is not woken for room for ever.
    REQUIRE(one.try_write("x"));
    REQUIRE_FALSE(one.try_read(room));
    CHECK(loop.wait(0ms).empty());
}

TEST_CASE("what a blocking call left behind does not keep a loop awake", "[stream]") {
    auto [one, other] = socket_pair(100);
    epoll_set loop;
    loop.add(one.fd(), 0);
    std::byte room[100];
    // It sleeps for room until the deadline; then the room comes and nobody waits.
    one.write(std::string(100, 'x'), soon);
    REQUIRE(error_of([&, &to = one] { to.write("y", 10ms); }) == ETIMEDOUT);
    other.raw().ring(1 - other.raw().slot(), detail::stream_link::writer_vector);
    REQUIRE(loop.wait().size() == 1);
    REQUIRE_FALSE(one.try_read(room));
    CHECK(loop.wait(0ms).empty());
}

TEST_CASE("one thread serves two hundred connections", "[stream][fork]") {
    constexpr std::uint64_t connections = 200;
    const std::uint64_t rounds = scaled(20);
    const std::string name = unique_name();
    door local = test_door();
    stream_listener names(local, name, on_source(1000));

    std::vector<child> clients;
    for (int process = 0; process < 4; ++process) {
        clients.emplace_back([&, process] {
            door mine = test_door();
            std::vector<stream_socket> ends;
            for (std::uint64_t i = 0; i < connections / 4; ++i)
                ends.push_back(connect_stream(mine, name, {}, soon));
            for (std::uint64_t round = 0; round < rounds; ++round) {
                for (std::size_t i = 0; i < ends.size(); ++i)
                    ends[i].write(pattern(round + i + process, 50), soon);
                for (std::size_t i = 0; i < ends.size(); ++i) {
                    std::string echo(50, '\0');
                    EXPECT_CHILD(ends[i].read_exact(room_of(echo), soon));
                    EXPECT_CHILD(echo == pattern(round + i + process, 50));
                }
            }
            return 0;
        });
    }

    epoll_set loop;
    constexpr std::uint64_t listening = ~std::uint64_t{0};
    loop.add(names.fd(), listening);
    std::map<std::uint64_t, stream_socket> ends;
    std::uint64_t ended = 0;
    std::uint64_t accepted = 0;
    std::uint64_t echoed = 0;
    std::string room(1000, '\0');
    while (ended < connections) {
        for (const std::uint64_t tag : loop.wait()) {
            if (tag == listening) {
                while (auto end = names.try_accept()) {
                    loop.add(end->fd(), accepted);
                    // What came before the descriptor was watched rang already.
                    ends.emplace(accepted++, std::move(*end));
                }
                continue;
            }
            stream_socket& end = ends.at(tag);
            for (;;) {
                const auto bytes = end.try_read(room_of(room));
                if (!bytes) break;
                if (*bytes == 0) {
                    loop.remove(end.fd());
                    ends.erase(tag);
                    ++ended;
                    break;
                }
                // The client waits for it, so there is room.
                REQUIRE(end.try_write(std::string_view(room).substr(0, *bytes)) == bytes);
                echoed += *bytes;
            }
        }
    }
    CHECK(accepted == connections);
    CHECK(echoed == connections * rounds * 50);
    for (child& client : clients) CHECK(client.wait().exited());
    // A wake-up for each thing to do, some for nothing; a loop that spins has millions.
    CHECK(loop.wakeups < 10 * connections * (rounds + 3));
}

// ---- death ------------------------------------------------------------------

TEST_CASE("a stream socket's peer that is killed ends both directions", "[stream][death][fork]") {
    service local(stream_slot_bytes(1000));
    gate opened;
    child peer([&] {
        stream_socket end(local.connect());
        end.write("half", soon);
        opened.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    stream_socket end(local.accept());
    opened.wait();
    std::pair<std::string, int> read;
    int write_error = 0;
    {
        blocking_thread reading([&] { read = read_until_error(end); });
        blocking_thread writing(
            [&] { write_error = error_of([&] { end.write(std::string(1 << 16, 'x'), soon); }); });
        reading.wait_asleep();
        writing.wait_asleep();
        peer.kill();
        CHECK(peer.wait().signaled(9));
    }
    CHECK(read == std::pair(std::string("half"), EPIPE));
    CHECK(write_error == EPIPE);
    CHECK(error_of([&] { end.write("x", soon); }) == EPIPE);
    CHECK(error_of([&] { (void)end.try_read(std::span<std::byte>()); }) == 0);
    CHECK(error_of([&] { read_once(end); }) == EPIPE);
}

TEST_CASE("an event loop is told of a killed peer", "[stream][death][fork]") {
    service local(stream_slot_bytes(1000));
    gate opened;
    child peer([&] {
        stream_socket end(local.connect());
        opened.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    stream_socket end(local.accept());
    opened.wait();
    epoll_set loop;
    loop.add(end.fd(), 0);
    std::byte room[10];
    while (!loop.wait(0ms).empty()) {
        REQUIRE_FALSE(end.try_read(room));
    }
    REQUIRE_FALSE(end.try_read(room));
    peer.kill();
    CHECK(peer.wait().signaled(9));
    REQUIRE(loop.wait().size() == 1);
    CHECK(error_of([&] { (void)end.try_read(room); }) == EPIPE);
    CHECK(error_of([&] {
              while (end.try_write(std::string(1000, 'x'))) {
              }
          }) == EPIPE);
}
