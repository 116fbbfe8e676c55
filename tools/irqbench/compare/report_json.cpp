// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <ipcdoor.h>

#include "irqbench/compare/reports.hpp"
#include "irqbench/model.hpp"
#include "irqbench/statistics.hpp"
#include "report/json.hpp"

namespace irqbench::compare {

namespace {

constexpr const char* kind_name = "comparison";

json to_json(const figures& f, std::size_t bytes, bool events) {
    json j{{"p50", f.median_p50_ns()},
           {"p99", f.median_p99_ns()},
           {"per_s", f.median_per_s()},
           {"round_trips", f.samples},
           {"streamed", f.streamed},
           {"rounds", {{"p50", f.p50_ns}, {"p99", f.p99_ns}, {"per_s", f.per_s}}}};
    if (!events) j["bytes_per_s"] = f.median_per_s() * static_cast<double>(bytes);
    return j;
}

figures figures_from(const json& j) {
    figures f;
    const json& rounds = j.at("rounds");
    f.p50_ns = rounds.at("p50").get<std::vector<double>>();
    f.p99_ns = rounds.at("p99").get<std::vector<double>>();
    f.per_s = rounds.at("per_s").get<std::vector<double>>();
    f.samples = j.at("round_trips");
    f.streamed = j.at("streamed");
    return f;
}

json speedup(const contest& c, const match& m, bool throughput, const compare_parameters& with) {
    const spread rounds = spread_of(m.speedups(throughput));
    const verdict v = m.outcome(throughput);
    json j{{"times", m.speedup(throughput)},
           {"min", rounds.min},
           {"max", rounds.max},
           {"verdict", to_string(v)}};
    if (const std::string reason = known_reason(c, m, throughput, with);
        v == verdict::slower && !reason.empty())
        j["reason"] = reason;
    return j;
}

json to_json(const contest& c, const compare_parameters& with) {
    json sizes = json::array(), absent = json::array();
    for (const match& m : c.matches)
        sizes.push_back({{"bytes", m.bytes},
                         {"ipcdoor", to_json(m.own, m.bytes, c.events)},
                         {"counterpart", to_json(m.counterpart, m.bytes, c.events)},
                         {"round_trip", speedup(c, m, false, with)},
                         {"throughput", speedup(c, m, true, with)}});
    for (const missing& a : c.absent)
        absent.push_back({{"method", a.method}, {"bytes", a.bytes}, {"reason", a.reason}});
    return {{"method", c.method},
            {"counterpart", c.counterpart},
            {"throughput_of", c.events  ? "events"
                              : c.calls ? "calls"
                                        : "messages"},
            {"sizes", std::move(sizes)},
            {"absent", std::move(absent)}};
}

contest contest_from(const json& j) {
    contest c;
    c.method = j.at("method");
    c.counterpart = j.at("counterpart");
    c.events = j.at("throughput_of") == "events";
    c.calls = j.at("throughput_of") == "calls";
    for (const json& s : j.at("sizes")) {
        match m;
        m.bytes = s.at("bytes");
        m.own = figures_from(s.at("ipcdoor"));
        m.counterpart = figures_from(s.at("counterpart"));
        c.matches.push_back(std::move(m));
    }
    for (const json& a : j.at("absent"))
        c.absent.push_back({a.at("method"), a.at("bytes"), a.at("reason")});
    return c;
}

}  // namespace

std::string json_compare(const compare_report& r) {
    const compare_parameters& p = r.with;
    json j{{"output_version", compare_output_version},
           {"kind", kind_name},
           {"tool", {{"name", "irqbench"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
           {"unit", "ns"},
           {"started", r.started},
           {"duration_s", r.duration_s},
           {"machine", report::to_json(r.on)},
           {"timestamp", {{"cost_ns", r.clock_cost.ns}, {"step_ns", r.clock_cost.step_ns}}},
           {"parameters",
            {{"command_line", p.command_line},
             {"door", p.door},
             {"backend", p.backend},
             {"source", p.source},
             {"module_version", p.module_version},
             {"sizes", p.sizes},
             {"rounds", p.rounds},
             {"turn_ns", p.turn_ns},
             {"ringer_cpu", p.ringer_cpu},
             {"waiter_cpu", p.waiter_cpu}}}};
    json all = json::array();
    for (const contest& c : r.contests) all.push_back(to_json(c, p));
    j["comparisons"] = std::move(all);
    return j.dump() + "\n";
}

bool is_json_compare(const std::string& text) {
    const json j = json::parse(text, nullptr, false);
    return j.is_object() && j.value("kind", "") == kind_name;
}

compare_report parse_json_compare(const std::string& text) try {
    const json j = json::parse(text);
    if (j.at("kind") != kind_name) throw std::runtime_error("not a comparison of irqbench's");
    if (j.at("output_version") != compare_output_version)
        throw std::runtime_error(fmt::format("output_version {} expected, {} found",
                                             compare_output_version,
                                             j.at("output_version").dump()));
    compare_report r;
    r.started = j.at("started");
    r.duration_s = j.at("duration_s");
    r.on = machine_from(j.at("machine"));
    r.clock_cost = {j.at("timestamp").at("cost_ns"), j.at("timestamp").at("step_ns")};
    const json& p = j.at("parameters");
    r.with.command_line = p.at("command_line");
    r.with.door = p.at("door");
    r.with.backend = p.at("backend");
    r.with.source = p.at("source");
    r.with.module_version = p.at("module_version");
    r.with.sizes = p.at("sizes").get<std::vector<std::size_t>>();
    r.with.rounds = p.at("rounds");
    r.with.turn_ns = p.at("turn_ns");
    r.with.ringer_cpu = p.at("ringer_cpu");
    r.with.waiter_cpu = p.at("waiter_cpu");
    for (const json& c : j.at("comparisons")) r.contests.push_back(contest_from(c));
    return r;
} catch (const nlohmann::json::exception& e) {
    throw std::runtime_error(std::string("not a comparison of irqbench's: ") + e.what());
}

}  // namespace irqbench::compare
