// SPDX-License-Identifier: MIT
//
// The layouts of semaphores, mutexes, condition variables and barriers in DATA, where
// all that use one may write. Fields have fixed sizes, so programs of 32 and 64 bits
// share them. A page of zeros holds nothing yet: detail/shared_object.hpp says how an
// object comes into being and how it is found.
#ifndef IPCDOOR_SYNC_LAYOUT_HPP
#define IPCDOOR_SYNC_LAYOUT_HPP

#include <bit>
#include <cstddef>
#include <cstdint>

#include <ipcdoor.h>

#include <ipcdoor/detail/owner_tag.hpp>
#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor {

inline constexpr std::uint64_t semaphore_magic = 0x414d455344435049ULL;           // "IPCDSEMA"
inline constexpr std::uint64_t resource_semaphore_magic = 0x4353455244435049ULL;  // "IPCDRESC"
inline constexpr std::uint64_t mutex_magic = 0x5854554d44435049ULL;               // "IPCDMUTX"
inline constexpr std::uint64_t condition_magic = 0x444e4f4344435049ULL;           // "IPCDCOND"
inline constexpr std::uint64_t barrier_magic = 0x5252414244435049ULL;             // "IPCDBARR"

inline constexpr std::uint32_t sync_version_min = 1;  // oldest layouts spoken here
inline constexpr std::uint32_t sync_version_max = 1;  // newest

// Where a placed object may start.
inline constexpr std::size_t sync_align = ring_line_bytes;

inline constexpr std::uint32_t semaphore_max_value = 0x7fffffff;
inline constexpr std::uint32_t resource_max_units = 65'536;
inline constexpr std::uint32_t barrier_max_parties = 65'536;
inline constexpr std::uint32_t mutex_max_waiters = 256;

// The start of each object. `maker` says who makes it ready; the magic comes last.
struct sync_header {
    alignas(sync_align) shared_u64 magic;
    shared_u32 version_min;
    shared_u32 version_max;
    shared_u64 maker;  // an owner_tag(), 0: nobody yet
    shared_u64 bytes;  // of the object
    shared_u64 parameter[4];
};
static_assert(sizeof(sync_header) == 128 && offsetof(sync_header, version_min) == 8);
static_assert(offsetof(sync_header, version_max) == 12 && offsetof(sync_header, maker) == 16);
static_assert(offsetof(sync_header, bytes) == 24 && offsetof(sync_header, parameter) == 32);

// Who waits for the doorbell: a bit for each slot, set by the waiter before it looks for
// the last time, taken off by who rings it. generation[] says which attachment of the slot
// set it, so that the bit of a dead one is not mistaken for its successor's.
struct sync_line {
    alignas(sync_align) shared_u64 sleeping[IPCDOOR_MAX_SLOTS / 64];
    shared_u64 polling[IPCDOOR_MAX_SLOTS / 64];  // those that have asked for fd()
    shared_u32 next;                             // the slot to look at first, for fairness
    shared_u32 pad;
    alignas(sync_align) shared_u32 generation[IPCDOOR_MAX_SLOTS];
};
static_assert(sizeof(sync_line) == 1152 && offsetof(sync_line, polling) == 32);
static_assert(offsetof(sync_line, next) == 64 && offsetof(sync_line, generation) == 128);

// parameter[0]: the largest count.
struct semaphore_layout {
    sync_header header;
    alignas(sync_align) shared_u32 count;
    shared_u32 pad;
    sync_line line;
};
static_assert(offsetof(semaphore_layout, count) == 128 && offsetof(semaphore_layout, line) == 256);
static_assert(sizeof(semaphore_layout) == 1408);

// parameter[0]: the number of units, which follow: 0 free, else their owner_tag().
struct resource_layout {
    sync_header header;
    sync_line line;
};
static_assert(offsetof(resource_layout, line) == 128 && sizeof(resource_layout) == 1280);

// parameter[0], [1]: inode and device of the PID namespace whose thread numbers are meant.
//
// `word` is a priority inheritance futex and beside it, in the same 64 bits, who owns it:
// the kernel and user space take the futex apart, user space alone takes both in one step.
struct mutex_layout {
    sync_header header;
    alignas(sync_align) shared_u64 word;
    shared_u32 state;  // mutex_consistent and so on
    shared_u32 pad;
    // {tid, record} of threads that may be handed the futex by the kernel.
    alignas(sync_align) shared_u64 waiters[mutex_max_waiters];
};
static_assert(offsetof(mutex_layout, word) == 128 && offsetof(mutex_layout, state) == 136);
static_assert(offsetof(mutex_layout, waiters) == 256 && sizeof(mutex_layout) == 2304);

inline constexpr std::uint32_t mutex_consistent = 0;
inline constexpr std::uint32_t mutex_inconsistent = 1;     // an owner died, its successor holds it
inline constexpr std::uint32_t mutex_not_recoverable = 2;  // and gave it up as it was

// The owner's record, 0 never: 24 bits of generation, 8 of slot.
constexpr std::uint32_t mutex_record(std::uint32_t slot, std::uint32_t generation) noexcept {
    return generation << 8 | slot;
}
// The futex is the half at the lower address.
constexpr std::uint64_t mutex_word(std::uint32_t futex, std::uint32_t record) noexcept {
    return std::endian::native == std::endian::little ? std::uint64_t{record} << 32 | futex
                                                      : std::uint64_t{futex} << 32 | record;
}
constexpr std::uint32_t mutex_futex_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(std::endian::native == std::endian::little ? word
                                                                                 : word >> 32);
}
constexpr std::uint32_t mutex_record_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(std::endian::native == std::endian::little ? word >> 32
                                                                                 : word);
}

struct condition_layout {
    sync_header header;
    alignas(sync_align) shared_u64 notified;  // grows with each notification
    sync_line line;
};
static_assert(offsetof(condition_layout, notified) == 128);
static_assert(offsetof(condition_layout, line) == 256 && sizeof(condition_layout) == 1408);

inline constexpr std::size_t barrier_epochs = 64;

// parameter[0]: the number of parties, whose places follow: barrier_place().
struct barrier_layout {
    sync_header header;
    alignas(sync_align) shared_u64 word;                       // barrier_word()
    alignas(sync_align) shared_u64 ended[barrier_epochs];      // {epoch, phase that broke}
    alignas(sync_align) shared_u32 member[IPCDOOR_MAX_SLOTS];  // generation of who takes part
    sync_line line;
};
static_assert(offsetof(barrier_layout, word) == 128 && offsetof(barrier_layout, ended) == 256);
static_assert(offsetof(barrier_layout, member) == 768 && offsetof(barrier_layout, line) == 1792);
static_assert(sizeof(barrier_layout) == 2944);

// Phases are numbered, also across resets; an epoch ends with a reset.
inline constexpr std::uint64_t barrier_broken = std::uint64_t{1} << 63;
constexpr std::uint64_t barrier_word(std::uint32_t epoch, std::uint32_t phase) noexcept {
    return std::uint64_t{epoch & 0x7fffffff} << 32 | phase;
}
// An arrival in a phase: the phase, and the attachment as in mutex_record().
constexpr std::uint64_t barrier_place(std::uint32_t phase, std::uint32_t record) noexcept {
    return std::uint64_t{phase} << 32 | record;
}

}  // namespace ipcdoor

#endif  // IPCDOOR_SYNC_LAYOUT_HPP
