// SPDX-License-Identifier: MIT
#include "report/spread.hpp"

#include <algorithm>

namespace report {

spread spread_of(std::vector<double> repetitions) {
    if (repetitions.empty()) return {};
    std::sort(repetitions.begin(), repetitions.end());
    const std::size_t n = repetitions.size();
    const double median =
        n % 2 == 1 ? repetitions[n / 2] : (repetitions[n / 2 - 1] + repetitions[n / 2]) / 2.0;
    return {n, median, repetitions.front(), repetitions.back()};
}

}  // namespace report
