// SPDX-License-Identifier: MIT
//
// Versions of the layouts in shared memory: each side says which ones it speaks.
#ifndef IPCDOOR_DETAIL_VERSIONS_HPP
#define IPCDOOR_DETAIL_VERSIONS_HPP

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>

#include <ipcdoor/error.hpp>

namespace ipcdoor::detail {

struct version_range {
    std::uint32_t oldest;
    std::uint32_t newest;
};

// What a header says, each word read once.
template <class Header>
version_range versions_of(const Header& head) noexcept {
    return {head.version_min.load(std::memory_order_relaxed),
            head.version_max.load(std::memory_order_relaxed)};
}

// Passes where there is a version in both. Else throws EPROTO where `theirs` is no range, and
// EPROTONOSUPPORT; the text begins with `who_has`, for example "stream: the peer speaks".
inline void check_versions(const std::string& who_has, const version_range& theirs,
                           const version_range& ours) {
    const auto text = [](const version_range& range) {
        return std::to_string(range.oldest) + " to " + std::to_string(range.newest);
    };
    if (theirs.oldest > theirs.newest || theirs.oldest == 0) {
        throw_error(EPROTO, who_has + " layouts " + text(theirs) +
                                ", which is no range: whoever wrote that is broken or hostile; "
                                "leave this segment or connection");
    }
    if (theirs.oldest > ours.newest || theirs.newest < ours.oldest) {
        throw_error(EPROTONOSUPPORT, who_has + " layouts " + text(theirs) +
                                         ", this library speaks " + text(ours) +
                                         "; update the older program");
    }
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_VERSIONS_HPP
