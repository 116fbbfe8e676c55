// SPDX-License-Identifier: MIT
//
// The granules of a heap: which are free, which are of allocations, and the journal, by which
// whoever comes next ends what a dead process has begun.
#ifndef IPCDOOR_DETAIL_HEAP_GRANULES_HPP
#define IPCDOOR_DETAIL_HEAP_GRANULES_HPP

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#include <ipcdoor/detail/heap_words.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_layout.hpp>

namespace ipcdoor::detail {

struct heap_count {
    std::uint64_t blocks = 0;  // allocations
    std::uint64_t owned = 0;   // of these, with an owner
    std::uint64_t used = 0;    // bytes
    std::uint64_t free = 0;
    std::uint64_t largest_free = 0;
};

class heap_granules {
public:
    // Of an allocation; with its owner's granule, where it has one.
    struct block {
        std::uint64_t first = 0;
        std::uint64_t granules = 0;
        bool owned = false;
    };

    static constexpr unsigned used_bits = 0;   // granules of allocations
    static constexpr unsigned first_bits = 1;  // of these, the first ones
    static constexpr unsigned owned_bits = 2;  // of these, those that are a heap_owner

    // Grows DATA where it is too small for what the heap itself needs.
    heap_granules(endpoint& end, const heap_geometry& place) : end_(end), place_(place) {
        grow_data(place_.overhead_bytes() + heap_granule);
        const auto data = end.data();
        base_ = data.data();
        mapped_ = data.size();
    }
    heap_granules(const heap_granules&) = delete;
    heap_granules& operator=(const heap_granules&) = delete;

    const heap_geometry& place() const noexcept { return place_; }
    std::byte* base() const noexcept { return base_; }
    heap_header& header() const noexcept { return *reinterpret_cast<heap_header*>(base_); }
    shared_u64& word_at(std::uint64_t offset) const noexcept {
        return *reinterpret_cast<shared_u64*>(base_ + offset);
    }
    heap_owner& owner_of(std::uint64_t granule) const noexcept {
        return *reinterpret_cast<heap_owner*>(base_ + granule * heap_granule);
    }

    // How much of DATA this process has mapped; grows.
    std::uint64_t mapped() const noexcept { return mapped_.load(std::memory_order_relaxed); }
    void refresh() { mapped_.store(end_.data().size(), std::memory_order_relaxed); }

    // Of any pointer: what lies before DATA is far behind it.
    std::uint64_t distance_of(const void* pointer) const noexcept {
        return std::uint64_t{reinterpret_cast<std::uintptr_t>(pointer)} -
               std::uint64_t{reinterpret_cast<std::uintptr_t>(base_)};
    }

    // ---- the lock is held ----

    // What every operation starts with: sizes that make sense, and nothing half done.
    void look_around() {
        const std::uint64_t limit = header().limit.load(std::memory_order_acquire);
        if (limit > mapped() / heap_granule) refresh();
        if (limit <= place_.first || limit > mapped() / heap_granule || limit > place_.max)
            heap_damaged("its limit is " + std::to_string(limit) + " granules");
        limit_ = limit;
        if (header().journal.operation.load(std::memory_order_acquire) != 0) recover();
    }
    // In granules from the start of DATA, as of look_around().
    std::uint64_t limit() const noexcept { return limit_; }

    bool bit(unsigned bitmap, std::uint64_t granule) const noexcept {
        return (bits(bitmap, granule / 64).load(std::memory_order_relaxed) >> granule % 64 & 1) !=
               0;
    }
    bool is_place_of_root(std::uint64_t offset) const noexcept {
        return offset % heap_granule == 0 && offset / heap_granule >= place_.first &&
               offset / heap_granule < limit_;
    }

    // ---- room ----

    // `granules` free ones, so placed that the one `prefix` after the first is a multiple of
    // `align`; 0 where there are none.
    std::uint64_t find_room(std::uint64_t granules, std::uint64_t align, std::uint64_t prefix) {
        if (granules > limit_ - place_.first) return 0;
        std::uint64_t hint = header().hint.load(std::memory_order_relaxed);
        if (hint < place_.first || hint > limit_) hint = place_.first;
        if (const auto found = find_run(hint, limit_, granules, align, prefix)) return found;
        return find_run(place_.first, std::min(limit_, hint + granules + align), granules, align,
                        prefix);
    }

    // Grows DATA so that there is room.
    void grow_for(std::uint64_t granules, std::uint64_t align) {
        const std::uint64_t least = limit_ + granules + align - 1;
        if (least <= place_.max) {
            // Half as much again, where that is to be had, so that not each allocation grows.
            const std::uint64_t more = std::min(std::max(least, limit_ + limit_ / 2), place_.max);
            if (more != least) grow_to(more, false);
            if (limit_ < least) grow_to(least, true);
        } else if (limit_ < place_.max) {
            grow_to(place_.max, true);
        }
    }

