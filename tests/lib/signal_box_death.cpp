// SPDX-License-Identifier: MIT
// A signal box: senders and boxes that are killed, and forked copies.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "lib/signal_box_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("senders that are killed are dropped, and what they sent is received",
          "[signal_box][fork]") {
    std::atomic<int> died{0};
    signal_box_options options;
    options.on_gone = [&](std::uint64_t, const error& why) {
        if (why.is_peer_death()) ++died;
    };
    watch_post post(options);
    gate sent;
    child before([&] {
        // Killed before it has sent anything.
        door own = test_door();
        endpoint end = own.connect(post.name, soon);
        for (;;) ::pause();
        return 0;
    });
    child after([&] {
        door own = test_door();
        signal_sender to(own, post.name, soon);
        for (unsigned i = 0; i < 10; ++i) to.send({.value = i});
        sent.open();
        for (;;) ::pause();
        return 0;
    });
    child during([&] {
        door own = test_door();
        signal_sender to(own, post.name, soon);
        for (;;) to.send({.code = 1});
        return 0;
    });
    std::uint64_t next = 0;
    bool flooded = false;
    while (next == 0 || !flooded || !sent.is_open() || post.box.senders() < 3) {
        const auto got = post.box.try_receive();
        if (!got) continue;
        if (got->what.code == 1) flooded = true;
        if (got->what.code == 0) CHECK(got->what.value == next++);
    }
    before.kill();
    after.kill();
    during.kill();
    CHECK(after.wait().signaled(SIGKILL));
    while (post.box.senders() != 0) {
        const auto got = post.box.try_receive();
        if (got && got->what.code == 0) CHECK(got->what.value == next++);
    }
    CHECK(next == 10);
    CHECK(died == 3);
    CHECK(before.wait().signaled(SIGKILL));
    CHECK(during.wait().signaled(SIGKILL));
    signal_sender more = post.connect();
    CHECK(more.send({.value = 77}));
    CHECK(post.box.receive(soon).what.value == 77);
}

TEST_CASE("a sender is told that the box was killed", "[signal_box][fork]") {
    const std::string name = unique_name();
    gate ready;
    gate served;
    child holder([&] {
        door own = test_door();
        signal_box_options options;
        options.source = source();
        options.blocked = codes(5);
        signal_box box(own, name, options);
        ready.open();
        EXPECT_CHILD(box.receive(soon).what.value == 1);
        served.open();
        for (;;) ::pause();
        return 0;
    });
    ready.wait();
    door own = test_door();
    signal_sender to(own, name, soon);
    CHECK(to.send({.value = 1}));
    served.wait();
    holder.kill();
    CHECK(holder.wait().signaled(SIGKILL));
    CHECK(error_of([&] { to.send({.value = 2}); }) == EPIPE);
    CHECK(error_of([&] { to.send({.code = 5}); }) == EPIPE);
    const int late = error_of([&] { signal_sender(own, name, 1s); });
    CHECK((late == ENOENT || late == ECONNREFUSED));
}

TEST_CASE("a forked child that uses or destroys its copies takes nothing from its parent",
          "[signal_box][fork]") {
    auto post = std::make_unique<watch_post>();
    auto to = std::make_unique<signal_sender>(post->connect());
    child other([&] {
        EXPECT_CHILD(error_of([&] { (void)post->box.receive(10ms); }) == EPERM);
        EXPECT_CHILD(error_of([&] { post->box.block(1); }) == EPERM);
        EXPECT_CHILD(error_of([&] { post->box.disconnect(2); }) == EPERM);
        to.reset();
        post.reset();
        return 0;
    });
    CHECK(other.wait().exited());
    CHECK(to->send({.value = 1}));
    CHECK(post->box.receive(soon).what.value == 1);
    CHECK(post->connect().send({.value = 2}));
    CHECK(post->box.receive(soon).what.value == 2);
}
