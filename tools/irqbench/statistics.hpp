// SPDX-License-Identifier: MIT
//
// Owns: figures drawn from samples: the summary of a histogram, and how the time of the samples
// around a percentile is split into stages.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "irqbench/histogram.hpp"
#include "report/spread.hpp"

namespace irqbench {

using namespace report;

// All in the unit of the samples.
struct summary {
    std::uint64_t count = 0;
    std::uint64_t min = 0;
    double mean = 0;
    std::uint64_t p50 = 0;
    std::uint64_t p90 = 0;
    std::uint64_t p99 = 0;
    std::uint64_t p99_9 = 0;
    std::uint64_t max = 0;
};

summary summarise(const histogram& samples);

// 0 of nothing.
double percent_of(std::uint64_t part, std::uint64_t whole);

// The stages of one way, from just before the ringer's call to just after the receiver's returned:
// into the kernel, until the handler runs, until the receiver is runnable, until it runs.
inline constexpr std::size_t stage_count = 4;
inline constexpr std::array<const char*, stage_count> stage_keys{"call_to_ring", "ring_to_handler",
                                                                 "handler_to_wake", "wake_to_user"};
inline constexpr std::array<const char*, stage_count> stage_names{
    "call to ring", "ring to handler", "handler to wake", "wake to user"};

using stage_sample = std::array<std::uint32_t, stage_count>;  // nanoseconds

struct stage_split {
    double percent = 0;       // of the samples, by their total
    std::size_t samples = 0;  // that were averaged
    std::array<double, stage_count> mean_ns{};
};

// Percentiles of single stages do not add up to the percentile of their sum, as the worst samples
// of each stage are different ones. So: the mean stages of those samples whose total ranks within
// `band` percentage points around `percent`; these add up. Rearranges `samples`.
stage_split split_at(std::vector<stage_sample>& samples, double percent, double band = 0.5);

}  // namespace irqbench
