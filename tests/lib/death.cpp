// SPDX-License-Identifier: MIT
// Peers that die before, during and after every operation, and peers that break
// the protocol: a clear error, everything published before still received, and
// nobody else concerned.
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "lib/lib_support.hpp"
#include "lib/puppet.hpp"
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

TEST_CASE("a malformed header refuses the peer with a clear error", "[message][hostile]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    channel server(std::move(accepted));
    puppet peer(std::move(connected));
    peer.open();
    int expected = EPROTO;
    SECTION("magic") { peer.header().magic = 1; }
    SECTION("an empty range of versions") { peer.header().version_min = 2; }
    SECTION("version") {
        peer.header().version_min = 2;
        peer.header().version_max = 3;
        expected = EPROTONOSUPPORT;
    }
    CHECK(error_of([&] { server.receive(soon); }) == expected);
    CHECK(error_of([&] { server.send("x", soon); }) == expected);
    CHECK(error_of([&] { server.call("x", soon); }) == expected);
}

TEST_CASE("a record that breaks the protocol ends the channel for all its threads",
          "[message][hostile]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    channel server(std::move(accepted));
    puppet peer(std::move(connected));
    peer.open();
    // One more thread waits; it must be told, too.
    std::atomic<int> told{0};
    std::thread other([&, &on = server] { told = error_of([&] { on.receive(soon); }); });
    std::this_thread::sleep_for(20ms);
    SECTION("a reply to a call never made") { peer.publish(header(8, 3), 16, 1000); }
    SECTION("a reply with the id 0") { peer.publish(header(8, 3), 16, 0); }
    SECTION("a request without its id") { peer.publish(header(7, 2), 16, 1); }
    SECTION("an unknown type") { peer.publish(header(8, 77), 16); }
    SECTION("unknown flags") { peer.publish(header(8, 1, 2), 16); }
    SECTION("a part of nothing") { peer.publish(header(8, 4), 16); }
    SECTION("an abort of nothing") { peer.publish(header(0, 5), 8); }
    SECTION("a first part without its length") { peer.publish(header(7, 1, 1), 16); }
    SECTION("a first part as long as the whole") { peer.publish(header(16, 1, 1), 24, 8); }
    SECTION("a message beyond the limit") {
        peer.publish(header(16, 1, 1), 24, std::uint64_t{1} << 60);
    }
    SECTION("a whole message amid the parts of another") {
        peer.publish(header(16, 1, 1), 24, 1000);
        detail::header_word(peer.data() + 24) = header(8, 1);
        peer.publish(header(16, 1, 1), 40, 1000);
    }
    SECTION("parts that are longer than the message") {
        peer.publish(header(16, 1, 1), 24, 9);
        detail::header_word(peer.data() + 24) = header(8, 4);
        peer.publish(header(16, 1, 1), 40, 9);
    }
    SECTION("parts that end before the message") {
        peer.publish(header(16, 1, 1), 24, 1000);
        detail::header_word(peer.data() + 24) = header(8, 4);
        peer.publish(header(16, 1, 1), 40, 1000);
    }
    SECTION("a record out of the window") { peer.publish(header(80, 1), 16); }
    SECTION("an absurd tail") { peer.publish(header(8, 1), ~std::uint64_t{7}); }
    SECTION("an odd tail") { peer.publish(header(8, 1), 17); }
    CHECK(error_of([&] { server.call("x", soon); }) == EPROTO);
    other.join();
    CHECK(told == EPROTO);
    CHECK(error_of([&] { server.send("x", soon); }) == EPROTO);
    CHECK(error_of([&] { (void)server.try_receive(); }) == EPROTO);
}

TEST_CASE("a head that runs ahead ends the channel, a sleeping receiver included",
          "[message][hostile]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    channel server(std::move(accepted));
    puppet peer(std::move(connected));
    peer.open();
    server.send("x", soon);
    std::atomic<int> told{0};
    std::thread other([&, &on = server] { told = error_of([&] { on.receive(soon); }); });
    std::this_thread::sleep_for(20ms);
    peer.slot().input.head = std::uint64_t{1} << 40;
    CHECK(error_of([&] {
              for (;;) server.send(std::string(1000, 'x'), soon);
          }) == EPROTO);
    other.join();
    CHECK(told == EPROTO);
}

TEST_CASE("a hostile peer harms nobody but its own connection", "[message][hostile]") {
    service local;
    auto bad_ends = local.pair();
    auto& bad_accepted = bad_ends.first;
    auto& bad_connected = bad_ends.second;
    auto good_ends = local.pair();
    auto& good_accepted = good_ends.first;
    auto& good_connected = good_ends.second;
    channel bad(std::move(bad_accepted));
    puppet peer(std::move(bad_connected));
    channel good(std::move(good_accepted));
    channel good_client(std::move(good_connected));
    peer.open();
    peer.publish(header(8, 3), 16, 9);
    CHECK(error_of([&] { bad.receive(soon); }) == EPROTO);
    good_client.send("fine", soon);
    CHECK(good.receive(soon).text() == "fine");
}
