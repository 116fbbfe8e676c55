// SPDX-License-Identifier: MIT
// Threads of a test: checks in them, and threads that are expected to block.
#ifndef IPCDOOR_TESTS_SUPPORT_THREADS_HPP
#define IPCDOOR_TESTS_SUPPORT_THREADS_HPP

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <thread>

namespace ipcdoor::test {

// In place of CHECK() in threads, where Catch2's are not safe: ends the program.
void check_in_thread(bool right, const char* what);
#define CHECK_IN_THREAD(...) \
    ::ipcdoor::test::check_in_thread(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__)

// A thread that ends the program with what it throws, and is joined by the destructor.
class blocking_thread {
public:
    explicit blocking_thread(std::function<void()> run);
    ~blocking_thread() { join(); }

    // Waits until it sleeps in the kernel. Throws std::runtime_error where it ends instead, and
    // at partner_deadline.
    void wait_asleep() const;
    // For who does not know whether it has to wait.
    void wait_asleep_or_ended() const;
    bool ended() const { return ended_; }
    pthread_t handle() { return thread_.native_handle(); }
    // Once or more.
    void join();

private:
    std::atomic<pid_t> tid_{0};
    std::atomic<bool> ended_{false};
    std::thread thread_;  // the last, since it uses the others
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_THREADS_HPP
