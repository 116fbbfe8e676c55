// SPDX-License-Identifier: MIT
#include "report/html.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>

#include "bench/reports.hpp"
#include "report/plots.hpp"
#include "report/units.hpp"

namespace bench {

namespace {

using report::escape;

std::string css_of(std::size_t i) {
    return fmt::format("s{}", i % static_cast<std::size_t>(report::plot_colours));
}

class page : report::html_page {
public:
    explicit page(const bench_report& r) : r_(r) {}

    std::string make() {
        out_ += report::html_start("ipcdoor-bench: " + r_.on.kernel);
        add("<h1>What ipcdoor costs</h1>\n<p class=\"sub\">ipcdoor-bench {} on Linux {}, {}; "
            "software back end</p>\n",
            IPCDOOR_LIBRARY_VERSION, escape(r_.on.kernel), escape(r_.started));
        if (r_.with.quick)
            add("<p class=\"warn\" role=\"note\"><b>A quick run.</b> It says that everything works, "
                "not how fast it is.</p>\n");
        if (r_.on.where == report::environment::emulated)
            add("<p class=\"warn\" role=\"note\"><b>Emulated processor ({}).</b> Only the ratios "
                "mean anything.</p>\n",
                escape(r_.on.hypervisor));
        tiles();
        goals();
        machine();
        for (const group_result& g : r_.groups) one(g);
        out_ += report::html_end(
            fmt::format("Made by ipcdoor-bench {}; {}. The same figures, and those of each turn, "
                        "are in its <code>--json</code>.",
                        IPCDOOR_LIBRARY_VERSION, escape(report::environment_line(r_.on))));
        return std::move(out_);
    }

private:
    void tiles() {
        const auto tile = [&](std::size_t count, const char* what, const char* colour) {
            add("<div class=\"tile\" style=\"--c:var(--{})\"><span class=\"name\">{}</span><b>{}</b>"
                "</div>\n",
                colour, what, count);
        };
        add("<div class=\"tiles\">\n");
        tile(r_.goals(true), "goals met", "s1");
        tile(r_.goals(false), "goals not met", "s2");
        add("</div>\n");
    }

    void head_of_findings(const char* caption, const char* first) {
        add("<div class=\"card scroll\" style=\"margin-top:14px\"><table><caption>{}</caption>"
            "<thead><tr>{}<th class=\"l\" scope=\"col\">what</th><th scope=\"col\">reached</th>"
            "<th scope=\"col\">min – max</th><th scope=\"col\">goal</th><th scope=\"col\"></th></tr>"
            "</thead><tbody>\n",
            caption, first);
    }

    void row(const finding& f, const std::string& first) {
        add("<tr>{}<td class=\"l\">{}</td><td>{:.2f}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            first, escape(f.title), f.value.median, spread_text(f),
            f.at_most ? fmt::format("≤ {:g}", *f.at_most) : "–",
            !f.at_most ? "–"
            : f.met()  ? "met"
                       : "<b>not met</b>");
    }

    void goals() {
        add("<h2>Goals</h2>\n");
        head_of_findings("Each goal, and what was reached: ratios of times, or system calls",
                         "<th class=\"l\" scope=\"col\">group</th>");
        for (const group_result& g : r_.groups)
            for (const finding& f : g.findings)
                if (f.at_most) row(f, "<th scope=\"row\">" + escape(g.what.name) + "</th>");
        add("</tbody></table></div>\n");
    }

    void machine() {
        add("<h2>Measured on</h2>\n<div class=\"card scroll\"><table class=\"facts\"><tbody>\n");
        for (const auto& [name, value] : report::facts_of(r_.on)) fact(name, value);
        fact("Turns", fmt::format("{} of {} ms of each contestant; all of a group take turns, in "
                                  "alternating order",
                                  r_.with.repetitions, r_.with.turn_ms));
        fact("Ratios", "of the same round; the median of the rounds, with the least and the most");
        fact("System calls", fmt::format("of {} operations, in a traced process of its own",
                                         r_.with.counted_operations));
        add("<tr><th scope=\"row\">Command</th><td><code>{}</code></td></tr>\n",
            escape(r_.with.command_line));
        add("</tbody></table></div>\n");
    }

