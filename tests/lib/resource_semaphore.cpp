// SPDX-License-Identifier: MIT
// Semaphores whose units have owners, and come back from the dead.
#include <poll.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/semaphore.hpp>

#include "lib/lib_support.hpp"
#include "lib/random_deaths.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

resource_semaphore_options of_units(std::uint32_t units, opening how = opening::open_or_create) {
    resource_semaphore_options options;
    options.units = units;
    options.how = how;
    options.source = source();
    return options;
}

// Has all three units by now, and keeps them.
child holder_of_three(const std::string& name) {
    gate taken;
    child holder([&] {
        door own = test_door();
        resource_semaphore mine(own, name, of_units(3));
        for (int i = 0; i < 3; ++i) mine.acquire(soon);
        taken.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    taken.wait();
    return holder;
}

}  // namespace

TEST_CASE("units are held by whom acquired them, and by nobody else", "[resource]") {
    const std::string name = unique_name();
    door at = test_door();
    resource_semaphore one(at, name, of_units(3));
    resource_semaphore two(at, name, of_units(3));
    one.acquire(soon);
    one.acquire(0s);
    CHECK(two.try_acquire());
    CHECK_FALSE(two.try_acquire());
    CHECK(one.held() == 2);
    CHECK(two.held() == 1);
    CHECK(one.value() == 0);
    two.release();
    CHECK(error_of([&] { two.release(); }) == EPERM);
    CHECK(one.value() == 1);
    one.release();
    one.release();
    CHECK(error_of([&] { one.release(); }) == EPERM);
    CHECK(two.value() == 3);
    CHECK(two.units() == 3);
}

TEST_CASE("as many units as there may be", "[resource]") {
    door at = test_door();
    CHECK(error_of([&] { resource_semaphore s(at, unique_name(), of_units(0)); }) == EINVAL);
    CHECK(error_of([&] { resource_semaphore s(at, unique_name(), of_units(65'537)); }) == EINVAL);
    resource_semaphore most(at, unique_name(), of_units(65'536));
    for (int i = 0; i < 65'536; ++i) most.acquire(0s);
    CHECK_FALSE(most.try_acquire());
    CHECK(most.held() == 65'536);
    for (int i = 0; i < 65'536; ++i) most.release();
    CHECK(most.value() == 65'536);
}

TEST_CASE("the deadline: not before it, and not at all where a unit is free", "[resource]") {
    door at = test_door();
    resource_semaphore sem(at, unique_name(), of_units(1));
    sem.acquire(std::chrono::steady_clock::now() - 1h);
    const auto before = std::chrono::steady_clock::now();
    CHECK(error_of([&] { sem.acquire(20ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - before >= 20ms);
}

TEST_CASE("destroying it gives back what it held", "[resource]") {
    const std::string name = unique_name();
    door at = test_door();
    resource_semaphore stays(at, name, of_units(2));
    auto goes = std::make_unique<resource_semaphore>(at, name, of_units(2));
    goes->acquire(soon);
    goes->acquire(soon);
    std::thread waiter([&] { stays.acquire(soon); });
    std::this_thread::sleep_for(20ms);
    goes.reset();
    waiter.join();
    CHECK(stays.value() == 1);
}

TEST_CASE("what a killed process held is free again", "[resource][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    resource_semaphore sem(at, name, of_units(3));
    child holder = holder_of_three(name);
    CHECK_FALSE(sem.try_acquire());
    std::thread waiter([&] { sem.acquire(soon); });
    std::this_thread::sleep_for(20ms);
    holder.kill();
    waiter.join();
    CHECK(holder.wait().signaled(SIGKILL));
    CHECK(sem.try_acquire());
    CHECK(sem.value() == 1);
    CHECK(sem.held() == 2);
}

TEST_CASE("units of a dead process serve all who wait", "[resource][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    resource_semaphore sem(at, name, of_units(3));
    child holder = holder_of_three(name);
    gate leave;
    std::vector<child> waiters;
    for (int i = 0; i < 3; ++i) {
        waiters.emplace_back([&] {
            door own = test_door();
            resource_semaphore mine(own, name, of_units(3));
            mine.acquire(soon);
            leave.wait();
            return 0;
        });
        waiters.back().wait_asleep();
    }
    holder.kill();
    spin_until([&] { return sem.value() == 0; });
    leave.open();
    for (auto& one : waiters) CHECK(one.wait().exited());
    CHECK(sem.value() == 3);
}

TEST_CASE("a newcomer finds the units of those who died before it came",
          "[resource][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    auto first = std::make_unique<resource_semaphore>(at, name, of_units(1));
    gate ready;
    gate taken;
    child holder([&] {
        door own = test_door();
        resource_semaphore mine(own, name, of_units(1));
        ready.open();
        mine.acquire(soon);
        taken.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    taken.wait();
    holder.kill();
    CHECK(holder.wait().signaled(SIGKILL));
    // The one that knew the dead leaves without having looked.
    resource_semaphore late(at, name, of_units(1));
    first.reset();
    CHECK(late.try_acquire());
}

TEST_CASE("units that were given to nobody come back", "[resource][hostile]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 8, .source = source()});
    endpoint other = at.attach(name);
    resource_semaphore sem(end, {0, 8}, of_units(6));
    auto* const units =
        reinterpret_cast<shared_u64*>(other.data().data() + sizeof(resource_layout));
    units[0] = owner_tag(5, 1);                                       // nobody
    units[1] = owner_tag(4000, 1);                                    // no slot
    units[2] = ~std::uint64_t{0};                                     // nonsense
    units[3] = owner_tag(other.slot(), other.info().generation + 2);  // not yet
    units[4] = std::uint64_t{7} << 32;                                // no slot either
    units[5] = owner_tag(other.slot(), other.info().generation);      // alive
    for (int i = 0; i < 5; ++i) CHECK(sem.try_acquire());
    CHECK_FALSE(sem.try_acquire());
    CHECK(sem.held() == 5);
    units[5] = 0;
    CHECK(sem.value() == 1);
    // What is taken away from a holder is no longer its own.
    units[0] = 0;
    for (int i = 0; i < 4; ++i) sem.release();
    CHECK(error_of([&] { sem.release(); }) == EPERM);
    // Sizes that do not fit.
    auto& header = *reinterpret_cast<sync_header*>(other.data().data());
    header.parameter[0] = 60'000;
    CHECK(error_of([&] { resource_semaphore s(other, {0, 8}, of_units(6)); }) == EPROTO);
    header.parameter[0] = 0;
    CHECK(error_of([&] { resource_semaphore s(other, {0, 8}, of_units(6)); }) == EPROTO);
}

TEST_CASE("whatever is written into units, calls end by their deadline", "[resource][hostile]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    endpoint bad = at.attach(name);
    resource_semaphore units(end, {0, 8}, of_units(4));
    auto& layout = *reinterpret_cast<resource_layout*>(bad.data().data());
    auto* const words = reinterpret_cast<shared_u64*>(bad.data().data() + sizeof(resource_layout));
    const std::uint64_t tags[] = {0, owner_tag(end.slot(), end.info().generation),
                                  owner_tag(bad.slot(), bad.info().generation), owner_tag(2, 1)};
    vandal writer([&](xorshift64& random) {
        const std::uint64_t x = random();
        words[x % 4] = x % 8 == 0 ? x : tags[x / 8 % 4];
        layout.line.sleeping[x % 4] = x;
        layout.line.polling[x / 4 % 4] = ~x;
        layout.line.next = static_cast<std::uint32_t>(x);
        layout.line.generation[x % 256] = static_cast<std::uint32_t>(x >> 32) % 3;
        layout.header.parameter[0] = x;
        if (x % 4 == 0) bad.ring(end.slot(), 8, x);
    });
    const std::uint64_t rounds = 1 + scaled(50);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        const int acquired = error_of([&] { units.acquire(2ms); });
        CHECK((acquired == 0 || acquired == ETIMEDOUT));
        CHECK(units.value() <= 4);
        const int released = error_of([&] { units.release(); });
        CHECK((released == 0 || released == EPERM));
    }
    writer.stop();
}

TEST_CASE("placed ones find a death although another object took the news of it",
          "[resource][place][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 8, .source = source()});
    resource_semaphore one(end, {0, 8}, of_units(1));
    resource_semaphore two(end, {4096, 9}, of_units(1));
    gate taken;
    child holder([&] {
        door own = test_door();
        endpoint mine = own.attach(name);
        resource_semaphore first(mine, {0, 8}, of_units(1));
        resource_semaphore second(mine, {4096, 9}, of_units(1));
        first.acquire(soon);
        second.acquire(soon);
        taken.open();
        std::this_thread::sleep_for(soon);
        return 0;
    });
    taken.wait();
    std::thread a([&] { one.acquire(soon); });
    std::thread b([&] { two.acquire(soon); });
    std::this_thread::sleep_for(20ms);
    holder.kill();
    a.join();
    b.join();
    CHECK(one.held() == 1);
    CHECK(two.held() == 1);
}

TEST_CASE("a resource semaphore in an event loop tells of a death, too",
          "[resource][poll][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    resource_semaphore sem(at, name, of_units(1));
    gate taken;
    gate give;
    child holder([&] {
        door own = test_door();
        resource_semaphore mine(own, name, of_units(1));
        mine.acquire(soon);
        taken.open();
        give.wait();
        mine.release();
        mine.acquire(soon);
        std::this_thread::sleep_for(soon);
        return 0;
    });
    taken.wait();
    pollfd loop{sem.fd(), POLLIN, 0};
    while (sem.try_acquire()) sem.release();
    give.open();
    // It is rung for the release; whoever is faster has the unit then.
    bool got = false;
    for (int i = 0; i < 1000 && !got; ++i) {
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
        got = sem.try_acquire();
        if (!got) holder.kill();
    }
    CHECK(got);
    holder.kill();
}

TEST_CASE("random deaths among those who acquire and release leave the count exact",
          "[resource][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    constexpr std::uint32_t units = 3;
    resource_semaphore sem(at, name, of_units(units));
    // Who holds a unit counts itself in; never more than there are units.
    struct record {
        std::array<std::atomic<std::uint32_t>, mortals> inside;
        std::atomic<std::uint32_t> wrong;
        std::atomic<std::uint64_t> rounds;
    };
    shared<record> seen;
    const auto body = [&](std::size_t self) {
        return [&, self] {
            door own = test_door();
            resource_semaphore mine(own, name, of_units(units));
            for (;;) {
                mine.acquire(soon);
                seen->inside[self] = 1;
                std::uint32_t all = 0;
                for (auto& one : seen->inside) all += one;
                // A dead one's mark is taken back by its parent a moment later than its unit.
                if (all > units + 1) ++seen->wrong;
                ++seen->rounds;
                seen->inside[self] = 0;
                mine.release();
            }
            return 0;
        };
    };
    random_deaths(1 + scaled(60), 12345, seen->rounds, body,
                  [&](std::size_t dead) { seen->inside[dead] = 0; });
    CHECK(seen->wrong == 0);
    CHECK(sem.value() == units);
    for (std::uint32_t i = 0; i < units; ++i) CHECK(sem.try_acquire());
    CHECK_FALSE(sem.try_acquire());
}
