// SPDX-License-Identifier: MIT
//
// The layout of a heap in the DATA of a segment. heap.hpp has what moves.
//
//     page 0    heap_header
//     page 1    nothing: each process puts a page of its own over it (heap_local)
//     page 2    three bitmaps, a bit for each granule of all that DATA may grow to
//     then      granules, up to heap_header::limit
//
// Offsets are in bytes from the start of DATA, and 0 is none.
#ifndef IPCDOOR_HEAP_LAYOUT_HPP
#define IPCDOOR_HEAP_LAYOUT_HPP

#include <cstddef>
#include <cstdint>

#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t heap_magic = 0x5041454844435049ULL;  // "IPCDHEAP"
inline constexpr std::uint32_t heap_version_min = 1;                // oldest layout spoken here
inline constexpr std::uint32_t heap_version_max = 1;                // newest

inline constexpr std::uint64_t heap_granule = 64;
inline constexpr std::uint64_t heap_max_align = 4096;
inline constexpr std::size_t heap_buckets = 64;
inline constexpr std::size_t heap_max_name = 255;

// heap_journal::operation
inline constexpr std::uint64_t heap_allocating = 1;
inline constexpr std::uint64_t heap_freeing = 2;

// What is under way, and how it ends if its process dies: either way the granules
// [first, first + granules) are free then. Written before anything else is changed,
// `operation` last; `operation` is 0 again when all is done.
struct heap_journal {
    shared_u64 operation;
    shared_u64 first;
    shared_u64 granules;
    shared_u64 used;    // heap_header::used and
    shared_u64 blocks;  // heap_header::blocks, once they are free
    // The word that leads to a root in these granules, 0 where none does, and what it has to
    // hold instead once they are free.
    shared_u64 link;
    shared_u64 target;
};

struct heap_header {
    // Written once, magic last.
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 page_bytes;
    shared_u64 max_bytes;  // that DATA may grow to

    // Who changes the heap, heap_identity(); 0 while nobody does.
    alignas(ring_line_bytes) shared_u64 lock;
    // A bit for each slot whose process sleeps until something changes.
    alignas(ring_line_bytes) shared_u64 waiting[4];

    // All that follows is changed by the lock's owner alone.
    alignas(ring_line_bytes) heap_journal journal;
    alignas(ring_line_bytes) shared_u64 limit;  // granules from the start of DATA
    shared_u64 used;                            // of them, allocated
    shared_u64 blocks;                          // allocations
    shared_u64 peak;                            // the most that `used` was
    shared_u64 hint;                            // where to look for room first
    shared_u64 serial;                          // of the latest root
    shared_u64 takeovers;                       // locks taken from the dead
    shared_u64 reclaimed;                       // allocations taken from the dead
    // By the name's hash: offsets of heap_root.
    alignas(ring_line_bytes) shared_u64 roots[heap_buckets];
};
static_assert(offsetof(heap_header, version_min) == 8 && offsetof(heap_header, version_max) == 12);
static_assert(offsetof(heap_header, page_bytes) == 16 && offsetof(heap_header, max_bytes) == 24);
static_assert(offsetof(heap_header, lock) == 128 && offsetof(heap_header, waiting) == 256);
static_assert(offsetof(heap_header, journal) == 384 && offsetof(heap_journal, target) == 48);
static_assert(offsetof(heap_header, limit) == 512 && offsetof(heap_header, reclaimed) == 568);
static_assert(offsetof(heap_header, roots) == 640 && sizeof(heap_header) == 1152);

// A named object: at the start of an allocation, followed by the name and the object.
struct heap_root {
    shared_u64 next;     // of the same bucket
    shared_u64 builder;  // heap_identity() of who constructs or destroys the object; else 0
    shared_u64 serial;   // its constructor's allocations are tagged with it; else 0
    shared_u64 type;
    shared_u64 bytes;       // of the object
    shared_u32 object;      // where it is, from here
    shared_u32 name_bytes;  // behind this
};
static_assert(sizeof(heap_root) == 48 && offsetof(heap_root, name_bytes) == 44);

// The granule before an allocation that has an owner.
struct heap_owner {
    alignas(heap_granule) shared_u64 tag;  // heap_identity(), heap_root_tag(), or 0: all's
};
static_assert(sizeof(heap_owner) == heap_granule);

// (slot, generation) in a word that is never 0, with its lowest bit 0.
constexpr std::uint64_t heap_identity(std::uint32_t slot, std::uint32_t generation) noexcept {
    return std::uint64_t{generation} << 32 | (std::uint64_t{slot} + 1) << 1;
}
constexpr std::uint64_t heap_identity_slot(std::uint64_t identity) noexcept {
    return ((identity & 0xffffffff) >> 1) - 1;
}
constexpr std::uint32_t heap_identity_generation(std::uint64_t identity) noexcept {
    return static_cast<std::uint32_t>(identity >> 32);
}
// Of what a root's constructor allocates.
constexpr std::uint64_t heap_root_tag(std::uint64_t serial) noexcept { return serial << 1 | 1; }
constexpr bool is_heap_root_tag(std::uint64_t tag) noexcept { return (tag & 1) != 0; }
constexpr std::uint64_t heap_root_tag_serial(std::uint64_t tag) noexcept { return tag >> 1; }

// Where things lie; follows from the size that the segment's creator has declared.
struct heap_geometry {
    std::uint64_t page_bytes = 0;
    std::uint64_t local_offset = 0;
    std::uint64_t bitmap_offset = 0;
    std::uint64_t bitmap_words = 0;  // of each
    std::uint64_t first = 0;         // granule
    std::uint64_t max = 0;           // granules

    constexpr std::uint64_t bitmap(unsigned number) const noexcept {
        return bitmap_offset + number * bitmap_words * 8;
    }
    // Before anything is allocated.
    constexpr std::uint64_t overhead_bytes() const noexcept { return first * heap_granule; }
};

constexpr heap_geometry heap_geometry_of(std::uint64_t max_data_bytes,
                                         std::uint64_t page_bytes) noexcept {
    heap_geometry made;
    made.page_bytes = page_bytes;
    made.local_offset = page_bytes;
    made.bitmap_offset = 2 * page_bytes;
    made.max = max_data_bytes / heap_granule;
    made.bitmap_words = (made.max + 63) / 64;
    const std::uint64_t end = made.bitmap_offset + 3 * made.bitmap_words * 8;
    made.first = (end + heap_granule - 1) / heap_granule;
    return made;
}
static_assert(heap_geometry_of(1 << 20, 4096).overhead_bytes() == 8192 + 3 * 2048);

// The size of DATA of a heap for so many bytes in 64-byte granules; for create_options.
constexpr std::uint64_t heap_data_bytes(std::uint64_t bytes, std::uint64_t page_bytes = 4096) {
    const std::uint64_t least = 2 * page_bytes + bytes + heap_granule;
    // A granule of 64 bytes takes 3 bits more.
    const std::uint64_t all = least + least * 3 / 508 + 3 * 64;
    return (all + page_bytes - 1) / page_bytes * page_bytes;
}
static_assert(heap_data_bytes(1 << 20) -
                  heap_geometry_of(heap_data_bytes(1 << 20), 4096).overhead_bytes() >=
              1 << 20);

}  // namespace ipcdoor

#endif  // IPCDOOR_HEAP_LAYOUT_HPP
