// SPDX-License-Identifier: MIT
//
// The engine under pipes and stream sockets: one connection, and on it a stream in
// each direction, of which a pipe's end uses one. It owns how a stream opens and
// closes; stream_out.hpp and stream_in.hpp have the directions.
//
// No handshake: a writer writes before the peer has opened its stream, because its
// ring lies in its own slot, and a slot of zeros says that nothing was read yet.
//
// Each direction has a turn (turn.hpp), and who has it waits for that direction's
// vector alone. The two are independent: a thread may read while another writes.
#ifndef IPCDOOR_DETAIL_STREAM_CORE_HPP
#define IPCDOOR_DETAIL_STREAM_CORE_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <ipcdoor.h>

#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/detail/stream_in.hpp>
#include <ipcdoor/detail/stream_link.hpp>
#include <ipcdoor/detail/stream_out.hpp>

namespace ipcdoor::detail {

class stream_core {
public:
    // `endpoint` is one of a connection's two and outlives this.
    stream_core(ipcdoor_endpoint* endpoint, std::uint32_t roles, std::uint64_t spin_ns,
                std::uint64_t limit)
        : link_(endpoint, roles, limit), out_(link_, spin_ns), in_(link_, spin_ns) {}

    // False in a forked child, of which this is a copy: the memory is not there.
    bool is_mine() const noexcept { return maker_.is_mine(); }
    void check_mine() const {
        maker_.check("stream: it is the parent's; a forked child opens one by itself");
    }

    stream_out& out() noexcept { return out_; }
    stream_in& in() noexcept { return in_; }
    std::uint32_t peer_slot() const noexcept { return link_.peer_slot(); }

    // The calls of an event loop. Where they find nothing they also take stale rings of
    // the other direction, or its last one would keep the descriptor readable.
    std::optional<std::size_t> try_write(std::span<const std::byte> bytes) {
        const std::optional<std::size_t> written = out_.write_some(bytes, 0, false);
        if (!written) in_.acknowledge_stale();
        return written;
    }
    template <class Parts>
    std::optional<std::size_t> try_read(const Parts& parts) {
        const std::optional<std::size_t> read = in_.try_read(parts);
        if (!read) out_.acknowledge_stale();
        return read;
    }

    std::optional<std::span<std::byte>> try_reserve(std::size_t bytes) {
        const auto reserved = out_.try_reserve(bytes);
        if (!reserved) in_.acknowledge_stale();
        return reserved;
    }
    std::optional<std::span<const std::byte>> try_peek() {
        const auto peeked = in_.try_peek();
        if (!peeked) out_.acknowledge_stale();
        return peeked;
    }

    // A clean close, with no other thread here: the reader gets everything and then
    // the end, a writer EPIPE.
    void finish() noexcept {
        if (link_.writes()) out_.finish();
        if (link_.reads()) in_.shut();
    }

private:
    const fork_mark maker_;
    stream_link link_;
    stream_out out_;
    stream_in in_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_STREAM_CORE_HPP
