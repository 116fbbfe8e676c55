// SPDX-License-Identifier: MIT
// usage: races [--rounds N] [--seed S] [--from PAIR] [--list] [PAIR|ACTION…]
//
// What ends or moves an endpoint, its descriptors and its mappings meets everything
// else: each pair of actions (close, munmap, fork, … also with itself) in N rounds.
// In a round two threads on two CPUs leave a barrier, wait for a random moment, and
// act on the same endpoint or segment. Every call must succeed or fail as
// docs/uapi.md says; after each pair nothing may be left in the module, and it
// must be possible to unload it. Ordinary users do it, except where a side unplugs
// the device or unloads the module.
//
// Prints a line a pair: the rounds, and how the calls of each side ended.
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "support/process.hpp"
#include "system/src/races/actions.hpp"
#include "system/src/races/stage.hpp"
#include "system/src/shared/baseline.hpp"
#include "system/src/shared/module_control.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

constexpr std::chrono::milliseconds told_deadline{20'000};
constexpr unsigned skew_log2_ns = 17;

struct race_pair {
    const race_action* sides[2];

    std::string name() const { return std::string(sides[0]->name) + ":" + sides[1]->name; }
    bool any(bool race_action::*property) const {
        return sides[0]->*property || sides[1]->*property;
    }
    bool both_release() const { return sides[0]->releases && sides[1]->releases; }
    bool as_root() const { return any(&race_action::unplugs) || any(&race_action::unloads); }
    stage_needs needs() const {
        return {any(&race_action::on_listener), any(&race_action::on_mappings),
                any(&race_action::unplugs), any(&race_action::unloads) && both_release()};
    }
};

// Where two threads meet, and leave at the same time: the first spins for a while.
// Only for a while, because a machine that lends little of its CPUs would spend it
// all on spinning.
class meeting_point {
public:
    void meet() {
        const unsigned mine = arrived_.fetch_add(1) + 1;
        const unsigned all = mine + mine % 2;
        if (mine == all) arrived_.notify_all();
        const auto enough = now_ns() + spin_ns;
        for (unsigned now = mine; (now = arrived_.load()) < all;)
            if (now_ns() >= enough) arrived_.wait(now);
    }

private:
    static constexpr std::uint64_t spin_ns = 200'000;
    std::atomic<unsigned> arrived_{0};
};

// Two threads that repeat a round, each with its action.
class duel {
public:
    duel(const race_pair& pair, unsigned seed, race_results& results)
        : pair_(pair),
          randoms_{random_engine(seed + 1), random_engine(seed + 2)},
          sides_{{{0, randoms_[0], results}, {1, randoms_[1], results}}} {
        for (auto& side : sides_) {
            side.door_may_be_gone = pair.any(&race_action::unloads);
            side.device_may_be_gone = pair.any(&race_action::unplugs);
            side.mappings_may_be_gone = pair.any(&race_action::takes_mappings);
            side.pages_may_appear = pair.any(&race_action::grows);
        }
        // one CPU each, where there are two
        run_on_cpu(0);
        partner_ = std::thread([this] {
            run_on_cpu(1);
            for (;;) {
                point_.meet();
                if (stage_ == nullptr) break;
                act(sides_[1]);
            }
        });
    }
    duel(const duel&) = delete;
    duel& operator=(const duel&) = delete;
    ~duel() {
        stage_ = nullptr;
        point_.meet();
        partner_.join();
    }

    void round(stage& on) {
        stage_ = &on;
        point_.meet();
        act(sides_[0]);
        if (on.closed > 1) sides_[0].results.fail("one descriptor was closed more than once", 0);
        ++sides_[0].results.rounds;
    }

private:
    // The other side cannot go on alone: what is thrown ends the process.
    void act(race_side& side) {
        try {
            act_or_throw(side);
        } catch (const std::exception& error) {
            side.results.fail(error.what(), 0);
            ::_exit(1);
        }
    }

    void act_or_throw(race_side& side) {
        const auto& action = *pair_.sides[side.index];
        side.on = stage_;
        if (action.prepare != nullptr) action.prepare(side);
        point_.meet();
        random_skew(side.random, skew_log2_ns);
        action.run(side);
        point_.meet();
        side.ring.reset();
    }

    const race_pair& pair_;
    std::array<random_engine, 2> randoms_;
    std::array<race_side, 2> sides_;
    meeting_point point_;
    stage* stage_ = nullptr;
    std::thread partner_;
};

// What root's actions may have taken away comes back before the next round.
class machine {
public:
    explicit machine(const race_pair& pair)
        : unloads_(pair.any(&race_action::unloads)), unplugs_(pair.any(&race_action::unplugs)) {
        if (unloads_) module_ = open_module_file();
    }
    void put_right() const {
        if (unloads_) ensure_loaded(module_);
        if (unplugs_) ensure_edu_bound();
    }

private:
    bool unloads_;
    bool unplugs_;
    unique_fd module_;
};

// All rounds in this process.
void run_rounds(const race_pair& pair, unsigned rounds, unsigned seed, race_results& results) {
    const machine root(pair);
    random_engine random(seed);
    const auto fds = open_fd_count();
    {
        duel both(pair, seed, results);
        for (unsigned i = 0; i < rounds; ++i) {
            root.put_right();
            stage on(pair.needs(), -1, random);
            both.round(on);
        }
    }
    if (open_fd_count() != fds) results.fail("descriptors left behind", 0);
}

// A host's endpoint whose only peers' process ended.
void check_told(const endpoint& host, bool may_be_unplugged) {
    const auto deadline = deadline_in(told_deadline);
    for (;;) {
        ipcdoor_peer_info info{};
        info.slot = 1;
        const int error = call(host.fd, IPCDOOR_IOC_PEER_INFO, &info);
        if (error == -ESHUTDOWN && may_be_unplugged) return;
        if (error != 0) throw std::runtime_error("PEER_INFO: " + std::to_string(error));
        if (info.state == IPCDOOR_SLOT_DEAD) break;
        if (now_ns() > deadline) throw std::runtime_error("the dead process's slot is not dead");
        ::usleep(500);
    }
    if ((poll_now(host.get(), POLLIN, 20'000) & POLLHUP) == 0)
        throw std::runtime_error("no EPOLLHUP after the process's end");
    if (ring(host, 1, 1) != -EPIPE) throw std::runtime_error("a dead slot could be rung");
}

// Each round in a process of its own, which one side ends; its peer lives here.
void run_deaths(const race_pair& pair, unsigned rounds, unsigned seed, race_results& results) {
    const machine root(pair);
    const auto needs = pair.needs();
    random_engine random(seed);
    for (unsigned i = 0; i < rounds; ++i) {
        root.put_right();
        unique_fd door;
        endpoint host;
        if (!needs.few_holders) {
            door = open_door();
            auto args = create_args("", race_data_pages * race_page);
            args.max_data_bytes = race_max_data_pages * race_page;
            args.slots = 6;
            if (needs.msi) args.source = IPCDOOR_SOURCE_MSI;
            host = create(door, args);
        }
        const auto round_seed = static_cast<unsigned>(random());
        child victim([&] {
            random_engine of_round(round_seed);
            stage on(needs, host.get(), of_round);
            duel both(pair, round_seed, results);
            both.round(on);
            return 3;  // nobody died
        });
        const auto end = victim.wait();
        if (!end.signaled(SIGKILL) && !end.exited(0))
            results.fail("the process that dies, raw status", end.raw);
        ++results.rounds;
        if (host.fd) check_told(host, pair.any(&race_action::unplugs));
    }
}

int run_pair(const race_pair& pair, unsigned rounds, unsigned seed, race_results& results) {
    if (!pair.as_root()) EXPECT_CHILD(become_user(user_uid, user_uid));
    prepare_race_signals();
    if (pair.any(&race_action::dies)) {
        run_deaths(pair, rounds, seed, results);
    } else {
        run_rounds(pair, rounds, seed, results);
    }
    return 0;
}

std::string name_of(std::size_t end) {
    if (end == 0) return "ok";
    if (end == got_sigbus) return "SIGBUS";
    if (end == got_sigsegv) return "SIGSEGV";
    const char* name = ::strerrorname_np(static_cast<int>(end));
    return name != nullptr ? name : std::to_string(end);
}

std::string describe(const race_pair& pair, const race_results& results) {
    std::string line;
    for (unsigned side = 0; side < 2; ++side) {
        line += std::string(side == 0 ? "  " : "; ") + pair.sides[side]->name;
        for (std::size_t end = 0; end < ends_count; ++end)
            if (const unsigned count = results.ends[side][end]; count > 0)
                line += " " + name_of(end) + " " + std::to_string(count);
    }
    return line;
}

// True where everything was as it should be.
bool race(const race_pair& pair, unsigned rounds, unsigned seed, const unique_fd& module) {
    const shared<race_results> results;
    std::string trouble;
    try {
        child process([&] { return run_pair(pair, rounds, seed, *results); });
        // a round takes milliseconds, with a module to load some hundred
        const auto status = process.wait(partner_deadline + rounds * std::chrono::seconds(1));
        if (!status.exited(0)) trouble = "raw status " + std::to_string(status.raw);
        ensure_loaded(module);
        if (!edu_address().empty()) ensure_edu_bound();
        require_nothing_left();
    } catch (const std::exception& error) {
        trouble = error.what();
    }
    if (results->failures > 0) {
        results->first_failure[sizeof results->first_failure - 1] = '\0';
        trouble += (trouble.empty() ? "" : "; ") + std::to_string(results->failures.load()) +
                   " failures, the first: " + results->first_failure;
    }
    if (trouble.empty() && results->rounds < rounds) trouble = "rounds are missing";
    std::printf("%-18s %6u rounds%s\n", pair.name().c_str(), results->rounds.load(),
                describe(pair, *results).c_str());
    if (!trouble.empty())
        std::printf("%s: failed (seed %u): %s\n", pair.name().c_str(), seed, trouble.c_str());
    return trouble.empty();
}

// ---- which pairs ----

std::vector<race_pair> all_pairs() {
    const auto& actions = race_actions();
    std::vector<race_pair> pairs;
    for (std::size_t i = 0; i < actions.size(); ++i)
        for (std::size_t j = i; j < actions.size(); ++j)
            pairs.push_back({{&actions[i], &actions[j]}});
    return pairs;
}

// Either order names a pair.
bool matches(const race_pair& pair, const std::string& text) {
    return pair.name() == text || race_pair{{pair.sides[1], pair.sides[0]}}.name() == text ||
           pair.sides[0]->name == text || pair.sides[1]->name == text;
}

std::vector<race_pair> choose(const std::vector<std::string>& texts, const std::string& from) {
    auto pairs = all_pairs();
    for (const auto& text : texts)
        if (std::none_of(pairs.begin(), pairs.end(),
                         [&](const race_pair& pair) { return matches(pair, text); }))
            throw CLI::ValidationError("PAIR", "no pair or action '" + text + "' (see --list)");
    if (!from.empty()) {
        const auto first = std::find_if(pairs.begin(), pairs.end(),
                                        [&](const race_pair& pair) { return pair.name() == from; });
        if (first == pairs.end())
            throw CLI::ValidationError("--from", "no pair '" + from + "' (see --list)");
        pairs.erase(pairs.begin(), first);
    }
    std::erase_if(pairs, [&](const race_pair& pair) {
        return !texts.empty() &&
               std::none_of(texts.begin(), texts.end(),
                            [&](const std::string& text) { return matches(pair, text); });
    });
    return pairs;
}

// Why this machine cannot make the pair; "" where it can.
std::string impossible(const race_pair& pair) {
    static const bool has_edu = !edu_address().empty();
    static const bool has_io_uring = poll_ring::available();
    if (pair.any(&race_action::unplugs) && !has_edu) return "there is no edu device to unplug";
    if (pair.any(&race_action::uses_io_uring) && !has_io_uring)
        return "the kernel has no io_uring (CONFIG_IO_URING)";
    return "";
}

int run(const std::vector<race_pair>& pairs, unsigned rounds, unsigned seed) {
    const auto module = open_module_file();
    const auto started = now_ns();
    unsigned long made = 0;
    std::size_t raced = 0;
    std::size_t failed = 0;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
        const auto reason = impossible(pairs[i]);
        if (!reason.empty()) {
            std::printf("%-18s skipped: %s\n", pairs[i].name().c_str(), reason.c_str());
            continue;
        }
        ensure_loaded(module);
        // the ordinary user's too, as insmod mode=0666 would make it
        if (::chmod("/dev/ipcdoor0", 0666) != 0)
            throw std::system_error(errno, std::generic_category(), "/dev/ipcdoor0");
        failed += race(pairs[i], rounds, seed + static_cast<unsigned>(i), module) ? 0 : 1;
        made += rounds;
        ++raced;
    }
    ensure_unloaded();
    ensure_loaded(module);
    std::printf(
        "note: %lu rounds of %zu pairs (seed %u), %zu pairs failed; the module was unloaded; "
        "%.1f s\n",
        made, raced, seed, failed, static_cast<double>(now_ns() - started) / 1e9);
    if (raced == 0) std::puts("no pair was raced");
    return failed == 0 && raced > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Races everything that ends or moves an endpoint against everything else"};
    unsigned rounds = 100;
    unsigned seed = std::random_device{}();
    std::string from;
    std::vector<std::string> texts;
    bool list = false;
    bool nothing = false;
    app.add_option("--rounds", rounds, "Rounds of each pair")->check(CLI::Range(1, 100'000'000));
    app.add_option("--seed", seed, "Of all that is random (default: a random one)");
    app.add_option("--from", from, "Begin with this pair, to go on where a run was stopped");
    app.add_flag("--list", list, "Name the pairs and exit");
    app.add_flag("--nothing", nothing, "Exit at once: what a process that dies by execve becomes");
    app.add_option("PAIR", texts, "Pairs, or actions with all their pairs (default: all)");
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    try {
        app.parse(argc, argv);
        if (nothing) return 0;
        const auto pairs = choose(texts, from);
        if (list) {
            for (const auto& pair : pairs) std::puts(pair.name().c_str());
            return 0;
        }
        if (cpu_count() < 2) throw std::runtime_error("two CPUs are needed");
        return run(pairs, rounds, seed);
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    } catch (const std::exception& error) {
        std::printf("races: %s\n", error.what());
        return 1;
    }
}
