// SPDX-License-Identifier: MIT
//
// Owns: the plots of the report; each takes figures and gives a canvas.
#pragma once

#include <string>
#include <vector>

#include "irqbench/model.hpp"
#include "report/svg.hpp"

namespace irqbench {

using namespace report;

// One distribution under a name; `css` is the class that colours it: "c-msi" … or "c-peer".
struct series {
    std::string name;
    std::string css;
    const histogram* samples;
};

std::string series_class(const std::string& method);

// Latency over percentile, both logarithmic, after the way HdrHistogram's plots show tails.
canvas percentile_plot(const std::string& title, const std::vector<series>& all);

// Counts over latency, both logarithmic, for one method. `low_ns` to `high_ns` is the axis, so that
// several plots compare.
canvas histogram_plot(const series& one, double low_ns, double high_ns);

// Sources by stage at the percentile of split `index` (0: p50, 1: p99).
canvas stage_plot(const std::vector<const cell*>& sources, std::size_t index);

// Medians as bars, p99 as a tick on a whisker, the best first.
canvas comparison_plot(const std::string& title, const std::vector<series>& all);

// The classes and colours of sources and stages, beside report::plot_style().
std::string method_style();

}  // namespace irqbench
