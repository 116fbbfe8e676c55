// SPDX-License-Identifier: MIT
// Pulses, and POSIX signals raised by a doorbell.
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include <ipcdoor/signal.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Blocks a signal in this thread, and swallows what is left of it at the end.
class blocked_signal {
public:
    explicit blocked_signal(int signo) {
        sigemptyset(&set_);
        sigaddset(&set_, signo);
        pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    ~blocked_signal() {
        while (take(0ms).si_signo != 0) {
        }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    // si_signo is 0 where none came in time.
    siginfo_t take(std::chrono::milliseconds timeout) {
        const timespec limit{timeout.count() / 1000, timeout.count() % 1000 * 1'000'000};
        siginfo_t info{};
        while (sigtimedwait(&set_, &info, &limit) < 0) {
            if (errno != EINTR) return {};
        }
        return info;
    }

private:
    sigset_t set_;
    sigset_t before_;
};

}  // namespace

TEST_CASE("pulses keep their values and order", "[pulse]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    pulse_port server(accepted);
    pulse_port client(connected);
    CHECK_FALSE(server.try_receive());
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{7}, ~std::uint64_t{0}})
        CHECK(client.send(value));
    CHECK(server.receive(soon) == 0);
    CHECK(server.receive(soon) == 7);
    CHECK(server.receive(soon) == ~std::uint64_t{0});
    CHECK_FALSE(server.try_receive());
    CHECK(server.send(5));
    CHECK(client.receive(soon) == 5);
}

TEST_CASE("a full pulse queue drops the newest and counts them", "[pulse]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    pulse_port server(accepted);
    pulse_port client(connected);
    for (std::uint64_t i = 0; i < 64; ++i) CHECK(client.send(i));
    for (std::uint64_t i = 64; i < 70; ++i) CHECK_FALSE(client.send(i));
    CHECK(server.lost() == 6);
    for (std::uint64_t i = 0; i < 64; ++i) CHECK(server.try_receive() == i);
    CHECK_FALSE(server.try_receive());
    CHECK(client.send(100));
    CHECK(server.receive(soon) == 100);
    // The doorbell counted all of them.
    CHECK(accepted.slot_state(0).rung[pulse_vector] == 71);
}

TEST_CASE("a receive of pulses ends at its deadline, not before", "[pulse]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    pulse_port server(accepted);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(error_of([&] { server.receive(50ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
}

TEST_CASE("pulses and messages share a connection", "[pulse]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    pulse_port pulses_to(client.raw());
    pulse_port pulses_from(server.raw());
    client.send("message", soon);
    CHECK(pulses_to.send(3));
    CHECK(pulses_from.receive(soon) == 3);
    CHECK(server.receive(soon).text() == "message");
}

TEST_CASE("pulses between processes are lost to nobody who keeps up", "[pulse][fork]") {
    service local;
    const std::uint64_t count = scaled(20'000);
    child peer([&] {
        endpoint end = local.connect();
        pulse_port pulses(end);
        for (std::uint64_t i = 0; i < count; ++i) {
            // One in 32 waits for its echo, so the queue never overflows.
            EXPECT_CHILD(pulses.send(i));
            if (i % 32 == 31) EXPECT_CHILD(pulses.receive(soon) == i);
        }
        EXPECT_CHILD(pulses.receive(soon) == ~std::uint64_t{0});
        return 0;
    });
    endpoint end = local.accept();
    pulse_port pulses(end);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (pulses.receive(soon) != i) ++wrong;
        if (i % 32 == 31) pulses.send(i);
    }
    CHECK(wrong == 0);
    CHECK(pulses.lost() == 0);
    pulses.send(~std::uint64_t{0});
    CHECK(peer.wait().exited());
    CHECK(error_of([&] { pulses.receive(soon); }) == EPIPE);
    CHECK(error_of([&] { pulses.send(1); }) == EPIPE);
}

