// SPDX-License-Identifier: MIT
// How endpoints, segments and names end, who is told, and what must not end them.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "support/catch.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

// Everything that a peer is told about the death of slot 1's endpoint.
void check_told(const endpoint& survivor, std::uint32_t alive_generation) {
    const auto told = wait_long(survivor, lifecycle_bit);
    CHECK(told.error == 0);
    CHECK(told.fired == lifecycle_bit);
    CHECK((poll_now(survivor.get()) & POLLHUP) != 0);
    const auto info = peer_info(survivor, 1);
    CHECK(info.state == IPCDOOR_SLOT_DEAD);
    CHECK(info.generation == alive_generation + 1);
    const auto state = map_state(survivor);
    CHECK(slot_state(state, 1).state == IPCDOOR_SLOT_DEAD);
    CHECK(slot_state(state, 1).generation == alive_generation + 1);
    CHECK(ring(survivor, 1, 5) == -EPIPE);
}

// A child attaches to `a`, does `end` once it may, and the parent checks.
void check_child_end(const std::function<void(const endpoint&)>& end, bool kill_it = false) {
    const auto door = open_door();
    const auto a = create(door);
    gate seated;
    gate go;
    child peer([&] {
        const auto b = attach_to(door, a);
        seated.open();
        go.wait();
        end(b);
        return 0;
    });
    seated.wait();
    CHECK(take(a, lifecycle_bit).count == 1);  // joined
    CHECK((poll_now(a.get()) & POLLHUP) == 0);
    go.open();
    if (kill_it) peer.kill();
    check_told(a, 1);
    if (!kill_it) CHECK(peer.wait().exited());
}

}  // namespace

TEST_CASE("the last close is death", "[uapi][death]") {
    const auto door = open_door();
    const auto a = create(door);
    auto b = attach_to(door, a);
    take(a, lifecycle_bit);
    const unique_fd copy(::dup(b.get()));
    b.fd.reset();
    CHECK(take(a, lifecycle_bit).error == -ETIMEDOUT);  // the copy holds it
    CHECK(ring(a, 1, 3) == 0);
    b.fd.reset(::dup(copy.get()));
    CHECK(take(b, bit(3)).count == 1);
    b.fd.reset();
    const_cast<unique_fd&>(copy).reset();
    check_told(a, 1);
}

TEST_CASE("exit, a deadly signal and execve are death", "[uapi][death]") {
    SECTION("return from main") {
        check_child_end([](const endpoint&) {});
    }
    SECTION("_exit") {
        check_child_end([](const endpoint&) { ::_exit(0); });
    }
    SECTION("SIGKILL while it sleeps in WAIT") {
        check_child_end([](const endpoint& b) { wait_long(b, bit(5)); }, true);
    }
    SECTION("SIGKILL while it runs") {
        check_child_end(
            [](const endpoint& b) {
                for (;;) ring(b, 0, 5);
            },
            true);
    }
    SECTION("execve, with the descriptor kept over it") {
        check_child_end([](const endpoint& b) {
            ::fcntl(b.get(), F_SETFD, 0);
            ::execl("/bin/sh", "sh", "-c", "sleep 0.2", nullptr);
        });
    }
    SECTION("exit with pages mapped") {
        check_child_end([](const endpoint& b) {
            map_data(b, PROT_READ | PROT_WRITE).release();
            map_state(b).release();
            ::_exit(0);
        });
    }
}

TEST_CASE("a child of fork that keeps the descriptor does not hide its parent's death",
          "[uapi][death]") {
    const auto door = open_door();
    const auto a = create(door);
    gate seated;
    gate checked;
    gate refused;
    child peer([&] {
        const auto b = attach_to(door, a);
        if (::fork() == 0) {
            // not a `child`: it must outlive its parent
            seated.open();
            checked.wait();
            EXPECT_CHILD(take(b, bit(5)).error == -EPERM);
            EXPECT_CHILD(poll_now(b.get()) == POLLERR);
            refused.open();
            return 0;
        }
        seated.wait();
        return 0;
    });
    CHECK(peer.wait().exited());
    check_told(a, 1);
    checked.open();
    CHECK_NOTHROW(refused.wait());
}

