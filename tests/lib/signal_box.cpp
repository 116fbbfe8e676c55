// SPDX-License-Identifier: MIT
// A signal box: many senders, one receiver.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "lib/signal_box_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a signal box receives what all its senders send, each in order", "[signal_box]") {
    watch_post post;
    constexpr unsigned senders = 8;
    const std::uint64_t each = 1 + scaled(1000);
    std::vector<std::thread> threads;
    for (unsigned s = 0; s < senders; ++s) {
        threads.emplace_back([&, s] {
            door own = test_door();
            signal_sender to(own, post.name, soon);
            for (std::uint64_t i = 0; i < each; ++i)
                while (!to.send({.code = s, .value = i})) std::this_thread::yield();
            // Its last pulses are received although it leaves.
        });
    }
    std::map<std::uint64_t, unsigned> who;
    std::map<std::uint64_t, std::uint64_t> next;
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < senders * each; ++i) {
        const received_signal got = post.box.receive(soon);
        if (who.emplace(got.from, got.what.code).first->second != got.what.code) ++wrong;
        if (next[got.from]++ != got.what.value) ++wrong;
        if (got.sender.pid != ::getpid()) ++wrong;
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(who.size() == senders);
    post.serve_until([&] { return post.box.senders() == 0; });
    CHECK(post.box.stats().connected == senders);
    CHECK(post.box.stats().gone == senders);
    CHECK(post.box.stats().refused == 0);
    CHECK(post.box.stats().broken == 0);
}

TEST_CASE("the kernel says who sent a signal", "[signal_box][fork]") {
    watch_post post;
    child first([&] {
        door own = test_door();
        EXPECT_CHILD(signal_sender(own, post.name, soon).send({.code = 1, .value = 11}));
        return 0;
    });
    const received_signal one = post.box.receive(soon);
    child second([&] {
        door own = test_door();
        EXPECT_CHILD(signal_sender(own, post.name, soon).send({.code = 2, .value = 22}));
        return 0;
    });
    const received_signal two = post.box.receive(soon);
    CHECK(one.what == pulse{1, 11});
    CHECK(two.what == pulse{2, 22});
    CHECK(one.from != two.from);
    CHECK(one.sender.pid == first.pid());
    CHECK(two.sender.pid == second.pid());
    CHECK(one.sender.uid == ::geteuid());
    CHECK(one.sender.gid == ::getegid());
    CHECK(first.wait().exited());
    CHECK(second.wait().exited());
}

TEST_CASE("more senders than there are places wait until somebody leaves", "[signal_box]") {
    signal_box_options options;
    options.max_senders = 1;
    watch_post post(options);
    auto first = std::make_unique<signal_sender>(post.connect());
    std::thread second([&] {
        door own = test_door();
        CHECK_IN_THREAD(signal_sender(own, post.name, soon).send({.value = 2}));
    });
    for (int i = 0; i < 20; ++i) {
        CHECK_FALSE(post.box.try_receive());
        std::this_thread::sleep_for(1ms);
    }
    first.reset();
    CHECK(post.box.receive(soon).what.value == 2);
    second.join();
}

TEST_CASE("a higher priority comes first, of whichever sender", "[signal_box][priority]") {
    watch_post post;
    std::vector<signal_sender> senders;
    for (int i = 0; i < 6; ++i) senders.push_back(post.connect());
    // Blocked until all are there: doorbells may ring at different times.
    post.box.set_blocked(all_codes);
    for (unsigned i = 0; i < 6; ++i) {
        CHECK(senders[i].send({.value = i, .priority = 0}));
        CHECK(senders[i].send({.value = i, .priority = 1 + i % 3}));
    }
    post.box.set_blocked(0);
    std::vector<unsigned> priorities;
    for (int i = 0; i < 12; ++i) priorities.push_back(post.box.receive(soon).what.priority);
    // One in four is who has waited longest.
    CHECK(std::count(priorities.begin(), priorities.begin() + 9, 0U) <= 3);
    CHECK(std::count(priorities.begin(), priorities.end(), 0U) == 6);
    CHECK(*std::max_element(priorities.begin(), priorities.begin() + 2) == 3);
}

