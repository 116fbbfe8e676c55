// SPDX-License-Identifier: MIT
// A publisher dies at any step: nobody sees half a sample, its subscribers get all that was
// published and are told, a successor takes its name. Also those that it lets in. And sleep,
// from every step to every step.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

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

// Two subscribers of the survivor: `alert` is armed, so the first sample rings; both take
// nothing before they are asked to.
struct publisher_world {
    explicit publisher_world(const publisher_options& wanted) : options(wanted) {
        // Does nothing before the victim's fork.
        joining.emplace([this] {
            spin_until([this] { return say->begun || say->over; });
            if (say->over) return;
            for (auto* reader : {&alert, &slow})
                reader->emplace(at, name, subscriber_options{}, soon);
            if (alert->try_take()) throw std::runtime_error("a sample before the first");
            say->joined = true;
        });
    }
    ~publisher_world() { say->over = true; }

    void enter() {
        victims_door.emplace(test_door());
        paper.emplace(*victims_door, name, options);
        say->begun = true;
        spin_until([this] {
            paper->poll();
            return say->joined.load();
        });
    }
    void publish(std::uint64_t count, deadline until = soon) {
        for (std::uint64_t i = 0; i < count; ++i) say->published = publish_next(*paper, until);
    }

    // A thread that sleeps for samples until the publisher is gone.
    void start_waiting() {
        joining->join();
        waiting.emplace([this] { alerts.take_to_the_end(*alert); });
        waiting->wait_asleep_or_ended();
    }

    // What the dead one has left.
    void check_readers(const crash_point& where) {
        joining->join();
        if (waiting)
            waiting->join();
        else
            alerts.take_to_the_end(*alert);
        slows.take_to_the_end(*slow);
        const std::uint64_t sure = say->published;
        for (const auto& [got, reader] : {std::pair(&alerts, &*alert), std::pair(&slows, &*slow)}) {
            CHECK(got->ended_with == EPIPE);
            const subscriber_stats stats = reader->stats();
            const std::uint64_t all = stats.taken + stats.dropped + stats.missed;
            CHECK(stats.taken == got->numbers.size());
            CHECK(all >= sure);
            CHECK(all <= sure + 1);
            if (options.slow == slow_subscriber::drop_oldest) CHECK(got->last() == all);
            if (options.slow == slow_subscriber::block) CHECK(got->is(1, all + 1));
        }
        if (has_made_room) return;
        // Who takes nothing finds what a full queue lets through.
        const std::uint64_t all = sure > slows.last() ? sure : slows.last();
        std::uint64_t queued = std::min<std::uint64_t>(options.queue, all);
        // The oldest was taken back for one that never came.
        const std::uint64_t here = slows.numbers.size();
        if (where.label == "publish:floor" || where.label == "publish:entry")
            if (here + 1 == queued) --queued;
        if (options.slow == slow_subscriber::drop_oldest)
            CHECK(slows.is(slows.last() + 1 - queued, slows.last() + 1));
        if (options.slow == slow_subscriber::drop_newest) CHECK(slows.is(1, queued + 1));
    }
    // A successor takes the name, and all subscribe anew.
    void check_successor() {
        publisher next(at, name, options);
        alert.emplace(subscribe(at, name, next));
        slow.emplace(subscribe(at, name, next));
        check_goes_on(at, name, options, next, {&*alert, &*slow});
    }
    void check_all(const crash_point& where) {
        check_readers(where);
        check_successor();
    }

    const publisher_options options;
    const std::string name = unique_name();
    door at = test_door();
    shared<news> say;
    std::optional<subscriber> alert;
    std::optional<subscriber> slow;
    takings alerts;
    takings slows;
    bool has_made_room = false;
    std::optional<door> victims_door;
    std::optional<publisher> paper;
    std::optional<blocking_thread> waiting;
    std::optional<blocking_thread> joining;
};

struct oldest_world : publisher_world {
    oldest_world() : publisher_world(with_chunks(16, {.queue = 2})) {}
};
struct newest_world : publisher_world {
    newest_world()
        : publisher_world(with_chunks(16, {.queue = 2, .slow = slow_subscriber::drop_newest})) {}
};

// Both queues are full.
struct full_world : publisher_world {
    explicit full_world(const publisher_options& wanted =
                            with_chunks(16, {.queue = 2, .slow = slow_subscriber::block}))
        : publisher_world(wanted) {}
    void enter() {
        publisher_world::enter();
        publish(2);
    }
    void make_room() {
        joining->join();
        has_made_room = true;
        for (const auto& [got, reader] : {std::pair(&alerts, &*alert), std::pair(&slows, &*slow)}) {
            const sample one = reader->take(soon);
            if (!is_whole(one)) throw std::runtime_error("a sample is torn");
            got->numbers.push_back(one.sequence());
        }
    }
};
// All chunks lie in them.
struct exhausted_world : full_world {
    exhausted_world() : full_world(with_chunks(2, {.queue = 2})) {}
};

