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
// a container does with nonsense in its own members is the container's.
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

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory_resource>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/turn.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_layout.hpp>
#include <ipcdoor/offset_ptr.hpp>
#include <ipcdoor/type_hash.hpp>

namespace ipcdoor {

class heap;
template <class T>
class heap_allocator;

namespace detail {

// The page that each process puts over the second one of DATA. In it an allocator, which
// lies in shared memory and means the same to all, finds the heap of the process that it is
// used in.
struct heap_local {
    heap* self;
};

}  // namespace detail

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

class heap {
public:
    // Makes a heap of DATA that nobody has used, or enters the one that is there. Grows DATA
    // where it is too small for what the heap itself needs.
    explicit heap(endpoint& end, const heap_options& options = {}) : end_(end), options_(options) {
        const struct ipcdoor_endpoint_info info = end.info();
        if (info.max_data_bytes == 0) {
            detail::throw_error(ENODATA,
                                "heap: the segment has no DATA; create it with data_bytes");
        }
        if ((info.rights & IPCDOOR_RIGHT_WRITE) == 0) {
            detail::throw_error(EACCES,
                                "heap: this endpoint may not write DATA; attach without read_only");
        }
        if (options.vector == 0 || options.vector >= IPCDOOR_VECTORS)
            detail::throw_error(EINVAL, "heap: vectors are 1 to 63");
        slots_ = info.slots;
        slot_ = info.slot;
        me_ = heap_identity(info.slot, info.generation);
        const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        place_ = heap_geometry_of(info.max_data_bytes, page);
        if (place_.first >= place_.max) {
            detail::throw_error(
                EINVAL, "heap: DATA may grow to " + std::to_string(info.max_data_bytes) +
                            " bytes, and a heap takes " + std::to_string(place_.overhead_bytes()) +
                            " for itself; see heap_data_bytes()");
        }
        grow_data(place_.overhead_bytes() + heap_granule);
        const auto data = end.data();
        base_ = data.data();
        mapped_ = data.size();
        enter();
    }
    heap(const heap&) = delete;
    heap& operator=(const heap&) = delete;
    ~heap() {
        if (local_->self == this) local_->self = nullptr;
    }

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
        return allocate_tagged(bytes, align, me_, until);
    }
    // Makes an allocation of allocate_owned() everybody's, once others can find it.
    void share(void* owned) { share(owned, patience()); }
    void share(void* owned, deadline until) {
        const holder lock(*this, until);
        const block found = block_at(owned);
        if (!found.owned) not_an_allocation();
        IPCDOOR_STEP("heap.share:tag");
        owner_of(found.first).tag.store(0, std::memory_order_release);
        IPCDOOR_STEP("heap.share:done");
    }

