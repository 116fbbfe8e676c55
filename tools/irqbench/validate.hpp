// SPDX-License-Identifier: MIT
//
// Owns: the check of irqbench's figure against an outside tool's.
#pragma once

#include <string>

#include "irqbench/options.hpp"
#include "irqbench/statistics.hpp"

namespace irqbench {

// Both end in user space on the same CPU, idle until then, after a hard hrtimer interrupt woke a
// sleeping thread of real-time priority (a normal one's timers are held back by 50 us of slack).
// irqbench's begins when the timer's handler runs, on the ringer's CPU; cyclictest's when the timer
// should have fired, and so includes how late the interrupt came.
struct validation {
    summary handler_to_user_ns;
    std::uint64_t cyclictest_count = 0;
    double cyclictest_p50_ns = 0;
    double cyclictest_p90_ns = 0;

    double ratio() const;  // cyclictest's median over irqbench's
    bool agrees() const;   // within a factor of 2
};

// In turns on one machine, door_absent or cyclictest_absent where one of the two is missing.
validation validate_timer(const options& o);

std::string text_validation(const validation& v);
std::string json_validation(const validation& v);

}  // namespace irqbench
