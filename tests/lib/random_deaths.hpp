// SPDX-License-Identifier: MIT
// Processes that use an object together, and die one after the other at random moments.
#ifndef IPCDOOR_TESTS_LIB_RANDOM_DEATHS_HPP
#define IPCDOOR_TESTS_LIB_RANDOM_DEATHS_HPP

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/process.hpp"

namespace ipcdoor::test {

inline constexpr std::size_t mortals = 4;

// Runs body_of(0) to body_of(mortals - 1), which are endless and count their rounds in `rounds`,
// in a child each. Kills random ones of them, calls buried(i) and begins that one anew; each time
// the rounds have to go on. Kills all of them in the end.
template <class BodyOf, class Buried>
void random_deaths(std::uint64_t kills, std::uint64_t seed,
                   const std::atomic<std::uint64_t>& rounds, BodyOf body_of, Buried buried) {
    std::vector<child> all;
    for (std::size_t i = 0; i < mortals; ++i) all.emplace_back(body_of(i));
    std::uint64_t random = seed;
    for (std::uint64_t i = 0; i < kills; ++i) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        const std::size_t victim = (random >> 33) % mortals;
        std::this_thread::sleep_for(std::chrono::microseconds(random >> 40 & 4095));
        all[victim].kill();
        CHECK(all[victim].wait().signaled(SIGKILL));
        buried(victim);
        all[victim] = child(body_of(victim));
        const std::uint64_t before = rounds;
        spin_until([&] { return rounds != before; });
    }
    for (auto& one : all) one.kill();
    for (auto& one : all) CHECK(one.wait().signaled(SIGKILL));
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_RANDOM_DEATHS_HPP