TEST_CASE("a flood of signals by one does not starve another", "[signal_box]") {
    watch_post post;
    signal_sender loud = post.connect();
    signal_sender quiet = post.connect();
    post.box.set_blocked(all_codes);
    std::uint64_t lost = 0;
    for (int i = 0; i < 200; ++i)
        if (!loud.send({.code = 1, .priority = 3})) ++lost;
    CHECK(lost == 200 - pulse_blocked_room);
    CHECK(quiet.send({.code = 2, .priority = 0}));
    post.box.set_blocked(0);
    int before = 0;
    while (post.box.receive(soon).what.code != 2) ++before;
    CHECK(before <= 8);
    CHECK(post.box.stats().lost == lost);

    // And while it goes on.
    std::atomic<bool> stop{false};
    std::thread flood([&] {
        while (!stop) loud.send({.code = 1, .priority = 3});
    });
    CHECK(quiet.send({.code = 3, .priority = 0}));
    std::uint64_t others = 0;
    while (others < 1'000'000 && post.box.receive(soon).what.code != 3) ++others;
    stop = true;
    flood.join();
    CHECK(others < 1'000'000);
}

TEST_CASE("blocked codes wait with their senders and come when they are unblocked",
          "[signal_box][mask]") {
    signal_box_options options;
    options.blocked = codes(1);
    watch_post post(options);
    CHECK(post.box.blocked() == codes(1));
    signal_sender first = post.connect();
    CHECK(post.box.block(codes(2)) == codes(1));
    signal_sender second = post.connect();  // newcomers, too
    for (unsigned code = 0; code < 4; ++code) {
        CHECK(first.send({.code = code, .value = code}));
        CHECK(second.send({.code = code, .value = 10 + code}));
    }
    std::vector<std::uint64_t> got;
    for (int i = 0; i < 4; ++i) got.push_back(post.box.receive(soon).what.value);
    CHECK_FALSE(post.box.try_receive());
    std::sort(got.begin(), got.end());
    CHECK(got == std::vector<std::uint64_t>{0, 3, 10, 13});
    CHECK(post.box.unblock(codes(2)) == codes(1, 2));
    got = {post.box.receive(soon).what.value, post.box.receive(soon).what.value};
    std::sort(got.begin(), got.end());
    CHECK(got == std::vector<std::uint64_t>{2, 12});
    CHECK_FALSE(post.box.try_receive());
    // Who sleeps is woken by it.
    std::atomic<std::uint64_t> sum{0};
    blocking_thread receiving([&] {
        sum += post.box.receive(soon).what.value;
        sum += post.box.receive(soon).what.value;
    });
    receiving.wait_asleep();
    CHECK(post.box.set_blocked(0) == codes(1));
    receiving.join();
    CHECK(sum == 12);
}

