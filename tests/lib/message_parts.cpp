// SPDX-License-Identifier: MIT
// Messages that do not lie in one record: sent in parts, put together, given up.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a message longer than the ring arrives whole", "[message][parts]") {
    auto ends = channel_pair(4096);
    auto& server = ends.first;
    auto& client = ends.second;
    const std::size_t record = client.max_record_bytes();
    for (const std::size_t bytes : {record + 1, 2 * record, 3 * record + 7, 40 * record}) {
        CAPTURE(bytes);
        std::thread sender([&, &to = client] { to.send(pattern(bytes, bytes), soon); });
        const message received = server.receive(soon);
        sender.join();
        CHECK(received.text() == pattern(bytes, bytes));
        CHECK_FALSE(received.is_request());
    }
    client.send("small", soon);
    CHECK(server.receive(soon).text() == "small");
}

TEST_CASE("requests and replies go in parts, too", "[call][parts]") {
    auto ends = channel_pair(2048);
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        for (int i = 0; i < 20; ++i) {
            const message request = from.receive(soon);
            from.reply(request, request.bytes(), soon);
        }
    });
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (std::uint64_t caller = 0; caller < 4; ++caller) {
        callers.emplace_back([&, &to = client, caller] {
            for (std::uint64_t i = 0; i < 5; ++i) {
                const std::string request = pattern(caller * 100 + i, 50'000 + caller * 10 + i);
                if (to.call(request, soon).text() != request) ++wrong;
            }
        });
    }
    for (auto& caller : callers) caller.join();
    service_thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("long messages that come while a call waits are kept for receive", "[call][parts]") {
    auto ends = channel_pair(2048, {.inbox_bytes = 100'000});
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread serving([&, &from = server] {
        const message request = from.receive(soon);
        for (std::uint64_t i = 0; i < 2; ++i) from.send(pattern(i, 30'000), soon);
        from.reply(request, "done", soon);
    });
    CHECK(client.call("please", soon).text() == "done");
    serving.join();
    for (std::uint64_t i = 0; i < 2; ++i) CHECK(client.receive(soon).text() == pattern(i, 30'000));
    CHECK_FALSE(client.try_receive());
}

TEST_CASE("a long message that finds no room in the inbox waits for a receiver", "[call][parts]") {
    auto ends = channel_pair(2048, {.inbox_bytes = 1000});
    auto& server = ends.first;
    auto& client = ends.second;
    blocking_thread serving([&, &from = server] {
        const message request = from.receive(soon);
        for (std::uint64_t i = 0; i < 3; ++i) from.send(pattern(i, 30'000), soon);
        from.reply(request, "done", soon);
    });
    std::string reply;
    blocking_thread calling([&, &to = client] { reply = to.call("please", soon).text(); });
    // The first one comes into the inbox, and the end of the second one stays in the ring.
    spin_until([&, &to = client] { return to.next_priority() >= 0; });
    std::this_thread::sleep_for(20ms);
    for (std::uint64_t i = 0; i < 3; ++i) CHECK(client.receive(soon).text() == pattern(i, 30'000));
    calling.join();
    serving.join();
    CHECK(reply == "done");
}

TEST_CASE("senders of long messages do not mix their parts", "[message][parts]") {
    auto ends = channel_pair(1024);
    auto& server = ends.first;
    auto& client = ends.second;
    constexpr std::uint64_t senders = 3;
    const std::uint64_t each = scaled(200) + 1;
    std::vector<std::thread> threads;
    for (std::uint64_t s = 0; s < senders; ++s) {
        threads.emplace_back([&, &to = client, s] {
            for (std::uint64_t i = 0; i < each; ++i)
                to.send(pattern(s, 3000 + s * 1000 + i), {.priority = static_cast<unsigned>(s)},
                        soon);
        });
    }
    std::uint64_t next[senders] = {};
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < senders * each; ++i) {
        const message received = server.receive(soon);
        const unsigned s = received.priority();
        REQUIRE(s < senders);
        if (received.text() != pattern(s, 3000 + s * 1000 + next[s]++)) ++wrong;
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("a long message whose deadline passes is never received, and the next one is",
          "[message][parts]") {
    auto ends = channel_pair(2048);
    auto& server = ends.first;
    auto& client = ends.second;
    const std::string large = pattern(1, 100'000);
    CHECK(error_of([&] { client.send(large, 30ms); }) == ETIMEDOUT);
    std::thread sender([&, &to = client] { to.send("next", soon); });
    CHECK(server.receive(soon).text() == "next");
    sender.join();
    CHECK_FALSE(server.try_receive());
    std::thread again([&, &to = client] { to.send(large, soon); });
    CHECK(server.receive(soon).text() == large);
    again.join();
}

TEST_CASE("a message that goes in parts is not tried", "[message][parts]") {
    auto ends = channel_pair(2048);
    auto& server = ends.first;
    auto& client = ends.second;
    CHECK(error_of([&] { (void)client.try_send(pattern(0, client.max_record_bytes() + 1)); }) ==
          EMSGSIZE);
    CHECK(client.try_send(pattern(0, client.max_record_bytes())));
    CHECK(server.receive(soon).text() == pattern(0, client.max_record_bytes()));
}

TEST_CASE("a sender that is killed amid a long message leaves what came before",
          "[death][parts][fork]") {
    service local(channel_slot_bytes(2048));
    child peer([&] {
        channel to(local.connect());
        to.send("whole", soon);
        to.send(pattern(1, 1'000'000), soon);
        return 0;
    });
    channel from(local.accept());
    CHECK(from.receive(soon).text() == "whole");
    std::this_thread::sleep_for(20ms);
    peer.kill();
    CHECK(error_of([&] { from.receive(soon); }) == EPIPE);
    CHECK(peer.wait().signaled(9));
}

TEST_CASE("a receiver that is killed amid a long message ends the send", "[death][parts][fork]") {
    service local(channel_slot_bytes(2048));
    child peer([&] {
        channel from(local.connect());
        from.send("ready", soon);
        (void)from.receive(soon);
        return 0;
    });
    channel to(local.accept());
    CHECK(to.receive(soon).text() == "ready");
    std::thread killer([&] {
        std::this_thread::sleep_for(50ms);
        peer.kill();
    });
    // The first it may still take.
    CHECK(error_of([&] {
              for (;;) to.send(pattern(1, 1'000'000), soon);
          }) == EPIPE);
    killer.join();
    static_cast<void>(peer.wait());
}
