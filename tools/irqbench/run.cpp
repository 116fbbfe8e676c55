// SPDX-License-Identifier: MIT
#include "irqbench/run.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "irqbench/clock.hpp"
#include "irqbench/method.hpp"
#include "irqbench/pair.hpp"
#include "irqbench/process.hpp"
#include "irqbench/sources.hpp"
#include "report/progress.hpp"

namespace irqbench {

namespace {

// Beside a busy process a wake-up can take a whole time slice, so a turn in a loaded scenario ends
// after this long with the samples it has. Never elsewhere: it would favour the methods whose turn
// the machine disturbed, by cutting their tails.
constexpr std::uint64_t loaded_limit_ns = 100'000'000U;
// Without --side-loops, no round of anything but the sources in the main scenario is begun that
// would end beyond this: whole rounds, so that all methods still have the same count.
constexpr std::uint64_t side_budget_ns = 25'000'000'000U;
// Rounds beyond the planned ones, to make up for dropped samples.
constexpr std::uint64_t extra_rounds = 10;
// Stage samples kept for the split at percentiles; 12 bytes each.
constexpr std::size_t stage_samples_kept = 1U << 18;

std::uint32_t narrow(std::uint64_t ns) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(ns, UINT32_MAX));
}

// A cell under measurement.
struct task {
    std::size_t method;  // index in the pair
    cell result;
    bool main = false;  // a source in the main scenario: must reach its count
    std::uint64_t wanted = 0;
    std::vector<stage_sample> kept;
    microsecond_histogram* by_microsecond = nullptr;

    std::uint64_t count() const { return result.total_ns.count(); }
};

void fold_one_way(task& t, const sample& s) {
    cell& c = t.result;
    if (!s.slept) {
        ++c.awake;
        return;
    }
    if (c.by_stage) {
        const kernel_stamps& k = s.kernel;
        // Stamps of an earlier delivery, or of one the kernel had not finished, are no sample.
        const bool ordered = s.before_ns <= k.ring_ns && k.ring_ns <= k.handler_ns &&
                             k.handler_ns <= k.wake_ns && k.wake_ns <= s.user_ns;
        if (!s.stamped || !k.woke || !ordered) {
            ++c.unstamped;
            return;
        }
        stages& by = *c.by_stage;
        const stage_sample split{narrow(k.ring_ns - s.before_ns), narrow(k.handler_ns - k.ring_ns),
                                 narrow(k.wake_ns - k.handler_ns), narrow(s.user_ns - k.wake_ns)};
        for (std::size_t stage = 0; stage < stage_count; ++stage)
            by.each_ns[stage].record(split[stage]);
        by.handler_to_user_ns.record(s.user_ns - k.handler_ns);
        by.in_interrupt += k.hard_interrupt ? 1 : 0;
        ++by.handler_cpus[k.handler_cpu];
        if (t.kept.size() < stage_samples_kept) t.kept.push_back(split);
    }
    c.total_ns.record(s.user_ns - s.before_ns);
    c.send_ns.record(s.after_ns - s.before_ns);
    if (t.by_microsecond != nullptr) t.by_microsecond->record(s.user_ns - s.before_ns);
}

class schedule {
public:
    schedule(const options& o, pair& p, const placement& cpus, bool one_cpu)
        : o_(o), pair_(p), cpus_(cpus) {
        for (const scenario& where : o.scenarios) {
            if (one_cpu && !where.same_cpu) continue;
            for (std::size_t i = 0; i < p.method_count(); ++i)
                if (p.is_present(i)) add_tasks(i, where);
        }
    }

