// SPDX-License-Identifier: MIT
// What the cases of semaphores, mutexes, conditions and barriers share.
#ifndef IPCDOOR_TESTS_LIB_CRASH_SYNC_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_CRASH_SYNC_SUPPORT_HPP

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <ipcdoor/detail/shared_object.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>

#include "lib/crash/crash.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

namespace ipcdoor::test {

// Between victim and survivor.
struct sync_news {
    std::atomic<bool> begun{false};         // the victim has attached
    std::atomic<bool> ready{false};         // the survivor's sleepers sleep
    std::atomic<bool> over{false};          // nothing is to be done for the victim any more
    std::atomic<std::uint32_t> asked{0};    // of the survivor, by the victim
    std::atomic<std::uint32_t> done{0};     // things that the survivor's threads have done
    std::atomic<std::uint32_t> begins{0};   // sleepers that have begun
    std::atomic<std::uint32_t> victims{0};  // things that the victim has done
    std::atomic<pid_t> victim{0};
};

inline void await_asleep_or_gone(pid_t pid) {
    try {
        wait_thread_asleep(pid, pid);
    } catch (const std::runtime_error&) {
        // It was killed meanwhile.
    }
}

template <class Options>
Options on_this_source(Options options) {
    options.source = source();
    options.members = 8;
    return options;
}
template <class Options>
Options only_open() {
    Options options = on_this_source(Options{});
    options.how = opening::open_only;
    return options;
}

// The object is open twice in the survivor, as `here` and `other`, and once in the victim.
template <class Object, class Options>
struct sync_world {
    explicit sync_world(const Options& wanted)
        : options(on_this_source(wanted)), here(at, name, options), other(at, name, options) {}
    sync_world(const sync_world&) = delete;
    sync_world& operator=(const sync_world&) = delete;
    ~sync_world() { say->over = true; }

    void enter() {
        victims_door.emplace(test_door());
        victims.emplace(*victims_door, name, options);
        begin();
    }
    // In the victim: waits for the sleepers, if there are any.
    void begin() {
        say->victim = ::getpid();
        say->begun = true;
        if (sleepers != 0) spin_until([this] { return say->ready.load(); });
    }

    // ---- for constructors: threads that do nothing before the victim has attached ----

    // Sleeps when the victim's steps begin.
    void add_sleeper(std::function<void()> work) {
        ++sleepers;
        helpers.emplace_back([this, run = std::move(work)] {
            spin_until([this] { return say->begun || say->over; });
            if (!say->begun) return;
            ++say->begins;
            run();
        });
    }
    // After the last sleeper.
    void watch_sleepers() {
        helpers.emplace_back([this] {
            spin_until([this] { return say->begins == sleepers || say->over; });
            for (std::size_t i = 0; i < sleepers; ++i) helpers[i].wait_asleep_or_ended();
            say->ready = true;
        });
    }
    // What the victim asks for; not done where it has died before.
    void add_answer(std::function<void()> work) {
        helpers.emplace_back([this, run = std::move(work)] {
            spin_until([this] { return say->asked != 0 || say->over; });
            if (say->asked != 0) run();
        });
    }

    // ---- for while_stopped ----

    // A thread, asleep or done when this returns.
    void start(std::function<void()> work) {
        helpers.emplace_back(std::move(work)).wait_asleep_or_ended();
    }

    // ---- for checks ----

    void join_all() {
        say->over = true;
        for (blocking_thread& one : helpers) one.join();
    }

    const Options options;
    const std::string name = unique_name();
    door at = test_door();
    Object here;
    Object other;
    shared<sync_news> say;
    std::optional<door> victims_door;
    std::optional<Object> victims;
    std::size_t sleepers = 0;  // the first of the helpers
    std::deque<blocking_thread> helpers;
};

// ---- who makes an object dies at it ----
//
// A Kind has the type `object`, options(bool of_victim), and with assertions
// check_maker(object, bool victim), by what the options say, and use(first, second).

// Whether it was ready when the victim died.
inline bool was_made(const crash_point& where) {
    for (const char* label : {"attached", "maker", "entered", "zeroed", "filled", "versions"})
        if (where.label == std::string("open:") + label) return false;
    return true;
}

template <class Kind>
struct opening_world {
    using object = typename Kind::object;

