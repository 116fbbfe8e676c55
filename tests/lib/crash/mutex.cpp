// SPDX-License-Identifier: MIT
// Mutexes whose user dies at any step: the next one that locks is told once where that was an
// owner, and never else; whoever waits gets the mutex.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/mutex.hpp>

#include "lib/crash/crash.hpp"
#include "lib/crash/sync_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// It is free and consistent, excludes, and is handed over.
void check_excludes(mutex& first, mutex& second) {
    for (mutex* one : {&second, &first}) {
        CHECK(one->lock(soon) == lock_result::acquired);
        CHECK((one == &first ? second : first).try_lock() == lock_result::busy);
        if (one == &second) one->unlock();
    }
    blocking_thread waiting([&] {
        CHECK_IN_THREAD(second.lock(forever) == lock_result::acquired);
        second.unlock();
    });
    waiting.wait_asleep_or_ended();
    first.unlock();
}

struct lock_world : sync_world<mutex, mutex_options> {
    lock_world() : sync_world(mutex_options{}) {}

    void at_step(const char* label) {
        const std::string_view step(label);
        if (step == "lock:waiting") say->asked = 1;
        // From where on the victim owns the mutex, and until when.
        if (step == "lock:handed" || step == "lock:recovered" || step == "lock:found" ||
            step == "lock:taken")
            say->victims = 1;
        if (step == "unlock:left" || step == "unlock:handed") say->victims = 0;
    }
    // Locks it as soon as it is free, and may be told of a death.
    void lock_once(mutex& by) {
        if (by.lock(forever) == lock_result::owner_died) {
            ++told;
            by.make_consistent();
        }
        by.unlock();
        ++say->done;
    }
    void start_locking() {
        start([this] { lock_once(other); });
    }
    void check_goes_on(bool died) {
        join_all();
        if (here.lock(soon) == lock_result::owner_died) {
            ++told;
            here.make_consistent();
        }
        here.unlock();
        CHECK(told == (died ? 1U : 0U));
        mutex newcomer(at, name, only_open<mutex_options>());
        check_excludes(here, newcomer);
        check_excludes(newcomer, other);
    }
    // A thread of the survivor that owns it until it is asked to unlock it; asked by 1, it waits
    // until the victim sleeps.
    void add_owner() {
        helpers.emplace_back([this] {
            spin_until([this] { return say->begun || say->over; });
            if (!say->begun) return;
            CHECK_IN_THREAD(here.lock(forever) == lock_result::acquired);
            *owned = true;
            spin_until([this] { return say->asked != 0 || say->over; });
            if (say->asked == 1 && !say->over) await_asleep_or_gone(say->victim);
            here.unlock();
            *owned = false;
        });
    }
    bool was_owner() const { return say->victims != 0; }

    std::atomic<std::uint32_t> told{0};
    shared<std::atomic<bool>> owned;  // by add_owner()
};
// The victim owns it.
struct owner_world : lock_world {
    void enter() {
        victims_door.emplace(test_door());
        victims.emplace(*victims_door, name, options);
        EXPECT_CHILD(victims->lock(soon) == lock_result::acquired);
        say->victims = 1;
        begin();
    }
};
// And somebody waits for it in the kernel.
struct wanted_world : owner_world {
    wanted_world() {
        add_sleeper([this] { lock_once(other); });
        watch_sleepers();
    }
};

// The survivor owns it until the victim sleeps.
struct busy_world : lock_world {
    busy_world() { add_owner(); }

    void enter() {
        lock_world::enter();
        spin_until([this] { return owned->load(); });
    }
    // For who stands at a step.
    void unlock() {
        say->asked = 1;
        helpers.back().join();
    }
};
// The survivor does not unlock it by itself.
struct stubborn_world : busy_world {
    void at_step(const char*) {}
};
// Which unlocks it when the victim is about to look again.
struct hasty_world : stubborn_world {
    void at_step(const char* label) {
        lock_world::at_step(label);
        if (std::string_view(label) != "lock:announced") return;
        say->asked = 2;
        spin_until([this] { return !owned->load(); });
    }
};
// Another one waits for it when the victim comes.
struct contended_world : lock_world {
    contended_world() {
        add_sleeper([this] {
            spin_until([this] { return owned->load(); });
            *coming = true;
            lock_once(other);
        });
        add_owner();
        helpers.emplace_back([this] {
            spin_until([this] { return *coming || say->over; });
            if (say->over) return;
            helpers[0].wait_asleep_or_ended();
            say->ready = true;
        });
    }
    shared<std::atomic<bool>> coming;
};

