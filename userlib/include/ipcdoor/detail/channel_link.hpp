// SPDX-License-Identifier: MIT
//
// What both directions of a channel share: the endpoint with its two slots, the
// doorbells, the peer's greeting, and what went wrong for good.
#ifndef IPCDOOR_DETAIL_CHANNEL_LINK_HPP
#define IPCDOOR_DETAIL_CHANNEL_LINK_HPP

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include <ipcdoor.h>

#include <ipcdoor/detail/connection.hpp>
#include <ipcdoor/detail/descriptor_passing.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/message_layout.hpp>

namespace ipcdoor::detail {

// Types of a record. Requests and replies start with the correlation id.
enum class record_type : std::uint16_t {
    message = 1,
    request = 2,
    reply = 3,
    part = 4,   // more of the message that the record before it on this lane began
    abort = 5,  // there will be no more of it
};
inline constexpr std::size_t record_id_bytes = sizeof(std::uint64_t);

// Flag of a record: parts follow. The first of them has the bytes of all together
// after its id.
inline constexpr std::uint16_t record_more = 1;

// Flag of a record: these stand behind its id.
inline constexpr std::uint16_t record_has_extras = 2;
struct record_extras {
    std::uint64_t token = 0;          // of the packet with the descriptors
    std::uint16_t descriptors = 0;    // in it
    std::uint8_t has_scheduling = 0;  // 0 or 1
    std::uint8_t policy = 0;
    std::int8_t nice = 0;
    std::uint8_t realtime_priority = 0;
    std::uint16_t pad = 0;
};
static_assert(sizeof(record_extras) == 16);

class channel_link {
public:
    struct counters {
        std::atomic<std::uint64_t> doorbells{0};     // rung, in both roles
        std::atomic<std::uint64_t> waits{0};         // times a thread slept in the back end
        std::atomic<std::uint64_t> late_replies{0};  // nobody waited for them any more
        std::atomic<std::uint64_t> discarded{0};     // found no room, by choice
    };

    // `endpoint` is one of a connection's two and outlives this.
    channel_link(ipcdoor_endpoint* endpoint, const message_greeting& greeting)
        : endpoint_(endpoint), slots_(slots_of_connection(endpoint, "channel")) {
        if (static_cast<message_slot*>(slots_.mine)->magic.load(std::memory_order_relaxed) != 0)
            throw_error(EBUSY, "channel: this endpoint already carries a channel");
        geometry_ = init_message_slot(slots_.mine, slots_.bytes, greeting);
        // The peer may wait for the header; if it died, the first use will tell.
        const int rung = ring(hello_vector);
        if (rung != -EPIPE) throw_if(rung);
    }
    channel_link(const channel_link&) = delete;
    channel_link& operator=(const channel_link&) = delete;

    const message_geometry& geometry() const noexcept { return geometry_; }
    message_lane& mine(unsigned lane) noexcept { return message_lane_of(slots_.mine, lane); }
    const message_lane& theirs(unsigned lane) const noexcept {
        return message_lane_of(slots_.theirs, lane);
    }
    std::byte* my_data(unsigned lane) noexcept {
        return static_cast<std::byte*>(slots_.mine) + geometry_.offset[lane];
    }
    const std::byte* their_data(unsigned lane) const noexcept {
        return static_cast<const std::byte*>(slots_.theirs) + geometry_.offset[lane];
    }
    // What the peer says of itself; read after await_peer().
    const message_greeting& peer_greeting() const noexcept { return peer_greeting_; }
    // As the driver captured it.
    peer_identity peer_process() const {
        struct ipcdoor_peer_info known {};
        known.slot = slots_.peer;
        throw_if(ipcdoor_peer_info(endpoint_, &known));
        return {known.pid};
    }
    counters& stats() noexcept { return stats_; }
    const counters& stats() const noexcept { return stats_; }

