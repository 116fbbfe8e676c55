// SPDX-License-Identifier: MIT
//
// Waiting for a change of shared memory that all may make, on the doorbell: the part that
// semaphores, condition variables and barriers have in common (sync_line in
// sync_layout.hpp).
//
// Who changes something rings one of those whose bits are set. Who sleeps has set its bit,
// looked again, and then waits for the ring. Both in sequentially consistent steps:
//
//     changer                          waiter
//     (c1) change the word             (w1) set the bit
//     (c2) load the bits               (w2) load the word
//     (c3) take one off, ring it       (w3) if nothing is there: wait
//
// All four have a place in one total order, so (c2) sees (w1) or (w2) sees (c1). Rings are
// counted, so one that comes between (w2) and (w3) ends the wait. docs/memory-ordering.md
// has the rest: what becomes of a bit that was taken for nothing, and deaths.
//
// The threads of a process share its slot, bit and doorbell: one of them, the leader, waits
// there, the others on a condition variable until it has left.
#ifndef IPCDOOR_DETAIL_WAITING_LINE_HPP
#define IPCDOOR_DETAIL_WAITING_LINE_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/shared_object.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/sync_layout.hpp>

namespace ipcdoor::detail {

class waiting_line {
public:
    static constexpr std::size_t words = IPCDOOR_MAX_SLOTS / 64;
    using bits = std::array<std::uint64_t, words>;

    waiting_line(const shared_object& object, sync_line& shared) noexcept
        : object_(object),
          shared_(shared),
          own_word_(object.slot() / 64),
          own_bit_(std::uint64_t{1} << object.slot() % 64),
          mask_(std::uint64_t{1} << object.vector() | lifecycle_vector),
          used_words_((object.slots() + 63) / 64) {}
    waiting_line(const waiting_line&) = delete;
    waiting_line& operator=(const waiting_line&) = delete;
    // Who is gone asks for no wake-ups.
    ~waiting_line() {
        if (!object_.is_mine()) return;
        shared_.sleeping[own_word_].fetch_and(~own_bit_);
        IPCDOOR_STEP("close:sleeping");
        shared_.polling[own_word_].fetch_and(~own_bit_);
        IPCDOOR_STEP("close:polling");
    }

    // ---- for those who change something ----

    // Whether anybody waits; the loads of (c2). No system call.
    bool anybody() const noexcept {
        std::uint64_t all = 0;
        for (std::size_t i = 0; i < used_words_; ++i)
            all |= shared_.sleeping[i].load(std::memory_order_seq_cst) |
                   shared_.polling[i].load(std::memory_order_seq_cst);
        return all != 0;
    }

    // Rings one of those that sleep, or else one that polls; the next one where that is
    // dead, and in turn, so that none is forgotten.
    void wake_one() noexcept {
        if (!wake_one_of(shared_.sleeping)) static_cast<void>(wake_one_of(shared_.polling));
    }

    // The slot of one that sleeps, or else polls, whose bit is taken off.
    std::optional<std::uint32_t> take_one() noexcept {
        const auto sleeper = take(shared_.sleeping);
        return sleeper ? sleeper : take(shared_.polling);
    }
    // False where the one that had set the bit is dead.
    bool ring(std::uint32_t slot) noexcept {
        const std::uint32_t generation = shared_.generation[slot].load(std::memory_order_relaxed);
        const int rc = ipcdoor_ring(object_.end(), slot, generation, object_.vector(), 0);
        IPCDOOR_STEP("wake:rung");
        // Whatever else fails (a signal that is bound to it) the ring was counted.
        return rc != -EPIPE && rc != -ENOTCONN && rc != -ESTALE && rc != -EINVAL;
    }

    bits take_all() noexcept {
        bits taken{};
        for (std::size_t i = 0; i < words; ++i) {
            taken[i] = shared_.sleeping[i].exchange(0) | shared_.polling[i].exchange(0);
            IPCDOOR_STEP("wake_all:taken");
        }
        return taken;
    }
    void ring_all(const bits& taken) noexcept {
        for (std::size_t i = 0; i < words; ++i) {
            for (std::uint64_t left = taken[i]; left != 0; left &= left - 1) {
                const auto slot = static_cast<std::uint32_t>(i * 64) +
                                  static_cast<std::uint32_t>(std::countr_zero(left));
                if (slot >= object_.slots()) break;
                static_cast<void>(ring(slot));
            }
        }
    }

    // ---- for those who wait ----

    // Until ready() is true, which is asked at least once, also after the deadline; false
    // where it was not by then. ready() may be called with the line locked or not, by
    // several threads at once, and must not block.
    //
    // `before` is called once when this thread is about to wait in such a way that a ring
    // after it cannot be missed.
    template <class Ready, class Before>
    bool wait(Ready&& ready, std::uint64_t deadline_ns, Before&& before) {
        std::unique_lock lock(mutex_);
        bool prepared = false;
        for (;;) {
            if (prepared) {
                if (ready()) return true;
                if (is_past(deadline_ns)) return false;
            }
            if (leading_) {
                // A follower: this thread holds the lock until it waits, and the leader
                // takes it before it notifies.
                if (!prepared) {
                    prepared = true;
                    before();
                    continue;
                }
                wait_until(changed_, lock, deadline_ns);
                continue;
            }
            if (lead(lock, ready, deadline_ns, prepared, before)) return true;
        }
    }
    template <class Ready>
    bool wait(Ready&& ready, std::uint64_t deadline_ns) {
        return wait(ready, deadline_ns, [] {});
    }

    // Grows with each piece of news of the others' lives, and where such news may have gone
    // to somebody else.
    std::uint64_t news() const noexcept { return news_.load(std::memory_order_relaxed); }

