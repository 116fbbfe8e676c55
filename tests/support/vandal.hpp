// SPDX-License-Identifier: MIT
// A hostile writer of shared memory, as fast as it can be.
#ifndef IPCDOOR_TESTS_SUPPORT_VANDAL_HPP
#define IPCDOOR_TESTS_SUPPORT_VANDAL_HPP

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

namespace ipcdoor::test {

// Marsaglia's xorshift64: cheap, so that it does not slow the writing.
class xorshift64 {
public:
    explicit xorshift64(std::uint64_t seed) : state_(seed) {}
    std::uint64_t operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

private:
    std::uint64_t state_;  // never 0
};

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
