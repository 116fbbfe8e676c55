// SPDX-License-Identifier: MIT
//
// Owns: the report as one HTML file that needs nothing else: styles and plots are in it, there is
// no script, and it opens without a network.
#pragma once

#include <string>

#include "irqbench/model.hpp"

namespace irqbench {

std::string html_report(const run_report& r);

// The percentile plot of the main scenario as an SVG file of its own, light and dark.
std::string svg_report(const run_report& r);

}  // namespace irqbench
