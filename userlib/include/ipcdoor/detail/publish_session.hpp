// SPDX-License-Identifier: MIT
//
// A publisher's side of one subscriber: a connection, and the queue in it.
//
// A queue hands out sequence numbers of its own: entry i lies at i % capacity. The
// publisher writes an entry and then the tail. The subscriber notes the entry's chunk in
// `holds` and then moves its head. So a publisher that reads the head first, and then the
// holds, finds each chunk that is in use: before the head in the holds, behind it in the
// queue.
//
// A publisher that drops the oldest raises the floor over entries that the subscriber may
// be taking at that moment. Both write, then look: the publisher the floor, then the holds;
// the subscriber the hold, then the floor; all four sequentially consistent. Either the
// subscriber sees that the entry was taken back and lets go of it, or the publisher sees
// that its chunk is held; an entry is overwritten only after the floor has passed it.
//
// Not thread-safe: the publisher's lock is held.
#ifndef IPCDOOR_DETAIL_PUBLISH_SESSION_HPP
#define IPCDOOR_DETAIL_PUBLISH_SESSION_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <ipcdoor/detail/chunk_pool.hpp>
#include <ipcdoor/detail/connection.hpp>
#include <ipcdoor/detail/descriptor_passing.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/publish_layout.hpp>

namespace ipcdoor::detail {

// A sample as its publisher knows it.
struct published_sample {
    std::uint64_t sequence = 0;
    std::uint64_t bytes = 0;
    std::uint64_t published_ns = 0;
    std::uint32_t chunk = 0;
};

class publish_session {
public:
    struct terms {
        std::uint32_t queue_capacity = 0;
        std::uint32_t max_held = 0;
        std::uint64_t type = 0;
        bool huge = false;
    };

    publish_session(endpoint accepted, const terms& offered)
        : end_(std::move(accepted)), terms_(offered), chunks_(offered.queue_capacity) {
        peer_ = 1 - end_.slot();
        mine_ = reinterpret_cast<publisher_slot*>(end_.memory().data());
        theirs_ = reinterpret_cast<const subscriber_slot*>(end_.memory(peer_).data());
    }

    int fd() const { return end_.fd(); }
    bool ready() const noexcept { return ready_; }
    struct ipcdoor_peer_info peer() const {
        return end_.peer_info(peer_);
    }

    // Takes the doorbell's events. Throws EPIPE where the subscriber is gone.
    void take_events() {
        // One look takes all that was rung, another one finds a death. Who rings on and on is
        // looked at again the next time.
        for (int looks = 0; looks < 2; ++looks) {
            if (!end_.wait(all_vectors, std::chrono::seconds(0))) return;
            IPCDOOR_STEP("look:event");
        }
    }

    // Goes on with the greeting. True once, when it is done and entries may be put. Throws
    // EPROTO and other reasons why it will never be.
    bool greet(const chunk_pool& pool) {
        if (ready_ || !verify_publish_header(*theirs_, subscribe_magic)) return false;
        const pid_t pid = peer().pid;
        if (pid <= 0) {
            throw_error(EXDEV,
                        "publish: the subscriber is in another PID namespace, so its memory "
                        "cannot be handed to it for sure");
        }
        const int descriptor = pool.pages().fd();
        std::uint64_t token = 0;
        if (!giving_.give(0, theirs_->descriptor_socket.load(std::memory_order_relaxed), {pid},
                          {&descriptor, 1}, token))
            return false;
        giving_.close_all();
        IPCDOOR_STEP("greet:descriptor");
        mine_->chunk_bytes.store(pool.chunk_bytes(), std::memory_order_relaxed);
        mine_->pool_bytes.store(pool.pages().bytes().size(), std::memory_order_relaxed);
        mine_->type.store(terms_.type, std::memory_order_relaxed);
        mine_->chunks.store(pool.chunks(), std::memory_order_relaxed);
        mine_->queue_capacity.store(terms_.queue_capacity, std::memory_order_relaxed);
        mine_->max_held.store(terms_.max_held, std::memory_order_relaxed);
        mine_->huge.store(terms_.huge ? 1 : 0, std::memory_order_relaxed);
        mine_->pool_token.store(token, std::memory_order_relaxed);
        mine_->version_min.store(publish_version_min, std::memory_order_relaxed);
        mine_->version_max.store(publish_version_max, std::memory_order_relaxed);
        IPCDOOR_STEP("greet:header");
        mine_->magic.store(publish_magic, std::memory_order_release);
        IPCDOOR_STEP("greet:magic");
        ready_ = true;
        return true;
    }
    void tell_greeted() {
        ring(hello_vector);
        IPCDOOR_STEP("greet:rung");
    }