TEST_CASE("several threads receive pulses, each once", "[pulse]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    pulse_port server(accepted);
    pulse_port client(connected);
    std::vector<std::thread> threads;
    std::vector<std::vector<std::uint64_t>> received(3);
    std::atomic<int> failures{0};
    for (auto& mine : received) {
        threads.emplace_back([&, &mine = mine] {
            if (error_of([&] {
                    for (std::uint64_t value; (value = server.receive(soon)) != 0;)
                        mine.push_back(value);
                }) != 0)
                ++failures;
        });
    }
    const std::uint64_t count = scaled(2'000);
    for (std::uint64_t i = 1; i <= count; ++i) {
        while (!client.send(i)) std::this_thread::yield();
    }
    for (int i = 0; i < 3; ++i) {
        while (!client.send(0)) std::this_thread::yield();
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<std::uint64_t> all;
    for (const auto& some : received) all.insert(all.end(), some.begin(), some.end());
    std::sort(all.begin(), all.end());
    CHECK(failures == 0);
    CHECK(all.size() == count);
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
}

TEST_CASE("a pulse queue with impossible cursors is refused", "[pulse][hostile]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    pulse_port server(accepted);
    pulse_port client(connected);
    auto& words = *reinterpret_cast<pulse_slot*>(connected.memory().data() + ring_pulse_offset);
    SECTION("tail") {
        for (const std::uint64_t wrong : {std::uint64_t{65}, ~std::uint64_t{0}}) {
            words.tail = wrong;
            CHECK(error_of([&] { (void)server.try_receive(); }) == EPROTO);
        }
    }
    SECTION("magic and version") {
        words.magic = 5;
        CHECK(error_of([&] { (void)server.try_receive(); }) == EPROTO);
        words.magic = pulse_magic;
        words.version = 9;
        CHECK(error_of([&] { (void)server.try_receive(); }) == EPROTO);
    }
    SECTION("head") {
        words.head = 1;
        CHECK(error_of([&] { server.send(1); }) == EPROTO);
        words.head = ~std::uint64_t{0} - 100;
        CHECK(error_of([&] { server.send(1); }) == EPROTO);
    }
}

TEST_CASE("a bound POSIX signal carries the ring's value and the ringer's pid", "[signal][fork]") {
    service local;
    const blocked_signal guard(SIGRTMIN + 3);
    blocked_signal signals(SIGRTMIN + 3);
    gate bound;
    gate done;
    child peer([&] {
        endpoint end = local.connect();
        bound.wait();
        end.ring(0, 20, 0x1234567890abcdef);
        done.wait();
        return 0;
    });
    endpoint end = local.accept();
    const signal_binding binding = bind_signal(end, SIGRTMIN + 3, vectors(20, 21));
    bound.open();
    const siginfo_t info = signals.take(60s);
    done.open();
    REQUIRE(info.si_signo == SIGRTMIN + 3);
    CHECK(info.si_code == SI_QUEUE);
    const signal_event event = to_signal_event(info);
    CHECK(event.pid == peer.pid());
    CHECK(event.uid == getuid());
    CHECK(event.value == 0x1234567890abcdef);
    CHECK(peer.wait().exited());
}

TEST_CASE("a pulse arrives as a signal with its value where that is bound", "[pulse][signal]") {
    blocked_signal signals(SIGRTMIN + 4);
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    pulse_port server(accepted);
    pulse_port client(connected);
    const signal_binding binding = bind_signal(accepted, SIGRTMIN + 4, vectors(pulse_vector));
    CHECK(client.send(77));
    const siginfo_t info = signals.take(60s);
    REQUIRE(info.si_signo == SIGRTMIN + 4);
    CHECK(to_signal_event(info).value == 77);
    CHECK(server.receive(soon) == 77);
}

TEST_CASE("an unbound signal comes no more, and other vectors never raised it", "[signal]") {
    blocked_signal signals(SIGRTMIN + 5);
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    {
        const signal_binding binding = bind_signal(accepted, SIGRTMIN + 5, vectors(20));
        connected.ring(0, 21);
        connected.ring(0, 20, 1);
        const siginfo_t info = signals.take(60s);
        REQUIRE(info.si_signo == SIGRTMIN + 5);
        CHECK(to_signal_event(info).value == 1);
    }
    connected.ring(0, 20, 2);
    // The ring has arrived by then, and no signal with it.
    REQUIRE(accepted.wait(vectors(20), soon));
    CHECK(signals.take(50ms).si_signo == 0);
}

TEST_CASE("signals that cannot be bound are refused", "[signal]") {
    auto ends = connected_pair();
    auto& accepted = ends.first;
    for (const int signo : {SIGKILL, SIGSTOP, -1, 65, 1000})
        CHECK(error_of([&] { (void)bind_signal(accepted, signo, vectors(20)); }) == EINVAL);
    CHECK(error_of([&] { (void)bind_signal(accepted, SIGUSR1, 0); }) == EINVAL);
}