TEST_CASE("an inherited descriptor can be closed and attached by, and nothing else",
          "[uapi][death]") {
    const auto door = open_door();
    auto args = create_args();
    args.slots = 3;
    const auto a = create(door, args);
    const auto data = map_data(a, PROT_READ | PROT_WRITE);
    data.word() = 11;
    child heir([&] {
        EXPECT_CHILD(ring(a, 0, 1) == -EPERM);
        EXPECT_CHILD(take(a, bit(1)).error == -EPERM);
        ipcdoor_ring_wait both{};
        EXPECT_CHILD(call(a.fd, IPCDOOR_IOC_RING_WAIT, &both) == -EPERM);
        ipcdoor_endpoint_info info{};
        EXPECT_CHILD(call(a.fd, IPCDOOR_IOC_ENDPOINT_INFO, &info) == -EPERM);
        ipcdoor_peer_info peer{};
        EXPECT_CHILD(call(a.fd, IPCDOOR_IOC_PEER_INFO, &peer) == -EPERM);
        ipcdoor_bind_eventfd eventfd{};
        eventfd.fd = -1;
        EXPECT_CHILD(call(a.fd, IPCDOOR_IOC_BIND_EVENTFD, &eventfd) == -EPERM);
        ipcdoor_bind_signal signal{};
        EXPECT_CHILD(call(a.fd, IPCDOOR_IOC_BIND_SIGNAL, &signal) == -EPERM);
        EXPECT_CHILD(seal(a, 0) == -EPERM);
        EXPECT_CHILD(grow(a, a.info.data_bytes) == -EPERM);
        EXPECT_CHILD(mmap_error(a.get(), a.info.state_offset, 4096, PROT_READ) == EPERM);
        EXPECT_CHILD(mmap_error(a.get(), a.info.data_offset, 4096, PROT_READ) == EPERM);
        EXPECT_CHILD(poll_now(a.get()) == POLLERR);
        const auto own = attach_to(door, a);
        EXPECT_CHILD(own.info.slot == 1);
        EXPECT_CHILD(map_data(own, PROT_READ).word() == 11);
        ::close(a.get());
        return 0;
    });
    CHECK(heir.wait().exited());
    CHECK(ring(a, 0, 1) == 0);
    CHECK(peer_info(a, 0).state == IPCDOOR_SLOT_ALIVE);
    CHECK(peer_info(a, 0).generation == 1);
}

TEST_CASE("a child that shares the address space is the owner too", "[uapi][death]") {
    const auto door = open_door();
    const auto a = create(door);
    static int result;
    static const endpoint* shared_endpoint;
    shared_endpoint = &a;
    result = -1;
    const pid_t pid = ::vfork();
    if (pid == 0) {
        result = ring(*shared_endpoint, 0, 4);
        ::_exit(0);
    }
    REQUIRE(pid > 0);
    ::waitpid(pid, nullptr, 0);
    CHECK(result == 0);
    // its exit is not the end of the address space
    CHECK(take(a, bit(4)).count == 1);
}

TEST_CASE("a kept mapping keeps the endpoint alive after close", "[uapi][death][mmap]") {
    const auto door = open_door();
    const auto a = create(door);
    auto b = attach_to(door, a);
    take(a, lifecycle_bit);
    auto data = map_data(b, PROT_READ | PROT_WRITE);
    b.fd.reset();
    CHECK(take(a, lifecycle_bit).error == -ETIMEDOUT);
    CHECK(peer_info(a, 1).state == IPCDOOR_SLOT_ALIVE);
    data.word() = 5;
    CHECK(map_data(a, PROT_READ).word() == 5);
    CHECK(ring(a, 1, 3) == 0);
    data = mapping();
    check_told(a, 1);
}

TEST_CASE("generations grow by one at each attachment and each death", "[uapi][death]") {
    const auto door = open_door();
    const auto a = create(door);
    for (std::uint32_t i = 0; i < 5; ++i) {
        const auto b = attach_to(door, a);
        CHECK(b.info.slot == 1);
        CHECK(b.info.generation == 2 * i + 1);
        CHECK(peer_info(a, 1).generation == 2 * i + 1);
    }
    CHECK(peer_info(a, 1).generation == 10);
    CHECK(peer_info(a, 0).generation == 1);
}

