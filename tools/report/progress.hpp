// SPDX-License-Identifier: MIT
//
// Owns: the line that says where a measurement is, for who looks on.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "common/terminal.hpp"

namespace report {

class progress_line {
public:
    explicit progress_line(bool wanted) : on_(wanted && common::is_terminal(STDERR_FILENO)) {}
    ~progress_line() {
        if (shown_) fmt::print(stderr, "\r\033[K");
    }
    void show(const std::string& text) {
        const auto now = std::chrono::steady_clock::now();
        if (!on_ || (shown_ && now - shown_at_ < least_pause)) return;
        shown_ = true;
        shown_at_ = now;
        fmt::print(stderr, "\r\033[K{:.78}", text);
        std::fflush(stderr);
    }

private:
    // A serial line is slow, and the machine has better to do while it is measured.
    static constexpr std::chrono::milliseconds least_pause{500};
    const bool on_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point shown_at_;
};

}  // namespace report
