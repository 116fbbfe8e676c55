// SPDX-License-Identifier: MIT
//
// Owns: which methods are compared with which, and the schedule: both of a pair take turns in the
// same two processes, round by round.
#pragma once

#include <string>
#include <vector>

#include "irqbench/compare/model.hpp"

namespace irqbench::compare {

// What `irqbench compare` was told.
struct compare_options {
    std::string door;  // URI; "": the library's default
    std::string source = "auto";
    std::vector<std::string> methods;  // resolved, in their order
    std::vector<std::size_t> sizes;
    std::vector<int> affinity;
    std::uint64_t rounds = 15;
    std::uint64_t turn_ms = 25;
    bool quiet = false;
    bool summary = false;  // print ratios only
    std::string json;
    std::string html;
    std::string svg;  // of round trips
    std::string svg_throughput;
    std::string command_line;
};

// ipcdoor's methods, in the order compared.
const std::vector<std::string>& compared_methods();

// Throws std::runtime_error where a method failed.
compare_report compare_all(const compare_options& o);

}  // namespace irqbench::compare
