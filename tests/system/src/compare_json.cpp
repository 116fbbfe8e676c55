// SPDX-License-Identifier: MIT
//
// Checks what `irqbench compare --json` has written: compare_json FILE BACKEND. Exits with 1 and
// says what is wrong.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>

namespace {

using nlohmann::json;

const std::set<std::string> methods{"message", "message-in-place", "call",  "rpc",    "pipe",
                                    "stream",  "memory",           "pulse", "signal", "doorbell"};
const std::set<std::string> events{"pulse", "signal", "doorbell"};
const std::set<std::uint64_t> sizes{8, 64, 1024, 4096, 65536, 1048576};

void require(bool met, const std::string& what) {
    if (!met) throw std::runtime_error(what);
}

double positive(const json& in, const char* name, const std::string& where) {
    const double value = in.at(name);
    require(std::isfinite(value) && value > 0,
            where + ": " + name + " is " + std::to_string(value));
    return value;
}

void check_ratio(const json& ratio, double wanted, const std::string& where) {
    const double times = positive(ratio, "times", where);
    require(std::abs(times / wanted - 1) < 1e-9, where + ": times is " + std::to_string(times) +
                                                     ", the figures give " +
                                                     std::to_string(wanted));
    require(ratio.at("min") <= ratio.at("max"), where + ": min exceeds max");
    const std::string verdict = ratio.at("verdict");
    require(verdict == "equal" || verdict == (times < 1 ? "slower" : "faster"),
            where + ": the verdict is " + verdict);
}

void check_size(const json& size, std::uint64_t rounds, bool of_events, const std::string& where) {
    const json &own = size.at("ipcdoor"), &other = size.at("counterpart");
    for (const json* side : {&own, &other}) {
        for (const char* name : {"p50", "p99", "per_s", "round_trips", "streamed"})
            positive(*side, name, where);
        require(side->at("p50") <= side->at("p99"), where + ": p50 exceeds p99");
        for (const auto& [name, all] : side->at("rounds").items())
            require(all.size() == rounds, where + ": not all rounds of " + name);
        if (!of_events) {
            const double bytes = size.at("bytes");
            require(std::abs(positive(*side, "bytes_per_s", where) /
                                 (bytes * side->at("per_s").get<double>()) -
                             1) < 1e-9,
                    where + ": bytes_per_s is not the size times per_s");
        }
    }
    require(own.at("round_trips") == other.at("round_trips"), where + ": unequal turns");
    check_ratio(size.at("round_trip"), other.at("p50").get<double>() / own.at("p50").get<double>(),
                where);
    check_ratio(size.at("throughput"),
                own.at("per_s").get<double>() / other.at("per_s").get<double>(), where);
}

void check(const json& report, const std::string& backend) {
    require(report.at("kind") == "comparison" && report.at("output_version") == 1,
            "another kind or version");
    require(report.at("parameters").at("backend") == backend, "another back end");
    const std::uint64_t rounds = report.at("parameters").at("rounds");
    std::set<std::string> seen;
    for (const json& one : report.at("comparisons")) {
        const std::string method = one.at("method"), other = one.at("counterpart");
        seen.insert(method);
        const bool of_events = events.count(method) != 0;
        std::set<std::uint64_t> found;
        for (const json& size : one.at("sizes")) {
            const std::uint64_t bytes = size.at("bytes");
            require(found.insert(bytes).second, method + ": a size comes twice");
            check_size(size, rounds, of_events,
                       method + " beside " + other + ", " + std::to_string(bytes) + " bytes");
        }
        for (const json& absent : one.at("absent")) {
            const std::string who = absent.at("method"), reason = absent.at("reason");
            // What the kernel limits, or may be built without; ipcdoor's have to be there.
            require(who == "mq" || who == "unix-seqpacket", who + " is absent: " + reason);
            require(!reason.empty(), who + " is absent without a reason");
            require(found.insert(absent.at("bytes").get<std::uint64_t>()).second,
                    method + ": a size is both there and absent");
        }
        require(found == (of_events ? std::set<std::uint64_t>{8} : sizes),
                method + " beside " + other + ": other sizes than asked for");
    }
    require(seen == methods, "not the methods that are compared");
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: compare_json FILE BACKEND");
    std::ifstream file(argv[1]);
    check(json::parse(file), argv[2]);
    return 0;
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "%s\n", wrong.what());
    return 1;
}
