// SPDX-License-Identifier: MIT
//
// A queued real-time signal, taken synchronously: sigqueue(3) and sigwaitinfo(2).
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "irqbench/method.hpp"

namespace irqbench {

namespace {

struct process_ids {
    std::atomic<pid_t> of_side[2];
};

class realtime_signal_method : public method {
public:
    realtime_signal_method() : method("signal", method_kind::peer) {}

    void open(side s) override {
        sigemptyset(&set_);
        sigaddset(&set_, SIGRTMIN);
        if (sigprocmask(SIG_BLOCK, &set_, nullptr) < 0)
            throw unavailable(with_errno("sigprocmask"));
        pids_->of_side[static_cast<int>(s)].store(getpid());
    }

    void connect(side s) override { peer_ = pids_->of_side[1 - static_cast<int>(s)].load(); }

    void send() override {
        if (sigqueue(peer_, SIGRTMIN, sigval{}) < 0)
            throw std::runtime_error(with_errno("sigqueue"));
    }

    void receive() override {
        siginfo_t info;
        while (sigwaitinfo(&set_, &info) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno("sigwaitinfo"));
    }

private:
    shared<process_ids> pids_;
    sigset_t set_{};
    pid_t peer_ = 0;
};

}  // namespace

std::unique_ptr<method> make_realtime_signal() {
    return std::make_unique<realtime_signal_method>();
}

}  // namespace irqbench
