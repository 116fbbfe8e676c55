// SPDX-License-Identifier: MIT
#include "irqbench/validate.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>

#include "irqbench/cyclictest.hpp"
#include "irqbench/run.hpp"
#include "report/json.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

constexpr std::uint64_t turns = 3;
// cyclictest sleeps for the interval and then measures; shorter ones than this overlap under
// emulation.
constexpr std::uint64_t interval_us = 1000;
constexpr int default_priority = 80;

}  // namespace

double validation::ratio() const {
    return handler_to_user_ns.p50 == 0
               ? 0.0
               : cyclictest_p50_ns / static_cast<double>(handler_to_user_ns.p50);
}

bool validation::agrees() const { return ratio() >= 0.5 && ratio() <= 2.0; }

validation validate_timer(const options& o) {
    options one = o;
    one.sources = {"timer"};
    one.sources_named = true;
    one.methods.clear();
    one.scenarios = {scenario{}};
    one.rounds = 1;
    one.priority = o.priority > 0 ? o.priority : default_priority;
    one.interval_us = interval_us;
    one.duration_s = 0;
    one.histogram_us = 0;
    one.loops = std::min<std::uint64_t>(o.loops, 10'000) / turns;
    one.loops = std::max<std::uint64_t>(one.loops, 100);
    one.side_loops = 1;
    const placement cpus = choose_cpus(o.affinity, describe_machine().cpus_allowed);
    if (cpus.ringer_cpu == cpus.waiter_cpu) one.scenarios = {scenario{true, false}};

    histogram ours;
    cyclictest_histogram theirs;
    for (std::uint64_t turn = 0; turn < turns; ++turn) {
        const run_result r = measure_all(one);
        const cell* c =
            r.report.find("timer", method_kind::source, measure::one_way, one.scenarios.front());
        if (c == nullptr || !c->by_stage || c->total_ns.count() == 0)
            throw std::runtime_error("the timer source gave no samples");
        ours.merge(c->by_stage->handler_to_user_ns);
        theirs.merge(run_cyclictest(cpus.waiter_cpu, one.priority, interval_us, one.loops));
    }
    validation v;
    v.handler_to_user_ns = summarise(ours);
    v.cyclictest_count = theirs.count();
    v.cyclictest_p50_ns = theirs.percentile_ns(50);
    v.cyclictest_p90_ns = theirs.percentile_ns(90);
    return v;
}

std::string text_validation(const validation& v) {
    const auto us = [](auto ns) { return microseconds(static_cast<double>(ns)); };
    return fmt::format(
        "{:<44}{:>10}{:>10}{:>10}\n"
        "{:<44}{:>10}{:>10}{:>10}\n"
        "{:<44}{:>10}{:>10}{:>10}\n"
        "cyclictest / irqbench at the median: {:.2f} ({} a factor of 2)\n"
        "Both end in user space, SCHED_FIFO, on the same idle CPU. cyclictest counts\n"
        "from the programmed expiry and so includes how late the interrupt came;\n"
        "irqbench from the handler.\n",
        "timer to user space, us", "p50", "p90", "samples", "irqbench: handler to user",
        us(v.handler_to_user_ns.p50), us(v.handler_to_user_ns.p90),
        grouped(v.handler_to_user_ns.count), "cyclictest: expiry to user", us(v.cyclictest_p50_ns),
        us(v.cyclictest_p90_ns), grouped(v.cyclictest_count), v.ratio(),
        v.agrees() ? "within" : "NOT within");
}

std::string json_validation(const validation& v) {
    const json j{{"output_version", report_output_version},
                 {"tool", {{"name", "irqbench validate"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
                 {"unit", "ns"},
                 {"handler_to_user",
                  {{"count", v.handler_to_user_ns.count},
                   {"p50", v.handler_to_user_ns.p50},
                   {"p90", v.handler_to_user_ns.p90}}},
                 {"cyclictest",
                  {{"count", v.cyclictest_count},
                   {"p50", v.cyclictest_p50_ns},
                   {"p90", v.cyclictest_p90_ns}}},
                 {"ratio", v.ratio()},
                 {"agrees", v.agrees()}};
    return j.dump() + "\n";
}

}  // namespace irqbench
