// SPDX-License-Identifier: MIT
// Priorities, and what happens to messages that find no room.
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("the more urgent message comes first, equals in order", "[message][priority]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    for (int round = 0; round < 3; ++round)
        for (unsigned priority = 0; priority < 4; ++priority)
            client.send(std::to_string(priority * 10 + static_cast<unsigned>(round)),
                        {.priority = priority}, soon);
    for (unsigned priority = 4; priority-- > 0;) {
        for (int round = 0; round < 3; ++round) {
            const message received = server.receive(soon);
            CHECK(received.text() == std::to_string(priority * 10 + static_cast<unsigned>(round)));
            CHECK(received.priority() == priority);
        }
    }
    CHECK_FALSE(server.try_receive());
}

TEST_CASE("an urgent message passes a full queue, and wakes who sleeps", "[message][priority]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    client.send("0", soon);
    while (client.try_send(pattern(0, 100))) {
    }
    for (unsigned priority = 1; priority < 4; ++priority)
        client.send("urgent", {.priority = priority}, 0s);
    for (unsigned priority = 3; priority > 0; --priority)
        CHECK(server.receive(soon).priority() == priority);
    while (server.try_receive()) {
    }
    for (const unsigned priority : {3U, 1U, 2U, 0U, 3U}) {
        message received;
        std::thread sleeper([&, &from = server] { from.receive(received, soon); });
        std::this_thread::sleep_for(20ms);
        client.send("wake", {.priority = priority}, soon);
        sleeper.join();
        CHECK(received.text() == "wake");
        CHECK(received.priority() == priority);
    }
}

TEST_CASE("a call has its request's priority, and its reply too", "[call][priority]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        from.reply(request, std::to_string(request.priority()), soon);
    });
    const message reply = client.call("which?", {.priority = 2}, soon);
    service_thread.join();
    CHECK(reply.text() == "2");
    CHECK(reply.priority() == 2);
}

TEST_CASE("messages that were set aside keep their priorities", "[call][priority]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        for (const unsigned priority : {0U, 3U, 1U})
            from.send(std::to_string(priority), {.priority = priority}, soon);
        from.reply(request, "done", soon);
    });
    // The reply goes with priority 0: everything else has been set aside by then.
    CHECK(client.call("question", soon).text() == "done");
    service_thread.join();
    CHECK(client.receive(soon).text() == "3");
    CHECK(client.receive(soon).text() == "1");
    CHECK(client.receive(soon).text() == "0");
}

TEST_CASE("priorities that there are not are refused", "[message][priority]") {
    auto ends = channel_pair();
    CHECK(error_of([&] { ends.second.send("x", {.priority = 4}, soon); }) == EINVAL);
    CHECK(error_of([&] { (void)ends.second.try_send("x", {.priority = ~0U}); }) == EINVAL);
    // Slots of one page have no room for them.
    auto small = connected_pair(0);
    channel server(std::move(small.first));
    channel client(std::move(small.second));
    CHECK(error_of([&] { client.send("x", {.priority = 1}, soon); }) == EINVAL);
    client.send("y", soon);
    CHECK(server.receive(soon).text() == "y");
}

TEST_CASE("what finds no room fails, or is dropped and counted, as was chosen",
          "[message][backpressure]") {
    auto ends = connected_pair();
    const when_full full = GENERATE(when_full::fail, when_full::discard);
    channel server(std::move(ends.first));
    channel client(std::move(ends.second), {.full = full});
    server.send("hello", soon);
    CHECK(client.receive(soon).text() == "hello");
    std::uint64_t sent = 0;
    while (client.try_send(pattern(sent, 100))) ++sent;
    if (full == when_full::fail) {
        CHECK(error_of([&] { client.send(pattern(0, 100), soon); }) == EAGAIN);
        CHECK(client.stats().discarded == 0);
    } else {
        client.send(pattern(1, 100), soon);
        client.send(pattern(2, 100), soon);
        CHECK(client.stats().discarded == 2);
    }
    for (std::uint64_t i = 0; i < sent; ++i)
        REQUIRE(server.receive(soon).text() == pattern(i, 100));
    CHECK_FALSE(server.try_receive());
    client.send("room", soon);
    CHECK(server.receive(soon).text() == "room");
}
