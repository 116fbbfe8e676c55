// SPDX-License-Identifier: MIT
// Lets a hostile server act in the same thread as the client that waits for it: the
// targets are linked with --wrap for the library's poll_until(), which runs the
// hook before it polls. A thread for the server would cost a switch for each input.
#ifndef IPCDOOR_TESTS_FUZZ_POLL_HOOK_HPP
#define IPCDOOR_TESTS_FUZZ_POLL_HOOK_HPP

#include <functional>

namespace ipcdoor::fuzz {

// Empty: nothing is run.
extern std::function<void()> before_poll;

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_POLL_HOOK_HPP