    // ---- the queue ----

    // Not any more where only samples that are held are left of a subscriber. For good: the
    // queue of one that came back would hold other chunks than the latest, which the others'
    // queues hold.
    bool listens() noexcept {
        closed_ = closed_ || theirs_->closed.load(std::memory_order_seq_cst) != 0;
        return !closed_;
    }
    bool has_room() { return tail_ - first() < terms_.queue_capacity; }
    // Makes room: the oldest entries are taken back.
    void drop_oldest() {
        const std::uint64_t oldest = first();
        if (tail_ - oldest < terms_.queue_capacity) return;
        floor_ = oldest + 1;
        mine_->floor.exchange(floor_, std::memory_order_seq_cst);
        IPCDOOR_STEP("publish:floor");
    }
    void miss() {
        mine_->missed.fetch_add(1, std::memory_order_relaxed);
        IPCDOOR_STEP("publish:missed");
    }

    // Puts an entry where there is room. True: the subscriber sleeps for it; ring().
    [[nodiscard]] bool put(const published_sample& what) {
        publish_entry& entry = mine_->entries[tail_ % terms_.queue_capacity];
        // Whoever reads these finds the floor that made room for them.
        entry.sequence.store(what.sequence, std::memory_order_release);
        entry.bytes.store(what.bytes, std::memory_order_release);
        entry.published_ns.store(what.published_ns, std::memory_order_release);
        entry.chunk.store(what.chunk, std::memory_order_release);
        chunks_[tail_ % terms_.queue_capacity] = what.chunk;
        IPCDOOR_STEP("publish:entry");
        ++tail_;
        mine_->tail.exchange(tail_, std::memory_order_seq_cst);
        IPCDOOR_STEP("publish:tail");
        return theirs_->armed.load(std::memory_order_seq_cst) == tail_;
    }
    void ring_for_data() {
        ring(data_vector);
        IPCDOOR_STEP("publish:rung");
    }

    // Calls `mark` with each chunk that the subscriber may read.
    template <class Mark>
    void mark_used(std::uint32_t chunks, Mark& mark) {
        for (std::uint64_t i = listens() ? first() : tail_; i != tail_; ++i)
            mark(chunks_[i % terms_.queue_capacity]);
        for (std::uint32_t i = 0; i < terms_.max_held; ++i) {
            const std::uint32_t held = theirs_->holds[i].load(std::memory_order_seq_cst);
            if (held == 0) continue;
            if (held > chunks) throw_error(EPROTO, "publish: a subscriber holds what there is not");
            mark(held - 1);
        }
    }

    // The number of a wait for room, 0 when it is over.
    void await_room(std::uint64_t epoch) {
        mine_->awaited.exchange(epoch, std::memory_order_seq_cst);
    }

private:
    // The oldest entry that is still queued.
    std::uint64_t first() {
        const std::uint64_t head = theirs_->head.load(std::memory_order_seq_cst);
        if (head > tail_ || head < head_)
            throw_error(EPROTO, "publish: a subscriber's head is out of order");
        head_ = head;
        return std::max(head, floor_);
    }

    void ring(std::uint32_t vector) {
        const int rung = ipcdoor_ring(end_.get(), peer_, 0, vector, 0);
        if (!lacks_only_signal(rung)) throw_if(rung);
    }

    endpoint end_;
    const terms terms_;
    std::uint32_t peer_ = 0;
    publisher_slot* mine_ = nullptr;
    const subscriber_slot* theirs_ = nullptr;
    descriptor_sender giving_;
    bool ready_ = false;
    bool closed_ = false;

    // What lies in the slot, too.
    std::uint64_t tail_ = 0;
    std::uint64_t floor_ = 0;
    std::uint64_t head_ = 0;             // the subscriber's, as last seen
    std::vector<std::uint32_t> chunks_;  // of the entries
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_PUBLISH_SESSION_HPP
