// SPDX-License-Identifier: MIT
//
// Owns: the report as text for terminals and serial consoles: ASCII, 80 columns.
#pragma once

#include <string>

#include "irqbench/run.hpp"

namespace irqbench {

// `colour`: with escape sequences for headings and emphasis.
std::string text_report(const run_report& r, bool colour);

// The machine, the module and the cost of a timestamp only.
std::string text_machine(const machine& m, const module_info* module,
                         const timestamp_cost& clock_cost, bool colour);

// As `cyclictest -h N` writes it, one column for each method.
std::string text_histogram(const std::vector<microsecond_histogram>& columns);

}  // namespace irqbench
