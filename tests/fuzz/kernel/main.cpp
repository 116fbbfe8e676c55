// SPDX-License-Identifier: MIT
// kfuzz: a coverage-guided fuzzer of ipcdoor's kernel interface, for a guest whose
// kernel has KCOV. tests/fuzz/kernel/run starts it there.
//
// stdout has records for that script, one a line:
//
//     point SECTION OFFSET      a point of the module that was reached
//     edge POINT -> POINT       a new edge
//     corpus PROGRAM            a program that reached new edges, ';' for new lines
//     finding WHAT              followed by the program, and what is known
//     progress KEY=VALUE…       now and then, for a run that does not come to its end
//     summary KEY=VALUE…        the last line
//
// Exit status: 0, 1 with a finding, 2 for a usage error or missing support.
#include <string.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "fuzz/kernel/corpus.hpp"
#include "fuzz/kernel/coverage.hpp"
#include "fuzz/kernel/kcov.hpp"
#include "fuzz/kernel/kernel_log.hpp"
#include "fuzz/kernel/module.hpp"
#include "fuzz/kernel/mutate.hpp"
#include "fuzz/kernel/worker.hpp"

namespace kfuzz {

namespace {

struct options {
    double seconds = 0;
    std::uint64_t programs = 0;
    std::uint64_t seed = 1;
    std::string corpus_path;
    std::string replay_path;
    unsigned repeat = 1;
    std::string entries;
    std::string edges_in;
    std::string edges_out;
    std::string module_file;
    std::string module_parameters;
    unsigned points_in_all = 0;
    bool without_coverage = false;
    bool minimise = false;
    bool verbose = false;
    bool progress = false;
};

using seconds = std::chrono::duration<double>;

double now() { return seconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string error_name(int error) {
    const char* known = ::strerrorname_np(error);
    return known != nullptr ? known : "errno " + std::to_string(error);
}

class fuzzer {
public:
    explicit fuzzer(const options& o)
        : options_(o), buffers_(!o.without_coverage), coverage_(o.entries), random_(o.seed) {
        if (!o.edges_in.empty()) coverage_.load(o.edges_in);
        if (!o.module_file.empty())
            reload_module(o.module_file, o.module_parameters, buffers_, coverage_, random_);
        started_ = last_fresh_ = last_tick_ = last_record_ = now();
        image_.emplace();
        runner_.emplace(buffers_);
        print_coverage();
    }

    void replay();
    void fuzz();
    void minimise();
    void summarise() const;

private:
    void print_state(const char* record) const;
    void execute(const program& what);
    // Executes it and keeps what it adds; the edges that are new.
    std::vector<std::uint32_t> explore(const program& what);
    // Those of `wanted` that it reaches once more.
    std::vector<std::uint32_t> reaches(const program& what,
                                       const std::vector<std::uint32_t>& wanted);
    program shrink(const program& what, const std::vector<std::uint32_t>& fresh);
    program next_program();
    void try_program(const program& what);
    void print_coverage();
    void print_results(const program& what) const;
    void tick();
    bool over() const;

    const options& options_;
    kcov_buffers buffers_;
    coverage_map coverage_;
    kernel_log log_;
    random_numbers random_;
    std::optional<module_image> image_;
    std::optional<runner> runner_;
    corpus corpus_;
    double started_ = now();
    double last_fresh_ = now();
    double last_tick_ = now();
    double last_record_ = now();
    std::uint64_t programs_ = 0;
    std::uint64_t operations_ = 0;
};

void fuzzer::execute(const program& what) {
    log_.record(what);
    try {
        runner_->run(what);
    } catch (const program_failed& failure) {
        std::printf("finding %s\n%s\n\n", failure.what(), to_text(what).c_str());
        std::fflush(stdout);
        throw;
    }
    ++programs_;
    operations_ += runner_->board().operations;
    tick();
}

std::vector<std::uint32_t> fuzzer::explore(const program& what) {
    execute(what);
    std::vector<std::uint32_t> fresh;
    for (unsigned i = 0; i < actors; ++i) {
        const auto some = coverage_.add(buffers_.trace(i), *image_);
        fresh.insert(fresh.end(), some.begin(), some.end());
    }
    std::sort(fresh.begin(), fresh.end());
    return fresh;
}

std::vector<std::uint32_t> fuzzer::reaches(const program& what,
                                           const std::vector<std::uint32_t>& wanted) {
    explore(what);
    std::vector<std::uint32_t> found;
    for (unsigned i = 0; i < actors; ++i) {
        const auto some = coverage_.common(wanted, buffers_.trace(i), *image_);
        found.insert(found.end(), some.begin(), some.end());
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

// Without the operations that it reaches its new edges without as well. What only came
// by chance (a race) is not to be had again, and then it stays as it is.
program fuzzer::shrink(const program& what, const std::vector<std::uint32_t>& fresh) {
    const auto stable = reaches(what, reaches(what, fresh));
    if (stable.empty()) return what;
    program shrunk = what;
    for (std::size_t i = what.size(); i-- > 0 && shrunk.size() > min_operations;) {
        program candidate = shrunk;
        candidate.erase(candidate.begin() + static_cast<std::ptrdiff_t>(i));
        if (reaches(candidate, stable) == stable) shrunk = candidate;
    }
    return shrunk;
}

program fuzzer::next_program() {
    if (random_.one_in(5)) return make_race(random_);
    if (corpus_.empty() || random_.one_in(10)) return make_program(random_);
    const program& base = corpus_.pick(random_);
    // its threads race, and not as they did before; without the device it takes long
    if (random_.one_in(has(base, op_kind::unplug) ? 40 : 8)) return base;
    return mutate(base, corpus_.pick(random_), random_);
}

void fuzzer::try_program(const program& what) {
    const auto fresh = explore(what);
    if (fresh.empty()) return;
    last_fresh_ = now();
    print_coverage();
    const program kept = shrink(what, fresh);
    corpus_.add(kept);
    std::printf("corpus %s\n", to_text(kept, "; ").c_str());
    std::fflush(stdout);
}

void fuzzer::fuzz() {
    if (!options_.corpus_path.empty())
        for (const program& one : read_programs(options_.corpus_path)) {
            explore(one);
            corpus_.add(one);
        }
    print_coverage();
    while (!over()) try_program(next_program());
}

void fuzzer::replay() {
    for (const program& one : read_programs(options_.replay_path))
        for (unsigned i = 0; i < options_.repeat; ++i) {
            explore(one);
            if (options_.verbose) print_results(one);
        }
    print_coverage();
}

// The smallest set that reaches all that they reach together, by taking whichever adds
// the most. Several runs of each: what its threads race for comes by chance.
void fuzzer::minimise() {
    const auto all = read_programs(options_.corpus_path);
    std::vector<std::vector<std::uint32_t>> reached;
    for (const program& one : all) {
        std::vector<std::uint32_t> edges;
        for (unsigned run = 0; run < 3 * actors; ++run) {
            if (run % actors == 0) explore(one);
            const auto some = coverage_.edges_of(buffers_.trace(run % actors), *image_);
            edges.insert(edges.end(), some.begin(), some.end());
        }
        std::sort(edges.begin(), edges.end());
        edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
        reached.push_back(std::move(edges));
    }
    print_coverage();
    for (;;) {
        const auto most =
            std::max_element(reached.begin(), reached.end(),
                             [](const auto& a, const auto& b) { return a.size() < b.size(); });
        if (most == reached.end() || most->empty()) break;
        const std::vector<std::uint32_t> taken = *most;
        std::printf("corpus %s\n",
                    to_text(all[static_cast<std::size_t>(most - reached.begin())], "; ").c_str());
        for (auto& edges : reached) {
            std::vector<std::uint32_t> left;
            std::set_difference(edges.begin(), edges.end(), taken.begin(), taken.end(),
                                std::back_inserter(left));
            edges = std::move(left);
        }
    }
}

void fuzzer::print_coverage() {
    for (const point one : coverage_.fresh_points())
        std::printf("point %s\n", point_text(one).c_str());
    for (const auto& [from, to] : coverage_.fresh_edges())
        std::printf("edge %s -> %s\n", point_text(from).c_str(), point_text(to).c_str());
    std::fflush(stdout);
}

void fuzzer::print_results(const program& what) const {
    for (std::size_t i = 0; i < what.size(); ++i) {
        const std::int64_t result = runner_->board().results[i];
        std::string text = "not run";
        if (result != not_run)
            text = result < 0 ? error_name(static_cast<int>(-result)) : std::to_string(result);
        std::fprintf(stderr, "%-60s = %s\n", to_text({what[i]}).c_str(), text.c_str());
    }
    std::fputc('\n', stderr);
}

// Once a second: how it goes, and whether the kernel has anything to say.
void fuzzer::tick() {
    const double time = now();
    if (time - last_tick_ < 1) return;
    last_tick_ = time;
    if (log_.complained()) kernel_log::dump();
    if (time - last_record_ >= 10) {
        last_record_ = time;
        print_state("progress");
    }
    if (options_.progress)
        std::fprintf(stderr,
                     "\r%5.0f s  %llu programs (%.0f/s)  %zu edges  %zu points  corpus %zu  ",
                     time - started_, static_cast<unsigned long long>(programs_),
                     static_cast<double>(programs_) / (time - started_), coverage_.edges(),
                     coverage_.points(), corpus_.size());
}

bool fuzzer::over() const {
    if (options_.seconds > 0 && now() - started_ >= options_.seconds) return true;
    return options_.programs > 0 && programs_ >= options_.programs;
}

void fuzzer::print_state(const char* record) const {
    std::printf(
        "%s programs=%llu operations=%llu seconds=%.0f edges=%zu points=%zu/%u "
        "since_new_edge=%.0f corpus=%zu seed=%llu\n",
        record, static_cast<unsigned long long>(programs_),
        static_cast<unsigned long long>(operations_), now() - started_, coverage_.edges(),
        coverage_.points(), options_.points_in_all, now() - last_fresh_, corpus_.size(),
        static_cast<unsigned long long>(options_.seed));
    std::fflush(stdout);
}

void fuzzer::summarise() const {
    if (options_.progress) std::fputc('\n', stderr);
    if (!options_.edges_out.empty()) coverage_.save(options_.edges_out);
    print_state("summary");
}

int run(const options& o) {
    fuzzer one(o);
    int status = 0;
    try {
        if (!o.replay_path.empty())
            one.replay();
        else if (o.minimise)
            one.minimise();
        else
            one.fuzz();
    } catch (const program_failed&) {
        status = 1;
    }
    one.summarise();
    return status;
}

void define_options(CLI::App& app, options& o) {
    auto* seconds_option = app.add_option("--seconds", o.seconds, "Fuzz for so long");
    auto* programs_option = app.add_option("--programs", o.programs, "Run so many programs");
    app.add_option("--seed", o.seed, "Of the random numbers (default 1)");
    auto* corpus_option = app.add_option("--corpus", o.corpus_path,
                                         "Begin with these programs: a file, or a directory "
                                         "of files *.txt");
    auto* replay_option =
        app.add_option("--replay", o.replay_path, "Run these programs and no others");
    app.add_option("--repeat", o.repeat, "Each of them so many times (default 1)")
        ->needs(replay_option);
    app.add_flag("--verbose", o.verbose, "What each of their operations returned, on stderr")
        ->needs(replay_option);
    app.add_flag("--minimise", o.minimise, "The smallest part of the corpus that reaches the same")
        ->needs(corpus_option);
    app.add_option("--entries", o.entries, "The points that calls of the kernel begin with");
    app.add_option("--edges", o.edges_in, "Edges that are known, of a run before");
    app.add_option("--edges-out", o.edges_out, "Write those and the new ones there");
    app.add_option("--module", o.module_file, "Unload and load this module first, covered");
    app.add_option("--module-args", o.module_parameters, "Its parameters");
    app.add_option("--points", o.points_in_all, "How many points the module has");
    app.add_flag("--without-coverage", o.without_coverage, "On a kernel without KCOV");
    app.add_flag("--progress", o.progress, "A line on stderr once a second");
    replay_option->excludes(seconds_option)->excludes(programs_option);
}

}  // namespace

}  // namespace kfuzz

int main(int argc, char** argv) {
    // the operation `exec` of a program
    if (argc == 2 && std::string(argv[1]) == "--nothing") return 0;
    kfuzz::options o;
    CLI::App app{"Coverage-guided fuzzing of ipcdoor's kernel interface"};
    app.name("kfuzz");
    kfuzz::define_options(app, o);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (o.replay_path.empty() && !o.minimise && o.seconds <= 0 && o.programs == 0) {
        std::cerr << "kfuzz: how long? --seconds or --programs (see --help)\n";
        return 2;
    }
    try {
        return kfuzz::run(o);
    } catch (const std::exception& error) {
        std::cerr << "kfuzz: " << error.what() << '\n';
        return 2;
    }
}
