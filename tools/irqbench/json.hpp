// SPDX-License-Identifier: MIT
//
// Owns: what all of irqbench's JSON has in common.
#pragma once

#include <nlohmann/json.hpp>

#include "irqbench/machine.hpp"

namespace irqbench {

using json = nlohmann::ordered_json;

json to_json(const machine& m);
machine machine_from(const json& j);

}  // namespace irqbench
