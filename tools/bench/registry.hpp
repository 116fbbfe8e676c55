// SPDX-License-Identifier: MIT
//
// Owns: what there is to be measured. A group has contestants, which take turns, and findings:
// ratios of two of them, and numbers of system calls, each with a goal or without.
//
// A file of groups/ registers its part of a group before main(), and several may add to one:
//
//     const bench::part here("lock", [](bench::group& g) {
//         g.add({.name = "spin", .make = [] { return bench::make_work<spin>(); }});
//         g.compare({.title = "ipcdoor::mutex : spin", .of = {"ipcdoor::mutex"}, .by = {"spin"}});
//     });
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/work.hpp"

namespace bench {

// A contestant of a group: its name, and its place on the group's axis where that has one.
struct key {
    std::string name;
    double x = 0;

    bool operator==(const key&) const = default;
};

struct contestant {
    std::string name;
    double x = 0;
    bool own = false;  // ipcdoor's
    std::function<std::unique_ptr<work>()> make;
};

// The time of `of` for each nanosecond of `by`, round by round.
struct comparison {
    std::string title;
    key of;
    key by;
    std::optional<double> at_most{};  // the goal, of the median
};

// System calls of an operation.
struct call_goal {
    std::string title;
    key of;
    double at_most = 0;
};

// What of a turn counts. cpu, of the measuring thread: for what neither sleeps nor has others work
// for it, so that what else runs on the machine stays out of it.
enum class clock { cpu, wall };

enum class axis_kind { none, bytes, number };

struct group {
    std::string name;
    std::string title;
    std::string operation;  // what is done once, in a sentence
    axis_kind axis = axis_kind::none;
    std::string axis_title;
    bench::clock clock = bench::clock::cpu;
    std::vector<contestant> contestants;
    std::vector<comparison> comparisons;
    std::vector<call_goal> call_goals;

    void add(contestant what) { contestants.push_back(std::move(what)); }
    void compare(comparison what) { comparisons.push_back(std::move(what)); }
    void limit_calls(call_goal what) { call_goals.push_back(std::move(what)); }

    // "64 B", "8"; "" without an axis.
    std::string label(double x) const;
    std::string label(const key& of) const;  // with the name
};

// The parts are put together in the order of their files' names.
class part {
public:
    part(std::string group_name, std::function<void(group&)> add,
         const char* file = __builtin_FILE());
};

// In the order of their names' first parts.
std::vector<group> all_groups();

}  // namespace bench
