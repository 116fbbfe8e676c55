// SPDX-License-Identifier: MIT
//
// Owns: the door that contestants use, and names that nobody else has.
#pragma once

#include <unistd.h>

#include <atomic>
#include <string>

namespace bench {

inline constexpr const char* door_uri = "soft:";

inline std::string fresh_name(const char* what) {
    static std::atomic<unsigned> last{0};
    return std::string("bench.") + what + "." + std::to_string(::getpid()) + "." +
           std::to_string(++last);
}

}  // namespace bench
