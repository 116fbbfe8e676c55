// SPDX-License-Identifier: MIT
// Rewrites every kind of shared word, at any moment, while a victim works with it,
// and counts how often (flip_victims.hpp says who the victims are and what they
// must not do).
//
//     flip [--seconds S] [--seed N] [VICTIM…]
//
//   --seconds  for each victim, 10 unless given
//   --seed     of the random numbers; printed. A run repeats the numbers, not the
//              moments.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/library/flip_victims.hpp"

namespace {

using namespace ipcdoor::fuzz;

std::uint64_t number(const char* option, const char* text) {
    char* end = nullptr;
    const std::uint64_t value = text == nullptr ? 0 : std::strtoull(text, &end, 10);
    if (end == nullptr || end == text || *end != '\0')
        throw std::runtime_error(std::string(option) + " needs a whole number");
    return value;
}

int run(int argc, char** argv) {
    flip_limits limits;
    limits.seconds = 10;
    limits.seed = std::random_device{}();
    std::vector<std::string> names;
    for (int i = 1; i < argc; ++i) {
        const std::string argument(argv[i]);
        if (argument == "--seconds") {
            limits.seconds = number("--seconds", i + 1 < argc ? argv[++i] : nullptr);
        } else if (argument == "--seed") {
            limits.seed = number("--seed", i + 1 < argc ? argv[++i] : nullptr);
        } else if (make_victim(argument)) {
            names.push_back(argument);
        } else {
            std::string all;
            for (const std::string& name : victim_names()) all += " " + name;
            throw std::runtime_error("usage: flip [--seconds S] [--seed N] [VICTIM…]; victims:" +
                                     all);
        }
    }
    if (limits.seconds == 0) throw std::runtime_error("--seconds must be 1 or more");
    if (names.empty()) names = victim_names();
    std::printf("flip: seed %llu\n", static_cast<unsigned long long>(limits.seed));
    std::uint64_t flips = 0;
    bool idle = false;
    for (const std::string& name : names) {
        const auto who = make_victim(name);
        const flip_counts counts = run_victim(*who, limits);
        std::printf("flip: %s: %llu flips, %llu operations, %llu refusals\n", name.c_str(),
                    static_cast<unsigned long long>(counts.flips),
                    static_cast<unsigned long long>(counts.operations),
                    static_cast<unsigned long long>(counts.refusals));
        std::fflush(stdout);
        flips += counts.flips;
        idle = idle || counts.operations == 0 || counts.flips == 0;
    }
    std::printf("flip: %llu flips in all, nothing broken\n",
                static_cast<unsigned long long>(flips));
    if (idle) throw std::runtime_error("a victim or its peer did nothing at all");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "flip: %s\n", error.what());
        return 1;
    }
}
