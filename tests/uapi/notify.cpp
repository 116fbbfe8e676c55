// SPDX-License-Identifier: MIT
// poll, epoll, eventfd and POSIX signals.
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/threads.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

int bind_eventfd(const endpoint& on, int fd, std::uint64_t mask) {
    ipcdoor_bind_eventfd args{};
    args.fd = fd;
    args.mask = mask;
    return call(on.fd, IPCDOOR_IOC_BIND_EVENTFD, &args);
}

int bind_signal(const endpoint& on, int signo, std::uint64_t mask) {
    ipcdoor_bind_signal args{};
    args.signo = static_cast<std::uint32_t>(signo);
    args.mask = mask;
    return call(on.fd, IPCDOOR_IOC_BIND_SIGNAL, &args);
}

constexpr int long_ms = 60'000;

std::uint64_t read_eventfd(const unique_fd& fd) {
    std::uint64_t count = 0;
    return ::read(fd.get(), &count, sizeof count) == sizeof count ? count : 0;
}

}  // namespace

TEST_CASE("poll tells vectors 1 to 63 as POLLIN and vector 0 as POLLPRI until acknowledged",
          "[uapi][poll]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    CHECK(poll_now(a.get()) == POLLPRI);  // b joined
    CHECK(poll_now(b.get()) == 0);
    CHECK(take(a, lifecycle_bit).count == 1);
    CHECK(poll_now(a.get()) == 0);
    REQUIRE(ring(a, 1, 63) == 0);
    CHECK(poll_now(b.get()) == POLLIN);
    CHECK(poll_now(b.get(), POLLPRI) == 0);
    CHECK(wait(b, bit(63), 0, 0).error == 0);  // a look does not acknowledge
    CHECK(poll_now(b.get()) == POLLIN);
    CHECK(take(b, bit(63)).error == 0);
    CHECK(poll_now(b.get()) == 0);
}

TEST_CASE("a sleeping poll is woken by a ring, a join and a death", "[uapi][poll]") {
    const auto door = open_door();
    const auto a = create(door);
    const auto while_polling = [&](short events, auto act) {
        short got = 0;
        blocking_thread poller([&] { got = poll_now(a.get(), events, long_ms); });
        poller.wait_asleep();
        act();
        poller.join();
        return got;
    };
    endpoint b;
    CHECK(while_polling(POLLIN | POLLPRI, [&] { b = attach_to(door, a); }) == POLLPRI);
    take(a, lifecycle_bit);
    CHECK(while_polling(POLLIN, [&] { ring(b, 0, 9); }) == POLLIN);
    take(a, ringable_mask);
    CHECK(while_polling(0, [&] { b.fd.reset(); }) == POLLHUP);
    CHECK(poll_now(a.get()) == (POLLPRI | POLLHUP));
    // another peer comes: not hung up any more
    b = attach_to(door, a);
    CHECK((poll_now(a.get()) & POLLHUP) == 0);
}

TEST_CASE("an endpoint that never had a peer is not hung up", "[uapi][poll]") {
    const auto door = open_door();
    const auto a = create(door);
    CHECK(poll_now(a.get()) == 0);
}

TEST_CASE("epoll reports rings, level- and edge-triggered", "[uapi][poll]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    for (const bool edge : {false, true}) {
        INFO("edge " << edge);
        const unique_fd set(::epoll_create1(EPOLL_CLOEXEC));
        REQUIRE(set);
        epoll_event event{};
        event.events = EPOLLIN | (edge ? std::uint32_t{EPOLLET} : 0);
        event.data.u64 = 17;
        REQUIRE(::epoll_ctl(set.get(), EPOLL_CTL_ADD, b.get(), &event) == 0);
        CHECK(::epoll_wait(set.get(), &event, 1, 0) == 0);
        for (int i = 0; i < 3; ++i) {
            REQUIRE(ring(a, 1, 2) == 0);
            event = {};
            CHECK(::epoll_wait(set.get(), &event, 1, long_ms) == 1);
            CHECK(event.data.u64 == 17);
            CHECK(event.events == EPOLLIN);
            CHECK(::epoll_wait(set.get(), &event, 1, 0) == (edge ? 0 : 1));
            CHECK(take(b, bit(2)).count == 1);
            CHECK(::epoll_wait(set.get(), &event, 1, 0) == 0);
        }
    }
}

