// SPDX-License-Identifier: MIT
// A runtime directory for the software back end, in memory: on a disk, writing the
// small files of a hostile peer took nearly all of a target's time.
#ifndef IPCDOOR_TESTS_FUZZ_ROOM_HPP
#define IPCDOOR_TESTS_FUZZ_ROOM_HPP

#include <unistd.h>

#include <string>

#include <ipcdoor/door.hpp>

#include "support/temporary_directory.hpp"

namespace ipcdoor::fuzz {

class room {
public:
    room() {
        // Only once a user's directory exists can names be looked up in it.
        door().listen("made").close();
    }

    const std::string& path() const { return directory_.path(); }
    // Where the names of this user are.
    std::string names() const { return path() + "/" + std::to_string(::geteuid()); }
    std::string uri() const { return "soft:" + path(); }
    ipcdoor::door door() const { return ipcdoor::door(uri()); }

private:
    const test::temporary_directory directory_{0700, "/dev/shm"};
};

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_ROOM_HPP
