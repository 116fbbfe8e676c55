// SPDX-License-Identifier: MIT
// Messages that are sent and received: order, content, boundaries, sizes, full queues, deadlines.
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("messages keep order, boundaries and content", "[message]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    client.send("first");
    client.send("");
    client.send(std::string(100, 'x'));
    CHECK(server.receive(soon).text() == "first");
    CHECK(server.receive(soon).empty());
    CHECK(server.receive(soon).text() == std::string(100, 'x'));
    CHECK_FALSE(server.try_receive());
}

TEST_CASE("messages carry objects, arrays and text", "[message]") {
    struct sample {
        int number;
        double value;
    };
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    client.send(sample{7, 2.5});
    client.send(std::array<std::uint16_t, 3>{1, 2, 3});
    client.send(std::vector<char>{'a', 'b'});
    client.send(std::string_view("text"));
    const auto received = server.receive(soon).as<sample>();
    CHECK(received.number == 7);
    CHECK(received.value == 2.5);
    CHECK(server.receive(soon).as<std::array<std::uint16_t, 3>>()[2] == 3);
    CHECK(server.receive(soon).text() == "ab");
    const message text = server.receive(soon);
    CHECK(text.text() == "text");
    CHECK_FALSE(text.is_request());
    CHECK(error_of([&] { (void)text.as<sample>(); }) == EMSGSIZE);
}

TEST_CASE("every size from nothing to the largest message passes", "[message]") {
    auto ends = channel_pair(4096);
    auto& server = ends.first;
    auto& client = ends.second;
    const std::size_t largest = client.max_record_bytes();
    CHECK(largest >= 4096);
    for (std::size_t bytes = 0; bytes <= largest; bytes += bytes < 70 ? 1 : 61) {
        CAPTURE(bytes);
        client.send(pattern(bytes, bytes), soon);
        REQUIRE(server.receive(soon).text() == pattern(bytes, bytes));
    }
    client.send(pattern(1, largest), soon);
    CHECK(server.receive(soon).text() == pattern(1, largest));
}