TEST_CASE("a ring from another process while nobody polls is there for the next poll",
          "[uapi][poll]") {
    const auto door = open_door();
    const auto a = create(door);
    child other([&] {
        const auto b = attach_to(door, a);
        EXPECT_CHILD(ring(b, 0, 5) == 0);
        return 0;
    });
    CHECK(other.wait().exited());
    CHECK(poll_now(a.get()) == (POLLIN | POLLPRI | POLLHUP));
}

TEST_CASE("an eventfd is signalled at deliveries of its vectors only", "[uapi][eventfd]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    const unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    REQUIRE(event);
    REQUIRE(bind_eventfd(b, event.get(), bit(3) | bit(4)) == 0);
    REQUIRE(ring(a, 1, 5) == 0);
    REQUIRE(ring(a, 1, 3) == 0);
    CHECK(poll_now(event.get(), POLLIN, long_ms) == POLLIN);
    CHECK(read_eventfd(event) == 1);
    REQUIRE(ring(a, 1, 4) == 0);
    CHECK(poll_now(event.get(), POLLIN, long_ms) == POLLIN);
    CHECK(read_eventfd(event) == 1);
    // at least one and at most as many deliveries as rings; WAIT has the count
    for (int i = 0; i < 100; ++i) REQUIRE(ring(a, 1, 3) == 0);
    CHECK(poll_now(event.get(), POLLIN, long_ms) == POLLIN);
    std::this_thread::sleep_for(20ms);
    const auto deliveries = read_eventfd(event);
    CHECK(deliveries >= 1);
    CHECK(deliveries <= 100);
    CHECK(take(b, bit(3)).count == 101);
    // unbound
    REQUIRE(bind_eventfd(b, -1, 0) == 0);
    REQUIRE(ring(a, 1, 3) == 0);
    std::this_thread::sleep_for(20ms);
    CHECK(read_eventfd(event) == 0);
}

