// SPDX-License-Identifier: MIT
#include "irqbench/report_text.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>

#include "report/text_writer.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

std::string us(double ns) { return microseconds(ns); }

std::string figures(const histogram& h) {
    const summary s = summarise(h);
    const auto n = [](auto v) { return us(static_cast<double>(v)); };
    return fmt::format("{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}", n(s.min), n(s.mean), n(s.p50),
                       n(s.p90), n(s.p99), n(s.p99_9), n(s.max));
}

// The share of handlers that ran on the receiver's own CPU.
double on_receivers_cpu(const stages& by, std::uint64_t count, const parameters& with) {
    const auto it = by.handler_cpus.find(static_cast<unsigned>(with.waiter_cpu));
    return percent_of(it == by.handler_cpus.end() ? 0 : it->second, count);
}

void write_sources(text_writer& w, const run_report& r) {
    const auto sources = r.methods(method_kind::source);
    if (sources.empty()) return;
    const auto scenarios = r.scenarios();
    const scenario& main = scenarios.front();
    w.heading(fmt::format("Latency by stage, us: {}", main.description()));
    w.columns(fmt::format("{:<8}{:<16}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}", "source", "stage",
                          "min", "mean", "p50", "p90", "p99", "p99.9", "max"));
    for (const std::string& source : sources) {
        const cell* c = r.find(source, method_kind::source, measure::one_way, main);
        if (c == nullptr || !c->by_stage) continue;
        const stages& by = *c->by_stage;
        for (std::size_t i = 0; i < stage_count; ++i)
            w.line("{:<8}{:<16}{}", i == 0 ? source : "", stage_names[i], figures(by.each_ns[i]));
        w.line("{:<8}{}", "",
               w.styled("\033[1m", fmt::format("{:<16}{}", "call to user", figures(c->total_ns))));
        w.line("{:<8}{:<16}{}", "", "handler to user", figures(by.handler_to_user_ns));
        w.line("{:<8}{} samples, {:.1f} % in interrupt, {:.1f} % on the receiver's CPU", "",
               grouped(c->total_ns.count()), percent_of(by.in_interrupt, c->total_ns.count()),
               on_receivers_cpu(by, c->total_ns.count(), r.with));
        if (c->awake != 0 || c->unstamped != 0)
            w.line("{:<8}dropped: {} receiver awake before the ring, {} without its stamps", "",
                   grouped(c->awake), grouped(c->unstamped));
    }
    if (std::find(sources.begin(), sources.end(), "direct") != sources.end())
        w.line(
            "direct is a wake-up by the ringer, without an interrupt: it stands for comparison.");

    if (scenarios.size() < 2) return;
    w.heading("Call to user by placement and load, us");
    w.columns(fmt::format("{:<8}{:<24}{:>8}{:>8}{:>8}{:>8}{:>9}{:>7}", "source", "where", "p50",
                          "p90", "p99", "max", "samples", "irq %"));
    for (const std::string& source : sources)
        for (const scenario& where : scenarios) {
            const cell* c = r.find(source, method_kind::source, measure::one_way, where);
            if (c == nullptr) continue;
            const summary s = summarise(c->total_ns);
            const auto n = [](std::uint64_t v) { return us(static_cast<double>(v)); };
            w.line("{:<8}{:<24}{:>8}{:>8}{:>8}{:>8}{:>9}{:>7.1f}", where == main ? source : "",
                   where.description(), n(s.p50), n(s.p90), n(s.p99), n(s.max), grouped(s.count),
                   percent_of(c->by_stage ? c->by_stage->in_interrupt : 0, s.count));
        }
}

void write_comparison(text_writer& w, const run_report& r, const scenario& where) {
    struct row {
        std::string name;
        const cell* one_way;
        const cell* round_trip;
    };
    std::vector<row> rows;
    for (method_kind kind : {method_kind::door, method_kind::peer})
        for (const std::string& m : r.methods(kind)) {
            const row found{display_name(m), r.find(m, kind, measure::one_way, where),
                            r.find(m, kind, measure::round_trip, where)};
            if (found.one_way != nullptr || found.round_trip != nullptr) rows.push_back(found);
        }
    if (rows.empty()) return;
    const bool round_trips =
        std::any_of(rows.begin(), rows.end(), [](const row& x) { return x.round_trip != nullptr; });
    // What stands beside eventfd is what most readers want to know.
    const cell* base = r.find("eventfd", method_kind::peer,
                              round_trips ? measure::round_trip : measure::one_way, where);
    w.heading(fmt::format("Comparison, us: {}", where.description()));
    w.columns(fmt::format("{:<15}{:>8}{:>8}{:>8}{:>9}{}{}", "one way", "p50", "p90", "p99", "max",
                          round_trips ? fmt::format("{:>12}{:>8}", "round p50", "p99") : "",
                          base != nullptr ? "  eventfd=1" : ""));
    const auto n = [](std::uint64_t v) { return us(static_cast<double>(v)); };
    for (const row& x : rows) {
        std::string text = fmt::format("{:<15}", x.name);
        if (x.one_way != nullptr) {
            const summary s = summarise(x.one_way->total_ns);
            text += fmt::format("{:>8}{:>8}{:>8}{:>9}", n(s.p50), n(s.p90), n(s.p99), n(s.max));
        } else {
            text += fmt::format("{:33}", "");
        }
        const cell* compared = round_trips ? x.round_trip : x.one_way;
        if (round_trips && x.round_trip != nullptr) {
            const summary s = summarise(x.round_trip->total_ns);
            text += fmt::format("{:>12}{:>8}", n(s.p50), n(s.p99));
        }
        if (base != nullptr && compared != nullptr && base->total_ns.count() != 0)
            text +=
                fmt::format("{:>11.2f}", static_cast<double>(compared->total_ns.percentile(50)) /
                                             static_cast<double>(base->total_ns.percentile(50)));
        w.line("{}", text);
    }
}

