// SPDX-License-Identifier: MIT
// The back end and source under test:
//
//   IPCDOOR_URI          the door; soft: in a directory of the program's own unless set
//   IPCDOOR_TEST_SOURCE  soft, direct, msi, ipi or timer; the module's default unless set
//
// All of them throw std::system_error where the door cannot be opened.
#ifndef IPCDOOR_TESTS_SUPPORT_DOOR_UNDER_TEST_HPP
#define IPCDOOR_TESTS_SUPPORT_DOOR_UNDER_TEST_HPP

#include <cstdint>
#include <string>

namespace ipcdoor::test {

// The same in children that are forked after the first call.
const std::string& door_uri();
bool on_soft();
// IPCDOOR_SOURCE_*. Throws std::runtime_error where it does not go with the door.
std::uint32_t source();

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_DOOR_UNDER_TEST_HPP
