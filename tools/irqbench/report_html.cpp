// SPDX-License-Identifier: MIT
#include "irqbench/report_html.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>
#include <stdexcept>

#include "irqbench/plots.hpp"
#include "report/html.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

std::string us(std::uint64_t ns) { return microseconds(static_cast<double>(ns)); }

class page : html_page {
public:
    explicit page(const run_report& r) : r_(r) {}

    std::string make() {
        head();
        tiles();
        machine_table();
        stages_section();
        percentiles_section();
        for (const scenario& where : r_.scenarios()) comparison_section(where);
        histograms_section();
        notes_section();
        out_ += html_end(
            fmt::format("Made by irqbench {}; percentiles are at most {:.2g} % above the true "
                        "sample. The same figures are in its <code>--json</code>.",
                        IPCDOOR_LIBRARY_VERSION, histogram::relative_error * 100));
        return std::move(out_);
    }

private:
    const cell* source_cell(const std::string& source, const scenario& where) const {
        return r_.find(source, method_kind::source, measure::one_way, where);
    }

    std::vector<series> methods_in(const scenario& where, measure what) const {
        std::vector<series> all;
        for (method_kind kind : {method_kind::door, method_kind::peer})
            for (const std::string& m : r_.methods(kind))
                if (const cell* c = r_.find(m, kind, what, where);
                    c != nullptr && c->total_ns.count() != 0)
                    all.push_back({display_name(m), series_class(m), &c->total_ns});
        return all;
    }

    void head() {
        out_ += html_start("irqbench: " + r_.on.kernel, method_style());
        add("<h1>Interrupt latency</h1>\n<p class=\"sub\">irqbench {} on Linux {}, {}{}</p>\n",
            IPCDOOR_LIBRARY_VERSION, escape(r_.on.kernel), escape(r_.started),
            r_.module ? ", module ipcdoor " + escape(r_.module->version) : "");
        if (r_.on.where == environment::emulated)
            add("<p class=\"warn\" role=\"note\"><b>Emulated processor ({}).</b> These latencies "
                "are good for comparison within this run only; on hardware all of them are far "
                "smaller.</p>\n",
                escape(r_.on.hypervisor));
    }

    void tiles() {
        if (r_.methods(method_kind::source).empty()) return;
        const scenario where = r_.scenarios().front();
        add("<div class=\"tiles\">\n");
        for (const std::string& source : r_.methods(method_kind::source)) {
            const cell* c = source_cell(source, where);
            if (c == nullptr || !c->by_stage) continue;
            const summary s = summarise(c->total_ns);
            add("<div class=\"tile t-{0}\"><span class=\"name\">{0}</span><b>{1} µs</b>"
                "<span class=\"more\">median, call to user space<br>p99 {2} µs<br>{3:.1f} % in "
                "interrupt</span></div>\n",
                escape(source), us(s.p50), us(s.p99),
                percent_of(c->by_stage->in_interrupt, s.count));
        }
        add("</div>\n");
    }

    void machine_table() {
        const machine& m = r_.on;
        const parameters& p = r_.with;
        add("<h2>Measured on</h2>\n<div class=\"card scroll\"><table class=\"facts\"><tbody>\n");
        for (const auto& [name, value] : facts_of(m)) fact(name, value);
        fact("Clock", fmt::format("{}; reading it costs {:.0f} ns (step {} ns), nothing is "
                                  "subtracted",
                                  m.clock_source, r_.clock_cost.ns, r_.clock_cost.step_ns));
        fact("Processes", fmt::format("receiver on CPU {}, ringer on CPU {} or, for “same CPU”, "
                                      "with it; {}",
                                      p.waiter_cpu, p.ringer_cpu,
                                      p.priority > 0 ? fmt::format("SCHED_FIFO {}", p.priority)
                                                     : "normal priority"));
        fact("Pacing",
             fmt::format("{} µs before each one-way ring, the receiver asleep; {} rounds "
                         "in which all methods take turns; {} warm-up samples a turn "
                         "dropped; {} busy process{} a CPU where loaded",
                         p.interval_us, p.rounds, p.warmup, p.load, p.load == 1 ? "" : "es"));
        add("<tr><th scope=\"row\">Command</th><td><code>{}</code></td></tr>\n",
            escape(p.command_line));
        add("</tbody></table></div>\n");
    }

    void figures_row(const std::string& cells, const histogram& h, const std::string& css) {
        const summary s = summarise(h);
        add("<tr{}>{}<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
            "<td>{}</td></tr>\n",
            css.empty() ? "" : " class=\"" + css + "\"", cells, us(s.min), microseconds(s.mean),
            us(s.p50), us(s.p90), us(s.p99), us(s.p99_9), us(s.max), grouped(s.count));
    }

