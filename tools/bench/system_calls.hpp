// SPDX-License-Identifier: MIT
//
// Owns: counting a contestant's system calls. A forked process makes the contestant and is traced
// by ptrace(2), with all its threads and children: the way that needs no rights, neither tracefs
// nor a PMU, and misses nothing. It is slow, so nothing is timed there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "bench/work.hpp"

namespace bench {

struct call_count {
    bool counted = false;
    std::string why_not;
    std::uint64_t operations = 0;
    std::map<std::string, std::uint64_t> by_name;  // of all operations together

    double per_operation() const;
};

// After a thousand that are not counted: first times cost more. To be called while this process has
// one thread.
call_count count_calls(const std::function<std::unique_ptr<work>()>& make,
                       std::uint64_t operations);

}  // namespace bench
