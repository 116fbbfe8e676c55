// SPDX-License-Identifier: MIT
//
// Signals over a connection: pulses, small counted events with a code, a 64-bit value
// and a priority, and real POSIX signals raised by a doorbell. signal_box.hpp has a
// name that many processes may signal.
#ifndef IPCDOOR_SIGNAL_HPP
#define IPCDOOR_SIGNAL_HPP

#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/connection.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>

namespace ipcdoor {

// ---- pulses -----------------------------------------------------------------

inline constexpr std::uint64_t pulse_magic = 0x45534c5550435049ULL;  // "IPCPULSE"
inline constexpr std::uint32_t pulse_version = 2;
inline constexpr unsigned pulse_queue_length = 64;
inline constexpr unsigned pulse_codes = 64;
inline constexpr unsigned pulse_priorities = 4;
inline constexpr std::uint32_t pulse_vector = 4;

// At ring_pulse_offset of each slot, written by its owner alone: pulses to the peer,
// and which of the peer's were taken. All of a slot's [1024, 2048).
//
// The queue is a pool of entries and not a ring, so that a pulse may be taken before an
// older one whose code is masked. Entry i holds a pulse while bit i of the sender's
// `posted` differs from bit i of the receiver's `taken`: the sender flips its bit when
// the entry is written, the receiver its own when it was read. That is the alternating
// bit of Bartlett, Scantlebury and Wilkinson (CACM 12, 1969), once for each entry.
struct pulse_slot {
    // Of the pulses to the peer.
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version;
    shared_u32 sent;    // pulses that found room; the number of the latest
    shared_u64 posted;  // a bit for each entry
    shared_u64 lost;    // pulses that found no room
    // Of the pulses from the peer.
    alignas(ring_line_bytes) shared_u64 taken;  // a bit for each entry of the peer's
    shared_u64 blocked;                         // codes that wait, and do not ring
    shared_u64 refused;                         // codes that the peer may not send
    // The entries.
    alignas(ring_line_bytes) shared_u64 values[pulse_queue_length];
    alignas(ring_line_bytes) shared_u32 tags[pulse_queue_length];
};
static_assert(offsetof(pulse_slot, version) == 8 && offsetof(pulse_slot, sent) == 12);
static_assert(offsetof(pulse_slot, posted) == 16 && offsetof(pulse_slot, lost) == 24);
static_assert(offsetof(pulse_slot, taken) == 128 && offsetof(pulse_slot, blocked) == 136);
static_assert(offsetof(pulse_slot, refused) == 144);
static_assert(offsetof(pulse_slot, values) == 256 && offsetof(pulse_slot, tags) == 768);
static_assert(ring_pulse_offset + sizeof(pulse_slot) == ring_data_offset);

// Of an entry, from the lowest bit: 8 bits of code, 8 of priority, and the low 16 of the
// pulse's number, which is `sent` after it.
constexpr std::uint32_t pulse_tag(unsigned code, unsigned priority, std::uint32_t number) noexcept {
    return code | priority << 8 | number << 16;
}

// How many may wait for a pulse of this priority to find room among them: a flood of
// lesser ones leaves eight entries to each higher priority.
constexpr unsigned pulse_room(unsigned priority) noexcept {
    return pulse_queue_length - 8 * (pulse_priorities - 1 - priority);
}
// Those that the receiver has masked take no more than half, or they would keep the
// others out.
inline constexpr unsigned pulse_blocked_room = pulse_queue_length / 2;

// A set of codes, for masks: codes(0, 5).
template <class... Codes>
constexpr std::uint64_t codes(Codes... code) noexcept {
    return ((std::uint64_t{1} << code) | ... | 0);
}
inline constexpr std::uint64_t all_codes = ~std::uint64_t{0};

struct pulse {
    unsigned code = 0;  // 0 to 63, what it means is the user's
    std::uint64_t value = 0;
    unsigned priority = 0;  // 0 to 3, the higher is received first

