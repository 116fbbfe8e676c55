// SPDX-License-Identifier: MIT
//
// Single-producer single-consumer ring of byte records over single-writer
// shared memory: this file owns the cursors and records of a ring in two slots
// (ring_layout.hpp), and the arm protocol that makes doorbells needless under load.
//
// Who writes what. Each side of a connection writes its own slot and maps the
// peer's read-only. A ring from A to B therefore lies in two places:
//
//     A's slot:  ring_output {tail, armed}, and the data
//     B's slot:  ring_input  {head, armed}
//
// `tail` and `head` are byte cursors that only grow; the place in the data is
// the cursor modulo the capacity, a power of two. A record is
//
//     8 bytes   payload bytes (32 bits), type (16), flags (16)
//     payload   padded to 8 bytes, never split: where it would cross the end of
//               the data, a wrap marker fills what is left there
//
// The parts are borrowed: the two cursors with one writer each from Lamport
// ("Specifying Concurrent Program Modules", 1983), the private copy of the
// other side's cursor that spares a cache miss from Vyukov's and Rigtorp's SPSC
// queues (rigtorp/SPSCQueue), a cache line pair for each word as in Folly's
// hardware_destructive_interference_size of 128, and the armed words from the
// event index of virtio (used_event, avail_event). docs/memory-ordering.md has the argument.
//
// A peer may be broken or hostile. Each word of its slot is read once into a
// local, checked there, and used from there; the first violation poisons this
// side of the ring: that call and all later ones throw EPROTO. A payload that
// is read in place can change under the reader's eyes; copy what must not.
//
// Nothing here blocks or makes a system call, and nothing is thread-safe: one
// thread at a time per ring_producer and per ring_consumer.
#ifndef IPCDOOR_RING_HPP
#define IPCDOOR_RING_HPP

#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>

#include <ipcdoor/error.hpp>
#include <ipcdoor/ring_layout.hpp>

#if defined(__SANITIZE_THREAD__)
#define IPCDOOR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define IPCDOOR_TSAN 1
#endif
#endif

// The stress test widens the race windows here; nothing in a normal build.
#ifndef IPCDOOR_TEST_POINT
#define IPCDOOR_TEST_POINT(name) static_cast<void>(0)
#endif

namespace ipcdoor {

struct ring_record {
    std::uint16_t type = 0;
    std::uint16_t flags = 0;
    std::span<const std::byte> payload;  // in shared memory, until consume()
};

namespace detail {

#ifdef IPCDOOR_TSAN
inline std::atomic<std::uint64_t> tsan_fence_word{0};
#endif

// Orders all loads and stores before it with all after it (store-load too).
// ThreadSanitizer does not model fences, and g++ 12 warns about that; a
// read-modify-write of one common word orders at least as much in its model.
inline void full_fence() noexcept {
#ifdef IPCDOOR_TSAN
    tsan_fence_word.fetch_add(1, std::memory_order_seq_cst);
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

constexpr std::uint64_t padded(std::uint64_t bytes) noexcept {
    return (bytes + ring_record_align - 1) & ~std::uint64_t{ring_record_align - 1};
}

constexpr std::uint64_t pack_record(std::uint64_t bytes, std::uint16_t type,
                                    std::uint16_t flags) noexcept {
    return bytes | std::uint64_t{type} << 32 | std::uint64_t{flags} << 48;
}

// Cursors only grow, so "reached" is a difference, right across 2^64 too.
constexpr bool reached(std::uint64_t cursor, std::uint64_t target) noexcept {
    return static_cast<std::int64_t>(cursor - target) >= 0;
}

// The header word of a record: shared, hence always read and written whole.
inline shared_u64& header_word(std::byte* at) noexcept {
    return *reinterpret_cast<shared_u64*>(at);
}
inline const shared_u64& header_word(const std::byte* at) noexcept {
    return *reinterpret_cast<const shared_u64*>(at);
}

}  // namespace detail

// ---- producer ---------------------------------------------------------------

class ring_producer {
public:
    // `mine` and `data` (of `capacity` bytes, 8-byte aligned) in the producer's
    // slot, `theirs` in the consumer's. All of it fresh, or left by an earlier
    // producer that went quiet: the cursor is taken up where it stands.
    ring_producer(ring_output& mine, std::byte* data, std::uint64_t capacity,
                  const ring_input& theirs) noexcept
        : mine_(mine),
          theirs_(theirs),
          data_(data),
          capacity_(capacity),
          tail_(mine.tail.load(std::memory_order_relaxed)),
          published_(tail_),
          head_(tail_ < capacity ? 0 : tail_ - capacity) {
        assert(std::has_single_bit(capacity) && capacity >= ring_min_capacity);
    }
    ring_producer(const ring_producer&) = delete;
    ring_producer& operator=(const ring_producer&) = delete;

