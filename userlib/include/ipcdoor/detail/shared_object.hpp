// SPDX-License-Identifier: MIT
//
// How a synchronisation object comes into being in DATA and is found there: in a named
// segment of its own, or where its user places it. detail::shared_object is the part that
// all of them have.
//
// Zeros are nothing yet. Who wants to make the object enters its attachment as `maker`,
// fills everything in, and stores the magic last. Others wait for the magic; where the
// maker has died before, the next one takes its place: nobody else has used the object yet,
// and a dead one writes no more.
#ifndef IPCDOOR_DETAIL_SHARED_OBJECT_HPP
#define IPCDOOR_DETAIL_SHARED_OBJECT_HPP

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/detail/owner_tag.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/sync_layout.hpp>

namespace ipcdoor {

// As of open(2): O_CREAT, O_CREAT | O_EXCL, neither.
enum class opening { open_or_create, create_only, open_only };

// For an object in DATA of an endpoint that the user has.
struct place {
    std::uint64_t offset = 0;  // in DATA; a multiple of 128
    std::uint32_t vector = 8;  // that wakes waiters; nothing else may use it there
};

namespace detail {

struct object_kind {
    const char* what;
    std::uint64_t magic;
    std::uint64_t least_bytes;
};

struct object_options {
    opening how = opening::open_or_create;
    std::uint32_t mode = 0600;
    std::uint32_t members = 0;
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

class shared_object {
public:
    // In a segment of its own. `fill` stores the parameters and first values.
    template <class Fill>
    shared_object(const object_kind& kind, door& at, const std::string& name,
                  const object_options& options, std::uint64_t bytes, Fill&& fill)
        : kind_(kind), vector_(1) {
        for (;;) {
            bool created = false;
            if (options.how != opening::create_only) try_attach(at, name, options.how);
            if (!own_ && options.how != opening::open_only)
                created = try_create(at, name, options, bytes);
            if (!own_) continue;  // it came or went meanwhile
            look_at(own_.get());
            IPCDOOR_STEP("open:attached");
            make_ready(0, options.how, created, bytes, fill);
            return;
        }
    }

    // Where the user has placed it.
    template <class Fill>
    shared_object(const object_kind& kind, endpoint& end, const place& where, opening how,
                  std::uint64_t bytes, Fill&& fill)
        : kind_(kind), vector_(where.vector), placed_(true) {
        if (where.offset % sync_align != 0) {
            throw_error(EINVAL, std::string(kind.what) + ": offset " +
                                    std::to_string(where.offset) + " is not a multiple of 128");
        }
        if (where.vector == 0 || where.vector >= IPCDOOR_VECTORS) {
            throw_error(EINVAL, std::string(kind.what) + ": vector " +
                                    std::to_string(where.vector) + ": 1 to 63 can be rung");
        }
        look_at(end.get());
        make_ready(where.offset, how, true, bytes, fill);
    }

    shared_object(const shared_object&) = delete;
    shared_object& operator=(const shared_object&) = delete;

    // Throws EPERM in a fork()ed child, which attached nothing.
    void check() const {
        if (!mark_.is_mine()) [[unlikely]]
            refuse_child();
    }
    bool is_mine() const noexcept { return mark_.is_mine(); }
    pid_t process() const noexcept { return mark_.maker(); }

    std::byte* base() const noexcept { return base_; }
    std::uint64_t bytes() const noexcept { return bytes_; }
    std::uint64_t parameter(std::size_t i) const noexcept {
        return header().parameter[i].load(std::memory_order_relaxed);
    }
    ipcdoor_endpoint* end() const noexcept { return end_; }
    std::uint32_t slot() const noexcept { return slot_; }
    std::uint32_t slots() const noexcept { return slots_; }
    std::uint32_t generation() const noexcept { return generation_; }
    std::uint64_t tag() const noexcept { return owner_tag(slot_, generation_); }
    std::uint32_t vector() const noexcept { return vector_; }
    bool placed() const noexcept { return placed_; }
    const char* what() const noexcept { return kind_.what; }

    [[noreturn]] void malformed(const std::string& why) const {
        throw_error(EPROTO,
                    std::string(kind_.what) + ": " + why +
                        ": a broken or hostile process has written there; make another one");
    }

    struct ipcdoor_slot_state state_of(std::uint32_t slot) const {
        struct ipcdoor_slot_state state {};
        throw_if(ipcdoor_slot_state(end_, slot, &state));
        return state;
    }

    // Whether the attachment that a tag names is alive.
    bool lives(std::uint64_t tag) const { return owner_lives(end_, slots_, tag); }

private:
    static constexpr std::chrono::seconds patience{10};

    sync_header& header() const noexcept { return *reinterpret_cast<sync_header*>(base_); }

    [[noreturn]] void refuse_child() const {
        throw_error(EPERM, std::string(kind_.what) +
                               ": it belongs to the parent process: open it in this one");
    }

    void try_attach(door& at, const std::string& name, opening how) {
        try {
            own_ = at.attach(name);
        } catch (const error& wrong) {
            const int why = wrong.error_number();
            if (why == ENOSPC) {
                throw_error(ENOSPC, std::string(kind_.what) + ": '" + name +
                                        "' has no place left for another process: create it "
                                        "with more members");
            }
            // EPIPE: its last member has just gone.
            const bool absent = why == ENOENT || why == EPIPE;
            if (why != EINTR && !(absent && how != opening::open_only)) throw;
        }
    }

