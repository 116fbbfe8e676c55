// SPDX-License-Identifier: MIT
// A publisher or a subscriber dies at any step: nobody sees half a sample, whoever is left
// goes on or is told, every chunk comes back. And sleep, from every step to every step.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/crash/crash.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// ---- samples that cannot be mistaken ----

std::size_t size_of(std::uint64_t number) { return 64 + number * 1031 % 4000; }

void fill(loan& into, std::uint64_t number) {
    const std::string content = pattern(number, size_of(number));
    const std::size_t half = content.size() / 2;
    std::memcpy(into.bytes().data(), content.data(), half);
    IPCDOOR_STEP("fill:half");
    std::memcpy(into.bytes().data() + half, content.data() + half, content.size() - half);
    IPCDOOR_STEP("fill:whole");
    into.resize(content.size());
}

std::uint64_t publish_next(publisher& paper, deadline until = soon) {
    loan next = paper.lend(until);
    // Nobody else publishes meanwhile.
    fill(next, paper.stats().published + 1);
    return paper.publish(std::move(next), until);
}

bool is_whole(const sample& got) {
    const std::string content = pattern(got.sequence(), size_of(got.sequence()));
    return got.size() == content.size() &&
           std::memcmp(got.bytes().data(), content.data(), got.size()) == 0;
}

// All numbers that are there; throws where one is not whole, or they are not in order.
struct takings {
    std::vector<std::uint64_t> numbers;
    int ended_with = 0;  // the errno value of the end, 0: nothing more for now

    void take(subscriber& from) {
        take_while(from, [&] { return from.try_take(); });
    }
    // Sleeps until the publisher is gone.
    void take_to_the_end(subscriber& from) {
        take_while(from, [&] { return std::optional<sample>(from.take(forever)); });
    }
    std::uint64_t last() const { return numbers.empty() ? 0 : numbers.back(); }
    bool is(std::uint64_t first, std::uint64_t end) const {
        if (numbers.size() != end - first) return false;
        for (std::size_t i = 0; i < numbers.size(); ++i)
            if (numbers[i] != first + i) return false;
        return true;
    }

private:
    template <class Next>
    void take_while(subscriber&, Next next) {
        try {
            while (const std::optional<sample> got = next()) {
                if (!is_whole(*got)) throw std::runtime_error("a sample is torn");
                if (got->sequence() <= last()) throw std::runtime_error("out of order");
                numbers.push_back(got->sequence());
            }
        } catch (const error& wrong) {
            ended_with = wrong.error_number();
        }
    }
};

// ---- what both kinds of worlds have ----

// Between the processes.
struct news {
    std::atomic<bool> begun{false};           // the victim has something to connect to
    std::atomic<bool> joined{false};          // the survivor's subscribers
    std::atomic<bool> done{false};            // what was waited for has come
    std::atomic<bool> over{false};            // nothing is to be done for the victim any more
    std::atomic<std::uint64_t> published{0};  // by the victim, at least
    std::atomic<std::uint64_t> asked{0};      // of the survivor, by the victim
};

// All that are not history can be lent at once.
publisher_options with_chunks(std::uint32_t chunks, publisher_options options) {
    options.source = source();
    options.max_held = 2;
    options.chunks = chunks;
    options.max_loans = chunks - options.history;
    return options;
}

// Subscribes, while `paper` lets in whoever comes.
subscriber subscribe(door& at, const std::string& name, publisher& paper) {
    std::atomic<bool> in{false};
    blocking_thread letting_in([&] {
        while (!in) {
            paper.poll();
            std::this_thread::sleep_for(200us);
        }
    });
    struct at_end {
        std::atomic<bool>& flag;
        ~at_end() { flag = true; }
    } const ends{in};
    return subscriber(at, name, {}, soon);
}

// Nobody has any but those that are history.
void lend_all(publisher& paper, const publisher_options& options, deadline until = soon) {
    std::vector<loan> all;
    while (all.size() < options.max_loans) all.push_back(paper.lend(until));
}

// A newcomer is let in and gets the history; all get what is published, and no chunk is lost.
void check_goes_on(door& at, const std::string& name, const publisher_options& options,
                   publisher& paper, const std::vector<subscriber*>& left) {
    const std::uint64_t last = paper.stats().published;
    subscriber late = subscribe(at, name, paper);
    takings history;
    history.take(late);
    const std::uint64_t had = std::min<std::uint64_t>(options.history, last);
    CHECK(history.is(last + 1 - had, last + 1));
    for (std::uint64_t i = 1; i <= 3 * options.queue; ++i) {
        REQUIRE(publish_next(paper) == last + i);
        for (subscriber* reader : left) {
            takings got;
            got.take(*reader);
            REQUIRE(got.is(last + i, last + i + 1));
        }
        takings got;
        got.take(late);
        REQUIRE(got.is(last + i, last + i + 1));
    }
    lend_all(paper, options);
    CHECK(paper.stats().broken == 0);
}

// ---- the publisher dies ----

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

// ---- a subscriber dies ----

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