void write_costs(text_writer& w, const run_report& r) {
    const auto costs = r.stamp_costs();
    if (costs.empty()) return;
    w.heading("What the stamps cost, us (p50; nothing is subtracted above)");
    w.columns(fmt::format("{:<8}{:>16}{:>12}{:>20}{:>12}", "source", "one way with", "without",
                          "ringer's call with", "without"));
    const auto p50 = [](const histogram& h) { return us(static_cast<double>(h.percentile(50))); };
    for (const auto& c : costs)
        w.line("{:<8}{:>16}{:>12}{:>20}{:>12}", c.source, p50(c.stamped->total_ns),
               p50(c.plain->total_ns), p50(c.stamped->send_ns), p50(c.plain->send_ns));
}

}  // namespace

std::string text_machine(const machine& m, const module_info* module,
                         const timestamp_cost& clock_cost, bool colour) {
    text_writer w(colour);
    std::string title = fmt::format("irqbench {}", IPCDOOR_LIBRARY_VERSION);
    if (module != nullptr)
        title += fmt::format(", module ipcdoor {} (ABI {}, sources:", module->version,
                             module->abi_version);
    if (module != nullptr) {
        for (const std::string& s : module->sources) title += " " + s;
        title += ")";
    }
    w.line("{}", w.styled("\033[1m", title));
    write_machine(w, m);
    w.field("clock", fmt::format("{}; a timestamp costs {:.0f} ns (step {} ns), nothing subtracted",
                                 m.clock_source, clock_cost.ns, clock_cost.step_ns));
    return w.take();
}

std::string text_report(const run_report& r, bool colour) {
    text_writer w(colour);
    const parameters& p = r.with;
    w.field("receiver", fmt::format("CPU {}; ringer: CPU {}; {}", p.waiter_cpu, p.ringer_cpu,
                                    p.priority > 0 ? fmt::format("SCHED_FIFO {}", p.priority)
                                                   : "normal priority"));
    w.field("pacing", fmt::format("{} us before each ring; {} rounds; {} warm-up samples a turn "
                                  "dropped",
                                  p.interval_us, p.rounds, p.warmup));
    write_sources(w, r);
    for (const scenario& where : r.scenarios()) write_comparison(w, r, where);
    write_costs(w, r);
    if (!r.absent.empty()) {
        w.heading("Absent here");
        for (const absence& a : r.absent) w.field(display_name(a.method), a.reason);
    }
    if (!r.notes.empty()) {
        w.heading("Notes");
        for (const std::string& note : r.notes) w.field("", note);
    }
    return text_machine(r.on, r.module ? &*r.module : nullptr, r.clock_cost, colour) + w.take() +
           fmt::format("\nmeasured in {:.1f} s\n", r.duration_s);
}

std::string text_histogram(const std::vector<microsecond_histogram>& columns) {
    std::string text = "# Histogram: one-way latency in us; columns:";
    for (const auto& c : columns) text += " " + c.method;
    text += '\n';
    const std::size_t lines = columns.empty() ? 0 : columns.front().counts.size();
    for (std::size_t i = 0; i < lines; ++i) {
        text += fmt::format("{:06}", i);
        for (const auto& c : columns) text += fmt::format("\t{:06}", c.counts[i]);
        text += '\n';
    }
    const auto footer = [&](const char* label, auto value) {
        text += fmt::format("# {}:", label);
        for (const auto& c : columns) text += fmt::format(" {:05}", value(c));
        text += '\n';
    };
    footer("Total", [](const auto& c) { return c.count; });
    footer("Min Latencies", [](const auto& c) { return c.count == 0 ? 0 : c.min_us; });
    footer("Avg Latencies", [](const auto& c) { return c.count == 0 ? 0 : c.sum_us / c.count; });
    footer("Max Latencies", [](const auto& c) { return c.max_us; });
    footer("Histogram Overflows", [](const auto& c) { return c.overflows; });
    return text;
}

}  // namespace irqbench
