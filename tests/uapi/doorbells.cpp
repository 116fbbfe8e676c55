// SPDX-License-Identifier: MIT
// RING, WAIT, RING_WAIT: counts, books, deadlines, interruption, exclusive waiters.
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/scaled.hpp"
#include "support/threads.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

// A thread in WAIT, known to sleep once the constructor is done.
class waiting_thread {
public:
    waiting_thread(const endpoint& on, std::uint64_t mask, std::uint32_t flags)
        : thread_([this, &on, mask, flags] { result_ = wait_long(on, mask, flags); }) {
        thread_.wait_asleep();
    }
    pthread_t handle() { return thread_.handle(); }
    bool done() const { return thread_.ended(); }
    const wait_result& join() {
        thread_.join();
        return result_;
    }

private:
    wait_result result_;
    blocking_thread thread_;  // the last, since it uses the other
};

// Signals the calling thread every so often, as long as this lives.
class repeated_signal {
public:
    repeated_signal(int signo, std::chrono::nanoseconds period) {
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = signo;
        event._sigev_un._tid = ::gettid();  // glibc has no other name for it
        CHECK_IN_THREAD(::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
        itimerspec when{};
        when.it_interval.tv_nsec = when.it_value.tv_nsec = period.count();
        ::timer_settime(timer_, 0, &when, nullptr);
    }
    repeated_signal(const repeated_signal&) = delete;
    repeated_signal& operator=(const repeated_signal&) = delete;
    ~repeated_signal() { ::timer_delete(timer_); }

private:
    timer_t timer_{};
};

void ignore_handler(int) {}

// Installs a handler that does nothing, with or without SA_RESTART.
void install_handler(int signo, int flags) {
    struct sigaction action {};
    action.sa_handler = ignore_handler;
    action.sa_flags = flags;
    ::sigaction(signo, &action, nullptr);
}

}  // namespace

TEST_CASE("RING refuses slots and vectors out of range, and says who is not there",
          "[uapi][ring]") {
    const auto door = open_door();
    auto args = create_args();
    args.slots = 3;
    const auto a = create(door, args);
    CHECK(ring(a, 0, 1) == 0);  // one's own
    CHECK(ring(a, 0, 63) == 0);
    CHECK(ring(a, 0, 0) == -EINVAL);
    CHECK(ring(a, 0, 64) == -EINVAL);
    CHECK(ring(a, 0, ~0u) == -EINVAL);
    CHECK(ring(a, 3, 1) == -EINVAL);
    CHECK(ring(a, ~0u, 1) == -EINVAL);
    CHECK(ring(a, 1, 1) == -ENOTCONN);
    auto b = attach_to(door, a);
    REQUIRE(b.info.slot == 1);
    CHECK(ring(a, 1, 1, 0, b.info.generation) == 0);
    CHECK(ring(a, 1, 1, 0, b.info.generation + 1) == -ESTALE);
    CHECK(ring(a, 1, 1) == 0);
    const auto old_generation = b.info.generation;
    b.fd.reset();
    CHECK(ring(a, 1, 1) == -EPIPE);
    CHECK(ring(a, 1, 1, 0, old_generation) == -EPIPE);
    b = attach_to(door, a);
    REQUIRE(b.info.slot == 1);
    CHECK(ring(a, 1, 1, 0, old_generation) == -ESTALE);
    CHECK(ring(a, 1, 1, 0, b.info.generation) == 0);
    // an endpoint that only reads may ring
    b.fd.reset();
    auto reading = attach_args_fd(a.get());
    reading.rights = IPCDOOR_RIGHT_READ;
    const auto reader = attach(door, reading);
    CHECK(ring(reader, 0, 2) == 0);
}

TEST_CASE("WAIT refuses contradictions with EINVAL", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    std::array<std::uint64_t, IPCDOOR_VECTORS> seen{};
    const auto with = [&](std::uint64_t mask, std::uint32_t flags, bool books) {
        ipcdoor_wait args{};
        args.mask = mask;
        args.flags = flags;
        args.seen = books ? reinterpret_cast<std::uintptr_t>(seen.data()) : 0;
        return call(a.fd, IPCDOOR_IOC_WAIT, &args);
    };
    CHECK(with(0, 0, false) == -EINVAL);
    CHECK(with(0, IPCDOOR_WAIT_ACK, false) == -EINVAL);
    CHECK(with(2, IPCDOOR_WAIT_ACK, true) == -EINVAL);
    CHECK(with(2, IPCDOOR_WAIT_ACK << 1, false) == -EINVAL);
    CHECK(with(2, IPCDOOR_WAIT_ACK, false) == -ETIMEDOUT);
    CHECK(with(~std::uint64_t{0}, 0, true) == -ETIMEDOUT);
    ipcdoor_wait bad{};
    bad.mask = 2;
    bad.seen = 8;
    CHECK(call(a.fd, IPCDOOR_IOC_WAIT, &bad) == -EFAULT);
}

