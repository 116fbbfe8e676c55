// SPDX-License-Identifier: MIT
#include "irqbench/report_json.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include "report/json.hpp"

namespace irqbench {

namespace {

json to_json(const histogram& h) {
    const summary s = summarise(h);
    json buckets = json::array();
    for (const auto& b : h.buckets()) buckets.push_back({b.low, b.high, b.count});
    return {{"count", s.count}, {"min", s.min},      {"mean", s.mean},   {"p50", s.p50},
            {"p90", s.p90},     {"p99", s.p99},      {"p99.9", s.p99_9}, {"max", s.max},
            {"sum", h.sum()},   {"buckets", buckets}};
}

histogram histogram_from(const json& j) {
    std::vector<histogram::bucket> buckets;
    for (const json& b : j.at("buckets")) buckets.push_back({b.at(0), b.at(1), b.at(2)});
    return histogram::restore(buckets, j.at("min"), j.at("max"), j.at("sum"));
}

json to_json(const stages& by, std::uint64_t count) {
    json j;
    for (std::size_t i = 0; i < stage_count; ++i) j[stage_keys[i]] = to_json(by.each_ns[i]);
    j["handler_to_user"] = to_json(by.handler_to_user_ns);
    json cpus = json::object();
    for (const auto& [cpu, n] : by.handler_cpus) cpus[std::to_string(cpu)] = n;
    json splits = json::array();
    for (const stage_split& s : by.splits) {
        json means;
        for (std::size_t i = 0; i < stage_count; ++i) means[stage_keys[i]] = s.mean_ns[i];
        splits.push_back({{"percentile", s.percent}, {"samples", s.samples}, {"mean", means}});
    }
    return {{"in_interrupt", by.in_interrupt},
            {"in_interrupt_percent", percent_of(by.in_interrupt, count)},
            {"handler_cpus", cpus},
            {"stages", j},
            {"stage_split", splits}};
}

stages stages_from(const json& j) {
    stages by;
    for (std::size_t i = 0; i < stage_count; ++i)
        by.each_ns[i] = histogram_from(j.at("stages").at(stage_keys[i]));
    by.handler_to_user_ns = histogram_from(j.at("stages").at("handler_to_user"));
    by.in_interrupt = j.at("in_interrupt");
    for (const auto& [cpu, n] : j.at("handler_cpus").items())
        by.handler_cpus[static_cast<unsigned>(std::stoul(cpu))] = n;
    for (const json& s : j.at("stage_split")) {
        stage_split split;
        split.percent = s.at("percentile");
        split.samples = s.at("samples");
        for (std::size_t i = 0; i < stage_count; ++i)
            split.mean_ns[i] = s.at("mean").at(stage_keys[i]);
        by.splits.push_back(split);
    }
    return by;
}

json to_json(const cell& c) {
    json j{{"measure", to_string(c.what)},
           {"scenario", c.where.name()},
           {"placement", c.where.same_cpu ? "same" : "apart"},
           {"load", c.where.loaded ? "loaded" : "idle"},
           {"total", to_json(c.total_ns)}};
    if (c.what == measure::one_way) {
        j["ringer_call"] = to_json(c.send_ns);
        j["dropped"] = {{"receiver_awake", c.awake}, {"without_stamps", c.unstamped}};
    }
    if (c.by_stage) j.update(to_json(*c.by_stage, c.total_ns.count()));
    return j;
}

cell cell_from(const std::string& method, method_kind kind, const json& j) {
    cell c;
    c.method = method;
    c.kind = kind;
    c.what = j.at("measure") == "round-trip" ? measure::round_trip : measure::one_way;
    const auto where = scenario::parse(j.at("scenario").get<std::string>());
    if (!where)
        throw std::runtime_error("unknown scenario '" + j.at("scenario").get<std::string>() + "'");
    c.where = *where;
    c.total_ns = histogram_from(j.at("total"));
    if (c.what == measure::one_way) {
        c.send_ns = histogram_from(j.at("ringer_call"));
        c.awake = j.at("dropped").at("receiver_awake");
        c.unstamped = j.at("dropped").at("without_stamps");
    }
    if (kind == method_kind::source) c.by_stage = stages_from(j);
    return c;
}

json to_json(const parameters& p) {
    return {{"command_line", p.command_line},
            {"interval_us", p.interval_us},
            {"loops", p.loops},
            {"side_loops", p.side_loops},
            {"rounds", p.rounds},
            {"warmup", p.warmup},
            {"priority", p.priority},
            {"load", p.load},
            {"ringer_cpu", p.ringer_cpu},
            {"waiter_cpu", p.waiter_cpu}};
}

parameters parameters_from(const json& j) {
    parameters p;
    p.command_line = j.at("command_line");
    p.interval_us = j.at("interval_us");
    p.loops = j.at("loops");
    p.side_loops = j.at("side_loops");
    p.rounds = j.at("rounds");
    p.warmup = j.at("warmup");
    p.priority = j.at("priority");
    p.load = j.at("load");
    p.ringer_cpu = j.at("ringer_cpu");
    p.waiter_cpu = j.at("waiter_cpu");
    return p;
}

json to_json(const module_info& m) {
    return {{"version", m.version},
            {"abi_version", m.abi_version},
            {"default_source", m.default_source},
            {"sources", m.sources}};
}

json to_json(const timestamp_cost& cost) {
    return {{"cost_ns", cost.ns}, {"step_ns", cost.step_ns}};
}

json cells_of(const run_report& r, method_kind kind, const std::string& method) {
    json cells = json::array();
    for (const cell& c : r.cells)
        if (c.kind == kind && c.method == method) cells.push_back(to_json(c));
    return cells;
}

}  // namespace

std::string json_report(const run_report& r) {
    json j{{"output_version", report_output_version},
           {"tool", {{"name", "irqbench"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
           {"unit", "ns"},
           {"histogram_relative_error", histogram::relative_error},
           {"started", r.started},
           {"duration_s", r.duration_s},
           {"machine", to_json(r.on)},
           {"timestamp", to_json(r.clock_cost)},
           {"parameters", to_json(r.with)}};
    if (r.module) j["module"] = to_json(*r.module);
    json sources = json::object();
    for (const std::string& name : r.methods(method_kind::source)) {
        json cells = cells_of(r, method_kind::source, name);
        sources[name] = {{"samples", cells.at(0).at("total").at("count")},
                         {"interrupt", name != "direct"},
                         {"cells", std::move(cells)}};
    }
    j["sources"] = std::move(sources);
    json methods = json::object();
    for (method_kind kind : {method_kind::door, method_kind::peer})
        for (const std::string& name : r.methods(kind))
            methods[name] = {{"name", display_name(name)},
                             {"kind", to_string(kind)},
                             {"cells", cells_of(r, kind, name)}};
    j["methods"] = std::move(methods);
    json absent = json::object();
    for (const absence& a : r.absent) absent[a.method] = a.reason;
    j["absent"] = std::move(absent);
    j["notes"] = r.notes;
    return j.dump() + "\n";
}

std::string json_machine(const machine& m, const module_info* module, const timestamp_cost& cost) {
    json j{{"output_version", report_output_version},
           {"tool", {{"name", "irqbench info"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
           {"machine", to_json(m)},
           {"timestamp", to_json(cost)}};
    if (module != nullptr) j["module"] = to_json(*module);
    return j.dump() + "\n";
}

run_report parse_json_report(const std::string& text) try {
    const json j = json::parse(text);
    if (j.at("output_version") != report_output_version)
        throw std::runtime_error(fmt::format("output_version {} expected, {} found",
                                             report_output_version, j.at("output_version").dump()));
    run_report r;
    r.started = j.at("started");
    r.duration_s = j.at("duration_s");
    r.on = machine_from(j.at("machine"));
    r.clock_cost = {j.at("timestamp").at("cost_ns"), j.at("timestamp").at("step_ns")};
    r.with = parameters_from(j.at("parameters"));
    if (j.contains("module")) {
        const json& m = j.at("module");
        r.module = {m.at("version"), m.at("abi_version"), m.at("default_source"),
                    m.at("sources").get<std::vector<std::string>>()};
    }
    for (const auto& [name, source] : j.at("sources").items())
        for (const json& c : source.at("cells"))
            r.cells.push_back(cell_from(name, method_kind::source, c));
    for (const auto& [name, m] : j.at("methods").items())
        for (const json& c : m.at("cells"))
            r.cells.push_back(
                cell_from(name, m.at("kind") == "door" ? method_kind::door : method_kind::peer, c));
    for (const auto& [name, reason] : j.at("absent").items()) r.absent.push_back({name, reason});
    r.notes = j.at("notes").get<std::vector<std::string>>();
    return r;
} catch (const nlohmann::json::exception& e) {
    throw std::runtime_error(std::string("not an irqbench report: ") + e.what());
} catch (const std::invalid_argument& e) {
    throw std::runtime_error(std::string("not an irqbench report: ") + e.what());
}

}  // namespace irqbench
