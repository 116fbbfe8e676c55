// SPDX-License-Identifier: MIT
// The worker's side: plays programs, with threads and children as they say.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_PLAY_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_PLAY_HPP

#include "fuzz/kernel/actor.hpp"

namespace kfuzz {

// In a process of its own: plays the board's programs, from the one after `done`, until
// one may have left something behind; then the process ends.
[[noreturn]] void play_programs(const kcov_buffers& coverage, const surroundings& around,
                                scoreboard& board, std::uint32_t done);

// The handler of SIGSEGV and SIGBUS, for the whole process.
void on_fault(int signo);

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_PLAY_HPP