    // Waits for the peer's header and checks it, once. False (only where not
    // `block`): it is not there yet.
    bool await_peer(std::uint64_t deadline_ns, bool block) {
        if (ready_.load(std::memory_order_acquire)) return true;
        std::unique_lock lock(hello_mutex_);
        bool gone = false;
        while (!ready_.load(std::memory_order_relaxed)) {
            if (verify_message_slot(slots_.theirs)) {
                const auto& said = *static_cast<const message_slot*>(slots_.theirs);
                peer_greeting_ = {said.max_message_bytes.load(std::memory_order_relaxed),
                                  said.flags.load(std::memory_order_relaxed),
                                  said.descriptor_socket.load(std::memory_order_relaxed)};
                ready_.store(true, std::memory_order_release);
                // This thread may have taken the ring that another one sleeps for.
                if (greeting_) ring_own(hello_vector);
                break;
            }
            if (gone) throw_error(EPIPE, "channel: the peer died before it opened its channel");
            if (greeting_) {
                if (!block) return false;
                if (!wait_until(greeted_, lock, deadline_ns)) throw_timeout("the peer's channel");
                continue;
            }
            greeting_ = true;
            lock.unlock();
            const int waited = wait(vector_bit(hello_vector), block ? deadline_ns : 0);
            lock.lock();
            greeting_ = false;
            greeted_.notify_all();
            if (waited == -EPIPE) {
                gone = true;
            } else if (waited == -ETIMEDOUT) {
                if (!block) return false;
                throw_timeout("the peer's channel");
            } else {
                throw_if(waited);
            }
        }
        greeted_.notify_all();
        return true;
    }

    // ---- doorbells ----

    int ring(std::uint32_t vector) noexcept {
        stats_.doorbells.fetch_add(1, std::memory_order_relaxed);
        const int rung = ipcdoor_ring(endpoint_, slots_.peer, 0, vector, 0);
        return lacks_only_signal(rung) ? 0 : rung;
    }

    // For those who receive next: a death is noted, and told once everything that
    // was published has been received.
    void ring_for_data() {
        const int rung = ring(data_vector);
        if (rung == -EPIPE)
            note_death();
        else
            throw_if(rung);
    }

    // A dead peer needs no room.
    void ring_for_space(unsigned lane) {
        const int rung = ring(space_vector(lane));
        if (rung != -EPIPE) throw_if(rung);
    }

    // Wakes this side's own threads that sleep in the back end. A failing ring leaves
    // them to their deadlines or the peer's next ring.
    void ring_own(std::uint32_t vector) noexcept {
        static_cast<void>(ipcdoor_ring(endpoint_, slots_.own, 0, vector, 0));
    }

    // 0, -EPIPE or -ETIMEDOUT. Anything else is a hint to look again, too, but
    // for errors that no waiting cures. `ring_first`: rings data_vector as well.
    int wait(std::uint64_t mask, std::uint64_t deadline_ns, bool ring_first = false) noexcept {
        stats_.waits.fetch_add(1, std::memory_order_relaxed);
        int waited;
        if (ring_first) {
            stats_.doorbells.fetch_add(1, std::memory_order_relaxed);
            waited = ipcdoor_ring_wait(endpoint_, slots_.peer, 0, data_vector, 0, mask, deadline_ns,
                                       nullptr);
            if (waited != -EINTR && !lacks_only_signal(waited)) return waited;
        }
        do {
            waited = ipcdoor_wait(endpoint_, mask, deadline_ns, nullptr);
        } while (waited == -EINTR);
        return waited;
    }

    // ---- what ends a channel ----

    bool dead() const noexcept { return dead_.load(std::memory_order_acquire); }
    void note_death() noexcept { dead_.store(true, std::memory_order_release); }
    [[noreturn]] void throw_dead() {
        note_death();
        throw_error(EPIPE, "channel: the peer is dead; connect again");
    }

    bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }
    void check_failed() const {
        // failure_ was written before failed_ and never again.
        if (failed()) [[unlikely]]
            throw_error(EPROTO, failure_);
    }
    // False where it had failed before.
    bool fail(const std::string& why) {
        const std::lock_guard lock(hello_mutex_);
        if (failed_.load(std::memory_order_relaxed)) return false;
        failure_ = why;
        failed_.store(true, std::memory_order_release);
        return true;
    }

    [[noreturn]] static void throw_timeout(const char* what) {
        throw_error(ETIMEDOUT,
                    std::string("channel: the deadline passed while waiting for ") + what);
    }

private:
    ipcdoor_endpoint* const endpoint_;
    const connection_slots slots_;
    message_geometry geometry_;
    message_greeting peer_greeting_;  // before ready_

    std::mutex hello_mutex_;
    std::condition_variable greeted_;
    bool greeting_ = false;  // hello_mutex_: a thread waits in the back end
    std::atomic<bool> ready_{false};

    std::atomic<bool> dead_{false};
    std::atomic<bool> failed_{false};
    std::string failure_;  // before failed_
    counters stats_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CHANNEL_LINK_HPP