    friend bool operator==(const pulse&, const pulse&) = default;
};

struct pulse_options {
    std::uint64_t blocked = 0;  // codes, as by block(), from the beginning
    std::uint64_t refused = 0;  // codes that the peer may not send
    // Vectors that try_receive() takes with its own, so that the endpoint's descriptor is
    // readable for news only. all_vectors where nothing else uses the endpoint.
    std::uint64_t other_vectors = 0;
};

// One end of a connection's pulses in both directions. It borrows the endpoint,
// which may carry a channel as well.
//
// Order: the highest priority first, and within one the oldest. QNX's pulses are the
// model for code, value and priority, POSIX's real-time signals for masks and queue.
//
// Room: at most 64 pulses wait, 40 for the lowest priority to find room and eight more
// for each higher one. What finds no room is dropped, the newest that is, and counted. The
// doorbell rings even so, and its own count (slot_state(), rung[]) misses none.
//
// Every pulse rings pulse_vector, which is a system call: that is what makes it one
// signal, eventfd or poll event where the receiver bound those to it. The ring's value
// is the pulse's, so a bound POSIX signal carries it as si_value.
//
// Masks, as of sigprocmask(2): a pulse whose code the receiver has blocked waits in the
// queue, in nobody's way, and does not ring, so nobody is woken. When its code is
// unblocked, the receiver rings its own vector once for each that has waited; what
// comes at that very moment may ring twice, be received it is once.
//
// Threads: any number may use it at once.
// Errors, as ipcdoor::error: EPIPE the peer is dead (receiving: and no pulse is
// left that is not blocked), EPROTO its slot is malformed, ETIMEDOUT, EINVAL not a
// connection, or no such code or priority; EACCES the peer refuses this code; and on
// soft: EAGAIN or EOPNOTSUPP where the pulse was sent, but not the signal that the
// peer bound to it.
class pulse_port {
public:
    explicit pulse_port(endpoint& end, const pulse_options& options = {}) : endpoint_(end.get()) {
        // A slot has a page at least, and so has room for the pulses.
        const detail::connection_slots slots = detail::slots_of_connection(endpoint_, "pulse");
        own_ = slots.own;
        peer_ = slots.peer;
        mine_ =
            reinterpret_cast<pulse_slot*>(static_cast<std::byte*>(slots.mine) + ring_pulse_offset);
        theirs_ = reinterpret_cast<const pulse_slot*>(static_cast<const std::byte*>(slots.theirs) +
                                                      ring_pulse_offset);
        polled_ = vector_bit | options.other_vectors;
        // A second port on one endpoint goes on where the first one was.
        posted_ = mine_->posted.load(std::memory_order_relaxed);
        sent_ = mine_->sent.load(std::memory_order_relaxed);
        lost_ = mine_->lost.load(std::memory_order_relaxed);
        taken_ = mine_->taken.load(std::memory_order_relaxed);
        waiting_there_ = posted_ ^ theirs_->taken.load(std::memory_order_acquire);
        blocked_ = options.blocked;
        refused_ = options.refused;
        mine_->blocked.store(blocked_, std::memory_order_relaxed);
        mine_->refused.store(refused_, std::memory_order_relaxed);
        mine_->version.store(pulse_version, std::memory_order_relaxed);
        mine_->magic.store(pulse_magic, std::memory_order_release);
    }
    pulse_port(const pulse_port&) = delete;
    pulse_port& operator=(const pulse_port&) = delete;

    // ---- sending ----

    // Sends a pulse; never blocks. False: there was no room, the pulse is lost and
    // counted, the doorbell was rung.
    bool send(const pulse& what) {
        if (what.code >= pulse_codes || what.priority >= pulse_priorities) {
            detail::throw_error(EINVAL, "pulse: code " + std::to_string(what.code) + ", priority " +
                                            std::to_string(what.priority) +
                                            ": codes are 0 to 63, priorities 0 to 3");
        }
        bool queued = false;
        {
            const std::lock_guard lock(send_mutex_);
            verify(there_);
            if (contains(theirs_->refused.load(std::memory_order_relaxed), what.code)) {
                detail::throw_error(EACCES, "pulse: the receiver does not take code " +
                                                std::to_string(what.code) + " from this process");
            }
            queued = post(what);
        }
        // The look at what is blocked comes after the pulse was posted, whoever unblocks
        // looks for pulses afterwards, all of it sequentially consistent: one sees the other.
        if (contains(theirs_->blocked.load(std::memory_order_seq_cst), what.code)) {
            // No ring that would tell of its death.
            struct ipcdoor_slot_state state {};
            detail::throw_if(ipcdoor_slot_state(endpoint_, peer_, &state));
            if (state.state == IPCDOOR_SLOT_DEAD)
                detail::throw_error(EPIPE, "pulse: the peer is dead");
            return queued;
        }
        // Always, so no arming: a waiter finds the count.
        detail::throw_if(ipcdoor_ring(endpoint_, peer_, 0, pulse_vector, what.value));
        return queued;
    }

