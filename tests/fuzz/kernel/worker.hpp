// SPDX-License-Identifier: MIT
// Runs programs, one at a time, in a worker: a process group that ends where anything
// of a program may be left in it. Most leave nothing but descriptors and mappings, and
// after those the worker cleans up and takes the next one, because a fork costs more
// than a program does.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_WORKER_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_WORKER_HPP

#include <array>
#include <stdexcept>
#include <string>

#include "fuzz/kernel/actor.hpp"

namespace kfuzz {

// A program did what none may do: it could not be killed, or something of it is left.
class program_failed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class runner {
public:
    explicit runner(const kcov_buffers& coverage);  // throws std::runtime_error
    runner(const runner&) = delete;
    runner& operator=(const runner&) = delete;
    ~runner();

    // Runs it; what it did is in coverage and board afterwards. Throws program_failed.
    void run(const program& what);

    const scoreboard& board() const { return *board_; }

private:
    void start_worker();
    // Whether the worker has done the program and goes on.
    bool wait_for_worker(int limit_ms);
    void end_worker();
    // The device has its driver, or gets it again.
    void plug() const;
    void check_nothing_left(bool of_others) const;
    void put_settings_back() const;

    const kcov_buffers& coverage_;
    surroundings around_;
    std::array<std::string, settings_count> usual_settings_;
    scoreboard* board_;
    int door_;
    pid_t worker_ = -1;
    unsigned age_ = 0;  // programs of the worker
};

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_WORKER_HPP
