// SPDX-License-Identifier: MIT
#include "fuzz/library/poll_hook.hpp"

#include <cstdint>
#include <span>

#include "../userlib/src/sys.h"

namespace ipcdoor::fuzz {

std::function<void()> before_poll;

}  // namespace ipcdoor::fuzz

// The linker's names for sys::poll_until() as the library defines it, and for what
// the library calls instead (FUZZ_WRAP in build.mk).
int real_poll_until(std::span<pollfd> fds, std::uint64_t deadline_ns) noexcept
    asm("__real__ZN7ipcdoor7backend3sys10poll_untilESt4spanI6pollfdLm18446744073709551615EEm");
int wrapped_poll_until(std::span<pollfd> fds, std::uint64_t deadline_ns) noexcept
    asm("__wrap__ZN7ipcdoor7backend3sys10poll_untilESt4spanI6pollfdLm18446744073709551615EEm");

int wrapped_poll_until(std::span<pollfd> fds, std::uint64_t deadline_ns) noexcept {
    if (ipcdoor::fuzz::before_poll) ipcdoor::fuzz::before_poll();
    return real_poll_until(fds, deadline_ns);
}
