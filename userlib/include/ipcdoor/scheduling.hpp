// SPDX-License-Identifier: MIT
//
// How a thread is scheduled: what a message carries of its sender where the receiver has
// asked for it (channel_options::ask_scheduling), and how a receiver takes it on for as
// long as it works for that sender, as the servers of QNX do:
//
//     message request = channel.receive();
//     std::optional<ipcdoor::scheduling_guard> as_client;
//     if (request.sender_scheduling()) as_client.emplace(*request.sender_scheduling(), most);
//
// What is carried is what the sender says, if it says anything. Say how far to follow it.
#ifndef IPCDOOR_SCHEDULING_HPP
#define IPCDOOR_SCHEDULING_HPP

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include <ipcdoor/error.hpp>

namespace ipcdoor {

// Of sched(7).
struct scheduling {
    int policy = SCHED_OTHER;
    int nice = 0;                    // -20 to 19; of SCHED_OTHER and SCHED_BATCH
    unsigned realtime_priority = 0;  // 1 to 99; of SCHED_FIFO and SCHED_RR, else 0

    friend bool operator==(const scheduling&, const scheduling&) = default;
};

namespace detail {

// struct sched_attr in its first version; not every C library has it, and headers that do
// disagree on where.
struct scheduling_attributes {
    std::uint32_t size = sizeof(scheduling_attributes);
    std::uint32_t policy = 0;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = 0;
    std::uint64_t deadline_ns = 0;
    std::uint64_t period_ns = 0;
};
static_assert(sizeof(scheduling_attributes) == 48);

inline scheduling_attributes get_scheduling_attributes() {
    scheduling_attributes now;
    if (::syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) != 0)
        throw_error(errno, std::string("scheduling: sched_getattr: ") + std::strerror(errno));
    return now;
}
inline int set_scheduling_attributes(const scheduling_attributes& wanted) noexcept {
    return ::syscall(SYS_sched_setattr, 0, &wanted, 0) == 0 ? 0 : errno;
}

}  // namespace detail

// Of the calling thread. One system call.
inline scheduling current_scheduling() {
    const detail::scheduling_attributes now = detail::get_scheduling_attributes();
    return {static_cast<int>(now.policy), now.nice, now.priority};
}

// The calling thread is scheduled like `wanted` for as long as this lives; made and
// destroyed by the same thread. Four system calls in all.
//
// Throws EPERM where this thread may not (RLIMIT_RTPRIO, RLIMIT_NICE, CAP_SYS_NICE), EINVAL
// for a policy that is not SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO or SCHED_RR.
class scheduling_guard {
public:
    // How far a sender is followed: real-time priorities above, and nice values below,
    // become these; with a real-time priority of 0 its threads count as SCHED_OTHER.
    struct limits {
        unsigned realtime_priority = 99;
        int nice = -20;
    };

    explicit scheduling_guard(const scheduling& wanted) : scheduling_guard(wanted, limits{}) {}
    scheduling_guard(const scheduling& wanted, const limits& most)
        : before_(detail::get_scheduling_attributes()) {
        detail::scheduling_attributes now;
        now.flags = before_.flags & reset_on_fork;
        const bool realtime = wanted.policy == SCHED_FIFO || wanted.policy == SCHED_RR;
        const int policy = realtime && most.realtime_priority == 0 ? SCHED_OTHER : wanted.policy;
        now.policy = static_cast<std::uint32_t>(policy);
        switch (policy) {
            case SCHED_FIFO:
            case SCHED_RR:
                now.priority = std::clamp(wanted.realtime_priority, 1U, most.realtime_priority);
                break;
            case SCHED_OTHER:
            case SCHED_BATCH:
                now.nice = std::clamp(std::max(wanted.nice, most.nice), -20, 19);
                break;
            case SCHED_IDLE: break;
            default:
                detail::throw_error(EINVAL, "scheduling: the policy " +
                                                std::to_string(wanted.policy) +
                                                " cannot be taken on; see sched(7)");
        }
        if (const int wrong = detail::set_scheduling_attributes(now); wrong != 0) {
            detail::throw_error(wrong,
                                std::string("scheduling: sched_setattr: ") + std::strerror(wrong) +
                                    (wrong == EPERM ? "; raise RLIMIT_RTPRIO or RLIMIT_NICE" : ""));
        }
    }
    // Going back may need a right, too (a lower nice value): without it the thread stays as
    // it is.
    ~scheduling_guard() { static_cast<void>(detail::set_scheduling_attributes(before_)); }
    scheduling_guard(const scheduling_guard&) = delete;
    scheduling_guard& operator=(const scheduling_guard&) = delete;

private:
    static constexpr std::uint64_t reset_on_fork = 1;  // SCHED_FLAG_RESET_ON_FORK

    const detail::scheduling_attributes before_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_SCHEDULING_HPP
