// SPDX-License-Identifier: MIT
// Pulses: order, priorities, masks, losses, hostile peers, deaths, event loops.
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include <ipcdoor/signal.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Both ends of a connection with a port each.
struct two_ports {
    explicit two_ports(const pulse_options& receiving = {})
        : ends(connected_pair()), server(ends.first, receiving), client(ends.second) {}

    // What the client writes, for lies.
    pulse_slot& lies() {
        return *reinterpret_cast<pulse_slot*>(ends.second.memory().data() + ring_pulse_offset);
    }

    std::pair<endpoint, endpoint> ends;
    pulse_port server;
    pulse_port client;
};

std::vector<std::uint64_t> values_of(pulse_port& port) {
    std::vector<std::uint64_t> all;
    while (const auto got = port.try_receive()) all.push_back(got->value);
    return all;
}

using values = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("pulses keep code, value, priority and order", "[pulse]") {
    two_ports p;
    CHECK_FALSE(p.server.try_receive());
    for (const pulse& sent : {pulse{0, 0}, pulse{63, 7}, pulse{5, ~std::uint64_t{0}}})
        CHECK(p.client.send(sent));
    CHECK(p.server.receive(soon) == pulse{0, 0});
    CHECK(p.server.receive(soon) == pulse{63, 7});
    CHECK(p.server.receive(soon) == pulse{5, ~std::uint64_t{0}});
    CHECK_FALSE(p.server.try_receive());
    CHECK(p.server.send({.code = 9, .value = 5, .priority = 3}));
    CHECK(p.client.receive(soon) == pulse{9, 5, 3});
}

TEST_CASE("pulses of a higher priority come first, those of one in order", "[pulse]") {
    two_ports p;
    for (unsigned i = 0; i < 24; ++i) CHECK(p.client.send({.value = i, .priority = i * 7 % 4}));
    std::vector<pulse> got;
    // Some were looked at before others came.
    got.push_back(p.server.receive(soon));
    CHECK(got[0] == pulse{0, 1, 3});
    CHECK(p.server.next_priority() == 3);
    CHECK(p.client.send({.value = 24, .priority = 3}));
    CHECK(p.client.send({.value = 25, .priority = 0}));
    while (const auto next = p.server.try_receive()) got.push_back(*next);
    REQUIRE(got.size() == 26);
    CHECK(p.server.next_priority() == -1);
    CHECK(std::is_sorted(got.begin(), got.end(), [](const pulse& a, const pulse& b) {
        return a.priority != b.priority ? a.priority > b.priority : a.value < b.value;
    }));
}

TEST_CASE("pulses that find no room are dropped and counted, the newest", "[pulse]") {
    two_ports p;
    // 40 of the lowest priority, and eight more for each higher one.
    unsigned lost = 0;
    std::uint64_t value = 0;
    for (unsigned priority = 0; priority < 4; ++priority) {
        CHECK(pulse_room(priority) == 40 + 8 * priority);
        while (value < pulse_room(priority))
            CHECK(p.client.send({.value = value++, .priority = priority}));
        CHECK_FALSE(p.client.send({.value = 1000, .priority = priority}));
        CHECK(p.server.lost() == ++lost);
    }
    CHECK(value == pulse_queue_length);
    const auto got = values_of(p.server);
    CHECK(got.size() == pulse_queue_length);
    CHECK(std::find(got.begin(), got.end(), 1000) == got.end());
    CHECK(p.client.send({.value = 100}));
    CHECK(p.server.receive(soon).value == 100);
    // The doorbell counted all of them.
    CHECK(p.ends.first.slot_state(0).rung[pulse_vector] == pulse_queue_length + lost + 1);
}

TEST_CASE("entries are used again and again, in any order", "[pulse]") {
    two_ports p;
    // Numbers wrap at 65,536 while one pulse stays.
    CHECK(p.client.send({.code = 1, .value = 1}));
    p.server.block(codes(1));
    const std::uint64_t count = scaled(20'000);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (!p.client.send({.value = 2 * i}) || !p.client.send({.value = 2 * i + 1})) ++wrong;
        if (p.server.receive(soon).value != 2 * i) ++wrong;
        if (p.server.receive(soon).value != 2 * i + 1) ++wrong;
    }
    CHECK(wrong == 0);
    p.server.unblock(codes(1));
    CHECK(values_of(p.server) == values{1});
}

