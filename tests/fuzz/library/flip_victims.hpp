// SPDX-License-Identifier: MIT
// Victims of a peer that rewrites shared memory at any moment while they work. One
// thread calls flip() for ever, another work(); each flip() is one store to one
// shared word: 0, −1, ±1, wrapped, random, or something plausible, so that the
// victim gets somewhere before it is refused. What the victim may not do ends the
// process (FUZZ_CHECK, ASan, a guard page).
#ifndef IPCDOOR_TESTS_FUZZ_FLIP_VICTIMS_HPP
#define IPCDOOR_TESTS_FUZZ_FLIP_VICTIMS_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "support/xorshift64.hpp"

namespace ipcdoor::fuzz {

using test::xorshift64;

class victim {
public:
    virtual ~victim() = default;
    virtual void flip(xorshift64& random) = 0;
    // A few operations; starts anew where the peer was refused before.
    virtual void work(xorshift64& random) = 0;

    std::uint64_t operations = 0;
    std::uint64_t refusals = 0;
};

std::vector<std::string> victim_names();
// Null where there is no such victim.
std::unique_ptr<victim> make_victim(const std::string& name);

struct flip_limits {
    std::uint64_t seconds = 0;  // or, where it is 0:
    std::uint64_t flips = 0;    // at least so many, and as many operations / 100
    std::uint64_t seed = 0;
};

struct flip_counts {
    std::uint64_t flips = 0;
    std::uint64_t operations = 0;
    std::uint64_t refusals = 0;
};

// Aborts where the victim does not move for five minutes.
flip_counts run_victim(victim& who, const flip_limits& limits);

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_FLIP_VICTIMS_HPP
