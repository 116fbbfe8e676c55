// SPDX-License-Identifier: MIT
//
// A publisher's books: which chunks of its memory are free. Nobody else writes them, and
// what is in use is not counted but found out: when no chunk is known to be free, all that
// somebody may still read are marked, and the others are free. So no count can be wrong,
// whoever died, and a chunk costs nothing while it is passed around.
#ifndef IPCDOOR_DETAIL_CHUNK_POOL_HPP
#define IPCDOOR_DETAIL_CHUNK_POOL_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <ipcdoor/memory.hpp>
#include <ipcdoor/publish_layout.hpp>

namespace ipcdoor::detail {

class chunk_pool {
public:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    chunk_pool(std::uint64_t chunk_bytes, std::uint32_t chunks, const page_options& wanted)
        : chunk_bytes_(chunk_bytes),
          pages_(publish_stride(chunk_bytes) * chunks, wanted),
          loaned_(chunks, false),
          marked_(chunks, false) {
        free_.reserve(chunks);
        for (std::uint32_t chunk = chunks; chunk-- > 0;) free_.push_back(chunk);
    }

    std::uint32_t chunks() const noexcept { return static_cast<std::uint32_t>(loaned_.size()); }
    std::uint64_t chunk_bytes() const noexcept { return chunk_bytes_; }
    const memory& pages() const noexcept { return pages_; }
    std::span<std::byte> chunk(std::uint32_t number) const noexcept {
        return pages_.bytes().subspan(number * publish_stride(chunk_bytes_), chunk_bytes_);
    }

    // A chunk to be filled, or none.
    std::uint32_t lend() noexcept {
        if (free_.empty()) return none;
        const std::uint32_t chunk = free_.back();
        free_.pop_back();
        loaned_[chunk] = true;
        return chunk;
    }
    // It was published: the marks tell how long it is in use.
    void publish(std::uint32_t chunk) noexcept { loaned_[chunk] = false; }
    // It was not, and nobody has seen it.
    void give_back(std::uint32_t chunk) noexcept {
        loaned_[chunk] = false;
        free_.push_back(chunk);
    }

    // Looks for free chunks: `mark_used` calls its argument with each chunk that is in use.
    template <class MarkUsed>
    void sweep(MarkUsed mark_used) {
        marked_ = loaned_;
        mark_used([this](std::uint32_t chunk) { marked_[chunk] = true; });
        free_.clear();
        for (std::uint32_t chunk = chunks(); chunk-- > 0;)
            if (!marked_[chunk]) free_.push_back(chunk);
    }

private:
    const std::uint64_t chunk_bytes_;
    const memory pages_;
    std::vector<bool> loaned_;
    std::vector<bool> marked_;
    std::vector<std::uint32_t> free_;  // the lowest last
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CHUNK_POOL_HPP
