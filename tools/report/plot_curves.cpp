// SPDX-License-Identifier: MIT
#include <algorithm>
#include <set>
#include <tuple>

#include "report/plots.hpp"

namespace report {

namespace {

constexpr double width = 960, height = 470;
constexpr double left = 84, right = 170, top = 58, bottom = 52;
constexpr double label_gap = 15;

}  // namespace

canvas curve_plot(const std::string& title, const std::string& note, const std::string& description,
                  const axis& horizontal, const axis& vertical, const std::vector<curve>& all) {
    std::set<double> places;
    double low = 1e18, high = 0;
    for (const curve& c : all)
        for (const point& p : c.points) {
            places.insert(p.x);
            low = std::min(low, p.y);
            high = std::max(high, p.y);
        }
    canvas c(width, height, title, description);
    c.rect({0, 0}, width, height, "surface", "", 8);
    c.text({left, 26}, title, "head");
    c.text({left, 44}, note, "small");
    if (places.empty()) return c;

    // What is level must not look steep.
    auto [from, to] = nice_log_range(low, high);
    if (to / from < 10) std::tie(from, to) = nice_log_range(low / 2, low * 5);
    const log_scale y(from, to, height - bottom, top);
    const double smallest = *places.begin();
    const log_scale x(smallest, std::max(*places.rbegin(), smallest * 2), left, width - right);
    for (double tick : y.ticks()) {
        c.line({left, y(tick)}, {width - right, y(tick)}, "grid");
        c.text({left - 8, y(tick) + 4}, vertical.label(tick), "muted", anchor::end);
    }
    for (double place : places) {
        c.line({x(place), top}, {x(place), height - bottom}, "grid");
        c.text({x(place), height - bottom + 18}, horizontal.label(place), "muted", anchor::middle);
    }
    c.line({left, height - bottom}, {width - right, height - bottom}, "axis");
    c.text({(left + width - right) / 2, height - 12}, horizontal.title, "muted", anchor::middle);

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
                tip += " " + horizontal.label(p.x) + " " + vertical.label(p.y) + ";";
            }
            const std::string css = one.css + (own ? "" : " dashed");
            c.polyline(points, "curve " + css, tip);
            const double edge = width - right;
            c.polyline({points.back(), {edge, ends[i]}, {edge + 18, at[i]}}, "leader " + css);
            c.text({edge + 22, at[i] + 4}, one.name, one.css + (own ? " bold" : ""));
        }
    return c;
}

}  // namespace report
