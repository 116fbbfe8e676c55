// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>

#include "irqbench/compare/reports.hpp"
#include "irqbench/model.hpp"
#include "report/html.hpp"
#include "report/units.hpp"

namespace irqbench::compare {

namespace {

constexpr const char* round_trip_title = "Round trip of a message and its answer, median";
constexpr const char* throughput_title = "Throughput";

// What is drawn together, beside the plot of everything.
struct family {
    const char* title;
    std::vector<std::string> methods;
};
const std::vector<family> families{{"Messages", {"message", "message-in-place"}},
                                   {"Calls", {"call", "rpc"}},
                                   {"Byte streams", {"pipe", "stream"}},
                                   {"Shared memory", {"memory"}}};

class page : html_page {
public:
    explicit page(const compare_report& r) : r_(r) {}

    std::string make() {
        out_ += html_start("irqbench compare: " + r_.on.kernel);
        add("<h1>ipcdoor beside the kernel’s own methods</h1>\n<p class=\"sub\">irqbench {} on "
            "Linux {}, {}; {}</p>\n",
            IPCDOOR_LIBRARY_VERSION, escape(r_.on.kernel), escape(r_.started),
            r_.with.backend == "kernel" ? "module ipcdoor " + escape(r_.with.module_version) +
                                              ", interrupts by " + escape(r_.with.source)
                                        : std::string("software back end, no module"));
        if (r_.on.where == environment::emulated)
            add("<p class=\"warn\" role=\"note\"><b>Emulated processor ({}).</b> Only the ratios "
                "mean anything.</p>\n",
                escape(r_.on.hypervisor));
        add("<p>Two processes on CPU {} and CPU {}; each method and its counterpart take turns, {} "
            "rounds of {} ms; medians of the rounds. Every message is written and read in full on "
            "both sides. “times” is how many times as fast ipcdoor is.</p>\n",
            r_.with.ringer_cpu, r_.with.waiter_cpu, r_.with.rounds, r_.with.turn_ns / 1'000'000U);
        plots(round_trip_title, throughput_title, r_);
        for (const contest& c : r_.contests) table(c);
        for (const family& f : families) {
            compare_report some = r_;
            std::erase_if(some.contests, [&](const contest& c) {
                return std::find(f.methods.begin(), f.methods.end(), c.method) == f.methods.end();
            });
            if (some.contests.empty()) continue;
            add("<h2>{}</h2>\n", f.title);
            plots(std::string(f.title) + ": round trip", std::string(f.title) + ": throughput",
                  some);
        }
        out_ += html_end(fmt::format(
            "Made by irqbench {}; {}. The same figures, and those of each round, are in "
            "its <code>--json</code>.",
            IPCDOOR_LIBRARY_VERSION, escape(environment_line(r_.on))));
        return std::move(out_);
    }

private:
    void plots(const std::string& round_trip, const std::string& throughput,
               const compare_report& of) {
        const auto one = [&](const std::string& title, quantity what) {
            const std::vector<curve> curves = curves_of(of, what);
            if (curves.empty()) return;
            plot(size_plot(title, what, curves));
        };
        add("<div class=\"stack\">\n");
        one(round_trip, quantity::round_trip_ns);
        one(throughput, quantity::bytes_per_s);
        add("</div>\n");
    }

    static std::string times(const match& m, bool throughput) {
        if (m.outcome(throughput) == verdict::slower)
            return fmt::format("<b>{:.2f} slower</b>", m.speedup(throughput));
        return fmt::format("{:.2f}", m.speedup(throughput));
    }

    void table(const contest& c) {
        add("<div class=\"card scroll\" style=\"margin-top:14px\"><table><caption>{} beside "
            "{}</caption><thead><tr><th class=\"l\" scope=\"col\">size</th>"
            "<th scope=\"col\">round trip p50, µs</th><th scope=\"col\">p99</th>"
            "<th scope=\"col\">kernel’s p50</th><th scope=\"col\">p99</th>"
            "<th scope=\"col\">times</th><th scope=\"col\">{}</th><th scope=\"col\">kernel’s</th>"
            "<th scope=\"col\">times</th></tr></thead><tbody>\n",
            escape(method_title(c.method)), escape(method_title(c.counterpart)),
            c.events ? "1000 events/s" : "MB/s");
        for (const match& m : c.matches) {
            const double unit = c.events ? 1e-3 : static_cast<double>(m.bytes) * 1e-6;
            add("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
                "<td>{}</td><td>{:.5g}</td><td>{:.5g}</td><td>{}</td></tr>\n",
                size_name(m.bytes), microseconds(m.own.median_p50_ns()),
                microseconds(m.own.median_p99_ns()), microseconds(m.counterpart.median_p50_ns()),
                microseconds(m.counterpart.median_p99_ns()), times(m, false),
                m.own.median_per_s() * unit, m.counterpart.median_per_s() * unit, times(m, true));
            for (const bool throughput : {false, true}) {
                if (m.outcome(throughput) != verdict::slower) continue;
                const std::string reason = known_reason(c, m, throughput, r_.with);
                if (!reason.empty())
                    add("<tr><td></td><td class=\"l\" colspan=\"8\" style=\"white-space:normal\">"
                        "{} slower: {}</td></tr>\n",
                        throughput ? "throughput" : "round trip", escape(reason));
            }
        }
        for (const missing& a : c.absent)
            add("<tr><th scope=\"row\">{}</th><td class=\"l\" colspan=\"8\">not compared, {}: "
                "{}</td></tr>\n",
                size_name(a.bytes), escape(method_title(a.method)), escape(a.reason));
        add("</tbody></table></div>\n");
    }

    const compare_report& r_;
};

}  // namespace

std::string html_compare(const compare_report& r) { return page(r).make(); }

std::string svg_compare(const compare_report& r, quantity what) {
    const std::vector<curve> curves = curves_of(r, what);
    if (curves.empty())
        throw std::runtime_error("a plot needs a method that is measured by message size");
    return size_plot(
               fmt::format("{}: ipcdoor's {}{}",
                           what == quantity::round_trip_ns ? round_trip_title : throughput_title,
                           r.with.backend == "kernel" ? "module" : "soft back end",
                           r.on.where == environment::emulated ? " (emulated)" : ""),
               what, curves)
        .file(plot_style());
}

}  // namespace irqbench::compare
