// SPDX-License-Identifier: MIT
#include "support/temporary_directory.hpp"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace ipcdoor::test {

temporary_directory::temporary_directory(mode_t mode, const std::string& parent)
    : path_(parent + "/ipcdoor-test-XXXXXX"), owner_(::getpid()) {
    // chmod() as well, for the umask and the sticky bit.
    if (::mkdtemp(path_.data()) == nullptr || ::chmod(path_.c_str(), mode) != 0)
        throw std::system_error(errno, std::generic_category(), "a new directory in " + parent);
}

temporary_directory::~temporary_directory() {
    if (::getpid() != owner_) return;
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace ipcdoor::test
