// SPDX-License-Identifier: MIT
//
// subscriber: one of the readers of a publisher (publish.hpp). A sample is read where the
// publisher wrote it, and stays as it is until it is dropped.
//
//     ipcdoor::subscriber images(door, "images");
//     for (;;) {
//         ipcdoor::sample next = images.take();
//         show(next.bytes());
//     }
//
// Nothing that a publisher writes is believed: numbers are read once and checked, and no
// length leads out of its memory. But the bytes of a sample are the publisher's: a hostile
// one can change them while they are read. Copy what has to be checked, then check the copy.
//
// When the publisher has died, what was queued can still be taken; then take() throws with
// is_peer_death(), and the samples that are held stay readable. A new publisher of the same
// name is subscribed to anew.
//
// Threads. Any number may take samples from one subscriber; each sample goes to one of them.
// Samples may be dropped by any thread, also after the subscriber. A fork()ed child may only
// destroy its copies: EPERM.
#ifndef IPCDOOR_SUBSCRIBE_HPP
#define IPCDOOR_SUBSCRIBE_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/connection.hpp>
#include <ipcdoor/detail/descriptor_passing.hpp>
#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/detail/rendezvous.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/memory.hpp>
#include <ipcdoor/publish_layout.hpp>

namespace ipcdoor {

struct subscriber_options {
    std::uint64_t type = 0;  // what the samples have to be, 0: whatever
    // Of a publisher that is trusted not to take pages away; see memory_view.
    bool allow_huge_pages = false;
};

struct subscriber_stats {
    std::uint64_t taken = 0;
    std::uint64_t dropped = 0;  // taken back because the queue was full
    std::uint64_t missed = 0;   // not even put into it, because it was full
    std::uint64_t waits = 0;    // times that a thread slept
};

namespace detail {

// What a subscriber and its samples share.
class subscription {
public:
    struct taken_sample {
        std::uint64_t sequence = 0;
        std::uint64_t published_ns = 0;
        std::span<const std::byte> bytes;
        std::uint32_t hold = 0;
    };

    subscription(door& at, const std::string& name, const subscriber_options& options,
                 deadline until)
        : end_(connect_through_signals(at, name, until)), giver_(1) {
        IPCDOOR_STEP("subscribe:connected");
        const auto info = end_.info();
        publisher_ = 1 - info.slot;
        mine_ = reinterpret_cast<subscriber_slot*>(end_.memory().data());
        theirs_ = reinterpret_cast<const publisher_slot*>(end_.memory(publisher_).data());
        const pid_t pid = end_.peer_info(publisher_).pid;
        if (pid <= 0) {
            throw_error(EXDEV, "publish: '" + name +
                                   "' is published in another PID namespace, so its memory cannot "
                                   "be taken for sure");
        }
        mine_->descriptor_socket.store(giver_.word(), std::memory_order_relaxed);
        mine_->version_min.store(publish_version_min, std::memory_order_relaxed);
        mine_->version_max.store(publish_version_max, std::memory_order_relaxed);
        IPCDOOR_STEP("subscribe:header");
        mine_->magic.store(subscribe_magic, std::memory_order_release);
        IPCDOOR_STEP("subscribe:magic");
        ring(hello_vector);
        IPCDOOR_STEP("subscribe:rung");
        await_publisher(until);
        IPCDOOR_STEP("subscribe:greeted");
        map_pool(info.slot_bytes, pid, options);
        IPCDOOR_STEP("subscribe:mapped");
    }
    subscription(const subscription&) = delete;
    subscription& operator=(const subscription&) = delete;

    // False: there is none at the deadline. Throws EPIPE where there never will be one.
    bool take(taken_sample& into, std::uint64_t deadline_ns) {
        maker_.check("publish: the subscriber is the parent process's; subscribe in this one");
        std::unique_lock lock(mutex_);
        const hand_on next_one{changed_};
        for (unsigned in_vain = 0;;) {
            if (take_one(into)) return true;
            if (dead_) {
                throw_error(EPIPE,
                            "publish: the publisher is gone, and everything that it had published "
                            "has been taken; subscribe again when there is a new one");
            }
            const bool past = deadline::at_ns(deadline_ns).is_past();
            if (leading_) {
                if (past) return false;
                static_cast<void>(wait_until(changed_, lock, deadline_ns));
                continue;
            }
            IPCDOOR_STEP("take:none");
            // The publisher rings when the tail gets there. It stores the tail before it
            // looks whether that is awaited, this thread the other way round.
            mine_->armed.exchange(head_ + 1, std::memory_order_seq_cst);
            IPCDOOR_STEP("take:armed");
            if (theirs_->tail.load(std::memory_order_seq_cst) != head_) {
                mine_->armed.store(0, std::memory_order_relaxed);
                IPCDOOR_STEP("take:disarmed");
                // A publisher that takes everything back at once would go on for ever.
                if (++in_vain == most_retries) violated("its tail");
                continue;
            }
            in_vain = 0;
            leading_ = true;
            if (!past) ++stats_.waits;
            lock.unlock();
            int waited;
            do {
                waited = ipcdoor_wait(end_.get(), all_vectors, past ? 0 : deadline_ns, nullptr);
            } while (waited == -EINTR);
            lock.lock();
            leading_ = false;
            changed_.notify_one();
            // Whoever asks without waiting may wait for the descriptor, so it stays armed.
            if (!past) mine_->armed.store(0, std::memory_order_relaxed);
            IPCDOOR_STEP("take:woken");
            if (waited == -EPIPE) {
                dead_ = true;
                continue;
            }
            if (waited != -ETIMEDOUT) throw_if(waited);
            if (past && theirs_->tail.load(std::memory_order_seq_cst) == head_) return false;
        }
    }

