// SPDX-License-Identifier: MIT
// call and reply: each reply to its caller, late replies, calls and messages
// mixed on one channel.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Answers each request with its content until "stop" comes as a message.
void echo(channel& from) {
    for (;;) {
        const message request = from.receive(soon);
        if (!request.is_request()) return;
        from.reply(request, request.bytes(), soon);
    }
}

}  // namespace

TEST_CASE("a call returns the reply to it", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] { echo(from); });
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, client.max_record_bytes()})
        CHECK(client.call(pattern(bytes, bytes), soon).text() == pattern(bytes, bytes));
    client.send("stop", soon);
    service_thread.join();
    CHECK(client.stats().late_replies == 0);
}

TEST_CASE("a spinning caller rings before it spins", "[call]") {
    auto ends = connected_pair(channel_slot_bytes(8192));
    channel server(std::move(ends.first));
    channel client(std::move(ends.second), {.spin_ns = 30'000'000'000});
    std::thread service_thread([&] { echo(server); });
    // It sleeps, so that nothing but a ring gets it going.
    while (server.stats().waits == 0) std::this_thread::sleep_for(1ms);
    CHECK(client.call("request", soon).text() == "request");
    // The reply came while it spun: it did not have to sleep.
    CHECK(client.stats().waits == 0);
    client.send("stop", soon);
    service_thread.join();
}

TEST_CASE("replies in any order reach their callers", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        std::vector<message> requests;
        for (int i = 0; i < 4; ++i) requests.push_back(from.receive(soon));
        for (int i = 3; i >= 0; --i) from.reply(requests[i], requests[i].bytes(), soon);
    });
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([&, &to = client, i] {
            if (error_of([&] {
                    if (to.call(pattern(i, 20 + i), soon).text() != pattern(i, 20 + i)) ++wrong;
                }) != 0)
                ++wrong;
        });
    }
    for (std::thread& caller : callers) caller.join();
    service_thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("eight threads call one server process at once and get their own replies",
          "[call][fork]") {
    service local;
    const std::uint64_t each = scaled(5'000);
    child peer([&] {
        channel from(local.connect());
        echo(from);
        return 0;
    });
    channel client(local.accept());
    std::vector<std::thread> callers;
    std::atomic<std::uint64_t> wrong{0};
    for (std::uint64_t t = 0; t < 8; ++t) {
        callers.emplace_back([&, t] {
            message reply;
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::string request = pattern(t << 32 | i, (t * 13 + i) % 200);
                if (error_of([&] { client.call(request, reply, soon); }) != 0 ||
                    reply.text() != request)
                    ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(wrong == 0);
    CHECK(client.stats().late_replies == 0);
    client.send("stop", soon);
    CHECK(peer.wait().exited());
}

TEST_CASE("several threads serve several callers", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const std::uint64_t each = scaled(2'000);
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> wrong{0};
    for (int s = 0; s < 3; ++s) {
        threads.emplace_back([&, &from = server] {
            if (error_of([&] { echo(from); }) != 0) ++wrong;
        });
    }
    std::vector<std::thread> callers;
    for (std::uint64_t t = 0; t < 3; ++t) {
        callers.emplace_back([&, &to = client, t] {
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::string request = pattern(t << 32 | i, i % 50);
                if (error_of([&] {
                        if (to.call(request, soon).text() != request) ++wrong;
                    }) != 0)
                    ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    for (int s = 0; s < 3; ++s) client.send("stop", soon);
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("a call gives up at its deadline, and the late reply is dropped and counted", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const auto begin = std::chrono::steady_clock::now();
    CHECK(error_of([&] { client.call("slow", 50ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
    const message slow = server.receive(soon);
    CHECK(slow.text() == "slow");
    server.reply(slow, "too late", soon);

    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        from.reply(request, "in time", soon);
    });
    CHECK(client.call("quick", soon).text() == "in time");
    service_thread.join();
    CHECK(client.stats().late_replies == 1);
}

TEST_CASE("a second reply to one request is dropped and counted", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        from.reply(request, "one", soon);
        from.reply(request, "two", soon);
        from.send("end", soon);
    });
    CHECK(client.call("x", soon).text() == "one");
    CHECK(client.receive(soon).text() == "end");
    service_thread.join();
    CHECK(client.stats().late_replies == 1);
}

TEST_CASE("messages that come while a call waits are kept for receive, in order", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        for (std::uint64_t i = 0; i < 20; ++i) from.send(i, soon);
        from.reply(request, "done", soon);
    });
    CHECK(client.call("x", soon).text() == "done");
    service_thread.join();
    for (std::uint64_t i = 0; i < 20; ++i) REQUIRE(client.receive(soon).as<std::uint64_t>() == i);
    CHECK_FALSE(client.try_receive());
}

TEST_CASE("a flood of messages holds a call up to its deadline, not for ever", "[call]") {
    auto ends = channel_pair(8192, {.inbox_bytes = 2048});
    auto& server = ends.first;
    auto& client = ends.second;
    std::atomic<bool> replied{false};
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        for (std::uint64_t i = 0; i < 100; ++i) from.send(pattern(i, 100), soon);
        from.reply(request, "done", soon);
        replied = true;
    });
    CHECK(error_of([&] { client.call("x", 100ms); }) == ETIMEDOUT);
    for (std::uint64_t i = 0; i < 100; ++i) REQUIRE(client.receive(soon).text() == pattern(i, 100));
    service_thread.join();
    CHECK(replied);
    CHECK_FALSE(client.try_receive());
    CHECK(client.stats().late_replies == 1);
}

TEST_CASE("a receiver lets a flooded call go on", "[call]") {
    auto ends = channel_pair(8192, {.inbox_bytes = 2048});
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        for (std::uint64_t i = 0; i < 1000; ++i) from.send(pattern(i, 100), soon);
        from.reply(request, "done", soon);
    });
    std::atomic<std::uint64_t> wrong{0};
    std::thread receiver([&, &to = client] {
        for (std::uint64_t i = 0; i < 1000; ++i) {
            if (error_of([&] {
                    if (to.receive(soon).text() != pattern(i, 100)) ++wrong;
                }) != 0)
                ++wrong;
        }
    });
    CHECK(client.call("x", soon).text() == "done");
    receiver.join();
    service_thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("both sides may call each other at the same time", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const std::uint64_t each = scaled(1'000);
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (channel* side : {&server, &client}) {
        threads.emplace_back([&, side] {
            if (error_of([&] { echo(*side); }) != 0) ++wrong;
        });
    }
    std::vector<std::thread> callers;
    for (channel* side : {&server, &client}) {
        callers.emplace_back([&, side] {
            for (std::uint64_t i = 0; i < each; ++i) {
                if (error_of([&] {
                        if (side->call(i, soon).as<std::uint64_t>() != i) ++wrong;
                    }) != 0)
                    ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    server.send("stop", soon);
    client.send("stop", soon);
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("a server that replies and receives at once serves as well", "[call][fork]") {
    service local;
    const std::uint64_t count = scaled(10'000);
    child peer([&] {
        channel from(local.connect());
        message request = from.receive(soon);
        for (std::uint64_t i = 1; i < count; ++i)
            from.reply_receive(request, request.bytes(), request, soon);
        from.reply(request, request.bytes(), soon);
        return 0;
    });
    channel client(local.accept());
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i)
        if (client.call(i, soon).as<std::uint64_t>() != i) ++wrong;
    CHECK(wrong == 0);
    CHECK(peer.wait().exited());
}

TEST_CASE("reply to a message that is no request is an error", "[call]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    client.send("plain", soon);
    const message plain = server.receive(soon);
    CHECK(error_of([&] { server.reply(plain, "x", soon); }) == EINVAL);
    CHECK(error_of([&] { server.reply(message(), "x", soon); }) == EINVAL);
}

TEST_CASE("who leads next is somebody who sleeps, not a caller that waits for room", "[call]") {
    auto ends = channel_pair(1024);
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread first(
        [&, &to = client] { CHECK_IN_THREAD(to.call("first", soon).text() == "one"); });
    const message one = server.receive(soon);
    while (client.try_send(pattern(0, 500))) {
    }
    std::thread blocked(
        [&, &to = client] { CHECK_IN_THREAD(to.call(pattern(0, 500), soon).text() == "two"); });
    std::this_thread::sleep_for(30ms);
    std::thread urgent([&, &to = client] {
        CHECK_IN_THREAD(to.call("urgent", {.priority = 1}, soon).text() == "three");
    });
    while (server.next_priority() != 1) std::this_thread::sleep_for(1ms);
    const message three = server.receive(soon);
    std::this_thread::sleep_for(30ms);
    server.reply(one, "one", soon);
    first.join();
    // Nobody makes room for `blocked` until this one has its reply.
    server.reply(three, "three", soon);
    urgent.join();
    for (;;) {
        const message next = server.receive(soon);
        if (!next.is_request()) continue;
        server.reply(next, "two", soon);
        break;
    }
    blocked.join();
}
