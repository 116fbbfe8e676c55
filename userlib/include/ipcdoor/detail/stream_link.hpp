// SPDX-License-Identifier: MIT
//
// What the two directions of a stream share: the slots of the connection, its
// doorbells, the peer's header, and whether the peer is dead.
#ifndef IPCDOOR_DETAIL_STREAM_LINK_HPP
#define IPCDOOR_DETAIL_STREAM_LINK_HPP

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>

#include <ipcdoor.h>

#include <ipcdoor/error.hpp>
#include <ipcdoor/stream_layout.hpp>

namespace ipcdoor::detail {

class stream_link {
public:
    // Vectors of the doorbell, those of a channel. signal.hpp has 4, and 8 to 63 are the
    // user's.
    static constexpr std::uint32_t data_vector = 1;   // bytes, an end or a header for the reader
    static constexpr std::uint32_t space_vector = 2;  // room or an end for the writer
    static constexpr std::uint32_t hello_vector = 3;  // rung by a channel that should be none

    // `endpoint` is one of a connection's two and outlives this.
    stream_link(ipcdoor_endpoint* endpoint, std::uint32_t roles, std::uint64_t limit)
        : endpoint_(endpoint), roles_(roles) {
        struct ipcdoor_endpoint_info info {};
        throw_if(ipcdoor_endpoint_info(endpoint, &info));
        if ((info.flags & IPCDOOR_ENDPOINT_CONNECTION) == 0 || info.slots != 2) {
            throw_error(EINVAL,
                        "stream: this endpoint is not one of a connection; get it from connect() "
                        "or accept()");
        }
        own_ = info.slot;
        peer_ = 1 - info.slot;
        slot_bytes_ = info.slot_bytes;
        mine_ = slot_memory(own_);
        theirs_ = slot_memory(peer_);
        if (mine().magic.load(std::memory_order_relaxed) != 0)
            throw_error(EBUSY, "stream: this endpoint already carries a stream or a channel");
        capacity_ = init_stream_slot(mine_, slot_bytes_, roles, limit);
        // A reader may wait for the header, and a writer for room though nobody reads
        // here. If the peer died, the first use will tell.
        ring_peer(data_vector);
        if (!reads()) ring_peer(space_vector);
    }
    stream_link(const stream_link&) = delete;
    stream_link& operator=(const stream_link&) = delete;

    stream_slot& mine() const noexcept { return *static_cast<stream_slot*>(mine_); }
    const stream_slot& theirs() const noexcept { return *static_cast<const stream_slot*>(theirs_); }
    std::byte* own_data() const noexcept { return stream_data(mine_); }
    const std::byte* peer_data() const noexcept {
        return stream_data(static_cast<const void*>(theirs_));
    }
    std::uint64_t capacity() const noexcept { return capacity_; }
    std::uint64_t most_capacity() const noexcept { return stream_capacity(slot_bytes_); }
    std::uint32_t peer_slot() const noexcept { return peer_; }
    bool reads() const noexcept { return (roles_ & stream_reads) != 0; }
    bool writes() const noexcept { return (roles_ & stream_writes) != 0; }

    // The capacity of the peer's stream, 0 while its header is not there. Throws
    // EPROTO, EPROTONOSUPPORT.
    std::uint64_t verify_peer() const { return verify_stream_slot(theirs_, slot_bytes_, roles_); }

    // ---- doorbells ----

    // A death that this finds is noted. What else could fail comes out at the next wait.
    void ring_peer(std::uint32_t vector) noexcept {
        if (ipcdoor_ring(endpoint_, peer_, 0, vector, 0) == -EPIPE) bury();
    }

    // Wakes the thread of this process that waits for `vector`.
    void ring_own(std::uint32_t vector) noexcept {
        static_cast<void>(ipcdoor_ring(endpoint_, own_, 0, vector, 0));
    }

    // 0, -EPIPE (and noted), -ETIMEDOUT, or an error that no waiting cures. Signal
    // handlers run meanwhile.
    int wait(std::uint32_t vector, std::uint64_t deadline_ns) noexcept {
        return wait_for(std::uint64_t{1} << vector, deadline_ns, nullptr);
    }
    // The same, for the peer's header.
    int wait_for_header(std::uint64_t deadline_ns) noexcept {
        return wait_for(std::uint64_t{1} << data_vector | std::uint64_t{1} << hello_vector,
                        deadline_ns, nullptr);
    }

    // Takes what of `vectors` was rung, and vector 0, which comes with a death: then a
    // second look tells of it. Throws what no waiting cures.
    void acknowledge(std::uint64_t vectors) {
        constexpr std::uint64_t lifecycle = std::uint64_t{1} << IPCDOOR_VECTOR_LIFECYCLE;
        ipcdoor_event taken{};
        int waited = wait_for(vectors | lifecycle, 0, &taken);
        if (waited == 0 && (taken.fired & lifecycle) != 0)
            waited = wait_for(vectors | lifecycle, 0, &taken);
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

    void* slot_memory(std::uint32_t slot) const {
        void* const memory = ipcdoor_slot_memory(endpoint_, slot);
        if (memory == nullptr) throw_if(-errno);
        return memory;
    }

    ipcdoor_endpoint* const endpoint_;
    const std::uint32_t roles_;
    std::uint32_t own_ = 0;
    std::uint32_t peer_ = 0;
    std::uint64_t slot_bytes_ = 0;
    std::uint64_t capacity_ = 0;
    void* mine_ = nullptr;
    const void* theirs_ = nullptr;
    std::atomic<bool> dead_{false};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_STREAM_LINK_HPP