    std::uint64_t capacity() const noexcept { return capacity_; }
    std::size_t max_payload() const noexcept { return ring_max_payload(capacity_); }
    bool poisoned() const noexcept { return poisoned_; }

    // Room for a record of up to `bytes` (at most max_payload()), to be filled
    // in place and passed to commit(); nullptr while there is none. A second
    // reserve() without commit() replaces the first.
    // Throws EMSGSIZE, EPROTO.
    std::byte* reserve(std::size_t bytes) {
        check(bytes);
        if (free_bytes() < need(bytes)) {
            load_head();
            if (free_bytes() < need(bytes)) return nullptr;
        }
        reserved_ = bytes;
        return data_ + start(bytes) + ring_record_header_bytes;
    }

    // Closes the reserved record with `bytes` of it used. It can be read after
    // publish(), so several make one batch.
    void commit(std::size_t bytes, std::uint16_t type = 0, std::uint16_t flags = 0) noexcept {
        assert(bytes <= reserved_ && type != ring_wrap_type);
        const std::uint64_t at = start(reserved_);
        const std::uint64_t here = tail_ & (capacity_ - 1);
        if (at != here) {
            const std::uint64_t rest = capacity_ - here;
            detail::header_word(data_ + here)
                .store(detail::pack_record(rest - ring_record_header_bytes, ring_wrap_type, 0),
                       std::memory_order_relaxed);
            tail_ += rest;
        }
        detail::header_word(data_ + at)
            .store(detail::pack_record(bytes, type, flags), std::memory_order_relaxed);
        tail_ += ring_record_header_bytes + detail::padded(bytes);
        reserved_ = 0;
    }

    // Makes what was committed readable. True: the consumer sleeps for it, ring
    // its doorbell (once: later calls are false until it arms again).
    [[nodiscard]] bool publish() noexcept {
        if (tail_ == published_) return false;
        mine_.tail.store(tail_, std::memory_order_release);
        published_ = tail_;
        IPCDOOR_TEST_POINT(producer_published);
        detail::full_fence();
        IPCDOOR_TEST_POINT(producer_fenced);
        const std::uint64_t armed = theirs_.armed.load(std::memory_order_relaxed);
        if (armed == 0 || armed == answered_ || !detail::reached(tail_, armed)) return false;
        answered_ = armed;
        return true;
    }

    // Copies a record in; false while there is no room. Needs publish().
    bool push(std::span<const std::byte> payload, std::uint16_t type = 0, std::uint16_t flags = 0) {
        std::byte* const to = reserve(payload.size());
        if (to == nullptr) return false;
        if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
        commit(payload.size(), type, flags);
        return true;
    }

    // Announces the wish to sleep until a record of `bytes` fits. True: nothing
    // fits, wait for the doorbell, then try again, at last disarm(). False: it
    // fits now, and the ring is disarmed. Everything must be published before.
    [[nodiscard]] bool arm(std::size_t bytes) {
        assert(tail_ == published_);
        check(bytes);
        if (free_bytes() >= need(bytes)) return false;
        mine_.armed.store(tail_ + need(bytes) - capacity_, std::memory_order_relaxed);
        IPCDOOR_TEST_POINT(producer_armed);
        detail::full_fence();
        IPCDOOR_TEST_POINT(producer_arm_fenced);
        load_head();
        if (free_bytes() < need(bytes)) return true;
        disarm();
        return false;
    }

