// SPDX-License-Identifier: MIT
//
// Owns: what irqbench does to its own processes: fork, pinning, priority, the load.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "irqbench/shared.hpp"

namespace irqbench {

// A forked child that is killed and reaped with its owner, and that dies with its parent.
class child {
public:
    child() = default;
    // `body` runs in the child; its return value is the exit status.
    explicit child(const std::function<int()>& body);
    ~child();
    child(child&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
    child& operator=(child&& other) noexcept;

    pid_t pid() const { return pid_; }
    bool ended();  // reaps it if so
    void kill();

private:
    pid_t pid_ = -1;
};

// All of these throw std::system_error; of the calling thread.
void pin_to(int cpu);
void set_fifo(int priority);  // 0 leaves the normal policy
void set_timer_slack_ns(unsigned long ns);

// Busy loops of normal priority, `per_cpu` on each of `cpus`, asleep until started.
class cpu_load {
public:
    cpu_load(const std::vector<int>& cpus, int per_cpu);
    void set(bool on);

private:
    struct state {
        std::atomic<std::uint32_t> on{0};
    };
    shared<state> state_;
    std::vector<child> children_;
};

}  // namespace irqbench