TEST_CASE("a slot that is attached again starts with fresh pages and counters", "[uapi][death]") {
    const auto door = open_door();
    const auto a = create(door);
    const auto seen_by_a = map_slot(a, 1, PROT_READ);
    {
        const auto b = attach_to(door, a);
        const auto own = map_slot(b, 1, PROT_READ | PROT_WRITE);
        own.word() = 123;
        REQUIRE(ring(a, 1, 5, 9) == 0);
        CHECK(seen_by_a.word() == 123);
    }
    CHECK(seen_by_a.word() == 123);  // last words stay readable
    const auto state = map_state(a);
    CHECK(slot_state(state, 1).rung[5] == 1);
    const auto next = attach_to(door, a);
    CHECK(seen_by_a.word() == 0);
    CHECK(map_slot(next, 1, PROT_READ).word() == 0);
    CHECK(slot_state(state, 1).rung[5] == 0);
    CHECK(slot_state(state, 1).rings == 0);
    CHECK(take(next, bit(5)).error == -ETIMEDOUT);
}

TEST_CASE("every survivor is told of every join and death, and counts them", "[uapi][death]") {
    const auto door = open_door();
    auto args = create_args();
    args.slots = 8;
    const auto a = create(door, args);
    const auto b = attach_to(door, a);
    CHECK(take(a, lifecycle_bit).count == 1);
    for (int i = 0; i < 3; ++i) attach_to(door, a);
    CHECK(take(a, lifecycle_bit).count == 6);
    CHECK(take(b, lifecycle_bit).count == 6);
    CHECK((poll_now(a.get()) & POLLHUP) == 0);  // b is there
}

TEST_CASE("the segment and its name live with the last endpoint, not with the creator",
          "[uapi][death]") {
    const auto door = open_door();
    const auto name = fresh_name();
    auto a = create(door, create_args(name));
    auto b = attach(door, attach_args(name));
    a.fd.reset();
    const auto again = attach(door, attach_args(name));
    CHECK(again.info.slot == 0);
    CHECK(again.info.generation == 3);
    CHECK((again.info.rights & IPCDOOR_RIGHT_SEAL) == 0);
}

TEST_CASE("a stale descriptor attaches to nothing once the segment has ended", "[uapi][death]") {
    const auto door = open_door();
    fd_channel channel;
    gate sent;
    gate done;
    child owner([&] {
        const auto a = create(door);
        channel.send(a.get());
        sent.open();
        done.wait();
        return 0;
    });
    sent.wait();
    const auto passed = channel.receive();
    done.open();
    CHECK(owner.wait().exited());
    auto args = attach_args_fd(passed.get());
    CHECK(call(door, IPCDOOR_IOC_ATTACH, &args) == -EPIPE);
}

TEST_CASE("a connection's WAIT ends with EPIPE, after what is pending", "[uapi][death]") {
    const auto door = open_door();
    auto [server, client] = connected_pair(door);
    REQUIRE(ring(server, 1, 9, 1) == 0);
    server.fd.reset();
    CHECK(take(client, bit(8)).error == -EPIPE);
    CHECK(take(client, bit(9)).count == 1);  // last words first
    CHECK(take(client, bit(9)).error == -EPIPE);
    CHECK(take(client, lifecycle_bit).error == 0);
    CHECK(take(client, lifecycle_bit).error == -EPIPE);
    CHECK(wait(client, bit(9), IPCDOOR_NO_DEADLINE).error == -EPIPE);
    CHECK((poll_now(client.get()) & POLLHUP) != 0);
}

TEST_CASE("a peer's death wakes a waiter in an ordinary segment by vector 0 only",
          "[uapi][death]") {
    const auto door = open_door();
    auto [a, b] = attached_pair(door);
    take(a, lifecycle_bit);
    b.fd.reset();
    CHECK(wait(a, bit(5), deadline_in(std::chrono::milliseconds(20))).error == -ETIMEDOUT);
    CHECK(wait(a, bit(5) | lifecycle_bit, IPCDOOR_NO_DEADLINE).fired == lifecycle_bit);
}

TEST_CASE("death takes bytes and endpoints off the user's account", "[uapi][death][quota]") {
    const auto door = open_door();
    const auto before = get_info(door);
    {
        const auto [a, b] = attached_pair(door, create_args("", 1 << 20));
        const auto during = get_info(door);
        CHECK(during.user_endpoints == before.user_endpoints + 2);
        CHECK(during.user_bytes >= before.user_bytes + (1 << 20) + 2 * 4096);
    }
    const auto after = get_info(door);
    CHECK(after.user_endpoints == before.user_endpoints);
    CHECK(after.user_bytes == before.user_bytes);
}
