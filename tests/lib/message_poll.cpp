// SPDX-License-Identifier: MIT
// Channels in an event loop: level-triggered epoll on fd(), and nothing but tries.
#include <chrono>
#include <thread>

#include "lib/event_loop.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("after a try in vain, epoll tells of the next message, once for all of them",
          "[message][poll]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    epoll_set loop(server.fd());
    CHECK_FALSE(server.try_receive());
    for (int round = 0; round < 5; ++round) {
        CHECK(loop.wait(0ms).empty());
        const auto before = client.stats().doorbells;
        client.send("one", soon);
        client.send("two", soon);
        client.send("three", soon);
        CHECK(client.stats().doorbells == before + 1);
        REQUIRE(loop.wait().size() == 1);
        CHECK(server.try_receive().value().text() == "one");
        // Level-triggered: there is more.
        CHECK(loop.wait(0ms).size() == 1);
        CHECK(server.try_receive().value().text() == "two");
        CHECK(server.try_receive().value().text() == "three");
        CHECK_FALSE(server.try_receive());
    }
}

TEST_CASE("after a try in vain, epoll tells of room, and then of nothing", "[message][poll]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    epoll_set loop(client.fd());
    client.send("0", soon);
    CHECK_FALSE(client.try_receive());
    for (int round = 0; round < 5; ++round) {
        std::uint64_t sent = 0;
        while (client.try_send(pattern(sent, 500))) ++sent;
        CHECK(loop.wait(0ms).empty());
        for (std::uint64_t i = 0; i < sent; ++i) server.receive(soon);
        REQUIRE(loop.wait().size() == 1);
        CHECK(client.try_send("room"));
        CHECK(loop.wait(0ms).empty());
        while (server.try_receive()) {
        }
    }
}

TEST_CASE("a send that gave up leaves nothing that keeps epoll awake", "[message][poll]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    epoll_set loop(client.fd());
    client.send("0", soon);
    CHECK_FALSE(client.try_receive());
    CHECK(error_of([&, &to = client] {
              for (;;) to.send(pattern(0, 500), 10ms);
          }) == ETIMEDOUT);
    while (server.try_receive()) {
    }
    CHECK_FALSE(client.try_receive());
    CHECK(loop.wait(0ms).empty());
    server.send("news", soon);
    CHECK(loop.wait().size() == 1);
    CHECK(client.receive(soon).text() == "news");
}

TEST_CASE("an event loop serves a channel with no more wake-ups than there is to do",
          "[message][poll]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const std::uint64_t count = scaled(5'000);
    std::thread caller([&, &to = client] {
        for (std::uint64_t i = 0; i < count; ++i)
            if (to.call(i, soon).as<std::uint64_t>() != i + 1) std::abort();
        to.send("stop", {.priority = 3}, soon);
    });
    epoll_set loop(server.fd());
    std::uint64_t wakeups = 0;
    for (bool going = true; going;) {
        while (const auto request = server.try_receive()) {
            if (!request->is_request()) {
                going = false;
                break;
            }
            server.reply(*request, request->as<std::uint64_t>() + 1, soon);
        }
        if (!going) break;
        REQUIRE(loop.wait().size() == 1);
        ++wakeups;
    }
    caller.join();
    // One for each request, the greeting and the last; a loop that spins has many more.
    CHECK(wakeups <= count + 10);
}

TEST_CASE("epoll tells of the peer's death", "[message][poll][death][fork]") {
    service local;
    child peer([&] {
        channel to(local.connect());
        to.send("last words", soon);
        (void)to.receive(soon);
        return 0;
    });
    channel from(local.accept());
    epoll_set loop(from.fd());
    while (!from.try_receive()) REQUIRE(loop.wait().size() == 1);
    peer.kill();
    CHECK(peer.wait().signaled(9));
    int error = 0;
    while (error == 0) {
        REQUIRE(loop.wait().size() == 1);
        error = error_of([&] { (void)from.try_receive(); });
    }
    CHECK(error == EPIPE);
}

TEST_CASE("epoll tells of what other threads left for the loop", "[message][poll]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    epoll_set loop(client.fd());
    CHECK_FALSE(client.try_receive());
    SECTION("a message that a call set aside") {
        std::thread service_thread([&, &from = server] {
            const message request = from.receive(soon);
            from.send("aside", soon);
            from.reply(request, "reply", soon);
        });
        std::thread caller(
            [&, &to = client] { CHECK_IN_THREAD(to.call("question", soon).text() == "reply"); });
        caller.join();
        service_thread.join();
        REQUIRE(loop.wait().size() == 1);
        CHECK(client.try_receive().value().text() == "aside");
    }
    SECTION("messages after a call that took what was armed") {
        std::thread service_thread([&, &from = server] {
            const message request = from.receive(soon);
            from.reply(request, "reply", soon);
        });
        std::thread caller(
            [&, &to = client] { CHECK_IN_THREAD(to.call("question", soon).text() == "reply"); });
        caller.join();
        service_thread.join();
        server.send("later", soon);
        REQUIRE(loop.wait().size() == 1);
        CHECK(client.try_receive().value().text() == "later");
    }
    SECTION("messages that came while one was held in place") {
        server.send("held", soon);
        held_message held = client.receive_in_place(soon);
        CHECK_FALSE(client.try_receive());
        server.send("behind it", soon);
        held.release();
        REQUIRE(loop.wait().size() == 1);
        CHECK(client.try_receive().value().text() == "behind it");
    }
    SECTION("room that a loan gives up") {
        loaned_message loan = client.loan(10, soon);
        CHECK_FALSE(client.try_send("x"));
        CHECK_FALSE(client.try_receive());
        loan.cancel();
        REQUIRE(loop.wait().size() == 1);
        CHECK(client.try_send("x"));
    }
    CHECK_FALSE(client.try_receive());
    CHECK(loop.wait(0ms).empty());
}

TEST_CASE("a loop that only sends sleeps while there is no room", "[message][poll]") {
    auto ends = channel_pair();
    auto& client = ends.second;
    epoll_set loop(client.fd());
    while (client.try_send(pattern(1, 500))) {
    }
    CHECK(loop.wait(0ms).empty());
    // What is not to be waited for leaves nothing behind.
    CHECK_FALSE(client.send_if_room(pattern(1, 500)));
    CHECK(loop.wait(0ms).empty());
}
