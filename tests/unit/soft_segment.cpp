// SPDX-License-Identifier: MIT
// Segments of the software back end: slots, memory, lives and deaths.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/process.hpp"
#include "unit/soft_room.hpp"

using namespace ipcdoor::test;
using ipcdoor::lifecycle_vector;
using ipcdoor::vectors;

TEST_CASE("Endpoints of a segment see each other's slots and share its data", "[soft][segment]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint first =
        door.create("shared", {.data_bytes = 5000, .slot_bytes = 9000, .slots = 3});
    CHECK(first.info().data_bytes == 8192);
    CHECK(first.info().slot_bytes == 12288);
    first.memory()[9000] = std::byte{1};
    child other([&] {
        ipcdoor::endpoint second = room.door().attach("shared");
        EXPECT_CHILD(second.slot() == 1);
        EXPECT_CHILD(second.memory(0).size() == 12288);
        EXPECT_CHILD(second.memory(0)[9000] == std::byte{1});
        second.memory()[9000] = std::byte{2};
        second.data()[8191] = std::byte{3};
        second.ring(0, 1);
        return 0;
    });
    CHECK(other.wait().exited());
    CHECK(first.wait(vectors(1), 60s));
    // The memory of the dead stays.
    CHECK(first.memory(1)[9000] == std::byte{2});
    CHECK(first.data()[8191] == std::byte{3});
}

TEST_CASE("A peer's slot cannot be written", "[soft][segment]") {
    const soft_room room;
    soft_pair pair(room, {.data_bytes = 4096});
    auto* peers = const_cast<std::byte*>(pair.server.memory(1).data());
    child writer([&] {
        ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it
        *peers = std::byte{1};       // the parent's mapping, inherited
        return 0;
    });
    CHECK(writer.wait().signaled(SIGSEGV));
    std::ranges::fill(pair.server.memory(), std::byte{9});
    CHECK(pair.client.memory(0)[4095] == std::byte{9});
}

TEST_CASE("Slots are taken in order, when asked for, and not twice", "[soft][segment]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    const ipcdoor::endpoint creator = door.create("slots", {.slots = 4});
    const ipcdoor::endpoint third = door.attach("slots", {.slot = 2});
    CHECK(third.slot() == 2);
    CHECK(error_of([&] { (void)door.attach("slots", {.slot = 2}); }) == EBUSY);
    CHECK(error_of([&] { (void)door.attach("slots", {.slot = 4}); }) == EINVAL);
    const ipcdoor::endpoint second = door.attach("slots");
    CHECK(second.slot() == 1);
    const ipcdoor::endpoint fourth = door.attach("slots");
    CHECK(fourth.slot() == 3);
    CHECK(error_of([&] { (void)door.attach("slots"); }) == ENOSPC);
}

TEST_CASE("A slot that is taken again has a new generation and new memory",
          "[soft][segment][death]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint creator = door.create("again");
    CHECK(creator.slot_state(1).state == IPCDOOR_SLOT_EMPTY);
    CHECK(error_of([&] { creator.ring(1, 1); }) == ENOTCONN);

    ipcdoor::endpoint first = door.attach("again");
    CHECK(first.info().generation == 1);
    first.memory()[0] = std::byte{1};
    first.ring(0, 3);
    const auto old_memory = creator.memory(1);
    first.close();
    CHECK(creator.slot_state(1).state == IPCDOOR_SLOT_DEAD);
    CHECK(creator.slot_state(1).generation == 2);
    CHECK(error_of([&] { creator.ring(1, 1); }) == EPIPE);

    ipcdoor::endpoint second = door.attach("again");
    CHECK(second.info().generation == 3);
    creator.ring(1, 5, 0, 3);
    CHECK(error_of([&] { creator.ring(1, 5, 0, 1); }) == ESTALE);
    CHECK(creator.memory(1)[0] == std::byte{0});
    CHECK(old_memory[0] == std::byte{1});

    // Rings of the dead count; joins and deaths are told.
    const auto event = creator.wait(vectors(3), 0s);
    REQUIRE(event);
    CHECK(event->count == 1);
    CHECK(creator.wait(lifecycle_vector, 0s)->count == 3);
    CHECK(creator.slot_state(0).rung[3] == 1);
    // What was rung at the first occupant is not the second's.
    const auto news = second.wait(~lifecycle_vector, 0s);
    REQUIRE(news);
    CHECK(news->fired == vectors(5));
    CHECK(news->count == 1);
}

