// SPDX-License-Identifier: MIT
//
// Owns: the result of a run, from which every report is made.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/registry.hpp"
#include "bench/system_calls.hpp"
#include "report/machine.hpp"
#include "report/spread.hpp"

namespace bench {

inline constexpr int output_version = 1;

struct parameters {
    std::string command_line;
    std::string filter;
    std::uint64_t repetitions = 0;
    std::uint64_t turn_ms = 0;
    std::uint64_t counted_operations = 0;
    bool quick = false;
};

// A contestant's figures, one for each turn.
struct timing {
    key who;
    bool own = false;
    std::uint64_t operations = 0;  // of a turn
    std::vector<double> cpu_ns;    // of an operation
    std::vector<double> wall_ns;
    call_count calls;
};

struct absence {
    key who;
    std::string reason;
    bool failed = false;  // not "this machine has it not"
};

// A comparison, or a number of system calls.
struct finding {
    std::string title;
    key of;
    std::optional<key> by;  // none: system calls
    report::spread value;
    std::optional<double> at_most;

    bool met() const { return !at_most || value.median <= *at_most; }
};

struct group_result {
    group what;  // as it was registered
    std::vector<timing> timings;
    std::vector<absence> absent;
    std::vector<finding> findings;

    // By the group's clock.
    const std::vector<double>& ns(const timing& of) const {
        return what.clock == clock::cpu ? of.cpu_ns : of.wall_ns;
    }
};

struct bench_report {
    std::string started;  // UTC, ISO 8601
    double duration_s = 0;
    report::machine on;
    parameters with;
    std::vector<group_result> groups;

    std::size_t goals(bool met) const;
    bool failed() const;  // something could not run
};

}  // namespace bench
