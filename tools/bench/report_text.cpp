// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>

#include "bench/reports.hpp"
#include "report/text_writer.hpp"

namespace bench {

namespace {

std::string two_digits(double v) {
    return v >= 100 ? fmt::format("{:.0f}", v) : fmt::format("{:.2f}", v);
}

class text {
public:
    text(const bench_report& r, bool colour) : r_(r), w_(colour) {}

    std::string whole() {
        head();
        for (const group_result& g : r_.groups) one(g);
        goals();
        w_.line("");
        w_.line("measured in {:.1f} s", r_.duration_s);
        return w_.take();
    }

private:
    void head() {
        w_.line("{}",
                w_.styled("\033[1m", fmt::format("ipcdoor-bench {}", IPCDOOR_LIBRARY_VERSION)));
        report::write_machine(w_, r_.on);
        w_.field("turns", fmt::format("{} of {} ms each, all contestants of a group in turn, in "
                                      "alternating order",
                                      r_.with.repetitions, r_.with.turn_ms));
        w_.field("reading",
                 "Nanoseconds of an operation: the median of the turns, the least and the most. "
                 "calls: system calls of an operation, counted in a run of its own. Ratios: the "
                 "median over the turns, with the least and the most; what stands before the colon "
                 "for each 1 of what stands behind it, so below 1 the former is faster.");
        if (r_.with.quick) w_.field("", "Quick: says that everything works, not how fast it is.");
    }

    void one(const group_result& g) {
        w_.heading(g.what.name + ": " + g.what.title);
        w_.field("", g.what.operation);
        w_.columns(fmt::format("{:<38}{:>11}{:>10}{:>10}{:>10}",
                               g.what.clock == clock::cpu ? "CPU time, ns" : "time, ns", "median",
                               "min", "max", "calls"));
        for (const timing& t : g.timings) {
            const report::spread s = report::spread_of(g.ns(t));
            w_.line("{:<38}{:>11}{:>10}{:>10}{:>10}", g.what.label(t.who), nanoseconds(s.median),
                    nanoseconds(s.min), nanoseconds(s.max), calls_text(t.calls));
        }
        for (const absence& a : g.absent)
            w_.field(g.what.label(a.who), (a.failed ? "FAILED: " : "not here: ") + a.reason);
        if (g.findings.empty()) return;
        w_.columns(fmt::format("{:<38}{:>11}{:>15}{:>8}", "", "reached", "min - max", "goal"));
        for (const finding& f : g.findings) line(f);
    }

    void line(const finding& f) {
        std::string said = verdict(f);
        said.insert(0, 8 - std::min<std::size_t>(said.size(), 8), ' ');
        if (!f.met()) said = w_.styled("\033[31m", said);
        w_.line("{:<38}{:>11}{:>15}{:>8}{}", f.title, two_digits(f.value.median), spread_text(f),
                bound_of(f), said);
    }

    void goals() {
        w_.heading(fmt::format("Goals: {} met, {} not met", r_.goals(true), r_.goals(false)));
        for (const group_result& g : r_.groups)
            for (const finding& f : g.findings)
                if (!f.met()) line(f);
    }

    const bench_report& r_;
    report::text_writer w_;
};

}  // namespace

std::string nanoseconds(double ns) {
    return ns < 100 ? fmt::format("{:.1f}", ns) : fmt::format("{:.0f}", ns);
}

std::string bound_of(const finding& f) {
    return f.at_most ? fmt::format("<={:g}", *f.at_most) : "-";
}

std::string spread_text(const finding& f) {
    return f.by ? two_digits(f.value.min) + " - " + two_digits(f.value.max) : "";
}

std::string verdict(const finding& f) { return !f.at_most ? "-" : f.met() ? "met" : "not met"; }

std::string calls_text(const call_count& calls) {
    if (!calls.counted) return "?";
    const double each = calls.per_operation();
    return each == 0 ? "0" : fmt::format("{:.2f}", each);
}

std::string text_report(const bench_report& r, bool colour) { return text(r, colour).whole(); }

}  // namespace bench
