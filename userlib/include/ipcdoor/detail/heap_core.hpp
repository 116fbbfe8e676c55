// SPDX-License-Identifier: MIT
//
// What a heap (heap.hpp) and its allocators share: entering DATA, and all operations that take
// the lock.
#ifndef IPCDOOR_DETAIL_HEAP_CORE_HPP
#define IPCDOOR_DETAIL_HEAP_CORE_HPP

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <string_view>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/heap_granules.hpp>
#include <ipcdoor/detail/heap_lock.hpp>
#include <ipcdoor/detail/heap_roots.hpp>
#include <ipcdoor/detail/heap_words.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_layout.hpp>

namespace ipcdoor {

template <class T>
class heap_allocator;
class heap_resource;

namespace detail {

class heap_core;

// The page that each process puts over the second one of DATA. In it an allocator, which
// lies in shared memory and means the same to all, finds the heap of the process that it is
// used in.
struct heap_local {
    heap_core* self;
};

class heap_core {
public:
    heap_core(const heap_core&) = delete;
    heap_core& operator=(const heap_core&) = delete;

protected:
    template <class T>
    friend class ipcdoor::heap_allocator;
    friend class ipcdoor::heap_resource;

    // Where an object is; `serial` of who has to construct it, else 0.
    struct claim {
        void* object = nullptr;
        std::uint64_t record = 0;
        std::uint64_t serial = 0;
    };

    heap_core(endpoint& end, std::uint32_t vector, std::chrono::nanoseconds patience)
        : end_(end),
          patience_(patience),
          granules_(end, geometry_of(end, vector)),
          lock_(end, vector, granules_.header()),
          roots_(granules_) {
        enter();
    }
    ~heap_core() {
        if (local_->self == this) local_->self = nullptr;
    }

    deadline patience() const noexcept {
        return patience_ < patience_.zero() ? deadline() : deadline(patience_);
    }

    // ---- the lock, and nothing half done ----

    class holder {
    public:
        holder(heap_core& of, deadline until) : of_(of) {
            of_.acquire(until);
            try {
                of_.granules_.look_around();
            } catch (...) {
                of_.release();
                throw;
            }
        }
        holder(const holder&) = delete;
        holder& operator=(const holder&) = delete;
        ~holder() { of_.release(); }

    private:
        heap_core& of_;
    };

    // ---- allocations ----

    void* allocate_tagged(std::size_t bytes, std::size_t align, std::uint64_t tag, deadline until) {
        if (!std::has_single_bit(align) || align > heap_max_align) {
            throw_error(EINVAL, "heap: an alignment of " + std::to_string(align) +
                                    ": powers of two up to 4096 are possible");
        }
        const std::uint64_t prefix = tag != 0 ? 1 : 0;
        if (bytes > granules_.place().max * heap_granule) granules_.no_room(bytes / heap_granule);
        const std::uint64_t granules =
            std::max<std::uint64_t>((bytes + heap_granule - 1) / heap_granule, 1) + prefix;
        const holder lock(*this, until);
        const std::uint64_t first = take(granules, align, prefix, tag);
        granules_.commit();
        return granules_.base() + (first + prefix) * heap_granule;
    }

    std::uint64_t construction_tag() const { return constructions_.tag(); }

    void free(void* allocated, deadline until) {
        if (allocated == nullptr) return;
        const holder lock(*this, until);
        const heap_granules::block found = granules_.block_at(allocated);
        granules_.free(found.first, found.granules);
    }

    // As allocators do it: no room is std::bad_alloc, and what cannot be freed is counted.
    void* allocate_for_allocator(std::size_t bytes, std::size_t align) {
        try {
            return allocate_tagged(bytes, align, construction_tag(), patience());
        } catch (const error& wrong) {
            if (wrong.error_number() == ENOMEM) throw std::bad_alloc();
            throw;
        }
    }
    void free_for_allocator(void* allocated) noexcept {
        try {
            free(allocated, patience());
        } catch (const std::exception&) {
            lost_frees_.fetch_add(1, std::memory_order_relaxed);
        }
    }

    std::uint64_t reclaim_locked() {
        heap_lock::census census(lock_);
        const auto is_dead = [&](std::uint64_t identity) { return census.is_dead(identity); };
        std::uint64_t count = roots_.discard_of(is_dead);
        granules_.for_owned([&](std::uint64_t granule) {
            const std::uint64_t tag =
                granules_.owner_of(granule).tag.load(std::memory_order_relaxed);
            if (tag == 0 || is_heap_root_tag(tag) || !is_dead(tag)) return;
            granules_.free(granule, granules_.length_of(granule));
            ++count;
        });
        if (count != 0) heap_add(granules_.header().reclaimed, count);
        return count;
    }

    // ---- named objects ----

