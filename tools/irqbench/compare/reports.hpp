// SPDX-License-Identifier: MIT
//
// Owns: the comparison as text, JSON, HTML and SVG.
#pragma once

#include <string>

#include "irqbench/compare/model.hpp"
#include "report/plots.hpp"

namespace irqbench::compare {

using namespace report;

// ASCII, 80 columns. `summary`: only how many times as fast each method is.
std::string text_compare(const compare_report& r, bool summary, bool colour);

std::string json_compare(const compare_report& r);
// Whether a file of irqbench's is a comparison; false for everything else.
bool is_json_compare(const std::string& text);
// Throws std::runtime_error where it is malformed.
compare_report parse_json_compare(const std::string& text);

std::string html_compare(const compare_report& r);

enum class quantity { round_trip_ns, bytes_per_s };
std::vector<curve> curves_of(const compare_report& r, quantity what);

// Both axes logarithmic.
canvas size_plot(const std::string& title, quantity what, const std::vector<curve>& all);

// All methods as an SVG file, light and dark.
std::string svg_compare(const compare_report& r, quantity what);

}  // namespace irqbench::compare