    // With the longest turn of one task in samples; 0 where it has all it needs.
    void run(run_result& into) {
        const std::uint64_t start = now_ns();
        cpu_load load(load_cpus(), any_loaded() ? o_.load : 0);
        progress_line progress(!o_.quiet);
        std::uint64_t side_ns = 0, side_rounds = 0;
        for (std::uint64_t round = 0; goes_on(round, start); ++round) {
            const bool with_side = round == 0 || o_.duration_s > 0 || o_.side_loops_named ||
                                   side_ns + side_ns / side_rounds <= side_budget_ns;
            side_rounds += with_side && round < o_.rounds ? 1 : 0;
            for (task& t : tasks_) {
                if (!t.main && !with_side) continue;
                if (o_.duration_s > 0 && expired(start)) break;
                const std::uint64_t samples = turn_of(t, round);
                if (samples == 0) continue;
                progress.show(fmt::format("round {}{}: {} {}, {}", round + 1,
                                          o_.duration_s > 0 ? "" : fmt::format(" of {}", o_.rounds),
                                          display_name(t.result.method), to_string(t.result.what),
                                          t.result.where.description()));
                load.set(t.result.where.loaded);
                const std::uint64_t turn_start = now_ns();
                take_turn(t, samples);
                side_ns += t.main ? 0 : now_ns() - turn_start;
            }
        }
        load.set(false);
        if (o_.duration_s == 0 && side_rounds < o_.rounds)
            into.report.notes.push_back(fmt::format(
                "A slow machine: all but the sources in the main scenario took turns in {} of {} "
                "rounds only; --side-loops takes the time it needs.",
                side_rounds, o_.rounds));
        for (task& t : tasks_) {
            if (t.result.by_stage)
                for (double percent : {50.0, 99.0})
                    t.result.by_stage->splits.push_back(split_at(t.kept, percent));
            if (t.main && o_.duration_s == 0 && t.count() < t.wanted)
                into.report.notes.push_back(
                    fmt::format("{}, {}: only {} of {} samples were usable.", t.result.method,
                                t.result.where.description(), t.count(), t.wanted));
            into.report.cells.push_back(std::move(t.result));
        }
    }

    void histogram_into(run_result& into) {
        into.by_microsecond.reserve(tasks_.size());
        for (task& t : tasks_) {
            if (t.result.what != measure::one_way ||
                !(t.result.where == tasks_.front().result.where))
                continue;
            into.by_microsecond.push_back({});
            into.by_microsecond.back().method = t.result.method;
            into.by_microsecond.back().counts.resize(o_.histogram_us);
            t.by_microsecond = &into.by_microsecond.back();
        }
    }

    bool empty() const { return tasks_.empty(); }

private:
    void add_tasks(std::size_t i, const scenario& where) {
        const method& m = pair_.method_at(i);
        const bool is_main = tasks_.empty() || where == tasks_.front().result.where;
        for (measure what : {measure::one_way, measure::round_trip}) {
            // Stamped connections are for the stages; what is compared goes without. Round trips
            // beside a load would measure the scheduler's time slices.
            if (what == measure::round_trip && (m.kind() == method_kind::source || where.loaded))
                continue;
            task t;
            t.method = i;
            t.result.method = m.name();
            t.result.kind = m.kind();
            t.result.what = what;
            t.result.where = where;
            t.main = is_main && m.kind() == method_kind::source;
            t.wanted = t.main ? o_.loops : o_.side_loops;
            if (m.kind() == method_kind::source) t.result.by_stage.emplace();
            tasks_.push_back(std::move(t));
        }
    }

    bool any_loaded() const {
        return std::any_of(tasks_.begin(), tasks_.end(),
                           [](const task& t) { return t.result.where.loaded; });
    }

    std::vector<int> load_cpus() const {
        if (cpus_.ringer_cpu == cpus_.waiter_cpu) return {cpus_.waiter_cpu};
        return {cpus_.waiter_cpu, cpus_.ringer_cpu};
    }

    bool expired(std::uint64_t start) const {
        return static_cast<double>(now_ns() - start) / 1e9 >= o_.duration_s;
    }

    bool goes_on(std::uint64_t round, std::uint64_t start) const {
        if (o_.duration_s > 0) return !expired(start);
        if (round < o_.rounds) return true;
        return round < o_.rounds + extra_rounds &&
               std::any_of(tasks_.begin(), tasks_.end(),
                           [](const task& t) { return t.main && t.count() < t.wanted; });
    }

    // Samples of this turn, without the warm-up.
    std::uint64_t turn_of(const task& t, std::uint64_t round) const {
        const std::uint64_t share = (t.wanted + o_.rounds - 1) / o_.rounds;
        const std::uint64_t most = pair::max_batch - o_.warmup;
        if (o_.duration_s > 0) return std::clamp<std::uint64_t>(share, 1, most);
        if (round >= o_.rounds && !t.main) return 0;
        const std::uint64_t due = std::min(t.wanted, share * (round + 1));
        if (t.count() >= due) return 0;
        // One more in sixteen, as some will be dropped.
        const std::uint64_t missing = due - t.count();
        return std::min(missing + (t.main ? missing / 16 : 0), most);
    }

