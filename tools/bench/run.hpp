// SPDX-License-Identifier: MIT
//
// Owns: the schedule. All contestants of a group exist at once and take turns, round by round, so
// that whatever else the machine does falls on all of them.
#pragma once

#include <string>

#include "bench/model.hpp"

namespace bench {

// Throws std::runtime_error for a filter that is none, or leaves nothing.
bench_report run(const parameters& with, bool show_progress);

}  // namespace bench