TEST_CASE("a signal box in an event loop is readable only while there may be something",
          "[signal_box][poll]") {
    signal_box_options options;
    options.blocked = codes(9);
    watch_post post(options);
    pollfd loop{post.box.fd(), POLLIN, 0};
    CHECK_FALSE(post.box.try_receive());
    CHECK(::poll(&loop, 1, 0) == 0);
    signal_sender to = post.connect();
    CHECK_FALSE(post.box.try_receive());
    for (unsigned round = 0; round < 5; ++round) {
        CHECK(::poll(&loop, 1, 0) == 0);
        CHECK(to.send({.code = 9}));
        CHECK(::poll(&loop, 1, 0) == 0);
        CHECK(to.send({.value = 1}));
        CHECK(to.send({.value = 2}));
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
        CHECK(post.box.receive(soon).what.value == 1);
        CHECK(post.box.receive(soon).what.value == 2);
        CHECK_FALSE(post.box.try_receive());
    }
    CHECK(::poll(&loop, 1, 0) == 0);
    post.box.set_blocked(0);
    REQUIRE(::poll(&loop, 1, 60'000) == 1);
    for (int i = 0; i < 5; ++i) CHECK(post.box.receive(soon).what.code == 9);
    CHECK_FALSE(post.box.try_receive());
    CHECK(::poll(&loop, 1, 0) == 0);
    // A hostile one rings what it likes.
    for (std::uint32_t vector = 1; vector < 64; ++vector) to.raw().ring(0, vector);
    REQUIRE(::poll(&loop, 1, 60'000) == 1);
    CHECK_FALSE(post.box.try_receive());
    CHECK(::poll(&loop, 1, 0) == 0);
}

TEST_CASE("a box that closes and one that is not a box", "[signal_box]") {
    SECTION("nobody") {
        door own = test_door();
        CHECK(error_of([&] { signal_sender(own, unique_name(), soon); }) == ENOENT);
    }
    SECTION("a listener that accepts and says nothing") {
        service other;
        std::optional<endpoint> end;
        std::thread accepting([&] { end.emplace(other.accept()); });
        door own = test_door();
        CHECK(error_of([&] { signal_sender(own, other.name(), 300ms); }) == ETIMEDOUT);
        accepting.join();
    }
    SECTION("a listener that accepts and goes") {
        service other;
        std::thread accepting([&] { other.accept().close(); });
        door own = test_door();
        const int error = error_of([&] { signal_sender(own, other.name(), soon); });
        CHECK((error == EPIPE || error == ECONNREFUSED));
        accepting.join();
    }
}

TEST_CASE("receiving ends at the deadline, and when the box is closed", "[signal_box]") {
    watch_post post;
    CHECK_FALSE(post.box.try_receive());
    CHECK(error_of([&] { (void)post.box.receive(20ms); }) == ETIMEDOUT);
    std::atomic<int> cancelled{0};
    std::vector<std::thread> receivers;
    for (int i = 0; i < 3; ++i) {
        receivers.emplace_back([&] {
            if (error_of([&] { (void)post.box.receive(soon); }) == ECANCELED) ++cancelled;
        });
    }
    std::this_thread::sleep_for(20ms);
    post.box.close();
    for (auto& receiver : receivers) receiver.join();
    CHECK(cancelled == 3);
    CHECK(error_of([&] { (void)post.box.try_receive(); }) == ECANCELED);
    post.box.deliver_as(SIGRTMIN + 7);  // returns
}

TEST_CASE("several threads share a box's signals, each once", "[signal_box]") {
    watch_post post;
    const std::uint64_t each = 1 + scaled(2000);
    std::atomic<std::uint64_t> received{0};
    std::atomic<std::uint64_t> sum{0};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int w = 0; w < 3; ++w) {
        threads.emplace_back([&] {
            const int error = error_of([&] {
                for (;;) {
                    sum += post.box.receive(soon).what.value;
                    ++received;
                }
            });
            if (error != ECANCELED) ++wrong;
        });
    }
    std::vector<std::thread> senders;
    for (int s = 0; s < 3; ++s) {
        senders.emplace_back([&] {
            door own = test_door();
            signal_sender to(own, post.name, soon);
            for (std::uint64_t i = 1; i <= each; ++i)
                while (!to.send({.value = i})) std::this_thread::yield();
        });
    }
    for (auto& sender : senders) sender.join();
    while (received < 3 * each && wrong == 0) std::this_thread::sleep_for(1ms);
    post.box.close();
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(received == 3 * each);
    CHECK(sum == 3 * each * (each + 1) / 2);
}

TEST_CASE("a sender is disconnected by the box", "[signal_box]") {
    std::vector<int> told;
    signal_box_options options;
    options.on_gone = [&](std::uint64_t, const error& why) { told.push_back(why.error_number()); };
    watch_post post(options);
    signal_sender to = post.connect();
    CHECK(to.send({.value = 1}));
    const std::uint64_t from = post.box.receive(soon).from;
    post.box.disconnect(from);
    post.box.disconnect(from);
    CHECK(told == std::vector<int>{ECANCELED});
    CHECK(post.box.senders() == 0);
    CHECK(error_of([&] { to.send({.value = 2}); }) == EPIPE);
    CHECK_FALSE(post.box.try_receive());
}

TEST_CASE("a box without descriptors for newcomers serves those it has", "[signal_box][fork]") {
    watch_post post;
    signal_sender first = post.connect();
    post.short_of_descriptors<endpoint>([&] {
        CHECK(first.send({.value = 1}));
        CHECK(post.box.receive(soon).what.value == 1);
    });
    // And newcomers are let in again.
    std::thread late([&] {
        door own = test_door();
        CHECK_IN_THREAD(signal_sender(own, post.name, soon).send({.value = 2}));
    });
    CHECK(post.box.receive(soon).what.value == 2);
    late.join();
}
