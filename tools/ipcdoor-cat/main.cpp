// SPDX-License-Identifier: MIT
//
// ipcdoor-cat: bytes from one process's standard input to another's standard output,
// through shared memory. Owns: the order of things, the summary and the exit status.
//
// A stream that was not carried whole is never made to look so: whatever goes wrong
// here ends by an exception, which aborts the pipe, and the other side fails as well.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include <ipcdoor/descriptor.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/pipe.hpp>

#include "common/exit_status.hpp"
#include "common/throw_errno.hpp"
#include "common/write_file.hpp"
#include "ipcdoor-cat/options.hpp"
#include "ipcdoor-cat/progress.hpp"

namespace ipcdoor_cat {

namespace {

struct summary {
    std::string backend;
    std::optional<struct ipcdoor_peer_info> peer;
    std::uint64_t capacity_bytes = 0;  // 0: not known here
    std::uint64_t bytes = 0;
    double seconds = 0;
    std::string error;  // empty: carried whole
};

void write_summary(const options& o, const summary& s) {
    if (o.json.empty()) return;
    nlohmann::ordered_json report{
        {"tool", {{"name", "ipcdoor-cat"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
        {"direction", o.what == direction::in ? "in" : "out"},
        {"name", o.name},
        {"backend", s.backend},
        {"complete", s.error.empty()},
        {"bytes", s.bytes},
        {"seconds", s.seconds},
        {"bytes_per_second", s.seconds > 0 ? static_cast<double>(s.bytes) / s.seconds : 0.0}};
    if (s.capacity_bytes != 0) report["capacity_bytes"] = s.capacity_bytes;
    if (s.peer) report["peer"] = {{"pid", s.peer->pid}, {"uid", s.peer->uid}};
    if (!s.error.empty()) report["error"] = s.error;
    common::write_file(o.json, report.dump(2) + "\n");
}

// Carries everything; what is known of it meanwhile is in `s`.
class carrier {
public:
    carrier(const options& o, summary& s) : o_(o), s_(s) {
        pipe_.capacity_bytes = o.capacity_bytes;
        pipe_.mode = o.mode;
    }

    void carry() {
        ipcdoor::door door(o_.uri);
        s_.backend = door.backend();
        ipcdoor::deadline until;
        if (o_.timeout_s) until = std::chrono::duration<double>(*o_.timeout_s);
        if (o_.what == direction::out)
            carry_out(ipcdoor::open_pipe_writer(door, o_.name, pipe_, until));
        else
            carry_in(ipcdoor::open_pipe_reader(door, o_.name, pipe_, until));
    }

private:
    void carry_out(ipcdoor::pipe_writer to) {
        s_.peer = to.peer_info();
        s_.capacity_bytes = to.capacity();
        run([&] { return ipcdoor::copy_some_from_fd(STDIN_FILENO, to); },
            [&] {
                // Carried is what the other side has written to its standard output.
                to.shutdown_write();
                to.drain();
            });
    }

    void carry_in(ipcdoor::pipe_reader from) {
        s_.peer = from.peer_info();
        run([&] { return ipcdoor::copy_some_to_fd(from, STDOUT_FILENO); },
            [] {
                // What some file systems tell of failed writes, they tell here.
                if (::close(STDOUT_FILENO) != 0) common::throw_errno("standard output");
            });
    }

    template <class Step, class End>
    void run(Step step, End end) {
        progress meter(o_.progress);
        // However it ends.
        struct keeper {
            summary& s;
            const progress& meter;
            ~keeper() {
                s.bytes = meter.bytes();
                s.seconds = meter.seconds();
            }
        } const keep{s_, meter};
        while (const std::size_t bytes = step()) meter.add(bytes);
        end();
    }

    const options& o_;
    summary& s_;
    ipcdoor::pipe_options pipe_;
};

int run(const options& o) {
    summary s;
    try {
        carrier(o, s).carry();
    } catch (const std::exception& e) {
        s.error = e.what();
        fmt::print(stderr, "ipcdoor-cat: {} '{}': {}{}\n", o.what == direction::in ? "in" : "out",
                   o.name, e.what(), s.bytes != 0 ? fmt::format(" (after {} bytes)", s.bytes) : "");
    }
    write_summary(o, s);
    return s.error.empty() ? common::exit_ok : common::exit_failed;
}

}  // namespace

}  // namespace ipcdoor_cat

int main(int argc, char** argv) {
    ipcdoor_cat::options o;
    int status = common::exit_ok;
    if (!ipcdoor_cat::parse_command_line(argc, argv, o, status)) return status;
    return common::run_tool("ipcdoor-cat", [&] { return ipcdoor_cat::run(o); });
}
