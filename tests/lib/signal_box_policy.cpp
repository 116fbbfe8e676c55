// SPDX-License-Identifier: MIT
// A signal box: the receiver decides who may signal, and with which codes.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "lib/signal_box_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("who may not signal is refused by its pid, and told", "[signal_box][policy][fork]") {
    shared<std::atomic<pid_t>> welcome;
    signal_box_options options;
    options.admits = [&](const peer_credentials& who) { return who.pid == *welcome; };
    watch_post post(options);
    gate chosen;
    const auto try_it = [&](bool expected) {
        chosen.wait();
        door own = test_door();
        const int error = error_of([&] { signal_sender(own, post.name, soon).send({.value = 7}); });
        EXPECT_CHILD(error == (expected ? 0 : EACCES));
        return 0;
    };
    child stranger([&] { return try_it(false); });
    child friendly([&] { return try_it(true); });
    *welcome = friendly.pid();
    chosen.open();
    const received_signal got = post.box.receive(soon);
    CHECK(got.sender.pid == friendly.pid());
    CHECK(got.what.value == 7);
    post.serve_until([&] { return post.box.stats().refused == 1; });
    CHECK(friendly.wait().exited());
    CHECK(stranger.wait().exited());
    CHECK(post.box.stats().connected == 1);
    CHECK(post.box.stats().broken == 0);
}

TEST_CASE("a policy by uid, and one that throws", "[signal_box][policy]") {
    std::uint32_t nobody = ::geteuid() + 1;
    bool throws = false;
    signal_box_options options;
    options.admits = [&](const peer_credentials& who) {
        if (throws) throw std::runtime_error("no");
        return who.uid != ::geteuid() || who.uid == nobody;
    };
    watch_post post(options);
    CHECK(error_of([&] { (void)post.connect(); }) == EACCES);
    throws = true;
    CHECK(error_of([&] { (void)post.connect(); }) == EACCES);
    throws = false;
    nobody = ::geteuid();
    signal_sender to = post.connect();
    CHECK(to.send({.value = 1}));
    CHECK(post.box.receive(soon).what.value == 1);
    CHECK(post.box.stats().refused == 2);
    CHECK(post.box.senders() == 1);
}

TEST_CASE("other users come in by the name's mode, and then by the policy",
          "[signal_box][policy][fork]") {
    if (skipped_without_root()) return;
    const public_doors doors;
    signal_box_options options;
    options.mode = 0666;
    options.admits = [](const peer_credentials& who) { return who.uid != 4321; };
    options.allowed_codes = [](const peer_credentials& who) {
        return who.uid == 0 ? all_codes : codes(1);
    };
    watch_post post(options, doors.open());
    const auto as = [&](uid_t uid, const std::function<void(door&)>& run) {
        return child([&, uid] {
            door own = doors.open();  // which its node may keep from others
            EXPECT_CHILD(become_user(uid, uid));
            run(own);
            return 0;
        });
    };
    child refused = as(4321, [&](door& own) {
        if (error_of([&] { signal_sender(own, post.name, soon); }) != EACCES) ::_exit(1);
    });
    post.serve_until([&] { return post.box.stats().refused == 1; });
    CHECK(refused.wait().exited());
    child allowed = as(1234, [&](door& own) {
        signal_sender to(own, post.name, soon);
        if (to.allowed_codes() != codes(1)) ::_exit(2);
        if (error_of([&] { to.send({.code = 2}); }) != EACCES) ::_exit(3);
        to.send({.code = 1, .value = 5});
    });
    const received_signal got = post.box.receive(soon);
    CHECK(got.what == pulse{1, 5});
    CHECK(got.sender.uid == 1234);
    CHECK(got.sender.gid == 1234);
    CHECK(got.sender.pid == allowed.pid());
    CHECK(allowed.wait().exited());
}

TEST_CASE("codes that a sender may not use are its error, or dropped",
          "[signal_box][policy][hostile]") {
    signal_box_options options;
    options.allowed_codes = [](const peer_credentials&) { return codes(1, 2); };
    watch_post post(options);
    signal_sender to = post.connect();
    CHECK(to.allowed_codes() == codes(1, 2));
    CHECK(error_of([&] { to.send({.code = 0}); }) == EACCES);
    CHECK(error_of([&] { to.send({.code = 64}); }) == EINVAL);
    // One that does not ask.
    auto& lies = *reinterpret_cast<pulse_slot*>(to.raw().memory().data() + ring_pulse_offset);
    for (unsigned i = 10; i < 20; ++i) lies.tags[i] = pulse_tag(3, 3, i);
    lies.posted = std::uint64_t{0x3ff} << 10;
    to.raw().ring(0, pulse_vector);
    post.serve_until([&] { return post.box.stats().refusals == 10; });
    CHECK(post.box.senders() == 1);
    CHECK(post.box.stats().broken == 0);
}

TEST_CASE("many that are refused and do not leave are put out", "[signal_box][policy][hostile]") {
    signal_box_options options;
    bool open = false;
    options.admits = [&](const peer_credentials&) { return open; };
    watch_post post(options);
    std::vector<endpoint> stubborn;
    std::thread connecting([&] {
        for (int i = 0; i < 40; ++i) stubborn.push_back(post.at.connect(post.name, soon));
    });
    post.serve_until([&] { return post.box.stats().refused == 40; });
    connecting.join();
    CHECK(post.box.senders() == 0);
    int dead = 0;
    for (endpoint& one : stubborn)
        if (error_of([&] { one.ring(0, pulse_vector); }) == EPIPE) ++dead;
    CHECK(dead >= 20);
    // And the others because they have rung.
    for (endpoint& one : stubborn) {
        while (error_of([&] { (void)one.wait(vectors(20), 0s); }) != EPIPE) {
            CHECK_FALSE(post.box.try_receive());
            (void)error_of([&] { one.ring(0, pulse_vector); });
        }
    }
    open = true;
    CHECK(post.connect().send({.value = 1}));
    CHECK(post.box.receive(soon).what.value == 1);
}

TEST_CASE("nobody whose allowed codes are none is let in", "[signal_box][policy]") {
    signal_box_options options;
    options.allowed_codes = [](const peer_credentials&) { return std::uint64_t{0}; };
    watch_post post(options);
    CHECK(error_of([&] { (void)post.connect(); }) == EACCES);
    CHECK(post.box.stats().refused == 1);
}

TEST_CASE("one user takes no more places than allowed", "[signal_box][policy]") {
    signal_box_options options;
    options.max_senders_per_user = 2;
    watch_post post(options);
    auto first = std::make_unique<signal_sender>(post.connect());
    const signal_sender second = post.connect();
    CHECK(error_of([&] { (void)post.connect(); }) == EACCES);
    first.reset();
    post.serve_until([&] { return post.box.senders() == 1; });
    signal_sender third = post.connect();
    CHECK(third.send({.value = 3}));
    CHECK(post.box.receive(soon).what.value == 3);
}
