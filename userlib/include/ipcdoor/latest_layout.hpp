// SPDX-License-Identifier: MIT
//
// The layout of a latest-value cell. latest.hpp has what moves.
//
// DATA, which readers map read-only: latest_header, then the copies, each a latest_copy and the
// value's bytes in words. A reader's slot: latest_reader_slot.
#ifndef IPCDOOR_LATEST_LAYOUT_HPP
#define IPCDOOR_LATEST_LAYOUT_HPP

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#include <linux/ipcdoor.h>

#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t latest_magic = 0x5453544c44435049ULL;  // "IPCDLTST"
inline constexpr std::uint32_t latest_version_min = 1;                // oldest layout spoken here
inline constexpr std::uint32_t latest_version_max = 1;                // newest
inline constexpr std::uint32_t latest_vector = 1;
inline constexpr std::uint64_t latest_max_bytes = std::uint64_t{1} << 30;
// Value k lies in copy k % latest_copies. Two would do for a writer that dies; with four a reader
// has three writes' time.
inline constexpr std::uint64_t latest_copies = 4;
inline constexpr std::uint64_t latest_max_sequence = ~std::uint64_t{0} >> 2;

struct latest_header {
    // Written once, magic last.
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 type;         // type_hash() or the user's; what readers ask for
    shared_u64 value_bytes;  // the most that a value has
    shared_u64 align;
    // The number of the latest value, 0 before the first.
    alignas(ring_line_bytes) shared_u64 latest;
    // owner_tag() of the cell's writer, the last one if it is dead. Taken by exchange.
    alignas(ring_line_bytes) shared_u64 writer;
    // Whom the writer rings: the generation of each reader, by slot.
    shared_u32 known[IPCDOOR_MAX_SLOTS];
};
static_assert(offsetof(latest_header, version_min) == 8 &&
              offsetof(latest_header, version_max) == 12);
static_assert(offsetof(latest_header, type) == 16 && offsetof(latest_header, value_bytes) == 24);
static_assert(offsetof(latest_header, align) == 32 && offsetof(latest_header, latest) == 128);
static_assert(offsetof(latest_header, writer) == 256 && offsetof(latest_header, known) == 264);
static_assert(sizeof(latest_header) == 1408);

struct latest_copy {
    alignas(ring_line_bytes) shared_u64 sequence;  // 2k of value k; odd while it is written
    shared_u64 bytes;                              // of the value
    // The words follow.
};
inline constexpr std::uint64_t latest_words_offset = 64;
static_assert(sizeof(latest_copy) == 128 && offsetof(latest_copy, bytes) == 8);

struct latest_reader_slot {
    // While it sleeps: a number that it has not had there before; else 0.
    alignas(ring_line_bytes) shared_u64 armed;
};

constexpr std::uint64_t latest_copy_bytes(std::uint64_t value_bytes) noexcept {
    return (latest_words_offset + value_bytes + ring_line_bytes - 1) / ring_line_bytes *
           ring_line_bytes;
}
constexpr std::uint64_t latest_copy_offset(std::uint64_t value_bytes, std::uint64_t copy) noexcept {
    return sizeof(latest_header) + copy * latest_copy_bytes(value_bytes);
}
// Of DATA, before rounding to pages.
constexpr std::uint64_t latest_data_bytes(std::uint64_t value_bytes) noexcept {
    return latest_copy_offset(value_bytes, latest_copies);
}

// The header of a cell once it is there and right, false before it is written.
inline bool verify_latest(const latest_header& head, std::uint64_t type, std::uint64_t value_bytes,
                          std::uint64_t align) {
    const std::uint64_t magic = head.magic.load(std::memory_order_acquire);
    if (magic == 0) return false;
    if (magic != latest_magic) {
        detail::throw_error(EPROTO,
                            "latest: the segment does not hold a latest value (wrong "
                            "magic); is it another object's name?");
    }
    detail::check_versions("latest: the cell has", detail::versions_of(head),
                           {latest_version_min, latest_version_max});
    const std::uint64_t bytes = head.value_bytes.load(std::memory_order_relaxed);
    if (head.type.load(std::memory_order_relaxed) != type ||
        head.align.load(std::memory_order_relaxed) != align || bytes != value_bytes) {
        detail::throw_error(EPROTOTYPE, "latest: the cell holds another type, of up to " +
                                            std::to_string(bytes) + " bytes, not " +
                                            std::to_string(value_bytes) +
                                            "; are writer and reader of the same version?");
    }
    return true;
}

}  // namespace ipcdoor

#endif  // IPCDOOR_LATEST_LAYOUT_HPP
