// SPDX-License-Identifier: MIT
//
// Owns: the plots that are not of one kind of measurement alone.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report/svg.hpp"

namespace report {

// One curve; at least one point.
struct curve {
    std::string name;
    std::string css;            // "s0" to "s7"
    bool own = false;           // ipcdoor's: solid; the others are dashed
    std::vector<point> points;  // both above 0
};

struct axis {
    std::string title;
    std::function<std::string(double)> label;
};

// Curves over what is on both logarithmic axes; each x that has a point has a tick. `note` is a
// line below the title, `description` what screen readers say.
canvas curve_plot(const std::string& title, const std::string& note, const std::string& description,
                  const axis& x, const axis& y, const std::vector<curve>& all);

// One bar, and a tick on a whisker that begins at its end.
struct bar {
    std::string name;
    std::string css;
    bool own = false;  // ipcdoor's: its name is bold
    double value = 0;
    double tick = 0;
    std::string tip;
};

// Shortest first.
canvas bar_plot(const std::string& title, const std::string& note, const std::string& description,
                const std::function<std::string(double)>& label, std::vector<bar> all);

}  // namespace report
