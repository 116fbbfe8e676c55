// SPDX-License-Identifier: MIT
//
// What a publisher and a subscriber share: the two slots of their connection. The samples
// themselves lie in the publisher's memory (memory.hpp), cut into chunks of one size.
//
//     publisher's slot                      subscriber's slot
//     0     header, pool                    0     header
//     128   tail, floor, missed, awaited    128   head
//     256   entries, one for each of the    256   armed
//           last queue_capacity samples     384   holds, one for each sample in use
//
// Each slot has one writer, and everything that comes from the other side is read once,
// checked, then used. See publish.hpp for the protocol.
#ifndef IPCDOOR_PUBLISH_LAYOUT_HPP
#define IPCDOOR_PUBLISH_LAYOUT_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t publish_magic = 0x3142555044435049ULL;    // "IPCDPUB1"
inline constexpr std::uint64_t subscribe_magic = 0x3142555344435049ULL;  // "IPCDSUB1"
inline constexpr std::uint32_t publish_version_min = 1;
inline constexpr std::uint32_t publish_version_max = 1;

inline constexpr std::uint32_t publish_max_queue = 4096;  // entries of a queue
inline constexpr std::uint32_t publish_max_held = 256;    // samples in use by a subscriber
inline constexpr std::uint32_t publish_max_chunks = 1U << 20;
inline constexpr std::uint64_t publish_max_chunk_bytes = std::uint64_t{1} << 40;
inline constexpr std::uint64_t publish_chunk_alignment = 64;

// A published sample, as a queue names it.
struct publish_entry {
    shared_u64 sequence;  // of all that its publisher published, from 1
    shared_u64 bytes;
    shared_u64 published_ns;  // CLOCK_MONOTONIC
    shared_u32 chunk;
    shared_u32 pad;
};
static_assert(sizeof(publish_entry) == 32);

struct publisher_slot {
    // Written once, magic last.
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 chunk_bytes;  // of each chunk; the next begins at the next aligned address
    shared_u64 pool_bytes;
    shared_u64 type;  // what the publisher says its samples are, 0: nothing
    shared_u32 chunks;
    shared_u32 queue_capacity;
    shared_u32 max_held;
    shared_u32 huge;        // 1: the pool is of huge pages
    shared_u64 pool_token;  // of the packet with its descriptor

    alignas(ring_line_bytes) shared_u64 tail;  // entries put into this queue
    shared_u64 floor;    // entries before this one were taken back; never beyond the tail
    shared_u64 missed;   // samples that found no room in this queue
    shared_u64 awaited;  // the publisher waits for room: not 0, and another number each time

    alignas(ring_line_bytes) publish_entry entries[];
};
static_assert(offsetof(publisher_slot, tail) == 128 && offsetof(publisher_slot, entries) == 256);

struct subscriber_slot {
    // Written once, magic last.
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 descriptor_socket;  // where the pool's descriptor comes to

    alignas(ring_line_bytes) shared_u64 head;   // entries taken, or passed over
    shared_u32 closed;                          // 1: takes no more, but may hold some
    alignas(ring_line_bytes) shared_u64 armed;  // the tail that it sleeps for, 0: it does not
    // The chunks in use, plus 1; 0: none.
    alignas(ring_line_bytes) shared_u32 holds[publish_max_held];
};
static_assert(offsetof(subscriber_slot, head) == 128 && offsetof(subscriber_slot, armed) == 256 &&
              offsetof(subscriber_slot, holds) == 384);
// Every slot has a page, so either side can look at the other one's before it knows what that is.
static_assert(sizeof(publisher_slot) <= 4096 && sizeof(subscriber_slot) <= 4096);

// The size of the slots of a connection with such a queue.
constexpr std::uint64_t publish_slot_bytes(std::uint32_t queue_capacity) noexcept {
    const std::uint64_t queue =
        sizeof(publisher_slot) + std::uint64_t{queue_capacity} * sizeof(publish_entry);
    return queue > sizeof(subscriber_slot) ? queue : sizeof(subscriber_slot);
}

// From the start of one chunk to the next.
constexpr std::uint64_t publish_stride(std::uint64_t chunk_bytes) noexcept {
    return (chunk_bytes + publish_chunk_alignment - 1) / publish_chunk_alignment *
           publish_chunk_alignment;
}

namespace detail {

// False while the header is not written. Throws EPROTO and EPROTONOSUPPORT.
template <class Slot>
bool verify_publish_header(const Slot& theirs, std::uint64_t expected) {
    const std::uint64_t magic = theirs.magic.load(std::memory_order_acquire);
    if (magic == 0) return false;
    if (magic != expected) {
        throw_error(EPROTO,
                    "publish: the peer's slot does not hold what a publisher and a subscriber "
                    "share (wrong magic); is this the name of something else?");
    }
    check_versions("publish: the peer speaks", versions_of(theirs),
                   {publish_version_min, publish_version_max});
    return true;
}

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_PUBLISH_LAYOUT_HPP