    // Raises the limit to what DATA has. False: it was there.
    bool raise_limit() {
        const std::uint64_t now = std::min(mapped() / heap_granule, place_.max);
        if (now <= limit_) return false;
        IPCDOOR_STEP("heap.grow:limit");
        heap_set(header().limit, now);
        IPCDOOR_STEP("heap.grow:done");
        limit_ = now;
        return true;
    }

    [[noreturn]] void no_room(std::uint64_t granules, const std::string& why = {}) const {
        throw_error(ENOMEM, "heap: no room for " + std::to_string(granules * heap_granule) +
                                " bytes of " + std::to_string(place_.max * heap_granule) +
                                (why.empty() ? "; declare a larger max_data_bytes" : ": " + why));
    }

    // ---- allocations ----

    // Makes an allocation of free granules, but for the commit(): with `tag` in front of it
    // unless that is 0, and led to by the word at `link` unless that is.
    void occupy(std::uint64_t first, std::uint64_t granules, std::uint64_t tag,
                std::uint64_t link) {
        heap_header& head = header();
        const std::uint64_t used = head.used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = head.blocks.load(std::memory_order_relaxed);
        if (used > limit_ || blocks > limit_) heap_damaged("it counts more than there is");
        std::uint64_t target = 0;
        if (link != 0) {
            target = word_at(link).load(std::memory_order_relaxed);
            if (target != 0 && !is_place_of_root(target)) heap_damaged("a root is out of range");
        }
        begin(heap_allocating, first, granules, used, blocks, link, target);
        if (tag != 0) {
            heap_set(owner_of(first).tag, tag);
            IPCDOOR_STEP("heap.allocate:tag");
        }
        const std::uint64_t start = std::uint64_t{1} << first % 64;
        for_words(first, granules, [&](std::uint64_t word, std::uint64_t mask) {
            const std::uint64_t here = word == first / 64 ? start : 0;
            change(bits(owned_bits, word), mask, tag != 0 ? here : 0);
            change(bits(first_bits, word), mask, here);
            change(bits(used_bits, word), mask, mask);
        });
        heap_set(head.used, used + granules);
        IPCDOOR_STEP("heap.allocate:used");
        heap_set(head.blocks, blocks + 1);
        IPCDOOR_STEP("heap.allocate:blocks");
        if (used + granules > head.peak.load(std::memory_order_relaxed)) {
            heap_set(head.peak, used + granules);
            IPCDOOR_STEP("heap.allocate:peak");
        }
        heap_set(head.hint, first + granules);
    }
    void commit() {
        IPCDOOR_STEP("heap.allocate:commit");
        heap_set(header().journal.operation, 0);
        IPCDOOR_STEP("heap.allocate:done");
    }

    // Frees them; the word at `link` is `target` then, unless `link` is 0.
    void free(std::uint64_t first, std::uint64_t granules, std::uint64_t link = 0,
              std::uint64_t target = 0) {
        heap_header& head = header();
        const std::uint64_t used = head.used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = head.blocks.load(std::memory_order_relaxed);
        if (used < granules || used > limit_ || blocks < 1 || blocks > limit_)
            heap_damaged("it counts other than there is");
        begin(heap_freeing, first, granules, used - granules, blocks - 1, link, target);
        undo(first, granules, used - granules, blocks - 1, link, target);
        if (first < head.hint.load(std::memory_order_relaxed)) heap_set(head.hint, first);
    }

    // Of an allocation, by its first granule.
    std::uint64_t length_of(std::uint64_t first) const { return end_of(first, limit_) - first; }
    // Whether it has at least so many bytes. Looks at no more than these, whatever the bits say.
    bool has_bytes(std::uint64_t first, std::uint64_t bytes) const {
        if (bytes > (limit_ - first) * heap_granule) return false;
        const std::uint64_t end = first + (bytes + heap_granule - 1) / heap_granule;
        return end_of(first, end) >= end;
    }
    block block_at(const void* allocated) const {
        const std::uint64_t offset = distance_of(allocated);
        const std::uint64_t granule = offset / heap_granule;
        if (offset % heap_granule != 0 || granule < place_.first || granule >= limit_)
            not_an_allocation();
        if (bit(first_bits, granule) && bit(used_bits, granule) && !bit(owned_bits, granule)) {
            return {granule, length_of(granule), false};
        }
        if (granule == place_.first || !bit(owned_bits, granule - 1) ||
            !bit(first_bits, granule - 1) || bit(first_bits, granule) || !bit(used_bits, granule))
            not_an_allocation();
        return {granule - 1, length_of(granule - 1), true};
    }
    [[noreturn]] static void not_an_allocation() {
        throw_error(EINVAL, "heap: the pointer is not an allocation of this heap, or it was freed");
    }

