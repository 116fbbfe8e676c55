// SPDX-License-Identifier: MIT
//
// Owns: running cyclictest(8) and reading its histogram.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace irqbench {

// The text of `cyclictest -q -h N -t 1`: count by whole microseconds. Throws std::runtime_error
// where it is something else.
struct cyclictest_histogram {
    std::vector<std::uint64_t> counts;  // counts[i]: i <= latency < i + 1 us
    std::uint64_t overflows = 0;

    std::uint64_t count() const;
    void merge(const cyclictest_histogram& other);
    // Interpolated within the microsecond, in ns; throws where it lies among the overflows.
    double percentile_ns(double percent) const;
};
cyclictest_histogram parse_cyclictest(const std::string& output);

// Not installed; the text names the package.
struct cyclictest_absent : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Runs it from PATH with one thread on `cpu`, leaving the system's tuning alone as irqbench does.
cyclictest_histogram run_cyclictest(int cpu, int priority, std::uint64_t interval_us,
                                    std::uint64_t loops);

}  // namespace irqbench
