// SPDX-License-Identifier: MIT
// A subscriber dies at any step: the publisher and the others go on, every chunk comes back.
// And sleep, from every step to every step.
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>

#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/crash/crash.hpp"
#include "lib/crash/publish_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// The survivor publishes, and has a subscriber of its own.
struct subscriber_world {
    explicit subscriber_world(const publisher_options& wanted)
        : options(wanted), paper(at, name, options), bystander(subscribe(at, name, paper)) {
        for (std::uint32_t i = 0; i < options.history; ++i) publish();
        serving.emplace([this] {
            // Does nothing before the victim's fork.
            spin_until([this] { return say->begun || say->over; });
            while (!say->over) {
                paper.poll();
                while (say->published < say->asked && say->asked < 1'000) {
                    // For who waits for the answer, or sleeps by then.
                    if (say->asked > 1) std::this_thread::sleep_for(1ms);
                    publish();
                }
                std::this_thread::sleep_for(200us);
            }
        });
    }
    ~subscriber_world() { say->over = true; }

    void enter() {
        say->begun = true;
        victims_door.emplace(test_door());
    }
    void join() { victim.emplace(*victims_door, name, subscriber_options{}, soon); }
    // In the victim: one more sample is published, at once.
    void ask() {
        const std::uint64_t wanted = ++say->asked;
        spin_until([&] { return say->published >= wanted; });
    }

    // In the survivor.
    void publish() {
        publish_next(paper);
        seen.take(bystander);
        ++say->published;
    }
    void stop_serving() {
        say->over = true;
        serving->join();
    }
    // The publisher needs every chunk: it has to wait for those of the victim.
    void start_lending() {
        stop_serving();
        seen.take(bystander);
        waiting.emplace([this] { lend_all(paper, options, forever); });
        waiting->wait_asleep_or_ended();
    }
    // More than the victim's queue takes; the bystander's must be taken meanwhile.
    void start_publishing() {
        stop_serving();
        seen.take(bystander);
        waiting.emplace([this] {
            for (std::uint32_t i = 0; i < options.queue * 2; ++i) {
                publish_next(paper, forever);
                seen.take(bystander);
            }
        });
        waiting->wait_asleep_or_ended();
    }

    void check_all(const crash_point&) {
        stop_serving();
        if (waiting) waiting->join();
        seen.take(bystander);
        CHECK(seen.ended_with == 0);
        CHECK(seen.is(1, paper.stats().published + 1));
        spin_until([this] {
            paper.poll();
            return paper.subscribers() == 1;
        });
        lend_all(paper, options);
        check_goes_on(at, name, options, paper, {&bystander});
    }

    const publisher_options options;
    const std::string name = unique_name();
    door at = test_door();
    publisher paper;
    subscriber bystander;
    takings seen;
    shared<news> say;
    std::optional<door> victims_door;
    std::optional<subscriber> victim;
    std::optional<blocking_thread> waiting;
    std::optional<blocking_thread> serving;
};

