// SPDX-License-Identifier: MIT
// Semaphores that count: the cases of POSIX's text one by one, then what is ipcdoor's own:
// deaths, places in DATA, threads, event loops, hostile writers.
#include <ipcdoor/semaphore.hpp>

#include <poll.h>
#include <signal.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

semaphore_options with(std::uint32_t initial, opening how = opening::open_or_create) {
    semaphore_options options;
    options.initial = initial;
    options.how = how;
    options.source = source();
    return options;
}

constexpr std::uint64_t page = 4096;

// A segment of the test's own, for placed semaphores.
struct ground {
    ground()
        : name(unique_name()),
          at(test_door()),
          end(at.create(name, {.data_bytes = 4 * page, .slots = 16, .source = source()})) {}
    std::string name;
    door at;
    endpoint end;
};

semaphore_layout& layout_of(endpoint& end, std::uint64_t offset = 0) {
    return *reinterpret_cast<semaphore_layout*>(end.data().data() + offset);
}

}  // namespace

// ---- what POSIX says ----

TEST_CASE("sem_open: a semaphore comes with its first value, and is found by its name",
          "[semaphore][posix]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore made(at, name, with(3));
    CHECK(made.value() == 3);
    // "If the semaphore already exists, this call has no effect on its value."
    door other = test_door();
    semaphore found(other, name, with(7));
    CHECK(found.value() == 3);
    found.acquire(soon);
    CHECK(made.value() == 2);
}

TEST_CASE("sem_open: EEXIST with O_EXCL, ENOENT without O_CREAT, EINVAL beyond SEM_VALUE_MAX",
          "[semaphore][posix]") {
    const std::string name = unique_name();
    door at = test_door();
    CHECK(error_of([&] { semaphore s(at, name, with(1, opening::open_only)); }) == ENOENT);
    semaphore made(at, name, with(1, opening::create_only));
    CHECK(error_of([&] { semaphore s(at, name, with(1, opening::create_only)); }) == EEXIST);
    semaphore found(at, name, with(0, opening::open_only));
    CHECK(found.value() == 1);
    CHECK(error_of([&] { semaphore s(at, unique_name(), with(0x80000000U)); }) == EINVAL);
    auto narrow = with(4);
    narrow.maximum = 3;
    CHECK(error_of([&] { semaphore s(at, unique_name(), narrow); }) == EINVAL);
}

TEST_CASE("sem_open: EACCES without permission, and with it other users post and wait",
          "[semaphore][posix][users][fork]") {
    if (skipped_without_root()) return;
    const public_doors doors;
    const std::string name = unique_name();
    door at = doors.open();
    auto options = with(1);
    semaphore closed(at, name + "-closed", options);
    options.mode = 0444;  // reading is not enough
    semaphore readable(at, name + "-readable", options);
    options.mode = 0666;
    semaphore open(at, name, options);
    child other = child::as_user(65534, [&] {
        door own = doors.open();
        for (const char* which : {"-closed", "-readable"}) {
            EXPECT_CHILD(error_of([&] {
                             semaphore s(own, "0/" + name + which, with(0, opening::open_only));
                         }) == EACCES);
        }
        semaphore shared(own, "0/" + name, with(0, opening::open_only));
        shared.acquire(soon);
        shared.post();
        shared.post();
        shared.acquire(soon);
        shared.acquire(soon);
        shared.acquire(soon);
        return 0;
    });
    other.wait_asleep();
    open.post();
    CHECK(other.wait().exited());
    CHECK(open.value() == 0);
}

TEST_CASE("sem_wait: takes a unit if there is one", "[semaphore][posix]") {
    door at = test_door();
    semaphore sem(at, unique_name(), with(2));
    sem.acquire();
    sem.acquire();
    CHECK(sem.value() == 0);
}

TEST_CASE("sem_wait: waits until it is posted, by any process", "[semaphore][posix][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    child waiter([&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.acquire(soon);
        return 0;
    });
    waiter.wait_asleep();
    sem.post();
    CHECK(waiter.wait().exited());
    CHECK(sem.value() == 0);
}

