// SPDX-License-Identifier: MIT
// Semaphores whose user dies at any step: a unit that it took is gone, one that it owned is
// free again, and no wake-up is lost with it. And sleep, from every step to every step.
#include <poll.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/semaphore.hpp>

#include "lib/crash/crash.hpp"
#include "lib/crash/sync_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

const auto check = [](auto& world, const crash_point&) { world.check_goes_on(); };

// ---- counts ----

// One sleeps, and is woken by another.
void check_wake(semaphore& sleeper, semaphore& poster) {
    blocking_thread waiting([&] { sleeper.acquire(forever); });
    waiting.wait_asleep_or_ended();
    poster.post();
}

// As many units are left as were posted, without those that were taken.
struct count_world : sync_world<semaphore, semaphore_options> {
    explicit count_world(std::uint32_t initial = 0)
        : sync_world(semaphore_options{.initial = initial}), posted(initial) {}

    void at_step(const char* label) {
        const std::string_view step(label);
        if (step == "wait:armed") say->asked = 1;
        if (step == "acquire:taken") ++say->victims;
    }
    void post(std::uint32_t units = 1) {
        for (std::uint32_t i = 0; i < units; ++i) here.post();
        posted += units;
    }
    void start_acquiring(semaphore& from) {
        start([this, &from] {
            from.acquire(forever);
            ++say->done;
        });
    }
    void add_acquiring(semaphore& from) {
        add_sleeper([this, &from] {
            from.acquire(forever);
            ++say->done;
        });
    }
    void check_goes_on() {
        join_all();
        const std::uint32_t left = posted - say->victims - say->done;
        CHECK(here.value() == left);
        semaphore newcomer(at, name, only_open<semaphore_options>());
        for (std::uint32_t i = 0; i < left; ++i) CHECK(newcomer.try_acquire());
        CHECK_FALSE(other.try_acquire());
        check_wake(other, newcomer);
        check_wake(newcomer, here);
        CHECK(here.value() == 0);
    }

    std::atomic<std::uint32_t> posted;
};

struct one_unit_world : count_world {
    one_unit_world() : count_world(1) {}
};
// The victim posts, as often as `asked` says in the end.
struct posting_world : count_world {
    explicit posting_world(std::uint32_t sleeping = 0) {
        for (std::uint32_t i = 0; i < sleeping; ++i) add_acquiring(i == 0 ? here : other);
        watch_sleepers();
    }
    void at_step(const char* label) {
        if (std::string_view(label) == "post:counted") ++say->asked;
    }
    void check_goes_on() {
        posted = say->asked.load();
        // Those that got none.
        for (; posted < sleepers; ++posted) {
            spin_until([this] { return say->done == posted; });
            semaphore(at, name, only_open<semaphore_options>()).post();
        }
        count_world::check_goes_on();
    }
};
struct one_sleeps_world : posting_world {
    one_sleeps_world() : posting_world(1) {}
};
struct two_sleep_world : posting_world {
    two_sleep_world() : posting_world(2) {}
};
// The victim waits, beside somebody else, and two units come.
struct rivals_world : count_world {
    rivals_world() {
        add_acquiring(other);
        watch_sleepers();
        add_answer([this] { post(2); });
    }
    void check_goes_on() {
        say->over = true;
        helpers.back().join();
        // The victim had not come so far that it was given any.
        if (posted == 0) post();
        count_world::check_goes_on();
    }
};
// The victim waits alone, and gets two.
struct answered_world : count_world {
    answered_world() {
        add_answer([this] { post(2); });
    }
};
// And has armed its descriptor.
struct polling_world : one_unit_world {
    void enter() {
        one_unit_world::enter();
        static_cast<void>(victims->fd());
    }
};
// Somebody comes and goes while the victim waits.
struct visited_world : count_world {
    visited_world() {
        add_answer([this] {
            door theirs = test_door();
            semaphore(theirs, name, only_open<semaphore_options>());
        });
    }
};

// A unit comes when the victim has looked, and before it asks to be woken.
struct early_world : count_world {
    early_world() {
        add_answer([this] {
            post();
            say->asked = 2;
        });
    }
    void at_step(const char* label) {
        if (std::string_view(label) != "wait:generation") return;
        say->asked = 1;
        spin_until([this] { return say->asked == 2; });
    }
    // Another one comes for the next unit; its slot is behind that of the victim, which is
    // rung first.
    void come_and_post() {
        late.emplace(at, name, only_open<semaphore_options>());
        start_acquiring(*late);
        post();
    }
    std::optional<semaphore> late;
};