    // Codes that the peer takes from here. Before it has opened its port: all.
    std::uint64_t accepted() const noexcept {
        return ~theirs_->refused.load(std::memory_order_relaxed);
    }

    // Whether the peer has opened its port. Throws EPROTO where its slot has something else.
    bool peer_is_open() {
        const std::lock_guard lock(send_mutex_);
        return verify(there_);
    }

    // ---- receiving ----

    // The next pulse that is not blocked; blocks while there is none.
    pulse receive(deadline until = {}) {
        const detail::hand_on next{turn_};
        std::unique_lock lock(receive_mutex_);
        for (;;) {
            if (const auto got = take()) return *got;
            // One thread at a time may take the doorbell's count.
            if (waiting_) {
                if (!detail::wait_until(turn_, lock, until.ns())) {
                    if (const auto got = take()) return *got;
                    detail::throw_error(ETIMEDOUT, "pulse: the deadline passed");
                }
                continue;
            }
            waiting_ = true;
            lock.unlock();
            int waited;
            do {
                waited = ipcdoor_wait(endpoint_, vector_bit, until.ns(), nullptr);
            } while (waited == -EINTR);
            lock.lock();
            waiting_ = false;
            if (waited == 0) continue;
            // The last pulse may have come with the deadline, or before the death.
            if (const auto got = take()) return *got;
            detail::throw_if(waited);
        }
    }

    // The next pulse where there is one that is not blocked. Never blocks. For event loops: when
    // the endpoint's fd() is readable, until it returns nothing; that takes the rings (a
    // system call), and then the descriptor tells of what comes next. Throws EPIPE once
    // the peer is dead and nothing is left.
    std::optional<pulse> try_receive() {
        const std::lock_guard lock(receive_mutex_);
        if (const auto got = take()) return got;
        if (waiting_) return std::nullopt;  // the rings belong to who sleeps for them
        // A second time where the first news was of the peer's life.
        for (int look = 0; look < 2; ++look) {
            struct ipcdoor_event rung {};
            const int waited = ipcdoor_wait(endpoint_, polled_, 0, &rung);
            if (const auto got = take()) return got;
            if (waited == -ETIMEDOUT || waited == -EINTR) break;
            detail::throw_if(waited);
            if ((rung.fired & lifecycle_vector) == 0) break;
        }
        return std::nullopt;
    }

    // The priority of what try_receive() would return now, -1 for nothing. Makes no
    // system call. A malformed slot has more than the highest.
    int next_priority() noexcept {
        const std::lock_guard lock(receive_mutex_);
        try {
            collect();
        } catch (const std::exception&) {
            return pulse_priorities;
        }
        const entry* const next = first_unblocked();
        return next == nullptr ? -1 : next->priority;
    }

    // The codes of all pulses that wait, blocked or not, as of sigpending(2).
    std::uint64_t pending() {
        const std::lock_guard lock(receive_mutex_);
        collect();
        std::uint64_t all = 0;
        for (unsigned i = 0; i < known_count_; ++i) all |= codes(known_[i].code);
        return all;
    }

    // Pulses that the peer has sent and this side will not see, as the peer says.
    std::uint64_t lost() const noexcept { return theirs_->lost.load(std::memory_order_relaxed); }

    // Pulses dropped here because the peer had been refused their codes.
    std::uint64_t refusals() const {
        const std::lock_guard lock(receive_mutex_);
        return refusals_;
    }

    // ---- masks ----
    //
    // Each returns the set of blocked codes before. Pulses that were sent before and not
    // received follow the new mask as well.

    std::uint64_t block(std::uint64_t more) { return change_mask(more, 0); }
    std::uint64_t unblock(std::uint64_t fewer) { return change_mask(0, fewer); }
    std::uint64_t set_blocked(std::uint64_t exactly) { return change_mask(exactly, ~exactly); }
    std::uint64_t blocked() const {
        const std::lock_guard lock(receive_mutex_);
        return blocked_;
    }

private:
    static constexpr std::uint64_t vector_bit = detail::vector_bit(pulse_vector);