    // ---- for event loops ----

    bool polled() const noexcept { return polled_.load(std::memory_order_relaxed); }

    // From now on this process is rung also while nobody sleeps.
    int fd() {
        const int fd = throw_if(ipcdoor_endpoint_fd(object_.end()));
        const std::lock_guard lock(mutex_);
        polled_.store(true, std::memory_order_relaxed);
        arm(shared_.polling);
        return fd;
    }
    // Makes fd() readable by a ring of one's own.
    void remind() noexcept { static_cast<void>(ring(object_.slot())); }

    // Takes the rings, arms, and looks again. A ring that is taken is for something that the
    // look sees; one that comes later makes fd() readable. Where another thread leads, the
    // rings are its own.
    template <class Ready>
    bool look(Ready&& ready) {
        const std::lock_guard lock(mutex_);
        while (!leading_) {
            ipcdoor_event event{};
            // In a segment of its own nothing else takes what somebody rings there.
            const std::uint64_t mask = object_.placed() ? mask_ : all_vectors;
            const int rc = ipcdoor_wait(object_.end(), mask, 0, &event);
            if (rc == -EINTR) continue;
            if (rc != -ETIMEDOUT) throw_if(rc);
            if (rc == 0 && (event.fired & lifecycle_vector) != 0) note_news();
            break;
        }
        arm(shared_.polling);
        return ready();
    }

    static bool is_past(std::uint64_t deadline_ns) noexcept {
        return deadline::at_ns(deadline_ns).is_past();
    }

private:
    // Placed objects share vector 0 with all else that waits on their endpoint, which may
    // take the news of a death: they look by themselves, so often.
    static constexpr std::uint64_t look_every_ns = 250'000'000;

    void arm(shared_u64* set) noexcept {
        shared_.generation[object_.slot()].store(object_.generation());
        IPCDOOR_STEP("wait:generation");
        set[own_word_].fetch_or(own_bit_);
        IPCDOOR_STEP("wait:armed");
    }

    void note_news() noexcept { news_.fetch_add(1, std::memory_order_relaxed); }

    // Takes the line's lock and the lead back, whatever happens. All followers look: they
    // may wait for different things (a phase that has ended, and the next one), and who is
    // told alone and finds nothing leads, while somebody else sleeps with all it waits for.
    struct leadership {
        waiting_line& line;
        std::unique_lock<std::mutex>& lock;
        ~leadership() {
            line.shared_.sleeping[line.own_word_].fetch_and(~line.own_bit_);
            IPCDOOR_STEP("wait:disarmed");
            if (line.polled()) line.arm(line.shared_.polling);
            lock.lock();
            line.leading_ = false;
            line.changed_.notify_all();
        }
    };

    template <class Ready, class Before>
    bool lead(std::unique_lock<std::mutex>& lock, Ready& ready, std::uint64_t deadline_ns,
              bool& prepared, Before& before) {
        leading_ = true;
        lock.unlock();
        const leadership led{*this, lock};
        arm(shared_.sleeping);
        if (!prepared) {
            prepared = true;
            before();
        }
        for (;;) {
            if (ready()) return true;
            if (is_past(deadline_ns)) return false;
            std::uint64_t until_ns = deadline_ns;
            if (object_.placed()) until_ns = std::min(until_ns, ipcdoor_deadline_ns(look_every_ns));
            ipcdoor_event event{};
            const int rc = ipcdoor_wait(object_.end(), mask_, until_ns, &event);
            if (rc == -EINTR) continue;
            if (rc != -ETIMEDOUT) throw_if(rc);
            if (rc == -ETIMEDOUT || (event.fired & lifecycle_vector) != 0) {
                note_news();
                IPCDOOR_STEP("wait:news");
                // The others may have to look, too.
                const std::lock_guard told(mutex_);
                changed_.notify_all();
            }
            arm(shared_.sleeping);
        }
    }

    std::optional<std::uint32_t> take(shared_u64* set) noexcept {
        const std::uint32_t first =
            shared_.next.load(std::memory_order_relaxed) % IPCDOOR_MAX_SLOTS;
        for (std::size_t step = 0; step <= words; ++step) {
            const std::size_t word = (first / 64 + step) % words;
            std::uint64_t left = set[word].load(std::memory_order_seq_cst);
            if (step == 0) left &= ~std::uint64_t{0} << first % 64;
            for (; left != 0; left &= left - 1) {
                const std::uint64_t bit = left & -left;
                if ((set[word].fetch_and(~bit) & bit) == 0) continue;  // somebody else has it
                IPCDOOR_STEP("wake:taken");
                const auto slot = static_cast<std::uint32_t>(word * 64) +
                                  static_cast<std::uint32_t>(std::countr_zero(bit));
                if (slot >= object_.slots()) continue;
                shared_.next.store(slot + 1, std::memory_order_relaxed);
                return slot;
            }
        }
        return std::nullopt;
    }

    bool wake_one_of(shared_u64* set) noexcept {
        // A hostile writer may set bits for ever.
        for (unsigned tries = 0; tries < 2 * IPCDOOR_MAX_SLOTS; ++tries) {
            const auto slot = take(set);
            if (!slot) return false;
            if (ring(*slot)) return true;
        }
        return false;
    }

    const shared_object& object_;
    sync_line& shared_;
    const std::size_t own_word_;
    const std::uint64_t own_bit_;
    const std::uint64_t mask_;
    const std::size_t used_words_;  // of the bits, those of slots that there are

    std::mutex mutex_;
    std::condition_variable changed_;
    bool leading_ = false;  // mutex_
    std::atomic<bool> polled_{false};
    std::atomic<std::uint64_t> news_{0};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_WAITING_LINE_HPP
