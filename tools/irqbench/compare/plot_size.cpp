// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>

#include "irqbench/compare/reports.hpp"
#include "report/plots.hpp"
#include "report/units.hpp"

namespace irqbench::compare {

namespace {

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
        const std::string name = method_title(method);
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
    for (const curve& c : all) names += (names.empty() ? "" : ", ") + c.name;
    const bool latency = what == quantity::round_trip_ns;
    return curve_plot(
        title,
        fmt::format("solid: ipcdoor, dashed: the kernel's counterpart in the same colour; {} is "
                    "better",
                    latency ? "lower" : "higher"),
        fmt::format("Line plot of {} over message size, both axes logarithmic, for {}. {} is "
                    "better; the figures stand in the tables.",
                    latency ? "the median round trip" : "throughput", names,
                    latency ? "Lower" : "Higher"),
        {"message size", [](double bytes) { return size_name(static_cast<std::size_t>(bytes)); }},
        {"", [what](double value) { return label(what, value); }}, all);
}

}  // namespace irqbench::compare
