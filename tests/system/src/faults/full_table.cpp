// SPDX-License-Identifier: MIT
#include <unistd.h>

#include "system/src/faults/subject.hpp"

namespace ipcdoor::test {

namespace {

// What a new process's table has room for.
constexpr int last_descriptor = 63;

}  // namespace

full_table::full_table(int fd) {
    do {
        taken_.emplace_back(::dup(fd));
        require(static_cast<bool>(taken_.back()), "dup");
    } while (taken_.back().get() < last_descriptor - 1);
    // one was opened above the others
    require(taken_.back().get() == last_descriptor - 1, "the descriptors have a gap");
    last_ = unique_fd(::dup(fd));
    require(last_.get() == last_descriptor, "the last descriptor is not the last");
    last_.reset();
}

void full_table::take_last() {
    last_ = unique_fd(::dup(taken_.back().get()));
    require(last_.get() == last_descriptor, "the last descriptor is taken");
}

}  // namespace ipcdoor::test