// Has not subscribed when its steps begin.
struct outsider_world : subscriber_world {
    outsider_world() : subscriber_world(with_chunks(10, {.queue = 4, .history = 2})) {}
};
// Has subscribed, and nothing is published yet.
struct member_world : subscriber_world {
    explicit member_world(const publisher_options& wanted = with_chunks(10, {.queue = 2}))
        : subscriber_world(wanted) {}
    void enter() {
        subscriber_world::enter();
        join();
    }
    // The first sample comes between arming and looking, the others when it may be asleep.
    void at_step(const char* label) {
        if (!asks || std::string_view(label) != "take:armed") return;
        if (say->asked == 0)
            ask();
        else
            ++say->asked;
    }
    bool asks = false;
};
struct waiting_world : member_world {
    void enter() {
        member_world::enter();
        asks = true;
    }
};
// Its queue is full.
struct lagging_world : member_world {
    lagging_world() = default;
    explicit lagging_world(const publisher_options& wanted) : member_world(wanted) {}
    void enter() {
        member_world::enter();
        for (std::uint32_t i = 0; i < options.queue; ++i) ask();
    }
};
struct blocking_world : lagging_world {
    blocking_world()
        : lagging_world(with_chunks(10, {.queue = 2, .slow = slow_subscriber::block})) {}
};
// And the publisher sleeps for room.
struct needed_world : blocking_world {
    needed_world() {
        needing.emplace([this] {
            spin_until([this] { return say->asked == 1'000 || say->over; });
            if (say->over) return;
            publish_next(paper, forever);
        });
        watching.emplace([this] {
            spin_until([this] { return paper.stats().waits > 0 || say->over; });
            say->done = true;
        });
    }
    void enter() {
        blocking_world::enter();
        say->asked = 1'000;
        spin_until([this] { return say->done.load(); });
    }
    void check_all(const crash_point& where) {
        needing->join();
        CHECK(paper.stats().waits > 0);
        blocking_world::check_all(where);
    }
    std::optional<blocking_thread> needing;
    std::optional<blocking_thread> watching;
};
// It lost some, and one more is taken back while it takes it.
struct overtaken_world : lagging_world {
    void enter() {
        lagging_world::enter();
        ask();
        holding = 0;
    }
    void at_step(const char* label) {
        if (std::string_view(label) == "take:hold" && holding++ == 0) ask();
    }
    int holding = 1;
};

bool take_whole(subscriber& from) { return is_whole(from.take(soon)); }

}  // namespace

TEST_CASE("a subscriber dies at each step of subscribing", "[crash][publish]") {
    const crash_case<outsider_world> cases[] = {
        {"subscribe",
         [](outsider_world& world) {
             world.join();
             for (int i = 0; i < 2; ++i) EXPECT_CHILD(take_whole(*world.victim));
         },
         [](outsider_world& world, const crash_point& at) { world.check_all(at); },
         [](outsider_world& world, const crash_point&) { world.start_lending(); }}};
    crash_at_every_step(cases);
}

TEST_CASE("a subscriber dies at each step of taking and releasing", "[crash][publish]") {
    const auto check = [](auto& world, const crash_point& at) { world.check_all(at); };
    const auto need_all = [](auto& world, const crash_point&) { world.start_lending(); };
    const auto publish_more = [](auto& world, const crash_point&) { world.start_publishing(); };
    const auto take_two = [](auto& world) {
        const sample first = world.victim->take(soon);
        {
            const sample second = world.victim->take(soon);
            EXPECT_CHILD(is_whole(first) && is_whole(second));
        }
        EXPECT_CHILD(is_whole(first));
    };
    const crash_case<waiting_world> waiting[] = {{"take, waiting", take_two, check, need_all}};
    const crash_case<lagging_world> lagging[] = {
        {"take and release", take_two, check, need_all},
        {"close, with a sample in use",
         [](lagging_world& world) {
             const sample kept = world.victim->take(soon);
             world.victim.reset();
             EXPECT_CHILD(is_whole(kept));
         },
         check, need_all},
    };
    const crash_case<overtaken_world> overtaken[] = {
        {"take, overtaken",
         [](overtaken_world& world) {
             const sample got = world.victim->take(soon);
             EXPECT_CHILD(is_whole(got));
             EXPECT_CHILD(world.victim->stats().dropped == 2);
         },
         check, need_all}};
    const crash_case<blocking_world> blocking[] = {
        {"take and release, the publisher waits for room", take_two, check, publish_more}};
    const crash_case<needed_world> needed[] = {
        {"take and release, the publisher sleeps for room", take_two, check},
        {"close, the publisher sleeps for room", [](needed_world& world) { world.victim.reset(); },
         check},
    };
    crash_at_every_step(waiting);
    crash_at_every_step(lagging);
    crash_at_every_step(overtaken);
    crash_at_every_step(blocking);
    crash_at_every_step(needed);
}

namespace {

// One is in use, and the queue is full again.
struct holding_world : blocking_world {
    void enter() {
        blocking_world::enter();
        kept.emplace(victim->take(soon));
        ask();
    }
    std::optional<sample> kept;
};
// All chunks lie in its queue.
struct hoarding_world : lagging_world {
    hoarding_world() : lagging_world(with_chunks(2, {.queue = 2})) {}
};

// A thread that needs what the victim is about to give.
template <class World>
void start_needing(World& world, void (*need)(World&)) {
    world.stop_serving();
    world.seen.take(world.bystander);
    world.waiting.emplace([&world, need] {
        need(world);
        world.say->done = true;
    });
    world.waiting->wait_asleep_or_ended();
}

}  // namespace

TEST_CASE("a publisher that falls asleep at any step of a subscriber is woken",
          "[crash][publish]") {
    const auto check = [](auto& world, const crash_point& at) { world.check_all(at); };
    const auto need_room = [](auto& world, const crash_point&) {
        start_needing<std::remove_reference_t<decltype(world)>>(
            world, [](auto& its) { publish_next(its.paper, forever); });
    };
    const auto need_chunk = [](auto& world, const crash_point&) {
        start_needing<std::remove_reference_t<decltype(world)>>(
            world, [](auto& its) { its.paper.lend(forever); });
    };
    // Its death would wake, too.
    const crash_case<blocking_world> blocking[] = {
        {"take, a publisher needs room",
         [](blocking_world& world) {
             const sample kept = world.victim->take(soon);
             spin_until([&] { return world.say->done.load(); });
         },
         check, need_room, true}};
    const auto leave = [](holding_world& world) {
        IPCDOOR_STEP("close:begin");
        world.victim.reset();
        spin_until([&] { return world.say->done.load(); });
    };
    const crash_case<holding_world> holding[] = {
        {"close, a publisher needs room", leave, check, need_room, true}};
    const crash_case<hoarding_world> hoarding[] = {{"take and release, a publisher needs a chunk",
                                                    [](hoarding_world& world) {
                                                        EXPECT_CHILD(take_whole(*world.victim));
                                                        spin_until(
                                                            [&] { return world.say->done.load(); });
                                                    },
                                                    check, need_chunk, true}};
    crash_at_every_step(blocking);
    crash_at_every_step(holding);
    crash_at_every_step(hoarding);
}

TEST_CASE("a subscriber that is published to at any step of falling asleep wakes",
          "[crash][publish]") {
    const crash_case<member_world> cases[] = {
        {"take, awaited",
         [](member_world& world) { EXPECT_CHILD(is_whole(world.victim->take(forever))); },
         [](member_world& world, const crash_point& at) { world.check_all(at); },
         [](member_world& world, const crash_point&) { world.publish(); }, true}};
    crash_at_every_step(cases);
}