TEST_CASE("every ring is counted, the latest value is kept, each vector apart", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    CHECK(take(b, ringable_mask).error == -ETIMEDOUT);
    for (std::uint64_t i = 1; i <= 10; ++i) REQUIRE(ring(a, 1, 7, 100 + i) == 0);
    for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(ring(a, 1, 63, 200 + i) == 0);
    REQUIRE(ring(a, 1, 1, 5) == 0);

    const auto seven = take(b, bit(7));
    CHECK(seven.error == 0);
    CHECK(seven.fired == bit(7));
    CHECK(seven.count == 10);
    CHECK(seven.value == 110);
    CHECK(take(b, bit(7)).error == -ETIMEDOUT);

    const auto rest = take(b, ringable_mask);
    CHECK(rest.fired == (bit(63) | bit(1)));
    CHECK(rest.count == 4);
    CHECK(rest.value == 5);  // of the lowest vector
    CHECK(take(b, ringable_mask).error == -ETIMEDOUT);
    // nothing came back to the ringer
    CHECK(take(a, ringable_mask).error == -ETIMEDOUT);
}

TEST_CASE("without ACK a vector stays pending", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    REQUIRE(ring(a, 1, 4, 9) == 0);
    for (int i = 0; i < 3; ++i) {
        const auto look = wait(b, bit(4), 0, 0);
        CHECK(look.error == 0);
        CHECK(look.count == 1);
        CHECK(look.value == 9);
    }
    REQUIRE(ring(a, 1, 4, 10) == 0);
    CHECK(wait(b, bit(4), 0, 0).count == 2);
    CHECK(take(b, bit(4)).count == 2);
    CHECK(wait(b, bit(4), 0, 0).error == -ETIMEDOUT);
}

TEST_CASE("with seen each waiter keeps its own books and sees every ring", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    using books = std::array<std::uint64_t, IPCDOOR_VECTORS>;
    const auto look = [&b = b](books& seen, std::uint64_t mask) {
        ipcdoor_wait args{};
        args.mask = mask;
        args.seen = reinterpret_cast<std::uintptr_t>(seen.data());
        const int result = call(b.fd, IPCDOOR_IOC_WAIT, &args);
        return wait_result{result, args.fired, args.count, args.value};
    };
    books first{};
    books second{};
    for (int i = 0; i < 5; ++i) REQUIRE(ring(a, 1, 10, 50 + i) == 0);
    REQUIRE(ring(a, 1, 20, 60) == 0);

    auto got = look(first, bit(10) | bit(20));
    CHECK(got.fired == (bit(10) | bit(20)));
    CHECK(got.count == 6);
    CHECK(got.value == 54);
    CHECK(first[10] == 5);
    CHECK(first[20] == 1);
    CHECK(look(first, bit(10) | bit(20)).error == -ETIMEDOUT);

    got = look(second, bit(10));
    CHECK(got.fired == bit(10));
    CHECK(got.count == 5);
    CHECK(second[10] == 5);
    CHECK(second[20] == 0);  // not asked for, not touched

    // an acknowledgement by somebody else changes no books, nor they the pending
    CHECK(take(b, bit(20)).count == 1);
    CHECK(look(second, bit(20)).count == 1);
    CHECK(take(b, bit(10)).count == 5);
    // books of the future differ too: the caller's mistake, not a hang
    second[10] = 99;
    CHECK(look(second, bit(10)).fired == bit(10));
    CHECK(second[10] == 5);
}