    // Any thread.
    void release(std::uint32_t hold) noexcept {
        if (is_copy()) return;
        mine_->holds[hold].exchange(0, std::memory_order_seq_cst);
        IPCDOOR_STEP("release:hold");
        used_[hold / 64].fetch_and(~(std::uint64_t{1} << hold % 64), std::memory_order_release);
        tell_room();
    }

    // No more samples are wanted; those that are held are.
    void close() noexcept {
        if (is_copy()) return;
        mine_->closed.store(1, std::memory_order_seq_cst);
        IPCDOOR_STEP("close:closed");
        tell_room();
    }

    int fd() const { return end_.fd(); }
    struct ipcdoor_peer_info publisher() const {
        return end_.peer_info(publisher_);
    }
    std::size_t chunk_bytes() const noexcept { return chunk_bytes_; }
    std::uint32_t max_held() const noexcept { return max_held_; }

    subscriber_stats stats() const {
        const std::lock_guard lock(mutex_);
        subscriber_stats now = stats_;
        now.missed = theirs_->missed.load(std::memory_order_relaxed);
        return now;
    }

    // In a forked child: its memory is not there.
    bool is_copy() const noexcept { return !maker_.is_mine(); }
    void leave_to_parent() noexcept {
        end_.close();
        giver_.close_all();
    }

private:
    static constexpr unsigned most_retries = 1000;

    void await_publisher(deadline until) {
        for (bool gone = false; !verify_publish_header(*theirs_, publish_magic);) {
            if (gone) {
                throw_error(EPIPE,
                            "publish: the publisher died, or would not have this subscriber");
            }
            const int waited = ipcdoor_wait(end_.get(), all_vectors, until.ns(), nullptr);
            if (waited == -ETIMEDOUT) {
                throw_error(ETIMEDOUT,
                            "publish: the publisher did not let this subscriber in before the "
                            "deadline; it has to publish, or to poll()");
            }
            if (waited == -EPIPE)
                gone = true;
            else if (waited != -EINTR)
                throw_if(waited);
        }
    }

    void map_pool(std::uint64_t slot_bytes, pid_t pid, const subscriber_options& options) {
        const std::uint64_t bytes = theirs_->pool_bytes.load(std::memory_order_relaxed);
        const std::uint64_t type = theirs_->type.load(std::memory_order_relaxed);
        chunk_bytes_ = theirs_->chunk_bytes.load(std::memory_order_relaxed);
        chunks_ = theirs_->chunks.load(std::memory_order_relaxed);
        queue_ = theirs_->queue_capacity.load(std::memory_order_relaxed);
        max_held_ = theirs_->max_held.load(std::memory_order_relaxed);
        if (chunk_bytes_ == 0 || chunk_bytes_ > publish_max_chunk_bytes || chunks_ == 0 ||
            chunks_ > publish_max_chunks || bytes < publish_stride(chunk_bytes_) * chunks_ ||
            bytes > std::numeric_limits<std::size_t>::max() / 2 || queue_ == 0 ||
            queue_ > publish_max_queue || publish_slot_bytes(queue_) > slot_bytes ||
            max_held_ == 0 || max_held_ > publish_max_held)
            throw_error(EPROTO, "publish: the publisher's header contradicts itself");
        if (options.type != 0 && type != options.type) {
            throw_error(EPROTOTYPE, "publish: samples of type " + std::to_string(options.type) +
                                        " are expected, and of type " + std::to_string(type) +
                                        " published");
        }
        std::vector<owned_fd> came =
            giver_.take(0, theirs_->pool_token.load(std::memory_order_relaxed), 1, {pid});
        giver_.close_all();
        if (!came[0]) {
            throw_error(EMFILE,
                        "publish: there is no room for one more descriptor; raise the limit of "
                        "open files (ulimit -n)");
        }
        pool_.emplace(std::move(came[0]), static_cast<std::size_t>(bytes),
                      options.allow_huge_pages);
    }