    // A pulse of the peer's that waits. Its value stays there until it is taken.
    struct entry {
        std::uint8_t index;
        std::uint8_t code;
        std::uint8_t priority;
    };

    static constexpr bool contains(std::uint64_t set, unsigned code) noexcept {
        return (set >> code & 1) != 0;
    }

    [[noreturn]] static void violation(const char* word, std::uint64_t found) {
        detail::throw_error(EPROTO, "pulse: the peer's " + std::string(word) + " is " +
                                        std::to_string(found) +
                                        ": it is broken or hostile; close this connection");
    }

    // Whether the peer's port is there; asked until it is.
    bool verify(bool& verified) const {
        if (verified) return true;
        const std::uint64_t magic = theirs_->magic.load(std::memory_order_acquire);
        if (magic == 0) return false;
        if (magic != pulse_magic) violation("magic", magic);
        const std::uint32_t version = theirs_->version.load(std::memory_order_relaxed);
        if (version != pulse_version) violation("version", version);
        return verified = true;
    }

    // ---- send_mutex_ is held ----

    bool post(const pulse& what) {
        const std::uint64_t taken = theirs_->taken.load(std::memory_order_acquire);
        const std::uint64_t waiting = posted_ ^ taken;
        // Entries become free there, never used.
        if ((waiting & ~waiting_there_) != 0) violation("taken", taken);
        waiting_there_ = waiting;
        if (!has_room(what, waiting)) {
            mine_->lost.store(++lost_, std::memory_order_relaxed);
            return false;
        }
        const auto index = static_cast<unsigned>(std::countr_one(waiting));
        mine_->values[index].store(what.value, std::memory_order_relaxed);
        mine_->tags[index].store(pulse_tag(what.code, what.priority, ++sent_),
                                 std::memory_order_relaxed);
        mine_->sent.store(sent_, std::memory_order_relaxed);
        waiting_there_ |= std::uint64_t{1} << index;
        posted_ ^= std::uint64_t{1} << index;
        mine_->posted.store(posted_, std::memory_order_seq_cst);
        return true;
    }

    bool has_room(const pulse& what, std::uint64_t waiting) const noexcept {
        if (static_cast<unsigned>(std::popcount(waiting)) >= pulse_room(what.priority))
            return false;
        const std::uint64_t blocked = theirs_->blocked.load(std::memory_order_relaxed);
        if (!contains(blocked, what.code)) return true;
        unsigned masked = 0;
        for (std::uint64_t left = waiting; left != 0; left &= left - 1) {
            const auto tag = mine_->tags[std::countr_zero(left)].load(std::memory_order_relaxed);
            masked += contains(blocked, tag % pulse_codes) ? 1 : 0;
        }
        return masked < pulse_blocked_room;
    }

    // ---- receive_mutex_ is held ----

    // Notes what the peer has posted since the last look, in the order of reception.
    void collect() {
        if (!verify(here_)) return;
        const std::uint64_t posted = theirs_->posted.load(std::memory_order_seq_cst);
        const std::uint64_t waiting = posted ^ taken_;
        // What was seen waits until it is taken here.
        if ((noted_ & ~waiting) != 0) violation("posted", posted);
        std::uint64_t fresh = waiting & ~noted_;
        if (fresh == 0) return;
        // By age: numbers lie within half of their range before the latest.
        const std::uint32_t oldest = theirs_->sent.load(std::memory_order_relaxed) - 0x8000;
        struct arrival {
            entry what;
            std::uint16_t age;
        };
        std::array<arrival, pulse_queue_length> arrivals;
        unsigned count = 0;
        for (std::uint64_t left = fresh; left != 0; left &= left - 1) {
            const auto index = static_cast<unsigned>(std::countr_zero(left));
            const std::uint32_t tag = theirs_->tags[index].load(std::memory_order_relaxed);
            const std::uint32_t code = tag & 0xff;
            const std::uint32_t priority = tag >> 8 & 0xff;
            if (code >= pulse_codes) violation("code", code);
            if (priority >= pulse_priorities) violation("priority", priority);
            if (contains(refused_, code)) {
                ++refusals_;
                fresh ^= std::uint64_t{1} << index;
                free_entry(index);
                continue;
            }
            arrivals[count++] = {{static_cast<std::uint8_t>(index), static_cast<std::uint8_t>(code),
                                  static_cast<std::uint8_t>(priority)},
                                 static_cast<std::uint16_t>((tag >> 16) - oldest)};
        }
        std::sort(arrivals.begin(), arrivals.begin() + count,
                  [](const arrival& a, const arrival& b) {
                      return a.age != b.age ? a.age < b.age : a.what.index < b.what.index;
                  });
        for (unsigned i = 0; i < count; ++i) note(arrivals[i].what);
        noted_ |= fresh;
    }