// The survivor makes room when the publisher has armed both; mostly it sleeps by then.
template <class World>
struct helped : World {
    helped() {
        making_room.emplace([this] {
            spin_until([this] { return this->say->asked >= 2 || this->say->over; });
            if (!this->say->over) this->make_room();
        });
    }
    ~helped() { this->say->over = true; }
    void at_step(const char* label) {
        if (std::string_view(label) == "room:armed") ++this->say->asked;
    }
    void check_all(const crash_point& where) {
        // It may be making room at this moment: at most half of it would be asked for later.
        if (this->say->asked < 2) this->say->over = true;
        making_room->join();
        World::check_all(where);
    }
    std::optional<blocking_thread> making_room;
};

// A third subscriber comes while the victim looks who comes; there is a history.
struct newcomer_world : publisher_world {
    newcomer_world() : publisher_world(with_chunks(16, {.queue = 4, .history = 2})) {
        coming.emplace([this] {
            spin_until([this] { return say->asked != 0 || say->over; });
            if (say->over) return;
            try {
                subscriber late(at, name, {}, forever);
                in = true;
                lates.take_to_the_end(late);
            } catch (const error& wrong) {
                lates.ended_with = wrong.error_number();
            }
        });
    }
    ~newcomer_world() { say->over = true; }
    void enter() {
        publisher_world::enter();
        publish(3);
    }
    void let_in() {
        say->asked = 1;
        while (paper->subscribers() < 3) {
            paper->poll();
            std::this_thread::sleep_for(200us);
        }
    }
    void check_newcomer(const crash_point& where) {
        coming->join();
        // The listener is gone before it has been let in, or the publisher.
        CHECK((lates.ended_with == EPIPE || (!in && lates.ended_with == ECONNREFUSED)));
        // Of the history what was put, from its beginning.
        CHECK(lates.is(2, lates.numbers.size() + 2));
        CHECK(lates.numbers.size() <= 2);
        if (!where.killed) CHECK(lates.numbers.size() == 2);
        if (!where.killed || where.label == "greet:magic") CHECK(in);
    }
    takings lates;
    std::atomic<bool> in{false};
    std::optional<blocking_thread> coming;
};

// The third is a process that dies while the publisher, which lives, stands at a step.
struct dying_newcomer_world : publisher_world {
    dying_newcomer_world() : publisher_world(with_chunks(6, {.queue = 4, .history = 2})) {
        newcomer.emplace([this] {
            spin_until([this] { return say->asked != 0; });
            door mine = test_door();
            const subscriber late(mine, name, {}, soon);
            for (;;) ::pause();
            return 1;
        });
    }
    void enter() {
        publisher_world::enter();
        publish(3);
        say->asked = 1;
    }
    // Until it has been seen to come or, if it was never let in, to die.
    void let_in_and_out() {
        const auto& done = say->done;
        spin_until([&] {
            paper->poll();
            return (done || paper->stats().came == 3) && paper->subscribers() < 4;
        });
        if (!done) IPCDOOR_STEP("greet:done");
        spin_until([&] {
            paper->poll();
            return paper->subscribers() == 2;
        });
        EXPECT_CHILD(paper->stats().broken == 0);
        // More than the others leave, had it kept some.
        publish(10);
    }
    void kill_newcomer() {
        // It has done all that it can without the publisher.
        newcomer->wait_asleep();
        newcomer->kill();
        static_cast<void>(newcomer->wait());
        say->done = true;
    }
    std::optional<child> newcomer;
};

// There is no publisher yet.
struct no_publisher_world {
    void enter() { victims_door.emplace(test_door()); }
    const publisher_options options = with_chunks(16, {.queue = 2, .history = 1});
    const std::string name = unique_name();
    door at = test_door();
    std::optional<door> victims_door;
    std::optional<blocking_thread> coming;
    int came_to = 0;
};

}  // namespace

TEST_CASE("a publisher dies at each step of publishing", "[crash][publish]") {
    const auto check = [](auto& world, const crash_point& at) { world.check_all(at); };
    const auto wait = [](auto& world, const crash_point&) { world.start_waiting(); };
    const auto publish_four = [](auto& world) { world.publish(4); };
    const crash_case<oldest_world> oldest[] = {
        {"publish, drop_oldest", publish_four, check},
        {"publish, drop_oldest, a subscriber sleeps", publish_four, check, wait},
    };
    const crash_case<newest_world> newest[] = {
        {"publish, drop_newest", publish_four, check},
        {"publish, drop_newest, a subscriber sleeps", publish_four, check, wait},
    };
    crash_at_every_step(oldest);
    crash_at_every_step(newest);
}

