// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "irqbench/plots.hpp"
#include "report/plots.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

double total_of(const stage_split& s) {
    return std::accumulate(s.mean_ns.begin(), s.mean_ns.end(), 0.0);
}

void value_axis(canvas& c, const std::vector<double>& ticks, double from, double to, double top,
                double bottom) {
    for (double tick : ticks) {
        const double x = from + (to - from) * tick / ticks.back();
        c.line({x, top}, {x, bottom}, "grid");
        c.text({x, bottom + 16}, tick == 0 ? "0" : with_unit(tick, "µs"), "small", anchor::middle);
    }
}

}  // namespace

canvas stage_plot(const std::vector<const cell*>& sources, std::size_t index) {
    constexpr double width = 960, left = 84, right = 90, top = 66, row = 40, bar = 24;
    const double height = top + row * static_cast<double>(sources.size()) + 34;
    double high = 0, percent = 0;
    for (const cell* s : sources) {
        high = std::max(high, total_of(s->by_stage->splits.at(index)));
        percent = s->by_stage->splits.at(index).percent;
    }
    const std::string title = fmt::format("Where the time goes at p{:g}", percent);
    std::string said;
    for (const cell* s : sources)
        said += fmt::format(" {}: {} microseconds.", s->method,
                            microseconds(total_of(s->by_stage->splits.at(index))));
    canvas c(
        width, height, title,
        "Stacked bars of the stages from the ringer's call to the receiver's user space." + said);
    c.rect({0, 0}, width, height, "surface", "", 8);
    c.text({16, 26}, title, "head");

    double at = 16;
    for (std::size_t i = 0; i < stage_count; ++i) {
        c.rect({at, 38}, 11, 11, fmt::format("stage{}", i), "", 2);
        c.text({at + 16, 48}, stage_names[i], "muted");
        at += 16 + text_width(stage_names[i], 12) + 22;
    }
    const std::vector<double> ticks = linear_ticks(high, 8);
    const double span = width - left - right;
    const double end = top + row * static_cast<double>(sources.size());
    value_axis(c, ticks, left, left + span, top, end);
    double y = top + (row - bar) / 2;
    for (const cell* s : sources) {
        const stage_split& split = s->by_stage->splits.at(index);
        c.text({left - 10, y + bar / 2 + 4}, s->method, "bold", anchor::end);
        double x = left;
        for (std::size_t i = 0; i < stage_count; ++i) {
            const double w = span * split.mean_ns[i] / ticks.back();
            const std::string figure = microseconds(split.mean_ns[i]);
            c.rect({x, y}, w, bar, fmt::format("bar stage{}", i),
                   fmt::format("{}, {}: {} µs", s->method, stage_names[i], figure));
            if (w > text_width(figure, 11) + 10)
                c.text({x + w / 2, y + bar / 2 + 4}, figure, "on-stage", anchor::middle);
            x += w;
        }
        c.text({x + 8, y + bar / 2 + 4}, microseconds(total_of(split)) + " µs", "bold");
        y += row;
    }
    c.line({left, top}, {left, end}, "axis");
    return c;
}

canvas comparison_plot(const std::string& title, const std::vector<series>& all) {
    std::string said;
    std::vector<bar> bars;
    for (const series& s : all) {
        const auto p50 = static_cast<double>(s.samples->percentile(50));
        const auto p99 = static_cast<double>(s.samples->percentile(99));
        said += fmt::format(" {}: {}.", s.name, microseconds(p50));
        bars.push_back({s.name, s.css, s.css != "c-peer", p50, p99,
                        fmt::format("{}: p50 {} µs, p99 {} µs", s.name, microseconds(p50),
                                    microseconds(p99))});
    }
    return bar_plot(
        title, "bar: median, tick: p99, arrow: p99 beyond the axis",
        "Bars of the median latency in microseconds, best first." + said,
        [](double ns) { return microseconds(ns) + " µs"; }, std::move(bars));
}

}  // namespace irqbench
