// SPDX-License-Identifier: MIT
// A runtime directory for the software back end, in memory: on a disk, writing the
// small files of a hostile peer took nearly all of a target's time.
#ifndef IPCDOOR_TESTS_FUZZ_ROOM_HPP
#define IPCDOOR_TESTS_FUZZ_ROOM_HPP

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include <ipcdoor/door.hpp>

namespace ipcdoor::fuzz {

class room {
public:
    room() {
        std::string path = "/dev/shm/ipcdoor-fuzz-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr)
            throw std::system_error(errno, std::generic_category(), "a directory in /dev/shm");
        path_ = path;
        // Only once a user's directory exists can names be looked up in it.
        door().listen("made").close();
    }
    room(const room&) = delete;
    room& operator=(const room&) = delete;
    ~room() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    const std::string& path() const { return path_; }
    // Where the names of this user are.
    std::string names() const { return path_ + "/" + std::to_string(::geteuid()); }
    std::string uri() const { return "soft:" + path_; }
    ipcdoor::door door() const { return ipcdoor::door(uri()); }

private:
    std::string path_;
};

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_ROOM_HPP
