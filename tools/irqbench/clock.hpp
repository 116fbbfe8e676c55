// SPDX-License-Identifier: MIT
//
// Owns: how irqbench reads time, and what reading it costs.
#pragma once

#include <time.h>

#include <cstdint>

namespace irqbench {

// CLOCK_MONOTONIC, the clock of the kernel's stage stamps. Inline: it stands on both ends of every
// measurement.
inline std::uint64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(t.tv_nsec);
}

// Sleeps until CLOCK_MONOTONIC reaches `deadline_ns`; a signal does not cut it short.
void sleep_until(std::uint64_t deadline_ns);

struct timestamp_cost {
    double ns = 0;              // one now_ns(), median over blocks of calls
    std::uint64_t step_ns = 0;  // smallest difference seen between two readings
};

// Takes a few milliseconds.
timestamp_cost measure_timestamp_cost();

#if defined(__x86_64__)
inline constexpr bool has_cycle_counter = true;
// Ordered after everything before it, so that what is measured has been done.
inline std::uint64_t cycle_counter() {
    std::uint32_t low, high;
    asm volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high)::"memory");
    return (std::uint64_t{high} << 32) | low;
}
#else
inline constexpr bool has_cycle_counter = false;
inline std::uint64_t cycle_counter() { return 0; }
#endif

// Executes 2 × `iterations` instructions and returns how far the cycle counter went; 0 where there
// is none.
std::uint64_t cycles_of_counted_loop(std::uint64_t iterations);

}  // namespace irqbench
