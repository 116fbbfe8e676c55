// SPDX-License-Identifier: MIT
// The contract of the doorbell, the same on every back end and source: counts
// are exact, a ring is never lost, deadlines and deaths end a wait.
#include <fcntl.h>
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t bit(std::uint32_t vector) { return std::uint64_t{1} << vector; }

int ring(endpoint& from, std::uint32_t vector, std::uint64_t value = 0) {
    struct ipcdoor_endpoint_info info {};
    REQUIRE(ipcdoor_endpoint_info(from.get(), &info) == 0);
    return ipcdoor_ring(from.get(), 1 - info.slot, 0, vector, value);
}

int wait(endpoint& on, std::uint64_t mask, deadline until, ipcdoor_event* event = nullptr) {
    return ipcdoor_wait(on.get(), mask, until.ns(), event);
}

}  // namespace

TEST_CASE("rings before a wait are found, counted, with the latest value", "[doorbell]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    for (std::uint64_t i = 1; i <= 1000; ++i) REQUIRE(ring(client, 7, i) == 0);
    ipcdoor_event event{};
    std::uint64_t count = 0;
    // A delivery under way may split the count, never change it.
    while (count < 1000) {
        REQUIRE(wait(server, bit(7), soon, &event) == 0);
        CHECK(event.fired == bit(7));
        count += event.count;
    }
    CHECK(count == 1000);
    CHECK(event.value == 1000);
    CHECK(wait(server, bit(7), 0ns) == -ETIMEDOUT);
}

TEST_CASE("each side tells its own rings from the other's", "[doorbell]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    REQUIRE(ring(server, 5, 55) == 0);
    CHECK(wait(server, ~std::uint64_t{1}, 0ns) == -ETIMEDOUT);
    ipcdoor_event event{};
    REQUIRE(wait(client, ~std::uint64_t{1}, soon, &event) == 0);
    CHECK(event.fired == bit(5));
    CHECK(event.count == 1);
    CHECK(event.value == 55);
}

TEST_CASE("a wait takes the vectors of its mask and leaves the others pending", "[doorbell]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    REQUIRE(ring(client, 10, 1) == 0);
    REQUIRE(ring(client, 63, 2) == 0);
    ipcdoor_event event{};
    REQUIRE(wait(server, bit(63), soon, &event) == 0);
    CHECK(event.fired == bit(63));
    CHECK(event.value == 2);
    REQUIRE(wait(server, bit(10) | bit(63), soon, &event) == 0);
    CHECK(event.fired == bit(10));
    CHECK(event.value == 1);
}

