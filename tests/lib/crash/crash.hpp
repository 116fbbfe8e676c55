// SPDX-License-Identifier: MIT
// Kills a process at each step of an operation on shared memory, and lets a test look at
// what it left. The steps are the labels IPCDOOR_STEP of the library's headers
// (ipcdoor/detail/step.hpp); everything in this folder is compiled with IPCDOOR_STEPS.
//
// A case is a line of a table: its name, what the victim does, and what must hold for the
// survivors. All three share a World, which is made anew for each death:
//
//     struct counter_world {
//         counter_world();             // in the survivor: the segment and the objects in it
//         void enter();                // in the victim: attaches, since nothing but memory
//         ...                          // survives fork()
//     };
//     const crash_case<counter_world> cases[] = {
//         {"add", [](counter_world& w) { w.victims->add(1); },
//          [](counter_world& w, const crash_point& at) { CHECK(w.survivors.check()); }},
//     };
//     TEST_CASE("a counter survives a death at each step", "[crash][counter]") {
//         crash_at_every_step(cases);
//     }
//
// For n = 1, 2, 3, ... a victim is forked, enters, and does its operation until the n-th step,
// where it stands still; `while_stopped`, if there is one, lets the survivor start
// something that has to wait for the victim; then the victim is killed, and `check` is
// called. The last victim of a case finds no n-th step and ends by itself: then
// crash_point::killed is false. Steps of enter() do not count, nor do those of processes
// other than the victim.
//
// With `goes_on` the victim is not killed, but goes on once `while_stopped` has returned, and
// has to come to its end: so something else happens between any two of its steps, as
// between a look and falling asleep, and a lost wake-up is found with certainty. A victim
// that has no n-th step and sleeps all the same gets its `while_stopped` there.
//
// A World may have at_step(const char* label), which is called in the victim at each of its steps,
// before it may be stopped there, and not after that: what other processes have to do at that
// very moment is asked for there.
//
// A run without a choice of test cases fails if a label that is compiled into the program has
// stopped no victim. It ends with the number of deaths; each case says its own.
//
// check() uses Catch2's assertions, which say at which step the victim died. The victim uses
// EXPECT_CHILD; what it throws is a failure, too.
#ifndef IPCDOOR_TESTS_LIB_CRASH_CRASH_HPP
#define IPCDOOR_TESTS_LIB_CRASH_CRASH_HPP

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ipcdoor::test {

// Where the victim ended.
struct crash_point {
    unsigned number = 0;  // the step, from 1
    std::string label;    // "operation:step"; empty where it was not stopped
    bool killed = false;  // false: it came to the end of its operation, perhaps after a stop
};

template <class World>
struct crash_case {
    const char* name;
    void (*victim)(World&);
    void (*check)(World&, const crash_point&);
    void (*while_stopped)(World&, const crash_point&) = nullptr;
    bool goes_on = false;
    unsigned at_most = 0;  // steps, of an operation that has no last one
};

// Calls `each` at every step of this process as long as it lives, in the thread that is there:
// what others do at the worst moment. One at a time.
class step_observer {
public:
    explicit step_observer(std::function<void(const std::string& label)> each);
    step_observer(const step_observer&) = delete;
    step_observer& operator=(const step_observer&) = delete;
    // No thread may be at a step any more.
    ~step_observer();

private:
    std::function<void(const std::string&)> each_;
};

namespace detail {

struct crash_run {
    std::function<void()> enter;
    std::function<void()> operate;
    std::function<void(const char*)> at_step;
    std::function<void(const crash_point&)> while_stopped;
    std::function<void(const crash_point&)> check;
    bool goes_on = false;
    unsigned at_most = 0;
};
// The labels at which victims were stopped, in order. `make` is called for each death.
std::vector<std::string> crash_at_every_step(const char* name,
                                             const std::function<crash_run()>& make);

}  // namespace detail

// Runs one case; the labels at which victims were stopped, in order. Fails where there is none.
template <class World>
std::vector<std::string> crash_at_every_step(const crash_case<World>& one) {
    return detail::crash_at_every_step(one.name, [&one] {
        const auto world = std::make_shared<World>();
        detail::crash_run run;
        run.enter = [world] { world->enter(); };
        run.operate = [world, &one] { one.victim(*world); };
        if constexpr (requires(const char* label) { world->at_step(label); })
            run.at_step = [world](const char* label) { world->at_step(label); };
        if (one.while_stopped != nullptr)
            run.while_stopped = [world, &one](const crash_point& at) {
                one.while_stopped(*world, at);
            };
        run.goes_on = one.goes_on;
        run.at_most = one.at_most;
        run.check = [world, &one](const crash_point& at) { one.check(*world, at); };
        return run;
    });
}

// Runs all of a table.
template <class World, std::size_t N>
void crash_at_every_step(const crash_case<World> (&table)[N]) {
    for (const crash_case<World>& one : table) crash_at_every_step(one);
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_CRASH_CRASH_HPP
