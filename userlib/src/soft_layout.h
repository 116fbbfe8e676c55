// SPDX-License-Identifier: MIT
/*
 * What endpoints of the software back end share: the pages of a slot, and the
 * messages and files that bring them together.
 *
 * A slot is one file: its *control* area, rounded up to pages, then the slot
 * memory proper. Its owner alone writes it; everybody else maps it read-only
 * and believes nothing in it.
 *
 * Rings are counted where the ringer may write: in its own control area, in the
 * outbox for the target's slot. So a hostile peer can only spoil its own
 * counts, and a receiver's pending rings are what its peers' outboxes say minus
 * what it took already.
 *
 * `armed` is how a receiver asks for a wake-up: 0 while nobody sleeps, else an
 * epoch that changes each time somebody goes to sleep. A ringer counts first and
 * then reads `armed`; a receiver stores `armed` first and then re-reads the
 * counts; all four are sequentially consistent, so one of the two sees the
 * other. A ringer sends at most one wake-up for an epoch.
 */
#ifndef IPCDOOR_SRC_SOFT_LAYOUT_H
#define IPCDOOR_SRC_SOFT_LAYOUT_H

#include <linux/ipcdoor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ipcdoor::backend::soft {

inline constexpr std::uint64_t control_magic = 0x31544f4c53435049;   // "IPCSLOT1"
inline constexpr std::uint64_t message_magic = 0x31474d4653435049;   // "IPCSFMG1"
inline constexpr std::uint64_t listener_magic = 0x314e534c53435049;  // "IPCSLSN1"
inline constexpr std::uint64_t segment_magic = 0x3147455353435049;   // "IPCSSEG1"
inline constexpr std::uint32_t layout_version = 1;

// Of one segment's slots and data together; the pages are real, not promised.
inline constexpr std::uint64_t max_segment_bytes = std::uint64_t{1} << 30;

using shared_u32 = std::atomic<std::uint32_t>;
using shared_u64 = std::atomic<std::uint64_t>;
static_assert(shared_u32::is_always_lock_free && sizeof(shared_u32) == 4);
static_assert(shared_u64::is_always_lock_free && sizeof(shared_u64) == 8);

// What the owner of the control area rang into one slot.
struct alignas(64) outbox {
    shared_u32 generation;  // of the slot that the counts are for; others: none
    std::uint32_t pad;
    shared_u64 total;  // grows after a count did: worth looking again
    std::uint64_t pad2[6];
    shared_u64 count[IPCDOOR_VECTORS];
    shared_u64 value[IPCDOOR_VECTORS];
};
static_assert(sizeof(outbox) == 1088);

struct control {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t slots;
    std::uint32_t slot;
    std::uint32_t generation;
    std::uint32_t rights;
    shared_u32 closed;  // 1: closed in order
    std::uint64_t pad[4];
    alignas(64) shared_u64 armed;
    // The signal that rings of signal_mask's vectors send to signal_thread.
    alignas(64) shared_u64 signal_mask;
    shared_u32 signal_number;
    shared_u32 signal_thread;
    alignas(64) outbox out[];
};
static_assert(offsetof(control, out) == 192);

inline constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

inline std::uint64_t control_bytes(std::uint32_t slots, std::uint64_t page_bytes) {
    return round_up(sizeof(control) + slots * sizeof(outbox), page_bytes);
}

// Who an endpoint says that it is; the first message on every socket. On a
// connection the client's carries its slot's file and, if data_bytes, DATA's;
// the server's answer carries its slot's. In a named segment the files have
// names, and the newcomer alone introduces itself.
struct introduction {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t slot;
    std::uint32_t generation;
    std::uint32_t rights;
    std::uint64_t slot_bytes;
    std::uint64_t data_bytes;
};
static_assert(sizeof(introduction) == 40);

// The file beside a listener's socket: what its connections look like.
struct listener_file {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t pad;
    std::uint64_t slot_bytes;
    std::uint64_t data_bytes;
};
static_assert(sizeof(listener_file) == 32);

// The file that describes a named segment.
struct segment_file {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t slots;
    std::uint64_t slot_bytes;
    std::uint64_t max_data_bytes;
};
static_assert(sizeof(segment_file) == 32);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_LAYOUT_H
