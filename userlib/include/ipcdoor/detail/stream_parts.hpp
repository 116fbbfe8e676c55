// SPDX-License-Identifier: MIT
//
// The parts of a gathered write and a scattered read, whatever describes them.
#ifndef IPCDOOR_DETAIL_STREAM_PARTS_HPP
#define IPCDOOR_DETAIL_STREAM_PARTS_HPP

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include <ipcdoor/bytes.hpp>

namespace ipcdoor::detail {

// To be written.
inline std::span<const std::byte> part_bytes(std::span<const std::byte> part) noexcept {
    return part;
}
inline std::span<const std::byte> part_bytes(const bytes_view& part) noexcept {
    return part.bytes();
}
inline std::span<const std::byte> part_bytes(const iovec& part) noexcept {
    return {static_cast<const std::byte*>(part.iov_base), part.iov_len};
}

// To be read into.
inline std::span<std::byte> part_room(std::span<std::byte> part) noexcept { return part; }
inline std::span<std::byte> part_room(const iovec& part) noexcept {
    return {static_cast<std::byte*>(part.iov_base), part.iov_len};
}

template <class Parts>
std::size_t parts_bytes(const Parts& parts) noexcept {
    std::size_t total = 0;
    for (const auto& part : parts) {
        if constexpr (requires { part_bytes(part); })
            total += part_bytes(part).size();
        else
            total += part_room(part).size();
    }
    return total;
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_STREAM_PARTS_HPP
