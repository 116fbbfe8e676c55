// SPDX-License-Identifier: MIT
#include "ipcdoor-cat/options.hpp"

#include <CLI/CLI.hpp>

#include "common/command_line.hpp"
#include "common/parse_mode.hpp"

namespace ipcdoor_cat {

bool parse_command_line(int argc, char** argv, options& o, int& status) {
    CLI::App app{"Carries bytes from one process to another through a pipe of ipcdoor's"};
    common::introduce(app, "ipcdoor-cat");
    app.require_subcommand(1);
    app.fallthrough();
    app.footer(
        "  producer | ipcdoor-cat out NAME      here\n"
        "  ipcdoor-cat in NAME | consumer       there\n\n"
        "Whichever side is started first waits for the other. Exit status: 0 everything was "
        "carried to\na clean end, 1 failed (a killed peer is a failure), 2 usage. Full story: "
        "ipcdoor-cat(1).");

    std::string mode;
    double timeout_s = 0;
    app.add_option("--uri", o.uri,
                   "URI of the door (default: IPCDOOR_URI, or else the module, or else soft:)");
    app.add_option("--capacity", o.capacity_bytes,
                   "Bytes that may be under way, with K, M or G (default 1M; the side that comes "
                   "first decides)")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
    app.add_option("--timeout", timeout_s,
                   "How long to wait for the other side to come, seconds (default: without end)")
        ->check(CLI::Range(0.0, 1e9));
    app.add_option("--mode", mode,
                   "Who may open the other side, as of a file (default 600; the side that comes "
                   "first decides)");
    app.add_flag("--progress", o.progress,
                 "Say on stderr, if that is a terminal, how much was carried, from two seconds on");
    app.add_option("--json", o.json, "Write a summary as JSON to this file");

    const auto add = [&](const char* command, const char* description) {
        CLI::App* const sub = app.add_subcommand(command, description);
        sub->add_option("NAME", o.name, "LABEL or UID/LABEL")->required();
        return sub;
    };
    add("in", "From the pipe to standard output");
    add("out", "From standard input into the pipe");

    return common::parse(app, argc, argv, status, [&] {
        o.what = app.got_subcommand("in") ? direction::in : direction::out;
        if (app.count("--timeout") != 0) o.timeout_s = timeout_s;
        if (!mode.empty()) o.mode = common::parse_mode(mode);
    });
}

}  // namespace ipcdoor_cat
