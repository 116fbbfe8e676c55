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

struct instruction_figure {
    std::string path;                 // what was called, such as "ipcdoor ioctl, direct"
    spread per_round_trip;            // over the repetitions
    double voluntary_switches = 0;    // of the caller, per round trip: it really slept
};

struct instruction_report {
    machine on;
    double counted_loop_ratio = 0;    // counter steps per instruction of a known loop: 1
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
