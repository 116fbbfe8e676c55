// SPDX-License-Identifier: MIT
//
// Owns: the exit statuses that all tools have, and how an exception becomes one.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <exception>

namespace common {

enum exit_status : int { exit_ok = 0, exit_failed = 1, exit_usage = 2 };

// The status that `body` returns, or exit_failed where it throws, with the reason on stderr.
template <class Body>
int run_tool(const char* tool, Body&& body) {
    try {
        return body();
    } catch (const std::exception& e) {
        fmt::print(stderr, "{}: {}\n", tool, e.what());
        return exit_failed;
    }
}

}  // namespace common
