// SPDX-License-Identifier: MIT
// The survivor's part in a case that takes more than its own thread.
#ifndef IPCDOOR_TESTS_LIB_CRASH_PARTNERS_HPP
#define IPCDOOR_TESTS_LIB_CRASH_PARTNERS_HPP

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "lib/lib_support.hpp"
#include "support/process.hpp"

namespace ipcdoor::test {

// Not for ever: a partner may have failed.
template <class Condition>
void spin_until(Condition condition) {
    const std::uint64_t limit = now_ns() + 60'000'000'000;
    while (!condition()) {
        if (now_ns() >= limit) throw std::runtime_error("the partner did not do its part");
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
}

// A thread of the survivor, which ends the program with what it throws.
class helper {
public:
    helper() = default;
    explicit helper(std::function<void()> work)
        : thread_([this, run = std::move(work)] {
              tid_ = static_cast<int>(::gettid());
              try {
                  run();
              } catch (const std::exception& wrong) {
                  check_in_thread(false, wrong.what());
              }
              done_ = true;
          }) {
        // A child that is forked while a thread begins may find locks of the sanitizers taken
        // for ever.
        while (tid_ == 0) std::this_thread::yield();
    }
    ~helper() { join(); }
    void join() {
        if (thread_.joinable()) thread_.join();
    }
    void await_asleep_or_done() const {
        try {
            wait_thread_asleep(::getpid(), tid_);
        } catch (const std::runtime_error&) {
            while (!done_) std::this_thread::yield();  // it has ended meanwhile
        }
    }

private:
    std::atomic<int> tid_{0};
    std::atomic<bool> done_{false};
    std::thread thread_;  // the last, since it uses the others
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_CRASH_PARTNERS_HPP