    void take_turn(task& t, std::uint64_t samples) {
        batch_order order;
        order.method = static_cast<std::uint32_t>(t.method);
        order.what = t.result.what;
        order.samples = static_cast<std::uint32_t>(samples + o_.warmup);
        order.interval_ns = o_.interval_us * 1000;
        order.limit_ns = t.result.where.loaded && !t.main ? loaded_limit_ns : 0;
        order.waiter_cpu = cpus_.waiter_cpu;
        order.ringer_cpu = t.result.where.same_cpu ? cpus_.waiter_cpu : cpus_.ringer_cpu;
        const auto taken = pair_.run(order);
        const std::size_t skip = std::min<std::size_t>(o_.warmup, taken.size());
        for (const sample& s : taken.subspan(skip)) {
            if (o_.duration_s == 0 && t.count() >= t.wanted) break;
            if (t.result.what == measure::one_way)
                fold_one_way(t, s);
            else
                t.result.total_ns.record(s.user_ns - s.before_ns);
        }
    }

    const options& o_;
    pair& pair_;
    placement cpus_;
    std::vector<task> tasks_;
};

method_list make_methods(const options& o, const std::optional<module_info>& module,
                         std::vector<absence>& absent) {
    method_list list;
    for (bool stamps : {true, false})
        for (const std::string& source : o.sources) {
            const auto& there = module->sources;
            if (std::find(there.begin(), there.end(), source) != there.end()) {
                list.push_back(make_door(o.door, *source_number(source), stamps));
            } else if (o.sources_named) {
                throw std::runtime_error("source " + source +
                                         " was asked for and is absent: " + source_remedy(source));
            } else if (stamps) {
                absent.push_back({source, source_remedy(source)});
            }
        }
    for (const std::string& name : o.methods) list.push_back(make_peer(name));
    return list;
}

void note_environment(run_report& r) {
    if (r.on.where == environment::emulated)
        r.notes.push_back(
            "Emulated processor: latencies are good for comparison within this run "
            "only.");
}

}  // namespace

void microsecond_histogram::record(std::uint64_t ns) {
    const std::uint64_t us = ns / 1000;
    if (us < counts.size())
        ++counts[us];
    else
        ++overflows;
    ++count;
    min_us = std::min(min_us, us);
    max_us = std::max(max_us, us);
    sum_us += us;
}

placement choose_cpus(const std::vector<int>& asked, const std::vector<int>& allowed) {
    for (int cpu : asked)
        if (std::find(allowed.begin(), allowed.end(), cpu) == allowed.end())
            throw std::runtime_error("--affinity: CPU " + std::to_string(cpu) +
                                     " is not one this process may run on");
    if (asked.size() == 2) return {asked[0], asked[1]};
    if (asked.size() == 1) {
        const auto other =
            std::find_if(allowed.begin(), allowed.end(), [&](int cpu) { return cpu != asked[0]; });
        return {asked[0], other == allowed.end() ? asked[0] : *other};
    }
    if (allowed.empty()) throw std::runtime_error("no CPU to run on");
    // The receiver on the second CPU: the first takes most of a machine's other interrupts.
    return {allowed.size() > 1 ? allowed[1] : allowed[0], allowed[0]};
}

run_result measure_all(const options& o) {
    run_result result;
    run_report& r = result.report;
    const std::uint64_t start = now_ns();
    r.started = utc_now();
    r.on = describe_machine();
    r.clock_cost = measure_timestamp_cost();
    if (!o.sources.empty()) r.module = describe_door(o.door);

    const placement cpus = choose_cpus(o.affinity, r.on.cpus_allowed);
    r.with = {o.command_line, o.interval_us, o.loops, o.side_loops,    o.rounds,
              o.warmup,       o.priority,    o.load,  cpus.ringer_cpu, cpus.waiter_cpu};
    const bool one_cpu = cpus.ringer_cpu == cpus.waiter_cpu;
    if (one_cpu) r.notes.push_back("One CPU only: nothing was measured between different CPUs.");

    pair measured(make_methods(o, r.module, r.absent), o.priority,
                  o.priority > 0 ? std::max(1, o.priority - 1) : 0);
    for (absence& a : measured.absent()) {
        if (o.sources_named && source_number(a.method))
            throw std::runtime_error("source " + a.method + ": " + a.reason);
        r.absent.push_back(std::move(a));
    }
    schedule plan(o, measured, cpus, one_cpu);
    if (plan.empty())
        throw std::runtime_error("nothing could be measured" +
                                 (r.absent.empty() ? std::string(one_cpu ? ": one CPU only" : "")
                                                   : ": " + r.absent.front().reason));
    if (o.histogram_us != 0) plan.histogram_into(result);
    plan.run(result);
    note_environment(r);
    r.duration_s = static_cast<double>(now_ns() - start) / 1e9;
    return result;
}

}  // namespace irqbench
