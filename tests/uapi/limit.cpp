// SPDX-License-Identifier: MIT
// The limit on what interrupts an ordinary user's rings may cause: who is limited,
// and that nothing but the interrupt is missing then.
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/threads.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

const char* const limit_name = "user_max_interrupt_percent";
constexpr std::uint64_t many = 20'000;

// A receiver whose rings wake nobody: an eventfd that is read at the end alone.
struct unread {
    pair both;
    unique_fd eventfd;
};

unread create_unread(const unique_fd& door) {
    unread made{attached_pair(door), unique_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))};
    ipcdoor_bind_eventfd args{};
    args.fd = made.eventfd.get();
    args.mask = bit(1);
    const int error = call(made.both.b.fd, IPCDOOR_IOC_BIND_EVENTFD, &args);
    if (error != 0) throw std::runtime_error("BIND_EVENTFD: " + std::to_string(error));
    return made;
}

std::uint64_t read_eventfd(const unique_fd& fd) {
    std::uint64_t count = 0;
    return ::read(fd.get(), &count, sizeof count) == sizeof count ? count : 0;
}

// Rings `many` times. What is true with a limit and without: no ring is lost, none is
// delivered twice, and the eventfd heard of it.
int storm(const unread& to) {
    for (std::uint64_t i = 1; i <= many; ++i) EXPECT_CHILD(ring(to.both.a, 1, 1, i) == 0);
    const auto pages = map_state(to.both.a);
    const auto& slot = slot_state(pages, 1);
    // the last interrupt may still be under way
    const auto deadline = deadline_in(partner_deadline);
    while (slot.deliveries + slot.coalesced + slot.suppressed < many && now_ns() < deadline)
        std::this_thread::yield();
    EXPECT_CHILD(slot.rings == many);
    EXPECT_CHILD(slot.rung[1] == many);
    EXPECT_CHILD(slot.suppressed == 0);
    EXPECT_CHILD(slot.deliveries + slot.coalesced == many);
    EXPECT_CHILD(slot.interrupts + slot.limited == slot.deliveries);
    EXPECT_CHILD(poll_now(to.eventfd.get(), POLLIN, 60'000) == POLLIN);
    // two that are told at the same moment are one
    const auto told = read_eventfd(to.eventfd);
    EXPECT_CHILD(told > 0 && told <= slot.deliveries);
    const auto taken = take(to.both.b, bit(1));
    EXPECT_CHILD(taken.count == many);
    EXPECT_CHILD(taken.value == many);
    return 0;
}

std::uint64_t limited(const endpoint& on, std::uint32_t slot) {
    const auto pages = map_state(on);
    return slot_state(pages, slot).limited;
}

bool raises_interrupts(const unique_fd& door) {
    return actual_source(door) != IPCDOOR_SOURCE_DIRECT;
}

// Rings until the user's limit is used up, where it has one. Some rings ride along with
// an interrupt under way and cost nothing, the more the later its handler runs.
void use_up(const unique_fd& door, const unread& to) {
    const auto before = limited(to.both.a, 1);
    const auto deadline = deadline_in(partner_deadline);
    do {
        for (int i = 0; i < 50; ++i) EXPECT_CHILD(ring(to.both.a, 1, 1) == 0);
        EXPECT_CHILD(now_ns() < deadline);
    } while (raises_interrupts(door) && limited(to.both.a, 1) == before);
    EXPECT_CHILD(raises_interrupts(door) || limited(to.both.a, 1) == 0);
}

std::string read_parameter() {
    std::string text;
    std::ifstream("/sys/module/ipcdoor/parameters/" + std::string(limit_name)) >> text;
    return text;
}

bool write_parameter(const std::string& text) {
    return static_cast<bool>(
        std::ofstream("/sys/module/ipcdoor/parameters/" + std::string(limit_name))
        << text << std::flush);
}

}  // namespace

TEST_CASE("an ordinary user's storm is limited in its interrupts and in nothing else",
          "[uapi][limit]") {
    const auto door = open_door();
    const module_parameter limit(limit_name, "1");
    auto user = child::as_user(user_uid, [&] {
        const auto to = create_unread(door);
        storm(to);
        use_up(door, to);
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("whoever attached with CAP_SYS_RESOURCE rings without limit", "[uapi][limit]") {
    const auto door = open_door();
    const module_parameter limit(limit_name, "1");
    child root([&] {
        const auto to = create_unread(door);
        // what counts is who attached, as with a file that is open
        EXPECT_CHILD(become_user(user_uid, user_uid));
        storm(to);
        EXPECT_CHILD(limited(to.both.a, 1) == 0);
        return 0;
    });
    CHECK(root.wait().exited());
}

TEST_CASE("the limit 0 is none", "[uapi][limit]") {
    const auto door = open_door();
    const module_parameter limit(limit_name, "0");
    auto user = child::as_user(user_uid, [&] {
        const auto to = create_unread(door);
        storm(to);
        EXPECT_CHILD(limited(to.both.a, 1) == 0);
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("a user's endpoints share one limit", "[uapi][limit]") {
    const auto door = open_door();
    if (!raises_interrupts(door)) {
        std::puts("skipped: the source direct raises no interrupts");
        return;
    }
    const module_parameter limit(limit_name, "1");
    auto user = child::as_user(user_uid, [&] {
        std::vector<unread> all;
        for (int i = 0; i < 100; ++i) all.push_back(create_unread(door));
        std::uint64_t interrupts = 0;
        std::uint64_t without = 0;
        for (int round = 0; round < 100; ++round)
            for (const auto& to : all) EXPECT_CHILD(ring(to.both.a, 1, 1) == 0);
        for (const auto& to : all) {
            const auto pages = map_state(to.both.a);
            interrupts += slot_state(pages, 1).interrupts;
            without += slot_state(pages, 1).limited;
            EXPECT_CHILD(take(to.both.b, bit(1)).count == 100);
        }
        // with a limit for each they would all have been raised
        EXPECT_CHILD(interrupts > 0);
        EXPECT_CHILD(without > interrupts);
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("a ring that wakes the one thread in WAIT is not limited", "[uapi][limit]") {
    const auto door = open_door();
    const module_parameter limit(limit_name, "1");
    // everything on one CPU: an interrupt elsewhere is not paid for by the sleeper
    auto user = child::as_user(user_uid, [&] {
        EXPECT_CHILD(run_on_cpu(0));
        gate seated;
        const auto a = create(door);
        child echo([&] {
            const auto b = attach_to(door, a);
            seated.open();
            for (std::uint64_t i = 0; i < many / 10; ++i) {
                EXPECT_CHILD(wait_long(b, bit(1)).error == 0);
                EXPECT_CHILD(ring(b, 0, 2) == 0);
            }
            return 0;
        });
        seated.wait();
        for (std::uint64_t i = 0; i < many / 10; ++i) {
            EXPECT_CHILD(ring(a, 1, 1) == 0);
            EXPECT_CHILD(wait_long(a, bit(2)).error == 0);
        }
        // the device's interrupts come on a CPU of its own choice
        const bool chosen = actual_source(door) != IPCDOOR_SOURCE_MSI;
        if (chosen) EXPECT_CHILD(limited(a, 1) == 0);
        if (chosen) EXPECT_CHILD(limited(a, 0) == 0);
        EXPECT_CHILD(echo.wait().exited());
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("waiters and pollers are woken when the limit is used up", "[uapi][limit]") {
    const auto door = open_door();
    const module_parameter limit(limit_name, "1");
    auto user = child::as_user(user_uid, [&] {
        const auto used_up = create_unread(door);
        const auto [a, b] = attached_pair(door);
        std::atomic<std::uint64_t> seen_by_first{0};
        const auto look = [&b = b](std::atomic<std::uint64_t>* seen) {
            std::uint64_t books[IPCDOOR_VECTORS] = {};
            while (books[1] < 100) {
                ipcdoor_wait args{};
                args.mask = bit(1);
                args.seen = reinterpret_cast<std::uintptr_t>(&books);
                args.deadline_ns = deadline_in(partner_deadline);
                EXPECT_CHILD(call(b.fd, IPCDOOR_IOC_WAIT, &args) == 0);
                if (seen != nullptr) *seen = books[1];
            }
        };
        // two at once, so that no sleeper pays
        std::thread first([&] { look(&seen_by_first); });
        std::thread second([&] { look(nullptr); });
        for (std::uint64_t i = 1; i <= 100; ++i) {
            use_up(door, used_up);
            EXPECT_CHILD(ring(a, 1, 1) == 0);
            while (seen_by_first < i) std::this_thread::yield();
        }
        first.join();
        second.join();
        EXPECT_CHILD(take(b, bit(1)).count == 100);
        EXPECT_CHILD(poll_now(b.get()) == 0);
        blocking_thread poller(
            [&b = b] { EXPECT_CHILD(poll_now(b.get(), POLLIN, 60'000) == POLLIN); });
        poller.wait_asleep();
        use_up(door, used_up);
        EXPECT_CHILD(ring(a, 1, 1) == 0);
        poller.join();
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("a connection's server rings on its own account", "[uapi][limit]") {
    const auto door = open_door();
    const module_parameter limit(limit_name, "1");
    auto args = listen_args(fresh_name());
    args.mode = 0666;
    const auto listener = listen(door, args);
    gate rung;
    auto user = child::as_user(user_uid, [&] {
        const auto client = connect(door, connect_args(args.name));
        const unique_fd unread(::eventfd(0, EFD_CLOEXEC));
        ipcdoor_bind_eventfd binding{};
        binding.fd = unread.get();
        binding.mask = bit(1);
        EXPECT_CHILD(call(client.fd, IPCDOOR_IOC_BIND_EVENTFD, &binding) == 0);
        EXPECT_CHILD(ring(client, 0, 2) == 0);
        rung.wait();
        // root's rings, although the client's user is charged for both endpoints
        EXPECT_CHILD(take(client, bit(1)).count == many);
        EXPECT_CHILD(limited(client, 1) == 0);
        return 0;
    });
    const auto server = accept(listener);
    REQUIRE(wait_long(server, bit(2)).error == 0);
    for (std::uint64_t i = 0; i < many; ++i) REQUIRE(ring(server, 1, 1) == 0);
    rung.open();
    CHECK(user.wait().exited());
}

TEST_CASE("the limit is a percentage, and nothing else is taken for one", "[uapi][limit]") {
    const auto before = read_parameter();
    REQUIRE_FALSE(before.empty());
    for (const char* const nonsense : {"101", "-1", "4294967296", "ten", "5%", "1 2"}) {
        INFO("\"" << nonsense << "\"");
        CHECK_FALSE(write_parameter(nonsense));
        CHECK(read_parameter() == before);
    }
    {
        const module_parameter most(limit_name, "100");
        CHECK(read_parameter() == "100");
    }
    CHECK(read_parameter() == before);
    CHECK(before == "5");
}
