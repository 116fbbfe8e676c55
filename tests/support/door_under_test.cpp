// SPDX-License-Identifier: MIT
#include "support/door_under_test.hpp"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include <ipcdoor.h>

#include "support/temporary_directory.hpp"

namespace ipcdoor::test {

const std::string& door_uri() {
    static const std::string chosen = [] {
        if (const char* set = std::getenv("IPCDOOR_URI"); set != nullptr && *set != '\0')
            return std::string(set);
        static const temporary_directory directory;
        return "soft:" + directory.path();
    }();
    return chosen;
}

bool on_soft() {
    static const bool soft = [] {
        ipcdoor_door* door = nullptr;
        const int opened = ipcdoor_door_open(door_uri().c_str(), &door);
        if (opened < 0)
            throw std::system_error(-opened, std::generic_category(),
                                    std::string("ipcdoor_door_open: ") + ipcdoor_error());
        const bool is = std::strcmp(ipcdoor_door_backend(door), "soft") == 0;
        ipcdoor_door_close(door);
        return is;
    }();
    return soft;
}

std::uint32_t source() {
    const char* name = std::getenv("IPCDOOR_TEST_SOURCE");
    if (name == nullptr || *name == '\0') return IPCDOOR_SOURCE_AUTO;
    const std::string wanted(name);
    if ((wanted == "soft") != on_soft())
        throw std::runtime_error("IPCDOOR_TEST_SOURCE=" + wanted + " does not go with IPCDOOR_URI");
    if (wanted == "soft" || wanted == "direct") return IPCDOOR_SOURCE_DIRECT;
    if (wanted == "msi") return IPCDOOR_SOURCE_MSI;
    if (wanted == "ipi") return IPCDOOR_SOURCE_IPI;
    if (wanted == "timer") return IPCDOOR_SOURCE_TIMER;
    throw std::runtime_error("IPCDOOR_TEST_SOURCE=" + wanted +
                             ": expected soft, direct, msi, ipi or timer");
}

}  // namespace ipcdoor::test
