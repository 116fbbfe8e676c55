// SPDX-License-Identifier: MIT
// Conditions whose user dies at any step, also while it holds the mutex: whoever waits looks
// again, and goes on. And sleep, from every step to every step.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <ipcdoor/condition.hpp>
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

// A mutex, what it protects, and who waits for that.
struct monitor {
    monitor(door& at, const std::string& name, const condition_options& options)
        : lock(at, name + "-lock", on_this_source(mutex_options{})), changed(at, name, options) {}

    void repair(mutex_guard& held) {
        if (held.owner_died()) lock.make_consistent();
    }
    // Waits until it is set; calls `looked` each time that it has waited.
    template <class Looked>
    void await(const std::atomic<bool>& flag, Looked looked) {
        mutex_guard held(lock, forever);
        repair(held);
        while (!flag) {
            CHECK_IN_THREAD(changed.wait(held, forever));
            repair(held);
            looked();
        }
    }
    void set(std::atomic<bool>& flag) {
        mutex_guard held(lock, forever);
        repair(held);
        flag = true;
    }

    mutex lock;
    condition changed;
};

// One waits, and is told by another.
void check_wake(monitor& sleeper, monitor& teller, bool all) {
    std::atomic<bool> flag{false};
    blocking_thread waiting([&] { sleeper.await(flag, [] {}); });
    waiting.wait_asleep_or_ended();
    teller.set(flag);
    if (all)
        teller.changed.notify_all();
    else
        teller.changed.notify_one();
}

struct monitor_world : sync_world<monitor, condition_options> {
    explicit monitor_world(std::uint32_t sleeping = 0) : sync_world(condition_options{}) {
        for (std::uint32_t i = 0; i < sleeping; ++i) {
            monitor& mine = i == 0 ? other : here;
            add_sleeper([this, &mine, i] { await(mine, i); });
        }
        watch_sleepers();
    }

    // The bit is set then, the mutex still locked.
    void at_step(const char* label) {
        if (std::string_view(label) == "wait:armed") say->asked = 1;
    }
    void await(monitor& by, std::uint32_t number = 0) {
        by.await(*flag, [this, number] { ++looks[number]; });
        ++say->done;
    }
    // In the survivor; may have to wait for the victim's end.
    void change() {
        here.set(*flag);
        here.changed.notify_one();
    }
    // How often the sleepers have looked before the victim dies.
    void count_looks() {
        for (std::size_t i = 0; i < sleepers; ++i) {
            helpers[i].wait_asleep_or_ended();
            before[i] = looks[i].load();
        }
    }
    void check_goes_on(const crash_point& where) {
        if (where.killed) {
            for (std::size_t i = 0; i < sleepers; ++i)
                spin_until([&] { return looks[i] != before[i] || say->done == sleepers; });
        }
        say->over = true;
        for (std::size_t i = sleepers; i < helpers.size(); ++i) helpers[i].join();
        monitor newcomer(at, name, only_open<condition_options>());
        newcomer.set(*flag);
        newcomer.changed.notify_all();
        join_all();
        for (const bool all : {false, true}) {
            check_wake(other, newcomer, all);
            check_wake(newcomer, here, all);
        }
    }

    shared<std::atomic<bool>> flag;
    std::atomic<std::uint32_t> looks[2] = {0, 0};
    std::uint32_t before[2] = {0, 0};
};
struct one_sleeps_world : monitor_world {
    one_sleeps_world() : monitor_world(1) {}
};
struct two_sleep_world : monitor_world {
    two_sleep_world() : monitor_world(2) {}
};
// The survivor makes the change when the victim waits.
template <class World>
struct answered : World {
    answered() {
        this->add_answer([this] {
            this->change();
            // For who else waits.
            this->here.changed.notify_one();
        });
    }
};

struct condition_kind {
    using object = condition;
    static condition_options options(bool) { return on_this_source(condition_options{}); }
    static void check_maker(const condition&, bool) {}
    static void use(condition& first, condition& second) {
        door at = test_door();
        mutex lock(at, unique_name(), on_this_source(mutex_options{}));
        for (condition* one : {&first, &second}) {
            bool flag = false;
            blocking_thread waiting([&] {
                mutex_guard held(lock, forever);
                while (!flag) one->wait(held, forever);
            });
            waiting.wait_asleep_or_ended();
            {
                const mutex_guard held(lock, soon);
                flag = true;
            }
            (one == &first ? second : first).notify_one();
        }
    }
};