    // finish_root() stores that the object is there, then looks who waits; who waits sets
    // its bit, then looks at the object.
    claim claim_root(std::string_view name, const heap_object& object, bool make, deadline until) {
        check_name(name);
        if (object.bytes > std::numeric_limits<std::uint32_t>::max())
            granules_.no_room(object.bytes / heap_granule);
        for (bool waits = false;; waits = true) {
            const std::uint64_t ticket = lock_.wakeups();
            if (waits) lock_.ask_for_news();
            {
                const holder lock(*this, until);
                if (const heap_roots::root found = roots_.find(name); found.record != 0) {
                    void* const place = roots_.object_of(found.record, object);
                    const heap_root& record = roots_.record_at(found.record);
                    const std::uint64_t builder = record.builder.load();
                    if (builder == 0) return {place, found.record, 0};
                    IPCDOOR_STEP("heap.root:builder");
                    if (builder == lock_.me() || lock_.lives(builder)) {
                        if (!make) return {};
                        if (constructions_.is_this_threads(
                                record.serial.load(std::memory_order_relaxed))) {
                            throw_error(EDEADLK,
                                        "heap: the constructor of this object asks for "
                                        "the object itself");
                        }
                    } else if (record.builder.load() == 0) {
                        // It came to its end before it died, which takes no lock.
                        return {place, found.record, 0};
                    } else {
                        heap_add(granules_.header().reclaimed, roots_.discard(found));
                        if (make) return fresh_root(name, object);
                        return {};
                    }
                } else {
                    if (make) return fresh_root(name, object);
                    return {};
                }
            }
            IPCDOOR_STEP("heap.construct:sleep");
            // For nothing the first time: then only the bit was not set yet.
            if (waits && !lock_.sleep(ticket, until)) {
                throw_error(ETIMEDOUT,
                            "heap: the deadline passed while another process constructed "
                            "or destroyed the object");
            }
        }
    }

    claim fresh_root(std::string_view name, const heap_object& object) {
        // A number that was never used, so that no allocation is tagged with it.
        const std::uint64_t serial = std::max<std::uint64_t>(
            granules_.header().serial.load(std::memory_order_relaxed) + 1, 1);
        heap_set(granules_.header().serial, serial);
        IPCDOOR_STEP("heap.construct:serial");
        const std::uint64_t offset = heap_roots::object_offset(name.size(), object.align);
        const std::uint64_t first = take((offset + object.bytes + heap_granule - 1) / heap_granule,
                                         object.align, 0, 0, heap_roots::bucket_of(name));
        const std::uint64_t record = roots_.make(first, name, object, lock_.me(), serial);
        return {granules_.base() + record + offset, record, serial};
    }

    // The object is there. Its record cannot have gone: its builder lives.
    void finish_root(const claim& made) {
        heap_root& record = roots_.record_at(made.record);
        IPCDOOR_STEP("heap.construct:finish");
        record.builder.store(0);
        IPCDOOR_STEP("heap.construct:finished");
        heap_set(record.serial, 0);
        lock_.wake_others(true);
    }

    void abandon_root(std::string_view name, std::uint64_t serial) noexcept {
        try {
            const holder lock(*this, patience());
            const heap_roots::root found = roots_.find(name);
            if (found.record != 0 &&
                roots_.record_at(found.record).serial.load(std::memory_order_relaxed) == serial)
                roots_.discard(found);
        } catch (const std::exception&) {
            // Damaged: whoever comes next is told.
        }
        lock_.wake_others(true);
    }

    void* condemn_root(std::string_view name, const heap_object& object) {
        check_name(name);
        const holder lock(*this, patience());
        const heap_roots::root found = roots_.find(name);
        if (found.record == 0) return nullptr;
        void* const place = roots_.object_of(found.record, object);
        heap_root& record = roots_.record_at(found.record);
        const std::uint64_t builder = record.builder.load(std::memory_order_acquire);
        IPCDOOR_STEP("heap.root:builder");
        if (builder != 0 && (builder == lock_.me() || lock_.lives(builder))) {
            throw_error(EBUSY, "heap: somebody constructs or destroys this object; try again");
        }
        // Once more: its constructor may have come to its end before its process died.
        if (record.builder.load() != 0) {
            heap_add(granules_.header().reclaimed, roots_.discard(found));
            return nullptr;
        }
        // What its constructor has allocated is its own to free.
        heap_set(record.serial, 0);
        IPCDOOR_STEP("heap.destroy:builder");
        record.builder.store(lock_.me());
        return place;
    }

    // Its destructor has come to its end.
    void bury_root(std::string_view name) {
        const holder lock(*this, patience());
        const heap_roots::root found = roots_.find(name);
        if (found.record != 0 &&
            roots_.record_at(found.record).builder.load(std::memory_order_relaxed) == lock_.me())
            roots_.discard(found);
    }

private:
    static heap_geometry geometry_of(endpoint& end, std::uint32_t vector) {
        const struct ipcdoor_endpoint_info info = end.info();
        if (info.max_data_bytes == 0) {
            throw_error(ENODATA, "heap: the segment has no DATA; create it with data_bytes");
        }
        if ((info.rights & IPCDOOR_RIGHT_WRITE) == 0) {
            throw_error(EACCES, "heap: this endpoint may not write DATA; attach without read_only");
        }
        if (vector == 0 || vector >= IPCDOOR_VECTORS)
            throw_error(EINVAL, "heap: vectors are 1 to 63");
        const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        const heap_geometry place = heap_geometry_of(info.max_data_bytes, page);
        if (place.first >= place.max) {
            throw_error(EINVAL, "heap: DATA may grow to " + std::to_string(info.max_data_bytes) +
                                    " bytes, and a heap takes " +
                                    std::to_string(place.overhead_bytes()) +
                                    " for itself; see heap_data_bytes()");
        }
        return place;
    }