    // Calls each(granule) for allocations with an owner; it may free the one that it is given.
    template <class Each>
    void for_owned(Each each) {
        for (std::uint64_t at = place_.first;; ++at) {
            at = next(at, limit_, [this](std::uint64_t word) {
                return bits(owned_bits, word).load(std::memory_order_relaxed) &
                       bits(first_bits, word).load(std::memory_order_relaxed) & used_word(word);
            });
            if (at >= limit_) return;
            each(at);
        }
    }

    // Verifies all bits and counts; throws EPROTO with what is wrong.
    heap_count check() const {
        heap_count found;
        const auto at = [&](std::uint64_t granule) {
            return " (granule " + std::to_string(granule) + ")";
        };
        bool was_used = false;
        std::uint64_t run = 0;
        for (std::uint64_t granule = 0; granule < place_.bitmap_words * 64; ++granule) {
            const bool used = bit(used_bits, granule);
            const bool first = bit(first_bits, granule);
            const bool owned = bit(owned_bits, granule);
            const bool inside = granule >= place_.first && granule < limit_;
            if (!inside && (used || first || owned))
                heap_damaged("a bit out of range" + at(granule));
            if (first && !used) heap_damaged("a free granule begins an allocation" + at(granule));
            if (owned && !first) heap_damaged("an owner amid an allocation" + at(granule));
            if (used && !first && !was_used)
                heap_damaged("an allocation has no beginning" + at(granule));
            found.blocks += first ? 1 : 0;
            found.owned += owned ? 1 : 0;
            found.used += used ? heap_granule : 0;
            run = inside && !used ? run + 1 : 0;
            found.free += run != 0 ? heap_granule : 0;
            found.largest_free = std::max(found.largest_free, run * heap_granule);
            was_used = used;
        }
        const std::uint64_t used = header().used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = header().blocks.load(std::memory_order_relaxed);
        if (used * heap_granule != found.used || blocks != found.blocks)
            heap_damaged("it counts other than there is");
        return found;
    }

private:
    shared_u64& bits(unsigned bitmap, std::uint64_t word) const noexcept {
        return word_at(place_.bitmap(bitmap) + word * 8);
    }

    // Where an allocation ends, or `most` where that is further.
    std::uint64_t end_of(std::uint64_t first, std::uint64_t most) const {
        return next(first + 1, most, [this](std::uint64_t word) {
            return ~used_word(word) | bits(first_bits, word).load(std::memory_order_relaxed);
        });
    }

    // ---- growing ----

    // Grows DATA to at least so much. Somebody else may have, in the meantime.
    void grow_data(std::uint64_t bytes) {
        bytes = (bytes + place_.page_bytes - 1) / place_.page_bytes * place_.page_bytes;
        for (int attempt = 0;; ++attempt) {
            if (end_.info().data_bytes >= bytes) return;
            try {
                end_.grow(bytes);
                return;
            } catch (const error& wrong) {
                if (wrong.error_number() != EINVAL || attempt == 100) throw;
            }
        }
    }
    void grow_to(std::uint64_t granules, bool must) {
        IPCDOOR_STEP("heap.grow:begin");
        try {
            grow_data(granules * heap_granule);
        } catch (const error& wrong) {
            if (must) no_room(granules - limit_, wrong.what());
            return;
        }
        IPCDOOR_STEP("heap.grow:grown");
        refresh();
        raise_limit();
    }

    // ---- the journal ----

    bool is_link(std::uint64_t offset) const noexcept {
        const std::uint64_t roots = offsetof(heap_header, roots);
        if (offset >= roots && offset < roots + sizeof(heap_header::roots)) return offset % 8 == 0;
        static_assert(offsetof(heap_root, next) == 0);
        return is_place_of_root(offset);
    }

    // Ends what a dead process has begun: its granules are free.
    void recover() {
        const heap_journal& left = header().journal;
        const std::uint64_t first = left.first.load(std::memory_order_relaxed);
        const std::uint64_t granules = left.granules.load(std::memory_order_relaxed);
        const std::uint64_t used = left.used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = left.blocks.load(std::memory_order_relaxed);
        const std::uint64_t link = left.link.load(std::memory_order_relaxed);
        const std::uint64_t target = left.target.load(std::memory_order_relaxed);
        if (first < place_.first || first >= limit_ || granules == 0 || granules > limit_ - first)
            heap_damaged("the journal names granules " + std::to_string(first) + " and " +
                         std::to_string(granules) + " on");
        if (used > limit_ || blocks > limit_) heap_damaged("the journal counts more than there is");
        if (link != 0 && (!is_link(link) || (target != 0 && !is_place_of_root(target))))
            heap_damaged("the journal links " + std::to_string(target) + " to " +
                         std::to_string(link));
        undo(first, granules, used, blocks, link, target);
    }

