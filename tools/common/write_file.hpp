// SPDX-License-Identifier: MIT
//
// Owns: writing what was reported to files.
#pragma once

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

namespace common {

// Nothing for an empty path. Throws std::runtime_error.
inline void write_file(const std::string& path, const std::string& text) {
    if (path.empty()) return;
    errno = 0;
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    if (!file)
        throw std::runtime_error("cannot write " + path +
                                 (errno != 0 ? std::string(": ") + std::strerror(errno) : ""));
}

}  // namespace common
