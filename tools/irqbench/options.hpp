// SPDX-License-Identifier: MIT
//
// Owns: the command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/exit_status.hpp"
#include "irqbench/compare/run.hpp"
#include "irqbench/model.hpp"

namespace irqbench {

using namespace common;

// Beside those of all tools.
inline constexpr int exit_no_module = 3;
inline constexpr int exit_over_limit = 4;

enum class command { run, info, instructions, validate, report, compare };

struct options {
    command what = command::run;

    std::string door = "door:/dev/ipcdoor0";
    std::vector<std::string> sources;  // what is to be measured, already resolved
    std::vector<std::string> methods;
    bool sources_named = false;  // --source was given: an absent one is an error
    bool methods_named = false;
    std::vector<scenario> scenarios;

    std::uint64_t interval_us = 50;
    std::uint64_t loops = 10'000;
    std::uint64_t side_loops = 0;  // resolved: a twentieth of loops unless given
    bool side_loops_named = false;
    std::uint64_t rounds = 10;
    std::uint64_t warmup = 10;
    double duration_s = 0;  // 0: loops decide
    int priority = 0;
    std::vector<int> affinity;  // waiter, then ringer
    int load = 1;

    std::uint64_t histogram_us = 0;
    std::string histfile;
    std::string json;
    std::string html;
    std::string svg;
    std::string report_input;
    bool report_summary = false;  // of a comparison: ratios only
    std::uint64_t max_latency_ns = 0;
    bool quiet = false;

    std::uint64_t repetitions = 9;  // instructions
    std::uint64_t round_trips = 1'000;

    std::string command_line;

    compare::compare_options comparison;
};

// Returns true if the program is to go on with `out`; otherwise it is over with `status` (help,
// version and usage errors were printed).
bool parse_command_line(int argc, char** argv, options& out, int& status);

// Replaces "all" and drops "none"; throws CLI::ValidationError for an unknown name.
std::vector<std::string> resolve_names(const std::vector<std::string>& named,
                                       const std::vector<std::string>& all, const char* option);

// Seconds from "90", "90s", "2m", "1h" or "1d"; throws std::invalid_argument.
double parse_duration(const std::string& text);

}  // namespace irqbench
