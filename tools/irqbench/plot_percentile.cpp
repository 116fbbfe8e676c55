// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "irqbench/plots.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

constexpr double width = 960, height = 470;
constexpr double left = 70, right = 150, top = 58, bottom = 52;
constexpr double label_gap = 15;

// The horizontal axis: every further nine takes the same room.
double nines(double percent) { return std::log10(100.0 / (100.0 - percent)); }

}  // namespace

canvas percentile_plot(const std::string& title, const std::vector<series>& all) {
    std::string names;
    double low = 1e18, high = 0, most_nines = 1;
    for (const series& s : all) {
        names += (names.empty() ? "" : ", ") + s.name;
        if (s.samples->count() == 0) continue;
        // The lowest and the highest sample alone should not squeeze the rest.
        low = std::min(low, static_cast<double>(s.samples->percentile(1)));
        high = std::max(high, static_cast<double>(s.samples->percentile(99.99)));
        most_nines = std::max(most_nines, std::log10(static_cast<double>(s.samples->count())));
    }
    // A thousand samples have nothing to say beyond 99.9 %.
    const double last_nine = std::clamp(most_nines, 2.0, 4.0);
    canvas c(width, height, title,
             "Line plot of latency over percentile, both axes logarithmic, for " + names +
                 ". Lower is better; the figures stand in the tables.");
    c.rect({0, 0}, width, height, "surface", "", 8);
    c.text({left, 26}, title, "head");
    c.text({left, 44}, "latency at or below which that share of samples lies; lower is better",
           "small");

    const auto [from, to] = nice_log_range(low > high ? 1 : low, high);
    const log_scale y(from, to, height - bottom, top);
    const auto x = [&](double n) {
        return left + (width - left - right) * std::min(n, last_nine) / last_nine;
    };
    for (double tick : y.ticks()) {
        c.line({left, y(tick)}, {width - right, y(tick)}, "grid");
        c.text({left - 8, y(tick) + 4}, with_unit(tick, "µs"), "muted", anchor::end);
    }
    for (double percent : {0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99}) {
        const double n = nines(percent);
        if (n > last_nine + 0.001) continue;
        c.line({x(n), top}, {x(n), height - bottom}, "grid");
        c.text({x(n), height - bottom + 18}, fmt::format("{:g} %", percent), "muted",
               anchor::middle);
    }
    c.line({left, height - bottom}, {width - right, height - bottom}, "axis");
    c.text({(left + width - right) / 2, height - 12}, "percentile of samples", "muted",
           anchor::middle);

    std::vector<double> ends;
    // Peers first, ipcdoor's own on top of them.
    for (bool own : {false, true})
        for (const series& s : all) {
            if ((s.css != "c-peer") != own || s.samples->count() == 0) continue;
            const double limit =
                std::min(last_nine, std::log10(static_cast<double>(s.samples->count())));
            std::vector<point> points;
            for (double n = 0; n <= limit + 1e-9; n += limit / 240) {
                const double percent = 100.0 - 100.0 / std::pow(10.0, n);
                points.push_back({x(n), y(static_cast<double>(s.samples->percentile(percent)))});
            }
            const summary f = summarise(*s.samples);
            c.polyline(points, "curve " + s.css,
                       fmt::format("{}: p50 {} µs, p99 {} µs, p99.9 {} µs", s.name,
                                   microseconds(static_cast<double>(f.p50)),
                                   microseconds(static_cast<double>(f.p99)),
                                   microseconds(static_cast<double>(f.p99_9))));
        }
    std::vector<const series*> labelled;
    std::vector<point> tips;
    for (const series& s : all) {
        if (s.samples->count() == 0) continue;
        const double n = std::min(last_nine, std::log10(static_cast<double>(s.samples->count())));
        const double percent = 100.0 - 100.0 / std::pow(10.0, n);
        tips.push_back({x(n), y(static_cast<double>(s.samples->percentile(percent)))});
        ends.push_back(tips.back().y);
        labelled.push_back(&s);
    }
    const std::vector<double> at = spread_labels(ends, label_gap, top, height - bottom);
    for (std::size_t i = 0; i < labelled.size(); ++i) {
        const double edge = width - right;
        c.polyline({tips[i], {edge, tips[i].y}, {edge + 18, at[i]}}, "leader " + labelled[i]->css);
        c.text({edge + 22, at[i] + 4}, labelled[i]->name,
               labelled[i]->css + (labelled[i]->css == "c-peer" ? "" : " bold"));
    }
    return c;
}

}  // namespace irqbench
