// SPDX-License-Identifier: MIT
// What a program cannot do that is built with AddressSanitizer or ThreadSanitizer.
#ifndef IPCDOOR_TESTS_SUPPORT_SANITIZERS_HPP
#define IPCDOOR_TESTS_SUPPORT_SANITIZERS_HPP

namespace ipcdoor::test {

// mlock(2) does nothing in both.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool has_mlock = false;
#else
inline constexpr bool has_mlock = true;
#endif

// Where a process with several threads forks, and the watchdog is one, ThreadSanitizer ends the
// child at its first thread.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool has_threads_in_children = false;
#else
inline constexpr bool has_threads_in_children = true;
#endif

// Their allocators end the program where address space is wanting.
inline constexpr bool has_bad_alloc = has_mlock;

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_SANITIZERS_HPP
