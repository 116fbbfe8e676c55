// SPDX-License-Identifier: MIT
#include "bench/run.hpp"

#include <alloca.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <regex>
#include <stdexcept>
#include <utility>

#include "report/progress.hpp"

namespace bench {

namespace {

struct turn {
    std::uint64_t operations = 0;
    double cpu_ns = 0;  // of an operation
    double wall_ns = 0;
};

// Takes what Google Benchmark has measured.
class capture : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.error_occurred) throw std::runtime_error(run.error_message);
            const auto operations = static_cast<double>(run.iterations);
            taken.operations = static_cast<std::uint64_t>(run.iterations);
            taken.cpu_ns = run.cpu_accumulated_time * 1e9 / operations;
            taken.wall_ns = run.real_accumulated_time * 1e9 / operations;
        }
    }

    turn taken;
};

// One turn; `operations` 0: as many as take `turn_ms`. Each round begins at another place of the
// stack: how local variables lie to what is copied makes a third of a copy's time, and one place
// for all rounds would hide that.
turn take_turn(work& of, std::uint64_t operations, std::uint64_t turn_ms, clock by,
               std::uint64_t round) {
    benchmark::DoNotOptimize(::alloca(16 + round * 1232 % 4096));
    benchmark::ClearRegisteredBenchmarks();
    auto* const one =
        benchmark::RegisterBenchmark("turn", [&of](benchmark::State& state) { of.measure(state); });
    if (by == clock::wall) one->UseRealTime();
    if (operations == 0)
        one->MinTime(static_cast<double>(turn_ms) / 1e3);
    else
        one->Iterations(static_cast<benchmark::IterationCount>(operations));
    capture result;
    benchmark::RunSpecifiedBenchmarks(&result, nullptr, ".");
    if (result.taken.operations == 0) throw std::runtime_error("nothing was measured");
    return result.taken;
}

std::uint64_t operations_in(const turn& tried, std::uint64_t turn_ms, clock by) {
    const double each = std::max(by == clock::cpu ? tried.cpu_ns : tried.wall_ns, 0.1);
    return static_cast<std::uint64_t>(std::max(1.0, static_cast<double>(turn_ms) * 1e6 / each));
}

class group_run {
public:
    group_run(const group& what, const std::regex& filter, const parameters& with,
              report::progress_line& progress)
        : with_(with), progress_(progress) {
        result_.what = what;
        for (const contestant& one : what.contestants) {
            const key who{one.name, one.x};
            if (std::regex_search(what.name + "/" + what.label(who), filter))
                wanted_.push_back(&one);
        }
    }

    bool anything() const { return !wanted_.empty(); }

    group_result take() {
        // First, while this process has one thread.
        for (const contestant* one : wanted_) count(*one);
        for (const contestant* one : wanted_) prepare(*one);
        for (std::uint64_t round = 0; round < with_.repetitions; ++round) {
            progress_.show(result_.what.name + ", round " + std::to_string(round + 1) + " of " +
                           std::to_string(with_.repetitions));
            // Each has either neighbour before it as often.
            if (round % 2 == 0)
                for (std::size_t i = 0; i < works_.size(); ++i) measure(i, round);
            else
                for (std::size_t i = works_.size(); i-- > 0;) measure(i, round);
        }
        works_.clear();
        std::erase_if(result_.timings, [](const timing& t) { return t.cpu_ns.empty(); });
        find();
        return std::move(result_);
    }

private:
    struct prepared {
        std::size_t timing;
        std::unique_ptr<work> what;
    };

    void count(const contestant& one) {
        progress_.show(result_.what.name + ": system calls of " + one.name);
        timing t{{one.name, one.x}, one.own, 0, {}, {}, {}};
        t.calls = count_calls(one.make, with_.counted_operations);
        result_.timings.push_back(std::move(t));
    }

    void prepare(const contestant& one) {
        const key who{one.name, one.x};
        const auto at = std::find_if(result_.timings.begin(), result_.timings.end(),
                                     [&](const timing& t) { return t.who == who; });
        try {
            std::unique_ptr<work> made = one.make();
            const turn tried = take_turn(*made, 0, with_.turn_ms, result_.what.clock, 0);
            at->operations = operations_in(tried, with_.turn_ms, result_.what.clock);
            works_.push_back(
                {static_cast<std::size_t>(at - result_.timings.begin()), std::move(made)});
        } catch (const absent& why) {
            result_.absent.push_back({who, why.what(), false});
        } catch (const std::exception& why) {
            result_.absent.push_back({who, why.what(), true});
        }
    }

    void measure(std::size_t i, std::uint64_t round) {
        timing& t = result_.timings[works_[i].timing];
        const turn taken =
            take_turn(*works_[i].what, t.operations, with_.turn_ms, result_.what.clock, round);
        t.cpu_ns.push_back(taken.cpu_ns);
        t.wall_ns.push_back(taken.wall_ns);
    }

    const timing* timing_of(const key& who) const {
        const auto at = std::find_if(result_.timings.begin(), result_.timings.end(),
                                     [&](const timing& t) { return t.who == who; });
        return at == result_.timings.end() ? nullptr : &*at;
    }

    void find() {
        for (const comparison& c : result_.what.comparisons) {
            const timing* const of = timing_of(c.of);
            const timing* const by = timing_of(c.by);
            if (of == nullptr || by == nullptr) continue;
            std::vector<double> ratios;
            for (std::size_t i = 0; i < result_.ns(*of).size(); ++i)
                ratios.push_back(result_.ns(*of)[i] / result_.ns(*by)[i]);
            result_.findings.push_back(
                {c.title, c.of, c.by, report::spread_of(std::move(ratios)), c.at_most});
        }
        for (const call_goal& c : result_.what.call_goals) {
            const timing* const of = timing_of(c.of);
            if (of == nullptr || !of->calls.counted) continue;
            result_.findings.push_back({c.title, c.of, std::nullopt,
                                        report::spread_of({of->calls.per_operation()}), c.at_most});
        }
    }

    const parameters& with_;
    report::progress_line& progress_;
    group_result result_;
    std::vector<const contestant*> wanted_;
    std::vector<prepared> works_;
};

std::regex filter_of(const std::string& text) try {
    return std::regex(text);
} catch (const std::regex_error& wrong) {
    throw std::runtime_error("the filter '" + text + "' is no regular expression: " + wrong.what());
}

}  // namespace

std::size_t bench_report::goals(bool met) const {
    std::size_t count = 0;
    for (const group_result& g : groups)
        count += static_cast<std::size_t>(std::count_if(
            g.findings.begin(), g.findings.end(),
            [met](const finding& f) { return f.at_most.has_value() && f.met() == met; }));
    return count;
}

bool bench_report::failed() const {
    return std::any_of(groups.begin(), groups.end(), [](const group_result& g) {
        return std::any_of(g.absent.begin(), g.absent.end(),
                           [](const absence& a) { return a.failed; });
    });
}

bench_report run(const parameters& with, bool show_progress) {
    const std::regex filter = filter_of(with.filter);
    const std::vector<group> groups = all_groups();
    report::progress_line progress(show_progress);
    const auto begin = std::chrono::steady_clock::now();
    bench_report r;
    r.started = report::utc_now();
    r.on = report::describe_machine();
    r.with = with;
    for (const group& one : groups) {
        group_run running(one, filter, with, progress);
        if (running.anything()) r.groups.push_back(running.take());
    }
    if (r.groups.empty())
        throw std::runtime_error("nothing matches the filter '" + with.filter +
                                 "'; --list says what there is");
    r.duration_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return r;
}

}  // namespace bench
