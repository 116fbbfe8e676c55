// SPDX-License-Identifier: MIT
//
// Owns: the names of the door's interrupt sources and the question which of them are there.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "irqbench/model.hpp"

namespace irqbench {

// Measured in this order; `direct` is a wake-up without an interrupt.
const std::vector<std::string>& source_names();

// IPCDOOR_SOURCE_*, or nothing for an unknown name.
std::optional<std::uint32_t> source_number(std::string_view name);
std::string source_name(std::uint32_t number);

// The door cannot be opened at all; the text names the remedy.
struct door_absent : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Of a door that could not be opened: there is none.
bool means_absent(int error_number);

// Throws door_absent, or std::runtime_error where the door is there but refuses.
module_info describe_door(const std::string& uri);

// Why a source that is not in info.sources is not there, and what brings it.
std::string source_remedy(const std::string& source);

}  // namespace irqbench
