// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_SUPPORT_BLOCKED_SIGNAL_HPP
#define IPCDOOR_TESTS_SUPPORT_BLOCKED_SIGNAL_HPP

#include <signal.h>
#include <time.h>

#include <cerrno>
#include <chrono>

namespace ipcdoor::test {

// Blocks a signal in this thread and those that it starts, and swallows what is left of it at
// the end.
class blocked_signal {
public:
    explicit blocked_signal(int signo) {
        ::sigemptyset(&set_);
        ::sigaddset(&set_, signo);
        ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    blocked_signal(const blocked_signal&) = delete;
    blocked_signal& operator=(const blocked_signal&) = delete;
    ~blocked_signal() {
        while (take(std::chrono::milliseconds(0)).si_signo != 0) {
        }
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

    // si_signo is 0 where none came in time.
    siginfo_t take(std::chrono::milliseconds timeout) {
        const timespec limit{timeout.count() / 1000, timeout.count() % 1000 * 1'000'000};
        siginfo_t info{};
        while (::sigtimedwait(&set_, &info, &limit) < 0) {
            if (errno != EINTR) return {};
        }
        return info;
    }

private:
    sigset_t set_;
    sigset_t before_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_BLOCKED_SIGNAL_HPP
