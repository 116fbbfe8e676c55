// SPDX-License-Identifier: MIT
#include "ipcdoor-proxy/options.hpp"

#include <CLI/CLI.hpp>
#include <stdexcept>

#include "common/command_line.hpp"
#include "common/parse_mode.hpp"

namespace ipcdoor_proxy {

namespace {

address parsed(const char* which, const std::string& text) {
    try {
        return parse_address(text);
    } catch (const std::invalid_argument& wrong) {
        throw CLI::ValidationError(which, wrong.what());
    }
}

}  // namespace

bool parse_command_line(int argc, char** argv, options& o, int& status) {
    CLI::App app{"Bridges TCP and UNIX sockets to ipcdoor's and back"};
    common::introduce(app, "ipcdoor-proxy");
    app.footer(
        "  ipcdoor-proxy ipcdoor:redis tcp:localhost:6379     beside the server\n"
        "  ipcdoor-proxy tcp:localhost:6380 ipcdoor:redis     beside the clients\n\n"
        "An address is ipcdoor:NAME, tcp:HOST:PORT or unix:PATH; one of the two is ipcdoor's.\n"
        "SIGINT and SIGTERM end it. Exit status: 0 ended so, 1 failed, 2 usage. Full story: "
        "ipcdoor-proxy(1).");

    std::string from;
    std::string to;
    std::string mode;
    app.add_option("FROM", from, "Where to listen")->required();
    app.add_option("TO", to, "Where to connect to, for each connection that comes")->required();
    app.add_option("--uri", o.uri,
                   "URI of the door (default: IPCDOOR_URI, or else the module, or else soft:)");
    app.add_option("--capacity", o.capacity_bytes,
                   "Bytes under way in each direction, with K, M or G (default 256K; who listens "
                   "on the name decides)")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::uint64_t{4096}, std::uint64_t{1} << 30));
    app.add_option("--mode", mode, "Who may connect to the name, as of a file (default 600)");
    app.add_option("--max-connections", o.max_connections,
                   "Further ones wait until one ends (default 4096)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20));
    app.add_option("--timeout", o.timeout_s, "For connecting, seconds (default 10)")
        ->check(CLI::Range(0.001, 1e9));
    app.add_flag("-v,--verbose", o.verbose, "Say on stderr what comes and goes");
    app.add_option("--json", o.json, "Write a summary as JSON to this file at the end");

    return common::parse(app, argc, argv, status, [&] {
        o.from = parsed("FROM", from);
        o.to = parsed("TO", to);
        if ((o.from.kind == network::ipcdoor) == (o.to.kind == network::ipcdoor))
            throw CLI::ValidationError("FROM, TO", "one of the two is an ipcdoor:NAME");
        if (!mode.empty()) o.mode = common::parse_mode(mode);
    });
}

}  // namespace ipcdoor_proxy
