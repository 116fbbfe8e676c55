// SPDX-License-Identifier: MIT
//
// Owns: the schedule of a run: which method is measured when, where and how often, and what becomes
// of its samples.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "irqbench/model.hpp"
#include "irqbench/options.hpp"

namespace irqbench {

// One column of the cyclictest-like histogram: one-way samples by whole microseconds.
struct microsecond_histogram {
    std::string method;
    std::vector<std::uint64_t> counts;  // counts[i]: i <= sample < i + 1 us
    std::uint64_t overflows = 0;
    std::uint64_t count = 0;
    std::uint64_t min_us = UINT64_MAX;
    std::uint64_t max_us = 0;
    std::uint64_t sum_us = 0;

    void record(std::uint64_t ns);
};

struct run_result {
    run_report report;
    std::vector<microsecond_histogram> by_microsecond;  // of the main scenario, with --histogram
};

// Measures. Throws door_absent, or std::runtime_error where a method failed.
run_result measure_all(const options& o);

// The CPUs of --affinity, or the first two allowed; ringer == waiter where there is only one.
struct placement {
    int waiter_cpu;
    int ringer_cpu;
};
placement choose_cpus(const std::vector<int>& asked, const std::vector<int>& allowed);

}  // namespace irqbench
