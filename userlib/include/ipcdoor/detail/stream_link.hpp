// SPDX-License-Identifier: MIT
//
// What the two directions of a stream share: the slots of the connection, its
// doorbells, the peer's header, and whether the peer is dead.
#ifndef IPCDOOR_DETAIL_STREAM_LINK_HPP
#define IPCDOOR_DETAIL_STREAM_LINK_HPP

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <ipcdoor.h>

#include <ipcdoor/detail/connection.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/stream_layout.hpp>

namespace ipcdoor::detail {

class stream_link {
public:
    // The reader is rung for bytes, an end and the header, the writer for room and an end.
    static constexpr std::uint32_t reader_vector = data_vector;
    static constexpr std::uint32_t writer_vector = space_vector(0);

    // `endpoint` is one of a connection's two and outlives this.
    stream_link(ipcdoor_endpoint* endpoint, std::uint32_t roles, std::uint64_t limit)
        : endpoint_(endpoint), roles_(roles), slots_(slots_of_connection(endpoint, "stream")) {
        if (mine().magic.load(std::memory_order_relaxed) != 0)
            throw_error(EBUSY, "stream: this endpoint already carries a stream or a channel");
        capacity_ = init_stream_slot(slots_.mine, slots_.bytes, roles, limit);
        // A reader may wait for the header, and a writer for room though nobody reads
        // here. If the peer died, the first use will tell.
        ring_peer(reader_vector);
        if (!reads()) ring_peer(writer_vector);
    }
    stream_link(const stream_link&) = delete;
    stream_link& operator=(const stream_link&) = delete;

    stream_slot& mine() const noexcept { return *static_cast<stream_slot*>(slots_.mine); }
    const stream_slot& theirs() const noexcept {
        return *static_cast<const stream_slot*>(slots_.theirs);
    }
    std::byte* own_data() const noexcept { return stream_data(slots_.mine); }
    const std::byte* peer_data() const noexcept { return stream_data(slots_.theirs); }
    std::uint64_t capacity() const noexcept { return capacity_; }
    std::uint64_t most_capacity() const noexcept { return stream_capacity(slots_.bytes); }
    std::uint32_t peer_slot() const noexcept { return slots_.peer; }
    bool reads() const noexcept { return (roles_ & stream_reads) != 0; }
    bool writes() const noexcept { return (roles_ & stream_writes) != 0; }

    // The capacity of the peer's stream, 0 while its header is not there. Throws
    // EPROTO, EPROTONOSUPPORT.
    std::uint64_t verify_peer() const {
        return verify_stream_slot(slots_.theirs, slots_.bytes, roles_);
    }

    // ---- doorbells ----

    // A death that this finds is noted. What else could fail comes out at the next wait.
    void ring_peer(std::uint32_t vector) noexcept {
        if (ipcdoor_ring(endpoint_, slots_.peer, 0, vector, 0) == -EPIPE) bury();
    }

    // Wakes the thread of this process that waits for `vector`.
    void ring_own(std::uint32_t vector) noexcept {
        static_cast<void>(ipcdoor_ring(endpoint_, slots_.own, 0, vector, 0));
    }

    // 0, -EPIPE (and noted), -ETIMEDOUT, or an error that no waiting cures. Signal
    // handlers run meanwhile.
    int wait(std::uint32_t vector, std::uint64_t deadline_ns) noexcept {
        return wait_for(vector_bit(vector), deadline_ns, nullptr);
    }
    // The same, for the peer's header; a channel, which should be none, rings hello_vector.
    int wait_for_header(std::uint64_t deadline_ns) noexcept {
        return wait_for(vector_bit(reader_vector) | vector_bit(hello_vector), deadline_ns, nullptr);
    }

    // Takes the rings of `vector`, and of vector 0, which comes with a death: then a
    // second look tells of it. Throws what no waiting cures.
    void acknowledge(std::uint32_t vector) {
        constexpr std::uint64_t lifecycle = vector_bit(IPCDOOR_VECTOR_LIFECYCLE);
        ipcdoor_event taken{};
        int waited = wait_for(vector_bit(vector) | lifecycle, 0, &taken);
        if (waited == 0 && (taken.fired & lifecycle) != 0)
            waited = wait_for(vector_bit(vector) | lifecycle, 0, &taken);
        if (waited != -ETIMEDOUT && waited != -EPIPE) throw_if(waited);
    }

    // ---- death ----

    bool dead() const noexcept { return dead_.load(std::memory_order_acquire); }

private:
    void bury() noexcept { dead_.store(true, std::memory_order_release); }

    int wait_for(std::uint64_t mask, std::uint64_t deadline_ns, ipcdoor_event* taken) noexcept {
        int waited;
        do {
            waited = ipcdoor_wait(endpoint_, mask, deadline_ns, taken);
        } while (waited == -EINTR);
        if (waited == -EPIPE) bury();
        return waited;
    }

    ipcdoor_endpoint* const endpoint_;
    const std::uint32_t roles_;
    const connection_slots slots_;
    std::uint64_t capacity_ = 0;
    std::atomic<bool> dead_{false};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_STREAM_LINK_HPP
