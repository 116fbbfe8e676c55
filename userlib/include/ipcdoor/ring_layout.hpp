// SPDX-License-Identifier: MIT
//
// The layout of a slot that carries a ring: who writes which word where, how a
// slot is made ready and how a peer's is checked. ring.hpp has what moves.
#ifndef IPCDOOR_RING_LAYOUT_HPP
#define IPCDOOR_RING_LAYOUT_HPP

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#include <ipcdoor/error.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t ring_magic = 0x474e495244435049ULL;  // "IPCDRING"
inline constexpr std::uint32_t ring_version_min = 1;                // oldest layout spoken here
inline constexpr std::uint32_t ring_version_max = 1;                // newest

inline constexpr std::size_t ring_line_bytes = 128;
inline constexpr std::size_t ring_record_align = 8;
inline constexpr std::size_t ring_record_header_bytes = 8;
inline constexpr std::uint64_t ring_min_capacity = 256;
inline constexpr std::uint64_t ring_max_capacity = std::uint64_t{1} << 31;

// Record types are the user's, but for this one.
inline constexpr std::uint16_t ring_wrap_type = 0xffff;

using shared_u32 = std::atomic<std::uint32_t>;
using shared_u64 = std::atomic<std::uint64_t>;

// The producer's words, in the producer's slot.
struct ring_output {
    // Everything before it is readable. Bytes since the beginning.
    alignas(ring_line_bytes) shared_u64 tail;
    // The head that the producer sleeps for; 0 while it does not sleep.
    alignas(ring_line_bytes) shared_u64 armed;
};

// The consumer's words, in the consumer's slot.
struct ring_input {
    // Everything before it may be overwritten. Bytes since the beginning.
    alignas(ring_line_bytes) shared_u64 head;
    // The tail that the consumer sleeps for; 0 while it does not sleep.
    alignas(ring_line_bytes) shared_u64 armed;
};

// The start of a slot. Written once, magic last, before the peer may use it;
// only the words of `output` and `input` change later.
struct ring_slot {
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 capacity;     // of the data, bytes
    shared_u32 data_offset;  // from the start of the slot, bytes
    shared_u32 pad;
    ring_output output;  // of the ring to the peer
    ring_input input;    // of the ring from the peer
};

// Where the data starts. [1024, 2048) belongs to the pulses of signal.hpp.
inline constexpr std::size_t ring_pulse_offset = 1024;
inline constexpr std::size_t ring_data_offset = 2048;

// A layout inlined into two programs is an ABI.
static_assert(shared_u64::is_always_lock_free && sizeof(shared_u64) == 8);
static_assert(shared_u32::is_always_lock_free && sizeof(shared_u32) == 4);
static_assert(sizeof(ring_output) == 256 && offsetof(ring_output, armed) == 128);
static_assert(sizeof(ring_input) == 256 && offsetof(ring_input, armed) == 128);
static_assert(offsetof(ring_slot, version_min) == 8 && offsetof(ring_slot, version_max) == 12);
static_assert(offsetof(ring_slot, capacity) == 16 && offsetof(ring_slot, data_offset) == 24);
static_assert(offsetof(ring_slot, output) == 128 && offsetof(ring_slot, input) == 384);
static_assert(sizeof(ring_slot) == 640 && sizeof(ring_slot) <= ring_pulse_offset);

// The largest capacity that fits a slot, 0 if none does.
constexpr std::uint64_t ring_capacity(std::uint64_t slot_bytes) noexcept {
    if (slot_bytes < ring_data_offset + ring_min_capacity) return 0;
    const std::uint64_t capacity = std::bit_floor(slot_bytes - ring_data_offset);
    return capacity < ring_max_capacity ? capacity : ring_max_capacity;
}

// The size of a slot for a ring of `capacity` bytes (rounded up to a power of
// two), before rounding to pages.
constexpr std::uint64_t ring_slot_bytes(std::uint64_t capacity) noexcept {
    return ring_data_offset +
           std::bit_ceil(capacity < ring_min_capacity ? ring_min_capacity : capacity);
}

