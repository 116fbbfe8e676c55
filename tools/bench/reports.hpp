// SPDX-License-Identifier: MIT
//
// Owns: a run as text, JSON and HTML.
#pragma once

#include <string>

#include "bench/model.hpp"

namespace bench {

// ASCII, 80 columns.
std::string text_report(const bench_report& r, bool colour);
// docs/performance.md describes the fields.
std::string json_report(const bench_report& r);
std::string html_report(const bench_report& r);

// How the reports write figures: "12.3", "<= 1.25", "0.84 - 1.10".
std::string nanoseconds(double ns);
std::string bound_of(const finding& f);
std::string spread_text(const finding& f);
std::string verdict(const finding& f);  // "met", "not met", "-"
std::string calls_text(const call_count& calls);

}  // namespace bench
