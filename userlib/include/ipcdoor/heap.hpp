// SPDX-License-Identifier: MIT
//
// heap: memory in the DATA of a segment for all who may write it: allocations of any size,
// named objects that every process finds, allocators for containers.
//
//     ipcdoor::endpoint end = door.create("store", {.data_bytes = 1 << 20,
//                                                   .max_data_bytes = 1 << 26});
//     ipcdoor::heap heap(end);  // the same in each process, after attach()
//     auto* hits = heap.find_or_construct<std::atomic<int>>("hits", 0);
//     ++*hits;
//
// It takes the whole of DATA, at least 0.6 % of the declared maximum for itself, and grows by
// endpoint::grow() up to that maximum; nobody's data moves. Granules are 64 bytes.
//
// Deaths. Whoever dies, at whatever instruction, leaves the heap whole: the next one
// undoes an allocation that was begun and completes a deallocation. A named object
// whose constructor has not come to its end is taken apart, what the constructor has allocated
// here included. What a process has allocated and not freed stays allocated, because
// others may use it; where they must not, allocate_owned() makes an allocation that goes
// with its process, at the next reclaim() or when an allocation finds no room.
//
// Pointers are good in the process that got them. What lies in the heap refers to other
// things there by offset_ptr, and containers by heap_allocator, which works with those
// that accept such pointers, Boost's for one; the standard library's containers do for
// a process of its own, with heap_resource. Names and allocations are safe between processes;
// what lies in the objects, you synchronise.
//
// Trust. Everybody who may write DATA may write all of it. Nonsense in what the heap keeps
// there leads to an error (EPROTO) or a deadline, and to no access outside of DATA; what
// a container does with nonsense in its own members is the container's. Each operation ends
// in a time that is linear in DATA's size, whatever is in there, and holds the lock for as
// long: a liar can have a search for a name pass a root for each 64 bytes, because names are
// found by 64 lists, so DATA that is shared with those is best kept small. (While it frees
// what the dead were constructing, the heap takes memory of an eighth of DATA's size at most.)
//
// The endpoint is borrowed and has to outlive the heap; its vectors 0 and heap_options::vector
// are the heap's. One heap at a time for each endpoint, which must be this process's own.
//
// Threads: any number may use a heap at once.
//
// Errors, as ipcdoor::error: ENOMEM no room, and DATA cannot grow; EINVAL not an allocation
// of this heap, an alignment beyond 4096 or a name beyond 255 bytes; EPROTO DATA holds
// something else or was damaged; EPROTONOSUPPORT a heap of another version; EPROTOTYPE the
// named object is of another type; ETIMEDOUT the lock's owner, who lives, kept it until the
// deadline; EACCES, ENODATA an endpoint that may not write, or without DATA; EPERM a child
// of the process that made the heap, or a heap that another one has replaced; EBUSY, EDEADLK
// as find_or_construct() and destroy() say.
#ifndef IPCDOOR_HEAP_HPP
#define IPCDOOR_HEAP_HPP

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/heap_core.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_allocator.hpp>
#include <ipcdoor/heap_layout.hpp>
#include <ipcdoor/type_hash.hpp>

namespace ipcdoor {

struct heap_options {
    std::uint32_t vector = 1;
    // Of calls that take no deadline, for the lock. A negative one is without end.
    std::chrono::nanoseconds patience{-1};
};

struct heap_statistics {
    std::uint64_t bytes = 0;       // that DATA has now, and
    std::uint64_t max_bytes = 0;   // may grow to
    std::uint64_t overhead = 0;    // that the heap takes for itself
    std::uint64_t used = 0;        // in allocations, rounded up to granules
    std::uint64_t peak = 0;        // the most that `used` was
    std::uint64_t blocks = 0;      // allocations, named objects included
    std::uint64_t takeovers = 0;   // times that the lock was taken from a dead process
    std::uint64_t reclaimed = 0;   // allocations taken from dead processes
    std::uint64_t lost_frees = 0;  // of this process: allocators that could not free
};

// What check() has counted.
struct heap_report {
    std::uint64_t blocks = 0;
    std::uint64_t owned = 0;  // of these, with an owner
    std::uint64_t roots = 0;  // of these, named
    std::uint64_t used = 0;   // bytes
    std::uint64_t free = 0;
    std::uint64_t largest_free = 0;
};

class heap : public detail::heap_core {
public:
    // Makes a heap of DATA that nobody has used, or enters the one that is there. Grows DATA
    // where it is too small for what the heap itself needs.
    explicit heap(endpoint& end, const heap_options& options = {})
        : heap_core(end, options.vector, options.patience) {}

    endpoint& end() const noexcept { return end_; }

    // ---- allocations ----

    // Never null. `align` is a power of two of at most 4096.
    void* allocate(std::size_t bytes, std::size_t align = alignof(std::max_align_t)) {
        return allocate(bytes, align, patience());
    }
    void* allocate(std::size_t bytes, std::size_t align, deadline until) {
        return allocate_tagged(bytes, align, construction_tag(), until);
    }

