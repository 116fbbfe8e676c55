// SPDX-License-Identifier: MIT
//
// The lock of a heap between processes, and how they tell each other that it has changed.
//
// The word names its owner by slot and generation, so that a death is seen by asking the
// doorbell who lives. Threads of this process take turns first.
#ifndef IPCDOOR_DETAIL_HEAP_LOCK_HPP
#define IPCDOOR_DETAIL_HEAP_LOCK_HPP

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/heap_words.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/turn.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_layout.hpp>

namespace ipcdoor::detail {

class heap_lock {
public:
    // `vector` of `end` is rung for who waits.
    heap_lock(endpoint& end, std::uint32_t vector, heap_header& head)
        : end_(end), vector_(vector), head_(head) {
        const struct ipcdoor_endpoint_info info = end.info();
        slots_ = info.slots;
        slot_ = info.slot;
        me_ = heap_identity(info.slot, info.generation);
    }
    heap_lock(const heap_lock&) = delete;
    heap_lock& operator=(const heap_lock&) = delete;

    std::uint64_t me() const noexcept { return me_; }

    void acquire(deadline until) {
        if (!turn_.take(until.ns())) timed_out();
        std::uint64_t owner = 0;
        if (head_.lock.compare_exchange_strong(owner, me_)) {
            IPCDOOR_STEP("heap.lock:taken");
            return;
        }
        try {
            await_lock(until);
        } catch (...) {
            turn_.give();
            throw;
        }
        IPCDOOR_STEP("heap.lock:waited");
    }

    void release() noexcept {
        IPCDOOR_STEP("heap.unlock:begin");
        // Another one's now, where this process was thought dead.
        std::uint64_t mine = me_;
        static_cast<void>(head_.lock.compare_exchange_strong(mine, 0));
        IPCDOOR_STEP("heap.unlock:done");
        wake_others(false);
        turn_.give();
    }

    // Whether the attachment that an identity names lives, as the doorbell's driver knows. This one
    // itself never waits for itself: its threads take turns.
    bool lives(std::uint64_t identity) const {
        return identity != me_ && is_of_slot(identity) && identity == living(identity);
    }

    // Who is dead, asked once for each slot: for as long as the lock is held, which who writes
    // an identity takes as well.
    class census {
    public:
        explicit census(const heap_lock& of) : of_(of), known_(of.slots_) {}
        bool is_dead(std::uint64_t identity) {
            if (identity == of_.me_) return false;
            if (!of_.is_of_slot(identity)) return true;
            auto& living = known_[heap_identity_slot(identity)];
            if (!living) living = of_.living(identity);
            return identity != *living;
        }

    private:
        const heap_lock& of_;
        std::vector<std::optional<std::uint64_t>> known_;
    };

    // ---- news ----

    void ask_for_news() noexcept { waiting_word().fetch_or(std::uint64_t{1} << slot_ % 64); }

    // Rings all that wait, and forgets them. They look again, and ask again.
    void wake_others(bool self_too) noexcept {
        for (std::uint32_t word = 0; word * 64 < slots_; ++word) {
            shared_u64& waiting = head_.waiting[word];
            const std::uint64_t mine =
                !self_too && word == slot_ / 64 ? std::uint64_t{1} << slot_ % 64 : 0;
            if ((waiting.load() & ~mine) == 0) continue;
            std::uint64_t rung = waiting.fetch_and(mine) & ~mine;
            for (; rung != 0; rung &= rung - 1) {
                const auto slot = word * 64 + static_cast<std::uint32_t>(std::countr_zero(rung));
                // Whoever is gone needs no ring.
                if (slot < slots_) static_cast<void>(ipcdoor_ring(end_.get(), slot, 0, vector_, 0));
            }
        }
    }

    std::uint64_t wakeups() {
        const std::lock_guard lock(sleep_mutex_);
        return wakeups_;
    }

    // Until news came since wakeups() was `ticket`, or for a second: another user of the endpoint
    // may have taken the news of a death. False: the deadline passed.
    bool sleep(std::uint64_t ticket, deadline until) {
        if (until.is_past()) return false;
        const std::uint64_t at = std::min(until.ns(), deadline(std::chrono::seconds(1)).ns());
        std::unique_lock lock(sleep_mutex_);
        if (wakeups_ != ticket) return true;
        // One thread at a time takes the doorbell's count, and tells the others.
        if (sleeping_) {
            while (wakeups_ == ticket && sleeping_)
                if (!wait_until(news_, lock, at)) break;
            return true;
        }
        sleeping_ = true;
        lock.unlock();
        const std::uint64_t mask = std::uint64_t{1} << vector_ | lifecycle_vector;
        const int waited = ipcdoor_wait(end_.get(), mask, at, nullptr);
        lock.lock();
        sleeping_ = false;
        ++wakeups_;
        news_.notify_all();
        if (waited == 0 || waited == -ETIMEDOUT || waited == -EINTR) return true;
        if (waited != -EPIPE) throw_if(waited);
        // A connection's peer is dead: only threads of this process are left to wait for.
        static_cast<void>(
            wait_until(news_, lock, std::min(at, deadline(std::chrono::milliseconds(10)).ns())));
        return true;
    }

private:
    // The owner stores 0, then looks who waits (release()); who waits sets its bit, then looks
    // at the owner: all sequentially consistent, so one sees the other. A bit
    // that was seen is gone, hence it is set anew before each look. The ring is counted, so it
    // may come before the sleep. An owner that dies, before or after it has stored 0, rings
    // vector 0 of all.
    void await_lock(deadline until) {
        shared_u64& word = head_.lock;
        for (;;) {
            const std::uint64_t ticket = wakeups();
            ask_for_news();
            IPCDOOR_STEP("heap.lock:waiting");
            std::uint64_t owner = 0;
            if (word.compare_exchange_strong(owner, me_)) return;
            if (!lives(owner)) {
                if (!word.compare_exchange_strong(owner, me_)) {
                    if (until.is_past()) timed_out();
                    continue;
                }
                IPCDOOR_STEP("heap.lock:takeover");
                heap_add(head_.takeovers, 1);
                return;
            }
            IPCDOOR_STEP("heap.lock:sleep");
            if (!sleep(ticket, until)) timed_out();
        }
    }

    [[noreturn]] static void timed_out() {
        throw_error(ETIMEDOUT, "heap: the deadline passed while somebody else changed the heap");
    }

    bool is_of_slot(std::uint64_t identity) const noexcept {
        return heap_identity_slot(identity) < slots_ && (identity & 1) == 0;
    }
    // The identity that lives in the slot of this one; 0: nobody.
    std::uint64_t living(std::uint64_t identity) const {
        const auto slot = static_cast<std::uint32_t>(heap_identity_slot(identity));
        const auto known = end_.slot_state(slot);
        return known.state == IPCDOOR_SLOT_ALIVE ? heap_identity(slot, known.generation) : 0;
    }

    shared_u64& waiting_word() const noexcept { return head_.waiting[slot_ / 64]; }

    endpoint& end_;
    const std::uint32_t vector_;
    heap_header& head_;
    std::uint32_t slots_ = 0;
    std::uint32_t slot_ = 0;
    std::uint64_t me_ = 0;

    turn turn_;  // of this process's threads

    std::mutex sleep_mutex_;
    std::condition_variable news_;
    bool sleeping_ = false;      // sleep_mutex_: a thread sleeps in the back end
    std::uint64_t wakeups_ = 0;  // sleep_mutex_
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_HEAP_LOCK_HPP
