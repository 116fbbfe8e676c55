// SPDX-License-Identifier: MIT
// Channels whose peer breaks the protocol: a clear error for all threads, and nobody else is
// concerned.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include <ipcdoor/message.hpp>

#include "lib/lib_support.hpp"
#include "lib/puppet.hpp"
#include "support/catch.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A channel, and a peer that says what it likes.
struct attack {
    attack() { peer.open(); }

    std::pair<endpoint, endpoint> ends = connected_pair();
    channel server{std::move(ends.first)};
    puppet peer{std::move(ends.second)};
};

}  // namespace

TEST_CASE("a malformed header refuses the peer with a clear error", "[message][hostile]") {
    attack on;
    channel& server = on.server;
    puppet& peer = on.peer;
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
    attack on;
    channel& server = on.server;
    puppet& peer = on.peer;
    // One more thread waits; it must be told, too.
    std::atomic<int> told{0};
    std::thread other([&, &on = server] { told = error_of([&] { on.receive(soon); }); });
    std::this_thread::sleep_for(20ms);
    SECTION("a reply to a call never made") { peer.publish(header(8, 3), 16, 1000); }
    SECTION("a reply with the id 0") { peer.publish(header(8, 3), 16, 0); }
    SECTION("a request without its id") { peer.publish(header(7, 2), 16, 1); }
    SECTION("an unknown type") { peer.publish(header(8, 77), 16); }
    SECTION("unknown flags") { peer.publish(header(8, 1, 4), 16); }
    SECTION("a record without the extras that it announces") {
        peer.publish(header(8, 1, detail::record_has_extras), 16);
    }
    SECTION("a part with extras") {
        peer.publish(header(16, 1, 1), 24, 1000);
        detail::header_word(peer.data() + 24) = header(8, 4, detail::record_has_extras);
        peer.publish(header(16, 1, 1), 40, 1000);
    }
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

TEST_CASE("who asks what comes next of a peer that broke the protocol is sent to find out",
          "[message][hostile]") {
    attack on;
    on.server.send("x", soon);
    CHECK(on.server.next_priority() == -1);
    on.peer.publish(header(8, 1), 17);
    CHECK(on.server.next_priority() >= 0);
    CHECK(error_of([&] { (void)on.server.try_receive(); }) == EPROTO);
}

TEST_CASE("replies that nobody waits for hold a receive up to its deadline, not for ever",
          "[call][hostile]") {
    auto ends = channel_pair();
    channel& server = ends.first;
    channel& client = ends.second;
    std::thread serving([&] {
        const message request = server.receive(soon);
        for (int i = 0; i <= 200; ++i) server.reply(request, "again", soon);
        server.send("in the end", soon);
    });
    CHECK(client.call("x", soon).text() == "again");
    serving.join();
    CHECK(error_of([&] { client.receive(0s); }) == ETIMEDOUT);
    CHECK(client.receive(soon).text() == "in the end");
    CHECK(client.stats().late_replies == 200);
}

TEST_CASE("a head that runs ahead ends the channel, a sleeping receiver included",
          "[message][hostile]") {
    attack on;
    channel& server = on.server;
    puppet& peer = on.peer;
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
