// SPDX-License-Identifier: MIT
// Ringing and waiting on the software back end, within and between processes.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"
#include "unit/soft_room.hpp"

using namespace ipcdoor::test;
using ipcdoor::vectors;

TEST_CASE("A wait returns the vectors rung, their count and the latest value", "[soft][doorbell]") {
    const soft_room room;
    soft_pair pair(room);
    for (std::uint64_t value = 1; value <= 3; ++value) pair.client.ring(0, 7, value);
    pair.client.ring(0, 63, 99);
    pair.client.ring(0, 8, 50);

    const auto first = pair.server.wait(vectors(7, 63), 0s);
    REQUIRE(first);
    CHECK(first->fired == vectors(7, 63));
    CHECK(first->count == 4);
    CHECK(first->value == 3);
    CHECK_FALSE(pair.server.wait(vectors(7, 63), 0s));

    const auto second = pair.server.wait(vectors(8), 0s);
    REQUIRE(second);
    CHECK(second->count == 1);
    CHECK(second->value == 50);
}

TEST_CASE("An endpoint can ring itself, awake or asleep", "[soft][doorbell]") {
    const soft_room room;
    soft_pair pair(room);
    pair.server.ring(0, 5, 1);
    CHECK(pair.server.wait(vectors(5), 0s));
    blocking_thread sleeper([&] { CHECK_IN_THREAD(pair.server.wait(vectors(6), 60s)); });
    sleeper.wait_asleep();
    pair.server.ring(0, 6, 1);
    sleeper.join();
}

TEST_CASE("Deadlines end a wait, not before their time", "[soft][doorbell][deadline]") {
    const soft_room room;
    soft_pair pair(room);
    const std::uint64_t start = now_ns();
    CHECK_FALSE(pair.server.wait(vectors(1), 30ms));
    CHECK(now_ns() - start >= 30'000'000);
    CHECK_FALSE(pair.server.wait(vectors(1), -1s));
    ipcdoor_event untouched{1, 2, 3};
    CHECK(ipcdoor_wait(pair.server.get(), 2, 0, &untouched) == -ETIMEDOUT);
    CHECK(untouched.count == 2);
}

TEST_CASE("Slots, vectors and generations out of range are refused", "[soft][doorbell]") {
    const soft_room room;
    soft_pair pair(room);
    ipcdoor_endpoint* client = pair.client.get();
    CHECK(ipcdoor_ring(client, 2, 0, 1, 0) == -EINVAL);
    CHECK(ipcdoor_ring(client, 0xffffffff, 0, 1, 0) == -EINVAL);
    CHECK(ipcdoor_ring(client, 0, 0, 0, 0) == -EINVAL);
    CHECK(ipcdoor_ring(client, 0, 0, 64, 0) == -EINVAL);
    CHECK(ipcdoor_wait(client, 0, 0, nullptr) == -EINVAL);
    CHECK(ipcdoor_ring(client, 0, 2, 1, 0) == -ESTALE);
    CHECK(ipcdoor_ring(client, 0, 1, 1, 0) == 0);
    CHECK(ipcdoor_slot_memory(client, 2) == nullptr);
    CHECK(errno == EINVAL);
}

TEST_CASE("The doorbell's descriptor is readable just while a vector is pending",
          "[soft][doorbell][poll]") {
    const soft_room room;
    soft_pair pair(room);
    const int fd = pair.server.fd();
    CHECK_FALSE(is_readable(fd));
    for (int round = 0; round < 3; ++round) {
        pair.client.ring(0, 1);
        pair.client.ring(0, 2);
        CHECK(is_readable(fd));
        CHECK(pair.server.wait(vectors(1), 0s));
        CHECK(is_readable(fd));
        CHECK(pair.server.wait(vectors(2), 0s));
        CHECK_FALSE(is_readable(fd));
    }
    pair.client.close();
    CHECK(is_readable(fd));
}