TEST_CASE("A slot's new occupant is known before the old one's connection is closed",
          "[soft][segment][death]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint creator = door.create("early");
    const ipcdoor::endpoint first = door.attach("early");
    CHECK(creator.slot_state(1).state == IPCDOOR_SLOT_ALIVE);
    // As whoever finds a dying member's socket closed does, while the kernel is still at
    // closing the others.
    const std::filesystem::path files =
        room.path() + "/" + std::to_string(::geteuid()) + "/early.seg";
    CHECK(std::filesystem::remove(files / "slot.1.1.sock"));
    CHECK(std::filesystem::remove(files / "slot.1.1"));

    ipcdoor::endpoint second = door.attach("early");
    REQUIRE(second.slot() == 1);
    CHECK(second.info().generation == 3);
    CHECK(creator.slot_state(1).state == IPCDOOR_SLOT_ALIVE);
    CHECK(creator.slot_state(1).generation == 3);
    CHECK(second.slot_state(0).state == IPCDOOR_SLOT_ALIVE);
    creator.ring(1, 5);
    CHECK(second.wait(vectors(5), 0s));
    second.ring(0, 6);
    CHECK(creator.wait(vectors(6), 0s));
}

TEST_CASE("A killed peer wakes those who wait for it", "[soft][segment][death]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    SECTION("in a named segment, by the lifecycle vector") {
        ipcdoor::endpoint own = door.create("mortal");
        gate ready;
        child peer([&] {
            ipcdoor::endpoint end = room.door().attach("mortal");
            ready.open();
            (void)end.wait(vectors(1));
            return 0;
        });
        ready.wait();
        CHECK(own.wait(lifecycle_vector, 60s));
        std::atomic<bool> told{false};
        std::thread waiter([&] { told = own.wait(lifecycle_vector, 60s).has_value(); });
        peer.kill();
        waiter.join();
        CHECK(told);
        CHECK(own.peer_info(1).state == IPCDOOR_SLOT_DEAD);
    }
    SECTION("in a connection, by EPIPE, once all was taken") {
        ipcdoor::listener listener = door.listen("mortal");
        gate rung;
        child peer([&] {
            ipcdoor::endpoint end = room.door().connect("mortal", 60s);
            end.ring(0, 9);
            rung.open();
            (void)end.wait(vectors(1));
            return 0;
        });
        ipcdoor::endpoint own = listener.accept(60s);
        rung.wait();
        std::vector<std::thread> waiters;
        std::atomic<int> told{0};
        for (int i = 0; i < 3; ++i)
            waiters.emplace_back(
                [&] { told += error_of([&] { (void)own.wait(2, 60s); }) == EPIPE; });
        peer.kill();
        for (std::thread& each : waiters) each.join();
        CHECK(told == 3);
        CHECK(own.wait(vectors(9), 0s));
        CHECK(error_of([&] { (void)own.wait(vectors(9), 0s); }) == EPIPE);
        CHECK(error_of([&] { own.ring(1, 1); }) == EPIPE);
    }
}

TEST_CASE("A parent's death is told, though its child holds the descriptors",
          "[soft][segment][death][fork]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("parent");
    gate done;
    child parent([&] {
        ipcdoor::endpoint end = room.door().connect("parent", 60s);
        if (::fork() == 0) {
            done.wait();
            ::_exit(0);
        }
        return 0;
    });
    ipcdoor::endpoint own = listener.accept(60s);
    CHECK(error_of([&] { (void)own.wait(vectors(1), 60s); }) == EPIPE);
    done.open();
}

