// SPDX-License-Identifier: MIT
#include "irqbench/compare/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "irqbench/compare/payload.hpp"
#include "irqbench/statistics.hpp"

namespace irqbench::compare {

namespace {

double quotient(double a, double b) { return b > 0 ? a / b : 0; }

// a[i] / b[i], for rounds that both took.
std::vector<double> quotients(const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> all;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
        all.push_back(quotient(a[i], b[i]));
    return all;
}

}  // namespace

double figures::median_p50_ns() const { return spread_of(p50_ns).median; }
double figures::median_p99_ns() const { return spread_of(p99_ns).median; }
double figures::median_per_s() const { return spread_of(per_s).median; }

verdict verdict_of(double speedup, const std::vector<double>& by_round) {
    // As it is printed: what reads 0.95 is not called slower in one line and equal in the next.
    const long percent = std::lround(speedup * 100);
    const auto agree = [&](auto is_so) {
        return 4 * std::count_if(by_round.begin(), by_round.end(), is_so) >=
               3 * static_cast<std::ptrdiff_t>(by_round.size());
    };
    if (percent > 100 + equal_within_percent && agree([](double s) { return s > 1; }))
        return verdict::faster;
    if (percent < 100 - equal_within_percent && agree([](double s) { return s < 1; }))
        return verdict::slower;
    return verdict::equal;
}

std::string_view to_string(verdict v) {
    switch (v) {
        case verdict::faster: return "faster";
        case verdict::slower: return "slower";
        case verdict::equal: break;
    }
    return "equal";
}

double match::speedup(bool throughput) const {
    return throughput ? quotient(own.median_per_s(), counterpart.median_per_s())
                      : quotient(counterpart.median_p50_ns(), own.median_p50_ns());
}
std::vector<double> match::speedups(bool throughput) const {
    return throughput ? quotients(own.per_s, counterpart.per_s)
                      : quotients(counterpart.p50_ns, own.p50_ns);
}

std::size_t parse_size(const std::string& text) {
    constexpr std::size_t longest = std::size_t{4} << 20;
    const auto wrong = [&](const char* why) {
        return std::invalid_argument("not a size: '" + text + "' (" + why + ")");
    };
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0 || digits > 9) throw wrong("a number of bytes, or with K or M, as in 64K");
    std::size_t bytes = std::stoul(text.substr(0, digits));
    const std::string unit = text.substr(digits);
    if (unit == "K" || unit == "KiB" || unit == "k")
        bytes <<= 10;
    else if (unit == "M" || unit == "MiB")
        bytes <<= 20;
    else if (!unit.empty() && unit != "B")
        throw wrong("a number of bytes, or with K or M, as in 64K");
    if (bytes == 0 || bytes % word_bytes != 0) throw wrong("a multiple of 8");
    if (bytes > longest) throw wrong("4 MiB at most");
    return bytes;
}

std::string method_title(const std::string& method) {
    static const std::map<std::string, std::string> titles{
        {"message-in-place", "message in place"},
        {"unix-seqpacket", "SOCK_SEQPACKET"},
        {"mq", "POSIX mq"},
        {"unix-request", "UNIX request"},
        {"pipe2", "pipe(2)"},
        {"unix-stream", "UNIX stream"},
        {"memory", "shared memory"},
        {"memfd", "memfd + eventfd"},
        {"signal", "bound signal"},
    };
    const auto found = titles.find(method);
    return found == titles.end() ? method : found->second;
}

}  // namespace irqbench::compare
