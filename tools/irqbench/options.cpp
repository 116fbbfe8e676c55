// SPDX-License-Identifier: MIT
#include "irqbench/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "common/command_line.hpp"
#include "irqbench/compare/options.hpp"
#include "irqbench/method.hpp"
#include "irqbench/sources.hpp"

namespace irqbench {

namespace {

const std::vector<std::string> default_scenarios{"apart-idle", "same-idle", "apart-loaded",
                                                 "same-loaded"};

// What means something to a command that does not measure as run does.
std::vector<std::string> options_of(command what) {
    switch (what) {
        case command::info: return {"--door", "--json", "--quiet"};
        case command::instructions:
            return {"--door", "--source", "--methods", "--priority", "--json", "--quiet"};
        case command::validate:
            return {"--validate", "--door",   "--loops", "--priority",
                    "--affinity", "--warmup", "--json",  "--quiet"};
        case command::report: return {"--json", "--html", "--svg", "--quiet"};
        case command::run:
        case command::compare: break;
    }
    return {};
}

// Of no effect is refused, lest somebody waits for a file that nobody writes.
void refuse_others(const CLI::App& app, command what, const std::string& name) {
    const std::vector<std::string> taken = options_of(what);
    for (const CLI::Option* option : app.get_options())
        if (option->count() != 0 &&
            std::find(taken.begin(), taken.end(), option->get_name()) == taken.end())
            throw CLI::ValidationError(
                option->get_name(),
                "means nothing to '" + name + "', which takes " + CLI::detail::join(taken, ", "));
}

}  // namespace

std::vector<std::string> resolve_names(const std::vector<std::string>& named,
                                       const std::vector<std::string>& all, const char* option) {
    std::vector<std::string> chosen;
    const auto add = [&](const std::string& name) {
        if (std::find(chosen.begin(), chosen.end(), name) == chosen.end()) chosen.push_back(name);
    };
    for (const std::string& name : named) {
        if (name == "all") {
            std::for_each(all.begin(), all.end(), add);
        } else if (name == "none") {
            continue;
        } else if (std::find(all.begin(), all.end(), name) != all.end()) {
            add(name);
        } else {
            throw CLI::ValidationError(option, "unknown name '" + name + "'; known are " +
                                                   CLI::detail::join(all, ", ") +
                                                   ", and all, none");
        }
    }
    return chosen;
}

double parse_duration(const std::string& text) {
    std::size_t used = 0;
    double value = 0;
    try {
        value = std::stod(text, &used);
    } catch (const std::exception&) {
        throw std::invalid_argument("not a duration: '" + text + "'");
    }
    const std::string unit = text.substr(used);
    const double factor = unit.empty() || unit == "s" ? 1.0
                          : unit == "m"               ? 60.0
                          : unit == "h"               ? 3600.0
                          : unit == "d"               ? 86400.0
                                                      : 0.0;
    if (factor == 0.0 || !(value > 0))
        throw std::invalid_argument("not a duration: '" + text +
                                    "' (a positive number with s, m, h or d)");
    return value * factor;
}

bool parse_command_line(int argc, char** argv, options& o, int& status) {
    CLI::App app{"Latency of ipcdoor's interrupt sources by stage, beside what the system offers"};
    // -h is cyclictest's: the histogram.
    common::introduce(app, "irqbench", "--help");
    app.require_subcommand(0, 1);
    app.footer(
        "Exit status: 0 done, 1 failed, 2 usage, 3 module not loaded, 4 --max-latency "
        "exceeded.\nWhat is named by --source or --methods is measured; with neither, "
        "everything. Full story: irqbench(1).");

    std::vector<std::string> sources, methods, scenarios = default_scenarios;
    std::string duration;
    bool validate = false;

    const char* what = "What to measure";
    app.add_option("--source", sources, "Sources of the door: msi,ipi,timer,direct, all or none")
        ->delimiter(',')
        ->group(what);
    app.add_option("--methods", methods,
                   "Compared methods: eventfd,futex,pipe,unix-stream,unix-dgram,mq,semaphore,"
                   "signal,soft, all or none")
        ->delimiter(',')
        ->group(what);
    app.add_option("--scenario", scenarios,
                   "Placement and load: apart-idle,same-idle,apart-loaded,same-loaded; the first "
                   "is the main one (default: all)")
        ->delimiter(',')
        ->group(what);
    app.add_option("--door", o.door, "URI of the door (default " + o.door + ")")->group(what);
    app.add_flag("--validate", validate, "Compare the timer source with cyclictest")->group(what);

    const char* how = "How to measure";
    app.add_option("-l,--loops", o.loops,
                   "Samples of each source in the main scenario (default 10000)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
        ->group(how);
    app.add_option("--side-loops", o.side_loops,
                   "Samples of everything else (default: a twentieth of --loops)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
        ->group(how);
    app.add_option("-D,--duration", duration,
                   "Go on for this long instead, in seconds or with suffix m, h, d")
        ->group(how);
    app.add_option("-i,--interval", o.interval_us,
                   "Pause before each one-way ring, microseconds (default 50)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{10'000'000}))
        ->group(how);
    app.add_option("-p,--priority", o.priority,
                   "SCHED_FIFO priority of the receiver, the ringer has one less (default 0: "
                   "normal policy)")
        ->check(CLI::Range(0, 99))
        ->group(how);
    app.add_option("-a,--affinity", o.affinity,
                   "CPUs as RECEIVER[,RINGER] (default: the second and the first allowed)")
        ->delimiter(',')
        ->expected(1, 2)
        ->check(CLI::Range(0, 1023))
        ->group(how);
    app.add_option("--load", o.load, "Busy processes on each CPU in loaded scenarios (default 1)")
        ->check(CLI::Range(1, 64))
        ->group(how);
    app.add_option("--rounds", o.rounds, "Rounds in which all methods take turns (default 10)")
        ->check(CLI::Range(1, 10000))
        ->group(how);
    app.add_option("--warmup", o.warmup, "Samples dropped at the start of each turn (default 10)")
        ->check(CLI::Range(0, 1000))
        ->group(how);
    app.add_option("--max-latency", o.max_latency_ns,
                   "Exit with 4 if a one-way sample takes longer, nanoseconds")
        ->group(how);

    const char* output = "Output";
    app.add_option("-h,--histogram", o.histogram_us,
                   "Print a histogram as cyclictest does, up to this many microseconds")
        ->check(CLI::Range(1, 1'000'000))
        ->group(output);
    app.add_option("--histfile", o.histfile, "Write that histogram to this file instead")
        ->group(output);
    app.add_option("--json", o.json, "Write everything as JSON to this file")->group(output);
    app.add_option("--html", o.html, "Write a self-contained HTML report to this file")
        ->group(output);
    app.add_option("--svg", o.svg, "Write the percentile plot to this file")->group(output);
    app.add_flag("-q,--quiet", o.quiet, "Print nothing but errors")->group(output);

    app.add_subcommand("run", "Measure and report (the default)")->fallthrough();
    app.add_subcommand("info", "Say what this machine and the module are")->fallthrough();
    app.add_subcommand("validate", "The same as --validate")->fallthrough();
    auto* instructions = app.add_subcommand(
        "instructions", "Guest instructions of a blocking round trip (one CPU, -icount shift=0)");
    instructions->fallthrough();
    instructions->add_option("--repetitions", o.repetitions, "Repetitions (default 9)")
        ->check(CLI::Range(1, 1000));
    instructions
        ->add_option("--round-trips", o.round_trips,
                     "Round trips in each repetition (default 1000)")
        ->check(CLI::Range(1, 1'000'000));
    auto* report = app.add_subcommand("report", "Make reports from a --json file");
    report->fallthrough();
    report->add_option("FILE", o.report_input, "A file written with --json")->required();
    report->add_flag("--summary", o.report_summary, "Of a comparison: print only the ratios");
    compare::command_line comparison(app);

    return common::parse(app, argc, argv, status, [&] {
        o.command_line = common::joined("irqbench", argc, argv);
        if (comparison.chosen()) {
            o.what = command::compare;
            o.comparison = comparison.resolve();
            o.comparison.command_line = o.command_line;
            return;
        }
        if (validate && !app.get_subcommands().empty())
            throw CLI::ValidationError("--validate", "stands alone, without a subcommand");
        if (validate || app.got_subcommand("validate"))
            o.what = command::validate;
        else if (app.got_subcommand("info"))
            o.what = command::info;
        else if (app.got_subcommand("instructions"))
            o.what = command::instructions;
        else if (app.got_subcommand("report"))
            o.what = command::report;
        if (o.what != command::run)
            refuse_others(app, o.what,
                          validate ? "--validate" : app.get_subcommands().front()->get_name());

        o.sources_named = app.count("--source") != 0;
        o.methods_named = app.count("--methods") != 0;
        if (!o.sources_named && !o.methods_named) {
            sources = {"all"};
            methods = {"all"};
        }
        o.sources = resolve_names(sources, source_names(), "--source");
        o.methods = resolve_names(methods, peer_names(), "--methods");
        if (o.sources.empty() && o.methods.empty())
            throw CLI::ValidationError("--source, --methods", "nothing is left to measure");
        for (const std::string& name : resolve_names(scenarios, default_scenarios, "--scenario"))
            o.scenarios.push_back(*scenario::parse(name));
        if (o.scenarios.empty())
            throw CLI::ValidationError("--scenario", "nothing is left to measure");
        if (!duration.empty()) try {
                o.duration_s = parse_duration(duration);
            } catch (const std::invalid_argument& e) {
                throw CLI::ValidationError("--duration", e.what());
            }
        o.side_loops_named = o.side_loops != 0;
        if (!o.side_loops_named) o.side_loops = std::max<std::uint64_t>(1, o.loops / 20);
        if (!o.histfile.empty() && o.histogram_us == 0)
            throw CLI::ValidationError("--histfile", "needs --histogram N");
    });
}

}  // namespace irqbench
