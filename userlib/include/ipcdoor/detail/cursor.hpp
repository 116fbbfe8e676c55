// SPDX-License-Identifier: MIT
//
// The two cursors of a ring over single-writer shared memory, without what lies
// between them: bytes of a stream, or records. Who writes which word, why no
// wake-up is lost and what a hostile peer can do is the same as in ring.hpp;
// docs/memory-ordering.md has the argument.
//
// A cursor counts bytes since the beginning, in multiples of Align. Nothing here
// blocks, makes a system call, or is thread-safe.
#ifndef IPCDOOR_DETAIL_CURSOR_HPP
#define IPCDOOR_DETAIL_CURSOR_HPP

#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <string>

#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>
#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor::detail {

// `subject` is what the user knows of: "ring", "stream".
[[noreturn]] inline void peer_violation(const char* subject, const std::string& what) {
    throw_error(EPROTO, std::string(subject) + ": " + what +
                            ": the peer is broken or hostile; close this connection");
}

// ---- producer ---------------------------------------------------------------

template <std::uint64_t Align>
class producer_cursor {
public:
    // `mine` in the producer's slot, `theirs` in the consumer's: fresh, or left by
    // an earlier producer that went quiet.
    producer_cursor(const char* subject, ring_output& mine, std::uint64_t capacity,
                    const ring_input& theirs) noexcept
        : subject_(subject),
          mine_(mine),
          theirs_(theirs),
          capacity_(capacity),
          tail_(mine.tail.load(std::memory_order_relaxed)),
          published_(tail_),
          head_(tail_ < capacity ? 0 : tail_ - capacity) {
        assert(capacity != 0 && capacity % Align == 0);
    }
    producer_cursor(const producer_cursor&) = delete;
    producer_cursor& operator=(const producer_cursor&) = delete;

    std::uint64_t capacity() const noexcept { return capacity_; }
    bool poisoned() const noexcept { return poisoned_; }
    // Where the next byte goes, and what the consumer may see.
    std::uint64_t tail() const noexcept { return tail_; }
    std::uint64_t published() const noexcept { return published_; }

    // Bytes that may be written from tail() on. The consumer's cursor is looked at
    // only where fewer than `need` are known. Throws EPROTO.
    std::uint64_t room(std::uint64_t need) {
        check();
        if (known_room() < need) load_head();
        return known_room();
    }

    // Passes bytes that were written; publish() makes them readable.
    void advance(std::uint64_t bytes) noexcept {
        assert(bytes <= known_room() && bytes % Align == 0);
        tail_ += bytes;
    }

    // True: the consumer sleeps for what it may see now, ring its doorbell (once:
    // later calls are false until it arms again).
    [[nodiscard]] bool publish() noexcept {
        if (tail_ == published_) return false;
        mine_.tail.store(tail_, std::memory_order_release);
        published_ = tail_;
        IPCDOOR_TEST_POINT(producer_published);
        full_fence();
        IPCDOOR_TEST_POINT(producer_fenced);
        const std::uint64_t armed = theirs_.armed.load(std::memory_order_relaxed);
        if (armed == 0 || armed == answered_ || !reached(tail_, armed)) return false;
        answered_ = armed;
        return true;
    }

    // Announces the wish to sleep until there is room for `need` bytes, at most the
    // capacity. True: there is not, wait for the doorbell, then look again, at last
    // disarm(). False: there is, and the cursor is disarmed. Everything must be
    // published before.
    [[nodiscard]] bool arm(std::uint64_t need) {
        assert(tail_ == published_ && need <= capacity_);
        check();
        if (known_room() >= need) return false;
        mine_.armed.store(tail_ + need - capacity_, std::memory_order_relaxed);
        IPCDOOR_TEST_POINT(producer_armed);
        full_fence();
        IPCDOOR_TEST_POINT(producer_arm_fenced);
        load_head();
        if (known_room() < need) return true;
        disarm();
        return false;
    }

    void disarm() noexcept { mine_.armed.store(0, std::memory_order_relaxed); }

private:
    std::uint64_t known_room() const noexcept { return capacity_ - (tail_ - head_); }

    void check() const {
        if (poisoned_) peer_violation(subject_, "its producer was poisoned before");
    }

    void load_head() {
        const std::uint64_t head = theirs_.head.load(std::memory_order_acquire);
        // Never backwards, never past what was published, on a border.
        if (published_ - head > published_ - head_ || head % Align != 0) {
            poisoned_ = true;
            peer_violation(subject_, "the consumer's head went from " + std::to_string(head_) +
                                         " to " + std::to_string(head) + " with the tail at " +
                                         std::to_string(published_));
        }
        head_ = head;
    }

