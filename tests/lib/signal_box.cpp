// SPDX-License-Identifier: MIT
// A signal box: many senders, one receiver who decides which of them may signal.
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A box of the back end and source under test, and senders to it.
struct watch_post {
    explicit watch_post(signal_box_options options = {})
        : name(unique_name()), at(test_door()), box(at, name, with_source(std::move(options))) {}

    signal_sender connect() {
        // Letting it in is the receiver's business, which is this thread's.
        const signal_box_stats before = box.stats();
        std::optional<signal_sender> made;
        int failed = 0;
        std::thread connecting([&] { failed = error_of([&] { made.emplace(at, name, soon); }); });
        serve_until([&] {
            return box.stats().connected + box.stats().refused > before.connected + before.refused;
        });
        connecting.join();
        if (failed != 0) throw error(failed, "connect");
        return std::move(*made);
    }

    template <class Condition>
    void serve_until(const Condition& so) {
        while (!so()) {
            if (box.try_receive()) throw std::logic_error("an unexpected signal");
            std::this_thread::yield();
        }
    }

    static signal_box_options with_source(signal_box_options options) {
        options.source = source();
        return options;
    }

    std::string name;
    door at;
    signal_box box;
};

// As /proc says: "SigQ: PENDING/LIMIT".
rlim_t signals_pending_of_user() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word != "SigQ:") continue;
        rlim_t pending = 0;
        status >> pending;
        return pending;
    }
    throw std::runtime_error("/proc/self/status has no SigQ");
}

}  // namespace

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
    // Becoming somebody takes root; and the directory of soft: is this user's own.
    if (::geteuid() != 0 || on_soft()) return;
    signal_box_options options;
    options.mode = 0666;
    options.admits = [](const peer_credentials& who) { return who.uid != 4321; };
    options.allowed_codes = [](const peer_credentials& who) {
        return who.uid == 0 ? all_codes : codes(1);
    };
    watch_post post(options);
    const auto as = [&](uid_t uid, const std::function<void(door&)>& run) {
        return child([&, uid] {
            door own = test_door();  // which its node may keep from others
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

TEST_CASE("a forked child that destroys its copies takes nothing from its parent",
          "[signal_box][fork]") {
    auto post = std::make_unique<watch_post>();
    auto to = std::make_unique<signal_sender>(post->connect());
    child other([&] {
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

TEST_CASE("a box delivers pulses as POSIX signals with value, code and sender",
          "[signal_box][signal][fork]") {
    const int signo = SIGRTMIN + 8;
    blocked_signal signals(signo);
    signal_box_options options;
    options.blocked = codes(9);
    options.allowed_codes = [](const peer_credentials&) { return ~codes(8); };
    watch_post post(options);
    CHECK(error_of([&] { post.box.deliver_as(SIGUSR1); }) == EINVAL);
    CHECK(error_of([&] { post.box.deliver_as(SIGKILL); }) == EINVAL);
    CHECK(error_of([&] { post.box.deliver_as(SIGRTMAX + 1); }) == EINVAL);
    CHECK(error_of([&] { post.box.deliver_as(signo, 10ms); }) == 0);
    std::thread delivering(
        [&] { CHECK_IN_THREAD(error_of([&] { post.box.deliver_as(signo); }) == 0); });
    gate done;
    child peer([&] {
        door own = test_door();
        signal_sender to(own, post.name, soon);
        EXPECT_CHILD(to.send({.code = 9, .value = 9}));
        EXPECT_CHILD(to.send({.code = 5, .value = 0x1234567890abcdef}));
        EXPECT_CHILD(error_of([&] { to.send({.code = 8}); }) == EACCES);
        done.wait();
        for (unsigned i = 0; i < 20; ++i) EXPECT_CHILD(to.send({.code = i % 8, .value = i}));
        return 0;
    });
    siginfo_t info = signals.take(60s);
    REQUIRE(info.si_signo == signo);
    CHECK(info.si_code == SI_QUEUE);
    CHECK(info.si_errno == 5);
    signal_event event = to_signal_event(info);
    CHECK(event.value == 0x1234567890abcdef);
    CHECK(event.pid == peer.pid());
    CHECK(event.uid == ::geteuid());
    post.box.unblock(codes(9));
    info = signals.take(60s);
    REQUIRE(info.si_signo == signo);
    CHECK(to_signal_event(info).value == 9);
    CHECK(info.si_errno == 9);
    done.open();
    for (unsigned i = 0; i < 20; ++i) {
        info = signals.take(60s);
        REQUIRE(info.si_signo == signo);
        CHECK(to_signal_event(info).value == i);
        CHECK(info.si_errno == static_cast<int>(i % 8));
        CHECK(info.si_pid == peer.pid());
    }
    CHECK(peer.wait().exited());
    post.box.close();
    delivering.join();
}

TEST_CASE("a full queue of POSIX signals delays delivery, and loses nothing",
          "[signal_box][signal]") {
    watch_post post;
    signal_sender to = post.connect();
    rlimit usual{};
    REQUIRE(::getrlimit(RLIMIT_SIGPENDING, &usual) == 0);
    const int signo = SIGRTMIN + 9;
    blocked_signal signals(signo);
    // Counted by user, so even none may be left for this process.
    const rlimit few{signals_pending_of_user() + 4, usual.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_SIGPENDING, &few) == 0);
    for (unsigned i = 0; i < 20; ++i) CHECK(to.send({.value = i}));
    std::thread delivering(
        [&] { CHECK_IN_THREAD(error_of([&] { post.box.deliver_as(signo); }) == 0); });
    std::this_thread::sleep_for(50ms);
    REQUIRE(::setrlimit(RLIMIT_SIGPENDING, &usual) == 0);
    std::uint64_t wrong = 0;
    for (unsigned i = 0; i < 20; ++i) {
        const siginfo_t info = signals.take(60s);
        if (info.si_signo != signo || to_signal_event(info).value != i) ++wrong;
    }
    CHECK(wrong == 0);
    post.box.close();
    delivering.join();
}

TEST_CASE("a box without descriptors for newcomers serves those it has", "[signal_box][fork]") {
    watch_post post;
    signal_sender first = post.connect();
    rlimit usual{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
    gate full;
    gate over;
    child crowd([&] {
        door own = test_door();
        std::vector<endpoint> all;
        for (int i = 0; i < 50; ++i) {
            // those that are not let in time out
            try {
                all.emplace_back(own.connect(post.name, 20ms));
            } catch (const error&) {
                break;
            }
        }
        full.open();
        over.wait();
        return 0;
    });
    const rlimit few{60, usual.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (!full.is_open()) CHECK_FALSE(post.box.try_receive());
    CHECK(first.send({.value = 1}));
    CHECK(post.box.receive(soon).what.value == 1);
    over.open();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &usual) == 0);
    CHECK(crowd.wait().exited());
    // And newcomers are let in again.
    std::thread late([&] {
        door own = test_door();
        CHECK_IN_THREAD(signal_sender(own, post.name, soon).send({.value = 2}));
    });
    CHECK(post.box.receive(soon).what.value == 2);
    late.join();
}
