// SPDX-License-Identifier: MIT
//
// Owns: the command line of ipcdoor-cat.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ipcdoor_cat {

enum class direction { in, out };

struct options {
    direction what = direction::in;
    std::string name;
    std::string uri;
    std::uint64_t capacity_bytes = std::uint64_t{1} << 20;
    std::optional<double> timeout_s;  // for finding the peer; none: without end
    std::uint32_t mode = 0600;
    bool progress = false;
    std::string json;
};

// False: the program is over with `status`.
bool parse_command_line(int argc, char** argv, options& o, int& status);

}  // namespace ipcdoor_cat