struct count_kind {
    using object = semaphore;
    static semaphore_options options(bool of_victim) {
        return on_this_source(semaphore_options{.initial = of_victim ? 5U : 7U});
    }
    static void check_maker(const semaphore& one, bool victim) {
        CHECK(one.value() == options(victim).initial);
    }
    static void use(semaphore& first, semaphore& second) {
        while (first.try_acquire()) {
        }
        check_wake(second, first);
        check_wake(first, second);
        CHECK(first.value() == 0);
    }
};

}  // namespace

TEST_CASE("a semaphore survives a death at each step of a post", "[crash][semaphore]") {
    const auto post = [](auto& world) { world.victims->post(); };
    const auto post_two = [](auto& world) {
        world.victims->post();
        world.victims->post();
    };
    const crash_case<posting_world> alone[] = {{"post", post, check}};
    const crash_case<one_sleeps_world> one[] = {{"post, somebody waits", post, check}};
    const crash_case<two_sleep_world> two[] = {{"post two, two wait", post_two, check}};
    crash_at_every_step(alone);
    crash_at_every_step(one);
    crash_at_every_step(two);
}

TEST_CASE("a semaphore survives a death at each step of acquiring", "[crash][semaphore]") {
    const crash_case<one_unit_world> there[] = {
        {"acquire", [](one_unit_world& world) { world.victims->acquire(soon); }, check}};
    const crash_case<count_world> in_vain[] = {
        {"acquire, in vain",
         [](count_world& world) {
             EXPECT_CHILD(error_of([&] { world.victims->acquire(5ms); }) == ETIMEDOUT);
         },
         check}};
    const auto acquire = [](auto& world) { world.victims->acquire(soon); };
    const crash_case<answered_world> answered[] = {{"acquire, waiting", acquire, check}};
    const crash_case<rivals_world> rivals[] = {
        {"acquire, another one waits", acquire, check},
        // What it was woken for is passed on, though it has the wake-up already.
        {"acquire, another one waits, rung while it stands", acquire, check,
         [](rivals_world& world, const crash_point&) { world.post(); }},
    };
    crash_at_every_step(there);
    crash_at_every_step(in_vain);
    crash_at_every_step(answered);
    crash_at_every_step(rivals);
}

