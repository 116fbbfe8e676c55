// SPDX-License-Identifier: MIT
//
// turn: one thread at a time may use something, and the others wait for it until
// a deadline. Not a std::timed_mutex: a turn may be kept beyond the call that took
// it, another thread may give it back, and ThreadSanitizer of gcc 12 does not know
// timed locks.
#ifndef IPCDOOR_DETAIL_TURN_HPP
#define IPCDOOR_DETAIL_TURN_HPP

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>

namespace ipcdoor::detail {

class turn {
public:
    turn() = default;
    // One that may be kept. `how_to_end`, a literal, tells the thread that keeps it what to do
    // before it can have it again.
    explicit turn(const char* how_to_end) noexcept : how_to_end_(how_to_end) {}
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;

    // False: the deadline passed. Throws EDEADLK where this very thread keeps it.
    [[nodiscard]] bool take(std::uint64_t deadline_ns) {
        std::uint32_t expected = is_free;
        if (state_.compare_exchange_strong(expected, is_taken)) return true;
        if (keeper_.load(std::memory_order_relaxed) == std::this_thread::get_id())
            throw_error(EDEADLK, how_to_end_);
        std::unique_lock lock(mutex_);
        // From the exchange until it waits this thread holds the mutex, which whoever
        // gives the turn back takes as well: the notification cannot come in between.
        while (state_.exchange(is_wanted) != is_free) {
            if (wait_until(given_, lock, deadline_ns)) continue;
            return state_.exchange(is_wanted) == is_free;
        }
        return true;
    }

    // For those who give it back without having waited for anything. False: a
    // thread that may wait has it.
    [[nodiscard]] bool take_briefly() noexcept {
        for (;;) {
            std::uint32_t expected = is_free;
            if (state_.compare_exchange_strong(expected, is_taken_briefly)) return true;
            if (expected != is_taken_briefly) return false;
            std::this_thread::yield();
        }
    }

    // It is kept until somebody calls give(). Only of one that was made for it.
    void keep() noexcept { keeper_.store(std::this_thread::get_id(), std::memory_order_relaxed); }

    void give() noexcept {
        keeper_.store(std::thread::id(), std::memory_order_relaxed);
        if (state_.exchange(is_free) != is_wanted) return;
        const std::lock_guard lock(mutex_);
        given_.notify_one();
    }

private:
    static constexpr std::uint32_t is_free = 0;
    static constexpr std::uint32_t is_taken = 1;
    static constexpr std::uint32_t is_taken_briefly = 2;
    static constexpr std::uint32_t is_wanted = 3;  // taken, and somebody may wait for it

    const char* const how_to_end_ = "";
    std::atomic<std::uint32_t> state_{is_free};
    std::atomic<std::thread::id> keeper_{};
    std::mutex mutex_;
    std::condition_variable given_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_TURN_HPP
