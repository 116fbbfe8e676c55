// SPDX-License-Identifier: MIT
//
// ipcdoor-proxy: TCP and UNIX sockets through ipcdoor's and back, so that programs that
// know nothing of it can talk through shared memory. Owns: the order of things, the
// summary and the exit status.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include <ipcdoor/door.hpp>

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
    if (!made) throw std::system_error(errno, std::generic_category(), "signalfd");
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
    std::ofstream file(o.json, std::ios::binary | std::ios::trunc);
    file << report.dump(2) << '\n';
    file.close();
    if (!file) throw std::runtime_error("cannot write " + o.json);
}

}  // namespace

}  // namespace ipcdoor_proxy

int main(int argc, char** argv) {
    ipcdoor_proxy::options o;
    int status = ipcdoor_proxy::exit_ok;
    if (!ipcdoor_proxy::parse_command_line(argc, argv, o, status)) return status;
    try {
        const ipcdoor::owned_fd ending = ipcdoor_proxy::ending_signals();
        ipcdoor::door door(o.uri);
        ipcdoor_proxy::proxy bridge(o, door, ending.get());
        fmt::print(stderr, "ipcdoor-proxy: {} to {}, back end {}\n", o.from.text, o.to.text,
                   door.backend());
        bridge.run();
        ipcdoor_proxy::write_summary(o, std::string(door.backend()), bridge.summary());
        return ipcdoor_proxy::exit_ok;
    } catch (const std::exception& e) {
        fmt::print(stderr, "ipcdoor-proxy: {}\n", e.what());
        return ipcdoor_proxy::exit_failed;
    }
}
