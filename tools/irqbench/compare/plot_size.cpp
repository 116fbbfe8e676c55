// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "irqbench/compare/reports.hpp"
#include "irqbench/plots.hpp"
#include "irqbench/units.hpp"

namespace irqbench::compare {

namespace {

constexpr double width = 960, height = 470;
constexpr double left = 84, right = 170, top = 58, bottom = 52;
constexpr double label_gap = 15;

std::string rate_label(double bytes_per_s) {
    const auto number = [](double v) {
        return v < 10 ? fmt::format("{:.2g}", v) : fmt::format("{:.0f}", v);
    };
    if (bytes_per_s >= 999.5e6) return number(bytes_per_s / 1e9) + " GB/s";
    if (bytes_per_s >= 999.5e3) return number(bytes_per_s / 1e6) + " MB/s";
    return number(bytes_per_s / 1e3) + " kB/s";
}

std::string label(quantity what, double value) {
    return what == quantity::round_trip_ns ? with_unit(value, "µs") : rate_label(value);
}

double value_of(const figures& f, std::size_t bytes, quantity what) {
    return what == quantity::round_trip_ns ? f.median_p50_ns()
                                           : f.median_per_s() * static_cast<double>(bytes);
}

}  // namespace

std::vector<curve> curves_of(const compare_report& r, quantity what) {
    std::vector<curve> all;
    const auto curve_named = [&](const std::string& method, const std::string& css, bool own) {
        const std::string name = own ? method_title(method) : method_title(method);
        const auto found =
            std::find_if(all.begin(), all.end(), [&](const curve& c) { return c.name == name; });
        if (found != all.end()) return static_cast<curve*>(nullptr);
        all.push_back({name, css, own, {}});
        return &all.back();
    };
    std::vector<std::string> methods;
    for (const contest& c : r.contests) {
        if (c.events || c.matches.empty()) continue;
        if (std::find(methods.begin(), methods.end(), c.method) == methods.end())
            methods.push_back(c.method);
        // A counterpart of two methods is drawn where it comes first.
        const std::string css = fmt::format("s{}", (methods.size() - 1) % 8);
        if (curve* own = curve_named(c.method, css, true); own != nullptr)
            for (const match& m : c.matches)
                own->points.push_back(
                    {static_cast<double>(m.bytes), value_of(m.own, m.bytes, what)});
        if (curve* other = curve_named(c.counterpart, css, false); other != nullptr)
            for (const match& m : c.matches)
                other->points.push_back(
                    {static_cast<double>(m.bytes), value_of(m.counterpart, m.bytes, what)});
    }
    return all;
}

canvas size_plot(const std::string& title, quantity what, const std::vector<curve>& all) {
    std::string names;
    std::set<double> sizes;
    double low = 1e18, high = 0;
    for (const curve& c : all) {
        names += (names.empty() ? "" : ", ") + c.name;
        for (const point& p : c.points) {
            sizes.insert(p.x);
            low = std::min(low, p.y);
            high = std::max(high, p.y);
        }
    }
    const bool latency = what == quantity::round_trip_ns;
    canvas c(width, height, title,
             fmt::format("Line plot of {} over message size, both axes logarithmic, for {}. {} is "
                         "better; the figures stand in the tables.",
                         latency ? "the median round trip" : "throughput", names,
                         latency ? "Lower" : "Higher"));
    c.rect({0, 0}, width, height, "surface", "", 8);
    c.text({left, 26}, title, "head");
    c.text({left, 44},
           fmt::format("solid: ipcdoor, dashed: the kernel's counterpart in the same colour; {} is "
                       "better",
                       latency ? "lower" : "higher"),
           "small");
    if (sizes.empty()) return c;

    const auto [from, to] = nice_log_range(low, high);
    const log_scale y(from, to, height - bottom, top);
    const double smallest = *sizes.begin();
    const log_scale x(smallest, std::max(*sizes.rbegin(), smallest * 2), left, width - right);
    for (double tick : y.ticks()) {
        c.line({left, y(tick)}, {width - right, y(tick)}, "grid");
        c.text({left - 8, y(tick) + 4}, label(what, tick), "muted", anchor::end);
    }
    for (double size : sizes) {
        c.line({x(size), top}, {x(size), height - bottom}, "grid");
        c.text({x(size), height - bottom + 18}, size_name(static_cast<std::size_t>(size)), "muted",
               anchor::middle);
    }
    c.line({left, height - bottom}, {width - right, height - bottom}, "axis");
    c.text({(left + width - right) / 2, height - 12}, "message size", "muted", anchor::middle);

    std::vector<double> ends;
    for (const curve& one : all) ends.push_back(y(one.points.back().y));
    const std::vector<double> at = spread_labels(ends, label_gap, top, height - bottom);
    for (const bool own : {false, true})
        for (std::size_t i = 0; i < all.size(); ++i) {
            const curve& one = all[i];
            if (one.own != own) continue;
            std::vector<point> points;
            std::string tip = one.name + ":";
            for (const point& p : one.points) {
                points.push_back({x(p.x), y(p.y)});
                tip += fmt::format(" {} {};", size_name(static_cast<std::size_t>(p.x)),
                                   label(what, p.y));
            }
            const std::string css = one.css + (own ? "" : " dashed");
            c.polyline(points, "curve " + css, tip);
            const double edge = width - right;
            c.polyline({points.back(), {edge, ends[i]}, {edge + 18, at[i]}}, "leader " + css);
            c.text({edge + 22, at[i] + 4}, one.name, one.css + (own ? " bold" : ""));
        }
    return c;
}

}  // namespace irqbench::compare