TEST_CASE("a message that is too large is refused, and the channel goes on", "[message]") {
    auto ends = channel_pair(8192, {.max_message_bytes = 100'000});
    auto& server = ends.first;
    auto& client = ends.second;
    const std::string large(100'001, 'x');
    CHECK(error_of([&] { client.send(large, soon); }) == EMSGSIZE);
    CHECK(error_of([&] { (void)client.try_send(large); }) == EMSGSIZE);
    CHECK(error_of([&] { client.call(large, soon); }) == EMSGSIZE);
    client.send("small", soon);
    CHECK(server.receive(soon).text() == "small");
}

TEST_CASE("a channel of the smallest slots works", "[message]") {
    auto ends = connected_pair(0);
    auto& accepted = ends.first;
    auto& connected = ends.second;
    channel server(std::move(accepted));
    channel client(std::move(connected));
    CHECK(client.max_record_bytes() == 992);
    for (int i = 0; i < 100; ++i) {
        client.send(pattern(1, 1008), soon);
        REQUIRE(server.receive(soon).text() == pattern(1, 1008));
    }
    std::array<std::byte, 256> too_small{};
    CHECK(error_of([&] { init_message_slot(too_small.data(), too_small.size(), {}); }) == EINVAL);
}

TEST_CASE("an endpoint carries one channel, and only one of a connection does", "[message]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    ipcdoor_endpoint* const raw = accepted.get();
    channel first(std::move(accepted));
    CHECK(error_of([&] {
              endpoint again(raw);
              try {
                  const detail::channel_core second(again.get(), {0, 0, 0});
              } catch (...) {
                  (void)again.release();
                  throw;
              }
          }) == EBUSY);
}

TEST_CASE("a full queue refuses, blocks until the deadline, and takes more after a receive",
          "[message]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    // The peer's header must have been seen before a try can succeed.
    client.send("0", soon);
    std::uint64_t sent = 1;
    while (client.try_send(pattern(sent, 100))) ++sent;
    CHECK(sent > 50);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(error_of([&] { client.send(pattern(0, 100), 50ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
    CHECK(server.receive(soon).text() == "0");
    for (std::uint64_t i = 1; i < sent; ++i)
        REQUIRE(server.receive(soon).text() == pattern(i, 100));
    CHECK_FALSE(server.try_receive());
    CHECK(client.try_send("again"));
    CHECK(server.receive(soon).text() == "again");
}

TEST_CASE("a blocked sender goes on when the receiver makes room", "[message]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const std::uint64_t count = scaled(20'000);
    std::thread sender([&, &to = client] {
        for (std::uint64_t i = 0; i < count; ++i) to.send(pattern(i, i % 4000), soon);
    });
    std::uint64_t wrong = 0;
    message received;
    for (std::uint64_t i = 0; i < count; ++i) {
        server.receive(received, soon);
        if (received.text() != pattern(i, i % 4000)) ++wrong;
    }
    sender.join();
    CHECK(wrong == 0);
}

TEST_CASE("several threads wait for the peer's channel, each to its own deadline", "[message]") {
    auto ends = connected_pair();
    channel server(std::move(ends.first));
    std::string first;
    blocking_thread receiving([&] { first = server.receive(soon).text(); });
    receiving.wait_asleep();
    CHECK_FALSE(server.try_receive());
    CHECK(error_of([&] { server.receive(20ms); }) == ETIMEDOUT);
    channel client(std::move(ends.second));
    client.send("first", soon);
    receiving.join();
    CHECK(first == "first");
    client.send("second", soon);
    CHECK(server.receive(soon).text() == "second");
}

TEST_CASE("an empty queue makes receive wait until the deadline", "[message]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const auto begin = std::chrono::steady_clock::now();
    CHECK(error_of([&] { server.receive(50ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
    CHECK(error_of([&] { server.receive(0ns); }) == ETIMEDOUT);
    client.send("late", soon);
    CHECK(server.receive(0ns).text() == "late");
}

TEST_CASE("under load there is no doorbell for each message", "[message]") {
    auto ends = channel_pair(1 << 16);
    auto& server = ends.first;
    auto& client = ends.second;
    client.send("awake", soon);
    CHECK(server.receive(soon).text() == "awake");
    const auto before_client = client.stats();
    const auto before_server = server.stats();
    for (std::uint64_t i = 0; i < 500; ++i) client.send(pattern(i, 100), soon);
    for (std::uint64_t i = 0; i < 500; ++i) REQUIRE(server.receive(soon).text() == pattern(i, 100));
    CHECK(client.stats().doorbells == before_client.doorbells);
    CHECK(client.stats().waits == before_client.waits);
    CHECK(server.stats().doorbells == before_server.doorbells);
    CHECK(server.stats().waits == before_server.waits);
}

TEST_CASE("any number of threads send and receive, each message once", "[message]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    constexpr std::uint64_t senders = 4;
    constexpr std::uint64_t receivers = 3;
    const std::uint64_t each = scaled(10'000);
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> failures{0};
    for (std::uint64_t s = 0; s < senders; ++s) {
        threads.emplace_back([&, &to = client, s] {
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::uint64_t number = s << 32 | i;
                if (error_of([&] { to.send(number, soon); }) != 0) ++failures;
            }
        });
    }
    std::vector<std::vector<std::uint64_t>> received(receivers);
    for (std::uint64_t r = 0; r < receivers; ++r) {
        threads.emplace_back([&, &from = server, r] {
            for (;;) {
                std::uint64_t number = 0;
                if (error_of([&] { number = from.receive(soon).as<std::uint64_t>(); }) != 0) {
                    ++failures;
                    return;
                }
                if (number == ~std::uint64_t{0}) return;
                received[r].push_back(number);
            }
        });
    }
    for (std::uint64_t s = 0; s < senders; ++s) threads[s].join();
    for (std::uint64_t r = 0; r < receivers; ++r) client.send(~std::uint64_t{0}, soon);
    for (std::uint64_t r = 0; r < receivers; ++r) threads[senders + r].join();
    CHECK(failures == 0);
    std::set<std::uint64_t> all;
    std::uint64_t disorder = 0;
    for (const auto& some : received) {
        std::array<std::int64_t, senders> last;
        last.fill(-1);
        for (const std::uint64_t number : some) {
            all.insert(number);
            // One receiver sees each sender's messages in order.
            auto& previous = last[number >> 32];
            const auto i = static_cast<std::int64_t>(number & 0xffffffff);
            if (i <= previous) ++disorder;
            previous = i;
        }
    }
    CHECK(all.size() == senders * each);
    CHECK(disorder == 0);
}

TEST_CASE("two processes exchange millions of messages in order", "[message][fork]") {
    service local(channel_slot_bytes(16'384));
    const std::uint64_t count = scaled(2'000'000);
    child peer([&] {
        channel to(local.connect());
        for (std::uint64_t i = 0; i < count; ++i) {
            std::array<std::uint64_t, 5> numbers;
            numbers.fill(i);
            to.send(std::span(numbers.data(), i % 6), soon);
        }
        // Everything published stays readable after the sender's end.
        return 0;
    });
    channel from(local.accept());
    message received;
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        from.receive(received, soon);
        if (received.size() != i % 6 * sizeof i) ++wrong;
        for (std::size_t n = 0; n + sizeof i <= received.size(); n += sizeof i)
            if (std::memcmp(received.bytes().data() + n, &i, sizeof i) != 0) ++wrong;
    }
    CHECK(wrong == 0);
    CHECK(peer.wait().exited());
    CHECK(error_of([&] { from.receive(soon); }) == EPIPE);
}

TEST_CASE("a spinning receiver gets its messages all the same", "[message]") {
    auto ends = channel_pair(8192, {.spin_ns = 100'000});
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread sender([&, &to = client] {
        for (std::uint64_t i = 0; i < 200; ++i) {
            if (i % 50 == 0) std::this_thread::sleep_for(1ms);
            to.send(i, soon);
        }
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < 200; ++i)
        if (server.receive(soon).as<std::uint64_t>() != i) ++wrong;
    sender.join();
    CHECK(wrong == 0);
}
