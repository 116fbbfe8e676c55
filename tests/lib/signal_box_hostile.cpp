// SPDX-License-Identifier: MIT
// A signal box: senders that break the protocol harm nobody else.
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <thread>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "lib/signal_box_support.hpp"
#include "support/catch.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

TEST_CASE("a hostile sender of signals is dropped, and nobody else is concerned",
          "[signal_box][hostile]") {
    int told = 0;
    signal_box_options options;
    options.on_gone = [&](std::uint64_t, const error& why) { told = why.error_number(); };
    watch_post post(options);
    signal_sender good = post.connect();
    signal_sender bad = post.connect();
    auto& lies = *reinterpret_cast<pulse_slot*>(bad.raw().memory().data() + ring_pulse_offset);
    SECTION("its code") {
        lies.tags[0] = pulse_tag(64, 0, 1);
        lies.posted = 1;
    }
    SECTION("its priority") {
        lies.tags[63] = pulse_tag(0, 4, 1);
        lies.posted = std::uint64_t{1} << 63;
    }
    SECTION("a pulse taken back") {
        post.box.block(codes(1));
        CHECK(bad.send({.code = 1}));
        CHECK(bad.send({.code = 2}));
        CHECK(post.box.receive(soon).what.code == 2);
        lies.posted = 0;
    }
    SECTION("all of it") { std::memset(bad.raw().memory().data(), 0x55, 2048); }
    bad.raw().ring(0, pulse_vector);
    CHECK(good.send({.value = 1}));
    CHECK(post.box.receive(soon).what.value == 1);
    post.serve_until([&] { return post.box.senders() == 1; });
    CHECK(told == EPROTO);
    CHECK(post.box.stats().broken == 1);
    CHECK(error_of([&] {
              for (;;) bad.raw().ring(0, pulse_vector);
          }) == EPIPE);
    CHECK(good.send({.value = 2}));
    CHECK(post.box.receive(soon).what.value == 2);
}

TEST_CASE("one that connects and does not speak this protocol harms nobody",
          "[signal_box][hostile]") {
    watch_post post;
    std::optional<endpoint> mute;
    std::optional<endpoint> wrong;
    std::thread connecting([&] {
        mute.emplace(post.at.connect(post.name, soon));
        wrong.emplace(post.at.connect(post.name, soon));
        std::memset(wrong->memory().data(), 0xff, 4096);
        wrong->ring(0, 1);
    });
    post.serve_until([&] { return post.box.stats().broken == 1; });
    connecting.join();
    signal_sender good = post.connect();
    CHECK(good.send({.value = 1}));
    CHECK(post.box.receive(soon).what.value == 1);
    CHECK(post.box.senders() == 2);
}