    bool try_create(door& at, const std::string& name, const object_options& options,
                    std::uint64_t bytes) {
        if (options.members < 2 || options.members > IPCDOOR_MAX_SLOTS) {
            throw_error(EINVAL, std::string(kind_.what) + ": " + std::to_string(options.members) +
                                    " members: 2 to 256 are possible");
        }
        try {
            own_ = at.create(name, {.data_bytes = bytes,
                                    .slots = options.members,
                                    .source = options.source,
                                    .mode = options.mode});
            return true;
        } catch (const error& wrong) {
            const int why = wrong.error_number();
            const bool exists = why == EEXIST || why == EADDRINUSE;
            if (exists && options.how == opening::create_only)
                throw_error(EEXIST, std::string(kind_.what) + ": '" + name + "' exists");
            if (why != EINTR && !exists) throw;
            return false;
        }
    }

    void look_at(ipcdoor_endpoint* end) {
        end_ = end;
        struct ipcdoor_endpoint_info info {};
        throw_if(ipcdoor_endpoint_info(end, &info));
        if ((info.rights & IPCDOOR_RIGHT_WRITE) == 0) {
            throw_error(EACCES, std::string(kind_.what) +
                                    ": using it takes the right to write, which this endpoint "
                                    "has not");
        }
        slot_ = info.slot;
        slots_ = std::min<std::uint32_t>(info.slots, IPCDOOR_MAX_SLOTS);
        generation_ = info.generation;
    }

    // In a segment of its own the segment's creator makes the object, so that its options
    // hold; another one does only where the creator has died.
    bool creator_is_at_it() const {
        if (placed_) return false;
        const auto first = state_of(0);
        return first.state == IPCDOOR_SLOT_ALIVE && first.generation == 1;
    }

    template <class Fill>
    void make_ready(std::uint64_t offset, opening how, bool created, std::uint64_t bytes,
                    Fill&& fill) {
        std::size_t available = 0;
        auto* const data = static_cast<std::byte*>(ipcdoor_data_memory(end_, &available));
        if (data == nullptr) throw_error(errno, std::string(kind_.what) + ": " + ipcdoor_error());
        if (available < sizeof(sync_header) || offset > available - sizeof(sync_header))
            too_small(available, sizeof(sync_header));
        base_ = data + offset;
        available -= static_cast<std::size_t>(offset);
        const deadline until(patience);
        bool entered = false;
        for (;;) {
            if (header().magic.load(std::memory_order_acquire) != 0) {
                if (how == opening::create_only && !entered)
                    throw_error(EEXIST, std::string(kind_.what) + ": there is one already");
                verify(available);
                return;
            }
            std::uint64_t maker = header().maker.load(std::memory_order_acquire);
            IPCDOOR_STEP("open:maker");
            const bool nobody =
                maker == 0 ? created || !creator_is_at_it() : maker != tag() && !lives(maker);
            // It may have made the object ready before it died.
            if (nobody && header().magic.load(std::memory_order_acquire) != 0) continue;
            if (nobody && how == opening::open_only) {
                throw_error(ENOENT, std::string(kind_.what) +
                                        ": nothing is there yet, or its maker died before it "
                                        "was ready");
            }
            if (nobody && header().maker.compare_exchange_strong(maker, tag())) {
                entered = true;
                IPCDOOR_STEP("open:entered");
                make(available, bytes, fill);
                continue;
            }
            if (until.is_past()) {
                throw_error(ETIMEDOUT, std::string(kind_.what) +
                                           ": its maker lives, but has not made it ready for 10 "
                                           "seconds; is that process stopped?");
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    template <class Fill>
    void make(std::uint64_t available, std::uint64_t bytes, Fill&& fill) {
        // What a maker that died has left may be there.
        if (bytes > available) {
            header().maker.store(0, std::memory_order_release);
            too_small(available, bytes);
        }
        for (std::uint64_t at = offsetof(sync_header, bytes); at < bytes; at += 8) {
            reinterpret_cast<shared_u64*>(base_ + at)->store(0, std::memory_order_relaxed);
            if (at % 512 == 0) IPCDOOR_STEP("open:zeroed");
        }
        fill(header(), base_);
        header().bytes.store(bytes, std::memory_order_relaxed);
        IPCDOOR_STEP("open:filled");
        header().version_min.store(sync_version_min, std::memory_order_relaxed);
        header().version_max.store(sync_version_max, std::memory_order_relaxed);
        IPCDOOR_STEP("open:versions");
        header().magic.store(kind_.magic, std::memory_order_release);
        IPCDOOR_STEP("open:made");
    }

    [[noreturn]] void too_small(std::uint64_t available, std::uint64_t wanted) const {
        throw_error(EINVAL, std::string(kind_.what) + ": DATA has " + std::to_string(available) +
                                " bytes from there on, it takes " + std::to_string(wanted));
    }

    void verify(std::uint64_t available) {
        if (header().magic.load(std::memory_order_acquire) != kind_.magic) {
            throw_error(EPROTO, std::string(kind_.what) +
                                    ": something else is there (wrong magic); is it the right "
                                    "name or offset?");
        }
        check_versions(std::string(kind_.what) + ": it has", versions_of(header()),
                       {sync_version_min, sync_version_max});
        bytes_ = header().bytes.load(std::memory_order_relaxed);
        if (bytes_ > available || bytes_ < kind_.least_bytes)
            malformed("its size is " + std::to_string(bytes_));
    }

    const object_kind& kind_;
    const std::uint32_t vector_;
    const bool placed_ = false;
    const fork_mark mark_;
    endpoint own_;
    ipcdoor_endpoint* end_ = nullptr;
    std::byte* base_ = nullptr;
    std::uint64_t bytes_ = 0;
    std::uint32_t slot_ = 0;
    std::uint32_t slots_ = 0;
    std::uint32_t generation_ = 0;
};

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_DETAIL_SHARED_OBJECT_HPP
