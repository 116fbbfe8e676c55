// SPDX-License-Identifier: MIT
//
// Signals over a connection: pulses, small counted events with a 64-bit value,
// and real POSIX signals raised by a doorbell.
#ifndef IPCDOOR_SIGNAL_HPP
#define IPCDOOR_SIGNAL_HPP

#include <signal.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>

namespace ipcdoor {

// ---- pulses -----------------------------------------------------------------

inline constexpr std::uint64_t pulse_magic = 0x45534c5550435049ULL;  // "IPCPULSE"
inline constexpr std::uint32_t pulse_version = 1;
inline constexpr std::uint64_t pulse_queue_length = 64;
inline constexpr std::uint32_t pulse_vector = 4;

// At ring_pulse_offset of each slot, written by its owner alone: the queue of
// pulses to the peer, and how many came from there. Cursors count pulses.
struct pulse_slot {
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version;
    shared_u32 pad;
    alignas(ring_line_bytes) shared_u64 tail;  // sent into the queue
    shared_u64 lost;                           // found it full
    alignas(ring_line_bytes) shared_u64 head;  // received
    alignas(ring_line_bytes) shared_u64 values[pulse_queue_length];
};
static_assert(offsetof(pulse_slot, tail) == 128 && offsetof(pulse_slot, lost) == 136);
static_assert(offsetof(pulse_slot, head) == 256 && offsetof(pulse_slot, values) == 384);
static_assert(ring_pulse_offset + sizeof(pulse_slot) <= ring_data_offset);

// One end of a connection's pulses in both directions. It borrows the endpoint,
// which may carry a channel as well.
//
// A pulse is queued, oldest first, and rings pulse_vector; at most 64 wait. What
// finds the queue full is dropped, the newest that is, and counted. The doorbell
// rings even so, and its own count (slot_state(), rung[]) misses none.
//
// Every pulse rings, which is a system call: that is what makes it one signal,
// eventfd or poll event where the receiver bound those to pulse_vector. The
// ring's value is the pulse's, so a bound POSIX signal carries it as si_value.
//
// Threads: any number may send and receive at once.
// Errors, as ipcdoor::error: EPIPE the peer is dead (receiving: and no pulse is
// left), EPROTO its slot is malformed, ETIMEDOUT, EINVAL not a connection; and on
// soft: EAGAIN or EOPNOTSUPP where the pulse was sent, but not the signal that the
// peer bound to it.
class pulse_port {
public:
    explicit pulse_port(endpoint& end) : endpoint_(end.get()) {
        struct ipcdoor_endpoint_info info {};
        detail::throw_if(ipcdoor_endpoint_info(endpoint_, &info));
        if ((info.flags & IPCDOOR_ENDPOINT_CONNECTION) == 0 || info.slots != 2 ||
            info.slot_bytes < ring_data_offset) {
            detail::throw_error(EINVAL,
                                "pulse: this endpoint is not one of a connection; get it from "
                                "connect() or accept()");
        }
        peer_ = 1 - info.slot;
        mine_ = static_cast<pulse_slot*>(at(info.slot));
        theirs_ = static_cast<const pulse_slot*>(at(peer_));
        // A second port on one endpoint goes on where the first one was.
        tail_ = mine_->tail.load(std::memory_order_relaxed);
        head_ = mine_->head.load(std::memory_order_relaxed);
        lost_ = mine_->lost.load(std::memory_order_relaxed);
        mine_->version.store(pulse_version, std::memory_order_relaxed);
        mine_->magic.store(pulse_magic, std::memory_order_release);
    }
    pulse_port(const pulse_port&) = delete;
    pulse_port& operator=(const pulse_port&) = delete;

    // Sends a pulse; never blocks. False: the queue was full, the value is lost
    // and counted, the doorbell was rung.
    bool send(std::uint64_t value) {
        bool queued = false;
        {
            const std::lock_guard lock(send_mutex_);
            const std::uint64_t head = theirs_->head.load(std::memory_order_acquire);
            if (tail_ - head > pulse_queue_length) violation("head", head);
            queued = tail_ - head < pulse_queue_length;
            if (queued) {
                mine_->values[tail_ % pulse_queue_length].store(value, std::memory_order_relaxed);
                mine_->tail.store(++tail_, std::memory_order_release);
            } else {
                mine_->lost.store(++lost_, std::memory_order_relaxed);
            }
        }
        // Always, so no arming and no fence: a waiter finds the count.
        detail::throw_if(ipcdoor_ring(endpoint_, peer_, 0, pulse_vector, value));
        return queued;
    }

    // The oldest pulse's value; blocks while there is none.
    std::uint64_t receive(deadline until = {}) {
        const hand_on next{turn_};
        std::unique_lock lock(receive_mutex_);
        for (;;) {
            if (const auto value = take()) return *value;
            // One thread at a time may take the doorbell's count.
            if (waiting_) {
                if (!detail::wait_until(turn_, lock, until.ns())) {
                    if (const auto value = take()) return *value;
                    detail::throw_error(ETIMEDOUT, "pulse: the deadline passed");
                }
                continue;
            }
            waiting_ = true;
            lock.unlock();
            int waited;
            do {
                waited =
                    ipcdoor_wait(endpoint_, std::uint64_t{1} << pulse_vector, until.ns(), nullptr);
            } while (waited == -EINTR);
            lock.lock();
            waiting_ = false;
            if (waited == 0) continue;
            // The last pulse may have come with the deadline, or before the death.
            if (const auto value = take()) return *value;
            detail::throw_if(waited);
        }
    }

