// SPDX-License-Identifier: MIT
// Channels whose peer dies before, during and after every operation: a clear error, and
// everything that was published before is still received.
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/message.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Runs `operation` against a peer process that is killed while it blocks there.
int error_when_killed(const std::function<int(channel&)>& peer_body,
                      const std::function<void(channel&)>& operation) {
    service local;
    gate connected;
    child peer([&] {
        channel end(local.connect());
        connected.open();
        const int code = peer_body(end);
        std::this_thread::sleep_for(soon);  // to be killed
        return code;
    });
    channel end(local.accept());
    connected.wait();
    std::thread killer([&] {
        std::this_thread::sleep_for(50ms);
        peer.kill();
    });
    const int error = error_of([&] { operation(end); });
    killer.join();
    CHECK(peer.wait().signaled(9));
    // It stays so.
    CHECK(error_of([&] { end.receive(soon); }) == EPIPE);
    CHECK(error_of([&] { end.call("x", soon); }) == EPIPE);
    CHECK(error_of([&] { end.send("x", soon); }) == EPIPE);
    CHECK(error_of([&] { (void)end.try_receive(); }) == EPIPE);
    return error;
}

}  // namespace

TEST_CASE("a receive that waits ends when the peer is killed", "[death][fork]") {
    CHECK(error_when_killed([](channel&) { return 0; }, [](channel& end) { end.receive(soon); }) ==
          EPIPE);
}

TEST_CASE("a call that waits ends when the peer is killed", "[death][fork]") {
    CHECK(error_when_killed(
              [](channel& end) {
                  end.receive(soon);
                  return 0;
              },
              [](channel& end) { end.call("request", soon); }) == EPIPE);
}

TEST_CASE("a send that waits for room ends when the peer is killed", "[death][fork]") {
    CHECK(error_when_killed([](channel&) { return 0; },
                            [](channel& end) {
                                for (;;) end.send(std::string(1000, 'x'), soon);
                            }) == EPIPE);
}

TEST_CASE("every waiting thread is told of the peer's death", "[death][fork]") {
    CHECK(error_when_killed([](channel&) { return 0; },
                            [](channel& end) {
                                std::atomic<int> told{0};
                                std::vector<std::thread> threads;
                                for (int i = 0; i < 3; ++i) {
                                    threads.emplace_back([&] {
                                        if (error_of([&] { end.receive(soon); }) == EPIPE) ++told;
                                    });
                                    threads.emplace_back([&] {
                                        if (error_of([&] { end.call("x", soon); }) == EPIPE) ++told;
                                    });
                                    threads.emplace_back([&] {
                                        if (error_of([&] {
                                                for (;;) end.send(std::string(1000, 'x'), soon);
                                            }) == EPIPE)
                                            ++told;
                                    });
                                }
                                for (std::thread& thread : threads) thread.join();
                                CHECK(told == 9);
                                end.receive(soon);
                            }) == EPIPE);
}

TEST_CASE("what a killed peer had published is received before EPIPE", "[death][fork]") {
    service local;
    gate published;
    child peer([&] {
        channel end(local.connect());
        for (std::uint64_t i = 0; i < 50; ++i) end.send(pattern(i, i), soon);
        published.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    channel end(local.accept());
    published.wait();
    peer.kill();
    REQUIRE(peer.wait().signaled(9));
    for (std::uint64_t i = 0; i < 50; ++i) REQUIRE(end.receive(soon).text() == pattern(i, i));
    CHECK(error_of([&] { end.receive(soon); }) == EPIPE);
    CHECK(error_of([&] { (void)end.try_receive(); }) == EPIPE);
}

TEST_CASE("a reply that was published before its server died is received", "[death][fork]") {
    service local;
    child peer([&] {
        channel end(local.connect());
        const message request = end.receive(soon);
        end.reply(request, "last words", soon);
        return 0;
    });
    channel end(local.accept());
    CHECK(end.call("x", soon).text() == "last words");
    CHECK(peer.wait().exited());
    CHECK(error_of([&] { end.call("x", soon); }) == EPIPE);
}

TEST_CASE("sending to a peer that died unnoticed fails when the queue is full at the latest",
          "[death]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    client.send("x", soon);
    { const channel gone = std::move(server); }
    int sent = 0;
    const int error = error_of([&] {
        for (; sent < 100'000; ++sent) client.send(std::string(100, 'x'), soon);
    });
    CHECK(error == EPIPE);
    CHECK(sent < 1000);
    auto others = channel_pair();
    others.second.send("x", soon);
    { const channel gone = std::move(others.first); }
    // An event loop is told of it as soon as there is no room.
    int told = 0;
    for (sent = 0; told == 0;) {
        told = error_of([&] {
            while (others.second.try_send(std::string(100, 'x'))) ++sent;
        });
        pollfd wanted{others.second.fd(), POLLIN, 0};
        REQUIRE(::poll(&wanted, 1, 60'000) == 1);
    }
    CHECK(told == EPIPE);
    CHECK(sent < 1000);
}

TEST_CASE("a peer that dies before it opened its channel is an EPIPE", "[death]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    channel server(std::move(accepted));
    CHECK_FALSE(server.try_receive());
    CHECK_FALSE(server.try_send("x"));
    CHECK(error_of([&] { server.receive(20ms); }) == ETIMEDOUT);
    CHECK(error_of([&] { server.send("x", 20ms); }) == ETIMEDOUT);
    { const endpoint gone = std::move(connected); }
    CHECK(error_of([&] { server.receive(soon); }) == EPIPE);
    CHECK(error_of([&] { server.send("x", soon); }) == EPIPE);
    CHECK(error_of([&] { (void)server.try_receive(); }) == EPIPE);
}

TEST_CASE("a peer killed at a random moment of traffic leaves no wrong byte and no hang",
          "[death][fork]") {
    const std::uint64_t rounds = scaled(40);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        service local;
        child peer([&] {
            channel end(local.connect());
            for (std::uint64_t i = 0;; ++i) {
                end.send(pattern(i, i % 300), soon);
                if (i % 7 == 0) end.call(pattern(i, i % 100), soon);
            }
            return 0;
        });
        channel end(local.accept());
        std::thread killer([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(500 * round));
            peer.kill();
        });
        std::uint64_t expected = 0;
        std::uint64_t wrong = 0;
        const int error = error_of([&] {
            for (;;) {
                const message received = end.receive(soon);
                if (received.is_request()) {
                    if (received.text() != pattern(expected - 1, (expected - 1) % 100)) ++wrong;
                    end.reply(received, "", soon);
                } else {
                    if (received.text() != pattern(expected, expected % 300)) ++wrong;
                    ++expected;
                }
            }
        });
        killer.join();
        CHECK(error == EPIPE);
        CHECK(wrong == 0);
        CHECK(peer.wait().signaled(9));
    }
}