TEST_CASE("A fork()ed child may only close", "[soft][segment][fork]") {
    const soft_room room;
    soft_pair pair(room, {.data_bytes = 4096});
    ipcdoor::endpoint named = pair.door.create("named");
    child copy([&] {
        ipcdoor_endpoint* end = pair.client.get();
        ipcdoor_endpoint* made = nullptr;
        size_t bytes = 0;
        struct ipcdoor_endpoint_info info;
        EXPECT_CHILD(ipcdoor_ring(end, 0, 0, 1, 0) == -EPERM);
        EXPECT_CHILD(ipcdoor_wait(end, 1, 0, nullptr) == -EPERM);
        EXPECT_CHILD(ipcdoor_endpoint_fd(end) == -EPERM);
        EXPECT_CHILD(ipcdoor_endpoint_info(end, &info) == -EPERM);
        EXPECT_CHILD(ipcdoor_slot_memory(end, 0) == nullptr && errno == EPERM);
        EXPECT_CHILD(ipcdoor_data_memory(end, &bytes) == nullptr && errno == EPERM);
        EXPECT_CHILD(ipcdoor_accept(pair.listener.get(), 0, &made) == -EPERM);
        EXPECT_CHILD(ipcdoor_connect(pair.door.get(), "pair", 0, &made) == -EPERM);
        pair.client.close();
        pair.server.close();
        named.close();
        pair.listener.close();
        return 0;
    });
    CHECK(copy.wait().exited());
    // Nobody else noticed.
    pair.client.ring(0, 1, 5);
    CHECK(pair.server.wait(vectors(1), 60s));
    CHECK(room.names(::geteuid()) == 3);
    CHECK(error_of([&] { (void)pair.door.attach("named"); }) == 0);
}

TEST_CASE("Growing keeps address and content, and tells the others", "[soft][segment][grow]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint one = door.create("growing", {.data_bytes = 4096, .max_data_bytes = 1 << 20});
    ipcdoor::endpoint two = door.attach("growing");
    (void)one.wait(lifecycle_vector, 0s);
    const auto before = one.data();
    before[0] = std::byte{1};
    two.grow(1 << 20);
    CHECK(one.wait(lifecycle_vector, 0s));
    const auto after = one.data();
    CHECK(after.data() == before.data());
    CHECK(after.size() == 1 << 20);
    CHECK(after[0] == std::byte{1});
    two.data()[(1 << 20) - 1] = std::byte{2};
    CHECK(after.back() == std::byte{2});
    CHECK(error_of([&] { one.grow(4096); }) == EINVAL);
    CHECK(error_of([&] { one.grow((1 << 20) + 1); }) == EFBIG);
}

TEST_CASE("Anonymous segments take the seals that memory files have", "[soft][segment][seal]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint own = door.create("", {.data_bytes = 4096, .max_data_bytes = 8192});
    CHECK(own.seal() == 0);
    CHECK(own.seal(IPCDOOR_SEAL_GROW) == IPCDOOR_SEAL_GROW);
    CHECK(error_of([&] { own.grow(8192); }) == EPERM);
    CHECK(own.data().size() == 4096);
    CHECK(error_of([&] { own.seal(IPCDOOR_SEAL_WRITE); }) == EBUSY);
    CHECK(own.seal(IPCDOOR_SEAL_SEAL) == (IPCDOOR_SEAL_GROW | IPCDOOR_SEAL_SEAL));
    CHECK(error_of([&] { own.seal(IPCDOOR_SEAL_FUTURE_WRITE); }) == EPERM);

    ipcdoor::endpoint named = door.create("named", {.data_bytes = 4096});
    CHECK(error_of([&] { named.seal(IPCDOOR_SEAL_GROW); }) == EOPNOTSUPP);
    soft_pair pair(room, {.data_bytes = 4096});
    CHECK(error_of([&] { pair.server.seal(IPCDOOR_SEAL_WRITE); }) == EPERM);
}

