// SPDX-License-Identifier: MIT
#include "support/threads.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <utility>

#include "support/process.hpp"

namespace ipcdoor::test {

void check_in_thread(bool right, const char* what) {
    if (right) return;
    std::fprintf(stderr, "in a thread: not so: %s\n", what);
    std::abort();
}

blocking_thread::blocking_thread(std::function<void()> run)
    : thread_([this, work = std::move(run)] {
          tid_ = ::gettid();
          try {
              work();
          } catch (const std::exception& wrong) {
              check_in_thread(false, wrong.what());
          }
          ended_ = true;
      }) {
    // A child that is forked while a thread begins may find locks of the sanitizers taken
    // for ever.
    while (tid_ == 0) std::this_thread::yield();
}

void blocking_thread::wait_asleep() const {
    wait_asleep_or_ended();
    if (ended_) throw std::runtime_error("a thread that was to sleep has ended");
}

void blocking_thread::wait_asleep_or_ended() const {
    if (ended_) return;
    try {
        wait_thread_asleep(::getpid(), tid_);
    } catch (const std::runtime_error&) {
        if (!ended_) throw;
    }
}

void blocking_thread::join() {
    if (thread_.joinable()) thread_.join();
}

}  // namespace ipcdoor::test
