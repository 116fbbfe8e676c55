// SPDX-License-Identifier: MIT
// Barriers between processes, and parties that die.
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include <ipcdoor/barrier.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

barrier_options of(std::uint32_t parties, opening how = opening::open_or_create) {
    barrier_options made;
    made.parties = parties;
    made.how = how;
    made.source = source();
    return made;
}

}  // namespace

TEST_CASE("nobody leaves a phase before all have arrived, and one is told so", "[barrier][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    constexpr std::uint32_t parties = 5;
    const std::uint64_t phases = 1 + scaled(300);
    barrier all(at, name, of(parties));
    struct record {
        std::atomic<std::uint64_t> arrived;
        std::atomic<std::uint64_t> serial;
        std::atomic<std::uint64_t> wrong;
    };
    shared<record> seen;
    const auto run = [&](barrier& mine) {
        for (std::uint64_t i = 1; i <= phases; ++i) {
            ++seen->arrived;
            if (mine.arrive_and_wait(soon)) ++seen->serial;
            if (seen->arrived < i * parties) ++seen->wrong;
        }
    };
    std::vector<child> others;
    for (int p = 0; p < 2; ++p) {
        others.emplace_back([&] {
            door own = test_door();
            barrier mine(own, name, of(1));  // its creator's number counts
            run(mine);
            return 0;
        });
    }
    std::thread second([&] { run(all); });
    std::thread third([&] { run(all); });
    run(all);
    second.join();
    third.join();
    for (auto& one : others) CHECK(one.wait().exited());
    CHECK(seen->wrong == 0);
    CHECK(seen->serial == phases);
    CHECK(all.parties() == parties);
    CHECK(all.phase() == 1 + phases);
}