TEST_CASE("codes and priorities that do not exist are the sender's error", "[pulse]") {
    two_ports p;
    CHECK(error_of([&] { p.client.send({.code = 64}); }) == EINVAL);
    CHECK(error_of([&] { p.client.send({.priority = 4}); }) == EINVAL);
    CHECK(error_of([&] { p.client.send({.code = ~0U, .priority = ~0U}); }) == EINVAL);
    CHECK_FALSE(p.server.try_receive());
}

TEST_CASE("a blocked code waits and is in nobody's way", "[pulse][mask]") {
    two_ports p;
    CHECK(p.server.block(codes(1, 2)) == 0);
    CHECK(p.server.blocked() == codes(1, 2));
    for (unsigned i = 0; i < 8; ++i) CHECK(p.client.send({.code = i % 4, .value = i}));
    CHECK(values_of(p.server) == values{0, 3, 4, 7});
    CHECK(p.server.pending() == codes(1, 2));
    CHECK(error_of([&] { p.server.receive(10ms); }) == ETIMEDOUT);
    CHECK(p.server.unblock(codes(2)) == codes(1, 2));
    CHECK(values_of(p.server) == values{2, 6});
    CHECK(p.server.set_blocked(codes(3)) == codes(1));
    CHECK(p.server.blocked() == codes(3));
    CHECK(values_of(p.server) == values{1, 5});
    CHECK(p.server.pending() == 0);
    // What is waiting follows a new mask, too.
    CHECK(p.client.send({.code = 7, .value = 70}));
    p.server.block(codes(7));
    CHECK_FALSE(p.server.try_receive());
    p.server.set_blocked(0);
    CHECK(p.server.receive(soon) == pulse{7, 70});
}

TEST_CASE("a more urgent pulse that is blocked does not delay others", "[pulse][mask]") {
    two_ports p({.blocked = codes(9)});
    CHECK(p.client.send({.code = 9, .value = 1, .priority = 3}));
    CHECK(p.client.send({.code = 8, .value = 2, .priority = 0}));
    CHECK(p.server.next_priority() == 0);
    CHECK(p.server.receive(soon).value == 2);
    p.server.unblock(codes(9));
    CHECK(p.server.receive(soon).value == 1);
}

TEST_CASE("blocked codes leave half of the queue to the others", "[pulse][mask]") {
    two_ports p({.blocked = codes(1, 2)});
    for (unsigned i = 0; i < pulse_blocked_room; ++i)
        CHECK(p.client.send({.code = 1 + i % 2, .value = i, .priority = 3}));
    CHECK_FALSE(p.client.send({.code = 1, .value = 100, .priority = 3}));
    CHECK(p.server.lost() == 1);
    for (unsigned i = 0; i < 8; ++i) CHECK(p.client.send({.code = 3, .value = 200 + i}));
    CHECK(values_of(p.server).size() == 8);
    p.server.set_blocked(0);
    CHECK(values_of(p.server).size() == pulse_blocked_room);
}

TEST_CASE("a blocked pulse does not ring, and rings when it is unblocked", "[pulse][mask]") {
    two_ports p({.blocked = codes(1)});
    const auto rung = [&] { return p.ends.first.slot_state(0).rung[pulse_vector]; };
    CHECK(p.client.send({.code = 1, .value = 1}));
    CHECK(p.client.send({.code = 1, .value = 2}));
    CHECK(rung() == 0);
    CHECK(p.client.send({.code = 2, .value = 3}));
    CHECK(rung() == 1);
    p.server.set_blocked(0);
    CHECK(rung() == 3);
    CHECK(values_of(p.server) == values{1, 2, 3});
    // Nothing waits: no ring.
    p.server.block(codes(1));
    p.server.unblock(codes(1));
    CHECK(rung() == 3);
}

