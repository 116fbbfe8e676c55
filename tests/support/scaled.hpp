// SPDX-License-Identifier: MIT
// Amounts that suit the machine.
//
//   IPCDOOR_TEST_SCALE   percentage of the iterations, 1 to 100
#ifndef IPCDOOR_TESTS_SUPPORT_SCALED_HPP
#define IPCDOOR_TESTS_SUPPORT_SCALED_HPP

#include <cstdint>

namespace ipcdoor::test {

// That percentage of them, at least one. Throws std::runtime_error where it is none.
std::uint64_t scaled(std::uint64_t iterations);

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_SCALED_HPP
