// SPDX-License-Identifier: MIT
//
// Condition variables and system calls with this library's deadlines.
#ifndef IPCDOOR_DETAIL_WAIT_UNTIL_HPP
#define IPCDOOR_DETAIL_WAIT_UNTIL_HPP

#include <time.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>

#include <ipcdoor.h>

namespace ipcdoor::detail {

// Waits on `changed` once. False when the deadline has passed.
inline bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                       std::uint64_t deadline_ns) {
    if (deadline_ns == IPCDOOR_NO_DEADLINE) {
        changed.wait(lock);
        return true;
    }
    // steady_clock is CLOCK_MONOTONIC here, as everywhere on Linux.
    const auto limit = static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count());
    const std::chrono::steady_clock::time_point at{
        std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(deadline_ns, limit)))};
    return changed.wait_until(lock, at) == std::cv_status::no_timeout;
}

// Whoever leaves, in whatever way, wakes another one of those that wait: it may have taken
// the notice that was meant for that.
struct hand_on {
    std::condition_variable& turn;
    ~hand_on() { turn.notify_one(); }
};

inline timespec to_timespec(std::uint64_t ns) noexcept {
    timespec made{};
    made.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
    made.tv_nsec = static_cast<long>(ns % 1'000'000'000);
    return made;
}

inline std::uint64_t to_ns(const timespec& time) noexcept {
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

// From now until then, 0 where it is past.
inline std::uint64_t ns_until(std::uint64_t deadline_ns) noexcept {
    const std::uint64_t now = ipcdoor_now_ns();
    return deadline_ns > now ? deadline_ns - now : 0;
}

// What epoll_wait() wants; rounded up: waiting ends not before its time.
inline int epoll_timeout_ms(std::uint64_t deadline_ns) noexcept {
    if (deadline_ns == IPCDOOR_NO_DEADLINE) return -1;
    const std::uint64_t ms = (ns_until(deadline_ns) + 999'999) / 1'000'000;
    return static_cast<int>(std::min<std::uint64_t>(ms, std::numeric_limits<int>::max()));
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_WAIT_UNTIL_HPP
