// SPDX-License-Identifier: MIT
//
// ipcdoor-proxy: TCP and UNIX sockets through ipcdoor's and back, so that programs that
// know nothing of it can talk through shared memory. Owns: the order of things, the
// summary and the exit status.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <nlohmann/json.hpp>

#include <ipcdoor/door.hpp>

#include "common/exit_status.hpp"
#include "common/throw_errno.hpp"
#include "common/write_file.hpp"
#include "ipcdoor-proxy/options.hpp"
#include "ipcdoor-proxy/proxy.hpp"

namespace ipcdoor_proxy {

namespace {

// Readable once the process is to end. Before any thread is started.
ipcdoor::owned_fd ending_signals() {
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
    ipcdoor::owned_fd made(::signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!made) common::throw_errno("signalfd");
    return made;
}

void write_summary(const options& o, const std::string& backend, const proxy_summary& s) {
    if (o.json.empty()) return;
    const nlohmann::ordered_json report{
        {"tool", {{"name", "ipcdoor-proxy"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
        {"from", o.from.text},
        {"to", o.to.text},
        {"backend", backend},
        {"connections", s.connections},
        {"failed", s.failed},
        {"broken", s.broken},
        {"bytes", s.bytes}};
    common::write_file(o.json, report.dump(2) + "\n");
}

int run(const options& o) {
    const ipcdoor::owned_fd ending = ending_signals();
    ipcdoor::door door(o.uri);
    proxy bridge(o, door, ending.get());
    fmt::print(stderr, "ipcdoor-proxy: {} to {}, back end {}\n", o.from.text, o.to.text,
               door.backend());
    bridge.run();
    write_summary(o, std::string(door.backend()), bridge.summary());
    return common::exit_ok;
}

}  // namespace

}  // namespace ipcdoor_proxy

int main(int argc, char** argv) {
    ipcdoor_proxy::options o;
    int status = common::exit_ok;
    if (!ipcdoor_proxy::parse_command_line(argc, argv, o, status)) return status;
    return common::run_tool("ipcdoor-proxy", [&] { return ipcdoor_proxy::run(o); });
}
