// SPDX-License-Identifier: MIT
// A party that dies at any step, and at the worst moment for those who wait: all others are
// told, or none, and they begin anew with another one. And sleep, from every step to every
// step.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include <ipcdoor/barrier.hpp>
#include <ipcdoor/detail/step.hpp>

#include "lib/crash/crash.hpp"
#include "lib/crash/sync_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

thread_local bool looks_late = false;

}  // namespace

TEST_CASE("a death that was looked at for a phase that is over breaks the next one",
          "[crash][barrier][death]") {
    barrier_options wanted;
    wanted.parties = 3;
    wanted.source = source();
    const std::string name = unique_name();
    gate open;
    gate opened;
    gate arrive;
    // The last one to arrive, which dies before it can say so.
    child last([&] {
        open.wait();
        door at = test_door();
        barrier mine(at, name, wanted);
        const step_observer each([](const std::string& label) {
            if (label == "arrive:finished") ::kill(::getpid(), SIGKILL);
        });
        opened.open();
        arrive.wait();
        mine.arrive_and_wait(soon);
        return 1;
    });
    door at = test_door();
    barrier all(at, name, wanted);

    std::atomic<bool> told{false};
    std::atomic<bool> looked{false};
    std::atomic<bool> dead{false};
    const step_observer each([&](const std::string& label) {
        if (label == "wait:news") told = true;
        if (label != "await:looking" || !looks_late || looked.exchange(true)) return;
        // The phase is still the present one in this thread's eyes. Now it ends, and whoever
        // ended it dies, of which the other thread is told first.
        told = false;
        arrive.open();
        spin_until([&] { return told && dead; });
    });
    const auto twice = [&](std::atomic<int>& result) {
        CHECK_IN_THREAD(error_of([&] { all.arrive_and_wait(soon); }) == 0);
        looks_late = false;
        result = error_of([&] { all.arrive_and_wait(soon); });
    };
    std::atomic<int> first{-1};
    std::atomic<int> second{-1};
    blocking_thread leading([&] { twice(first); });
    leading.wait_asleep();
    open.open();
    // That it is there is news as well.
    opened.wait();
    spin_until([&] { return told.load(); });
    leading.wait_asleep();
    blocking_thread following([&] {
        looks_late = true;
        twice(second);
    });
    CHECK(last.wait().signaled(SIGKILL));
    dead = true;
    leading.join();
    following.join();
    CHECK(first == EPIPE);
    CHECK(second == EPIPE);
}

// ---- deaths at each step ----

namespace {

constexpr std::uint32_t parties = 3;

// What each of them, in a thread of its own, is told by one phase: 0 or an errno value.
std::vector<int> meet(const std::vector<barrier*>& all) {
    std::vector<int> told(all.size(), -1);
    std::deque<blocking_thread> threads;
    for (std::size_t i = 0; i < all.size(); ++i) {
        threads.emplace_back([&told, i, party = all[i]] {
            told[i] = error_of([&] { party->arrive_and_wait(forever); });
        });
    }
    threads.clear();
    return told;
}

// Whatever the dead one has left: phases end well, but for one that breaks for all. That need
// not be the first one, which ends well where all have arrived before any of them is told.
void check_phases(const std::vector<barrier*>& all) {
    const std::vector<int> well(all.size(), 0);
    bool broken = false;
    for (int good = 0; good < 3;) {
        const std::vector<int> told = meet(all);
        if (told == well) {
            ++good;
            continue;
        }
        REQUIRE(told == std::vector<int>(all.size(), EPIPE));
        REQUIRE_FALSE(broken);
        CHECK(all[0]->is_broken());
        for (barrier* one : all) one->reset();
        CHECK_FALSE(all[0]->is_broken());
        broken = true;
        good = 0;
    }
}

// Three parties: `here`, `other` and the victim.
struct barrier_world : sync_world<barrier, barrier_options> {
    explicit barrier_world(std::uint32_t sleeping = 0)
        : sync_world(barrier_options{.parties = parties}) {
        for (std::uint32_t i = 0; i < sleeping; ++i) add_party(i);
        watch_sleepers();
    }
    barrier& survivor(std::uint32_t i) { return i == 0 ? here : other; }
    void arrive(std::uint32_t i) {
        told[i] = error_of([&] { survivor(i).arrive_and_wait(forever); });
    }
    void add_party(std::uint32_t i) {
        add_sleeper([this, i] { arrive(i); });
    }
    void start_parties() {
        for (std::uint32_t i = 0; i < 2; ++i) start([this, i] { arrive(i); });
    }

