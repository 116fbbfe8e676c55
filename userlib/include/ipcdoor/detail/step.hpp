// SPDX-License-Identifier: MIT
//
// Labels of the steps at which a process may die: between any two of them shared memory
// changes at most once. They cost nothing but in programs that define IPCDOOR_STEPS, as
// tests/lib/crash does, which stops a process at each and kills it there.
#ifndef IPCDOOR_DETAIL_STEP_HPP
#define IPCDOOR_DETAIL_STEP_HPP

#ifdef IPCDOOR_STEPS
namespace ipcdoor::detail {
// Defined by the program; `name` is "operation:step".
void step(const char* name) noexcept;
}  // namespace ipcdoor::detail
// The names also lie one behind the other in a section of their own, so that the program
// can find those that it never came to.
#define IPCDOOR_STEP(name)                                                               \
    do {                                                                                 \
        __asm__(".pushsection ipcdoor_steps,\"a\"\n.asciz \"" name "\"\n.popsection\n"); \
        ::ipcdoor::detail::step(name);                                                   \
    } while (0)
#else
#define IPCDOOR_STEP(name) static_cast<void>(0)
#endif

#endif  // IPCDOOR_DETAIL_STEP_HPP
