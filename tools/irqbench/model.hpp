// SPDX-License-Identifier: MIT
//
// Owns: the result of a run, from which every report is made; nothing in it measures or prints.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "irqbench/clock.hpp"
#include "irqbench/histogram.hpp"
#include "irqbench/statistics.hpp"
#include "report/machine.hpp"

namespace irqbench {

using namespace report;

inline constexpr int report_output_version = 1;

// Where the two processes run and what else runs there.
struct scenario {
    bool same_cpu = false;
    bool loaded = false;

    bool operator==(const scenario&) const = default;
    std::string name() const;         // "apart-idle", the spelling of --scenario
    std::string description() const;  // "different CPUs, idle"
    static std::optional<scenario> parse(std::string_view name);
};

enum class measure { one_way, round_trip };
std::string_view to_string(measure m);

enum class method_kind {
    source,  // an interrupt source of the door, with stage stamps
    door,    // the same without stamps, as a method to compare
    peer,    // what the system offers without ipcdoor
};
std::string_view to_string(method_kind k);

// What the kernel's stamps tell of a source, sample by sample.
struct stages {
    std::array<histogram, stage_count> each_ns;  // as stage_names
    histogram handler_to_user_ns;
    std::uint64_t in_interrupt = 0;  // samples whose handler ran in hard interrupt
    std::map<unsigned, std::uint64_t> handler_cpus;
    std::vector<stage_split> splits;  // at p50 and p99
};

// One method in one scenario, measured one way or as a round trip.
struct cell {
    std::string method;
    method_kind kind = method_kind::peer;
    measure what = measure::one_way;
    scenario where;
    histogram total_ns;              // user space to user space
    histogram send_ns;               // one way only: the ringer's time in its call
    std::uint64_t awake = 0;         // dropped: the receiver did not sleep before the ring
    std::uint64_t unstamped = 0;     // dropped: stamps missing, or those of another delivery
    std::optional<stages> by_stage;  // sources only
};

struct absence {
    std::string method;
    std::string reason;
};

struct module_info {
    std::string version;
    unsigned abi_version = 0;
    std::string default_source;
    std::vector<std::string> sources;
};

struct parameters {
    std::string command_line;
    std::uint64_t interval_us = 0;
    std::uint64_t loops = 0;
    std::uint64_t side_loops = 0;
    std::uint64_t rounds = 0;
    std::uint64_t warmup = 0;
    int priority = 0;
    int load = 0;
    int ringer_cpu = 0;
    int waiter_cpu = 0;
};

struct run_report {
    std::string started;  // UTC, ISO 8601
    double duration_s = 0;
    machine on;
    std::optional<module_info> module;
    timestamp_cost clock_cost;
    parameters with;
    std::vector<cell> cells;
    std::vector<absence> absent;
    std::vector<std::string> notes;  // what the reader must know, one sentence each

    const cell* find(std::string_view method, method_kind kind, measure what,
                     const scenario& where) const;
    // Scenarios and methods in the order measured, each once.
    std::vector<scenario> scenarios() const;
    std::vector<std::string> methods(method_kind kind) const;

    // What stamping adds: sources of the main scenario beside the same ring without stamps.
    struct stamp_cost {
        std::string source;
        const cell* stamped;
        const cell* plain;
    };
    std::vector<stamp_cost> stamp_costs() const;
};

// A method's name for people: "UNIX stream" for "unix-stream", "ipcdoor msi" for "ipcdoor:msi".
std::string display_name(std::string_view method);

}  // namespace irqbench
