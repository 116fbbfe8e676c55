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
#define IPCDOOR_STEP(name) ::ipcdoor::detail::step(name)
#else
#define IPCDOOR_STEP(name) static_cast<void>(0)
#endif

#endif  // IPCDOOR_DETAIL_STEP_HPP
