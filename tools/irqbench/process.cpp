// SPDX-License-Identifier: MIT
#include "irqbench/process.hpp"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "common/throw_errno.hpp"

namespace irqbench {

namespace {

constexpr std::uint64_t forever_ns = std::uint64_t{3600} * 24 * 365 * 1'000'000'000U;

}  // namespace

child::child(const std::function<int()>& body) {
    // What is buffered now would be written twice.
    std::fflush(nullptr);
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) common::throw_errno("fork");
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    int status = 1;
    try {
        status = body();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "irqbench: %s\n", e.what());
    }
    _exit(status);
}

child::~child() { kill(); }

child& child::operator=(child&& other) noexcept {
    if (this != &other) {
        kill();
        pid_ = other.pid_;
        other.pid_ = -1;
    }
    return *this;
}

bool child::ended() {
    if (pid_ < 0) return true;
    if (waitpid(pid_, nullptr, WNOHANG) == 0) return false;
    pid_ = -1;
    return true;
}

void child::kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
}

void pin_to(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        common::throw_errno("pinning to CPU " + std::to_string(cpu));
}

void set_fifo(int priority) {
    if (priority == 0) return;
    sched_param p{};
    p.sched_priority = priority;
    if (sched_setscheduler(0, SCHED_FIFO, &p) < 0)
        common::throw_errno("SCHED_FIFO (needs root or CAP_SYS_NICE)");
}

void set_timer_slack_ns(unsigned long ns) {
    if (prctl(PR_SET_TIMERSLACK, ns) < 0) common::throw_errno("timer slack");
}

cpu_load::cpu_load(const std::vector<int>& cpus, int per_cpu) {
    for (int cpu : cpus)
        for (int i = 0; i < per_cpu; ++i)
            children_.emplace_back([this, cpu] {
                pin_to(cpu);
                for (;;) {
                    wait_while(state_->on, 0, forever_ns);
                    while (state_->on.load(std::memory_order_relaxed) != 0) {
                    }
                }
                return 0;
            });
}

void cpu_load::set(bool on) {
    state_->on.store(on ? 1 : 0);
    wake_all(state_->on);
}

}  // namespace irqbench
