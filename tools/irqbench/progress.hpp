// SPDX-License-Identifier: MIT
//
// Owns: the line that says where a measurement is, for who looks on.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "irqbench/clock.hpp"
#include "irqbench/terminal.hpp"

namespace irqbench {

class progress_line {
public:
    explicit progress_line(bool wanted) : on_(wanted && is_terminal(STDERR_FILENO)) {}
    ~progress_line() {
        if (shown_ns_ != 0) fmt::print(stderr, "\r\033[K");
    }
    void show(const std::string& text) {
        const std::uint64_t now = now_ns();
        if (!on_ || now - shown_ns_ < min_pause_ns) return;
        shown_ns_ = now;
        fmt::print(stderr, "\r\033[K{:.78}", text);
        std::fflush(stderr);
    }

private:
    // A serial line is slow, and the machine has better to do while it is measured.
    static constexpr std::uint64_t min_pause_ns = 500'000'000U;
    bool on_;
    std::uint64_t shown_ns_ = 0;
};

}  // namespace irqbench
