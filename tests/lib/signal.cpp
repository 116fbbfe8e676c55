// SPDX-License-Identifier: MIT
// POSIX signals raised by a doorbell.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include <ipcdoor/signal.hpp>

#include "lib/lib_support.hpp"
#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a bound POSIX signal carries the ring's value and the ringer's pid", "[signal][fork]") {
    service local;
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
    CHECK(event.uid == ::getuid());
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
    CHECK(client.send({.code = 5, .value = 77}));
    const siginfo_t info = signals.take(60s);
    REQUIRE(info.si_signo == SIGRTMIN + 4);
    CHECK(to_signal_event(info).value == 77);
    CHECK(server.receive(soon).value == 77);
}

TEST_CASE("a blocked pulse raises its signal when it is unblocked", "[pulse][signal]") {
    blocked_signal signals(SIGRTMIN + 6);
    auto ends = connected_pair();
    pulse_port server(ends.first, {.blocked = codes(5)});
    pulse_port client(ends.second);
    const signal_binding binding = bind_signal(ends.first, SIGRTMIN + 6, vectors(pulse_vector));
    CHECK(client.send({.code = 5, .value = 50}));
    CHECK(client.send({.code = 6, .value = 60}));
    siginfo_t info = signals.take(60s);
    REQUIRE(info.si_signo == SIGRTMIN + 6);
    CHECK(to_signal_event(info).value == 60);
    // A ring raises its signal before send() returns, so there is no other.
    CHECK(signals.take(0ms).si_signo == 0);
    server.unblock(codes(5));
    info = signals.take(60s);
    REQUIRE(info.si_signo == SIGRTMIN + 6);
    CHECK(to_signal_event(info).value == 50);
}

TEST_CASE("an unbound signal comes no more, and other vectors never raised it", "[signal]") {
    blocked_signal signals(SIGRTMIN + 5);
    auto ends = connected_pair();
    auto& accepted = ends.first;
    auto& connected = ends.second;
    {
        signal_binding moved = bind_signal(accepted, SIGRTMIN + 5, vectors(20));
        const signal_binding binding = std::move(moved);
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
