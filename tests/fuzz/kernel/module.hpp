// SPDX-License-Identifier: MIT
// Unloads and loads the module with coverage on, for what only runs then.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_MODULE_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_MODULE_HPP

#include <string>

#include "fuzz/kernel/coverage.hpp"
#include "fuzz/kernel/kcov.hpp"
#include "fuzz/kernel/mutate.hpp"

namespace kfuzz {

// Also with other parameters, wrong ones among them, and some times with a failure
// injected. In the end it is loaded with `parameters`, as for insmod. Throws
// std::runtime_error.
void reload_module(const std::string& file, const std::string& parameters,
                   const kcov_buffers& buffers, coverage_map& coverage, random_numbers& random);

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_MODULE_HPP