const auto check = [](auto& world, const crash_point& at) { world.check_goes_on(at); };
const auto count = [](auto& world, const crash_point&) { world.count_looks(); };

}  // namespace

TEST_CASE("a condition survives a death at each step of a wait", "[crash][condition]") {
    const auto wait = [](auto& world) { world.victims->await(*world.flag, [] {}); };
    const crash_case<answered<monitor_world>> alone[] = {{"wait", wait, check}};
    const crash_case<answered<one_sleeps_world>> one[] = {
        {"wait, another one waits", wait, check, count}};
    const crash_case<monitor_world> in_vain[] = {{"wait, in vain",
                                                  [](monitor_world& world) {
                                                      mutex_guard held(world.victims->lock, soon);
                                                      world.victims->changed.wait(held, 5ms);
                                                  },
                                                  check}};
    crash_at_every_step(alone);
    crash_at_every_step(one);
    crash_at_every_step(in_vain);
}

TEST_CASE("a condition survives a death at each step of telling", "[crash][condition]") {
    const auto tell_one = [](auto& world) {
        world.victims->set(*world.flag);
        world.victims->changed.notify_one();
    };
    const auto tell_all = [](auto& world) {
        world.victims->set(*world.flag);
        world.victims->changed.notify_all();
    };
    const crash_case<monitor_world> nobody[] = {
        {"notify_one, nobody waits", tell_one, check},
        {"notify_all, nobody waits", tell_all, check},
        {"close", [](monitor_world& world) { world.victims.reset(); }, check},
    };
    const crash_case<one_sleeps_world> one[] = {{"notify_one", tell_one, check, count}};
    const crash_case<two_sleep_world> two[] = {{"notify_one, two wait", tell_one, check, count},
                                               {"notify_all, two wait", tell_all, check, count}};
    crash_at_every_step(nobody);
    crash_at_every_step(one);
    crash_at_every_step(two);
}

TEST_CASE("a condition survives a death at each step of its making", "[crash][condition]") {
    crash_at_every_step_of_opening<condition_kind>();
}

TEST_CASE("who falls asleep at any step of a change and its notification is woken",
          "[crash][condition]") {
    // Its death would wake, too.
    const crash_case<monitor_world> one[] = {{"notify_one, slept for",
                                              [](monitor_world& world) {
                                                  world.victims->set(*world.flag);
                                                  world.victims->changed.notify_one();
                                                  spin_until([&] { return world.say->done == 1; });
                                              },
                                              check,
                                              [](monitor_world& world, const crash_point&) {
                                                  world.start(
                                                      [&world] { world.await(world.other); });
                                              },
                                              true}};
    const crash_case<one_sleeps_world> two[] = {
        {"notify_all, slept for",
         [](one_sleeps_world& world) {
             world.victims->set(*world.flag);
             world.victims->changed.notify_all();
             spin_until([&] { return world.say->done == 2; });
         },
         check,
         [](one_sleeps_world& world, const crash_point&) {
             world.start([&world] { world.await(world.here, 1); });
         },
         true}};
    crash_at_every_step(one);
    crash_at_every_step(two);
}

TEST_CASE("who is notified at any step of falling asleep wakes", "[crash][condition]") {
    const auto wait = [](auto& world) { world.victims->await(*world.flag, [] {}); };
    const crash_case<monitor_world> cases[] = {{"wait, notified", wait, check,
                                                // The victim may hold the mutex at its step.
                                                [](monitor_world& world, const crash_point&) {
                                                    world.start([&world] { world.change(); });
                                                },
                                                true},
                                               {"wait, all notified", wait, check,
                                                [](monitor_world& world, const crash_point&) {
                                                    world.start([&world] {
                                                        world.here.set(*world.flag);
                                                        world.here.changed.notify_all();
                                                    });
                                                },
                                                true}};
    crash_at_every_step(cases);
}
