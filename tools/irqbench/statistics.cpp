// SPDX-License-Identifier: MIT
#include "irqbench/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace irqbench {

namespace {

std::uint64_t total_ns(const stage_sample& s) {
    return std::accumulate(s.begin(), s.end(), std::uint64_t{0});
}

}  // namespace

summary summarise(const histogram& samples) {
    return {samples.count(),          samples.min(),
            samples.mean(),           samples.percentile(50.0),
            samples.percentile(90.0), samples.percentile(99.0),
            samples.percentile(99.9), samples.max()};
}

double percent_of(std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

stage_split split_at(std::vector<stage_sample>& samples, double percent, double band) {
    stage_split split;
    split.percent = percent;
    if (samples.empty()) return split;
    std::sort(samples.begin(), samples.end(),
              [](const auto& a, const auto& b) { return total_ns(a) < total_ns(b); });

    const auto n = static_cast<double>(samples.size());
    const auto rank = [&](double p) {
        const double r = std::ceil(std::clamp(p, 0.0, 100.0) / 100.0 * n - 1e-6) - 1.0;
        return static_cast<std::size_t>(std::clamp(r, 0.0, n - 1.0));
    };
    const std::size_t first = rank(percent - band);
    const std::size_t last = rank(percent + band);
    for (std::size_t i = first; i <= last; ++i) {
        for (std::size_t stage = 0; stage < stage_count; ++stage)
            split.mean_ns[stage] += samples[i][stage];
    }
    split.samples = last - first + 1;
    for (double& mean : split.mean_ns) mean /= static_cast<double>(split.samples);
    return split;
}

}  // namespace irqbench