    // Behind all of its priority and above.
    void note(const entry& what) noexcept {
        unsigned place = known_count_++;
        for (; place > 0 && known_[place - 1].priority < what.priority; --place)
            known_[place] = known_[place - 1];
        known_[place] = what;
    }

    const entry* first_unblocked() const noexcept {
        for (unsigned i = 0; i < known_count_; ++i)
            if (!contains(blocked_, known_[i].code)) return &known_[i];
        return nullptr;
    }

    void free_entry(unsigned index) noexcept {
        taken_ ^= std::uint64_t{1} << index;
        mine_->taken.store(taken_, std::memory_order_release);
    }

    std::optional<pulse> take() {
        collect();
        const entry* const next = first_unblocked();
        if (next == nullptr) return std::nullopt;
        const entry what = *next;
        const auto place = static_cast<unsigned>(next - known_.data());
        std::copy(known_.begin() + place + 1, known_.begin() + known_count_,
                  known_.begin() + place);
        --known_count_;
        noted_ ^= std::uint64_t{1} << what.index;
        const std::uint64_t value = theirs_->values[what.index].load(std::memory_order_relaxed);
        free_entry(what.index);
        return pulse{what.code, value, what.priority};
    }

    std::uint64_t change_mask(std::uint64_t more, std::uint64_t fewer) {
        const std::lock_guard lock(receive_mutex_);
        const std::uint64_t before = blocked_;
        blocked_ = (before & ~fewer) | more;
        const std::uint64_t released = before & ~blocked_;
        mine_->blocked.store(blocked_, std::memory_order_seq_cst);
        if (released == 0) return before;
        try {
            collect();
        } catch (const error&) {
            return before;  // told to who receives
        }
        for (unsigned i = 0; i < known_count_; ++i) {
            if (!contains(released, known_[i].code)) continue;
            const std::uint64_t value =
                theirs_->values[known_[i].index].load(std::memory_order_relaxed);
            static_cast<void>(ipcdoor_ring(endpoint_, own_, 0, pulse_vector, value));
        }
        return before;
    }

    ipcdoor_endpoint* const endpoint_;
    std::uint32_t own_ = 0;
    std::uint32_t peer_ = 0;
    std::uint64_t polled_ = 0;
    pulse_slot* mine_ = nullptr;
    const pulse_slot* theirs_ = nullptr;

    std::mutex send_mutex_;
    bool there_ = false;               // send_mutex_: the peer's port was seen
    std::uint32_t sent_ = 0;           // send_mutex_
    std::uint64_t lost_ = 0;           // send_mutex_
    std::uint64_t posted_ = 0;         // send_mutex_
    std::uint64_t waiting_there_ = 0;  // send_mutex_: entries in use at the last look

    mutable std::mutex receive_mutex_;
    std::condition_variable turn_;
    bool here_ = false;           // receive_mutex_: the peer's port was seen
    bool waiting_ = false;        // receive_mutex_: a thread sleeps in the back end
    std::uint64_t taken_ = 0;     // receive_mutex_
    std::uint64_t noted_ = 0;     // receive_mutex_: entries in known_
    std::uint64_t blocked_ = 0;   // receive_mutex_
    std::uint64_t refused_ = 0;   // never changes
    std::uint64_t refusals_ = 0;  // receive_mutex_
    unsigned known_count_ = 0;    // receive_mutex_
    // receive_mutex_: what waits, the next to be received first
    std::array<entry, pulse_queue_length> known_{};
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