// The largest payload: half of the ring with its header, so that a record finds
// room wherever the cursors stand once the ring is empty.
constexpr std::size_t ring_max_payload(std::uint64_t capacity) noexcept {
    return static_cast<std::size_t>(capacity / 2 - ring_record_header_bytes);
}

namespace detail {

[[noreturn]] inline void ring_violation(const std::string& what) {
    throw_error(EPROTO, "ring: " + what + ": the peer is broken or hostile; close this connection");
}

}  // namespace detail

// Makes the caller's own, fresh slot ready for a peer's verify_ring_slot().
// Returns the capacity. Throws EINVAL where the slot is too small.
inline std::uint64_t init_ring_slot(void* slot, std::uint64_t slot_bytes) {
    const std::uint64_t capacity = ring_capacity(slot_bytes);
    if (capacity == 0) {
        detail::throw_error(EINVAL, "ring: a slot of " + std::to_string(slot_bytes) +
                                        " bytes is too small; it takes at least " +
                                        std::to_string(ring_slot_bytes(0)));
    }
    ring_slot& mine = *static_cast<ring_slot*>(slot);
    mine.version_min.store(ring_version_min, std::memory_order_relaxed);
    mine.version_max.store(ring_version_max, std::memory_order_relaxed);
    mine.capacity.store(capacity, std::memory_order_relaxed);
    mine.data_offset.store(ring_data_offset, std::memory_order_relaxed);
    mine.magic.store(ring_magic, std::memory_order_release);
    return capacity;
}

// The capacity of the ring in a peer's slot once its header is written and
// right, 0 before it is written. Throws EPROTO for a malformed header and
// EPROTONOSUPPORT where no layout is spoken by both.
inline std::uint64_t verify_ring_slot(const void* slot, std::uint64_t slot_bytes) {
    const ring_slot& theirs = *static_cast<const ring_slot*>(slot);
    const std::uint64_t magic = theirs.magic.load(std::memory_order_acquire);
    if (magic == 0) return 0;
    if (magic != ring_magic) {
        detail::throw_error(EPROTO,
                            "ring: the peer's slot does not hold a ring (wrong magic); does it "
                            "speak messages on this connection?");
    }
    const std::uint32_t oldest = theirs.version_min.load(std::memory_order_relaxed);
    const std::uint32_t newest = theirs.version_max.load(std::memory_order_relaxed);
    if (oldest > newest || oldest == 0) detail::ring_violation("its version range is empty");
    if (oldest > ring_version_max || newest < ring_version_min) {
        detail::throw_error(EPROTONOSUPPORT,
                            "ring: the peer speaks layouts " + std::to_string(oldest) + " to " +
                                std::to_string(newest) + ", this library " +
                                std::to_string(ring_version_min) + " to " +
                                std::to_string(ring_version_max) + "; update the older program");
    }
    const std::uint64_t capacity = theirs.capacity.load(std::memory_order_relaxed);
    const std::uint64_t offset = theirs.data_offset.load(std::memory_order_relaxed);
    if (!std::has_single_bit(capacity) || capacity < ring_min_capacity ||
        capacity > ring_max_capacity || offset != ring_data_offset || slot_bytes < offset ||
        capacity > slot_bytes - offset) {
        detail::ring_violation("its capacity of " + std::to_string(capacity) + " at offset " +
                               std::to_string(offset) + " does not fit a slot of " +
                               std::to_string(slot_bytes) + " bytes");
    }
    return capacity;
}

inline std::byte* ring_data(void* slot) noexcept {
    return static_cast<std::byte*>(slot) + ring_data_offset;
}
inline const std::byte* ring_data(const void* slot) noexcept {
    return static_cast<const std::byte*>(slot) + ring_data_offset;
}

}  // namespace ipcdoor

#endif  // IPCDOOR_RING_LAYOUT_HPP
