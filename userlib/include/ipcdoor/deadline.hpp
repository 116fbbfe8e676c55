// SPDX-License-Identifier: MIT
//
// Until when a call may block: every blocking call takes a `deadline`, made from
// a duration (from now on), from a steady_clock time point, or `forever`.
//
// std::chrono::steady_clock is CLOCK_MONOTONIC on Linux, in GNU's and LLVM's
// standard library alike, which is the clock of the C interface.
#ifndef IPCDOOR_DEADLINE_HPP
#define IPCDOOR_DEADLINE_HPP

#include <chrono>
#include <cstdint>
#include <limits>

#include <ipcdoor.h>

namespace ipcdoor {

struct forever_t {};
inline constexpr forever_t forever{};

class deadline {
public:
    // Without end.
    constexpr deadline() noexcept = default;
    constexpr deadline(forever_t) noexcept {}

    // From now on. Zero and negative durations never block; what is too long to
    // count in nanoseconds is without end.
    template <class Rep, class Period>
    deadline(std::chrono::duration<Rep, Period> timeout) noexcept
        : ns_(timeout <= timeout.zero() ? 0 : ipcdoor_deadline_ns(saturated(timeout))) {}

    template <class Duration>
    deadline(std::chrono::time_point<std::chrono::steady_clock, Duration> at) noexcept
        : ns_(at.time_since_epoch() <= Duration::zero() ? 0 : saturated(at.time_since_epoch())) {}

    // CLOCK_MONOTONIC nanoseconds, as the C interface wants them.
    static constexpr deadline at_ns(std::uint64_t ns) noexcept {
        deadline made;
        made.ns_ = ns;
        return made;
    }

    constexpr std::uint64_t ns() const noexcept { return ns_; }
    bool is_past() const noexcept {
        return ns_ == 0 || (ns_ != IPCDOOR_NO_DEADLINE && ipcdoor_now_ns() >= ns_);
    }

private:
    template <class Rep, class Period>
    static std::uint64_t saturated(std::chrono::duration<Rep, Period> span) noexcept {
        using seconds = std::chrono::duration<long double>;
        constexpr long double most = std::numeric_limits<std::int64_t>::max();
        if (std::chrono::duration_cast<seconds>(span).count() * 1e9L >= most)
            return IPCDOOR_NO_DEADLINE;
        // Rounded up: waiting ends not before its time.
        return static_cast<std::uint64_t>(
            std::chrono::ceil<std::chrono::nanoseconds>(span).count());
    }

    std::uint64_t ns_ = IPCDOOR_NO_DEADLINE;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_DEADLINE_HPP
