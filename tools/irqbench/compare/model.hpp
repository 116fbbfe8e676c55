// SPDX-License-Identifier: MIT
//
// Owns: the result of a comparison, from which its reports are made; nothing in it measures or
// prints.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "irqbench/clock.hpp"
#include "report/machine.hpp"

namespace irqbench::compare {

using namespace report;

inline constexpr int compare_output_version = 1;

// One method at one size; by rounds, in the order measured. Times in nanoseconds.
struct figures {
    std::vector<double> p50_ns;  // round trip, median of the round
    std::vector<double> p99_ns;
    std::vector<double> per_s;   // messages, calls or events a second
    std::uint64_t samples = 0;   // round trips
    std::uint64_t streamed = 0;  // messages, calls or events of the throughput

    // Medians of the rounds.
    double median_p50_ns() const;
    double median_p99_ns() const;
    double median_per_s() const;
};

// How ipcdoor's method stands beside its counterpart.
enum class verdict { faster, equal, slower };
// Equal is also what a busy machine does to any figure: a difference counts if it is larger than
// this and three rounds in four agree which of the two is faster.
inline constexpr int equal_within_percent = 5;
verdict verdict_of(double speedup, const std::vector<double>& by_round);
std::string_view to_string(verdict v);

// One line: a method and its counterpart at one size.
struct match {
    std::size_t bytes = 0;
    figures own;
    figures counterpart;

    // How many times as fast ipcdoor's is, above 1 where it is faster: of the medians, and of each
    // round.
    double speedup(bool throughput) const;
    std::vector<double> speedups(bool throughput) const;
    verdict outcome(bool throughput) const {
        return verdict_of(speedup(throughput), speedups(throughput));
    }
};

struct missing {
    std::string method;  // which of the two is not there
    std::size_t bytes = 0;
    std::string reason;
};

// All sizes of a method and one counterpart.
struct contest {
    std::string method;
    std::string counterpart;
    bool events = false;  // carries a number at most: one size, throughput in events
    bool calls = false;   // throughput is what one caller gets, one call after the other
    std::vector<match> matches;
    std::vector<missing> absent;
};

struct compare_parameters {
    std::string command_line;
    std::string door;     // URI
    std::string backend;  // "kernel", "soft"
    std::string source;   // of interrupts
    std::string module_version;
    std::vector<std::size_t> sizes;
    std::uint64_t rounds = 0;
    std::uint64_t turn_ns = 0;
    int ringer_cpu = 0;
    int waiter_cpu = 0;
};

struct compare_report {
    std::string started;  // UTC, ISO 8601
    double duration_s = 0;
    machine on;
    timestamp_cost clock_cost;
    compare_parameters with;
    std::vector<contest> contests;
};

// From "64", "4K", "4KiB", "1M"; throws std::invalid_argument.
std::size_t parse_size(const std::string& text);

// For people.
std::string method_title(const std::string& method);

// Why ipcdoor's method is slower there, as far as it is known; "" where it is not. reasons.cpp says
// how each was found.
std::string known_reason(const contest& c, const match& m, bool throughput,
                         const compare_parameters& with);

}  // namespace irqbench::compare
