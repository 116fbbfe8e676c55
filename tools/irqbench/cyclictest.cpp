// SPDX-License-Identifier: MIT
#include "irqbench/cyclictest.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sstream>

namespace irqbench {

namespace {

constexpr unsigned tracked_us = 20'000;

}  // namespace

std::uint64_t cyclictest_histogram::count() const {
    return std::accumulate(counts.begin(), counts.end(), overflows);
}

void cyclictest_histogram::merge(const cyclictest_histogram& other) {
    counts.resize(std::max(counts.size(), other.counts.size()));
    for (std::size_t i = 0; i < other.counts.size(); ++i) counts[i] += other.counts[i];
    overflows += other.overflows;
}

double cyclictest_histogram::percentile_ns(double percent) const {
    const double wanted = percent / 100.0 * static_cast<double>(count());
    double seen = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const auto here = static_cast<double>(counts[i]);
        if (here > 0 && seen + here >= wanted)
            return (static_cast<double>(i) + std::clamp((wanted - seen) / here, 0.0, 1.0)) * 1000.0;
        seen += here;
    }
    throw std::runtime_error("cyclictest: the percentile lies beyond its histogram");
}

cyclictest_histogram parse_cyclictest(const std::string& output) {
    cyclictest_histogram h;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
        if (line.empty()) continue;
        if (line[0] == '#') {
            const std::string label = "# Histogram Overflows:";
            if (line.rfind(label, 0) == 0)
                h.overflows = std::strtoull(line.c_str() + label.size(), nullptr, 10);
            continue;
        }
        std::uint64_t us = 0, n = 0;
        std::istringstream columns(line);
        if (!(columns >> us >> n) || us != h.counts.size())
            continue;  // the summary line, or a warning
        h.counts.push_back(n);
    }
    if (h.count() == 0)
        throw std::runtime_error(
            "cyclictest printed no histogram; expected that of "
            "'cyclictest -q -h N', found: " +
            output.substr(0, 200));
    return h;
}

cyclictest_histogram run_cyclictest(int cpu, int priority, std::uint64_t interval_us,
                                    std::uint64_t loops) {
    const std::string command =
        fmt::format("cyclictest -q --default-system -t 1 -a {} {} -i {} -l {} -h {} 2>&1", cpu,
                    priority > 0 ? fmt::format("-p {}", priority) : "--policy=other", interval_us,
                    loops, tracked_us);
    std::FILE* pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) throw std::runtime_error("cannot start cyclictest");
    std::string output;
    std::array<char, 4096> block;
    for (std::size_t n; (n = std::fread(block.data(), 1, block.size(), pipe)) > 0;)
        output.append(block.data(), n);
    const int status = pclose(pipe);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        throw cyclictest_absent(
            "cyclictest is not in PATH: install the package rt-tests (Debian, "
            "Ubuntu, Arch) or realtime-tests (Fedora)");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        throw std::runtime_error(command + " failed: " + output.substr(0, 300));
    return parse_cyclictest(output);
}

}  // namespace irqbench