TEST_CASE("only the words of seen that the mask spans are read", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    const long page = ::sysconf(_SC_PAGESIZE);
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(memory != MAP_FAILED);
    REQUIRE(::mprotect(memory, page, PROT_NONE) == 0);
    REQUIRE(::mprotect(memory + 2 * page, page, PROT_NONE) == 0);
    const auto with = [&](char* seen, std::uint64_t mask) {
        ipcdoor_wait args{};
        args.mask = mask;
        args.seen = reinterpret_cast<std::uintptr_t>(seen);
        return call(a.fd, IPCDOOR_IOC_WAIT, &args);
    };
    char* const middle = memory + page;
    CHECK(with(middle - 5 * 8, bit(5)) == -ETIMEDOUT);
    CHECK(with(middle - 5 * 8, bit(4) | bit(6)) == -EFAULT);
    CHECK(with(middle + page - 6 * 8, bit(5)) == -ETIMEDOUT);
    CHECK(with(middle + page - 6 * 8, bit(5) | bit(6)) == -EFAULT);
    ::munmap(memory, 3 * page);
}

TEST_CASE("a past deadline returns what is pending, and otherwise does not block", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    for (const std::uint64_t deadline : {std::uint64_t{0}, std::uint64_t{1}, now_ns()}) {
        CHECK(wait(b, bit(3), deadline).error == -ETIMEDOUT);
        REQUIRE(ring(a, 1, 3) == 0);
        CHECK(wait(b, bit(3), deadline).error == 0);
    }
}

TEST_CASE("WAIT sleeps until its absolute deadline, not less", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    const auto deadline = deadline_in(std::chrono::milliseconds(50));
    CHECK(wait(a, bit(3), deadline).error == -ETIMEDOUT);
    CHECK(now_ns() >= deadline);
}

TEST_CASE("a deadline holds beside the later one of another waiter", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    waiting_thread later(b, bit(4), IPCDOOR_WAIT_ACK);
    const auto deadline = deadline_in(std::chrono::milliseconds(50));
    CHECK(wait(b, bit(3), deadline).error == -ETIMEDOUT);
    CHECK(now_ns() >= deadline);
    CHECK_FALSE(later.done());
    REQUIRE(ring(a, 1, 4) == 0);
    CHECK(later.join().error == 0);
}

TEST_CASE("every representation of a far deadline waits", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    const std::uint64_t half = std::uint64_t{1} << 63;
    for (const std::uint64_t deadline : {std::uint64_t{IPCDOOR_NO_DEADLINE}, ~std::uint64_t{1},
                                         half, half - 1, deadline_in(partner_deadline)}) {
        INFO("deadline " << deadline);
        wait_result got;
        blocking_thread waiter([&, &b = b] { got = wait(b, bit(9), deadline); });
        waiter.wait_asleep();
        CHECK(ring(a, 1, 9, 77) == 0);
        waiter.join();
        CHECK(got.error == 0);
        CHECK(got.value == 77);
    }
}

TEST_CASE("on a non-blocking endpoint nothing pending is EAGAIN", "[uapi][wait]") {
    const auto door = open_door();
    auto args = create_args();
    args.flags = IPCDOOR_CREATE_NONBLOCK;
    const auto a = create(door, args);
    CHECK(wait(a, bit(3), IPCDOOR_NO_DEADLINE).error == -EAGAIN);
    CHECK(wait(a, bit(3), 0).error == -EAGAIN);
    REQUIRE(ring(a, 0, 3) == 0);
    CHECK(wait(a, bit(3), IPCDOOR_NO_DEADLINE).error == 0);
    REQUIRE(::fcntl(a.get(), F_SETFL, 0) == 0);
    CHECK(wait(a, bit(3), 0).error == -ETIMEDOUT);
}

