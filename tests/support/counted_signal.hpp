// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_SUPPORT_COUNTED_SIGNAL_HPP
#define IPCDOOR_TESTS_SUPPORT_COUNTED_SIGNAL_HPP

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <thread>

namespace ipcdoor::test {

// A handler of SIGUSR1, for as long as this lives, that counts and does not restart the system
// call that it interrupts. One at a time.
class counted_signal {
public:
    counted_signal() {
        count_ = 0;
        struct sigaction action {};
        action.sa_handler = [](int) { ++count_; };
        ::sigaction(SIGUSR1, &action, &before_);
    }
    counted_signal(const counted_signal&) = delete;
    counted_signal& operator=(const counted_signal&) = delete;
    ~counted_signal() { ::sigaction(SIGUSR1, &before_, nullptr); }

    // Sends it, and waits until that thread has been in the handler, or `over`() is true.
    template <class Over>
    void interrupt(pthread_t whom, Over over) {
        const int before = count_;
        ::pthread_kill(whom, SIGUSR1);
        while (count_ == before && !over()) std::this_thread::yield();
    }
    void interrupt(pthread_t whom) {
        interrupt(whom, [] { return false; });
    }

private:
    static inline std::atomic<int> count_{0};
    struct sigaction before_ {};
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_COUNTED_SIGNAL_HPP