TEST_CASE("threads of one process are told of the phase that each of them waits for", "[barrier]") {
    // Those that are quick wait for the next phase while others have not yet heard of the
    // end of this one.
    door at = test_door();
    constexpr std::uint32_t parties = 4;
    const std::uint64_t phases = 1 + scaled(20'000);
    barrier all(at, unique_name(), of(parties));
    std::vector<std::thread> others;
    const auto run = [&] {
        for (std::uint64_t i = 1; i <= phases; ++i) all.arrive_and_wait(soon);
    };
    others.reserve(parties);
    for (std::uint32_t i = 0; i < parties; ++i) others.emplace_back(run);
    for (std::thread& one : others) one.join();
    CHECK(all.phase() == 1 + phases);
}

TEST_CASE("a barrier of one party lets it pass", "[barrier]") {
    door at = test_door();
    barrier alone(at, unique_name(), of(1));
    for (int i = 0; i < 100; ++i) CHECK(alone.arrive_and_wait(0s));
    CHECK(error_of([&] { barrier b(at, unique_name(), of(0)); }) == EINVAL);
    CHECK(error_of([&] { barrier b(at, unique_name(), of(65'537)); }) == EINVAL);
}

TEST_CASE("a party that is killed breaks the phase, whether it has arrived or not",
          "[barrier][fork][death]") {
    const bool arrives = GENERATE(false, true);
    const std::string name = unique_name();
    door at = test_door();
    barrier all(at, name, of(3));
    gate there;
    child party([&] {
        door own = test_door();
        barrier mine(own, name, of(3));
        there.open();
        if (arrives) mine.arrive_and_wait(soon);
        std::this_thread::sleep_for(soon);
        return 0;
    });
    there.wait();
    if (arrives) party.wait_asleep();
    std::atomic<int> error{0};
    std::thread waiter([&] { error = error_of([&] { all.arrive_and_wait(soon); }); });
    std::this_thread::sleep_for(20ms);
    party.kill();
    waiter.join();
    CHECK(error == EPIPE);
    CHECK(party.wait().signaled(SIGKILL));
    CHECK(all.is_broken());
    CHECK(error_of([&] { all.arrive_and_wait(soon); }) == EPIPE);

    all.reset();
    CHECK_FALSE(all.is_broken());
    all.reset();  // nothing to do
    std::vector<std::thread> parties;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 3; ++i) {
        parties.emplace_back([&] {
            if (error_of([&] { all.arrive_and_wait(soon); }) != 0) ++wrong;
        });
    }
    for (auto& one : parties) one.join();
    CHECK(wrong == 0);
}

TEST_CASE("a party that died before anybody waited is noticed", "[barrier][fork][death]") {
    const std::string name = unique_name();
    door at = test_door();
    barrier all(at, name, of(2));
    child party([&] {
        door own = test_door();
        barrier mine(own, name, of(2));
        ::raise(SIGKILL);
        return 0;
    });
    CHECK(party.wait().signaled(SIGKILL));
    CHECK(error_of([&] { all.arrive_and_wait(soon); }) == EPIPE);
    // The one that takes its place finds the barrier broken, and may begin anew.
    barrier next(at, name, of(2));
    CHECK(error_of([&] { next.arrive_and_wait(soon); }) == EPIPE);
    next.reset();
    std::thread other([&] { all.arrive_and_wait(soon); });
    next.arrive_and_wait(soon);
    other.join();
}

TEST_CASE("who leaves in order breaks nothing", "[barrier]") {
    const std::string name = unique_name();
    door at = test_door();
    barrier all(at, name, of(2));
    { barrier visitor(at, name, of(2)); }
    barrier other(at, name, of(2));
    std::thread party([&] { other.arrive_and_wait(soon); });
    all.arrive_and_wait(soon);
    party.join();
    CHECK_FALSE(all.is_broken());
}

TEST_CASE("a deadline that passes breaks the phase for all", "[barrier]") {
    const std::string name = unique_name();
    door at = test_door();
    barrier one(at, name, of(3));
    barrier two(at, name, of(3));
    std::atomic<int> error{0};
    std::thread waiter([&] { error = error_of([&] { two.arrive_and_wait(soon); }); });
    const auto before = std::chrono::steady_clock::now();
    CHECK(error_of([&] { one.arrive_and_wait(30ms); }) == ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - before >= 30ms);
    waiter.join();
    CHECK(error == EPIPE);
    CHECK(one.is_broken());
}

TEST_CASE("who still waits in a broken phase is told so after a reset", "[barrier][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    barrier all(at, name, of(3));
    child slow([&] {
        door own = test_door();
        barrier mine(own, name, of(3));
        return error_of([&] { mine.arrive_and_wait(soon); });
    });
    slow.wait_asleep();
    slow.kill(SIGSTOP);
    for (int round = 0; round < 3; ++round) {
        CHECK(error_of([&] { all.arrive_and_wait(1ms); }) == ETIMEDOUT);
        all.reset();
        std::vector<std::thread> parties;
        for (int i = 0; i < 3; ++i) parties.emplace_back([&] { all.arrive_and_wait(soon); });
        for (auto& one : parties) one.join();
    }
    slow.kill(SIGCONT);
    CHECK(slow.wait().exited(EPIPE));
}

TEST_CASE("a phase that all have reached ends although the last one died before it said so",
          "[barrier][place][death]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    barrier all(end, {0, 8}, of(2));
    auto* const places = reinterpret_cast<shared_u64*>(end.data().data() + sizeof(barrier_layout));
    endpoint other = at.attach(name);
    const std::uint32_t record = mutex_record(other.slot(), other.info().generation);
    // Both places of phase 1 are taken, and it goes on in phase 2.
    places[0] = barrier_place(1, record);
    places[1] = barrier_place(1, record);
    std::thread party([&] { all.arrive_and_wait(soon); });
    all.arrive_and_wait(soon);
    party.join();
    CHECK(all.phase() == 3);
}

TEST_CASE("a barrier of impossibly many parties is refused", "[barrier][hostile]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    { const barrier all(end, {0, 8}, of(4)); }
    auto& header = reinterpret_cast<barrier_layout*>(end.data().data())->header;
    for (const std::uint64_t parties : {std::uint64_t{0}, std::uint64_t{1000}, ~std::uint64_t{0}}) {
        header.parameter[0] = parties;
        CHECK(error_of([&] { const barrier wrong(end, {0, 8}, of(4)); }) == EPROTO);
    }
}

TEST_CASE("whatever is written into a barrier, calls end by their deadline", "[barrier][hostile]") {
    const std::string name = unique_name();
    door at = test_door();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    endpoint bad = at.attach(name);
    barrier all(end, {0, 8}, of(4));
    auto& layout = *reinterpret_cast<barrier_layout*>(bad.data().data());
    auto* const places = reinterpret_cast<shared_u64*>(bad.data().data() + sizeof(barrier_layout));
    vandal writer([&](xorshift64& random) {
        const std::uint64_t x = random();
        if (x % 4 == 0) layout.word = x >> 2;
        layout.member[x / 4 % 256] = static_cast<std::uint32_t>(x >> 33);
        layout.ended[x / 4 % 64] = x;
        places[x / 4 % 4] = x;
        bad.ring(end.slot(), 8, x);
    });
    const std::uint64_t rounds = 1 + scaled(50);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        const int arrived = error_of([&] { all.arrive_and_wait(2ms); });
        CHECK((arrived == 0 || arrived == ETIMEDOUT || arrived == EPIPE || arrived == EPROTO));
        all.reset();
    }
    writer.stop();
}
