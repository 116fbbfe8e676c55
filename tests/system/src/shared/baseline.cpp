// SPDX-License-Identifier: MIT
#include "system/src/shared/baseline.hpp"

#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include "system/src/shared/module_control.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

namespace {

constexpr std::chrono::milliseconds settle_time{120'000};

// GET_INFO tells what the caller's effective user holds.
ipcdoor_info info_of_user(const unique_fd& door, uid_t uid) {
    if (::seteuid(uid) != 0) throw std::system_error(errno, std::generic_category(), "seteuid");
    const auto info = get_info(door);
    if (::seteuid(0) != 0) throw std::system_error(errno, std::generic_category(), "seteuid");
    return info;
}

}  // namespace

void require_nothing_left() {
    const auto deadline = deadline_in(settle_time);
    for (;;) {
        ipcdoor_info root;
        ipcdoor_info user;
        {
            const unique_fd door = open_door_or_make_node();
            root = get_info(door);
            user = info_of_user(door, user_uid);
        }
        const auto bytes = root.user_bytes + user.user_bytes;
        const auto endpoints = root.user_endpoints + user.user_endpoints;
        const long references = module_references();
        if (bytes == 0 && endpoints == 0 && references == 0) return;
        if (now_ns() >= deadline)
            throw std::runtime_error("left behind in the module: " + std::to_string(bytes) +
                                     " bytes, " + std::to_string(endpoints) + " endpoints, " +
                                     std::to_string(references) + " references");
        ::usleep(2000);
    }
}

}  // namespace ipcdoor::test
