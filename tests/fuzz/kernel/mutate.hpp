// SPDX-License-Identifier: MIT
// Makes programs up and changes them. The same random numbers give the same program.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_MUTATE_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_MUTATE_HPP

#include <cstdint>
#include <random>
#include <span>

#include "fuzz/kernel/program.hpp"

namespace kfuzz {

class random_numbers {
public:
    explicit random_numbers(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t bits() { return engine_(); }
    // 0 to limit - 1. The standard's distributions differ between libraries.
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }

    template <typename T, std::size_t N>
    T pick(const T (&of)[N]) {
        return of[below(N)];
    }

private:
    std::mt19937_64 engine_;
};

// A new one: who meets whom, then anything.
program make_program(random_numbers& random);

// Two or three threads do one thing each, again and again, at the same time.
program make_race(random_numbers& random);

// A changed copy; `other` lends operations.
program mutate(const program& base, const program& other, random_numbers& random);

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_MUTATE_HPP
