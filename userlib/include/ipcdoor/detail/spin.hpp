// SPDX-License-Identifier: MIT
//
// Spinning, for those who may look for a while before they sleep.
#ifndef IPCDOOR_DETAIL_SPIN_HPP
#define IPCDOOR_DETAIL_SPIN_HPP

#include <cstdint>

#include <ipcdoor.h>

namespace ipcdoor::detail {

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Calls look() until it is true, or so long has passed: whether it was true.
template <class Look>
bool spin_for(std::uint64_t ns, Look look) {
    // A look at the clock costs as much as many looks.
    constexpr int looks_between_clocks = 32;
    const std::uint64_t end = ipcdoor_deadline_ns(ns);
    do {
        for (int i = 0; i < looks_between_clocks; ++i) {
            if (look()) return true;
            cpu_relax();
        }
    } while (ipcdoor_now_ns() < end);
    return false;
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_SPIN_HPP
