// SPDX-License-Identifier: MIT
//
// Owns: guest instructions of a blocking round trip between two processes on one CPU, where the
// time-stamp counter counts instructions (QEMU with -icount shift=0). Reports and asserts nothing.
#pragma once

#include <string>
#include <vector>

#include "irqbench/model.hpp"
#include "irqbench/options.hpp"

namespace irqbench {

// What a round trip costs hangs on what the scheduler does with the answering side, which has just
// woken the caller. Both happen with every method, so both are measured.
enum class handover {
    both_sleep,  // it runs on and sleeps: two sleeps and two wake-ups a round trip
    preempted,   // the caller pushes it off the CPU before it can: one of each. The scheduler does
                 // so while the caller has had less of the CPU, as right after a fork; here the
                 // answering side is made to run for a while before
};

struct instruction_figure {
    std::string path;  // what was called, such as "ioctl:direct"
    handover how;
    spread per_round_trip;  // over the repetitions
    // Times a round trip, of the calling and the answering side: the proof of the above.
    double slept[2] = {};
    double preempted[2] = {};
};

struct instruction_report {
    machine on;
    double counted_loop_ratio = 0;  // counter steps per instruction of a known loop: 1
    std::uint64_t round_trips = 0;
    std::vector<instruction_figure> figures;
    std::vector<absence> absent;
};

// Throws std::runtime_error where the counter does not count instructions or more than one CPU is
// there, door_absent without a module.
instruction_report measure_instructions(const options& o);

std::string text_instructions(const instruction_report& r, bool colour);
std::string json_instructions(const instruction_report& r);

// Whether `steps` of the counter for `instructions` mean that it counts them, within 1 %.
bool counts_instructions(std::uint64_t steps, std::uint64_t instructions);

}  // namespace irqbench
