// SPDX-License-Identifier: MIT
/*
 * The pages of a slot, as their owner has them and as the others see them, and
 * the checks that stand between a peer's file and our mapping of it.
 */
#ifndef IPCDOOR_SRC_SOFT_SLOT_H
#define IPCDOOR_SRC_SOFT_SLOT_H

#include <cstdint>

#include "soft_layout.h"
#include "sys.h"

namespace ipcdoor::backend::soft {

// The sizes of a segment; checked by whoever made or read it.
struct shape {
    std::uint32_t slots = 2;
    std::uint64_t slot_bytes = 0;
    std::uint64_t data_bytes = 0;
    std::uint64_t max_data_bytes = 0;

    std::uint64_t control_bytes() const;
    std::uint64_t slot_file_bytes() const { return control_bytes() + slot_bytes; }
    // Throws failure(error) unless the sizes are whole pages within the limit.
    void check(int error) const;
};

// Mapped pages of one slot.
struct slot_pages {
    sys::mapping pages;
    std::uint64_t control_bytes = 0;

    const control& head() const { return *static_cast<const control*>(pages.address()); }
    control& own_head() const { return *static_cast<control*>(pages.address()); }
    void* memory() const { return static_cast<char*>(pages.address()) + control_bytes; }
};

struct seat {
    std::uint32_t slot = 0;
    std::uint32_t generation = 1;
    std::uint32_t rights = 0;
};

// Fills the empty file `fd` with a slot, maps it writable.
slot_pages make_slot(int fd, const shape& shape, const seat& seat);

// A new slot in a memory file that nobody else can write or shrink.
slot_pages make_sealed_slot(const shape& shape, const seat& seat, owned_fd& fd);

// A peer's slot, read-only. `sealed` demands what make_sealed_slot() gives.
// Throws failure(EPROTO) where file or content are not what they must be.
slot_pages open_slot(int fd, const shape& shape, const seat& expected, bool sealed);

// DATA of a connection: a memory file that can neither shrink nor grow.
owned_fd make_data(std::uint64_t data_bytes, std::uint64_t max_data_bytes);
void check_sealed_data(int fd, std::uint64_t data_bytes);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_SLOT_H