TEST_CASE("a wait ends at its deadline, not before", "[doorbell]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    const auto begin = std::chrono::steady_clock::now();
    CHECK(wait(server, bit(1), 50ms) == -ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
    CHECK(wait(server, bit(1), 0ns) == -ETIMEDOUT);
    CHECK(ipcdoor_wait(server.get(), bit(1), 0, nullptr) == -ETIMEDOUT);
}

TEST_CASE("a deadline beyond what the clock can say is none", "[doorbell][deadline]") {
    CHECK(deadline(std::chrono::hours::max()).ns() == IPCDOOR_NO_DEADLINE);
    CHECK(deadline(std::chrono::duration<double>(1e300)).ns() == IPCDOOR_NO_DEADLINE);
    CHECK(deadline(std::chrono::hours(24 * 365 * 200)).ns() != IPCDOOR_NO_DEADLINE);
}

TEST_CASE("an endpoint is attached to by its descriptor, where there is a kernel for it",
          "[doorbell]") {
    door at = test_door();
    endpoint own = at.create("", {.slots = 3, .source = source()});
    if (on_soft()) {
        CHECK(error_of([&] { (void)at.attach(own.fd()); }) == EOPNOTSUPP);
        return;
    }
    endpoint other = at.attach(own.fd());
    CHECK(other.slot() != own.slot());
    other.ring(own.slot(), 5, 77);
    CHECK(own.wait(vectors(5), soon)->value == 77);
}

TEST_CASE("impossible rings and waits are refused", "[doorbell]") {
    auto ends = connected_pair();
    auto& client = ends.second;
    CHECK(ring(client, 0) == -EINVAL);
    CHECK(ring(client, 64) == -EINVAL);
    CHECK(ipcdoor_ring(client.get(), 2, 0, 1, 0) == -EINVAL);
    CHECK(ipcdoor_ring(client.get(), ~0U, 0, 1, 0) == -EINVAL);
    CHECK(wait(client, 0, 0ns) == -EINVAL);
}

TEST_CASE("counts stay exact under several ringers", "[doorbell]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    const std::uint64_t each = scaled(20'000);
    constexpr std::uint64_t ringers = 4;
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (std::uint64_t i = 0; i < ringers; ++i) {
        threads.emplace_back([&, to = client.get()] {
            for (std::uint64_t n = 0; n < each; ++n)
                if (ipcdoor_ring(to, 0, 0, 9, n) != 0) ++failures;
        });
    }
    std::uint64_t count = 0;
    while (count < ringers * each) {
        ipcdoor_event event{};
        const int waited = wait(server, bit(9), soon, &event);
        REQUIRE(waited == 0);
        count += event.count;
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failures == 0);
    CHECK(count == ringers * each);
    CHECK(wait(server, bit(9), 0ns) == -ETIMEDOUT);
}

TEST_CASE("two processes ping-pong by ring_wait and lose nothing", "[doorbell][fork]") {
    service local;
    const std::uint64_t rounds = scaled(20'000);
    child peer([&] {
        endpoint end = local.connect();
        EXPECT_CHILD(wait(end, bit(1), soon) == 0);
        for (std::uint64_t i = 1; i < rounds; ++i)
            EXPECT_CHILD(ipcdoor_ring_wait(end.get(), 0, 0, 2, i, bit(1), deadline(soon).ns(),
                                           nullptr) == 0);
        EXPECT_CHILD(ring(end, 2, rounds) == 0);
        // Stays until the other end has heard it.
        EXPECT_CHILD(wait(end, bit(3), soon) == 0);
        return 0;
    });
    endpoint end = local.accept();
    for (std::uint64_t i = 1; i <= rounds; ++i) {
        ipcdoor_event event{};
        REQUIRE(ipcdoor_ring_wait(end.get(), 1, 0, 1, i, bit(2), deadline(soon).ns(), &event) == 0);
        REQUIRE(event.count == 1);
        REQUIRE(event.value == i);
    }
    REQUIRE(ring(end, 3) == 0);
    CHECK(peer.wait().exited());
}

TEST_CASE("a wait on a dead peer fails with EPIPE after its last rings", "[doorbell][death]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    REQUIRE(ring(client, 8, 88) == 0);
    { const endpoint gone = std::move(client); }
    ipcdoor_event event{};
    REQUIRE(wait(server, bit(8), soon, &event) == 0);
    CHECK(event.value == 88);
    CHECK(wait(server, bit(8), soon) == -EPIPE);
    CHECK(ring(server, 8) == -EPIPE);
}

TEST_CASE("a sleeping waiter is told when its peer is killed", "[doorbell][death][fork]") {
    service local;
    child peer([&] {
        endpoint end = local.connect();
        wait(end, bit(1), soon);
        return 0;
    });
    endpoint end = local.accept();
    std::thread killer([&] {
        std::this_thread::sleep_for(50ms);
        peer.kill();
    });
    CHECK(wait(end, bit(1), soon) == -EPIPE);
    killer.join();
    CHECK(peer.wait().signaled(9));
}

TEST_CASE("the descriptor tells of a death, whoever has found it out", "[death]") {
    auto ends = connected_pair();
    endpoint here = std::move(ends.first);
    std::optional<endpoint> peer(std::move(ends.second));
    pollfd told{here.fd(), POLLIN, 0};
    while (here.wait(~std::uint64_t{0}, 0s)) {
    }
    peer.reset();
    // Before anybody waits or polls.
    while (here.peer_info(1 - here.slot()).state != IPCDOOR_SLOT_DEAD)
        std::this_thread::sleep_for(1ms);
    CHECK(::poll(&told, 1, 60'000) == 1);
}

TEST_CASE("connections use the source that was asked for", "[doorbell]") {
    auto ends = connected_pair();
    auto& server = ends.first;
    struct ipcdoor_endpoint_info info {};
    REQUIRE(ipcdoor_endpoint_info(server.get(), &info) == 0);
    CHECK(info.source != IPCDOOR_SOURCE_AUTO);
    if (source() != IPCDOOR_SOURCE_AUTO) CHECK(info.source == source());
    if (on_soft()) CHECK(info.source == IPCDOOR_SOURCE_DIRECT);
}

TEST_CASE("an event loop may make the descriptors non-blocking", "[doorbell][deadline]") {
    door at = test_door();
    const std::string name = unique_name();
    listener names = at.listen(name, {.source = source()});
    REQUIRE(::fcntl(names.fd(), F_SETFL, ::fcntl(names.fd(), F_GETFL) | O_NONBLOCK) == 0);
    CHECK_FALSE(names.try_accept().has_value());
    endpoint client;
    std::thread connecting([&] { client = at.connect(name, soon); });
    endpoint server = names.accept(soon);
    connecting.join();

    const auto make_non_blocking = [&] {
        const int flags = ::fcntl(server.fd(), F_GETFL);
        REQUIRE(::fcntl(server.fd(), F_SETFL, flags | O_NONBLOCK) == 0);
    };
    make_non_blocking();
    CHECK_FALSE(server.wait(vectors(5), std::chrono::seconds(0)).has_value());
    CHECK_FALSE(server.wait(vectors(5), std::chrono::milliseconds(20)).has_value());
    make_non_blocking();
    std::thread ringing([&] {
        if (client.wait(vectors(6), soon)) client.ring(1 - client.slot(), 5, 7);
    });
    const auto rung = server.ring_wait(1 - server.slot(), 6, 0, vectors(5), soon);
    ringing.join();
    REQUIRE(rung.has_value());
    CHECK(rung->value == 7);
}