    const char* const subject_;
    ring_output& mine_;
    const ring_input& theirs_;
    const std::uint64_t capacity_;
    std::uint64_t tail_;          // written
    std::uint64_t published_;     // what the consumer may see
    std::uint64_t head_;          // the consumer's, when last looked at
    std::uint64_t answered_ = 0;  // the armed word that was rung for
    bool poisoned_ = false;
};

// ---- consumer ---------------------------------------------------------------

template <std::uint64_t Align>
class consumer_cursor {
public:
    // `mine` in the consumer's slot, `theirs` in the producer's.
    consumer_cursor(const char* subject, ring_input& mine, std::uint64_t capacity,
                    const ring_output& theirs) noexcept
        : subject_(subject),
          mine_(mine),
          theirs_(theirs),
          capacity_(capacity),
          head_(mine.head.load(std::memory_order_relaxed)),
          published_(head_),
          tail_(head_) {
        assert(capacity != 0 && capacity % Align == 0);
    }
    consumer_cursor(const consumer_cursor&) = delete;
    consumer_cursor& operator=(const consumer_cursor&) = delete;

    std::uint64_t capacity() const noexcept { return capacity_; }
    bool poisoned() const noexcept { return poisoned_; }
    // Where the next byte is, and what the producer may reuse.
    std::uint64_t head() const noexcept { return head_; }
    std::uint64_t published() const noexcept { return published_; }

    // Bytes that may be read from head() on. The producer's cursor is looked at only
    // where fewer than `need` are known. Throws EPROTO.
    std::uint64_t readable(std::uint64_t need = 1) {
        check();
        if (tail_ - head_ < need) load_tail();
        return tail_ - head_;
    }

    // The same, with a look at the producer's cursor in any case.
    std::uint64_t look() {
        check();
        load_tail();
        return tail_ - head_;
    }

    // Passes bytes that were read; publish() gives their room back.
    void advance(std::uint64_t bytes) noexcept {
        assert(bytes <= tail_ - head_ && bytes % Align == 0);
        head_ += bytes;
    }

    // True: the producer sleeps for that room, ring its doorbell (once, as in
    // producer_cursor::publish()).
    [[nodiscard]] bool publish() noexcept {
        if (head_ == published_) return false;
        mine_.head.store(head_, std::memory_order_release);
        published_ = head_;
        IPCDOOR_TEST_POINT(consumer_published);
        full_fence();
        IPCDOOR_TEST_POINT(consumer_fenced);
        const std::uint64_t armed = theirs_.armed.load(std::memory_order_relaxed);
        if (armed == 0 || armed == answered_ || !reached(head_, armed)) return false;
        answered_ = armed;
        return true;
    }

    // Announces the wish to sleep until `need` bytes are readable, at most the
    // capacity. True: they are not, wait for the doorbell, then look again, at last
    // disarm(). False: they are, and the cursor is disarmed. Everything must be
    // published before.
    [[nodiscard]] bool arm(std::uint64_t need = 1) {
        assert(head_ == published_ && need != 0 && need <= capacity_);
        check();
        if (tail_ - head_ >= need) return false;
        mine_.armed.store(head_ + need, std::memory_order_relaxed);
        IPCDOOR_TEST_POINT(consumer_armed);
        full_fence();
        IPCDOOR_TEST_POINT(consumer_arm_fenced);
        load_tail();
        if (tail_ - head_ < need) return true;
        disarm();
        return false;
    }

    void disarm() noexcept { mine_.armed.store(0, std::memory_order_relaxed); }

private:
    void check() const {
        if (poisoned_) peer_violation(subject_, "its consumer was poisoned before");
    }

    void load_tail() {
        const std::uint64_t tail = theirs_.tail.load(std::memory_order_acquire);
        // Never backwards, never more than the ring holds, on a border.
        if (tail - published_ > capacity_ || tail - published_ < tail_ - published_ ||
            tail % Align != 0) {
            poisoned_ = true;
            peer_violation(subject_, "the producer's tail went from " + std::to_string(tail_) +
                                         " to " + std::to_string(tail) + " with the head at " +
                                         std::to_string(published_));
        }
        tail_ = tail;
    }

    const char* const subject_;
    ring_input& mine_;
    const ring_output& theirs_;
    const std::uint64_t capacity_;
    std::uint64_t head_;          // read
    std::uint64_t published_;     // what the producer may reuse
    std::uint64_t tail_;          // the producer's, when last looked at
    std::uint64_t answered_ = 0;  // the armed word that was rung for
    bool poisoned_ = false;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CURSOR_HPP
