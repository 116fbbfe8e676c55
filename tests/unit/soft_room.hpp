// SPDX-License-Identifier: MIT
// A runtime directory of its own for each test of the software back end, and
// the short cuts that those tests share.
#ifndef IPCDOOR_TESTS_UNIT_SOFT_ROOM_HPP
#define IPCDOOR_TESTS_UNIT_SOFT_ROOM_HPP

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>

#include <ipcdoor/door.hpp>

#include "support/error_of.hpp"
#include "support/temporary_directory.hpp"

namespace ipcdoor::test {

using namespace std::chrono_literals;

class soft_room {
public:
    // 01777 lets other users in.
    explicit soft_room(mode_t mode = 0700) : directory_(mode) {}

    const std::string& path() const { return directory_.path(); }
    std::string uri() const { return "soft:" + path(); }
    ipcdoor::door door() const { return ipcdoor::door(uri()); }

    // Of a user's names, locks and drafts not counted.
    std::size_t names(uid_t uid) const {
        const std::filesystem::path dir = path() + "/" + std::to_string(uid);
        if (!std::filesystem::exists(dir)) return 0;
        std::size_t count = 0;
        for (const auto& entry : std::filesystem::directory_iterator(dir))
            count += entry.path().filename().string().front() != '.';
        return count;
    }

private:
    temporary_directory directory_;
};

// Whether the thread's latest error has this in its text.
bool said(const char* words);

// Both ends of a connection, within this process.
struct soft_pair {
    explicit soft_pair(const soft_room& room, const listen_options& options = {});

    ipcdoor::door door;
    ipcdoor::listener listener;
    ipcdoor::endpoint server;
    ipcdoor::endpoint client;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UNIT_SOFT_ROOM_HPP