    // One that goes with this endpoint: when that is closed, or its process dead, whoever
    // looks for room frees it.
    void* allocate_owned(std::size_t bytes, std::size_t align = alignof(std::max_align_t)) {
        return allocate_owned(bytes, align, patience());
    }
    void* allocate_owned(std::size_t bytes, std::size_t align, deadline until) {
        return allocate_tagged(bytes, align, lock_.me(), until);
    }
    // Makes an allocation of allocate_owned() everybody's, once others can find it.
    void share(void* owned) { share(owned, patience()); }
    void share(void* owned, deadline until) {
        const holder lock(*this, until);
        const auto found = granules_.block_at(owned);
        if (!found.owned) granules_.not_an_allocation();
        IPCDOOR_STEP("heap.share:tag");
        granules_.owner_of(found.first).tag.store(0, std::memory_order_release);
        IPCDOOR_STEP("heap.share:done");
    }

    // Frees what any process has allocated. Null is allowed.
    void deallocate(void* allocated) { deallocate(allocated, patience()); }
    void deallocate(void* allocated, deadline until) { free(allocated, until); }

    // Frees what dead processes have owned, and named objects that they were constructing or
    // destroying. Returns how many allocations that were.
    std::uint64_t reclaim() { return reclaim(patience()); }
    std::uint64_t reclaim(deadline until) {
        const holder lock(*this, until);
        return reclaim_locked();
    }

    // ---- places ----

    // Of something in DATA; the same number in all processes, never 0 for an allocation.
    std::uint64_t offset_of(const void* inside) const {
        const std::uint64_t offset = granules_.distance_of(inside);
        if (inside == nullptr || offset >= granules_.place().max * heap_granule)
            detail::throw_error(EINVAL, "heap: the pointer does not point into DATA");
        return offset;
    }
    // The reverse; `bytes` from there have to be in DATA.
    void* at(std::uint64_t offset, std::size_t bytes = 1) {
        if (offset > granules_.mapped() || bytes > granules_.mapped() - offset) {
            granules_.refresh();
            if (offset > granules_.mapped() || bytes > granules_.mapped() - offset) {
                detail::throw_error(EINVAL, "heap: offset " + std::to_string(offset) +
                                                " lies beyond DATA's " +
                                                std::to_string(granules_.mapped()) + " bytes");
            }
        }
        return granules_.base() + offset;
    }

    // ---- named objects ----

    // The object of this name, made from `arguments` where there is none. One process
    // constructs, and the others wait for it; where it dies or the constructor throws, the
    // next one does. The lock is not kept meanwhile. Throws EDEADLK where this very thread
    // is constructing it.
    template <class T, class... Arguments>
    T* find_or_construct(std::string_view name, Arguments&&... arguments) {
        static_assert(alignof(T) <= heap_max_align);
        const claim got = claim_root(name, kind_of<T>(), true, patience());
        if (got.serial == 0) return static_cast<T*>(got.object);
        T* made = nullptr;
        try {
            const detail::heap_constructions::here tagged(constructions_, got.serial);
            IPCDOOR_STEP("heap.construct:constructor");
            made = ::new (got.object) T(std::forward<Arguments>(arguments)...);
            IPCDOOR_STEP("heap.construct:constructed");
        } catch (...) {
            abandon_root(name, got.serial);
            throw;
        }
        finish_root(got);
        return made;
    }

    // Null where there is none, or somebody constructs it at the moment.
    template <class T>
    T* find(std::string_view name) {
        return static_cast<T*>(claim_root(name, kind_of<T>(), false, patience()).object);
    }

    // Destroys it and frees its memory and name: nobody may use it any more. False: there was
    // none. Throws EBUSY while somebody constructs or destroys it. What its destructor leaves
    // allocated, because its process dies amid it, stays so.
    template <class T>
    bool destroy(std::string_view name) {
        void* const object = condemn_root(name, kind_of<T>());
        if (object == nullptr) return false;
        IPCDOOR_STEP("heap.destroy:destructor");
        static_cast<T*>(object)->~T();
        IPCDOOR_STEP("heap.destroy:destroyed");
        bury_root(name);
        return true;
    }

    // ---- allocators ----

    // For containers in the heap.
    template <class T>
    heap_allocator<T> allocator() noexcept {
        return heap_allocator<T>(*this);
    }

    // ---- what it knows ----

    heap_statistics statistics() const noexcept {
        const auto read = [](const shared_u64& word) {
            return word.load(std::memory_order_relaxed);
        };
        const heap_header& head = granules_.header();
        return {read(head.limit) * heap_granule,
                granules_.place().max * heap_granule,
                granules_.place().overhead_bytes(),
                read(head.used) * heap_granule,
                read(head.peak) * heap_granule,
                read(head.blocks),
                read(head.takeovers),
                read(head.reclaimed),
                lost_frees_.load(std::memory_order_relaxed)};
    }

    // Verifies everything that the heap keeps in DATA; throws EPROTO with what is wrong.
    // Takes as long as reading all bitmaps.
    heap_report check() { return check(patience()); }
    heap_report check(deadline until) {
        const holder lock(*this, until);
        const detail::heap_count counted = granules_.check();
        return {counted.blocks, counted.owned, roots_.check(),
                counted.used,   counted.free,  counted.largest_free};
    }

private:
    template <class T>
    static detail::heap_object kind_of() noexcept {
        return {type_hash<T>(), sizeof(T), alignof(T)};
    }
};

}  // namespace ipcdoor

#endif  // IPCDOOR_HEAP_HPP