    void enter() { victims_door.emplace(test_door()); }
    void open_as_victim() { object made(*victims_door, name, Kind::options(true)); }

    // Comes while the victim stands at its step.
    void come(opening how) {
        coming.emplace([this, how] {
            came_to = error_of([&] {
                auto options = Kind::options(false);
                options.how = how;
                mine.emplace(at, name, options);
            });
        });
        coming->wait_asleep_or_ended();
    }
    // The first one after the victim, if nobody has come, and a second one.
    void check_usable(bool made_by_victim) {
        if (coming) coming->join();
        if (!mine) mine.emplace(at, name, Kind::options(false));
        Kind::check_maker(*mine, made_by_victim);
        auto options = Kind::options(false);
        options.how = opening::open_only;
        object second(at, name, options);
        Kind::use(*mine, second);
    }
    const std::string name = unique_name();
    door at = test_door();
    std::optional<door> victims_door;
    std::optional<object> mine;
    int came_to = 0;
    std::optional<blocking_thread> coming;
};

// There is one already.
template <class Kind>
struct attaching_world : opening_world<Kind> {
    attaching_world() { this->mine.emplace(this->at, this->name, Kind::options(false)); }
};

// In DATA of an endpoint of the survivor's.
template <class Kind>
struct placing_world {
    using object = typename Kind::object;

    placing_world()
        : end(at.create(name, {.data_bytes = 8192, .slots = 8, .source = source()})),
          second_end(at.attach(name)) {}
    void enter() {
        victims_door.emplace(test_door());
        victims_end.emplace(victims_door->attach(name));
    }
    void open_as_victim() { object made(*victims_end, where, Kind::options(true)); }
    void come() {
        coming.emplace([this] { mine.emplace(end, where, Kind::options(false)); });
        coming->wait_asleep_or_ended();
    }
    void check_usable(bool made_by_victim) {
        if (coming) coming->join();
        if (!mine) mine.emplace(end, where, Kind::options(false));
        Kind::check_maker(*mine, made_by_victim);
        object second(second_end, where, Kind::options(false));
        Kind::use(*mine, second);
    }

    static constexpr place where{256, 9};
    const std::string name = unique_name();
    door at = test_door();
    endpoint end;
    endpoint second_end;
    std::optional<door> victims_door;
    std::optional<endpoint> victims_end;
    std::optional<object> mine;
    std::optional<blocking_thread> coming;
};

template <class Kind>
void crash_at_every_step_of_opening() {
    using named = opening_world<Kind>;
    using there = attaching_world<Kind>;
    using placed = placing_world<Kind>;
    const auto open = [](auto& world) { world.open_as_victim(); };
    const crash_case<named> opened[] = {
        // The name is free when its last user is gone.
        {"open, somebody comes later", open,
         [](named& world, const crash_point&) { world.check_usable(false); }},
        {"open, somebody comes meanwhile", open,
         [](named& world, const crash_point& at) {
             world.check_usable(at.killed && was_made(at));
             CHECK(world.came_to == 0);
         },
         [](named& world, const crash_point&) { world.come(opening::open_or_create); }},
        {"open, somebody wants what is there", open,
         [](named& world, const crash_point& at) {
             world.check_usable(at.killed && was_made(at));
             CHECK(world.came_to == (was_made(at) ? 0 : ENOENT));
         },
         [](named& world, const crash_point&) { world.come(opening::open_only); }},
    };
    const crash_case<there> attached[] = {
        {"open what is there", open,
         [](there& world, const crash_point&) { world.check_usable(false); }}};
    const crash_case<placed> in_data[] = {
        {"open in DATA", open,
         [](placed& world, const crash_point& at) { world.check_usable(was_made(at)); }},
        {"open in DATA, somebody comes meanwhile", open,
         [](placed& world, const crash_point& at) { world.check_usable(was_made(at)); },
         [](placed& world, const crash_point&) { world.come(); }},
    };
    crash_at_every_step(opened);
    crash_at_every_step(attached);
    crash_at_every_step(in_data);
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_CRASH_SYNC_SUPPORT_HPP
