// SPDX-License-Identifier: MIT
#include "report/units.hpp"

#include <fmt/format.h>

namespace report {

std::string microseconds(double ns) {
    const double us = ns / 1e3;
    return us < 1       ? fmt::format("{:.3f}", us)
           : us < 1000  ? fmt::format("{:.2f}", us)
           : us < 10000 ? fmt::format("{:.1f}", us)
                        : fmt::format("{:.0f}", us);
}

std::string with_unit(double ns, const char* micro) {
    const auto number = [](double v) {
        return v < 10 ? fmt::format("{:.2g}", v) : fmt::format("{:.0f}", v);
    };
    if (ns < 999.5) return fmt::format("{:.0f} ns", ns);
    if (ns < 999.5e3) return number(ns / 1e3) + " " + micro;
    if (ns < 999.5e6) return number(ns / 1e6) + " ms";
    return number(ns / 1e9) + " s";
}

std::string grouped(unsigned long long n) {
    std::string digits = std::to_string(n);
    for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
    return digits;
}

std::string size_name(std::size_t bytes) {
    constexpr std::size_t kib = 1024, mib = kib * kib;
    if (bytes >= mib && bytes % mib == 0) return fmt::format("{} MiB", bytes / mib);
    if (bytes >= kib && bytes % kib == 0) return fmt::format("{} KiB", bytes / kib);
    return fmt::format("{} B", bytes);
}

}  // namespace report