TEST_CASE("a semaphore survives a death at each step of polling and leaving",
          "[crash][semaphore]") {
    const crash_case<answered_world> polled[] = {{"acquire by a descriptor",
                                                  [](answered_world& world) {
                                                      pollfd ready{world.victims->fd(), POLLIN, 0};
                                                      while (!world.victims->try_acquire())
                                                          EXPECT_CHILD(::poll(&ready, 1, 60'000) ==
                                                                       1);
                                                  },
                                                  check}};
    const crash_case<polling_world> leaving[] = {
        {"close", [](polling_world& world) { world.victims.reset(); }, check}};
    crash_at_every_step(polled);
    crash_at_every_step(leaving);
}

TEST_CASE("a semaphore survives a death at each step of its making", "[crash][semaphore]") {
    crash_at_every_step_of_opening<count_kind>();
}

TEST_CASE("who falls asleep at any step of a post is woken", "[crash][semaphore]") {
    const crash_case<one_sleeps_world> cases[] = {
        {"post two, slept for",
         [](one_sleeps_world& world) {
             IPCDOOR_STEP("post:begin");
             world.victims->post();
             world.victims->post();
             // Its death would wake, too.
             spin_until([&] { return world.say->done == 2; });
             world.say->asked = 2;
         },
         check,
         [](one_sleeps_world& world, const crash_point&) { world.start_acquiring(world.other); },
         true}};
    crash_at_every_step(cases);
}

TEST_CASE("who is posted to at any step of falling asleep wakes", "[crash][semaphore]") {
    const auto acquire = [](auto& world) {
        world.victims->acquire(forever);
        world.say->victims = 1;
    };
    const auto post = [](auto& world, const crash_point&) { world.post(); };
    const crash_case<count_world> cases[] = {{"acquire, posted to", acquire, check, post, true}};
    const crash_case<early_world> early[] = {
        {"acquire, rung for another one's unit",
         [](early_world& world) {
             world.victims->acquire(forever);
             world.say->victims = 1;
             // Its death would wake, too.
             spin_until([&] { return world.say->done == 1; });
         },
         check, [](early_world& world, const crash_point&) { world.come_and_post(); }, true}};
    const crash_case<visited_world> visited[] = {
        {"acquire, visited and posted to", acquire, check, post, true, 20}};
    crash_at_every_step(cases);
    crash_at_every_step(early);
    crash_at_every_step(visited);
}

// ---- units with owners ----

namespace {

constexpr std::uint32_t units = 2;

void acquire_all(resource_semaphore& from) {
    for (std::uint32_t i = 0; i < units; ++i) from.acquire(forever);
}
void release_all(resource_semaphore& from) {
    while (from.held() != 0) from.release();
}

void check_wake(resource_semaphore& sleeper, resource_semaphore& owner) {
    for (std::uint32_t i = 0; i < owner.units(); ++i) owner.acquire(soon);
    CHECK_FALSE(sleeper.try_acquire());
    blocking_thread waiting([&] { sleeper.acquire(forever); });
    waiting.wait_asleep_or_ended();
    owner.release();
    waiting.join();
    CHECK(sleeper.held() == 1);
    release_all(sleeper);
    release_all(owner);
    CHECK(owner.value() == owner.units());
}

struct units_world : sync_world<resource_semaphore, resource_semaphore_options> {
    units_world() : sync_world(resource_semaphore_options{.units = units}) {}

    void at_step(const char* label) {
        if (std::string_view(label) == "wait:armed") say->asked = 1;
    }
    // Needs what the victim has.
    void start_acquiring() {
        start([this] {
            acquire_all(other);
            ++say->done;
        });
    }
    void check_goes_on() {
        join_all();
        release_all(here);
        release_all(other);
        CHECK(here.value() == units);
        resource_semaphore newcomer(at, name, only_open<resource_semaphore_options>());
        check_wake(other, newcomer);
        check_wake(newcomer, here);
    }
};
// The victim has all of them.
struct owning_world : units_world {
    void enter() {
        victims_door.emplace(test_door());
        victims.emplace(*victims_door, name, options);
        acquire_all(*victims);
        begin();
    }
};
// And somebody waits for all.
struct wanted_world : owning_world {
    wanted_world() {
        add_sleeper([this] {
            acquire_all(other);
            ++say->done;
        });
        watch_sleepers();
    }
};
// The survivor has all of them.
struct taken_world : units_world {
    taken_world() { acquire_all(here); }
};
// And gives one back while the victim waits.
struct given_world : taken_world {
    given_world() {
        add_answer([this] { here.release(); });
    }
};
// One comes back when the victim has looked, and before it asks to be woken.
struct early_units_world : taken_world {
    early_units_world() {
        add_answer([this] {
            here.release();
            say->asked = 2;
        });
    }
    void at_step(const char* label) {
        if (std::string_view(label) != "wait:generation") return;
        say->asked = 1;
        spin_until([this] { return say->asked == 2; });
    }
    // As early_world's.
    void come_and_release() {
        late.emplace(at, name, only_open<resource_semaphore_options>());
        start([this] {
            late->acquire(forever);
            ++say->done;
        });
        here.release();
    }
    void check_goes_on() {
        join_all();
        release_all(*late);
        taken_world::check_goes_on();
    }
    std::optional<resource_semaphore> late;
};
// Somebody who is dead has all of them.
struct left_world : units_world {
    left_world() {
        child dead([this] {
            door theirs = test_door();
            resource_semaphore mine(theirs, name, options);
            acquire_all(mine);
            ::raise(SIGKILL);
            return 1;
        });
        CHECK(dead.wait().signaled(SIGKILL));
    }
};

struct units_kind {
    using object = resource_semaphore;
    static resource_semaphore_options options(bool of_victim) {
        return on_this_source(resource_semaphore_options{.units = of_victim ? 2U : 3U});
    }
    static void check_maker(const resource_semaphore& one, bool victim) {
        CHECK(one.units() == options(victim).units);
    }
    static void use(resource_semaphore& first, resource_semaphore& second) {
        check_wake(second, first);
        check_wake(first, second);
    }
};

}  // namespace

TEST_CASE("units come back from a death at each step", "[crash][semaphore][resource]") {
    const auto come_for_all = [](auto& world, const crash_point&) { world.start_acquiring(); };
    const auto use_all = [](auto& world) {
        for (std::uint32_t i = 0; i < units; ++i) world.victims->acquire(soon);
        world.victims->release();
        world.victims->release();
    };
    const auto release_both = [](auto& world) { release_all(*world.victims); };
    const auto leave = [](auto& world) { world.victims.reset(); };
    const auto in_vain = [](auto& world) {
        EXPECT_CHILD(error_of([&] { world.victims->acquire(5ms); }) == ETIMEDOUT);
    };
    const crash_case<units_world> free_ones[] = {
        {"acquire and release", use_all, check},
        {"acquire and release, another one needs all", use_all, check, come_for_all}};
    const crash_case<given_world> given[] = {
        {"acquire, waiting for an owner", [](given_world& world) { world.victims->acquire(soon); },
         check}};
    const crash_case<owning_world> owning[] = {
        {"release all", release_both, check},
        {"acquire a third, in vain", in_vain, check},
        {"close as an owner", leave, check},
        {"close as an owner, another one needs all", leave, check, come_for_all},
    };
    const crash_case<wanted_world> wanted[] = {
        {"release all, another one waits", release_both, check},
        {"close as an owner, another one waits", leave, check}};
    crash_at_every_step(free_ones);
    crash_at_every_step(given);
    crash_at_every_step(owning);
    crash_at_every_step(wanted);
}

TEST_CASE("units of the dead come back from a death at each step of freeing them",
          "[crash][semaphore][resource]") {
    const crash_case<left_world> cases[] = {
        {"acquire what the dead owned",
         [](left_world& world) {
             for (std::uint32_t i = 0; i < units; ++i) EXPECT_CHILD(world.victims->try_acquire());
         },
         check},
        {"count what the dead owned",
         [](left_world& world) { EXPECT_CHILD(world.victims->value() == units); }, check},
    };
    crash_at_every_step(cases);
}

TEST_CASE("a resource semaphore survives a death at each step of its making",
          "[crash][semaphore][resource]") {
    crash_at_every_step_of_opening<units_kind>();
}

TEST_CASE("who waits for a unit at any step of a release is woken",
          "[crash][semaphore][resource]") {
    const auto release_all_alive = [](auto& world) {
        IPCDOOR_STEP("release:begin");
        release_all(*world.victims);
        spin_until([&] { return world.say->done == 1; });
    };
    const auto leave_alive = [](auto& world) {
        IPCDOOR_STEP("close:begin");
        world.victims.reset();
        spin_until([&] { return world.say->done == 1; });
    };
    const auto start = [](auto& world, const crash_point&) { world.start_acquiring(); };
    const crash_case<owning_world> cases[] = {
        {"release all, slept for", release_all_alive, check, start, true},
        {"close as an owner, slept for", leave_alive, check, start, true}};
    crash_at_every_step(cases);
}

TEST_CASE("who is given a unit at any step of falling asleep wakes",
          "[crash][semaphore][resource]") {
    const crash_case<taken_world> cases[] = {
        {"acquire, released to", [](taken_world& world) { world.victims->acquire(forever); }, check,
         [](taken_world& world, const crash_point&) { world.here.release(); }, true}};
    const crash_case<early_units_world> early[] = {
        {"acquire, rung for another one's release",
         [](early_units_world& world) {
             world.victims->acquire(forever);
             spin_until([&] { return world.say->done == 1; });
         },
         check, [](early_units_world& world, const crash_point&) { world.come_and_release(); },
         true}};
    crash_at_every_step(cases);
    crash_at_every_step(early);
}

TEST_CASE("what its maker has made before it died is not made anew", "[crash][semaphore]") {
    door at = test_door();
    const std::string name = unique_name();
    endpoint end = at.create(name, {.data_bytes = 8192, .slots = 4, .source = source()});
    gate within;
    gate go_on;
    child maker([&] {
        door own = test_door();
        endpoint its = own.attach(name);
        const step_observer each([&](const std::string& label) {
            if (label != "open:filled") return;
            within.open();
            go_on.wait();
        });
        const semaphore made(its, {0, 8}, {.initial = 3});
        return 0;
    });
    within.wait();
    bool looked = false;
    const step_observer each([&](const std::string& label) {
        if (label != "open:maker" || std::exchange(looked, true)) return;
        go_on.open();
        CHECK(maker.wait().exited());
    });
    semaphore found(end, {0, 8}, {.initial = 1});
    CHECK(looked);
    CHECK(found.value() == 3);
}
