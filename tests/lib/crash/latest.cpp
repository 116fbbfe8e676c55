// SPDX-License-Identifier: MIT
// Latest values whose writer dies at any step: the value before, or the new one, whole. And
// sleep, from every step to every step.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include <ipcdoor/latest.hpp>

#include "lib/crash/crash.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

namespace {

using sample = std::array<std::uint64_t, 4>;

sample of(std::uint64_t number) { return {number, number, number, number}; }

latest_options options() {
    latest_options wanted;
    wanted.source = source();
    return wanted;
}

// A cell with some values that its writer left to a reader.
struct latest_world {
    latest_world() : name(unique_name()), at(test_door()) {
        latest_writer<sample> first(at, name, options());
        for (std::uint64_t i = 1; i <= 5; ++i) first.write(of(i));
        in.emplace(at, name);
    }
    void enter() {
        victims_door.emplace(test_door());
        out.emplace(*victims_door, name, options());
    }
    // The value's number is its content; a new writer goes on.
    void check_whole(std::uint64_t least, std::uint64_t most) {
        const auto left = in->read();
        CHECK(left.sequence >= least);
        CHECK(left.sequence <= most);
        CHECK(left.value == of(left.sequence));
        // Being dead is told after the last value.
        CHECK(error_of([&] { (void)in->wait_newer(left.sequence, soon); }) == EPIPE);
        latest_writer<sample> next(at, name, options(), soon);
        CHECK(next.sequence() == left.sequence);
        CHECK(in->read().value == of(left.sequence));
        for (std::uint64_t i = 1; i <= 5; ++i) {
            CHECK(next.write(of(left.sequence + i)) == left.sequence + i);
            CHECK(in->wait_newer(left.sequence + i - 1, soon)->value == of(left.sequence + i));
        }
    }

    // A thread that waits for the sixth value, asleep or done when this returns.
    void start_reader() {
        waiting.emplace([this] {
            // Nothing but a ring ends it before the test's own deadline.
            const auto got = in->wait_newer(5, std::chrono::hours(1));
            CHECK_IN_THREAD(got && got->value == of(6));
            *finished = 1;
        });
        waiting->wait_asleep_or_ended();
    }

    std::string name;
    door at;
    std::optional<latest_reader<sample>> in;
    std::optional<door> victims_door;
    std::optional<latest_writer<sample>> out;
    shared<std::atomic<int>> finished;
    std::optional<blocking_thread> waiting;
};

// Where there is a reader, but no cell yet.
struct bare_world {
    bare_world()
        : name(unique_name()),
          at(test_door()),
          end(at.create(
              name,
              {.data_bytes = latest_data_bytes(sizeof(sample)), .slots = 4, .source = source()})) {
        in.emplace(at, name);
        end.close();
    }
    void enter() { victims_door.emplace(test_door()); }

    std::string name;
    door at;
    endpoint end;
    std::optional<latest_reader<sample>> in;
    std::optional<door> victims_door;
};

}  // namespace

TEST_CASE("a latest value survives a death at each step of a write", "[crash][latest]") {
    const crash_case<latest_world> cases[] = {
        {"write", [](latest_world& world) { world.out->write(of(6)); },
         [](latest_world& world, const crash_point& at) {
             world.check_whole(at.killed ? 5 : 6, 6);
         },
         // While it stands there, alive, nobody waits for it.
         [](latest_world& world, const crash_point&) {
             const auto seen = world.in->read();
             CHECK(seen.value == of(seen.sequence));
         }},
        {"seven writes",
         [](latest_world& world) {
             for (std::uint64_t i = 6; i <= 12; ++i) world.out->write(of(i));
         },
         [](latest_world& world, const crash_point&) { world.check_whole(5, 12); }},
        {"a new writer",
         [](latest_world& world) {
             world.out.reset();
             latest_writer<sample> again(*world.victims_door, world.name, options(), soon);
         },
         [](latest_world& world, const crash_point&) { world.check_whole(5, 5); }},
    };
    crash_at_every_step(cases);
}

TEST_CASE("a reader that falls asleep at any step of a write is woken", "[crash][latest]") {
    const crash_case<latest_world> cases[] = {
        {"write, slept for",
         [](latest_world& world) {
             world.out->write(of(6));
             // Its death would wake, too.
             spin_until([&] { return *world.finished == 1; });
         },
         [](latest_world& world, const crash_point&) {
             world.waiting.reset();
             CHECK(world.in->read().value == of(6));
         },
         [](latest_world& world, const crash_point&) { world.start_reader(); }, true}};
    crash_at_every_step(cases);
}

TEST_CASE("a cell survives a death at each step of its making", "[crash][latest]") {
    const crash_case<bare_world> cases[] = {
        {"create",
         [](bare_world& world) {
             latest_writer<sample> out(*world.victims_door, world.name, options(), soon);
             out.write(of(1));
         },
         [](bare_world& world, const crash_point&) {
             latest_writer<sample> next(world.at, world.name, options(), soon);
             CHECK(next.sequence() <= 1);
             const std::uint64_t sequence = next.write(of(next.sequence() + 1));
             CHECK(world.in->wait_newer(sequence - 1, soon)->value == of(sequence));
         }},
    };
    crash_at_every_step(cases);
}

namespace {

// A reader that waits, of a writer that lives in the test's own process.
struct waiting_world {
    waiting_world() : name(unique_name()), at(test_door()), out(at, name, options()) {
        out.write(of(1));
    }
    void enter() {
        victims_door.emplace(test_door());
        in.emplace(*victims_door, name);
        // Until the writer knows it.
        *entered = 1;
        spin_until([this] { return *entered == 2; });
    }
    // Tells the victim to begin when the writer knows it, or at once.
    void introduce(bool known) {
        introducing.emplace([this, known] {
            spin_until([this] { return *entered == 1; });
            if (known) {
                std::this_thread::sleep_for(std::chrono::milliseconds(11));
                out.write(of(2));
            }
            *entered = 2;
        });
    }

    std::string name;
    door at;
    latest_writer<sample> out;
    shared<std::atomic<int>> entered;
    std::optional<blocking_thread> introducing;
    std::optional<door> victims_door;
    std::optional<latest_reader<sample>> in;
};

struct known_world : waiting_world {
    known_world() { introduce(true); }
};
struct unknown_world : waiting_world {
    unknown_world() { introduce(false); }
};

}  // namespace

TEST_CASE("a reader that is written to at any step of falling asleep wakes", "[crash][latest]") {
    const auto nothing = [](auto&, const crash_point&) {};
    const crash_case<known_world> known[] = {
        {"wait_newer",
         [](known_world& world) {
             // Far beyond the deadline of the harness: nothing but a ring ends it.
             EXPECT_CHILD(world.in->wait_newer(2, std::chrono::hours(1))->value == of(3));
         },
         nothing,
         [](known_world& world, const crash_point&) {
             world.introducing->join();
             world.out.write(of(3));
         },
         true}};
    const crash_case<unknown_world> unknown[] = {
        {"wait_newer, not known yet",
         [](unknown_world& world) {
             EXPECT_CHILD(world.in->wait_newer(1, std::chrono::hours(1))->value == of(2));
         },
         nothing, [](unknown_world& world, const crash_point&) { world.out.write(of(2)); }, true,
         20}};
    crash_at_every_step(known);
    crash_at_every_step(unknown);
}