TEST_CASE("sem_trywait: EAGAIN, here false, where there is none", "[semaphore][posix]") {
    door at = test_door();
    semaphore sem(at, unique_name(), with(1));
    CHECK(sem.try_acquire());
    CHECK_FALSE(sem.try_acquire());
    sem.post();
    CHECK(sem.try_acquire());
}

TEST_CASE("sem_timedwait: ETIMEDOUT, not before the deadline", "[semaphore][posix]") {
    door at = test_door();
    semaphore sem(at, unique_name(), with(0));
    const auto before = std::chrono::steady_clock::now();
    CHECK(error_of([&] { sem.acquire(30ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - before >= 30ms);
    CHECK(error_of([&] { sem.acquire(0s); }) == ETIMEDOUT);
    CHECK(sem.value() == 0);
}

TEST_CASE("sem_timedwait: a past deadline does not matter where there is a unit",
          "[semaphore][posix]") {
    door at = test_door();
    semaphore sem(at, unique_name(), with(2));
    sem.acquire(0s);
    sem.acquire(std::chrono::steady_clock::now() - 1h);
    CHECK(error_of([&] { sem.acquire(std::chrono::steady_clock::now() - 1h); }) == ETIMEDOUT);
}

TEST_CASE("sem_wait: goes on after a signal handler, where POSIX has EINTR",
          "[semaphore][posix][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    shared<std::atomic<int>> handled;
    static std::atomic<int>* count;
    count = &*handled;
    child waiter([&] {
        struct sigaction action {};
        action.sa_handler = [](int) { ++*count; };  // and no SA_RESTART
        ::sigaction(SIGUSR1, &action, nullptr);
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.acquire(soon);
        return 0;
    });
    waiter.wait_asleep();
    for (int i = 1; i <= 5; ++i) {
        waiter.kill(SIGUSR1);
        spin_until([&] { return *handled >= i; });
    }
    sem.post();
    CHECK(waiter.wait().exited());
    CHECK(*handled == 5);
}

TEST_CASE("sem_post: EOVERFLOW at the maximum, and the count is left alone", "[semaphore][posix]") {
    door at = test_door();
    auto options = with(1);
    options.maximum = 2;
    semaphore sem(at, unique_name(), options);
    sem.post();
    CHECK(error_of([&] { sem.post(); }) == EOVERFLOW);
    CHECK(sem.value() == 2);
    sem.acquire();
    sem.post();
    semaphore widest(at, unique_name(), with(semaphore_max_value));
    CHECK(error_of([&] { widest.post(); }) == EOVERFLOW);
    CHECK(widest.value() == semaphore_max_value);
}

TEST_CASE("sem_getvalue: never negative, 0 while others wait", "[semaphore][posix]") {
    door at = test_door();
    semaphore sem(at, unique_name(), with(0));
    std::thread waiter([&] { sem.acquire(soon); });
    std::this_thread::sleep_for(20ms);
    CHECK(sem.value() == 0);
    sem.post();
    waiter.join();
    CHECK(sem.value() == 0);
}

TEST_CASE(
    "sem_close: the others go on; the last one ends the semaphore, where POSIX has it "
    "until sem_unlink",
    "[semaphore][posix]") {
    const std::string name = unique_name();
    door at = test_door();
    auto first = std::make_unique<semaphore>(at, name, with(5));
    auto second = std::make_unique<semaphore>(at, name, with(0, opening::open_only));
    first.reset();  // the creator
    second->acquire(soon);
    CHECK(second->value() == 4);
    {
        semaphore third(at, name, with(0, opening::open_only));
        CHECK(third.value() == 4);
        second.reset();
        third.post();
        CHECK(third.value() == 5);
    }
    CHECK(error_of([&] { semaphore s(at, name, with(0, opening::open_only)); }) == ENOENT);
    semaphore anew(at, name, with(1));
    CHECK(anew.value() == 1);
}

TEST_CASE("fork: a child may not use its parent's semaphore, where POSIX lets it, but open it",
          "[semaphore][posix][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(1));
    child heir([&] {
        EXPECT_CHILD(error_of([&] { sem.post(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { sem.acquire(0s); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)sem.try_acquire(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)sem.value(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)sem.fd(); }) == EPERM);
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.post();
        return 0;
    });
    CHECK(heir.wait().exited());
    CHECK(sem.value() == 2);
}

TEST_CASE("a process that dies keeps what it took, as with POSIX", "[semaphore][posix][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(2));
    child taker([&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.acquire(soon);
        return 0;
    });
    CHECK(taker.wait().exited());
    CHECK(sem.value() == 1);
}

// ---- ipcdoor's own ----

TEST_CASE("what several processes post is acquired, neither more nor less", "[semaphore][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    semaphore done(at, name + "-done", with(0));
    const std::uint64_t each = 1 + scaled(3000);
    std::vector<child> all;
    for (int p = 0; p < 3; ++p) {
        all.emplace_back([&] {
            door own = test_door();
            semaphore mine(own, name, with(0, opening::open_only));
            semaphore told(own, name + "-done", with(0, opening::open_only));
            for (std::uint64_t i = 0; i < each; ++i) mine.acquire(soon);
            told.post();
            return 0;
        });
        all.emplace_back([&] {
            door own = test_door();
            semaphore mine(own, name, with(0, opening::open_only));
            for (std::uint64_t i = 0; i < each; ++i) mine.post();
            return 0;
        });
    }
    for (int p = 0; p < 3; ++p) done.acquire(soon);
    for (auto& one : all) CHECK(one.wait().exited());
    CHECK(sem.value() == 0);
}

TEST_CASE("threads of one process share its place, and each gets what it waits for",
          "[semaphore][threads]") {
    door at = test_door();
    const std::string name = unique_name();
    semaphore sem(at, name, with(0));
    semaphore posting(at, name, with(0, opening::open_only));
    constexpr int threads = 6;
    const std::uint64_t each = 1 + scaled(2000);
    std::atomic<std::uint64_t> taken{0};
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) {
        all.emplace_back([&] {
            for (std::uint64_t i = 0; i < each; ++i) {
                sem.acquire(soon);
                ++taken;
            }
        });
    }
    for (std::uint64_t i = 0; i < threads * each; ++i) (i % 2 == 0 ? posting : sem).post();
    for (auto& one : all) one.join();
    CHECK(taken == threads * each);
    CHECK(sem.value() == 0);
}

TEST_CASE("a waiter that gives up leaves the wake-up to another one", "[semaphore][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    shared<std::atomic<std::uint64_t>> got;
    shared<std::atomic<bool>> stop;
    // Some give up all the time, and one waits without end.
    std::vector<child> hasty;
    for (int i = 0; i < 2; ++i) {
        hasty.emplace_back([&] {
            door own = test_door();
            semaphore mine(own, name, with(0, opening::open_only));
            while (!*stop) {
                try {
                    mine.acquire(200us);
                    ++*got;
                } catch (const error& wrong) {
                    EXPECT_CHILD(wrong.is_timeout());
                }
            }
            return 0;
        });
    }
    child patient([&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        for (;;) {
            mine.acquire(soon);
            ++*got;
        }
        return 0;
    });
    const std::uint64_t posts = 1 + scaled(2000);
    for (std::uint64_t i = 1; i <= posts; ++i) {
        sem.post();
        // Each is taken before the next comes: a lost wake-up is not made good.
        spin_until([&] { return *got >= i; });
        REQUIRE(*got == i);
    }
    *stop = true;
    for (auto& one : hasty) CHECK(one.wait().exited());
    patient.kill();
}

TEST_CASE("a waiter that takes one of several units passes the wake-up on", "[semaphore][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    endpoint raw = at.attach(name);
    auto& layout = layout_of(raw);
    gate over;
    shared<std::atomic<int>> got;
    const auto body = [&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.acquire(soon);
        // Its end would be news for the other one.
        ++*got;
        over.wait();
        return 0;
    };
    child first(body);
    first.wait_asleep();
    const std::uint64_t armed = layout.line.sleeping[0];
    REQUIRE(std::has_single_bit(armed));
    child second(body);
    second.wait_asleep();
    // Two units come, and one ring: as if the other ringer had found no bit, because the
    // second one was about to set it, or as if its ring had met one that left.
    layout.line.sleeping[0].fetch_and(~armed);
    layout.count = 2;
    raw.ring(static_cast<std::uint32_t>(std::countr_zero(armed)), 1);
    // Before the other one's own deadline.
    spin_until([&] { return *got == 2; }, 50s);
    over.open();
    CHECK(first.wait().exited());
    CHECK(second.wait().exited());
    CHECK(sem.value() == 0);
}

TEST_CASE("a unit for a waiter that is killed goes to another one", "[semaphore][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    for (int round = 0; round < 5; ++round) {
        semaphore sem(at, name, with(0));
        child first([&] {
            door own = test_door();
            semaphore mine(own, name, with(0, opening::open_only));
            ::raise(SIGSTOP);
            mine.acquire(soon);
            return 0;
        });
        first.wait_asleep();
        first.kill(SIGCONT);
        std::this_thread::sleep_for(10ms);
        first.wait_asleep();
        // It is the only one that sleeps, and will not run any more.
        first.kill(SIGSTOP);
        sem.post();
        child second([&] {
            door own = test_door();
            semaphore mine(own, name, with(0, opening::open_only));
            mine.acquire(soon);
            mine.acquire(soon);
            return 0;
        });
        second.wait_asleep();
        sem.post();  // for `second`, or `first`
        first.kill();
        CHECK(first.wait().signaled(SIGKILL));
        CHECK(second.wait().exited());
        CHECK(sem.value() == 0);
    }
}

TEST_CASE("a stale bit of a dead waiter does not hide its successor in the slot",
          "[semaphore][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    child dies([&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.acquire(soon);
        return 0;
    });
    dies.wait_asleep();
    child waits([&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        mine.acquire(soon);
        return 0;
    });
    waits.wait_asleep();
    dies.kill();
    CHECK(dies.wait().signaled(SIGKILL));
    // The slot of the dead one goes to somebody who does not wait.
    gate here;
    gate over;
    child idle([&] {
        door own = test_door();
        semaphore mine(own, name, with(0, opening::open_only));
        here.open();
        over.wait();
        return 0;
    });
    here.wait();
    sem.post();
    CHECK(waits.wait().exited());
    over.open();
    CHECK(idle.wait().exited());
}

