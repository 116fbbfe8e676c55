// SPDX-License-Identifier: MIT
#include "support/scaled.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace ipcdoor::test {

std::uint64_t scaled(std::uint64_t iterations) {
    const char* text = std::getenv("IPCDOOR_TEST_SCALE");
    if (text == nullptr || *text == '\0') return iterations;
    char* end = nullptr;
    const unsigned long percent = std::strtoul(text, &end, 10);
    if (*end != '\0' || percent < 1 || percent > 100)
        throw std::runtime_error(std::string("IPCDOOR_TEST_SCALE=") + text +
                                 ": expected a percentage, 1 to 100");
    const std::uint64_t some = iterations * percent / 100;
    return some == 0 ? 1 : some;
}

}  // namespace ipcdoor::test