TEST_CASE("a publisher dies at each step of waiting for room", "[crash][publish]") {
    const auto check = [](auto& world, const crash_point& at) { world.check_all(at); };
    const auto give_up = [](auto& world) {
        EXPECT_CHILD(error_of([&] { world.publish(1, 5ms); }) == ETIMEDOUT);
    };
    const auto publish_one = [](auto& world) { world.publish(1); };
    const crash_case<full_world> full[] = {{"publish, block, in vain", give_up, check}};
    const crash_case<exhausted_world> exhausted[] = {{"lend, in vain", give_up, check}};
    const crash_case<helped<full_world>> full_helped[] = {
        {"publish, block, until there is room", publish_one, check}};
    const crash_case<helped<exhausted_world>> exhausted_helped[] = {
        {"lend, until there is a chunk", publish_one, check}};
    crash_at_every_step(full);
    crash_at_every_step(exhausted);
    crash_at_every_step(full_helped);
    crash_at_every_step(exhausted_helped);
}

TEST_CASE("a publisher dies at each step of letting a subscriber in", "[crash][publish]") {
    const crash_case<newcomer_world> cases[] = {
        {"greet", [](newcomer_world& world) { world.let_in(); },
         [](newcomer_world& world, const crash_point& where) {
             world.check_newcomer(where);
             world.check_readers(where);
             world.check_successor();
         }}};
    crash_at_every_step(cases);
}

TEST_CASE("a subscriber dies at each step at which it is let in", "[crash][publish]") {
    const crash_case<dying_newcomer_world> cases[] = {
        {"greet, the newcomer dies", [](dying_newcomer_world& world) { world.let_in_and_out(); },
         [](dying_newcomer_world& world, const crash_point& at) { world.check_all(at); },
         [](dying_newcomer_world& world, const crash_point&) { world.kill_newcomer(); }, true, 10}};
    crash_at_every_step(cases);
}

TEST_CASE("a publisher dies at each step of its beginning", "[crash][publish]") {
    const crash_case<no_publisher_world> cases[] = {
        {"open",
         [](no_publisher_world& world) {
             publisher paper(*world.victims_door, world.name, world.options);
             for (int i = 0; i < 2; ++i) publish_next(paper);
         },
         [](no_publisher_world& world, const crash_point&) {
             if (world.coming) {
                 world.coming->join();
                 CHECK((world.came_to == ECONNREFUSED || world.came_to == EPIPE));
             }
             publisher next(world.at, world.name, world.options);
             check_goes_on(world.at, world.name, world.options, next, {});
         },
         // Somebody comes, and is not let in.
         [](no_publisher_world& world, const crash_point&) {
             world.coming.emplace([&world] {
                 world.came_to =
                     error_of([&] { subscriber never(world.at, world.name, {}, forever); });
             });
             world.coming->wait_asleep_or_ended();
         }}};
    crash_at_every_step(cases);
}

TEST_CASE("a subscriber that falls asleep at any step of publishing is woken", "[crash][publish]") {
    const crash_case<oldest_world> cases[] = {
        {"publish, slept for",
         [](oldest_world& world) {
             world.publish(1);
             // Its death would wake, too.
             spin_until([&] { return world.say->over.load(); });
         },
         [](oldest_world& world, const crash_point&) {
             world.waiting->join();
             CHECK(world.alerts.is(1, 2));
         },
         [](oldest_world& world, const crash_point&) {
             world.joining->join();
             world.waiting.emplace([&world] {
                 const sample got = world.alert->take(forever);
                 if (is_whole(got)) world.alerts.numbers.push_back(got.sequence());
                 world.say->over = true;
             });
             world.waiting->wait_asleep_or_ended();
         },
         true}};
    crash_at_every_step(cases);
}

TEST_CASE("a publisher that is made room for at any step of falling asleep wakes",
          "[crash][publish]") {
    const auto publish_one = [](auto& world) { world.publish(1, forever); };
    const auto check = [](auto& world, const crash_point& at) { world.check_all(at); };
    const auto make_room = [](auto& world, const crash_point&) { world.make_room(); };
    const crash_case<full_world> full[] = {
        {"publish, block, awaited", publish_one, check, make_room, true}};
    const crash_case<exhausted_world> exhausted[] = {
        {"lend, awaited", publish_one, check, make_room, true}};
    crash_at_every_step(full);
    crash_at_every_step(exhausted);
}