    static constexpr const char* figure_columns =
        "<th scope=\"col\">min</th><th scope=\"col\">mean</th><th scope=\"col\">p50</th>"
        "<th scope=\"col\">p90</th><th scope=\"col\">p99</th><th scope=\"col\">p99.9</th>"
        "<th scope=\"col\">max</th><th scope=\"col\">samples</th>";

    void stages_section() {
        const auto sources = r_.methods(method_kind::source);
        if (sources.empty()) return;
        const scenario where = r_.scenarios().front();
        add("<h2>The way of a ring</h2>\n<p>From just before the ringer’s call to just after the "
            "receiver’s returned ({}). The bars are the mean stages of those samples whose total "
            "lies around that percentile, so they add up. <b>direct</b> is a wake-up by the ringer "
            "without an interrupt and stands for comparison.</p>\n<div class=\"stack\">\n",
            where.description());
        std::vector<const cell*> cells;
        for (const std::string& s : sources)
            if (const cell* c = source_cell(s, where);
                c != nullptr && c->by_stage && c->by_stage->splits.size() >= 2)
                cells.push_back(c);
        for (std::size_t index : {0, 1})
            if (!cells.empty()) plot(stage_plot(cells, index));
        add("<div class=\"card scroll\"><table><caption>Latency by stage, µs ({})</caption><thead>"
            "<tr><th class=\"l\" scope=\"col\">source</th><th class=\"l\" scope=\"col\">stage</th>"
            "{}</tr></thead><tbody>\n",
            where.description(), figure_columns);
        for (const cell* c : cells) {
            const auto row = [&](const char* stage, const histogram& h, const char* css) {
                figures_row(fmt::format("<th scope=\"row\">{}</th><td class=\"l\">{}</td>",
                                        escape(c->method), stage),
                            h, css);
            };
            for (std::size_t i = 0; i < stage_count; ++i)
                row(stage_names[i], c->by_stage->each_ns[i], i == 0 ? "first" : "");
            row("call to user", c->total_ns, "sum");
            row("handler to user", c->by_stage->handler_to_user_ns, "");
        }
        add("</tbody></table></div>\n");
        placement_table(sources);
        add("</div>\n");
    }

    void placement_table(const std::vector<std::string>& sources) {
        add("<div class=\"card scroll\"><table><caption>Call to user by placement and load, µs"
            "</caption><thead><tr><th class=\"l\" scope=\"col\">source</th><th class=\"l\" "
            "scope=\"col\">where</th>{}<th scope=\"col\">in interrupt</th><th scope=\"col\">dropped"
            "</th></tr></thead><tbody>\n",
            figure_columns);
        for (const std::string& source : sources)
            for (const scenario& where : r_.scenarios()) {
                const cell* c = source_cell(source, where);
                if (c == nullptr || !c->by_stage) continue;
                const summary s = summarise(c->total_ns);
                add("<tr{}><th scope=\"row\">{}</th><td class=\"l\">{}</td><td>{}</td><td>{}</td>"
                    "<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
                    "<td>{:.1f} %</td><td>{}</td></tr>\n",
                    where == r_.scenarios().front() ? " class=\"first\"" : "", escape(source),
                    where.description(), us(s.min), microseconds(s.mean), us(s.p50), us(s.p90),
                    us(s.p99), us(s.p99_9), us(s.max), grouped(s.count),
                    percent_of(c->by_stage->in_interrupt, s.count),
                    grouped(c->awake + c->unstamped));
            }
        add("</tbody></table></div>\n<p>Dropped samples are those whose receiver was still awake "
            "when the ring came, or whose stamps were another delivery’s.</p>\n");
        costs_table();
    }

    void costs_table() {
        const auto costs = r_.stamp_costs();
        if (costs.empty()) return;
        add("<div class=\"card scroll\"><table><caption>What the stamps cost, µs (p50; nothing is "
            "subtracted anywhere)</caption><thead><tr><th class=\"l\" scope=\"col\">source</th>"
            "<th scope=\"col\">one way with</th><th scope=\"col\">without</th><th scope=\"col\">"
            "ringer’s call with</th><th scope=\"col\">without</th></tr></thead><tbody>\n");
        for (const auto& c : costs)
            add("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(c.source), us(c.stamped->total_ns.percentile(50)),
                us(c.plain->total_ns.percentile(50)), us(c.stamped->send_ns.percentile(50)),
                us(c.plain->send_ns.percentile(50)));
        add("</tbody></table></div>\n");
    }

