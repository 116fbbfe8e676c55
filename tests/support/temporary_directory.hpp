// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_SUPPORT_TEMPORARY_DIRECTORY_HPP
#define IPCDOOR_TESTS_SUPPORT_TEMPORARY_DIRECTORY_HPP

#include <sys/types.h>

#include <string>

namespace ipcdoor::test {

// A new directory, removed with all that is in it by the process that made it: a
// forked child leaves it alone.
class temporary_directory {
public:
    // 01777 lets other users in. Throws std::system_error.
    explicit temporary_directory(mode_t mode = 0700, const std::string& parent = "/tmp");
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory();

    const std::string& path() const { return path_; }

private:
    std::string path_;
    pid_t owner_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_TEMPORARY_DIRECTORY_HPP
