// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "irqbench/plots.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

constexpr double width = 460, height = 210;
constexpr double left = 46, right = 16, top = 40, bottom = 30;
constexpr std::size_t bins = 70;

}  // namespace

canvas histogram_plot(const series& one, double low_ns, double high_ns) {
    const summary s = summarise(*one.samples);
    const auto us = [](auto ns) { return microseconds(static_cast<double>(ns)); };
    canvas c(width, height, "Histogram of " + one.name,
             fmt::format("Counts over latency, both axes logarithmic: {} samples, median {} "
                         "microseconds, p99 {} microseconds, maximum {} microseconds.",
                         grouped(s.count), us(s.p50), us(s.p99), us(s.max)));
    c.rect({0, 0}, width, height, "surface", "", 8);
    c.text({left, 20}, one.name, "bold " + one.css);
    c.text({width - right, 20},
           fmt::format("p50 {}   p99 {}   max {} µs   n {}", us(s.p50), us(s.p99), us(s.max),
                       grouped(s.count)),
           "small", anchor::end);

    const log_scale x(low_ns, high_ns, left, width - right);
    std::array<double, bins> counts{};
    const double span = std::log(high_ns / low_ns);
    for (const auto& b : one.samples->buckets()) {
        const double middle = (static_cast<double>(b.low) + static_cast<double>(b.high)) / 2;
        const double where = std::log(std::max(middle, 1.0) / low_ns) / span * bins;
        counts[static_cast<std::size_t>(std::clamp(where, 0.0, bins - 1.0))] +=
            static_cast<double>(b.count);
    }
    // From half a sample, so that a single one is still seen.
    const double most = std::max(10.0, *std::max_element(counts.begin(), counts.end()));
    const log_scale y(0.5, most * 1.15, height - bottom, top);
    for (double tick : y.ticks()) {
        if (std::abs(std::log10(tick) - std::round(std::log10(tick))) > 1e-6) continue;
        c.line({left, y(tick)}, {width - right, y(tick)}, "grid");
        c.text({left - 6, y(tick) + 4}, grouped(static_cast<unsigned long long>(tick)), "small",
               anchor::end);
    }
    double last_label = -1e9;
    for (double tick : x.ticks()) {
        c.line({x(tick), height - bottom}, {x(tick), height - bottom + 4}, "axis");
        const std::string label = with_unit(tick, "µs");
        const double half = text_width(label, 11) / 2;
        if (x(tick) - half < last_label + 6 || x(tick) + half > width) continue;
        c.text({x(tick), height - bottom + 17}, label, "small", anchor::middle);
        last_label = x(tick) + half;
    }
    const double step = (width - right - left) / bins;
    // Runs of filled bins, so that gaps stay gaps.
    for (std::size_t i = 0; i < bins;) {
        if (counts[i] == 0) {
            ++i;
            continue;
        }
        std::vector<point> outline{{left + step * static_cast<double>(i), height - bottom}};
        for (; i < bins && counts[i] > 0; ++i) {
            outline.push_back({left + step * static_cast<double>(i), y(counts[i])});
            outline.push_back({left + step * static_cast<double>(i + 1), y(counts[i])});
        }
        outline.push_back({left + step * static_cast<double>(i), height - bottom});
        c.polygon(outline, "area " + one.css);
    }
    c.line({left, height - bottom}, {width - right, height - bottom}, "axis");
    for (std::uint64_t marked : {s.p50, s.p99})
        c.line({x(static_cast<double>(marked)), top - 6},
               {x(static_cast<double>(marked)), height - bottom}, "marker");
    return c;
}

}  // namespace irqbench