// A process owns it, which dies before the victim comes, or when it is asked to.
struct mortal_world : lock_world {
    mortal_world() {
        gate locked;
        owner.emplace([&] {
            door theirs = test_door();
            mutex mine(theirs, name, options);
            EXPECT_CHILD(mine.lock(soon) == lock_result::acquired);
            locked.open();
            for (;;) ::pause();
            return 1;
        });
        locked.wait();
    }
    void kill_owner() {
        owner->kill();
        CHECK_IN_THREAD(owner->wait().signaled(SIGKILL));
    }
    std::optional<child> owner;
};
struct dead_world : mortal_world {
    dead_world() { kill_owner(); }
};
struct dying_world : mortal_world {
    dying_world() {
        helpers.emplace_back([this] {
            spin_until([this] { return say->asked != 0 || say->over; });
            if (!say->over) await_asleep_or_gone(say->victim);
            kill_owner();
        });
    }
};

void lock_and_repair(mutex& of) {
    EXPECT_CHILD(of.lock(soon) == lock_result::owner_died);
    of.make_consistent();
    of.unlock();
}

struct mutex_kind {
    using object = mutex;
    static mutex_options options(bool) { return on_this_source(mutex_options{}); }
    static void check_maker(const mutex&, bool) {}
    static void use(mutex& first, mutex& second) {
        check_excludes(first, second);
        check_excludes(second, first);
    }
};

const auto check = [](auto& world, const crash_point& at) {
    world.check_goes_on(at.killed && world.was_owner());
};
const auto come = [](auto& world, const crash_point&) { world.start_locking(); };

}  // namespace

TEST_CASE("a mutex survives a death at each step of locking and unlocking", "[crash][mutex]") {
    const auto use = [](auto& world) {
        EXPECT_CHILD(world.victims->lock(soon) == lock_result::acquired);
        world.victims->unlock();
    };
    const auto unlock = [](auto& world) { world.victims->unlock(); };
    const crash_case<lock_world> free_ones[] = {
        {"lock and unlock", use, check},
        {"lock and unlock, another one comes", use, check, come},
    };
    const crash_case<wanted_world> wanted[] = {
        {"unlock, handed over", unlock, check},
    };
    crash_at_every_step(free_ones);
    crash_at_every_step(wanted);
}

TEST_CASE("a mutex survives a death at each step of waiting for it", "[crash][mutex]") {
    const auto use = [](auto& world) {
        EXPECT_CHILD(world.victims->lock(soon) != lock_result::busy);
        world.victims->unlock();
    };
    const crash_case<busy_world> busy[] = {
        {"lock, waiting", use, check},
        {"lock, waiting, another one comes", use, check, come},
    };
    const crash_case<contended_world> contended[] = {{"lock, waiting as the second", use, check}};
    const crash_case<hasty_world> hasty[] = {{"lock, found free", use, check}};
    const crash_case<stubborn_world> stubborn[] = {
        {"lock, in vain",
         [](stubborn_world& world) {
             EXPECT_CHILD(error_of([&] { (void)world.victims->lock(5ms); }) == ETIMEDOUT);
         },
         [](stubborn_world& world, const crash_point&) { world.check_goes_on(false); }}};
    crash_at_every_step(busy);
    crash_at_every_step(contended);
    crash_at_every_step(hasty);
    crash_at_every_step(stubborn);
}