    // Makes the granules free, as the journal says, and closes the journal. May be begun again.
    void undo(std::uint64_t first, std::uint64_t granules, std::uint64_t used, std::uint64_t blocks,
              std::uint64_t link, std::uint64_t target) {
        if (link != 0 && word_at(link).load(std::memory_order_relaxed) == first * heap_granule) {
            heap_set(word_at(link), target);
            IPCDOOR_STEP("heap.free:unlinked");
        }
        for_words(first, granules, [this](std::uint64_t word, std::uint64_t mask) {
            for (const unsigned bitmap : {owned_bits, first_bits, used_bits}) {
                shared_u64& there = bits(bitmap, word);
                const std::uint64_t before = there.load(std::memory_order_relaxed);
                if ((before & mask) == 0) continue;
                heap_set(there, before & ~mask);
                IPCDOOR_STEP("heap.free:bits");
            }
        });
        heap_header& head = header();
        heap_set(head.used, used);
        IPCDOOR_STEP("heap.free:used");
        heap_set(head.blocks, blocks);
        IPCDOOR_STEP("heap.free:blocks");
        heap_set(head.journal.operation, 0);
        IPCDOOR_STEP("heap.free:done");
    }

    void begin(std::uint64_t operation, std::uint64_t first, std::uint64_t granules,
               std::uint64_t used, std::uint64_t blocks, std::uint64_t link, std::uint64_t target) {
        heap_journal& note = header().journal;
        IPCDOOR_STEP("heap.journal:begin");
        heap_set(note.first, first);
        heap_set(note.granules, granules);
        heap_set(note.used, used);
        heap_set(note.blocks, blocks);
        heap_set(note.link, link);
        heap_set(note.target, target);
        IPCDOOR_STEP("heap.journal:operation");
        heap_set(note.operation, operation);
        IPCDOOR_STEP("heap.journal:done");
    }

    // ---- bitmaps ----

    // Calls each(word, mask) for the bits of these granules.
    template <class Each>
    static void for_words(std::uint64_t first, std::uint64_t granules, Each each) {
        for (const std::uint64_t end = first + granules; first < end;) {
            const std::uint64_t count = std::min(64 - first % 64, end - first);
            const std::uint64_t ones =
                count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
            each(first / 64, ones << first % 64);
            first += count;
        }
    }

    static void change(shared_u64& word, std::uint64_t mask, std::uint64_t to) {
        const std::uint64_t before = word.load(std::memory_order_relaxed);
        const std::uint64_t after = (before & ~mask) | to;
        if (before == after) return;
        heap_set(word, after);
        IPCDOOR_STEP("heap.allocate:bits");
    }

    // What is read of a bitmap from `granule` on: the first one below `end` whose bit is set in
    // `find(word)`, or `end`.
    template <class Find>
    static std::uint64_t next(std::uint64_t granule, std::uint64_t end, Find find) {
        while (granule < end) {
            const std::uint64_t found = find(granule / 64) >> granule % 64;
            if (found != 0)
                return std::min(end, granule + static_cast<std::uint64_t>(std::countr_zero(found)));
            granule = (granule / 64 + 1) * 64;
        }
        return end;
    }
    std::uint64_t used_word(std::uint64_t word) const noexcept {
        return bits(used_bits, word).load(std::memory_order_relaxed);
    }
    std::uint64_t next_used(std::uint64_t granule, std::uint64_t end) const {
        return next(granule, end, [this](std::uint64_t word) { return used_word(word); });
    }
    std::uint64_t next_free(std::uint64_t granule, std::uint64_t end) const {
        return next(granule, end, [this](std::uint64_t word) { return ~used_word(word); });
    }

    // `granules` free ones in [from, to), so placed that the one `prefix` after the first is a
    // multiple of `align`; 0 where there are none.
    std::uint64_t find_run(std::uint64_t from, std::uint64_t to, std::uint64_t granules,
                           std::uint64_t align, std::uint64_t prefix) const {
        const auto aligned = [&](std::uint64_t granule) {
            return (granule + prefix + align - 1) / align * align - prefix;
        };
        for (std::uint64_t at = aligned(from); at < to && granules <= to - at;) {
            const std::uint64_t taken = next_used(at, at + granules);
            if (taken == at + granules) return at;
            at = aligned(next_free(taken + 1, to));  // further, whatever the bits say by now
        }
        return 0;
    }

    endpoint& end_;
    const heap_geometry place_;
    std::byte* base_ = nullptr;
    std::atomic<std::uint64_t> mapped_{0};
    std::uint64_t limit_ = 0;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_HEAP_GRANULES_HPP