TEST_CASE("What the software back end has not is refused with a word on what has it",
          "[soft][segment]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    CHECK(door.info().sources == 1U << IPCDOOR_SOURCE_DIRECT);
    CHECK(error_of([&] { (void)door.create("x", {.source = IPCDOOR_SOURCE_IPI}); }) == ENODEV);
    CHECK(std::string(ipcdoor_error()).find("ipcdoor.ko") != std::string::npos);
    CHECK(error_of([&] { (void)door.create("x", {.stamps = true}); }) == EOPNOTSUPP);
    CHECK(error_of([&] { (void)door.create("x", {.source = 99}); }) == EINVAL);
    CHECK(error_of([&] { (void)door.create("x", {.slots = 257}); }) == EINVAL);
    CHECK(error_of([&] { (void)door.create("x", {.slots = 1}); }) == EINVAL);
    CHECK(error_of([&] { (void)door.create("x", {.mode = 0777}); }) == EINVAL);
    CHECK(error_of([&] { (void)door.create("x", {.data_bytes = ~0ULL}); }) == EINVAL);
    CHECK(error_of([&] { (void)door.create("x", {.data_bytes = 1ULL << 62}); }) == EINVAL);
    CHECK(error_of([&] { (void)door.create("x", {.data_bytes = 8192, .max_data_bytes = 4096}); }) ==
          EINVAL);
    CHECK(error_of([&] { (void)door.attach(0); }) == EOPNOTSUPP);
    ipcdoor::endpoint own = door.create("x");
    CHECK(error_of([&] { own.bind_eventfd(0, 1); }) == EOPNOTSUPP);
}

TEST_CASE("Nothing stays open or named after the last close", "[soft][segment][leak]") {
    const soft_room room;
    const std::size_t before = open_fd_count();
    {
        soft_pair pair(room, {.data_bytes = 4096});
        ipcdoor::endpoint one = pair.door.create("leak", {.data_bytes = 4096, .slots = 8});
        std::vector<ipcdoor::endpoint> more;
        for (int i = 0; i < 7; ++i) more.push_back(pair.door.attach("leak"));
        for (auto& each : more) {
            (void)each.fd();
            each.ring(0, 1);
        }
        (void)one.wait(vectors(1), 0s);
        more.clear();
        for (int i = 0; i < 20; ++i) {
            ipcdoor::endpoint guest = pair.door.attach("leak");
            one.ring(guest.slot(), 1);
        }
        (void)one.memory(1);
        CHECK(error_of([&] { (void)pair.door.connect("pair", 1ms); }) == ETIMEDOUT);
        CHECK_FALSE(pair.listener.try_accept(0s));
    }
    CHECK(open_fd_count() == before);
    CHECK(room.names(::geteuid()) == 0);
}

TEST_CASE("Peers killed at any moment leave the survivors at work", "[soft][segment][death]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint own = door.create("storm", {.slots = 4});
    const std::size_t before = open_fd_count();
    for (int round = 0; round < 60; ++round) {
        child victim([&] {
            for (;;) {
                ipcdoor::endpoint end = room.door().attach("storm");
                for (int i = 0; i < 20; ++i) end.ring(0, 2);
                (void)end.wait(vectors(1), 0s);
            }
            return 0;
        });
        ::usleep(static_cast<useconds_t>(500 + round * 137 % 5000));
        victim.kill();
        victim.wait();
        ipcdoor::endpoint next = door.attach("storm");
        next.ring(0, 1, static_cast<std::uint64_t>(round));
        const auto event = own.wait(vectors(1), 60s);
        REQUIRE(event);
        REQUIRE(event->value == static_cast<std::uint64_t>(round));
    }
    // At most what the last dead occupant of each slot still holds.
    CHECK(open_fd_count() <= before + 3 * 2);
}
