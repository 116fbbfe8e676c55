// SPDX-License-Identifier: MIT
#include "irqbench/instructions.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>

#include <algorithm>
#include <cmath>

#include "irqbench/clock.hpp"
#include "irqbench/pair.hpp"
#include "irqbench/report_text.hpp"
#include "irqbench/sources.hpp"
#include "report/json.hpp"
#include "report/units.hpp"

namespace irqbench {

namespace {

constexpr const char* remedy =
    "; run it in a one-CPU guest whose counter counts instructions (QEMU: -smp 1 -icount shift=0)";
constexpr std::uint32_t warmup_round_trips = 300;
// More than the scheduler remembers (a sleeper is at most half its period of 6 ms ahead).
constexpr std::uint64_t handicap_ns = 8'000'000;
constexpr struct {
    handover how;
    const char* key;
    const char* title;
} handovers[] = {
    {handover::both_sleep, "both_sleep", "Both sides sleep in every round trip"},
    {handover::preempted, "preempted", "The answering side is preempted by the caller it wakes"},
};

double verified_ratio() {
    if (!has_cycle_counter)
        throw std::runtime_error("this architecture's cycle counter is not supported");
    constexpr std::uint64_t iterations = 200'000;
    // An interrupt in between adds its instructions: the best of several.
    std::uint64_t best = UINT64_MAX;
    for (int i = 0; i < 9; ++i) best = std::min(best, cycles_of_counted_loop(iterations));
    if (!counts_instructions(best, 2 * iterations))
        throw std::runtime_error(
            fmt::format("the time-stamp counter does not count instructions here: {} steps for {} "
                        "instructions{}",
                        grouped(best), grouped(2 * iterations), remedy));
    return static_cast<double>(best) / (2.0 * iterations);
}

const char* key_of(handover how) {
    for (const auto& h : handovers)
        if (h.how == how) return h.key;
    return "";
}

unsigned long long to_whole(double v) { return static_cast<unsigned long long>(std::llround(v)); }

std::string device_path(const std::string& uri) {
    return uri.rfind("door:", 0) == 0 ? uri.substr(5) : "/dev/ipcdoor0";
}

void measure_handover(instruction_report& r, pair& measured, handover how, const options& o) {
    const std::uint64_t handicap = how == handover::preempted ? handicap_ns : 0;
    const int cpu = r.on.cpus_allowed.front();
    const auto n = static_cast<std::uint32_t>(o.round_trips);
    const double share = 1.0 / (static_cast<double>(n) * static_cast<double>(o.repetitions));
    std::vector<std::vector<double>> counts(measured.method_count());
    std::vector<instruction_figure> figures(measured.method_count());
    // The methods take turns, so that whatever changes meanwhile hits all alike.
    for (std::uint64_t repetition = 0; repetition < o.repetitions; ++repetition)
        for (std::uint32_t i = 0; i < measured.method_count(); ++i) {
            if (!measured.is_present(i)) continue;
            measured.run_counted(i, warmup_round_trips, cpu, handicap);
            const pair::counted c = measured.run_counted(i, n, cpu, handicap);
            counts[i].push_back(static_cast<double>(c.cycles) / n);
            for (int s : {0, 1}) {
                figures[i].slept[s] += static_cast<double>(c.slept[s]) * share;
                figures[i].preempted[s] += static_cast<double>(c.preempted[s]) * share;
            }
        }
    for (std::size_t i = 0; i < measured.method_count(); ++i) {
        if (counts[i].empty()) continue;
        figures[i].path = measured.method_at(i).name();
        figures[i].how = how;
        figures[i].per_round_trip = spread_of(counts[i]);
        r.figures.push_back(figures[i]);
    }
}

}  // namespace

bool counts_instructions(std::uint64_t steps, std::uint64_t instructions) {
    const double ratio = static_cast<double>(steps) / static_cast<double>(instructions);
    return std::abs(ratio - 1.0) < 0.01;
}

instruction_report measure_instructions(const options& o) {
    instruction_report r;
    r.on = describe_machine();
    if (r.on.cpus_online != 1)
        throw std::runtime_error(
            fmt::format("{} CPUs are online, one is needed{}", r.on.cpus_online, remedy));
    r.counted_loop_ratio = verified_ratio();
    r.round_trips = o.round_trips;

    method_list list;
    if (!o.sources.empty()) {
        const module_info module = describe_door(o.door);
        for (const char* source : {"direct", "ipi", "msi", "timer"}) {
            if (std::find(o.sources.begin(), o.sources.end(), source) == o.sources.end()) continue;
            if (std::find(module.sources.begin(), module.sources.end(), source) ==
                module.sources.end()) {
                r.absent.push_back({source, source_remedy(source)});
                continue;
            }
            list.push_back(make_door_ioctl(device_path(o.door), *source_number(source)));
            list.push_back(make_door(o.door, *source_number(source), false));
        }
    }
    const std::vector<std::string> beside{"eventfd", "futex", "pipe", "semaphore"};
    for (const std::string& name : o.methods_named ? o.methods : beside)
        list.push_back(make_peer(name));

    pair measured(std::move(list), o.priority, o.priority);
    for (absence& a : measured.absent()) r.absent.push_back(std::move(a));
    // First without: what the handicap does to the scheduler's books lasts.
    for (const auto& h : handovers) measure_handover(r, measured, h.how, o);
    return r;
}

std::string text_instructions(const instruction_report& r, bool colour) {
    std::string text;
    const auto bold = [&](const std::string& s) { return colour ? "\033[1m" + s + "\033[0m" : s; };
    text += fmt::format(
        "{}\nkernel {} ({}), {}, preemption {}\n"
        "a known loop: {:.4f} counter steps an instruction\n",
        bold("Guest instructions of a blocking round trip, two processes, one CPU"), r.on.kernel,
        r.on.kernel_build, to_string(r.on.where), r.on.preemption, r.counted_loop_ratio);
    for (const auto& h : handovers) {
        const auto base = std::find_if(r.figures.begin(), r.figures.end(), [&](const auto& f) {
            return f.path == "eventfd" && f.how == h.how;
        });
        text += fmt::format("\n{}\n{:<17}{:>8}{:>8}{:>8}{:>7}{:>12}{:>11}{}\n", bold(h.title),
                            "path", "median", "min", "max", "+- %", "slept", "preempted",
                            base != r.figures.end() ? "  eventfd=1" : "");
        for (const instruction_figure& f : r.figures) {
            if (f.how != h.how) continue;
            const spread& s = f.per_round_trip;
            text += fmt::format("{:<17}{:>8}{:>8}{:>8}{:>7.2f}{:>7.2f}{:>5.2f}{:>6.2f}{:>5.2f}",
                                display_name(f.path), grouped(to_whole(s.median)),
                                grouped(to_whole(s.min)), grouped(to_whole(s.max)),
                                s.median > 0 ? 50.0 * (s.max - s.min) / s.median : 0.0, f.slept[0],
                                f.slept[1], f.preempted[0], f.preempted[1]);
            if (base != r.figures.end())
                text += fmt::format("{:>11.3f}", s.median / base->per_round_trip.median);
            text += '\n';
        }
    }
    text += fmt::format(
        "\n{} repetitions of {} round trips each, taking turns. ioctl: RING_WAIT "
        "with\nACK and a finite deadline; ipcdoor: the same through the library. "
        "slept, preempted:\ntimes a round trip, of the caller and the answerer.\n",
        r.figures.empty() ? 0 : r.figures.front().per_round_trip.repetitions,
        grouped(r.round_trips));
    for (const absence& a : r.absent)
        text += fmt::format("absent: {}: {}\n", display_name(a.method), a.reason);
    return text;
}

std::string json_instructions(const instruction_report& r) {
    json figures = json::object();
    for (const instruction_figure& f : r.figures)
        figures[f.path][key_of(f.how)] = {
            {"median", f.per_round_trip.median}, {"min", f.per_round_trip.min},
            {"max", f.per_round_trip.max},       {"repetitions", f.per_round_trip.repetitions},
            {"slept", {f.slept[0], f.slept[1]}}, {"preempted", {f.preempted[0], f.preempted[1]}}};
    json absent = json::object();
    for (const absence& a : r.absent) absent[a.method] = a.reason;
    const json j{
        {"output_version", report_output_version},
        {"tool", {{"name", "irqbench instructions"}, {"version", IPCDOOR_LIBRARY_VERSION}}},
        {"unit", "instructions per round trip"},
        {"kernel", r.on.kernel},
        {"environment", to_string(r.on.where)},
        {"counted_loop_ratio", r.counted_loop_ratio},
        {"round_trips", r.round_trips},
        {"paths", figures},
        {"absent", absent}};
    return j.dump() + "\n";
}

}  // namespace irqbench