TEST_CASE("a mutex survives a death at each step of taking it over from a dead owner",
          "[crash][mutex]") {
    const auto repair = [](auto& world) { lock_and_repair(*world.victims); };
    // The first owner's death is told to who repairs; that of the victim, if it had it then,
    // to the next one.
    const auto check_once = [](auto& world, const crash_point& at) {
        world.check_goes_on(at.killed && at.label != "unlock:left" && at.label != "unlock:handed");
    };
    const crash_case<dead_world> dead[] = {
        {"lock a dead one's", repair, check_once},
        {"try to lock a dead one's",
         [](dead_world& world) {
             EXPECT_CHILD(world.victims->try_lock() == lock_result::owner_died);
             world.victims->make_consistent();
             world.victims->unlock();
         },
         check_once},
        {"lock a dead one's, another one comes", repair, check_once, come},
    };
    const crash_case<dying_world> dying[] = {{"lock, the owner dies", repair, check_once}};
    crash_at_every_step(dead);
    crash_at_every_step(dying);
}

TEST_CASE("a mutex survives a death at each step of giving it up", "[crash][mutex]") {
    const auto leave = [](auto& world) { world.victims.reset(); };
    // Who destroys it as its owner dies as that.
    const auto check_told = [](auto& world, const crash_point&) { world.check_goes_on(true); };
    const crash_case<owner_world> owner[] = {
        {"close as the owner", leave, check_told},
        {"close as the owner, another one comes", leave,
         [](owner_world& world, const crash_point&) { world.check_goes_on(true); }, come}};
    const crash_case<wanted_world> wanted[] = {
        {"close as the owner, another one waits", leave, check_told}};
    crash_at_every_step(owner);
    crash_at_every_step(wanted);

    const crash_case<dead_world> lost[] = {
        {"unlock without repair",
         [](dead_world& world) {
             EXPECT_CHILD(world.victims->lock(soon) == lock_result::owner_died);
             world.victims->unlock();
         },
         [](dead_world& world, const crash_point& at) {
             if (at.killed && at.label.starts_with("lock:")) {
                 world.check_goes_on(true);
                 return;
             }
             mutex newcomer(world.at, world.name, only_open<mutex_options>());
             for (mutex* one : {&world.here, &world.other, &newcomer}) {
                 CHECK(error_of([&] { (void)one->lock(soon); }) == ENOTRECOVERABLE);
                 CHECK(error_of([&] { (void)one->try_lock(); }) == ENOTRECOVERABLE);
             }
         }}};
    crash_at_every_step(lost);
}

TEST_CASE("a mutex survives a death at each step of its making", "[crash][mutex]") {
    crash_at_every_step_of_opening<mutex_kind>();
}

TEST_CASE("who waits for a mutex at any step of its owner gets it", "[crash][mutex]") {
    const crash_case<lock_world> free_ones[] = {
        {"lock and unlock, slept for",
         [](lock_world& world) {
             IPCDOOR_STEP("lock:begin");
             EXPECT_CHILD(world.victims->lock(forever) == lock_result::acquired);
             world.victims->unlock();
             // Its death would wake, too.
             spin_until([&] { return world.say->done == 1; });
         },
         [](lock_world& world, const crash_point&) { world.check_goes_on(false); }, come, true}};
    const crash_case<wanted_world> wanted[] = {
        {"unlock, handed over, slept for",
         [](wanted_world& world) {
             world.victims->unlock();
             spin_until([&] { return world.say->done == 2; });
         },
         [](wanted_world& world, const crash_point&) { world.check_goes_on(false); },
         [](wanted_world& world, const crash_point&) {
             world.start([&world] {
                 mutex third(world.at, world.name, only_open<mutex_options>());
                 world.lock_once(third);
             });
         },
         true}};
    crash_at_every_step(free_ones);
    crash_at_every_step(wanted);
}

TEST_CASE("who waits for a mutex gets it when it is unlocked at any step of that",
          "[crash][mutex]") {
    const crash_case<stubborn_world> cases[] = {
        {"lock, unlocked for",
         [](stubborn_world& world) {
             EXPECT_CHILD(world.victims->lock(forever) == lock_result::acquired);
             world.victims->unlock();
         },
         [](stubborn_world& world, const crash_point&) { world.check_goes_on(false); },
         [](stubborn_world& world, const crash_point&) { world.unlock(); }, true}};
    crash_at_every_step(cases);
}