    // One of those that are queued. Throws EPROTO, and ENOBUFS where too many are held.
    bool take_one(taken_sample& into) {
        for (unsigned i = 0; i < most_retries; ++i) {
            const std::uint64_t tail = theirs_->tail.load(std::memory_order_acquire);
            const std::uint64_t floor = theirs_->floor.load(std::memory_order_acquire);
            if (floor > head_) {
                // The floor was read later: the tail may have been with it.
                if (floor > theirs_->tail.load(std::memory_order_acquire)) violated("its floor");
                stats_.dropped += floor - head_;
                head_ = floor;
                mine_->head.exchange(head_, std::memory_order_seq_cst);
                IPCDOOR_STEP("take:floor");
                tell_room();
                continue;
            }
            if (tail == head_) return false;
            if (tail - head_ > queue_) {
                // Or the floor has passed since.
                if (theirs_->floor.load(std::memory_order_acquire) > head_) continue;
                violated("its tail");
            }
            const publish_entry& entry = theirs_->entries[head_ % queue_];
            const std::uint64_t sequence = entry.sequence.load(std::memory_order_acquire);
            const std::uint64_t bytes = entry.bytes.load(std::memory_order_acquire);
            const std::uint64_t published_ns = entry.published_ns.load(std::memory_order_acquire);
            const std::uint32_t chunk = entry.chunk.load(std::memory_order_acquire);
            const std::uint32_t hold = free_hold();
            mine_->holds[hold].exchange(chunk + 1, std::memory_order_seq_cst);
            IPCDOOR_STEP("take:hold");
            if (theirs_->floor.load(std::memory_order_seq_cst) > head_) {
                mine_->holds[hold].exchange(0, std::memory_order_seq_cst);
                IPCDOOR_STEP("take:undo");
                continue;
            }
            if (chunk >= chunks_ || bytes > chunk_bytes_) {
                mine_->holds[hold].exchange(0, std::memory_order_seq_cst);
                violated("an entry");
            }
            used_[hold / 64].fetch_or(std::uint64_t{1} << hold % 64, std::memory_order_relaxed);
            mine_->head.exchange(++head_, std::memory_order_seq_cst);
            IPCDOOR_STEP("take:head");
            tell_room();
            ++stats_.taken;
            into = {sequence, published_ns,
                    pool_->bytes().subspan(chunk * publish_stride(chunk_bytes_), bytes), hold};
            return true;
        }
        return false;  // the publisher is faster than this thread: it is asked to come again
    }

    std::uint32_t free_hold() const {
        for (std::uint32_t word = 0; word * 64 < max_held_; ++word) {
            const auto hold = word * 64 + static_cast<std::uint32_t>(std::countr_one(
                                              used_[word].load(std::memory_order_acquire)));
            if (hold < std::min(max_held_, (word + 1) * 64)) return hold;
        }
        throw_error(ENOBUFS, "publish: " + std::to_string(max_held_) +
                                 " samples are held, and no more allowed by the publisher; drop "
                                 "one first");
    }

    // A publisher that waits for room is told, once for each of its waits.
    void tell_room() noexcept {
        const std::uint64_t awaited = theirs_->awaited.load(std::memory_order_seq_cst);
        if (awaited == 0 || told_.exchange(awaited, std::memory_order_relaxed) == awaited) return;
        ring_quietly(space_vector(0));
        IPCDOOR_STEP("room:told");
    }
    int ring_quietly(std::uint32_t vector) noexcept {
        const int rung = ipcdoor_ring(end_.get(), publisher_, 0, vector, 0);
        return lacks_only_signal(rung) || rung == -EPIPE ? 0 : rung;
    }
    void ring(std::uint32_t vector) { throw_if(ring_quietly(vector)); }

    [[noreturn]] static void violated(const char* what) {
        throw_error(EPROTO, std::string("publish: the publisher broke the protocol with ") + what +
                                "; close the subscriber");
    }

    const fork_mark maker_;
    endpoint end_;
    descriptor_receiver giver_;  // of the pool's descriptor
    std::uint32_t publisher_ = 0;
    subscriber_slot* mine_ = nullptr;
    const publisher_slot* theirs_ = nullptr;

    // What the publisher said, checked.
    std::optional<memory_view> pool_;
    std::uint64_t chunk_bytes_ = 0;
    std::uint32_t chunks_ = 0;
    std::uint32_t queue_ = 0;
    std::uint32_t max_held_ = 0;

