// SPDX-License-Identifier: MIT
//
// irqbench: latency of ipcdoor's interrupt sources by stage, and its methods beside what the system
// offers.
// Owns: the order of things and the exit status.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "common/terminal.hpp"
#include "common/write_file.hpp"
#include "irqbench/compare/reports.hpp"
#include "irqbench/cyclictest.hpp"
#include "irqbench/instructions.hpp"
#include "irqbench/options.hpp"
#include "irqbench/report_html.hpp"
#include "irqbench/report_json.hpp"
#include "irqbench/report_text.hpp"
#include "irqbench/run.hpp"
#include "irqbench/sources.hpp"
#include "irqbench/validate.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

void print(const options& o, const std::string& text) {
    if (!o.quiet) fmt::print("{}", text);
}

void write_reports(const options& o, const run_report& r) {
    if (!o.json.empty()) write_file(o.json, json_report(r));
    if (!o.html.empty()) write_file(o.html, html_report(r));
    if (!o.svg.empty()) write_file(o.svg, svg_report(r));
}

int check_limit(const options& o, const run_report& r) {
    if (o.max_latency_ns == 0) return exit_ok;
    int status = exit_ok;
    for (const cell& c : r.cells) {
        if (c.what != measure::one_way || c.total_ns.max() <= o.max_latency_ns) continue;
        fmt::print(stderr, "irqbench: {}, {}: {} us exceed the limit of {} us\n",
                   display_name(c.method), c.where.description(),
                   microseconds(static_cast<double>(c.total_ns.max())),
                   microseconds(static_cast<double>(o.max_latency_ns)));
        status = exit_over_limit;
    }
    return status;
}

int do_run(const options& o) {
    const run_result result = measure_all(o);
    print(o, text_report(result.report, colour_wanted(STDOUT_FILENO)));
    if (!result.by_microsecond.empty()) {
        const std::string text = text_histogram(result.by_microsecond);
        if (o.histfile.empty())
            print(o, text);
        else
            write_file(o.histfile, text);
    }
    write_reports(o, result.report);
    return check_limit(o, result.report);
}

int do_info(const options& o) {
    const machine m = describe_machine();
    const timestamp_cost cost = measure_timestamp_cost();
    const auto say = [&](const module_info* module) {
        print(o, text_machine(m, module, cost, colour_wanted(STDOUT_FILENO)));
        std::fflush(stdout);
        write_file(o.json, json_machine(m, module, cost));
    };
    try {
        const module_info module = describe_door(o.door);
        say(&module);
        return exit_ok;
    } catch (const door_absent&) {
        say(nullptr);
        throw;
    }
}

int do_instructions(const options& o) {
    const instruction_report r = measure_instructions(o);
    print(o, text_instructions(r, colour_wanted(STDOUT_FILENO)));
    write_file(o.json, json_instructions(r));
    return exit_ok;
}

int do_validate(const options& o) {
    const validation v = validate_timer(o);
    print(o, text_validation(v));
    write_file(o.json, json_validation(v));
    return v.agrees() ? exit_ok : exit_failed;
}

void write_comparison(const std::string& json, const std::string& html, const std::string& svg,
                      const std::string& svg_throughput, const compare::compare_report& r) {
    using compare::quantity;
    if (!json.empty()) write_file(json, json_compare(r));
    if (!html.empty()) write_file(html, html_compare(r));
    if (!svg.empty()) write_file(svg, svg_compare(r, quantity::round_trip_ns));
    if (!svg_throughput.empty()) write_file(svg_throughput, svg_compare(r, quantity::bytes_per_s));
}

int do_compare(const compare::compare_options& o) {
    const compare::compare_report r = compare_all(o);
    if (!o.quiet) fmt::print("{}", text_compare(r, o.summary, colour_wanted(STDOUT_FILENO)));
    write_comparison(o.json, o.html, o.svg, o.svg_throughput, r);
    return exit_ok;
}

int do_report(const options& o) {
    std::ifstream file(o.report_input, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file) throw std::runtime_error("cannot read " + o.report_input);
    if (compare::is_json_compare(text.str())) {
        const compare::compare_report r = compare::parse_json_compare(text.str());
        print(o, text_compare(r, o.report_summary, colour_wanted(STDOUT_FILENO)));
        write_comparison(o.json, o.html, o.svg, "", r);
        return exit_ok;
    }
    if (o.report_summary)
        throw std::runtime_error("--summary is for what irqbench compare has written");
    const run_report r = parse_json_report(text.str());
    print(o, text_report(r, colour_wanted(STDOUT_FILENO)));
    write_reports(o, r);
    return exit_ok;
}

int dispatch(const options& o) try {
    switch (o.what) {
        case command::run: return do_run(o);
        case command::info: return do_info(o);
        case command::instructions: return do_instructions(o);
        case command::validate: return do_validate(o);
        case command::report: return do_report(o);
        case command::compare: return do_compare(o.comparison);
    }
    return exit_usage;
} catch (const door_absent& e) {
    fmt::print(stderr, "irqbench: {}\n", e.what());
    return exit_no_module;
}

}  // namespace

}  // namespace irqbench

int main(int argc, char** argv) {
    irqbench::options o;
    int status = irqbench::exit_ok;
    if (!irqbench::parse_command_line(argc, argv, o, status)) return status;
    return common::run_tool("irqbench", [&] { return irqbench::dispatch(o); });
}
