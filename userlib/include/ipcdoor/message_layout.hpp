// SPDX-License-Identifier: MIT
//
// The layout of a slot that carries messages: a header, the cursors of one ring for
// each priority (a lane), and the rings' data. Only magic, versions and the limit
// are read from a peer's header; where everything lies follows from the size of the
// slot, which the kernel tells.
//
//     0      header, and the words of lane 0
//     1024   pulses (signal.hpp)
//     2048   the words of lanes 1 to 3, where there are four lanes
//     ...    data of lane 0, of lane 1, ...
//
// Slots of less than two pages have one lane.
#ifndef IPCDOOR_MESSAGE_LAYOUT_HPP
#define IPCDOOR_MESSAGE_LAYOUT_HPP

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t message_magic = 0x5347534d44435049ULL;  // "IPCDMSGS"
inline constexpr std::uint32_t message_version_min = 1;                // oldest layout spoken here
inline constexpr std::uint32_t message_version_max = 1;                // newest

inline constexpr unsigned message_max_lanes = 4;
inline constexpr std::uint64_t message_lanes_min_slot_bytes = 8192;
inline constexpr std::uint64_t message_min_urgent_capacity = 512;

// The words of a lane: of the ring to the peer, and of the one from there.
struct message_lane {
    ring_output output;
    ring_input input;
};

// The start of a slot. Written once, magic last, before the peer may use it;
// only the words of the lanes change later.
struct message_slot {
    alignas(ring_line_bytes) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 max_message_bytes;  // longer ones are not received here
    shared_u32 flags;              // message_slot_*
    shared_u32 pad;
    shared_u64 descriptor_socket;  // where file descriptors come to, 0: nowhere
    message_lane first;
};

inline constexpr std::size_t message_lanes_offset = 2048;

// The slot's owner wants to know how those who send are scheduled.
inline constexpr std::uint32_t message_slot_asks_scheduling = 1;

// What an end says of itself, in the header of its slot.
struct message_greeting {
    std::uint64_t max_message_bytes = 0;
    std::uint32_t flags = 0;
    std::uint64_t descriptor_socket = 0;
};

static_assert(offsetof(message_slot, version_min) == 8 &&
              offsetof(message_slot, version_max) == 12);
static_assert(offsetof(message_slot, max_message_bytes) == 16);
static_assert(offsetof(message_slot, flags) == 24 &&
              offsetof(message_slot, descriptor_socket) == 32);
static_assert(offsetof(message_slot, first) == 128 && sizeof(message_lane) == 512);
static_assert(sizeof(message_slot) == 640 && sizeof(message_slot) <= ring_pulse_offset);

// Where the rings of a slot lie.
struct message_geometry {
    unsigned lanes = 0;
    std::array<std::uint64_t, message_max_lanes> capacity{};  // of the data, bytes
    std::array<std::uint64_t, message_max_lanes> offset{};    // from the start of the slot, bytes
};

// `lanes` is 0 where the slot is too small. Lane 0 gets the largest power of two that
// leaves something for the others.
constexpr message_geometry message_geometry_of(std::uint64_t slot_bytes) noexcept {
    message_geometry made;
    if (slot_bytes < message_lanes_min_slot_bytes) {
        made.capacity[0] = ring_capacity(slot_bytes);
        made.offset[0] = message_lanes_offset;
        made.lanes = made.capacity[0] != 0 ? 1 : 0;
        return made;
    }
    made.lanes = message_max_lanes;
    made.offset[0] = message_lanes_offset + (message_max_lanes - 1) * sizeof(message_lane);
    const std::uint64_t room = slot_bytes - made.offset[0];
    const auto urgent = [room](std::uint64_t first) {
        return std::bit_floor((room - first) / (message_max_lanes - 1));
    };
    std::uint64_t first = std::bit_floor(room);
    if (first > ring_max_capacity) first = ring_max_capacity;
    if (urgent(first) < message_min_urgent_capacity) first /= 2;
    made.capacity[0] = first;
    for (unsigned lane = 1; lane < message_max_lanes; ++lane) {
        const std::uint64_t capacity = urgent(first);
        made.capacity[lane] = capacity < ring_max_capacity ? capacity : ring_max_capacity;
        made.offset[lane] = made.offset[lane - 1] + made.capacity[lane - 1];
    }
    return made;
}

// The size of a slot with four lanes whose lane 0 has at least `capacity` bytes.
constexpr std::uint64_t message_slot_bytes(std::uint64_t capacity) noexcept {
    const std::uint64_t first =
        std::bit_ceil(capacity < ring_min_capacity ? ring_min_capacity : capacity);
    const std::uint64_t urgent =
        first / 8 < message_min_urgent_capacity ? message_min_urgent_capacity : first / 8;
    const std::uint64_t bytes =
        message_lanes_offset + (message_max_lanes - 1) * (sizeof(message_lane) + urgent) + first;
    return bytes < message_lanes_min_slot_bytes ? message_lanes_min_slot_bytes : bytes;
}

// The words of a lane in a slot.
inline message_lane& message_lane_of(void* slot, unsigned lane) noexcept {
    if (lane == 0) return static_cast<message_slot*>(slot)->first;
    return reinterpret_cast<message_lane*>(static_cast<std::byte*>(slot) +
                                           message_lanes_offset)[lane - 1];
}
inline const message_lane& message_lane_of(const void* slot, unsigned lane) noexcept {
    if (lane == 0) return static_cast<const message_slot*>(slot)->first;
    return reinterpret_cast<const message_lane*>(static_cast<const std::byte*>(slot) +
                                                 message_lanes_offset)[lane - 1];
}

// Makes the caller's own, fresh slot ready for a peer's verify_message_slot().
// Throws EINVAL where the slot is too small.
inline message_geometry init_message_slot(void* slot, std::uint64_t slot_bytes,
                                          const message_greeting& greeting) {
    const message_geometry made = message_geometry_of(slot_bytes);
    if (made.lanes == 0) {
        detail::throw_error(EINVAL, "channel: a slot of " + std::to_string(slot_bytes) +
                                        " bytes is too small for messages; listen with slots of "
                                        "at least a page");
    }
    message_slot& mine = *static_cast<message_slot*>(slot);
    mine.version_min.store(message_version_min, std::memory_order_relaxed);
    mine.version_max.store(message_version_max, std::memory_order_relaxed);
    mine.max_message_bytes.store(greeting.max_message_bytes, std::memory_order_relaxed);
    mine.flags.store(greeting.flags, std::memory_order_relaxed);
    mine.descriptor_socket.store(greeting.descriptor_socket, std::memory_order_relaxed);
    mine.magic.store(message_magic, std::memory_order_release);
    return made;
}

// False while the peer's header is not written. Throws EPROTO for a malformed one
// and EPROTONOSUPPORT where no layout is spoken by both.
inline bool verify_message_slot(const void* slot) {
    const message_slot& theirs = *static_cast<const message_slot*>(slot);
    const std::uint64_t magic = theirs.magic.load(std::memory_order_acquire);
    if (magic == 0) return false;
    if (magic != message_magic) {
        detail::throw_error(EPROTO,
                            "channel: the peer's slot does not hold messages (wrong magic); does "
                            "it speak something else on this connection?");
    }
    detail::check_versions("channel: the peer speaks", detail::versions_of(theirs),
                           {message_version_min, message_version_max});
    return true;
}

}  // namespace ipcdoor

#endif  // IPCDOOR_MESSAGE_LAYOUT_HPP