    // In the victim.
    void arrive_as_victim(int expected = 0) {
        IPCDOOR_STEP("arrive:begin");
        EXPECT_CHILD(error_of([&] { victims->arrive_and_wait(forever); }) == expected);
    }
    void break_as_victim() {
        EXPECT_CHILD(error_of([&] { victims->arrive_and_wait(5ms); }) == ETIMEDOUT);
    }

    void at_step(const char* label) {
        if (std::string_view(label) == "wait:armed") say->asked = 1;
    }
    void check_told(int expected) {
        join_all();
        CHECK(told[0] == expected);
        CHECK(told[1] == expected);
    }
    // With somebody else in the place of the victim.
    void check_goes_on() {
        join_all();
        barrier newcomer(at, name, only_open<barrier_options>());
        check_phases({&here, &other, &newcomer});
    }

    std::atomic<int> told[2] = {-1, -1};
};
struct one_waits_world : barrier_world {
    one_waits_world() : barrier_world(1) {}
};
struct two_wait_world : barrier_world {
    two_wait_world() : barrier_world(2) {}
};
// The others come when the victim waits.
struct answered_world : barrier_world {
    answered_world() {
        for (std::uint32_t i = 0; i < 2; ++i) add_answer([this, i] { arrive(i); });
    }
};
// A party has died in the phase, which is broken by that.
struct broken_world : barrier_world {
    broken_world() {
        gate opened;
        mortal = child([&] {
            door theirs = test_door();
            barrier mine(theirs, name, options);
            opened.open();
            for (;;) ::pause();
            return 1;
        });
        opened.wait();
        add_answer([this] {
            mortal.kill();
            CHECK_IN_THREAD(mortal.wait().signaled(SIGKILL));
        });
    }
    // The victim comes while the other lives, so that it has another slot.
    void enter() {
        barrier_world::enter();
        say->asked = 1;
        EXPECT_CHILD(error_of([&] { victims->arrive_and_wait(forever); }) == EPIPE);
    }
    child mortal;
};
// Somebody has slept in that phase, and was woken.
struct broken_for_world : barrier_world {
    broken_for_world() : barrier_world(1) {}
    void enter() {
        barrier_world::enter();
        break_as_victim();
    }
};

struct barrier_kind {
    using object = barrier;
    static barrier_options options(bool of_victim) {
        return on_this_source(barrier_options{.parties = of_victim ? 2U : 3U});
    }
    static void check_maker(const barrier& one, bool victim) {
        CHECK(one.parties() == options(victim).parties);
    }
    static void use(barrier& first, barrier& second) {
        std::vector<barrier*> all{&first, &second};
        if (first.parties() == 3) all.push_back(&second);
        check_phases(all);
    }
};

const auto check = [](auto& world, const crash_point&) { world.check_goes_on(); };

}  // namespace

TEST_CASE("a party that leaves in order while it is looked at breaks nothing", "[crash][barrier]") {
    barrier_options wanted;
    wanted.parties = 2;
    wanted.source = source();
    const std::string name = unique_name();
    door at = test_door();
    barrier all(at, name, wanted);
    gate within;
    gate go_on;
    child leaves([&] {
        door own = test_door();
        const barrier its(own, name, wanted);
        within.open();
        go_on.wait();
        return 0;
    });
    within.wait();
    // This process's own place is looked at first.
    int looks = 0;
    const step_observer each([&](const std::string& label) {
        if (label != "await:member" || ++looks != 2) return;
        go_on.open();
        CHECK(leaves.wait().exited());
    });
    CHECK(error_of([&] { all.arrive_and_wait(50ms); }) == ETIMEDOUT);
    CHECK(looks >= 2);
}

TEST_CASE("a barrier survives a death at each step of an early party", "[crash][barrier]") {
    const auto arrive = [](auto& world) { world.arrive_as_victim(); };
    // It may have arrived: the others, without a newcomer, are told the same.
    const auto check_both = [](auto& world, const crash_point&) {
        world.join_all();
        if (world.told[0] == -1) world.start_parties();
        world.join_all();
        CHECK(world.told[0] == world.told[1]);
        CHECK((world.told[0] == 0 || world.told[0] == EPIPE));
        world.check_goes_on();
    };
    const crash_case<answered_world> answered[] = {
        {"arrive, the others come later", arrive, check_both}};
    const crash_case<barrier_world> early[] = {
        // It has arrived, or not: the phase ends well, or is broken. It sleeps after five steps.
        {"arrive, the others come while it stands", arrive,
         [](barrier_world& world, const crash_point& at) {
             world.check_told(at.label == "arrive:begin" ? EPIPE : 0);
             world.check_goes_on();
         },
         [](barrier_world& world, const crash_point&) { world.start_parties(); }, false, 5},
        {"arrive, in vain", [](barrier_world& world) { world.break_as_victim(); }, check_both}};
    const crash_case<one_waits_world> one[] = {
        {"arrive, in vain, another one waits",
         [](one_waits_world& world) { world.break_as_victim(); },
         [](one_waits_world& world, const crash_point&) {
             world.join_all();
             CHECK(world.told[0] == EPIPE);
             world.check_goes_on();
         }}};
    crash_at_every_step(answered);
    crash_at_every_step(early);
    crash_at_every_step(one);
}