    const char* unit(const group_result& g) const {
        return g.what.clock == clock::cpu ? "CPU time of an operation" : "time of an operation";
    }

    void one(const group_result& g) {
        add("<h2>{}</h2>\n<p>One operation: {}.</p>\n", escape(g.what.title),
            escape(g.what.operation));
        if (!g.timings.empty()) {
            if (g.what.axis == axis_kind::none)
                plot(bars(g), "card pair");
            else
                plot(curves(g));
        }
        add("<div class=\"card scroll\" style=\"margin-top:14px\"><table><caption>Nanoseconds of "
            "an operation, {}</caption><thead><tr><th class=\"l\" scope=\"col\">contestant</th>"
            "<th scope=\"col\">median</th><th scope=\"col\">min</th><th scope=\"col\">max</th>"
            "<th scope=\"col\">system calls</th></tr></thead><tbody>\n",
            g.what.clock == clock::cpu ? "CPU time" : "wall clock");
        for (const timing& t : g.timings) {
            const report::spread s = report::spread_of(g.ns(t));
            add("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(g.what.label(t.who)), nanoseconds(s.median), nanoseconds(s.min),
                nanoseconds(s.max), calls_text(t.calls));
        }
        for (const absence& a : g.absent)
            add("<tr><th scope=\"row\">{}</th><td class=\"l\" colspan=\"4\">{}: {}</td></tr>\n",
                escape(g.what.label(a.who)), a.failed ? "<b>failed</b>" : "not here",
                escape(a.reason));
        add("</tbody></table></div>\n");
        if (g.findings.empty()) return;
        head_of_findings("Ratios and system calls", "");
        for (const finding& f : g.findings) row(f, "");
        add("</tbody></table></div>\n");
    }

    std::string names(const group_result& g) const {
        std::string all;
        for (const timing& t : g.timings)
            all += fmt::format(" {}: {} ns.", g.what.label(t.who),
                               nanoseconds(report::spread_of(g.ns(t)).median));
        return all;
    }

    report::canvas bars(const group_result& g) const {
        std::vector<report::bar> all;
        for (const timing& t : g.timings) {
            const report::spread s = report::spread_of(g.ns(t));
            all.push_back({t.who.name, t.own ? "s0" : "c-peer", t.own, s.median, s.max,
                           fmt::format("{}: {} ns, {} to {}", t.who.name, nanoseconds(s.median),
                                       nanoseconds(s.min), nanoseconds(s.max))});
        }
        return report::bar_plot(
            g.what.title, fmt::format("{}; bar: median, tick: the slowest turn", unit(g)),
            "Bars of the median, best first." + names(g),
            [](double ns) {
                return ns < 1000 ? nanoseconds(ns) + " ns" : report::with_unit(ns, "µs");
            },
            std::move(all));
    }

    report::canvas curves(const group_result& g) const {
        std::vector<report::curve> all;
        for (const timing& t : g.timings) {
            const auto same = std::find_if(all.begin(), all.end(), [&](const report::curve& c) {
                return c.name == t.who.name;
            });
            report::curve& to =
                same != all.end()
                    ? *same
                    : all.emplace_back(report::curve{t.who.name, css_of(all.size()), t.own, {}});
            to.points.push_back({t.who.x, report::spread_of(g.ns(t)).median});
        }
        return report::curve_plot(
            g.what.title,
            fmt::format("{}, median; solid: ipcdoor, dashed: others; lower is better", unit(g)),
            "Line plot, both axes logarithmic." + names(g),
            {g.what.axis_title, [&](double x) { return g.what.label(x); }},
            {"", [](double ns) { return report::with_unit(ns, "µs"); }}, all);
    }

    const bench_report& r_;
};

}  // namespace

std::string html_report(const bench_report& r) { return page(r).make(); }

}  // namespace bench