    void disarm() noexcept { mine_.armed.store(0, std::memory_order_relaxed); }

private:
    void check(std::size_t bytes) const {
        if (poisoned_) detail::ring_violation("its producer was poisoned before");
        if (bytes > max_payload()) {
            detail::throw_error(EMSGSIZE, "ring: a record of " + std::to_string(bytes) +
                                              " bytes is larger than the " +
                                              std::to_string(max_payload()) +
                                              " that this ring takes; make the slots larger");
        }
    }

    std::uint64_t free_bytes() const noexcept { return capacity_ - (tail_ - head_); }

    // Where a record of `bytes` starts in the data: here, or at the beginning.
    std::uint64_t start(std::size_t bytes) const noexcept {
        const std::uint64_t here = tail_ & (capacity_ - 1);
        const std::uint64_t record = ring_record_header_bytes + detail::padded(bytes);
        return record <= capacity_ - here ? here : 0;
    }

    // What it takes from tail_ on, the skipped end included.
    std::uint64_t need(std::size_t bytes) const noexcept {
        const std::uint64_t here = tail_ & (capacity_ - 1);
        const std::uint64_t record = ring_record_header_bytes + detail::padded(bytes);
        return record <= capacity_ - here ? record : capacity_ - here + record;
    }

    void load_head() {
        const std::uint64_t head = theirs_.head.load(std::memory_order_acquire);
        // Never backwards, never past what was published, on a record's border.
        if (published_ - head > published_ - head_ || head % ring_record_align != 0) {
            poisoned_ = true;
            detail::ring_violation("the consumer's head went from " + std::to_string(head_) +
                                   " to " + std::to_string(head) + " with the tail at " +
                                   std::to_string(published_));
        }
        head_ = head;
    }

    ring_output& mine_;
    const ring_input& theirs_;
    std::byte* const data_;
    const std::uint64_t capacity_;
    std::uint64_t tail_;          // committed
    std::uint64_t published_;     // what the consumer may see
    std::uint64_t head_;          // the consumer's, when last looked at
    std::uint64_t answered_ = 0;  // the armed word that was rung for
    std::size_t reserved_ = 0;
    bool poisoned_ = false;
};

// ---- consumer ---------------------------------------------------------------

class ring_consumer {
public:
    // `mine` in the consumer's slot; `data` (of `capacity` bytes, as checked by
    // verify_ring_slot()) and `theirs` in the producer's.
    ring_consumer(ring_input& mine, const std::byte* data, std::uint64_t capacity,
                  const ring_output& theirs) noexcept
        : mine_(mine),
          theirs_(theirs),
          data_(data),
          capacity_(capacity),
          head_(mine.head.load(std::memory_order_relaxed)),
          published_(head_),
          tail_(head_) {
        assert(std::has_single_bit(capacity) && capacity >= ring_min_capacity);
    }
    ring_consumer(const ring_consumer&) = delete;
    ring_consumer& operator=(const ring_consumer&) = delete;

    std::uint64_t capacity() const noexcept { return capacity_; }
    bool poisoned() const noexcept { return poisoned_; }

    // The oldest record, read in place, or nothing. The same one until
    // consume(). Throws EPROTO.
    std::optional<ring_record> peek() {
        if (peeked_ != 0) return record_;
        check();
        if (head_ == tail_) {
            load_tail();
            if (head_ == tail_) return std::nullopt;
        }
        std::uint64_t at = head_ & (capacity_ - 1);
        std::uint64_t skipped = 0;
        std::uint64_t header = detail::header_word(data_ + at).load(std::memory_order_relaxed);
        if (type_of(header) == ring_wrap_type) {
            skipped = capacity_ - at;
            // It closes the data, and the record that it made way for follows.
            if (at == 0 || bytes_of(header) != skipped - ring_record_header_bytes ||
                tail_ - head_ < skipped + ring_record_header_bytes)
                poison("a wrap marker of " + std::to_string(bytes_of(header)) +
                       " bytes does not belong at offset " + std::to_string(at));
            at = 0;
            header = detail::header_word(data_).load(std::memory_order_relaxed);
        }
        const std::uint64_t bytes = bytes_of(header);
        const std::uint64_t record = ring_record_header_bytes + detail::padded(bytes);
        if (type_of(header) == ring_wrap_type || bytes > ring_max_payload(capacity_) ||
            record > capacity_ - at || record > tail_ - head_ - skipped)
            poison("a record of " + std::to_string(bytes) + " bytes at offset " +
                   std::to_string(at) + " leaves the " + std::to_string(tail_ - head_ - skipped) +
                   " readable bytes");
        peeked_ = skipped + record;
        record_ = {type_of(header),
                   static_cast<std::uint16_t>(header >> 48),
                   {data_ + at + ring_record_header_bytes, static_cast<std::size_t>(bytes)}};
        return record_;
    }

