// SPDX-License-Identifier: MIT
//
// What all that runs over a connection agrees on: the two slots, and which vector of the
// doorbell means what.
#ifndef IPCDOOR_DETAIL_CONNECTION_HPP
#define IPCDOOR_DETAIL_CONNECTION_HPP

#include <cerrno>
#include <cstdint>
#include <string>

#include <ipcdoor.h>

#include <ipcdoor/error.hpp>

namespace ipcdoor::detail {

// Vectors: 4 is the pulses' (signal.hpp), 8 to 63 are the user's.
inline constexpr std::uint32_t data_vector = 1;   // for who receives: there is something
inline constexpr std::uint32_t hello_vector = 3;  // the header of the ringer's slot is written
// For who sends: there is room. Channels have one for each lane, the others that of lane 0.
constexpr std::uint32_t space_vector(unsigned lane) noexcept { return lane == 0 ? 2 : 4 + lane; }
constexpr std::uint64_t vector_bit(std::uint32_t vector) noexcept {
    return std::uint64_t{1} << vector;
}

// A ring was counted, but a signal that the peer wants with it could not be sent (soft:):
// that is the peer's affair, and no reason to fail here.
constexpr bool lacks_only_signal(int rung) noexcept {
    return rung == -EAGAIN || rung == -EOPNOTSUPP;
}

// Where an endpoint's slot and its peer's are.
struct connection_slots {
    std::uint32_t own = 0;
    std::uint32_t peer = 0;
    std::uint64_t bytes = 0;  // of each
    void* mine = nullptr;
    const void* theirs = nullptr;
};

// `subject` begins the error's text. Throws EINVAL for what is no connection.
inline connection_slots slots_of_connection(ipcdoor_endpoint* end, const std::string& subject) {
    struct ipcdoor_endpoint_info info {};
    throw_if(ipcdoor_endpoint_info(end, &info));
    if ((info.flags & IPCDOOR_ENDPOINT_CONNECTION) == 0 || info.slots != 2) {
        throw_error(EINVAL, subject +
                                ": this endpoint is not one of a connection; get it from "
                                "connect() or accept()");
    }
    const auto memory = [end](std::uint32_t slot) {
        void* const at = ipcdoor_slot_memory(end, slot);
        if (at == nullptr) throw_if(-errno);
        return at;
    };
    const std::uint32_t peer = 1 - info.slot;
    return {info.slot, peer, info.slot_bytes, memory(info.slot), memory(peer)};
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CONNECTION_HPP
