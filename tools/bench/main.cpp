// SPDX-License-Identifier: MIT
//
// ipcdoor-bench: what the library's operations cost, beside what the system and others offer, with
// the goals that they have. docs/performance.md.
// Owns: the command line and the exit status.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string>

#include "bench/reports.hpp"
#include "bench/run.hpp"
#include "common/command_line.hpp"
#include "common/terminal.hpp"
#include "common/write_file.hpp"

namespace bench {

namespace {

struct options {
    parameters with;
    std::string json;
    std::string html;
    bool quiet = false;
    bool list = false;
};

// False: the program is over with `status`.
bool parse(int argc, char** argv, options& o, int& status) {
    CLI::App app{"What ipcdoor's operations cost, beside what the system and others offer"};
    common::introduce(app, "ipcdoor-bench");
    app.footer(
        "Exit status: 0 done, whether goals are met or not; 1 something could not run; 2 usage.");
    std::uint64_t repetitions = 0, turn_ms = 0;
    app.add_option("--filter", o.with.filter,
                   "Only contestants whose GROUP/NAME matches this regular expression");
    app.add_option("--repetitions", repetitions, "Turns of each contestant (default 11, quick 3)")
        ->check(CLI::Range(1, 10000));
    app.add_option("--turn", turn_ms, "Milliseconds of a turn (default 25, quick 1)")
        ->check(CLI::Range(1, 10000));
    app.add_flag("--quick", o.with.quick,
                 "A few seconds in all: says that everything works, not how fast it is");
    app.add_option("--json", o.json, "Write everything as JSON to this file");
    app.add_option("--html", o.html, "Write a self-contained page with plots to this file");
    app.add_flag("-q,--quiet", o.quiet, "Print nothing but errors");
    app.add_flag("--list", o.list, "Print what there is to be measured and exit");
    return common::parse(app, argc, argv, status, [&] {
        o.with.repetitions = repetitions != 0 ? repetitions : o.with.quick ? 3 : 11;
        o.with.turn_ms = turn_ms != 0 ? turn_ms : o.with.quick ? 1 : 25;
        o.with.counted_operations = o.with.quick ? 200 : 2000;
        o.with.command_line = common::joined("ipcdoor-bench", argc, argv);
    });
}

void list() {
    for (const group& g : all_groups()) {
        fmt::print("{}: {}\n", g.name, g.title);
        for (const contestant& c : g.contestants)
            fmt::print("  {}/{}\n", g.name, g.label(key{c.name, c.x}));
    }
}

// Many subscribers take many descriptors.
void allow_descriptors() {
    struct rlimit limit {};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

int main_of(const options& o) {
    if (o.list) {
        list();
        return common::exit_ok;
    }
    allow_descriptors();
    const bench_report r = run(o.with, !o.quiet);
    if (!o.quiet) fmt::print("{}", text_report(r, common::colour_wanted(STDOUT_FILENO)));
    common::write_file(o.json, json_report(r));
    common::write_file(o.html, html_report(r));
    return r.failed() ? common::exit_failed : common::exit_ok;
}

}  // namespace

}  // namespace bench

int main(int argc, char** argv) {
    bench::options o;
    int status = common::exit_ok;
    if (!bench::parse(argc, argv, o, status)) return status;
    return common::run_tool("ipcdoor-bench", [&] { return bench::main_of(o); });
}