    // Frees what any process has allocated. Null is allowed.
    void deallocate(void* allocated) { deallocate(allocated, patience()); }
    void deallocate(void* allocated, deadline until) {
        if (allocated == nullptr) return;
        const holder lock(*this, until);
        const block found = block_at(allocated);
        free_locked(found.first, found.granules, 0, 0);
    }

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
        const std::uint64_t offset = distance_of(inside);
        if (inside == nullptr || offset >= place_.max * heap_granule)
            detail::throw_error(EINVAL, "heap: the pointer does not point into DATA");
        return offset;
    }
    // The reverse; `bytes` from there have to be in DATA.
    void* at(std::uint64_t offset, std::size_t bytes = 1) {
        if (offset > mapped() || bytes > mapped() - offset) {
            refresh();
            if (offset > mapped() || bytes > mapped() - offset) {
                detail::throw_error(EINVAL, "heap: offset " + std::to_string(offset) +
                                                " lies beyond DATA's " + std::to_string(mapped()) +
                                                " bytes");
            }
        }
        return base_ + offset;
    }

    // ---- named objects ----

    // The object of this name, made from `arguments` where there is none. One process
    // constructs, and the others wait for it; where it dies or the constructor throws, the
    // next one does. The lock is not kept meanwhile. Throws EDEADLK where this very thread
    // is constructing it.
    template <class T, class... Arguments>
    T* find_or_construct(std::string_view name, Arguments&&... arguments) {
        static_assert(alignof(T) <= heap_max_align);
        const claim got = claim_root(name, type_hash<T>(), sizeof(T), alignof(T), true, patience());
        if (got.serial == 0) return static_cast<T*>(got.object);
        T* made = nullptr;
        try {
            const construction here(*this, got.serial);
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
        return static_cast<T*>(
            claim_root(name, type_hash<T>(), sizeof(T), alignof(T), false, patience()).object);
    }

    // Destroys it and frees its memory and name: nobody may use it any more. False: there was
    // none. Throws EBUSY while somebody constructs or destroys it. What its destructor leaves
    // allocated, because its process dies amid it, stays so.
    template <class T>
    bool destroy(std::string_view name) {
        void* const object = condemn_root(name, type_hash<T>(), sizeof(T), alignof(T));
        if (object == nullptr) return false;
        IPCDOOR_STEP("heap.destroy:destructor");
        static_cast<T*>(object)->~T();
        IPCDOOR_STEP("heap.destroy:destroyed");
        const holder lock(*this, patience());
        const root found = find_root(name);
        if (found.record != 0 &&
            root_at(found.record).builder.load(std::memory_order_relaxed) == me_)
            discard_root(found);
        return true;
    }

    // ---- allocators ----

    // For containers in the heap.
    template <class T>
    heap_allocator<T> allocator() noexcept;

    // ---- what it knows ----

    heap_statistics statistics() const noexcept {
        const auto read = [](const shared_u64& word) {
            return word.load(std::memory_order_relaxed);
        };
        const heap_header& head = header();
        return {read(head.limit) * heap_granule,
                place_.max * heap_granule,
                place_.overhead_bytes(),
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
        return check_locked();
    }

private:
    template <class T>
    friend class heap_allocator;
    friend class heap_resource;

    // Where an object is; `serial` of who has to construct it, else 0.
    struct claim {
        void* object = nullptr;
        std::uint64_t record = 0;
        std::uint64_t serial = 0;
    };
    struct block {
        std::uint64_t first = 0;
        std::uint64_t granules = 0;
        bool owned = false;
    };
    // A record and the word that leads to it, offsets.
    struct root {
        std::uint64_t link = 0;
        std::uint64_t record = 0;
    };

    // ---- words ----

    heap_header& header() const noexcept { return *reinterpret_cast<heap_header*>(base_); }
    shared_u64& word_at(std::uint64_t offset) const noexcept {
        return *reinterpret_cast<shared_u64*>(base_ + offset);
    }
    shared_u64& bits(unsigned bitmap, std::uint64_t word) const noexcept {
        return word_at(place_.bitmap(bitmap) + word * 8);
    }
    static constexpr unsigned used_bits = 0;   // granules of allocations
    static constexpr unsigned first_bits = 1;  // of these, the first ones
    static constexpr unsigned owned_bits = 2;  // of these, those that are a heap_owner

    bool bit(unsigned bitmap, std::uint64_t granule) const noexcept {
        return (bits(bitmap, granule / 64).load(std::memory_order_relaxed) >> granule % 64 & 1) !=
               0;
    }
    heap_root& root_at(std::uint64_t offset) const noexcept {
        return *reinterpret_cast<heap_root*>(base_ + offset);
    }
    heap_owner& owner_of(std::uint64_t granule) const noexcept {
        return *reinterpret_cast<heap_owner*>(base_ + granule * heap_granule);
    }

    // Every store to shared memory is a release: whoever goes on after a death sees them
    // in the order of the program.
    static void set(shared_u64& word, std::uint64_t value) noexcept {
        word.store(value, std::memory_order_release);
    }
    static void add(shared_u64& word, std::uint64_t count) noexcept {
        set(word, word.load(std::memory_order_relaxed) + count);
    }

    [[noreturn]] static void damaged(const std::string& what) {
        detail::throw_error(EPROTO, "heap: " + what +
                                        ": somebody who may write DATA has damaged it; all have to "
                                        "leave this segment");
    }
    [[noreturn]] static void not_an_allocation() {
        detail::throw_error(EINVAL,
                            "heap: the pointer is not an allocation of this heap, or it was freed");
    }

    // Of any pointer: what lies before DATA is far behind it.
    std::uint64_t distance_of(const void* pointer) const noexcept {
        return std::uint64_t{reinterpret_cast<std::uintptr_t>(pointer)} -
               std::uint64_t{reinterpret_cast<std::uintptr_t>(base_)};
    }

    deadline patience() const noexcept {
        return options_.patience < std::chrono::nanoseconds::zero() ? deadline()
                                                                    : deadline(options_.patience);
    }

    // ---- DATA ----

    std::uint64_t mapped() const noexcept { return mapped_.load(std::memory_order_relaxed); }
    void refresh() { mapped_.store(end_.data().size(), std::memory_order_relaxed); }

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

    // ---- entering ----

    void enter() {
        void* const page =
            ::mmap(base_ + place_.local_offset, place_.page_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (page == MAP_FAILED)
            detail::throw_error(errno, "heap: no page for what this process keeps");
        // A child has no heap: neither its lock nor its doorbell would be its own.
        ::madvise(page, place_.page_bytes, MADV_WIPEONFORK);
        local_ = static_cast<detail::heap_local*>(page);
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
                set(head.limit, mapped() / heap_granule);
                set(head.hint, place_.first);
                set(head.page_bytes, place_.page_bytes);
                set(head.max_bytes, place_.max * heap_granule);
                head.version_min.store(heap_version_min, std::memory_order_release);
                head.version_max.store(heap_version_max, std::memory_order_release);
                IPCDOOR_STEP("heap.create:magic");
                set(head.magic, heap_magic);
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
            detail::throw_error(EPROTO,
                                "heap: DATA holds something else (wrong magic); a heap takes a "
                                "segment of its own");
        }
        const std::uint32_t oldest = head.version_min.load(std::memory_order_relaxed);
        const std::uint32_t newest = head.version_max.load(std::memory_order_relaxed);
        if (oldest > newest || oldest == 0) damaged("its version range is empty");
        if (oldest > heap_version_max || newest < heap_version_min) {
            detail::throw_error(EPROTONOSUPPORT,
                                "heap: DATA holds layouts " + std::to_string(oldest) + " to " +
                                    std::to_string(newest) + ", this library speaks " +
                                    std::to_string(heap_version_min) + " to " +
                                    std::to_string(heap_version_max) +
                                    "; update the older program");
        }
        const std::uint64_t page = head.page_bytes.load(std::memory_order_relaxed);
        const std::uint64_t most = head.max_bytes.load(std::memory_order_relaxed);
        if (page != place_.page_bytes || most != place_.max * heap_granule)
            damaged("its sizes are not the segment's");
        return true;
    }

    // ---- the lock ----
    //
    // The word names its owner by slot and generation, so that a death is seen by asking the
    // doorbell who lives. Threads of this process take turns first.

    class holder {
    public:
        holder(heap& of, deadline until) : of_(of) {
            of_.acquire(until);
            try {
                of_.look_around();
            } catch (...) {
                of_.release();
                throw;
            }
        }
        holder(const holder&) = delete;
        holder& operator=(const holder&) = delete;
        ~holder() { of_.release(); }

    private:
        heap& of_;
    };

    void acquire(deadline until) {
        if (local_->self != this) {
            detail::throw_error(EPERM,
                                "heap: it belongs to another process, or to another heap of this "
                                "endpoint; make a heap of an endpoint that this process attached");
        }
        if (!turn_.take(until.ns())) timed_out();
        std::uint64_t owner = 0;
        if (header().lock.compare_exchange_strong(owner, me_)) {
            IPCDOOR_STEP("heap.lock:taken");
            return;
        }
        try {
            await_lock(until);
        } catch (...) {
            turn_.give();
            throw;
        }
        IPCDOOR_STEP("heap.lock:waited");
    }

    // The owner stores 0, then looks who waits (release()); who waits sets its bit, then looks
    // at the owner: all sequentially consistent, so one sees the other. A bit
    // that was seen is gone, hence it is set anew before each look. The ring is counted, so it
    // may come before the sleep. An owner that dies, before or after it has stored 0, rings
    // vector 0 of all.
    void await_lock(deadline until) {
        shared_u64& word = header().lock;
        for (;;) {
            const std::uint64_t ticket = wakeups();
            ask_for_news();
            IPCDOOR_STEP("heap.lock:waiting");
            std::uint64_t owner = 0;
            if (word.compare_exchange_strong(owner, me_)) return;
            if (!lives(owner)) {
                if (!word.compare_exchange_strong(owner, me_)) {
                    if (until.is_past()) timed_out();
                    continue;
                }
                IPCDOOR_STEP("heap.lock:takeover");
                add(header().takeovers, 1);
                return;
            }
            IPCDOOR_STEP("heap.lock:sleep");
            if (!sleep(ticket, until)) timed_out();
        }
    }

    void release() noexcept {
        IPCDOOR_STEP("heap.unlock:begin");
        // Another one's now, where this process was thought dead.
        std::uint64_t mine = me_;
        static_cast<void>(header().lock.compare_exchange_strong(mine, 0));
        IPCDOOR_STEP("heap.unlock:done");
        wake_others(false);
        turn_.give();
    }

    [[noreturn]] static void timed_out() {
        detail::throw_error(ETIMEDOUT,
                            "heap: the deadline passed while somebody else changed the heap");
    }

    // Whether the attachment that an identity names lives, as the doorbell's driver knows. This one
    // itself never waits for itself: its threads take turns.
    bool lives(std::uint64_t identity) const {
        const std::uint64_t slot = heap_identity_slot(identity);
        if (identity == me_ || slot >= slots_ || (identity & 1) != 0) return false;
        const auto known = end_.slot_state(static_cast<std::uint32_t>(slot));
        return known.state == IPCDOOR_SLOT_ALIVE &&
               known.generation == heap_identity_generation(identity);
    }

    // ---- news ----

    shared_u64& waiting_word() const noexcept { return header().waiting[slot_ / 64]; }
    void ask_for_news() noexcept { waiting_word().fetch_or(std::uint64_t{1} << slot_ % 64); }

    // Rings all that wait, and forgets them. They look again, and ask again.
    void wake_others(bool self_too) noexcept {
        for (std::uint32_t word = 0; word * 64 < slots_; ++word) {
            shared_u64& waiting = header().waiting[word];
            const std::uint64_t mine =
                !self_too && word == slot_ / 64 ? std::uint64_t{1} << slot_ % 64 : 0;
            if ((waiting.load() & ~mine) == 0) continue;
            std::uint64_t rung = waiting.fetch_and(mine) & ~mine;
            for (; rung != 0; rung &= rung - 1) {
                const auto slot = word * 64 + static_cast<std::uint32_t>(std::countr_zero(rung));
                // Whoever is gone needs no ring.
                if (slot < slots_)
                    static_cast<void>(ipcdoor_ring(end_.get(), slot, 0, options_.vector, 0));
            }
        }
    }

    std::uint64_t wakeups() {
        const std::lock_guard lock(sleep_mutex_);
        return wakeups_;
    }

    // Until news came since wakeups() was `ticket`, or for a second: another user of the endpoint
    // may have taken the news of a death. False: the deadline passed.
    bool sleep(std::uint64_t ticket, deadline until) {
        if (until.is_past()) return false;
        const std::uint64_t at = std::min(until.ns(), deadline(std::chrono::seconds(1)).ns());
        std::unique_lock lock(sleep_mutex_);
        if (wakeups_ != ticket) return true;
        // One thread at a time takes the doorbell's count, and tells the others.
        if (sleeping_) {
            while (wakeups_ == ticket && sleeping_)
                if (!detail::wait_until(news_, lock, at)) break;
            return true;
        }
        sleeping_ = true;
        lock.unlock();
        const std::uint64_t mask = std::uint64_t{1} << options_.vector | lifecycle_vector;
        const int waited = ipcdoor_wait(end_.get(), mask, at, nullptr);
        lock.lock();
        sleeping_ = false;
        ++wakeups_;
        news_.notify_all();
        if (waited == 0 || waited == -ETIMEDOUT || waited == -EINTR) return true;
        if (waited != -EPIPE) detail::throw_if(waited);
        // A connection's peer is dead: only threads of this process are left to wait for.
        static_cast<void>(detail::wait_until(
            news_, lock, std::min(at, deadline(std::chrono::milliseconds(10)).ns())));
        return true;
    }

    // ---- the lock is held ----

    // What every operation starts with: sizes that make sense, and nothing half done.
    void look_around() {
        const std::uint64_t limit = header().limit.load(std::memory_order_acquire);
        if (limit > mapped() / heap_granule) refresh();
        if (limit <= place_.first || limit > mapped() / heap_granule || limit > place_.max)
            damaged("its limit is " + std::to_string(limit) + " granules");
        limit_ = limit;
        if (header().journal.operation.load(std::memory_order_acquire) != 0) recover();
    }

    bool is_place_of_root(std::uint64_t offset) const noexcept {
        return offset % heap_granule == 0 && offset / heap_granule >= place_.first &&
               offset / heap_granule < limit_;
    }
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
            damaged("the journal names granules " + std::to_string(first) + " and " +
                    std::to_string(granules) + " on");
        if (used > limit_ || blocks > limit_) damaged("the journal counts more than there is");
        if (link != 0 && (!is_link(link) || (target != 0 && !is_place_of_root(target))))
            damaged("the journal links " + std::to_string(target) + " to " + std::to_string(link));
        undo(first, granules, used, blocks, link, target);
    }

    // Makes the granules free, as the journal says, and closes the journal. May be begun again.
    void undo(std::uint64_t first, std::uint64_t granules, std::uint64_t used, std::uint64_t blocks,
              std::uint64_t link, std::uint64_t target) {
        if (link != 0 && word_at(link).load(std::memory_order_relaxed) == first * heap_granule) {
            set(word_at(link), target);
            IPCDOOR_STEP("heap.free:unlinked");
        }
        for_words(first, granules, [this](std::uint64_t word, std::uint64_t mask) {
            for (const unsigned bitmap : {owned_bits, first_bits, used_bits}) {
                shared_u64& there = bits(bitmap, word);
                const std::uint64_t before = there.load(std::memory_order_relaxed);
                if ((before & mask) == 0) continue;
                set(there, before & ~mask);
                IPCDOOR_STEP("heap.free:bits");
            }
        });
        heap_header& head = header();
        set(head.used, used);
        IPCDOOR_STEP("heap.free:used");
        set(head.blocks, blocks);
        IPCDOOR_STEP("heap.free:blocks");
        set(head.journal.operation, 0);
        IPCDOOR_STEP("heap.free:done");
    }

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

    void begin(std::uint64_t operation, std::uint64_t first, std::uint64_t granules,
               std::uint64_t used, std::uint64_t blocks, std::uint64_t link, std::uint64_t target) {
        heap_journal& note = header().journal;
        IPCDOOR_STEP("heap.journal:begin");
        set(note.first, first);
        set(note.granules, granules);
        set(note.used, used);
        set(note.blocks, blocks);
        set(note.link, link);
        set(note.target, target);
        IPCDOOR_STEP("heap.journal:operation");
        set(note.operation, operation);
        IPCDOOR_STEP("heap.journal:done");
    }
    void commit() {
        IPCDOOR_STEP("heap.allocate:commit");
        set(header().journal.operation, 0);
        IPCDOOR_STEP("heap.allocate:done");
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

    std::uint64_t find_room(std::uint64_t granules, std::uint64_t align, std::uint64_t prefix) {
        if (granules > limit_ - place_.first) return 0;
        std::uint64_t hint = header().hint.load(std::memory_order_relaxed);
        if (hint < place_.first || hint > limit_) hint = place_.first;
        if (const auto found = find_run(hint, limit_, granules, align, prefix)) return found;
        return find_run(place_.first, std::min(limit_, hint + granules + align), granules, align,
                        prefix);
    }

    // The same, with all that can be done to make room.
    std::uint64_t make_room(std::uint64_t granules, std::uint64_t align, std::uint64_t prefix) {
        if (granules > place_.max - place_.first) no_room(granules, "");
        if (const auto found = find_room(granules, align, prefix)) return found;
        if (reclaim_locked() != 0)
            if (const auto found = find_room(granules, align, prefix)) return found;
        // Somebody may have died between growing DATA and saying so.
        refresh();
        if (raise_limit())
            if (const auto found = find_room(granules, align, prefix)) return found;
        const std::uint64_t least = limit_ + granules + align - 1;
        if (least <= place_.max) {
            // Half as much again, where that is to be had, so that not each allocation grows.
            const std::uint64_t more = std::min(std::max(least, limit_ + limit_ / 2), place_.max);
            if (more != least) grow_to(more, false);
            if (limit_ < least) grow_to(least, true);
        } else if (limit_ < place_.max) {
            grow_to(place_.max, true);
        }
        if (const auto found = find_room(granules, align, prefix)) return found;
        no_room(granules, "");
    }

    [[noreturn]] void no_room(std::uint64_t granules, const std::string& why) const {
        detail::throw_error(
            ENOMEM, "heap: no room for " + std::to_string(granules * heap_granule) + " bytes of " +
                        std::to_string(place_.max * heap_granule) +
                        (why.empty() ? "; declare a larger max_data_bytes" : ": " + why));
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

    // To what DATA has.
    bool raise_limit() {
        const std::uint64_t now = std::min(mapped() / heap_granule, place_.max);
        if (now <= limit_) return false;
        IPCDOOR_STEP("heap.grow:limit");
        set(header().limit, now);
        IPCDOOR_STEP("heap.grow:done");
        limit_ = now;
        return true;
    }

    // An allocation, but for the commit().
    std::uint64_t take(std::uint64_t granules, std::uint64_t align, std::uint64_t prefix,
                       std::uint64_t tag, std::uint64_t link = 0) {
        const std::uint64_t first = make_room(granules, align, prefix);
        heap_header& head = header();
        const std::uint64_t used = head.used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = head.blocks.load(std::memory_order_relaxed);
        if (used > limit_ || blocks > limit_) damaged("it counts more than there is");
        std::uint64_t target = 0;
        if (link != 0) {
            target = word_at(link).load(std::memory_order_relaxed);
            if (target != 0 && !is_place_of_root(target)) damaged("a root is out of range");
        }
        begin(heap_allocating, first, granules, used, blocks, link, target);
        if (prefix != 0) {
            set(owner_of(first).tag, tag);
            IPCDOOR_STEP("heap.allocate:tag");
        }
        const std::uint64_t start = std::uint64_t{1} << first % 64;
        for_words(first, granules, [&](std::uint64_t word, std::uint64_t mask) {
            const std::uint64_t here = word == first / 64 ? start : 0;
            change(bits(owned_bits, word), mask, prefix != 0 ? here : 0);
            change(bits(first_bits, word), mask, here);
            change(bits(used_bits, word), mask, mask);
        });
        set(head.used, used + granules);
        IPCDOOR_STEP("heap.allocate:used");
        set(head.blocks, blocks + 1);
        IPCDOOR_STEP("heap.allocate:blocks");
        if (used + granules > head.peak.load(std::memory_order_relaxed)) {
            set(head.peak, used + granules);
            IPCDOOR_STEP("heap.allocate:peak");
        }
        set(head.hint, first + granules);
        return first;
    }
    static void change(shared_u64& word, std::uint64_t mask, std::uint64_t to) {
        const std::uint64_t before = word.load(std::memory_order_relaxed);
        const std::uint64_t after = (before & ~mask) | to;
        if (before == after) return;
        set(word, after);
        IPCDOOR_STEP("heap.allocate:bits");
    }

    void free_locked(std::uint64_t first, std::uint64_t granules, std::uint64_t link,
                     std::uint64_t target) {
        heap_header& head = header();
        const std::uint64_t used = head.used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = head.blocks.load(std::memory_order_relaxed);
        if (used < granules || used > limit_ || blocks < 1 || blocks > limit_)
            damaged("it counts other than there is");
        begin(heap_freeing, first, granules, used - granules, blocks - 1, link, target);
        undo(first, granules, used - granules, blocks - 1, link, target);
        if (first < head.hint.load(std::memory_order_relaxed)) set(head.hint, first);
    }

    void* allocate_tagged(std::size_t bytes, std::size_t align, std::uint64_t tag, deadline until) {
        if (!std::has_single_bit(align) || align > heap_max_align) {
            detail::throw_error(EINVAL, "heap: an alignment of " + std::to_string(align) +
                                            ": powers of two up to 4096 are possible");
        }
        const std::uint64_t prefix = tag != 0 ? 1 : 0;
        if (bytes > place_.max * heap_granule) no_room(bytes / heap_granule, "");
        const std::uint64_t granules =
            std::max<std::uint64_t>((bytes + heap_granule - 1) / heap_granule, 1) + prefix;
        const holder lock(*this, until);
        const std::uint64_t first =
            take(granules, std::max<std::uint64_t>(align / heap_granule, 1), prefix, tag);
        commit();
        return base_ + (first + prefix) * heap_granule;
    }

    // Of an allocation, by its first granule.
    std::uint64_t length_of(std::uint64_t first) const {
        return next(first + 1, limit_,
                    [this](std::uint64_t word) {
                        return ~used_word(word) |
                               bits(first_bits, word).load(std::memory_order_relaxed);
                    }) -
               first;
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

    std::uint64_t reclaim_locked() {
        std::map<std::uint64_t, bool> known;  // who lives
        std::uint64_t count = 0;
        const auto is_dead = [&](std::uint64_t identity) {
            const auto [at, is_new] = known.try_emplace(identity, true);
            if (is_new) at->second = identity == me_ || lives(identity);
            return !at->second;
        };
        for (std::size_t bucket = 0; bucket < heap_buckets; ++bucket) {
            const std::uint64_t start = offsetof(heap_header, roots) + bucket * 8;
            std::uint64_t steps = 0;
            for (root at{start, 0}; next_root(at);) {
                if (++steps > limit_) damaged("the roots are linked in a circle");
                const std::uint64_t builder =
                    root_at(at.record).builder.load(std::memory_order_acquire);
                if (builder == 0 || !is_dead(builder)) {
                    at.link = at.record;
                    continue;
                }
                count += discard_root(at);
            }
        }
        for_owned([&](std::uint64_t granule) {
            const std::uint64_t tag = owner_of(granule).tag.load(std::memory_order_relaxed);
            if (tag == 0 || (tag & 1) != 0 || !is_dead(tag)) return;
            free_locked(granule, length_of(granule), 0, 0);
            ++count;
        });
        if (count != 0) add(header().reclaimed, count);
        return count;
    }

    // ---- named objects; the lock is held ----

    // The record that at.link leads to; false where it is the last one's.
    bool next_root(root& at) const {
        at.record = word_at(at.link).load(std::memory_order_acquire);
        if (at.record == 0) return false;
        if (!is_place_of_root(at.record) || !bit(first_bits, at.record / heap_granule) ||
            bit(owned_bits, at.record / heap_granule))
            damaged("a root is out of range");
        return true;
    }

    static std::uint64_t object_offset(std::size_t name_bytes, std::size_t align) {
        const std::uint64_t all = sizeof(heap_root) + name_bytes;
        return (all + align - 1) / align * align;
    }

    root find_root(std::string_view name) const {
        const std::uint64_t bucket = detail::fnv1a(name) % heap_buckets;
        root at{offsetof(heap_header, roots) + bucket * 8, 0};
        for (std::uint64_t steps = 0; next_root(at); at.link = at.record) {
            if (++steps > limit_) damaged("the roots are linked in a circle");
            const heap_root& record = root_at(at.record);
            const std::uint64_t length = record.name_bytes.load(std::memory_order_relaxed);
            if (length != name.size()) continue;
            if (sizeof(heap_root) + length > length_of(at.record / heap_granule) * heap_granule)
                damaged("a root's name is longer than the root");
            if (std::memcmp(base_ + at.record + sizeof(heap_root), name.data(), name.size()) == 0)
                return at;
        }
        return {};
    }

    void* object_of(std::uint64_t offset, std::uint64_t type, std::size_t bytes,
                    std::size_t align) const {
        const heap_root& record = root_at(offset);
        const std::uint64_t there = record.type.load(std::memory_order_relaxed);
        if (there != type || record.bytes.load(std::memory_order_relaxed) != bytes) {
            detail::throw_error(EPROTOTYPE,
                                "heap: the object of this name is of another type; is the "
                                "program that made it of the same version?");
        }
        const std::uint64_t object = record.object.load(std::memory_order_relaxed);
        const std::uint64_t whole = length_of(offset / heap_granule) * heap_granule;
        if (object < sizeof(heap_root) || object > whole || bytes > whole - object ||
            (offset + object) % align != 0)
            damaged("a root's object lies outside of it");
        return base_ + offset + object;
    }

    std::uint64_t make_root(std::string_view name, std::uint64_t type, std::size_t bytes,
                            std::size_t align, std::uint64_t serial) {
        const std::uint64_t object = object_offset(name.size(), align);
        const std::uint64_t granules = (object + bytes + heap_granule - 1) / heap_granule;
        const std::uint64_t link =
            offsetof(heap_header, roots) + detail::fnv1a(name) % heap_buckets * 8;
        const std::uint64_t first =
            take(granules, std::max<std::uint64_t>(align / heap_granule, 1), 0, 0, link);
        const std::uint64_t offset = first * heap_granule;
        heap_root& record = *::new (base_ + offset) heap_root;
        set(record.next, word_at(link).load(std::memory_order_relaxed));
        set(record.builder, me_);
        set(record.serial, serial);
        set(record.type, type);
        set(record.bytes, bytes);
        record.object.store(static_cast<std::uint32_t>(object), std::memory_order_release);
        record.name_bytes.store(static_cast<std::uint32_t>(name.size()), std::memory_order_release);
        std::memcpy(base_ + offset + sizeof(heap_root), name.data(), name.size());
        IPCDOOR_STEP("heap.construct:link");
        set(word_at(link), offset);
        IPCDOOR_STEP("heap.construct:linked");
        commit();
        return offset;
    }

    // With what its constructor has allocated, where that did not come to its end. Returns how many
    // allocations were freed.
    std::uint64_t discard_root(const root& which) {
        const heap_root& record = root_at(which.record);
        std::uint64_t count = 1;
        if (const std::uint64_t serial = record.serial.load(std::memory_order_relaxed)) {
            for_owned([&](std::uint64_t granule) {
                if (owner_of(granule).tag.load(std::memory_order_relaxed) != heap_root_tag(serial))
                    return;
                free_locked(granule, length_of(granule), 0, 0);
                ++count;
            });
        }
        const std::uint64_t after = record.next.load(std::memory_order_relaxed);
        if (after != 0 && !is_place_of_root(after)) damaged("a root is out of range");
        const std::uint64_t first = which.record / heap_granule;
        free_locked(first, length_of(first), which.link, after);
        return count;
    }

    // ---- named objects ----

    // While it lives, what this thread allocates is tagged with the root that it constructs.
    class construction {
    public:
        construction(heap& of, std::uint64_t serial) : of_(of) {
            const std::lock_guard lock(of_.constructions_mutex_);
            of_.constructions_.emplace_back(std::this_thread::get_id(), serial);
            of_.constructing_.store(of_.constructions_.size(), std::memory_order_relaxed);
        }
        construction(const construction&) = delete;
        construction& operator=(const construction&) = delete;
        ~construction() {
            const std::lock_guard lock(of_.constructions_mutex_);
            auto& all = of_.constructions_;
            const auto last = std::find_if(all.rbegin(), all.rend(), [](const auto& each) {
                return each.first == std::this_thread::get_id();
            });
            all.erase(std::next(last).base());
            of_.constructing_.store(all.size(), std::memory_order_relaxed);
        }

    private:
        heap& of_;
    };

    // The tag of what this thread allocates.
    std::uint64_t construction_tag() const {
        if (constructing_.load(std::memory_order_relaxed) == 0) return 0;
        const std::lock_guard lock(constructions_mutex_);
        for (auto at = constructions_.rbegin(); at != constructions_.rend(); ++at)
            if (at->first == std::this_thread::get_id()) return heap_root_tag(at->second);
        return 0;
    }
    bool is_constructing_here(std::uint64_t serial) const {
        const std::lock_guard lock(constructions_mutex_);
        return std::find(constructions_.begin(), constructions_.end(),
                         std::pair(std::this_thread::get_id(), serial)) != constructions_.end();
    }

    static void check_name(std::string_view name) {
        if (name.size() > heap_max_name)
            detail::throw_error(EINVAL, "heap: a name has at most 255 bytes");
    }

    // finish_root() stores that the object is there, then looks who waits; who waits sets
    // its bit, then looks at the object.
    claim claim_root(std::string_view name, std::uint64_t type, std::size_t bytes,
                     std::size_t align, bool make, deadline until) {
        check_name(name);
        if (bytes > std::numeric_limits<std::uint32_t>::max()) no_room(bytes / heap_granule, "");
        for (bool waits = false;; waits = true) {
            const std::uint64_t ticket = wakeups();
            if (waits) ask_for_news();
            {
                const holder lock(*this, until);
                if (const root found = find_root(name); found.record != 0) {
                    void* const object = object_of(found.record, type, bytes, align);
                    const heap_root& record = root_at(found.record);
                    const std::uint64_t builder = record.builder.load();
                    if (builder == 0) return {object, found.record, 0};
                    if (builder == me_ || lives(builder)) {
                        if (!make) return {};
                        if (is_constructing_here(record.serial.load(std::memory_order_relaxed))) {
                            detail::throw_error(EDEADLK,
                                                "heap: the constructor of this object asks for "
                                                "the object itself");
                        }
                    } else {
                        add(header().reclaimed, discard_root(found));
                        if (make) return fresh_root(name, type, bytes, align);
                        return {};
                    }
                } else {
                    if (make) return fresh_root(name, type, bytes, align);
                    return {};
                }
            }
            IPCDOOR_STEP("heap.construct:sleep");
            // For nothing the first time: then only the bit was not set yet.
            if (waits && !sleep(ticket, until)) {
                detail::throw_error(ETIMEDOUT,
                                    "heap: the deadline passed while another process constructed "
                                    "or destroyed the object");
            }
        }
    }

    claim fresh_root(std::string_view name, std::uint64_t type, std::size_t bytes,
                     std::size_t align) {
        // A number that was never used, so that no allocation is tagged with it.
        const std::uint64_t serial =
            std::max<std::uint64_t>(header().serial.load(std::memory_order_relaxed) + 1, 1);
        set(header().serial, serial);
        IPCDOOR_STEP("heap.construct:serial");
        const std::uint64_t record = make_root(name, type, bytes, align, serial);
        return {base_ + record + object_offset(name.size(), align), record, serial};
    }

    // The object is there. Its record cannot have gone: its builder lives.
    void finish_root(const claim& made) {
        heap_root& record = root_at(made.record);
        IPCDOOR_STEP("heap.construct:finish");
        record.builder.store(0);
        IPCDOOR_STEP("heap.construct:finished");
        set(record.serial, 0);
        wake_others(true);
    }

    void abandon_root(std::string_view name, std::uint64_t serial) noexcept {
        try {
            const holder lock(*this, patience());
            const root found = find_root(name);
            if (found.record != 0 &&
                root_at(found.record).serial.load(std::memory_order_relaxed) == serial)
                discard_root(found);
        } catch (const std::exception&) {
            // Damaged: whoever comes next is told.
        }
        wake_others(true);
    }

    void* condemn_root(std::string_view name, std::uint64_t type, std::size_t bytes,
                       std::size_t align) {
        check_name(name);
        const holder lock(*this, patience());
        const root found = find_root(name);
        if (found.record == 0) return nullptr;
        void* const object = object_of(found.record, type, bytes, align);
        heap_root& record = root_at(found.record);
        const std::uint64_t builder = record.builder.load(std::memory_order_acquire);
        if (builder != 0 && (builder == me_ || lives(builder))) {
            detail::throw_error(EBUSY,
                                "heap: somebody constructs or destroys this object; try again");
        }
        if (builder != 0) {
            add(header().reclaimed, discard_root(found));
            return nullptr;
        }
        // What its constructor has allocated is its own to free.
        set(record.serial, 0);
        IPCDOOR_STEP("heap.destroy:builder");
        record.builder.store(me_);
        return object;
    }

    // ---- check() ----

    heap_report check_locked() const {
        heap_report found;
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
            if (!inside && (used || first || owned)) damaged("a bit out of range" + at(granule));
            if (first && !used) damaged("a free granule begins an allocation" + at(granule));
            if (owned && !first) damaged("an owner amid an allocation" + at(granule));
            if (used && !first && !was_used)
                damaged("an allocation has no beginning" + at(granule));
            found.blocks += first ? 1 : 0;
            found.owned += owned ? 1 : 0;
            found.used += used ? heap_granule : 0;
            run = inside && !used ? run + 1 : 0;
            found.free += run != 0 ? heap_granule : 0;
            found.largest_free = std::max(found.largest_free, run * heap_granule);
            was_used = used;
        }
        for (std::size_t bucket = 0; bucket < heap_buckets; ++bucket) {
            root each{offsetof(heap_header, roots) + bucket * 8, 0};
            for (; next_root(each); each.link = each.record) {
                if (++found.roots > limit_) damaged("the roots are linked in a circle");
                const heap_root& record = root_at(each.record);
                const std::uint64_t length = record.name_bytes.load(std::memory_order_relaxed);
                const std::uint64_t object = record.object.load(std::memory_order_relaxed);
                const std::uint64_t bytes = record.bytes.load(std::memory_order_relaxed);
                const std::uint64_t whole = length_of(each.record / heap_granule) * heap_granule;
                if (length > heap_max_name || object < sizeof(heap_root) + length ||
                    object > whole || bytes > whole - object)
                    damaged("a root does not fit its memory");
                const std::string_view name(
                    reinterpret_cast<const char*>(base_ + each.record + sizeof(heap_root)), length);
                if (detail::fnv1a(name) % heap_buckets != bucket)
                    damaged("a root is in the wrong place");
            }
        }
        const std::uint64_t used = header().used.load(std::memory_order_relaxed);
        const std::uint64_t blocks = header().blocks.load(std::memory_order_relaxed);
        if (used * heap_granule != found.used || blocks != found.blocks)
            damaged("it counts other than there is");
        return found;
    }

    endpoint& end_;
    const heap_options options_;
    std::uint32_t slots_ = 0;
    std::uint32_t slot_ = 0;
    std::uint64_t me_ = 0;
    heap_geometry place_;
    std::byte* base_ = nullptr;
    std::atomic<std::uint64_t> mapped_{0};
    detail::heap_local* local_ = nullptr;
    std::atomic<std::uint64_t> lost_frees_{0};

    detail::turn turn_;        // of this process's threads at the lock
    std::uint64_t limit_ = 0;  // the lock: as of look_around()

    std::mutex sleep_mutex_;
    std::condition_variable news_;
    bool sleeping_ = false;      // sleep_mutex_: a thread sleeps in the back end
    std::uint64_t wakeups_ = 0;  // sleep_mutex_

    mutable std::mutex constructions_mutex_;
    std::vector<std::pair<std::thread::id, std::uint64_t>> constructions_;  // constructions_mutex_
    std::atomic<std::size_t> constructing_{0};
};

// An allocator for containers that lie in the heap and take fancy pointers, as Boost's do:
//
//     template <class T>
//     using shared_vector = boost::container::vector<T, ipcdoor::heap_allocator<T>>;
//     auto* numbers = heap.find_or_construct<shared_vector<int>>("numbers",
//                                                                heap.allocator<int>());
//
// It means the heap of the process that it is used in, which must have one at that moment:
// EPERM. No room is std::bad_alloc; deallocate() does not throw: where it fails (DATA is
// damaged) the memory is lost, and counted.
template <class T>
class heap_allocator {
public:
    using value_type = T;
    using pointer = offset_ptr<T>;
    using const_pointer = offset_ptr<const T>;
    using void_pointer = offset_ptr<void>;
    using const_void_pointer = offset_ptr<const void>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    template <class U>
    struct rebind {
        using other = heap_allocator<U>;
    };

    explicit heap_allocator(heap& of) noexcept : local_(of.local_) {}
    template <class U>
    heap_allocator(const heap_allocator<U>& other) noexcept : local_(other.local_) {}

    pointer allocate(size_type count) {
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
        try {
            return static_cast<T*>(here().allocate(count * sizeof(T), alignof(T)));
        } catch (const error& wrong) {
            if (wrong.error_number() == ENOMEM) throw std::bad_alloc();
            throw;
        }
    }
    void deallocate(const pointer& allocated, size_type) noexcept {
        heap* const self = local_->self;
        if (self == nullptr) return;
        try {
            self->deallocate(allocated.get());
        } catch (const std::exception&) {
            self->lost_frees_.fetch_add(1, std::memory_order_relaxed);
        }
    }

    template <class U>
    friend bool operator==(const heap_allocator& left, const heap_allocator<U>& right) noexcept {
        return left.is_same(right);
    }

private:
    template <class U>
    friend class heap_allocator;

    heap& here() const {
        heap* const self = local_->self;
        if (self == nullptr) {
            detail::throw_error(EPERM,
                                "heap_allocator: this process has no heap for this memory; make "
                                "one and keep it while its containers are in use");
        }
        return *self;
    }
    template <class U>
    bool is_same(const heap_allocator<U>& other) const noexcept {
        return local_ == other.local_;
    }

    offset_ptr<detail::heap_local> local_;
};

template <class T>
heap_allocator<T> heap::allocator() noexcept {
    return heap_allocator<T>(*this);
}

// The heap for std::pmr containers, whose pointers are good in this process alone: what they
// keep is shared by offset_of(). No room is std::bad_alloc.
class heap_resource : public std::pmr::memory_resource {
public:
    explicit heap_resource(heap& of) noexcept : heap_(of) {}

private:
    void* do_allocate(std::size_t bytes, std::size_t align) override {
        try {
            return heap_.allocate(bytes, align);
        } catch (const error& wrong) {
            if (wrong.error_number() == ENOMEM) throw std::bad_alloc();
            throw;
        }
    }
    void do_deallocate(void* allocated, std::size_t, std::size_t) override {
        try {
            heap_.deallocate(allocated);
        } catch (const std::exception&) {
            heap_.lost_frees_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        const auto* const same = dynamic_cast<const heap_resource*>(&other);
        return same != nullptr && &same->heap_ == &heap_;
    }

    heap& heap_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_HEAP_HPP
