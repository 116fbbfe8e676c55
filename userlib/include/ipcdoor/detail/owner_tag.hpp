// SPDX-License-Identifier: MIT
//
// The word that names an attachment in shared memory, and whether that one is alive.
#ifndef IPCDOOR_DETAIL_OWNER_TAG_HPP
#define IPCDOOR_DETAIL_OWNER_TAG_HPP

#include <cstdint>

#include <ipcdoor.h>

#include <ipcdoor/error.hpp>

namespace ipcdoor {

// An attachment, which a slot and its generation name for ever; never 0.
constexpr std::uint64_t owner_tag(std::uint32_t slot, std::uint32_t generation) noexcept {
    return std::uint64_t{generation} << 32 | (slot + 1);
}

namespace detail {

// Whether the attachment that a tag names is alive, as an endpoint of the same segment with so
// many slots sees it. What is no tag names nobody. On soft, one that died before this endpoint
// came reads as a slot without anybody.
inline bool owner_lives(ipcdoor_endpoint* seen_from, std::uint32_t slots, std::uint64_t tag) {
    const std::uint32_t slot = static_cast<std::uint32_t>(tag) - 1;
    if (slot >= slots) return false;
    struct ipcdoor_slot_state state {};
    throw_if(ipcdoor_slot_state(seen_from, slot, &state));
    return state.state == IPCDOOR_SLOT_ALIVE && state.generation == tag >> 32;
}

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_DETAIL_OWNER_TAG_HPP