    // Passes the peeked record; its memory is the producer's after publish().
    void consume() noexcept {
        assert(peeked_ != 0);
        head_ += peeked_;
        peeked_ = 0;
    }

    // Gives back what was consumed. True: the producer sleeps for that room,
    // ring its doorbell (once, as in ring_producer::publish()).
    [[nodiscard]] bool publish() noexcept {
        if (head_ == published_) return false;
        mine_.head.store(head_, std::memory_order_release);
        published_ = head_;
        IPCDOOR_TEST_POINT(consumer_published);
        detail::full_fence();
        IPCDOOR_TEST_POINT(consumer_fenced);
        const std::uint64_t armed = theirs_.armed.load(std::memory_order_relaxed);
        if (armed == 0 || armed == answered_ || !detail::reached(head_, armed)) return false;
        answered_ = armed;
        return true;
    }

    // Copies the oldest record to `to` and passes it; nothing while there is
    // none, EMSGSIZE (and the record stays) where `to` is too small. Needs
    // publish().
    std::optional<ring_record> pop(std::span<std::byte> to) {
        std::optional<ring_record> record = peek();
        if (!record) return record;
        const std::size_t bytes = record->payload.size();
        if (bytes > to.size()) {
            detail::throw_error(EMSGSIZE, "ring: a record of " + std::to_string(bytes) +
                                              " bytes does not fit a buffer of " +
                                              std::to_string(to.size()));
        }
        if (bytes != 0) std::memcpy(to.data(), record->payload.data(), bytes);
        record->payload = to.first(bytes);
        consume();
        return record;
    }

    // Announces the wish to sleep until there is a record. True: there is none,
    // wait for the doorbell, look again, at last disarm(). False: there is one,
    // and the ring is disarmed. Everything must be published before.
    [[nodiscard]] bool arm() {
        assert(head_ == published_);
        check();
        if (head_ != tail_) return false;
        mine_.armed.store(head_ + 1, std::memory_order_relaxed);
        IPCDOOR_TEST_POINT(consumer_armed);
        detail::full_fence();
        IPCDOOR_TEST_POINT(consumer_arm_fenced);
        load_tail();
        if (head_ == tail_) return true;
        disarm();
        return false;
    }

    void disarm() noexcept { mine_.armed.store(0, std::memory_order_relaxed); }

private:
    static std::uint64_t bytes_of(std::uint64_t header) noexcept {
        return header & std::numeric_limits<std::uint32_t>::max();
    }
    static std::uint16_t type_of(std::uint64_t header) noexcept {
        return static_cast<std::uint16_t>(header >> 32);
    }

    void check() const {
        if (poisoned_) detail::ring_violation("its consumer was poisoned before");
    }

    [[noreturn]] void poison(const std::string& what) {
        poisoned_ = true;
        detail::ring_violation(what);
    }

    void load_tail() {
        const std::uint64_t tail = theirs_.tail.load(std::memory_order_acquire);
        // Never backwards, never more than the ring holds, on a record's border.
        if (tail - published_ > capacity_ || tail - published_ < tail_ - published_ ||
            tail % ring_record_align != 0)
            poison("the producer's tail went from " + std::to_string(tail_) + " to " +
                   std::to_string(tail) + " with the head at " + std::to_string(published_));
        tail_ = tail;
    }

    ring_input& mine_;
    const ring_output& theirs_;
    const std::byte* const data_;
    const std::uint64_t capacity_;
    std::uint64_t head_;          // consumed
    std::uint64_t published_;     // what the producer may reuse
    std::uint64_t tail_;          // the producer's, when last looked at
    std::uint64_t answered_ = 0;  // the armed word that was rung for
    std::uint64_t peeked_ = 0;    // bytes of the peeked record, what it skips included
    ring_record record_;
    bool poisoned_ = false;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_RING_HPP
