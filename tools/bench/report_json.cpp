// SPDX-License-Identifier: MIT
#include "report/json.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include "bench/reports.hpp"

namespace bench {

namespace {

using report::json;

constexpr const char* kind_name = "bench";

json to_json(const group& g, const key& of) {
    json j{{"name", of.name}};
    if (g.axis != axis_kind::none) j["x"] = of.x;
    return j;
}

json to_json(const call_count& calls) {
    if (!calls.counted) return {{"counted", false}, {"why_not", calls.why_not}};
    json by_name = json::object();
    for (const auto& [name, count] : calls.by_name)
        by_name[name] = static_cast<double>(count) / static_cast<double>(calls.operations);
    return {{"counted", true},
            {"operations", calls.operations},
            {"per_operation", calls.per_operation()},
            {"by_name", std::move(by_name)}};
}

json to_json(const group_result& g, const timing& t) {
    const report::spread s = report::spread_of(g.ns(t));
    json j = to_json(g.what, t.who);
    j.update({{"label", g.what.label(t.who)},
              {"own", t.own},
              {"median_ns", s.median},
              {"min_ns", s.min},
              {"max_ns", s.max},
              {"operations", t.operations},
              {"turns", {{"cpu_ns", t.cpu_ns}, {"wall_ns", t.wall_ns}}},
              {"system_calls", to_json(t.calls)}});
    return j;
}

json to_json(const group& g, const finding& f) {
    json j{{"title", f.title},       {"kind", f.by ? "ratio" : "system calls"},
           {"of", to_json(g, f.of)}, {"median", f.value.median},
           {"min", f.value.min},     {"max", f.value.max}};
    if (f.by) j["by"] = to_json(g, *f.by);
    if (f.at_most) {
        j["at_most"] = *f.at_most;
        j["met"] = f.met();
    }
    return j;
}

const char* name_of(axis_kind axis) {
    switch (axis) {
        case axis_kind::none: return "none";
        case axis_kind::bytes: return "bytes";
        case axis_kind::number: return "number";
    }
    return "none";
}

json to_json(const group_result& g) {
    json contestants = json::array(), absent = json::array(), findings = json::array();
    for (const timing& t : g.timings) contestants.push_back(to_json(g, t));
    for (const absence& a : g.absent) {
        json j = to_json(g.what, a.who);
        j.update({{"label", g.what.label(a.who)}, {"reason", a.reason}, {"failed", a.failed}});
        absent.push_back(std::move(j));
    }
    for (const finding& f : g.findings) findings.push_back(to_json(g.what, f));
    return {{"name", g.what.name},
            {"title", g.what.title},
            {"operation", g.what.operation},
            {"axis", name_of(g.what.axis)},
            {"axis_title", g.what.axis_title},
            {"clock", g.what.clock == clock::cpu ? "cpu" : "wall"},
            {"contestants", std::move(contestants)},
            {"absent", std::move(absent)},
            {"findings", std::move(findings)}};
}

}  // namespace

std::string json_report(const bench_report& r) {
    json groups = json::array();
    for (const group_result& g : r.groups) groups.push_back(to_json(g));
    const json j{{"output_version", output_version},
                 {"kind", kind_name},
                 {"tool", {{"name", "ipcdoor-bench"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
                 {"unit", "ns"},
                 {"started", r.started},
                 {"duration_s", r.duration_s},
                 {"machine", report::to_json(r.on)},
                 {"parameters",
                  {{"command_line", r.with.command_line},
                   {"filter", r.with.filter},
                   {"repetitions", r.with.repetitions},
                   {"turn_ms", r.with.turn_ms},
                   {"counted_operations", r.with.counted_operations},
                   {"quick", r.with.quick}}},
                 {"goals", {{"met", r.goals(true)}, {"missed", r.goals(false)}}},
                 {"groups", std::move(groups)}};
    return j.dump() + "\n";
}

}  // namespace bench
