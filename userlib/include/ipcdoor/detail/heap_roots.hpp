// SPDX-License-Identifier: MIT
//
// The named objects of a heap: records (roots) in lists, one for each value of the name's hash.
//
// Whoever may write DATA may link them as it likes. Each operation takes time in proportion to
// DATA's size at most: there is a step for each granule, and no step scans more than what its
// root takes of DATA.
#ifndef IPCDOOR_DETAIL_HEAP_ROOTS_HPP
#define IPCDOOR_DETAIL_HEAP_ROOTS_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <mutex>
#include <new>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/detail/heap_granules.hpp>
#include <ipcdoor/detail/heap_words.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_layout.hpp>
#include <ipcdoor/type_hash.hpp>

namespace ipcdoor::detail {

// What is looked for by a name, or made.
struct heap_object {
    std::uint64_t type = 0;
    std::size_t bytes = 0;
    std::size_t align = 1;
};

// All of it: the lock is held.
class heap_roots {
public:
    // A record and the word that leads to it, offsets.
    struct root {
        std::uint64_t link = 0;
        std::uint64_t record = 0;
    };

    explicit heap_roots(heap_granules& of) : granules_(of) {}

    heap_root& record_at(std::uint64_t record) const noexcept {
        return *reinterpret_cast<heap_root*>(granules_.base() + record);
    }

    // `record` is 0 where there is none.
    root find(std::string_view name) const {
        root at{bucket_of(name), 0};
        for (std::uint64_t steps = 0; next(at); at.link = at.record) {
            if (++steps > granules_.limit()) heap_damaged("the roots are linked in a circle");
            const heap_root& record = record_at(at.record);
            const std::uint64_t length = record.name_bytes.load(std::memory_order_relaxed);
            if (length != name.size()) continue;
            if (!granules_.has_bytes(at.record / heap_granule, sizeof(heap_root) + length))
                heap_damaged("a root's name is longer than the root");
            if (std::memcmp(granules_.base() + at.record + sizeof(heap_root), name.data(),
                            name.size()) == 0)
                return at;
        }
        return {};
    }

    void* object_of(std::uint64_t offset, const heap_object& wanted) const {
        const heap_root& record = record_at(offset);
        if (record.type.load(std::memory_order_relaxed) != wanted.type ||
            record.bytes.load(std::memory_order_relaxed) != wanted.bytes) {
            throw_error(EPROTOTYPE,
                        "heap: the object of this name is of another type; is the "
                        "program that made it of the same version?");
        }
        const std::uint64_t object = record.object.load(std::memory_order_relaxed);
        if (object < sizeof(heap_root) || (offset + object) % wanted.align != 0 ||
            !granules_.has_bytes(offset / heap_granule, object + wanted.bytes))
            heap_damaged("a root's object lies outside of it");
        return granules_.base() + offset + object;
    }

    // Where the object lies in the allocation of a root.
    static std::uint64_t object_offset(std::size_t name_bytes, std::size_t align) {
        const std::uint64_t all = sizeof(heap_root) + name_bytes;
        return (all + align - 1) / align * align;
    }
    // The word that leads to the first root of the name's bucket.
    static std::uint64_t bucket_of(std::string_view name) noexcept {
        return bucket_at(fnv1a(name) % heap_buckets);
    }

    // Makes a root of an allocation that was begun, and ends that. Returns the record.
    std::uint64_t make(std::uint64_t first, std::string_view name, const heap_object& object,
                       std::uint64_t builder, std::uint64_t serial) {
        const std::uint64_t link = bucket_of(name);
        const std::uint64_t offset = first * heap_granule;
        heap_root& record = *::new (granules_.base() + offset) heap_root;
        heap_set(record.next, granules_.word_at(link).load(std::memory_order_relaxed));
        heap_set(record.builder, builder);
        heap_set(record.serial, serial);
        heap_set(record.type, object.type);
        heap_set(record.bytes, object.bytes);
        record.object.store(static_cast<std::uint32_t>(object_offset(name.size(), object.align)),
                            std::memory_order_release);
        record.name_bytes.store(static_cast<std::uint32_t>(name.size()), std::memory_order_release);
        std::memcpy(granules_.base() + offset + sizeof(heap_root), name.data(), name.size());
        IPCDOOR_STEP("heap.construct:link");
        heap_set(granules_.word_at(link), offset);
        IPCDOOR_STEP("heap.construct:linked");
        granules_.commit();
        return offset;
    }

    // Frees it with what its constructor has allocated, where that did not come to its end. Returns
    // how many allocations were freed.
    std::uint64_t discard(const root& which) {
        std::uint64_t count = 1;
        if (const std::uint64_t serial = serial_of(which)) count += free_owned_by({&serial, 1});
        unlink(which);
        return count;
    }
    // Discards those whose builders is_dead(); returns how many allocations were freed.
    template <class IsDead>
    std::uint64_t discard_of(IsDead is_dead) {
        std::vector<std::uint64_t> serials;
        bool some = false;
        // The builder is read once more, since it may have come to its end before it died.
        const auto is_left = [&](const root& at, std::uint64_t builder) {
            IPCDOOR_STEP("heap.root:builder");
            return is_dead(builder) && record_at(at.record).builder.load() == builder;
        };
        for_built([&](const root& at, std::uint64_t builder) {
            if (!is_left(at, builder)) return false;
            if (const std::uint64_t serial = serial_of(at)) serials.push_back(serial);
            some = true;
            return false;
        });
        if (!some) return 0;
        // All at once: a pass for each would take too long where there are many. Before the
        // roots, which know what is theirs, should this process die here.
        std::sort(serials.begin(), serials.end());
        std::uint64_t count = free_owned_by(serials);
        for_built([&](const root& at, std::uint64_t builder) {
            if (!is_left(at, builder)) return false;
            unlink(at);
            ++count;
            return true;
        });
        return count;
    }