TEST_CASE("a barrier survives a death at each step of the last party", "[crash][barrier]") {
    const crash_case<two_wait_world> cases[] = {
        {"arrive as the last", [](two_wait_world& world) { world.arrive_as_victim(); },
         [](two_wait_world& world, const crash_point& at) {
             world.check_told(at.label == "arrive:begin" ? EPIPE : 0);
             world.check_goes_on();
         }}};
    crash_at_every_step(cases);
}

TEST_CASE("a barrier survives a death at each step of a reset", "[crash][barrier]") {
    const crash_case<broken_world> broken[] = {
        {"reset", [](broken_world& world) { world.victims->reset(); }, check}};
    const crash_case<broken_for_world> broken_for[] = {
        {"break and reset, another one waited",
         [](broken_for_world& world) { world.victims->reset(); },
         [](broken_for_world& world, const crash_point&) {
             world.join_all();
             CHECK(world.told[0] == EPIPE);
             world.check_goes_on();
         }}};
    crash_at_every_step(broken);
    crash_at_every_step(broken_for);
}

TEST_CASE("a barrier survives a death at each step of its making and leaving", "[crash][barrier]") {
    const crash_case<barrier_world> leaving[] = {
        {"close",
         [](barrier_world& world) {
             IPCDOOR_STEP("close:begin");
             world.victims.reset();
         },
         [](barrier_world& world, const crash_point& at) {
             // Who has left breaks nothing.
             barrier newcomer(world.at, world.name, only_open<barrier_options>());
             const std::vector<barrier*> all{&world.here, &world.other, &newcomer};
             if (at.label != "close:begin") CHECK(meet(all) == std::vector<int>(parties, 0));
             check_phases(all);
         }}};
    crash_at_every_step(leaving);
    crash_at_every_step_of_opening<barrier_kind>();
}

TEST_CASE("who falls asleep at any step of the last party is woken", "[crash][barrier]") {
    // Its death would wake, too.
    const crash_case<one_waits_world> cases[] = {{"arrive twice, slept for",
                                                  [](one_waits_world& world) {
                                                      world.arrive_as_victim();
                                                      world.arrive_as_victim();
                                                      spin_until(
                                                          [&] { return world.say->done == 2; });
                                                  },
                                                  [](one_waits_world& world, const crash_point&) {
                                                      world.check_told(0);
                                                      world.check_goes_on();
                                                  },
                                                  [](one_waits_world& world, const crash_point&) {
                                                      // The party that sleeps goes on to the next
                                                      // phase, too.
                                                      world.start([&world] {
                                                          world.arrive(1);
                                                          world.arrive(1);
                                                          ++world.say->done;
                                                      });
                                                      world.start([&world] {
                                                          world.helpers[0].join();
                                                          world.arrive(0);
                                                          ++world.say->done;
                                                      });
                                                  },
                                                  true}};
    crash_at_every_step(cases);
}

TEST_CASE("who waits at a barrier that breaks at any step of falling asleep wakes",
          "[crash][barrier]") {
    const crash_case<barrier_world> cases[] = {
        {"arrive, broken for", [](barrier_world& world) { world.arrive_as_victim(EPIPE); }, check,
         [](barrier_world& world, const crash_point&) {
             CHECK(error_of([&] { world.here.arrive_and_wait(5ms); }) == ETIMEDOUT);
         },
         true},
        {"arrive, broken for and reset",
         [](barrier_world& world) {
             EXPECT_CHILD(error_of([&] { world.victims->arrive_and_wait(forever); }) == EPIPE);
         },
         check,
         [](barrier_world& world, const crash_point&) {
             CHECK(error_of([&] { world.here.arrive_and_wait(5ms); }) == ETIMEDOUT);
             world.here.reset();
         },
         true}};
    crash_at_every_step(cases);
}