    // ---- entering ----

    void enter() {
        void* const page =
            ::mmap(granules_.base() + granules_.place().local_offset, granules_.place().page_bytes,
                   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (page == MAP_FAILED) throw_error(errno, "heap: no page for what this process keeps");
        // A child has no heap: neither its lock nor its doorbell would be its own.
        ::madvise(page, granules_.place().page_bytes, MADV_WIPEONFORK);
        local_ = static_cast<heap_local*>(page);
        local_->self = this;
        try {
            // What is no heap is left alone.
            if (!verify_header()) create();
        } catch (...) {
            local_->self = nullptr;
            throw;
        }
    }

    void create() {
        acquire(patience());
        try {
            if (!verify_header()) {
                heap_header& head = header();
                IPCDOOR_STEP("heap.create:begin");
                heap_set(head.limit, granules_.mapped() / heap_granule);
                heap_set(head.hint, granules_.place().first);
                heap_set(head.page_bytes, granules_.place().page_bytes);
                heap_set(head.max_bytes, granules_.place().max * heap_granule);
                head.version_min.store(heap_version_min, std::memory_order_release);
                head.version_max.store(heap_version_max, std::memory_order_release);
                IPCDOOR_STEP("heap.create:magic");
                heap_set(head.magic, heap_magic);
                IPCDOOR_STEP("heap.create:done");
            }
        } catch (...) {
            release();
            throw;
        }
        release();
    }

    // False: nobody has made a heap here.
    bool verify_header() const {
        const heap_header& head = header();
        const std::uint64_t magic = head.magic.load(std::memory_order_acquire);
        if (magic == 0) return false;
        if (magic != heap_magic) {
            throw_error(EPROTO,
                        "heap: DATA holds something else (wrong magic); a heap takes a "
                        "segment of its own");
        }
        check_versions("heap: DATA holds", versions_of(head), {heap_version_min, heap_version_max});
        const std::uint64_t page = head.page_bytes.load(std::memory_order_relaxed);
        const std::uint64_t most = head.max_bytes.load(std::memory_order_relaxed);
        if (page != granules_.place().page_bytes || most != granules_.place().max * heap_granule)
            heap_damaged("its sizes are not the segment's");
        return true;
    }

    heap_header& header() const noexcept { return granules_.header(); }

    // ---- the lock ----

    void acquire(deadline until) {
        if (local_->self != this) {
            throw_error(EPERM,
                        "heap: it belongs to another process, or to another heap of this "
                        "endpoint; make a heap of an endpoint that this process attached");
        }
        lock_.acquire(until);
    }
    void release() noexcept { lock_.release(); }

    // ---- room; the lock is held ----

    // The first of so many granules, with all that can be done to find them.
    std::uint64_t make_room(std::uint64_t granules, std::uint64_t align, std::uint64_t prefix) {
        if (granules > granules_.place().max - granules_.place().first) granules_.no_room(granules);
        if (const auto found = granules_.find_room(granules, align, prefix)) return found;
        if (reclaim_locked() != 0)
            if (const auto found = granules_.find_room(granules, align, prefix)) return found;
        // Somebody may have died between growing DATA and saying so.
        granules_.refresh();
        if (granules_.raise_limit())
            if (const auto found = granules_.find_room(granules, align, prefix)) return found;
        granules_.grow_for(granules, align);
        if (const auto found = granules_.find_room(granules, align, prefix)) return found;
        granules_.no_room(granules);
    }

    // An allocation, but for the commit().
    std::uint64_t take(std::uint64_t granules, std::size_t align_bytes, std::uint64_t prefix,
                       std::uint64_t tag, std::uint64_t link = 0) {
        const std::uint64_t align = std::max<std::uint64_t>(align_bytes / heap_granule, 1);
        const std::uint64_t first = make_room(granules, align, prefix);
        granules_.occupy(first, granules, tag, link);
        return first;
    }

    static void check_name(std::string_view name) {
        if (name.size() > heap_max_name) throw_error(EINVAL, "heap: a name has at most 255 bytes");
    }

protected:
    endpoint& end_;
    const std::chrono::nanoseconds patience_;
    heap_granules granules_;
    heap_lock lock_;
    heap_roots roots_;
    heap_constructions constructions_;
    heap_local* local_ = nullptr;
    std::atomic<std::uint64_t> lost_frees_{0};
};

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_DETAIL_HEAP_CORE_HPP
