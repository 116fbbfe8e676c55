// SPDX-License-Identifier: MIT
// The kernel's log as a flight recorder. Each program is written there before it runs,
// at the level of debugging, so that nothing reaches the console as long as all is
// well; when the kernel panics, it prints its whole log (panic_print=0x20 on its command
// line) and the last programs with it.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_KERNEL_LOG_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_KERNEL_LOG_HPP

#include <string>

#include "fuzz/kernel/program.hpp"

namespace kfuzz {

class kernel_log {
public:
    kernel_log();  // throws std::runtime_error
    kernel_log(const kernel_log&) = delete;
    kernel_log& operator=(const kernel_log&) = delete;
    ~kernel_log();

    void record(const program& what) const;

    // The kernel has complained in a way that it survived (lock order, for one): from
    // then on it shows every message, which this looks at.
    bool complained() const;

    // Panics, so that the log is printed.
    [[noreturn]] static void dump();

private:
    void write_line(const std::string& line) const;

    int fd_;
    int loudness_;
};

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_KERNEL_LOG_HPP
