// SPDX-License-Identifier: MIT
//
// Owns: how a failed system call becomes an exception.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace common {

[[noreturn]] inline void throw_errno(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace common
