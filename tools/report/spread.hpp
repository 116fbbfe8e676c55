// SPDX-License-Identifier: MIT
//
// Owns: median and spread of a few repetitions.
#pragma once

#include <cstddef>
#include <vector>

namespace report {

// Of a few repetitions, exact; with an even number the median is the mean of the middle two.
struct spread {
    std::size_t repetitions = 0;
    double median = 0;
    double min = 0;
    double max = 0;
};

spread spread_of(std::vector<double> repetitions);

}  // namespace report
