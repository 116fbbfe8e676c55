// SPDX-License-Identifier: MIT
#include "irqbench/clock.hpp"

#include <cerrno>
#include <ctime>
#include <limits>
#include <vector>

#include "irqbench/statistics.hpp"

namespace irqbench {

void sleep_until(std::uint64_t deadline_ns) {
    const timespec t{static_cast<time_t>(deadline_ns / 1'000'000'000U),
                     static_cast<long>(deadline_ns % 1'000'000'000U)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) == EINTR) {
    }
}

timestamp_cost measure_timestamp_cost() {
    constexpr int calls = 200;
    constexpr int blocks = 51;
    timestamp_cost cost;
    cost.step_ns = std::numeric_limits<std::uint64_t>::max();
    std::vector<double> per_call;
    for (int block = 0; block < blocks; ++block) {
        const std::uint64_t start = now_ns();
        std::uint64_t last = start;
        for (int i = 0; i < calls; ++i) {
            const std::uint64_t t = now_ns();
            if (t != last && t - last < cost.step_ns) cost.step_ns = t - last;
            last = t;
        }
        per_call.push_back(static_cast<double>(last - start) / calls);
    }
    if (cost.step_ns == std::numeric_limits<std::uint64_t>::max()) cost.step_ns = 0;
    cost.ns = spread_of(per_call).median;
    return cost;
}

std::uint64_t cycles_of_counted_loop(std::uint64_t iterations) {
#if defined(__x86_64__)
    const std::uint64_t start = cycle_counter();
    asm volatile("1: dec %0\n\tjnz 1b" : "+r"(iterations)::"cc");
    return cycle_counter() - start;
#else
    (void)iterations;
    return 0;
#endif
}

}  // namespace irqbench
