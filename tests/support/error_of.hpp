// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_SUPPORT_ERROR_OF_HPP
#define IPCDOOR_TESTS_SUPPORT_ERROR_OF_HPP

#include <system_error>

namespace ipcdoor::test {

// The errno value of what the operation throws, 0 if it throws nothing. What is no
// std::system_error passes.
template <class Operation>
int error_of(Operation&& operation) {
    try {
        operation();
    } catch (const std::system_error& error) {
        return error.code().value();
    }
    return 0;
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_ERROR_OF_HPP