    // Verifies all of them; throws EPROTO with what is wrong. Returns how many there are.
    std::uint64_t check() const {
        std::uint64_t found = 0;
        std::uint64_t bytes_of_all = 0;  // each byte is of one root
        for (std::size_t bucket = 0; bucket < heap_buckets; ++bucket) {
            root each{bucket_at(bucket), 0};
            for (; next(each); each.link = each.record) {
                ++found;
                const heap_root& record = record_at(each.record);
                const std::uint64_t length = record.name_bytes.load(std::memory_order_relaxed);
                const std::uint64_t object = record.object.load(std::memory_order_relaxed);
                const std::uint64_t bytes = record.bytes.load(std::memory_order_relaxed);
                if (length > heap_max_name || object < sizeof(heap_root) + length ||
                    bytes > granules_.limit() * heap_granule ||
                    !granules_.has_bytes(each.record / heap_granule, object + bytes))
                    heap_damaged("a root does not fit its memory");
                bytes_of_all += object + bytes;
                if (bytes_of_all > granules_.limit() * heap_granule)
                    heap_damaged("the roots are linked in a circle");
                const std::string_view name(reinterpret_cast<const char*>(
                                                granules_.base() + each.record + sizeof(heap_root)),
                                            length);
                if (fnv1a(name) % heap_buckets != bucket)
                    heap_damaged("a root is in the wrong place");
            }
        }
        return found;
    }

private:
    static constexpr std::uint64_t bucket_at(std::uint64_t bucket) noexcept {
        return offsetof(heap_header, roots) + bucket * 8;
    }

    // The record that at.link leads to; false where it is the last one's.
    bool next(root& at) const {
        at.record = granules_.word_at(at.link).load(std::memory_order_acquire);
        if (at.record == 0) return false;
        if (!granules_.is_place_of_root(at.record) ||
            !granules_.bit(heap_granules::first_bits, at.record / heap_granule) ||
            granules_.bit(heap_granules::owned_bits, at.record / heap_granule))
            heap_damaged("a root is out of range");
        return true;
    }

    // Calls each(at, builder) for all that somebody constructs or destroys; true: it has
    // unlinked that one.
    template <class Each>
    void for_built(Each each) {
        std::uint64_t steps = 0;
        for (std::size_t bucket = 0; bucket < heap_buckets; ++bucket) {
            for (root at{bucket_at(bucket), 0}; next(at);) {
                if (++steps > granules_.limit()) heap_damaged("the roots are linked in a circle");
                const std::uint64_t builder =
                    record_at(at.record).builder.load(std::memory_order_acquire);
                if (builder == 0 || !each(at, builder)) at.link = at.record;
            }
        }
    }

    std::uint64_t serial_of(const root& which) const {
        return record_at(which.record).serial.load(std::memory_order_relaxed);
    }

    // Frees what the constructors of these roots, sorted, have allocated; returns how much.
    std::uint64_t free_owned_by(std::span<const std::uint64_t> serials) {
        std::uint64_t count = 0;
        granules_.for_owned([&](std::uint64_t granule) {
            const std::uint64_t tag =
                granules_.owner_of(granule).tag.load(std::memory_order_relaxed);
            if (!is_heap_root_tag(tag) ||
                !std::binary_search(serials.begin(), serials.end(), heap_root_tag_serial(tag)))
                return;
            granules_.free(granule, granules_.length_of(granule));
            ++count;
        });
        return count;
    }

    // Frees the root's own allocation.
    void unlink(const root& which) {
        const std::uint64_t after = record_at(which.record).next.load(std::memory_order_relaxed);
        if (after != 0 && !granules_.is_place_of_root(after))
            heap_damaged("a root is out of range");
        const std::uint64_t first = which.record / heap_granule;
        granules_.free(first, granules_.length_of(first), which.link, after);
    }

    heap_granules& granules_;
};

// The roots that threads of this process construct at the moment: what a thread allocates
// meanwhile is tagged with the root.
class heap_constructions {
public:
    class here {
    public:
        here(heap_constructions& of, std::uint64_t serial) : of_(of) {
            const std::lock_guard lock(of_.mutex_);
            of_.all_.emplace_back(std::this_thread::get_id(), serial);
            of_.count_.store(of_.all_.size(), std::memory_order_relaxed);
        }
        here(const here&) = delete;
        here& operator=(const here&) = delete;
        ~here() {
            const std::lock_guard lock(of_.mutex_);
            auto& all = of_.all_;
            const auto last = std::find_if(all.rbegin(), all.rend(), [](const auto& each) {
                return each.first == std::this_thread::get_id();
            });
            all.erase(std::next(last).base());
            of_.count_.store(all.size(), std::memory_order_relaxed);
        }

    private:
        heap_constructions& of_;
    };

    // Of what this thread allocates, 0: none.
    std::uint64_t tag() const {
        if (count_.load(std::memory_order_relaxed) == 0) return 0;
        const std::lock_guard lock(mutex_);
        for (auto at = all_.rbegin(); at != all_.rend(); ++at)
            if (at->first == std::this_thread::get_id()) return heap_root_tag(at->second);
        return 0;
    }
    bool is_this_threads(std::uint64_t serial) const {
        const std::lock_guard lock(mutex_);
        return std::find(all_.begin(), all_.end(), std::pair(std::this_thread::get_id(), serial)) !=
               all_.end();
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::pair<std::thread::id, std::uint64_t>> all_;  // mutex_
    std::atomic<std::size_t> count_{0};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_HEAP_ROOTS_HPP