    void percentiles_section() {
        add("<h2>Percentiles</h2>\n<div class=\"stack\">\n");
        std::vector<series> sources;
        for (const std::string& source : r_.methods(method_kind::source))
            if (const cell* c = source_cell(source, r_.scenarios().front());
                c != nullptr && c->total_ns.count() != 0)
                sources.push_back({source, series_class(source), &c->total_ns});
        if (!sources.empty())
            plot(percentile_plot("Sources, call to user: " + r_.scenarios().front().description(),
                                 sources));
        for (const scenario& where : r_.scenarios())
            if (const auto all = methods_in(where, measure::one_way); !all.empty())
                plot(percentile_plot("Compared, one way: " + where.description(), all));
        add("</div>\n");
    }

    void comparison_section(const scenario& where) {
        const auto one_way = methods_in(where, measure::one_way);
        const auto round_trip = methods_in(where, measure::round_trip);
        if (one_way.empty() && round_trip.empty()) return;
        add("<h2>Compared: {}</h2>\n<p>Two processes, the same harness and pinning, taking turns. "
            "ipcdoor is measured here as it ships, without stage stamps.</p>\n"
            "<div class=\"stack\"><div class=\"pair\">\n",
            where.description());
        if (!one_way.empty()) plot(comparison_plot("One way", one_way), "card");
        if (!round_trip.empty()) plot(comparison_plot("Round trip", round_trip), "card");
        add("</div>\n");
        for (const auto& [name, all] :
             {std::pair{"One way", &one_way}, std::pair{"Round trip", &round_trip}}) {
            if (all->empty()) continue;
            add("<div class=\"card scroll\"><table><caption>{}, µs ({})</caption><thead><tr>"
                "<th class=\"l\" scope=\"col\">method</th>{}</tr></thead><tbody>\n",
                name, where.description(), figure_columns);
            for (const series& s : *all)
                figures_row("<th scope=\"row\">" + escape(s.name) + "</th>", *s.samples, "");
            add("</tbody></table></div>\n");
        }
        add("</div>\n");
    }

    void histogram_grid(const char* title, const std::vector<series>& all) {
        if (all.empty()) return;
        double low = 1e18, high = 0;
        for (const series& s : all) {
            low = std::min(low, static_cast<double>(s.samples->min()));
            high = std::max(high, static_cast<double>(s.samples->max()));
        }
        const auto [from, to] = nice_log_range(low, high);
        add("<h3>{}</h3>\n<div class=\"grid\">\n", title);
        for (const series& s : all) plot(histogram_plot(s, from, to), "card");
        add("</div>\n");
    }

    void histograms_section() {
        const scenario where = r_.scenarios().front();
        add("<h2>Histograms</h2>\n<p>Counts over latency, both logarithmic; one axis for each "
            "group ({}). Dashed: p50 and p99.</p>\n",
            where.description());
        std::vector<series> sources;
        for (const std::string& source : r_.methods(method_kind::source))
            if (const cell* c = source_cell(source, where);
                c != nullptr && c->total_ns.count() != 0)
                sources.push_back({source, series_class(source), &c->total_ns});
        histogram_grid("Sources, call to user", sources);
        histogram_grid("Methods, one way", methods_in(where, measure::one_way));
        histogram_grid("Methods, round trip", methods_in(where, measure::round_trip));
    }

    void notes_section() {
        if (!r_.absent.empty()) {
            add("<h2>Absent here</h2>\n<div class=\"card scroll\"><table class=\"facts\"><tbody>\n");
            for (const absence& a : r_.absent)
                add("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
                    escape(display_name(a.method)), escape(a.reason));
            add("</tbody></table></div>\n");
        }
        if (!r_.notes.empty()) {
            add("<h2>Notes</h2>\n<ul>\n");
            for (const std::string& note : r_.notes) add("<li>{}</li>\n", escape(note));
            add("</ul>\n");
        }
    }

    const run_report& r_;
};

}  // namespace

std::string html_report(const run_report& r) {
    if (r.cells.empty()) throw std::runtime_error("a report needs at least one measured method");
    return page(r).make();
}

std::string svg_report(const run_report& r) {
    if (r.cells.empty()) throw std::runtime_error("a report needs at least one measured method");
    const scenario where = r.scenarios().front();
    // Methods that took equal turns; the stamped sources only where nothing else was measured.
    std::vector<series> all;
    const auto add_all = [&](method_kind kind) {
        for (const std::string& m : r.methods(kind))
            if (const cell* c = r.find(m, kind, measure::one_way, where); c != nullptr)
                all.push_back({display_name(m), series_class(m), &c->total_ns});
    };
    add_all(method_kind::door);
    add_all(method_kind::peer);
    if (all.empty()) add_all(method_kind::source);
    return percentile_plot(fmt::format("One way from ring to user space: {}{}", where.description(),
                                       r.on.where == environment::emulated ? " (emulated)" : ""),
                           all)
        .file(plot_style() + method_style());
}

}  // namespace irqbench
