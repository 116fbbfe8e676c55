// SPDX-License-Identifier: MIT
#include "irqbench/report_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "irqbench/compare/reports.hpp"
#include "report/text_writer.hpp"
#include "report/units.hpp"

namespace irqbench::compare {

namespace {

// MB/s of what carries data, thousands a second of what does not.
std::string rate(const contest& c, const match& m, double per_s) {
    const double v = c.events ? per_s / 1e3 : per_s * static_cast<double>(m.bytes) / 1e6;
    return v < 100 ? fmt::format("{:.2f}", v) : fmt::format("{:.0f}", v);
}

std::string trimmed(std::string line) {
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
}

class report {
public:
    report(const compare_report& r, bool colour) : r_(r), w_(colour) {}

    std::string whole() {
        head();
        for (const contest& c : r_.contests) one(c);
        summary();
        reasons();
        w_.line("");
        w_.line("measured in {:.1f} s", r_.duration_s);
        return text_machine_ + w_.take();
    }

    std::string only_summary() {
        w_.line("{}; {}; {} rounds", backend(), placed(), r_.with.rounds);
        summary();
        reasons();
        return w_.take();
    }

    void machine_text(std::string text) { text_machine_ = std::move(text); }

private:
    std::string backend() const {
        return r_.with.backend == "kernel" ? fmt::format("ipcdoor's module {}, interrupts by {}",
                                                         r_.with.module_version, r_.with.source)
                                           : std::string("ipcdoor's soft back end, no module");
    }

    std::string placed() const {
        return r_.with.ringer_cpu == r_.with.waiter_cpu
                   ? std::string("two processes on one CPU")
                   : fmt::format("two processes on CPUs {} and {}", r_.with.ringer_cpu,
                                 r_.with.waiter_cpu);
    }

    void head() {
        w_.field("ipcdoor", backend());
        w_.field("processes", fmt::format("{}, in turns: {} rounds of {} ms", placed(),
                                          r_.with.rounds, r_.with.turn_ns / 1'000'000U));
        w_.field("reading",
                 fmt::format("Medians of the rounds. Every message is written and read in full on "
                             "both sides. times: how many times as fast ipcdoor is; < where it is "
                             "slower by more than {} % and three rounds in four agree; the letter "
                             "is the reason, below.",
                             equal_within_percent));
        if (r_.on.where == environment::emulated)
            w_.field("", "Emulated processor: only the ratios mean anything.");
    }

    void one(const contest& c) {
        w_.heading(
            fmt::format("{} beside {}", method_title(c.method), method_title(c.counterpart)));
        const auto row = [&](auto&&... cell) {
            return trimmed(fmt::format("{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}", cell...));
        };
        w_.columns(
            row("", "ipcdoor", "p99", "kernel", "p99", "times  ", "ipcdoor", "kernel", "times  "));
        w_.columns(fmt::format("{:<8}{:>36}{:>9}{:>18}", c.events ? "" : "size", "round trip, us",
                               "",
                               c.events  ? "events, 1000/s"
                               : c.calls ? "one caller, MB/s"
                                         : "throughput, MB/s"));
        for (const match& m : c.matches)
            w_.line("{}", row(size_name(m.bytes), microseconds(m.own.median_p50_ns()),
                              microseconds(m.own.median_p99_ns()),
                              microseconds(m.counterpart.median_p50_ns()),
                              microseconds(m.counterpart.median_p99_ns()), times(c, m, false),
                              rate(c, m, m.own.median_per_s()),
                              rate(c, m, m.counterpart.median_per_s()), times(c, m, true)));
        for (const missing& a : c.absent)
            w_.field(size_name(a.bytes),
                     fmt::format("not compared, {}: {}", method_title(a.method), a.reason));
    }

    // With a mark where ipcdoor is slower, and a letter where it is known why.
    std::string times(const contest& c, const match& m, bool throughput) {
        const double v = m.speedup(throughput);
        const std::string number = v < 100 ? fmt::format("{:.2f}", v) : fmt::format("{:.0f}", v);
        if (m.outcome(throughput) != verdict::slower) return number + "  ";
        const std::string reason = known_reason(c, m, throughput, r_.with);
        if (reason.empty()) return number + "< ";
        const auto known = std::find(reasons_.begin(), reasons_.end(), reason);
        const auto index = known - reasons_.begin();
        if (known == reasons_.end()) reasons_.push_back(reason);
        return fmt::format("{}<{}", number, static_cast<char>('a' + index));
    }

    void reasons() {
        if (reasons_.empty()) return;
        w_.heading("Why slower");
        for (std::size_t i = 0; i < reasons_.size(); ++i)
            w_.field(fmt::format("<{}", static_cast<char>('a' + i)), reasons_[i]);
    }

    void summary() {
        std::vector<std::size_t> sizes;
        for (const contest& c : r_.contests)
            for (const match& m : c.matches)
                if (std::find(sizes.begin(), sizes.end(), m.bytes) == sizes.end())
                    sizes.push_back(m.bytes);
        std::sort(sizes.begin(), sizes.end());
        for (const bool throughput : {false, true}) {
            w_.heading(throughput ? "Times as fast as the kernel's method: throughput"
                                  : "Times as fast as the kernel's method: round trip");
            std::string header = fmt::format("{:<34}", "");
            for (std::size_t bytes : sizes) header += fmt::format("{:>6} ", size_name(bytes));
            w_.columns(trimmed(header));
            for (const contest& c : r_.contests) {
                std::string line = fmt::format(
                    "{:<34}", method_title(c.method) + " : " + method_title(c.counterpart));
                for (std::size_t bytes : sizes) {
                    const auto m = std::find_if(c.matches.begin(), c.matches.end(),
                                                [&](const match& x) { return x.bytes == bytes; });
                    line += fmt::format("{:>7}",
                                        m == c.matches.end() ? "-  " : times(c, *m, throughput));
                }
                w_.line("{}", trimmed(line));
            }
        }
    }

    const compare_report& r_;
    text_writer w_;
    std::string text_machine_;
    std::vector<std::string> reasons_;  // in the order of their letters
};

}  // namespace

std::string text_compare(const compare_report& r, bool summary, bool colour) {
    report made(r, colour);
    if (summary) return made.only_summary();
    made.machine_text(text_machine(r.on, nullptr, r.clock_cost, colour));
    return made.whole();
}

}  // namespace irqbench::compare