TEST_CASE("a semaphore in an event loop is readable when there may be a unit",
          "[semaphore][poll]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(1));
    semaphore other(at, name, with(0, opening::open_only));
    pollfd loop{sem.fd(), POLLIN, 0};
    CHECK(::poll(&loop, 1, 60'000) == 1);
    CHECK(sem.try_acquire());
    CHECK_FALSE(sem.try_acquire());
    for (int round = 0; round < 20; ++round) {
        CHECK(::poll(&loop, 1, 0) == 0);
        other.post();
        other.post();
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
        CHECK(sem.try_acquire());
        CHECK(sem.try_acquire());
        CHECK_FALSE(sem.try_acquire());
    }
    // Who sleeps goes before who polls.
    std::thread sleeper([&] { other.acquire(soon); });
    std::this_thread::sleep_for(20ms);
    sem.post();
    sleeper.join();
}

TEST_CASE("who polls and who sleeps in one process both get their units",
          "[semaphore][poll][threads]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore sem(at, name, with(0));
    semaphore other(at, name, with(0, opening::open_only));
    const int descriptor = sem.fd();
    CHECK_FALSE(sem.try_acquire());
    const std::uint64_t each = 1 + scaled(500);
    std::atomic<std::uint64_t> taken{0};
    std::thread sleeper([&] {
        for (std::uint64_t i = 0; i < each; ++i) {
            sem.acquire(soon);
            ++taken;
        }
    });
    std::thread poster([&] {
        for (std::uint64_t i = 0; i < 2 * each; ++i) other.post();
    });
    std::uint64_t polled = 0;
    while (polled < each) {
        while (polled < each && sem.try_acquire()) ++polled;
        if (polled == each) break;
        pollfd loop{descriptor, POLLIN, 0};
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
    }
    sleeper.join();
    poster.join();
    CHECK(taken == each);
    CHECK(sem.value() == 0);
}

TEST_CASE("semaphores lie where their user places them, side by side", "[semaphore][place]") {
    ground here;
    endpoint other = here.at.attach(here.name);
    const place first{0, 8};
    const place second{semaphore::bytes(), 9};
    CHECK(error_of([&] { semaphore s(here.end, first, with(0, opening::open_only)); }) == ENOENT);
    semaphore one(here.end, first, with(1));
    semaphore two(here.end, second, with(2, opening::create_only));
    CHECK(error_of([&] { semaphore s(other, second, with(2, opening::create_only)); }) == EEXIST);
    semaphore other_one(other, first, with(5));
    semaphore other_two(other, second, with(5, opening::open_only));
    CHECK(other_one.value() == 1);
    CHECK(other_two.value() == 2);
    CHECK(error_of([&] { semaphore s(here.end, {64, 8}, with(0)); }) == EINVAL);
    CHECK(error_of([&] { semaphore s(here.end, {4 * page, 8}, with(0)); }) == EINVAL);
    CHECK(error_of([&] { semaphore s(here.end, {4 * page - 128, 8}, with(0)); }) == EINVAL);
    CHECK(error_of([&] { semaphore s(here.end, {~std::uint64_t{127}, 8}, with(0)); }) == EINVAL);
    CHECK(error_of([&] { semaphore s(here.end, {2 * page, 0}, with(0)); }) == EINVAL);
    CHECK(error_of([&] { semaphore s(here.end, {2 * page, 64}, with(0)); }) == EINVAL);
    // Two threads wait on one endpoint for two semaphores, and a death is news for both.
    CHECK(one.try_acquire());
    CHECK(two.try_acquire());
    CHECK(two.try_acquire());
    std::thread a([&] { one.acquire(soon); });
    std::thread b([&] { two.acquire(soon); });
    std::this_thread::sleep_for(20ms);
    other_two.post();
    b.join();
    other_one.post();
    a.join();
}

TEST_CASE("a read-only endpoint cannot have a semaphore", "[semaphore][place]") {
    ground here;
    semaphore sem(here.end, {0, 8}, with(1));
    endpoint reader = here.at.attach(here.name, {.read_only = true});
    CHECK(error_of([&] { semaphore s(reader, {0, 8}, with(0)); }) == EACCES);
}

TEST_CASE("a semaphore whose maker died half-way is made by the next one",
          "[semaphore][place][death]") {
    ground here;
    endpoint dead = here.at.attach(here.name);
    const std::uint64_t tag = owner_tag(dead.slot(), dead.info().generation);
    dead.close();
    auto& layout = layout_of(here.end);
    layout.header.maker = tag;
    layout.header.parameter[0] = 12345;
    layout.count = 77;
    layout.line.sleeping[0] = ~std::uint64_t{0};
    semaphore sem(here.end, {0, 8}, with(4));
    CHECK(sem.value() == 4);
    CHECK(sem.maximum() == semaphore_max_value);
}

TEST_CASE("processes that open at once agree on one semaphore", "[semaphore][fork]") {
    for (int round = 0; round < 5; ++round) {
        const std::string name = unique_name();
        gate start;
        std::vector<child> all;
        for (int i = 0; i < 4; ++i) {
            all.emplace_back([&] {
                door own = test_door();
                start.wait();
                semaphore mine(own, name, with(3));
                semaphore met(own, name + "-met", with(0));
                mine.acquire(soon);
                mine.post();
                met.post();
                // All are there at once, so it is one and the same.
                while (met.value() < 4) std::this_thread::sleep_for(1ms);
                // Nobody leaves before all have seen that.
                semaphore left(own, name + "-left", with(0));
                left.post();
                while (left.value() < 4) std::this_thread::sleep_for(1ms);
                return 0;
            });
        }
        start.open();
        for (auto& one : all) CHECK(one.wait().exited());
    }
}

TEST_CASE("a semaphore has places for as many processes as its maker said", "[semaphore]") {
    const std::string name = unique_name();
    door at = test_door();
    const auto of = [](std::uint32_t members) {
        semaphore_options made = with(0);
        made.members = members;
        return made;
    };
    for (const std::uint32_t members : {0U, 1U, 257U})
        CHECK(error_of([&] { const semaphore none(at, name, of(members)); }) == EINVAL);
    std::optional<semaphore> first(std::in_place, at, name, of(2));
    const semaphore second(at, name, of(2));
    CHECK(error_of([&] { const semaphore third(at, name, of(2)); }) == ENOSPC);
    first.reset();
    const semaphore third(at, name, of(2));
}

TEST_CASE("what is no semaphore is refused", "[semaphore][hostile]") {
    ground here;
    auto& layout = layout_of(here.end);
    layout.header.magic = 1;
    CHECK(error_of([&] { semaphore s(here.end, {0, 8}, with(0)); }) == EPROTO);
    layout.header.magic = 0;
    { semaphore sem(here.end, {0, 8}, with(1)); }
    layout.header.version_min = 2;
    layout.header.version_max = 3;
    CHECK(error_of([&] { semaphore s(here.end, {0, 8}, with(0)); }) == EPROTONOSUPPORT);
    layout.header.version_min = 4;
    CHECK(error_of([&] { semaphore s(here.end, {0, 8}, with(0)); }) == EPROTO);
    layout.header.version_min = 1;
    layout.header.bytes = 64;
    CHECK(error_of([&] { semaphore s(here.end, {0, 8}, with(0)); }) == EPROTO);
    layout.header.bytes = 1 << 30;
    CHECK(error_of([&] { semaphore s(here.end, {0, 8}, with(0)); }) == EPROTO);
    layout.header.bytes = sizeof(semaphore_layout);
    layout.header.parameter[0] = ~std::uint64_t{0};
    CHECK(error_of([&] { semaphore s(here.end, {0, 8}, with(0)); }) == EPROTO);
    // A maker that does not exist is none; one that lives and does nothing is waited for.
    layout.header.magic = 0;
    layout.header.maker = owner_tag(3000, 1);
    semaphore sem(here.end, {0, 8}, with(1));
    CHECK(sem.value() == 1);
}

TEST_CASE("whatever is written into a semaphore, calls end by their deadline",
          "[semaphore][hostile]") {
    ground here;
    semaphore sem(here.end, {0, 8}, with(0));
    endpoint bad = here.at.attach(here.name);
    auto& layout = layout_of(bad);
    vandal writer([&](xorshift64& random) {
        const std::uint64_t x = random();
        layout.line.sleeping[x % 4] = x;
        layout.line.polling[x / 4 % 4] = ~x;
        layout.line.next = static_cast<std::uint32_t>(x);
        layout.line.generation[x % 256] = static_cast<std::uint32_t>(x >> 32) % 3;
        layout.count = x % 2 == 0 ? 0 : 0xffffffff;
        bad.ring(here.end.slot(), 8, x);
    });
    const std::uint64_t rounds = 1 + scaled(50);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        const int acquired = error_of([&] { sem.acquire(2ms); });
        CHECK((acquired == 0 || acquired == ETIMEDOUT));
        const int posted = error_of([&] { sem.post(); });
        CHECK((posted == 0 || posted == EOVERFLOW));
    }
    writer.stop();
}