TEST_CASE("a sleeping waiter is woken by a vector of its mask and by no other", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    waiting_thread waiter(b, bit(5) | bit(6), IPCDOOR_WAIT_ACK);
    REQUIRE(ring(a, 1, 7) == 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK_FALSE(waiter.done());
    REQUIRE(ring(a, 1, 6, 66) == 0);
    const auto& got = waiter.join();
    CHECK(got.error == 0);
    CHECK(got.fired == bit(6));
    CHECK(got.value == 66);
    CHECK(take(b, bit(7)).count == 1);
}

TEST_CASE("a waiter in another process is woken", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    gate seated;
    child other([&] {
        const auto b = attach_to(door, a);
        seated.open();
        const auto got = wait_long(b, bit(8));
        EXPECT_CHILD(got.error == 0);
        EXPECT_CHILD(got.value == 0x1234567890abcdef);
        EXPECT_CHILD(ring(b, 0, 9, got.value + 1) == 0);
        return 0;
    });
    seated.wait();
    other.wait_asleep();
    REQUIRE(ring(a, 1, 8, 0x1234567890abcdef) == 0);
    const auto back = wait_long(a, bit(9));
    CHECK(back.value == 0x1234567890abcdf0);
    CHECK(other.wait().exited());
}

TEST_CASE("a ring wakes every waiter that only looks", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    waiting_thread first(b, bit(5), 0);
    waiting_thread second(b, bit(5) | bit(6), 0);
    waiting_thread third(b, bit(5), 0);
    REQUIRE(ring(a, 1, 5) == 0);
    CHECK(first.join().error == 0);
    CHECK(second.join().error == 0);
    CHECK(third.join().error == 0);
}

TEST_CASE("of the waiters that acknowledge a ring goes to one, and none is left over",
          "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    constexpr unsigned count = 4;
    std::vector<std::unique_ptr<waiting_thread>> waiters;
    const auto done = [&] {
        unsigned n = 0;
        for (const auto& waiter : waiters) n += waiter->done();
        return n;
    };
    for (unsigned i = 0; i < count; ++i)
        waiters.push_back(std::make_unique<waiting_thread>(b, bit(5), IPCDOOR_WAIT_ACK));
    for (unsigned i = 1; i <= count; ++i) {
        REQUIRE(ring(a, 1, 5) == 0);
        while (done() < i) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        CHECK(done() == i);
    }
    for (const auto& waiter : waiters) CHECK(waiter->join().count == 1);
    CHECK(take(b, bit(5)).error == -ETIMEDOUT);
}

TEST_CASE("who keeps books of their own is woken behind one that acknowledges", "[uapi][wait]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    waiting_thread taker(b, bit(5), IPCDOOR_WAIT_ACK);
    std::array<std::uint64_t, IPCDOOR_VECTORS> seen{};
    ipcdoor_wait args{};
    args.mask = bit(5);
    args.deadline_ns = deadline_in(partner_deadline);
    args.seen = reinterpret_cast<std::uintptr_t>(seen.data());
    int result = -1;
    blocking_thread keeper([&, &b = b] { result = call(b.fd, IPCDOOR_IOC_WAIT, &args); });
    keeper.wait_asleep();
    REQUIRE(ring(a, 1, 5) == 0);
    keeper.join();
    CHECK(taker.join().error == 0);
    CHECK(result == 0);
    CHECK(seen[5] == 1);
}

TEST_CASE("the end of a connection's peer wakes every waiter", "[uapi][wait][death]") {
    const auto door = open_door();
    auto both = connected_pair(door);
    take(both.b, lifecycle_bit);
    waiting_thread first(both.b, bit(5), IPCDOOR_WAIT_ACK);
    waiting_thread second(both.b, bit(5), IPCDOOR_WAIT_ACK);
    waiting_thread third(both.b, bit(5), IPCDOOR_WAIT_ACK);
    both.a.fd.reset();
    CHECK(first.join().error == -EPIPE);
    CHECK(second.join().error == -EPIPE);
    CHECK(third.join().error == -EPIPE);
}

TEST_CASE("an interrupted waiter takes no ring with it", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    // Waiter and ringer race on purpose: whoever wins, the ring must be seen
    // either by the one that was interrupted or by the other.
    for (int round = 0; round < 50; ++round) {
        INFO("round " << round);
        install_handler(SIGUSR1, 0);
        wait_result interrupted;
        blocking_thread victim([&] { interrupted = wait_long(a, bit(5), IPCDOOR_WAIT_ACK); });
        victim.wait_asleep();
        waiting_thread other(a, bit(5), IPCDOOR_WAIT_ACK);
        std::thread signaller([&] { ::pthread_kill(victim.handle(), SIGUSR1); });
        REQUIRE(ring(a, 0, 5) == 0);
        signaller.join();
        victim.join();
        if (interrupted.error == 0) REQUIRE(ring(a, 0, 5) == 0);  // the other's own
        CHECK(other.join().error == 0);
        CHECK((interrupted.error == 0 || interrupted.error == -EINTR));
    }
    ::signal(SIGUSR1, SIG_DFL);
}

// A signal wakes a waiter without a lock, so it looks just as somebody else tells it: by the
// interrupt, or on the ringer's CPU.
TEST_CASE("a waiter that is interrupted without end gets every ring once", "[uapi][wait]") {
    const auto door = open_door();
    const bool direct = GENERATE(false, true);
    auto args = create_args();
    if (direct) args.source = IPCDOOR_SOURCE_DIRECT;
    const auto a = create(door, args);
    const auto state = map_state(a);
    const std::uint64_t rings = scaled(direct ? 100'000 : 20'000);
    install_handler(SIGUSR1, 0);
    std::uint64_t taken = 0;
    std::uint64_t interrupted = 0;
    std::thread waiter([&] {
        repeated_signal soon_again(SIGUSR1, std::chrono::microseconds(200));
        while (taken < rings) {
            const auto got = wait_long(a, bit(5));
            CHECK_IN_THREAD(got.error == 0 || got.error == -EINTR);
            taken += got.count;
            interrupted += got.error == -EINTR;
        }
    });
    std::uint64_t slept = 0;
    for (std::uint64_t i = 0; i < rings; ++i) {
        // by now it waits again, or is on the way out
        while (slot_state(state, 0).waits == slept) std::this_thread::yield();
        slept = slot_state(state, 0).waits;
        REQUIRE(ring(a, 0, 5) == 0);
    }
    waiter.join();
    CHECK(taken == rings);
    CHECK(interrupted > 0);
    CHECK(take(a, bit(5)).error == -ETIMEDOUT);
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("an endpoint has a limited number of sleeping waiters, beyond it EUSERS",
          "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    std::vector<std::thread> waiters;
    std::atomic<unsigned> woken{0};
    for (unsigned i = 0; i < IPCDOOR_MAX_WAITERS; ++i)
        waiters.emplace_back([&] { woken += wait_long(a, bit(5), 0).error == 0; });
    const auto state = map_state(a);
    while (slot_state(state, 0).waits < IPCDOOR_MAX_WAITERS) std::this_thread::yield();
    CHECK(wait_long(a, bit(5)).error == -EUSERS);
    CHECK(wait(a, bit(5), 0).error == -ETIMEDOUT);  // that would not have slept
    REQUIRE(ring(a, 0, 5) == 0);
    for (auto& waiter : waiters) waiter.join();
    CHECK(woken == IPCDOOR_MAX_WAITERS);
}

TEST_CASE("WAIT is EINTR without SA_RESTART, and goes on with it", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    for (const int flags : {0, SA_RESTART}) {
        INFO("sa_flags " << flags);
        install_handler(SIGUSR1, flags);
        waiting_thread waiter(a, bit(5), IPCDOOR_WAIT_ACK);
        ::pthread_kill(waiter.handle(), SIGUSR1);
        if (flags == SA_RESTART) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            CHECK_FALSE(waiter.done());
            REQUIRE(ring(a, 0, 5) == 0);
            CHECK(waiter.join().error == 0);
        } else {
            CHECK(waiter.join().error == -EINTR);
        }
    }
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("a waiter woken and interrupted at once returns its rings", "[uapi][wait]") {
    const auto door = open_door();
    const auto a = create(door);
    // Pending before the call: what is there is returned first.
    blocked_signal pending(SIGUSR1);
    ::pthread_kill(::pthread_self(), SIGUSR1);
    REQUIRE(ring(a, 0, 5, 3) == 0);
    CHECK(take(a, bit(5)).value == 3);
    CHECK(pending.take(std::chrono::milliseconds(0)).si_signo == SIGUSR1);
}

TEST_CASE("RING_WAIT rings, then waits", "[uapi][ring_wait]") {
    const auto door = open_door();
    const auto a = create(door);
    gate seated;
    child echo([&] {
        const auto b = attach_to(door, a);
        seated.open();
        for (int i = 0; i < 100; ++i) {
            const auto got = wait_long(b, bit(1));
            EXPECT_CHILD(got.error == 0 && got.count == 1);
            EXPECT_CHILD(ring(b, 0, 2, got.value + 1) == 0);
        }
        return 0;
    });
    seated.wait();
    for (std::uint64_t i = 0; i < 100; ++i) {
        ipcdoor_ring_wait args{};
        args.ring.slot = 1;
        args.ring.vector = 1;
        args.ring.value = 10 * i;
        args.wait.mask = bit(2);
        args.wait.flags = IPCDOOR_WAIT_ACK;
        args.wait.deadline_ns = deadline_in(partner_deadline);
        REQUIRE(call(a.fd, IPCDOOR_IOC_RING_WAIT, &args) == 0);
        REQUIRE(args.wait.value == 10 * i + 1);
        REQUIRE(args.wait.fired == bit(2));
    }
    CHECK(echo.wait().exited());
}

TEST_CASE("RING_WAIT checks both parts before it rings", "[uapi][ring_wait]") {
    const auto door = open_door();
    const auto a = create(door);
    ipcdoor_ring_wait good{};
    good.ring.vector = 1;
    good.wait.mask = bit(2);
    const auto with = [&](auto change) {
        auto args = good;
        change(args);
        return call(a.fd, IPCDOOR_IOC_RING_WAIT, &args);
    };
    CHECK(with([](auto& x) { x.ring.slot = 2; }) == -EINVAL);
    CHECK(with([](auto& x) { x.ring.vector = 0; }) == -EINVAL);
    CHECK(with([](auto& x) { x.ring.vector = 64; }) == -EINVAL);
    CHECK(with([](auto& x) { x.wait.mask = 0; }) == -EINVAL);
    CHECK(with([](auto& x) { x.wait.flags = IPCDOOR_WAIT_ACK << 1; }) == -EINVAL);
    CHECK(with([](auto& x) { x.wait.seen = 8; }) == -EFAULT);
    CHECK(take(a, bit(1)).error == -ETIMEDOUT);  // nothing was rung
    CHECK(with([](auto& x) { x.ring.slot = 1; }) == -ENOTCONN);
    CHECK(with([](auto& x) { x.ring.generation = 7; }) == -ESTALE);
    // the ring is done although the wait runs out
    CHECK(with([](auto&) {}) == -ETIMEDOUT);
    CHECK(take(a, bit(1)).count == 1);
}

TEST_CASE("an interrupted RING_WAIT is EINTR even with SA_RESTART, and rang once",
          "[uapi][ring_wait]") {
    const auto door = open_door();
    const auto a = create(door);
    install_handler(SIGUSR1, SA_RESTART);
    int result = 1;
    blocking_thread caller([&] {
        ipcdoor_ring_wait args{};
        args.ring.vector = 1;
        args.wait.mask = bit(2);
        args.wait.deadline_ns = deadline_in(partner_deadline);
        result = call(a.fd, IPCDOOR_IOC_RING_WAIT, &args);
    });
    caller.wait_asleep();
    ::pthread_kill(caller.handle(), SIGUSR1);
    caller.join();
    CHECK(result == -EINTR);
    CHECK(take(a, bit(1)).count == 1);
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("four ringers on two CPUs: the counts are exact and nobody is stuck",
          "[uapi][ring][concurrency]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    constexpr unsigned ringers = 4;
    constexpr std::uint64_t each = 20'000;
    std::atomic<unsigned> failures{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < ringers; ++i)
        threads.emplace_back([&, i, &a = a] {
            if (!run_on_cpu(i % 2) && cpu_count() > 1) ++failures;
            for (std::uint64_t n = 0; n < each; ++n)
                if (ring(a, 1, 1 + i % 2, n) != 0) ++failures;  // two ringers share a vector
        });
    std::array<std::uint64_t, IPCDOOR_VECTORS> totals{};
    std::uint64_t total = 0;
    while (total < ringers * each) {
        // one vector at a time, to count each apart
        for (const unsigned vector : {1u, 2u}) {
            const auto got = take(b, bit(vector));
            if (got.error == 0) totals[vector] += got.count;
        }
        total = totals[1] + totals[2];
        if (total < ringers * each) {
            const auto more = wait(b, bit(1) | bit(2), deadline_in(partner_deadline), 0);
            REQUIRE(more.error == 0);
        }
    }
    for (auto& thread : threads) thread.join();
    CHECK(failures == 0);
    CHECK(totals[1] == 2 * each);
    CHECK(totals[2] == 2 * each);
    CHECK(take(b, ringable_mask).error == -ETIMEDOUT);
    const auto state = map_state(a);
    const auto& slot = slot_state(state, 1);
    CHECK(slot.rung[1] == 2 * each);
    CHECK(slot.rung[2] == 2 * each);
    CHECK(slot.rings == ringers * each);
    CHECK(slot.coalesced + slot.suppressed + slot.deliveries == slot.rings);
}
