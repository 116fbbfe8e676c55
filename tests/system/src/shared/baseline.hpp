// SPDX-License-Identifier: MIT
// Whether the module holds anything for anybody.
#ifndef IPCDOOR_TESTS_SYSTEM_BASELINE_HPP
#define IPCDOOR_TESTS_SYSTEM_BASELINE_HPP

namespace ipcdoor::test {

// Root and the ordinary user hold no byte and no endpoint, and nothing refers to
// the module. Waits up to two minutes for what is freed after a grace period or by a
// kernel thread; then throws std::runtime_error. By root, with the module loaded
// and no descriptor of it open here.
void require_nothing_left();

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_BASELINE_HPP
