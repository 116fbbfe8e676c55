// SPDX-License-Identifier: MIT
//
// Owns: what all JSON reports have in common.
#pragma once

#include <nlohmann/json.hpp>

#include "report/machine.hpp"

namespace report {

using json = nlohmann::ordered_json;

json to_json(const machine& m);
machine machine_from(const json& j);

}  // namespace report