    std::array<std::atomic<std::uint64_t>, publish_max_held / 64> used_{};  // of the holds
    std::atomic<std::uint64_t> told_{0};

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t head_ = 0;  // mutex_: what lies in the slot, too
    bool leading_ = false;    // mutex_: a thread waits in the back end
    bool dead_ = false;       // mutex_: the publisher is
    subscriber_stats stats_;  // mutex_
};

}  // namespace detail

// A sample that is held. It must not outlive main(), but it may its subscriber.
class sample {
public:
    sample(sample&& other) noexcept : from_(std::move(other.from_)), what_(other.what_) {}
    sample& operator=(sample&& other) noexcept {
        std::swap(from_, other.from_);
        std::swap(what_, other.what_);
        return *this;
    }
    // Releases it.
    ~sample() {
        if (from_) from_->release(what_.hold);
    }

    // Valid as long as the sample.
    std::span<const std::byte> bytes() const noexcept { return what_.bytes; }
    std::size_t size() const noexcept { return what_.bytes.size(); }
    // Of all that was published, from 1; numbers that are left out were lost to this one.
    std::uint64_t sequence() const noexcept { return what_.sequence; }
    // CLOCK_MONOTONIC, by the publisher's own account.
    std::uint64_t published_ns() const noexcept { return what_.published_ns; }

    // A copy of it as an object. Throws EMSGSIZE where the sizes differ.
    template <class T>
    requires(std::is_trivially_copyable_v<T>&& std::is_default_constructible_v<T>) T as()
    const {
        check_size(sizeof(T));
        T object;
        std::memcpy(&object, what_.bytes.data(), sizeof(T));
        return object;
    }
    // The object in place, for publishers that are trusted. Throws EMSGSIZE as well.
    template <class T>
    requires(std::is_trivially_copyable_v<T>) const T& in_place() const {
        static_assert(alignof(T) <= publish_chunk_alignment);
        check_size(sizeof(T));
        return *reinterpret_cast<const T*>(what_.bytes.data());
    }

private:
    friend class subscriber;
    sample(std::shared_ptr<detail::subscription> from,
           const detail::subscription::taken_sample& what) noexcept
        : from_(std::move(from)), what_(what) {}

    void check_size(std::size_t expected) const {
        if (what_.bytes.size() == expected) return;
        detail::throw_error(EMSGSIZE, "sample: " + std::to_string(what_.bytes.size()) +
                                          " bytes came where an object of " +
                                          std::to_string(expected) + " was expected");
    }

    std::shared_ptr<detail::subscription> from_;  // null: moved away
    detail::subscription::taken_sample what_;
};

class subscriber {
public:
    // Waits until the publisher has let it in. Throws what door::connect() throws (ENOENT:
    // nobody publishes under this name), ETIMEDOUT, EPIPE, EPROTOTYPE for samples of another
    // type, EXDEV for a publisher in another PID namespace.
    subscriber(door& at, const std::string& name, const subscriber_options& options = {},
               deadline until = {})
        : core_(std::make_shared<detail::subscription>(at, name, options, until)) {}
    subscriber(subscriber&&) noexcept = default;
    subscriber& operator=(subscriber&& other) noexcept {
        std::swap(core_, other.core_);
        return *this;
    }
    ~subscriber() {
        if (core_ == nullptr) return;
        if (!core_->is_copy()) {
            core_->close();
            return;
        }
        core_->leave_to_parent();
        static_cast<void>(new (std::nothrow)
                              std::shared_ptr<detail::subscription>(std::move(core_)));
    }

    // The next sample; blocks while there is none. Throws ETIMEDOUT; EPIPE once the publisher
    // is gone and all are taken; ENOBUFS while max_held() samples are held; EPROTO.
    sample take(deadline until = {}) {
        std::optional<sample> taken = taken_by(until.ns());
        if (!taken) {
            detail::throw_error(ETIMEDOUT,
                                "publish: the deadline passed while waiting for a sample");
        }
        return std::move(*taken);
    }
    // Nothing where there is none. Never blocks.
    [[nodiscard]] std::optional<sample> try_take() { return taken_by(0); }

    // Readable while there may be a sample: try_take() until there is none. Stays the
    // subscriber's.
    int fd() const { return core_->fd(); }

    // How many samples may be held at once.
    std::uint32_t max_held() const noexcept { return core_->max_held(); }
    // The longest sample.
    std::size_t chunk_bytes() const noexcept { return core_->chunk_bytes(); }
    // Who the publisher is, as the kernel captured it.
    struct ipcdoor_peer_info peer() const {
        return core_->publisher();
    }
    subscriber_stats stats() const { return core_->stats(); }

private:
    std::optional<sample> taken_by(std::uint64_t deadline_ns) {
        detail::subscription::taken_sample what;
        if (!core_->take(what, deadline_ns)) return std::nullopt;
        return sample(core_, what);
    }

    std::shared_ptr<detail::subscription> core_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_SUBSCRIBE_HPP
