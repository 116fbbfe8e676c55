// SPDX-License-Identifier: MIT
// A hostile writer of shared memory, as fast as it can be.
#ifndef IPCDOOR_TESTS_SUPPORT_VANDAL_HPP
#define IPCDOOR_TESTS_SUPPORT_VANDAL_HPP

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "support/xorshift64.hpp"

namespace ipcdoor::test {

// A thread that calls scribble(random) again and again, with an xorshift64, until it is
// stopped or destroyed.
class vandal {
public:
    template <class Scribble>
    explicit vandal(Scribble scribble, std::uint64_t seed = 88172645463325252)
        : thread_([this, seed, what = std::move(scribble)]() mutable {
              xorshift64 random(seed);
              while (!stop_) what(random);
          }) {}
    ~vandal() { stop(); }

    // Once or more; it has written for the last time then.
    void stop() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;  // the last, since it uses the other
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_VANDAL_HPP