TEST_CASE("unblocking wakes who sleeps for a pulse", "[pulse][mask]") {
    two_ports p({.blocked = codes(1)});
    CHECK(p.client.send({.code = 1, .value = 1}));
    blocking_thread receiving([&] { CHECK_IN_THREAD(p.server.receive(soon).value == 1); });
    receiving.wait_asleep();
    p.server.unblock(codes(1));
    receiving.join();
}

TEST_CASE("no pulse is lost while its code is blocked and unblocked", "[pulse][mask][fork]") {
    service local;
    const std::uint64_t count = scaled(20'000);
    child peer([&] {
        endpoint end = local.connect();
        pulse_port pulses(end);
        for (std::uint64_t i = 1; i <= count; ++i) {
            EXPECT_CHILD(pulses.send({.code = 1, .value = i}));
            if (i % 16 == 0) EXPECT_CHILD(pulses.receive(soon).value == i);
        }
        EXPECT_CHILD(error_of([&] { pulses.receive(soon); }) == EPIPE);
        return 0;
    });
    std::uint64_t wrong = 0;
    {
        endpoint end = local.accept();
        pulse_port pulses(end);
        std::atomic<bool> stop{false};
        std::thread masking([&] {
            while (!stop) {
                pulses.block(codes(1));
                std::this_thread::yield();
                pulses.unblock(codes(1));
                std::this_thread::yield();
            }
        });
        for (std::uint64_t i = 1; i <= count; ++i) {
            if (pulses.receive(soon).value != i) ++wrong;
            if (i % 16 == 0) pulses.send({.value = i});
        }
        stop = true;
        masking.join();
    }
    CHECK(wrong == 0);
    CHECK(peer.wait().exited());
}

TEST_CASE("a receive of pulses ends at its deadline, not before", "[pulse]") {
    two_ports p;
    const auto begin = std::chrono::steady_clock::now();
    CHECK(error_of([&] { p.server.receive(50ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
}

TEST_CASE("a second thread that waits for a pulse has its own deadline", "[pulse]") {
    two_ports on;
    blocking_thread first([&] { CHECK_IN_THREAD(on.server.receive(soon).code == 3); });
    first.wait_asleep();
    CHECK(error_of([&] { (void)on.server.receive(20ms); }) == ETIMEDOUT);
    CHECK(on.client.send({.code = 3}));
    first.join();
}

TEST_CASE("pulses and messages share a connection", "[pulse]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    pulse_port pulses_to(client.raw());
    pulse_port pulses_from(server.raw());
    client.send("message", soon);
    for (unsigned i = 0; i < pulse_queue_length; ++i)
        CHECK(pulses_to.send({.code = i, .value = ~std::uint64_t{0}, .priority = 3}));
    for (unsigned i = 0; i < pulse_queue_length; ++i)
        CHECK(pulses_from.receive(soon) == pulse{i, ~std::uint64_t{0}, 3});
    CHECK(server.receive(soon).text() == "message");
    client.send("urgent", {.priority = 3}, soon);
    CHECK(server.receive(soon).text() == "urgent");
}

TEST_CASE("a pulse may be sent before the peer has opened its port", "[pulse]") {
    auto ends = connected_pair();
    pulse_port client(ends.second);
    CHECK_FALSE(client.peer_is_open());
    CHECK(client.send({.value = 3}));
    pulse_port server(ends.first);
    CHECK(client.peer_is_open());
    CHECK(server.receive(soon).value == 3);
}

TEST_CASE("a second port goes on where the first one was", "[pulse]") {
    auto ends = connected_pair();
    std::optional<pulse_port> server(std::in_place, ends.first);
    std::optional<pulse_port> client(std::in_place, ends.second);
    for (unsigned i = 0; i < 6; ++i) CHECK(client->send({.code = i % 2, .value = i}));
    server->block(codes(0));
    CHECK(server->receive(soon).value == 1);
    server.emplace(ends.first);
    client.emplace(ends.second);
    CHECK(client->send({.value = 6}));
    CHECK(values_of(*server) == values{0, 2, 3, 4, 5, 6});
    for (unsigned i = 0; i < pulse_room(0); ++i) CHECK(client->send({.value = i}));
    CHECK_FALSE(client->send({}));
}

TEST_CASE("a port in an event loop is readable only while there may be something",
          "[pulse][poll]") {
    auto ends = connected_pair();
    pulse_port server(ends.first, {.blocked = codes(1), .other_vectors = all_vectors});
    pulse_port client(ends.second, {.other_vectors = all_vectors});
    pollfd loop{ends.first.fd(), POLLIN, 0};
    CHECK_FALSE(server.try_receive());
    for (unsigned round = 0; round < 5; ++round) {
        CHECK(::poll(&loop, 1, 0) == 0);
        CHECK(client.send({.code = 1, .value = 3}));
        CHECK(::poll(&loop, 1, 0) == 0);
        CHECK(client.send({.value = 1}));
        CHECK(client.send({.value = 2}));
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
        CHECK(values_of(server) == values{1, 2});
        CHECK(::poll(&loop, 1, 0) == 0);
        server.set_blocked(0);
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
        CHECK(values_of(server) == values{3});
        server.block(codes(1));
    }
    // Rings of other vectors do not keep it readable.
    ends.second.ring(0, 9);
    REQUIRE(::poll(&loop, 1, 60'000) == 1);
    CHECK_FALSE(server.try_receive());
    CHECK(::poll(&loop, 1, 0) == 0);
    // And then its end.
    CHECK(client.send({.value = 4}));
    ends.second.close();
    REQUIRE(::poll(&loop, 1, 60'000) == 1);
    CHECK(server.try_receive() == pulse{0, 4});
    CHECK(error_of([&] {
              while (!server.try_receive()) REQUIRE(::poll(&loop, 1, 60'000) == 1);
          }) == EPIPE);
}

TEST_CASE("pulses between processes are lost to nobody who keeps up", "[pulse][fork]") {
    service local;
    const std::uint64_t count = scaled(20'000);
    child peer([&] {
        endpoint end = local.connect();
        pulse_port pulses(end);
        for (std::uint64_t i = 0; i < count; ++i) {
            // One in 32 waits for its echo, so the queue never overflows.
            EXPECT_CHILD(pulses.send({.value = i}));
            if (i % 32 == 31) EXPECT_CHILD(pulses.receive(soon).value == i);
        }
        EXPECT_CHILD(pulses.receive(soon).value == ~std::uint64_t{0});
        return 0;
    });
    endpoint end = local.accept();
    pulse_port pulses(end);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (pulses.receive(soon).value != i) ++wrong;
        if (i % 32 == 31) pulses.send({.value = i});
    }
    CHECK(wrong == 0);
    CHECK(pulses.lost() == 0);
    pulses.send({.value = ~std::uint64_t{0}});
    CHECK(peer.wait().exited());
    CHECK(error_of([&] { pulses.receive(soon); }) == EPIPE);
    CHECK(error_of([&] { pulses.send({}); }) == EPIPE);
}

TEST_CASE("several threads receive pulses, each once", "[pulse]") {
    two_ports p;
    std::vector<std::thread> threads;
    std::vector<std::vector<std::uint64_t>> received(3);
    std::atomic<int> failures{0};
    for (auto& mine : received) {
        threads.emplace_back([&, &mine = mine] {
            if (error_of([&] {
                    for (std::uint64_t value; (value = p.server.receive(soon).value) != 0;)
                        mine.push_back(value);
                }) != 0)
                ++failures;
        });
    }
    const std::uint64_t count = scaled(2'000);
    for (std::uint64_t i = 1; i <= count; ++i) {
        while (!p.client.send({.value = i, .priority = i % 2 == 0 ? 1U : 0U}))
            std::this_thread::yield();
    }
    // Behind all others.
    while (p.server.next_priority() >= 0) std::this_thread::yield();
    for (int i = 0; i < 3; ++i) {
        while (!p.client.send({.value = 0})) std::this_thread::yield();
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<std::uint64_t> all;
    for (const auto& some : received) all.insert(all.end(), some.begin(), some.end());
    std::sort(all.begin(), all.end());
    CHECK(failures == 0);
    CHECK(all.size() == count);
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
}

TEST_CASE("several threads send pulses, each arrives once", "[pulse]") {
    two_ports p;
    const std::uint64_t each = scaled(2'000);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            for (std::uint64_t i = 0; i < each; ++i)
                while (!p.client.send({.code = t, .value = i})) std::this_thread::yield();
        });
    }
    std::uint64_t wrong = 0;
    std::uint64_t next[3] = {};
    for (std::uint64_t i = 0; i < 3 * each; ++i) {
        const pulse got = p.server.receive(soon);
        if (got.code >= 3 || got.value != next[got.code]++) ++wrong;
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK_FALSE(p.server.try_receive());
}

TEST_CASE("what a killed peer has sent is received, and then its end", "[pulse][fork]") {
    service local;
    gate sent;
    child peer([&] {
        endpoint end = local.connect();
        pulse_port pulses(end);
        for (unsigned i = 0; i < 5; ++i) pulses.send({.code = i, .value = i});
        sent.open();
        for (;;) ::pause();
        return 0;
    });
    endpoint end = local.accept();
    pulse_port pulses(end, {.blocked = codes(2)});
    sent.wait();
    peer.kill();
    CHECK(peer.wait().signaled(SIGKILL));
    for (const std::uint64_t i : {0, 1, 3, 4}) CHECK(pulses.receive(soon).value == i);
    CHECK(error_of([&] { pulses.receive(soon); }) == EPIPE);
    CHECK(error_of([&] {
              while (!pulses.try_receive()) {
              }
          }) == EPIPE);
    pulses.set_blocked(0);
    CHECK(pulses.receive(soon).value == 2);
    CHECK(error_of([&] { pulses.receive(soon); }) == EPIPE);
    CHECK(error_of([&] { pulses.send({.code = 1}); }) == EPIPE);
}

TEST_CASE("a peer that is killed while one sleeps for its pulse is noticed", "[pulse][fork]") {
    service local;
    gate ready;
    child peer([&] {
        endpoint end = local.connect();
        pulse_port pulses(end, {.blocked = all_codes});
        ready.open();
        for (;;) ::pause();
        return 0;
    });
    endpoint end = local.accept();
    pulse_port pulses(end);
    ready.wait();
    blocking_thread receiving(
        [&] { CHECK_IN_THREAD(error_of([&] { pulses.receive(soon); }) == EPIPE); });
    receiving.wait_asleep();
    CHECK(pulses.send({.code = 1}));
    peer.kill();
    receiving.join();
    // Also by who sends what does not ring.
    CHECK(error_of([&] { pulses.send({.code = 1}); }) == EPIPE);
    CHECK(peer.wait().signaled(SIGKILL));
}

TEST_CASE("a forked child that closes its copy takes nothing from its parent", "[pulse][fork]") {
    two_ports p;
    CHECK(p.client.send({.value = 1}));
    child other([&] {
        p.ends.first.close();
        p.ends.second.close();
        return 0;
    });
    CHECK(other.wait().exited());
    CHECK(p.client.send({.value = 2}));
    CHECK(values_of(p.server) == values{1, 2});
}

TEST_CASE("refused codes are the sender's error, and dropped if they come", "[pulse][hostile]") {
    two_ports p({.refused = ~codes(1, 2)});
    CHECK(p.client.accepted() == codes(1, 2));
    CHECK(error_of([&] { p.client.send({.code = 3}); }) == EACCES);
    CHECK(p.client.send({.code = 1, .value = 1}));
    pulse_slot& lies = p.lies();
    lies.values[5] = 55;
    lies.tags[5] = pulse_tag(3, 0, 2);
    lies.posted = lies.posted ^ std::uint64_t{1} << 5;
    CHECK(values_of(p.server) == values{1});
    CHECK(p.server.refusals() == 1);
    CHECK(p.server.pending() == 0);
}

TEST_CASE("a pulse queue with impossible contents is refused", "[pulse][hostile]") {
    two_ports p;
    pulse_slot& lies = p.lies();
    const auto post = [&](unsigned index, std::uint32_t tag) {
        lies.tags[index] = tag;
        lies.posted = lies.posted ^ std::uint64_t{1} << index;
    };
    const auto refused = [&] {
        CHECK(error_of([&] { (void)p.server.try_receive(); }) == EPROTO);
        CHECK(error_of([&] { p.server.receive(soon); }) == EPROTO);
        CHECK(error_of([&] { (void)p.server.pending(); }) == EPROTO);
        CHECK(p.server.next_priority() == pulse_priorities);
    };
    SECTION("magic") {
        lies.magic = 5;
        refused();
        CHECK(error_of([&] { p.server.send({}); }) == EPROTO);
    }
    SECTION("version") {
        for (const std::uint32_t version : {0U, 1U, 9U}) {
            lies.version = version;
            refused();
            CHECK(error_of([&] { p.server.send({}); }) == EPROTO);
        }
    }
    SECTION("code") {
        for (const unsigned code : {64U, 200U, 255U}) {
            post(7, pulse_tag(code, 0, 1));
            refused();
            lies.posted = 0;
        }
    }
    SECTION("priority") {
        for (const unsigned priority : {4U, 255U}) {
            post(63, pulse_tag(0, priority, 1));
            refused();
            lies.posted = 0;
        }
    }
    SECTION("a pulse taken back") {
        p.server.block(codes(1));
        CHECK(p.client.send({.code = 1}));
        CHECK(p.server.pending() == codes(1));
        lies.posted = 0;
        refused();
        p.server.unblock(codes(1));
        refused();
    }
    SECTION("entries taken that were never used, and used that were free") {
        for (const std::uint64_t taken :
             {std::uint64_t{1}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
            lies.taken = taken;
            CHECK(error_of([&] { p.server.send({.value = 1}); }) == EPROTO);
        }
        lies.taken = 0;
        CHECK(p.server.send({.value = 1}));
    }
    SECTION("all entries at once, all numbers the same") {
        for (unsigned i = 0; i < pulse_queue_length; ++i) lies.tags[i] = pulse_tag(i, i % 4, 77);
        lies.posted = ~std::uint64_t{0};
        CHECK(values_of(p.server).size() == pulse_queue_length);
        lies.posted = 0;
        CHECK(values_of(p.server).size() == pulse_queue_length);
        CHECK_FALSE(p.server.try_receive());
    }
    SECTION("any numbers, any losses") {
        lies.sent = 0xfffffff0;
        lies.lost = ~std::uint64_t{0};
        for (unsigned i = 0; i < pulse_queue_length; ++i)
            lies.tags[i] = pulse_tag(i, 0, i * 0x9e3779b1U);
        lies.posted = 0x5555555555555555;
        CHECK(values_of(p.server).size() == 32);
        CHECK(p.server.lost() == ~std::uint64_t{0});
    }
}

TEST_CASE("a hostile peer that changes its slot all the time is refused or read, no more",
          "[pulse][hostile]") {
    two_ports p;
    pulse_slot& lies = p.lies();
    vandal writer([&](xorshift64& random) {
        const std::uint64_t x = random();
        switch (x % 8) {
            case 0: lies.posted = x; break;
            case 1: lies.taken = x; break;
            case 2: lies.blocked = x; break;
            case 3: lies.sent = static_cast<std::uint32_t>(x >> 8); break;
            case 4: lies.tags[x >> 8 & 63] = static_cast<std::uint32_t>(x >> 16); break;
            case 5: lies.refused = x & x >> 3 & x >> 7; break;
            default: lies.tags[x >> 8 & 63] = pulse_tag(x >> 16 & 63, x >> 32 & 3, 1);
        }
    });
    std::uint64_t unexpected = 0;
    std::uint64_t out_of_range = 0;
    const std::uint64_t rounds = scaled(20'000);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        const int error = error_of([&] {
            if (i % 3 == 0) {
                p.server.send({.code = static_cast<unsigned>(i % 64)});
            } else if (const auto got = p.server.try_receive()) {
                if (got->code > 63 || got->priority > 3) ++out_of_range;
            }
        });
        if (error != 0 && error != EPROTO && error != EACCES) ++unexpected;
        if (i % 64 == 0) p.server.set_blocked(i);
        if (p.server.next_priority() > static_cast<int>(pulse_priorities)) ++out_of_range;
    }
    writer.stop();
    CHECK(unexpected == 0);
    CHECK(out_of_range == 0);
}
