// SPDX-License-Identifier: MIT
//
// Owns: the question whether somebody looks on.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace common {

// TERM=dumb also means that nobody does, as where a serial line only carries the output on.
inline bool is_terminal(int fd) {
    const char* term = std::getenv("TERM");
    return isatty(fd) != 0 && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

// Colours, by the convention of no-color.org.
inline bool colour_wanted(int fd) {
    const char* no_colour = std::getenv("NO_COLOR");
    return is_terminal(fd) && (no_colour == nullptr || *no_colour == '\0');
}

}  // namespace common
