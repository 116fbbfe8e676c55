// SPDX-License-Identifier: MIT
//
// Owns: what all pages have in common: one HTML file that needs nothing else, styles and plots in
// it, no script, light and dark.
#pragma once

#include <string>

namespace report {

// The classes of plots, "s0" to "s7" for curves and bars among them, and colours as custom
// properties.
inline constexpr int plot_colours = 8;
std::string plot_style();

// Up to where a page's own content begins; `title` as plain text, `style` of the page's own.
std::string html_start(const std::string& title, const std::string& style = "");
// `footer` as HTML.
std::string html_end(const std::string& footer);

}  // namespace report