TEST_CASE("an eventfd hears of vector 0, and a new binding replaces the old", "[uapi][eventfd]") {
    const auto door = open_door();
    auto args = create_args();
    args.slots = 4;
    const auto a = create(door, args);
    const unique_fd first(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const unique_fd second(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    REQUIRE(bind_eventfd(a, first.get(), lifecycle_bit) == 0);
    auto b = attach_to(door, a);
    CHECK(poll_now(first.get(), POLLIN, long_ms) == POLLIN);
    CHECK(read_eventfd(first) == 1);
    REQUIRE(bind_eventfd(a, second.get(), lifecycle_bit) == 0);
    b.fd.reset();
    CHECK(poll_now(second.get(), POLLIN, long_ms) == POLLIN);
    CHECK(read_eventfd(first) == 0);
}

TEST_CASE("BIND_EVENTFD refuses what is no open eventfd", "[uapi][eventfd]") {
    const auto door = open_door();
    const auto a = create(door);
    const unique_fd event(::eventfd(0, EFD_CLOEXEC));
    CHECK(bind_eventfd(a, 999, bit(1)) == -EBADF);
    CHECK(bind_eventfd(a, door.get(), bit(1)) == -EINVAL);
    CHECK(bind_eventfd(a, a.get(), bit(1)) == -EINVAL);
    CHECK(bind_eventfd(a, -2, bit(1)) == -EINVAL);
    CHECK(bind_eventfd(a, event.get(), 0) == -EINVAL);
    CHECK(bind_eventfd(a, -1, 0) == 0);
}

TEST_CASE("a bound signal carries the ringer and the value, and every ring sends one",
          "[uapi][signal]") {
    const auto door = open_door();
    const auto a = create(door);
    blocked_signal queue(SIGRTMIN);
    REQUIRE(bind_signal(a, SIGRTMIN, bit(6)) == 0);
    auto other = child::as_user(user_uid, [&] {
        const auto b = attach_to(door, a);
        for (std::uint64_t i = 0; i < 10; ++i) EXPECT_CHILD(ring(b, 0, 6, 0x1000 + i) == 0);
        EXPECT_CHILD(ring(b, 0, 7, 1) == 0);  // not bound
        return 0;
    });
    for (std::uint64_t i = 0; i < 10; ++i) {
        const siginfo_t info = queue.take(partner_deadline);
        REQUIRE(info.si_signo == SIGRTMIN);
        CHECK(info.si_code == SI_QUEUE);
        CHECK(info.si_pid == other.pid());
        CHECK(info.si_uid == user_uid);
        CHECK(reinterpret_cast<std::uintptr_t>(info.si_value.sival_ptr) == 0x1000 + i);
    }
    CHECK(other.wait().exited());
    CHECK(queue.take(20ms).si_signo == 0);
    CHECK(take(a, bit(6)).count == 10);  // the count is exact beside it
    // unbound
    REQUIRE(bind_signal(a, 0, 0) == 0);
    REQUIRE(ring(a, 0, 6) == 0);
    CHECK(queue.take(20ms).si_signo == 0);
}

TEST_CASE("the signal goes to the thread that bound it", "[uapi][signal]") {
    const auto door = open_door();
    const auto a = create(door);
    const int signo = SIGRTMIN + 1;
    const blocked_signal here(signo);
    std::atomic<bool> bound{false};
    std::atomic<int> got{0};
    std::thread owner([&] {
        blocked_signal queue(signo);
        bound = bind_signal(a, signo, bit(1)) == 0;
        got = queue.take(partner_deadline).si_signo;
    });
    while (!bound) std::this_thread::yield();
    REQUIRE(ring(a, 0, 1) == 0);
    owner.join();
    CHECK(got == signo);
    // the thread is gone: nobody else gets it, and the ring is counted
    REQUIRE(ring(a, 0, 1) == 0);
    blocked_signal nobody(signo);
    CHECK(nobody.take(20ms).si_signo == 0);
    CHECK(take(a, bit(1)).count == 2);
}

TEST_CASE("a bound signal tells of a peer's death", "[uapi][signal][death]") {
    const auto door = open_door();
    const auto a = create(door);
    auto b = attach_to(door, a);
    blocked_signal queue(SIGRTMIN);
    REQUIRE(bind_signal(a, SIGRTMIN, lifecycle_bit) == 0);
    b.fd.reset();
    CHECK(queue.take(partner_deadline).si_signo == SIGRTMIN);
}

TEST_CASE("an ordinary user's ring reaches root's bound signal and not more", "[uapi][signal]") {
    // The binding is the receiver's opt-in, so no permission to kill is needed;
    // without it no signal comes.
    const auto door = open_door();
    const auto a = create(door);
    blocked_signal queue(SIGUSR2);
    const auto ring_once = [&] {
        auto other = child::as_user(user_uid, [&] {
            const auto b = attach_to(door, a);
            EXPECT_CHILD(::kill(::getppid(), SIGUSR2) < 0);
            EXPECT_CHILD(ring(b, 0, 6) == 0);
            return 0;
        });
        return other.wait().exited();
    };
    CHECK(ring_once());
    CHECK(queue.take(20ms).si_signo == 0);
    REQUIRE(bind_signal(a, SIGUSR2, bit(6)) == 0);
    CHECK(ring_once());
    CHECK(queue.take(partner_deadline).si_signo == SIGUSR2);
}

TEST_CASE("BIND_SIGNAL refuses signals that cannot be bound", "[uapi][signal]") {
    const auto door = open_door();
    const auto a = create(door);
    CHECK(bind_signal(a, SIGKILL, bit(1)) == -EINVAL);
    CHECK(bind_signal(a, SIGSTOP, bit(1)) == -EINVAL);
    CHECK(bind_signal(a, 65, bit(1)) == -EINVAL);
    CHECK(bind_signal(a, -1, bit(1)) == -EINVAL);
    CHECK(bind_signal(a, SIGUSR1, 0) == -EINVAL);
    CHECK(bind_signal(a, 64, bit(1)) == 0);
    CHECK(bind_signal(a, 0, 0) == 0);
}

TEST_CASE("a bound signal ends with the program that bound it", "[uapi][signal][attack]") {
    const auto door = open_door();
    const auto a = create(door);
    ipcdoor_bind_signal args{};
    args.signo = SIGUSR1;
    args.mask = bit(5);
    // It shares this memory, so it may bind; then it becomes another program, which
    // might be one with more rights than whoever rings.
    const pid_t pid = ::vfork();
    if (pid == 0) {
        if (::ioctl(a.get(), IPCDOOR_IOC_BIND_SIGNAL, &args) != 0) ::_exit(1);
        ::execl("/bin/sh", "sh", "-c", "exec sleep 60", nullptr);
        ::_exit(2);
    }
    REQUIRE(pid > 0);
    wait_thread_asleep(pid, pid);
    CHECK(ring(a, a.info.slot, 5) == 0);
    int status = 0;
    CHECK(::waitpid(pid, &status, WNOHANG) == 0);
    ::kill(pid, SIGKILL);
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
}
