// SPDX-License-Identifier: MIT
//
// The layout of a slot that carries a byte stream: who writes which word where,
// how a slot is made ready and how a peer's is checked. The cursors and the arm
// protocol are those of a ring (ring_layout.hpp), between them lie plain bytes.
#ifndef IPCDOOR_STREAM_LAYOUT_HPP
#define IPCDOOR_STREAM_LAYOUT_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <ipcdoor/detail/cursor.hpp>
#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t stream_magic = 0x4d52545344435049ULL;  // "IPCDSTRM"
inline constexpr std::uint32_t stream_version_min = 1;                // oldest layout spoken here
inline constexpr std::uint32_t stream_version_max = 1;                // newest

// What the owner of a slot does on its connection. A pipe's ends do one of them
// each, a stream socket's both.
inline constexpr std::uint32_t stream_reads = 1;
inline constexpr std::uint32_t stream_writes = 2;

// The start of a slot. The header is written once, magic last; `output`, `input`
// and the two flags change later. Until the magic is there all of it reads as
// zeros, which is right for them: nothing written, nothing read, nobody sleeps.
struct stream_slot {
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 capacity;     // of the data, bytes; any number
    shared_u32 data_offset;  // from the start of the slot, bytes
    shared_u32 roles;        // of the slot's owner
    ring_output output;      // of the stream to the peer
    ring_input input;        // of the stream from the peer
    // Not 0: nothing more will be written, `output.tail` is final.
    alignas(ring_line_bytes) shared_u32 finished;
    // Not 0: nothing more will be read.
    shared_u32 gone;
};

// Where the data starts. [1024, 2048) belongs to the pulses of signal.hpp.
inline constexpr std::size_t stream_data_offset = ring_data_offset;

// A layout inlined into two programs is an ABI.
static_assert(offsetof(stream_slot, version_min) == 8 && offsetof(stream_slot, version_max) == 12);
static_assert(offsetof(stream_slot, capacity) == 16 && offsetof(stream_slot, data_offset) == 24);
static_assert(offsetof(stream_slot, roles) == 28);
static_assert(offsetof(stream_slot, output) == 128 && offsetof(stream_slot, input) == 384);
static_assert(offsetof(stream_slot, finished) == 640 && offsetof(stream_slot, gone) == 644);
static_assert(sizeof(stream_slot) == 768 && sizeof(stream_slot) <= ring_pulse_offset);

// What a UNIX socket takes, about. With much less the two sides sleep so often that a
// kernel's pipe is faster.
inline constexpr std::uint64_t stream_default_capacity = std::uint64_t{256} << 10;

// The capacity of a slot, 0 where it is too small.
constexpr std::uint64_t stream_capacity(std::uint64_t slot_bytes) noexcept {
    return slot_bytes < stream_data_offset ? 0 : slot_bytes - stream_data_offset;
}

// The size of a slot for a stream of `capacity` bytes, before rounding to pages.
constexpr std::uint64_t stream_slot_bytes(std::uint64_t capacity) noexcept {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max() - stream_data_offset;
    return stream_data_offset + std::min(std::max(capacity, std::uint64_t{1}), most);
}

namespace detail {

[[noreturn]] inline void stream_violation(const std::string& what) {
    peer_violation("stream", what);
}

inline const char* stream_role(std::uint32_t roles) noexcept {
    switch (roles) {
        case stream_reads: return "a pipe's reader";
        case stream_writes: return "a pipe's writer";
        default: return "a stream socket";
    }
}

// `mine` reads exactly if `theirs` writes, and the other way round.
inline void check_stream_roles(std::uint32_t mine, std::uint32_t theirs) {
    constexpr std::uint32_t both = stream_reads | stream_writes;
    if (theirs == 0 || (theirs & ~both) != 0)
        stream_violation("its roles are " + std::to_string(theirs));
    const std::uint32_t wanted = (mine & stream_reads) << 1 | (mine & stream_writes) >> 1;
    if (theirs == wanted) return;
    throw_error(EPROTO, std::string("stream: this end is ") + stream_role(mine) +
                            ", and so takes " + stream_role(wanted) +
                            " at the other end, which is " + stream_role(theirs) +
                            "; open one end the other way or use another name");
}

}  // namespace detail

// Makes the caller's own, fresh slot ready for a peer's verify_stream_slot(). Uses
// at most `limit` bytes of it for data, all where that is 0. Returns the capacity.
// Throws EINVAL where the slot is too small.
inline std::uint64_t init_stream_slot(void* slot, std::uint64_t slot_bytes, std::uint32_t roles,
                                      std::uint64_t limit = 0) {
    std::uint64_t capacity = stream_capacity(slot_bytes);
    if (capacity == 0) {
        detail::throw_error(EINVAL, "stream: a slot of " + std::to_string(slot_bytes) +
                                        " bytes is too small; it takes at least " +
                                        std::to_string(stream_slot_bytes(0)));
    }
    if (limit != 0) capacity = std::min(capacity, limit);
    stream_slot& mine = *static_cast<stream_slot*>(slot);
    mine.version_min.store(stream_version_min, std::memory_order_relaxed);
    mine.version_max.store(stream_version_max, std::memory_order_relaxed);
    mine.capacity.store(capacity, std::memory_order_relaxed);
    mine.data_offset.store(stream_data_offset, std::memory_order_relaxed);
    mine.roles.store(roles, std::memory_order_relaxed);
    mine.magic.store(stream_magic, std::memory_order_release);
    return capacity;
}

// The capacity of the stream in a peer's slot once its header is written and right,
// 0 before it is written. `roles` are the caller's own. Throws EPROTO for a
// malformed header and for roles that do not fit, EPROTONOSUPPORT where no layout
// is spoken by both.
inline std::uint64_t verify_stream_slot(const void* slot, std::uint64_t slot_bytes,
                                        std::uint32_t roles) {
    const stream_slot& theirs = *static_cast<const stream_slot*>(slot);
    const std::uint64_t magic = theirs.magic.load(std::memory_order_acquire);
    if (magic == 0) return 0;
    if (magic != stream_magic) {
        detail::throw_error(EPROTO,
                            "stream: the peer's slot does not hold a byte stream (wrong magic); "
                            "does it use a pipe or a stream socket on this connection?");
    }
    detail::check_versions("stream: the peer speaks", detail::versions_of(theirs),
                           {stream_version_min, stream_version_max});
    const std::uint64_t capacity = theirs.capacity.load(std::memory_order_relaxed);
    const std::uint64_t offset = theirs.data_offset.load(std::memory_order_relaxed);
    if (capacity == 0 || offset != stream_data_offset || capacity > stream_capacity(slot_bytes)) {
        detail::stream_violation("its capacity of " + std::to_string(capacity) + " at offset " +
                                 std::to_string(offset) + " does not fit a slot of " +
                                 std::to_string(slot_bytes) + " bytes");
    }
    detail::check_stream_roles(roles, theirs.roles.load(std::memory_order_relaxed));
    return capacity;
}

inline std::byte* stream_data(void* slot) noexcept {
    return static_cast<std::byte*>(slot) + stream_data_offset;
}
inline const std::byte* stream_data(const void* slot) noexcept {
    return static_cast<const std::byte*>(slot) + stream_data_offset;
}

}  // namespace ipcdoor

#endif  // IPCDOOR_STREAM_LAYOUT_HPP
