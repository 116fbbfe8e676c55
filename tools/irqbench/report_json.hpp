// SPDX-License-Identifier: MIT
//
// Owns: the report as JSON, written and read back. docs/benchmarking.md describes the fields.
#pragma once

#include <string>

#include "irqbench/model.hpp"

namespace irqbench {

std::string json_report(const run_report& r);

// What `irqbench info` says; `module` is null where no door could be opened.
std::string json_machine(const machine& m, const module_info* module, const timestamp_cost& cost);

// Throws std::runtime_error with what was expected and what was found.
run_report parse_json_report(const std::string& text);

}  // namespace irqbench
