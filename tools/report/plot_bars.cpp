// SPDX-License-Identifier: MIT
#include <algorithm>

#include "report/plots.hpp"
#include "report/units.hpp"

namespace report {

canvas bar_plot(const std::string& title, const std::string& note, const std::string& description,
                const std::function<std::string(double)>& label, std::vector<bar> all) {
    constexpr double width = 470, top = 58, row = 26, bar_height = 15;
    std::stable_sort(all.begin(), all.end(),
                     [](const bar& a, const bar& b) { return a.value < b.value; });
    double values = 0, ticks_at = 0, left = 122, right = 74;
    for (const bar& b : all) {
        values = std::max(values, b.value);
        ticks_at = std::max(ticks_at, b.tick);
        left = std::max(left, text_width(b.name, b.own ? 14 : 12) + 18);
        right = std::max(right, text_width(label(b.value), 12) + 20);
    }
    const double height = top + row * static_cast<double>(all.size()) + 32;
    canvas c(width, height, title, description);
    c.rect({0, 0}, width, height, "surface", "", 8);
    c.text({16, 24}, title, "head");
    c.text({16, 42}, note, "small");
    // A few long tails must not make the bars unreadable.
    const std::vector<double> ticks =
        linear_ticks(std::max(values, std::min(ticks_at, values * 2.2)), 5);
    const double span = width - left - right;
    const double end = top + row * static_cast<double>(all.size());
    for (double tick : ticks) {
        const double x = left + span * tick / ticks.back();
        c.line({x, top}, {x, end}, "grid");
        c.text({x, end + 16}, tick == 0 ? "0" : with_unit(tick, "µs"), "small", anchor::middle);
    }
    double y = top + (row - bar_height) / 2;
    for (const bar& b : all) {
        const double x = left + span * b.value / ticks.back();
        const double tick = left + span * std::min(1.0, b.tick / ticks.back());
        const double middle = y + bar_height / 2;
        c.text({left - 8, middle + 4}, b.name, b.own ? "bold" : "", anchor::end);
        c.rect({left, y}, x - left, bar_height, "bar " + b.css, b.tip, 2);
        c.line({x, middle}, {tick, middle}, "whisker");
        if (b.tick <= ticks.back())
            c.line({tick, y + 3}, {tick, y + bar_height - 3}, "whisker");
        else
            c.polyline({{tick - 5, y + 3}, {tick, middle}, {tick - 5, y + bar_height - 3}},
                       "whisker");
        c.text({width - 10, middle + 4}, label(b.value), "", anchor::end);
        y += row;
    }
    c.line({left, top}, {left, end}, "axis");
    return c;
}

}  // namespace report
