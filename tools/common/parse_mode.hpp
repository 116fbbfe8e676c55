// SPDX-License-Identifier: MIT
//
// Owns: the option --mode of the tools that make names.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <exception>
#include <string>

namespace common {

// Octal permission bits. Throws CLI::ValidationError.
inline std::uint32_t parse_mode(const std::string& text) {
    std::size_t used = 0;
    unsigned long mode = 0;
    try {
        mode = std::stoul(text, &used, 8);
    } catch (const std::exception&) {
        used = 0;
    }
    if (used == 0 || used != text.size() || mode == 0 || mode > 0777)
        throw CLI::ValidationError("--mode", "'" + text + "' is no mode: octal, as 600 or 0666");
    return static_cast<std::uint32_t>(mode);
}

}  // namespace common