    // The oldest pulse's value where there is one. Never blocks, no system call;
    // a dead peer looks like a silent one here.
    std::optional<std::uint64_t> try_receive() {
        const std::lock_guard lock(receive_mutex_);
        return take();
    }

    // Pulses that the peer has sent and this side will not see, as the peer says.
    std::uint64_t lost() const noexcept { return theirs_->lost.load(std::memory_order_relaxed); }

private:
    // Whoever leaves receive(), in whatever way, wakes another to go on there.
    struct hand_on {
        std::condition_variable& turn;
        ~hand_on() { turn.notify_one(); }
    };

    void* at(std::uint32_t slot) const {
        void* const memory = ipcdoor_slot_memory(endpoint_, slot);
        if (memory == nullptr) detail::throw_if(-errno);
        return static_cast<std::byte*>(memory) + ring_pulse_offset;
    }

    [[noreturn]] static void violation(const char* word, std::uint64_t found) {
        detail::throw_error(EPROTO, "pulse: the peer's " + std::string(word) + " is " +
                                        std::to_string(found) +
                                        ": it is broken or hostile; close this connection");
    }

    // receive_mutex_ is held.
    std::optional<std::uint64_t> take() {
        if (!verified_) {
            const std::uint64_t magic = theirs_->magic.load(std::memory_order_acquire);
            if (magic == 0) return std::nullopt;  // no port at the other end yet
            if (magic != pulse_magic) violation("magic", magic);
            const std::uint32_t version = theirs_->version.load(std::memory_order_relaxed);
            if (version != pulse_version) violation("version", version);
            verified_ = true;
        }
        const std::uint64_t tail = theirs_->tail.load(std::memory_order_acquire);
        if (tail - head_ > pulse_queue_length) violation("tail", tail);
        if (tail == head_) return std::nullopt;
        const std::uint64_t value =
            theirs_->values[head_ % pulse_queue_length].load(std::memory_order_relaxed);
        mine_->head.store(++head_, std::memory_order_release);
        return value;
    }

    ipcdoor_endpoint* const endpoint_;
    std::uint32_t peer_ = 0;
    pulse_slot* mine_ = nullptr;
    const pulse_slot* theirs_ = nullptr;

    std::mutex send_mutex_;
    std::uint64_t tail_ = 0;  // send_mutex_
    std::uint64_t lost_ = 0;  // send_mutex_

    std::mutex receive_mutex_;
    std::condition_variable turn_;
    std::uint64_t head_ = 0;  // receive_mutex_
    bool verified_ = false;   // receive_mutex_
    bool waiting_ = false;    // receive_mutex_: a thread sleeps in the back end
};

// ---- POSIX signals ----------------------------------------------------------

// While it lives, each ring of a vector in `mask` (vectors(5, 6)) sends signal `signo` to the
// thread that made it, with si_code SI_QUEUE, si_pid and si_uid of the ringer and
// si_value the ring's value. Block `signo` and use sigwaitinfo(2), or install a
// handler with SA_SIGINFO, first: the default action of most signals is death.
// Real-time signals (SIGRTMIN and up) queue; others coalesce while pending.
//
// Throws EINVAL for SIGKILL, SIGSTOP, an unknown signal and an empty mask.
class signal_binding {
public:
    signal_binding(endpoint& end, int signo, std::uint64_t mask)
        : endpoint_(end.get()), mask_(mask) {
        detail::throw_if(ipcdoor_bind_signal(endpoint_, signo, mask));
    }
    signal_binding(signal_binding&& other) noexcept
        : endpoint_(std::exchange(other.endpoint_, nullptr)), mask_(other.mask_) {}
    signal_binding& operator=(signal_binding&& other) noexcept {
        std::swap(endpoint_, other.endpoint_);
        std::swap(mask_, other.mask_);
        return *this;
    }
    ~signal_binding() {
        if (endpoint_ != nullptr) static_cast<void>(ipcdoor_bind_signal(endpoint_, 0, mask_));
    }

private:
    ipcdoor_endpoint* endpoint_;
    std::uint64_t mask_;
};

[[nodiscard]] inline signal_binding bind_signal(endpoint& end, int signo, std::uint64_t mask) {
    return {end, signo, mask};
}

// What a bound signal says about the ring that caused it.
struct signal_event {
    std::int32_t pid;     // of the ringer, 0 outside of this process's namespace
    std::uint32_t uid;    // of the ringer
    std::uint64_t value;  // the ring's
};

inline signal_event to_signal_event(const siginfo_t& info) noexcept {
    return {info.si_pid, info.si_uid, reinterpret_cast<std::uintptr_t>(info.si_value.sival_ptr)};
}

}  // namespace ipcdoor

#endif  // IPCDOOR_SIGNAL_HPP