TEST_CASE("A wait is interrupted by a signal handler, and the C++ call goes on",
          "[soft][doorbell]") {
    const soft_room room;
    soft_pair pair(room);
    struct sigaction action {};
    action.sa_handler = [](int) {};
    struct sigaction before {};
    REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);

    std::atomic<int> result{0};
    std::atomic<bool> done{false};
    std::thread waiter([&] {
        result = ipcdoor_wait(pair.server.get(), 2, IPCDOOR_NO_DEADLINE, nullptr);
        done = true;
    });
    while (!done) {
        ::pthread_kill(waiter.native_handle(), SIGUSR1);
        std::this_thread::sleep_for(1ms);
    }
    waiter.join();
    CHECK(result == -EINTR);
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("Rings of several threads and processes are all counted, once",
          "[soft][doorbell][counts]") {
    constexpr std::uint64_t rings = 20'000;
    constexpr unsigned threads = 2;
    constexpr unsigned processes = 2;
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint target = door.create("counts", {.slots = 2 + processes});
    gate start;
    const auto ring_all = [&start](ipcdoor::endpoint& from, unsigned first) {
        start.wait();
        for (std::uint64_t n = 0; n < rings; ++n)
            from.ring(0, static_cast<std::uint32_t>(1 + (n + first) % 63), n);
    };
    // Children without threads of their own: ThreadSanitizer allows no others.
    std::vector<child> children;
    for (unsigned i = 0; i < processes; ++i)
        children.emplace_back([&, i] {
            ipcdoor::endpoint own = room.door().attach("counts");
            ring_all(own, i);
            return 0;
        });
    ipcdoor::endpoint shared_end = door.attach("counts");
    std::vector<std::thread> ringing;
    for (unsigned i = 0; i < threads; ++i)
        ringing.emplace_back([&, i] { ring_all(shared_end, i); });

    std::atomic<std::uint64_t> taken{0};
    std::atomic<bool> all_rung{false};
    std::vector<std::thread> waiters;
    // Each takes a part of the vectors, and two of them compete.
    for (const std::uint64_t mask : {vectors(1, 2, 3), ~vectors(0, 1, 2, 3), ~vectors(0)})
        waiters.emplace_back([&, mask] {
            for (;;) {
                const bool last = all_rung;
                if (const auto event = target.wait(mask, 20ms))
                    taken += event->count;
                else if (last)
                    return;
            }
        });
    start.open();
    for (child& each : children) CHECK(each.wait().exited());
    for (std::thread& each : ringing) each.join();
    all_rung = true;
    for (std::thread& each : waiters) each.join();
    CHECK(taken == rings * (threads + processes));
}

TEST_CASE("The counters of a slot say what was rung there", "[soft][doorbell][state]") {
    const soft_room room;
    soft_pair pair(room);
    for (int i = 0; i < 5; ++i) pair.client.ring(0, 9);
    pair.server.ring(0, 9);
    for (const ipcdoor::endpoint* side : {&pair.server, &pair.client}) {
        const auto state = side->slot_state(0);
        CHECK(state.state == IPCDOOR_SLOT_ALIVE);
        CHECK(state.generation == 1);
        CHECK(state.rung[9] == 6);
        CHECK(state.rings == 6);
    }
}

TEST_CASE("No waiter is stuck in a ping-pong that sleeps at every turn",
          "[soft][doorbell][wakeup]") {
    constexpr std::uint64_t turns = 20'000;
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("turns");
    child other([&] {
        ipcdoor::endpoint end = room.door().connect("turns", 60s);
        for (std::uint64_t n = 0; n < turns; ++n) {
            const auto event = end.wait(vectors(1), 60s);
            EXPECT_CHILD(event && event->value == n);
            end.ring(0, 2, n);
        }
        return 0;
    });
    ipcdoor::endpoint end = listener.accept(60s);
    for (std::uint64_t n = 0; n < turns; ++n) {
        const auto event = end.ring_wait(1, 1, n, vectors(2), 60s);
        REQUIRE(event);
        REQUIRE(event->value == n);
    }
    CHECK(other.wait().exited());
}

TEST_CASE("A bound signal reaches the thread that bound it, with value and sender",
          "[soft][signal]") {
    const soft_room room;
    soft_pair pair(room);
    const int signo = SIGRTMIN + 3;
    blocked_signal signals(signo);

    REQUIRE(ipcdoor_bind_signal(pair.server.get(), signo, vectors(4)) == 0);
    pair.client.ring(0, 5, 1);  // not of the mask
    pair.client.ring(0, 4, 0x1234567890);
    const siginfo_t about = signals.take(60s);
    REQUIRE(about.si_signo == signo);
    CHECK(about.si_code == SI_QUEUE);
    CHECK(reinterpret_cast<std::uintptr_t>(about.si_value.sival_ptr) == 0x1234567890);
    CHECK(about.si_pid == ::getpid());

    REQUIRE(ipcdoor_bind_signal(pair.server.get(), 0, 0) == 0);
    pair.client.ring(0, 4, 1);
    CHECK(signals.take(0s).si_signo == 0);
    CHECK(ipcdoor_bind_signal(pair.server.get(), SIGKILL, 1) == -EINVAL);
}
