// SPDX-License-Identifier: MIT
//
// Owns: the report as JSON, written and read back. docs/benchmarking.md describes the fields.
#pragma once

#include <string>

#include "irqbench/model.hpp"

namespace irqbench {

std::string json_report(const run_report& r);

// Throws std::runtime_error with what was expected and what was found.
run_report parse_json_report(const std::string& text);

}  // namespace irqbench
