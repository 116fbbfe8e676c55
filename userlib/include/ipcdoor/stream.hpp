// SPDX-License-Identifier: MIT
//
// Stream sockets: bytes in both directions over a connection, with the calls and
// rules of a pipe's two ends (pipe.hpp) in one object. The directions are apart: one
// thread may read while another writes, and each can be shut down by itself.
//
//     ipcdoor::stream_listener names(door, "echo");
//     ipcdoor::stream_socket client = names.accept();
//
//     ipcdoor::stream_socket server = ipcdoor::connect_stream(door, "echo");
//
// In an event loop put fd() into poll or epoll and call try_read() and try_write()
// until they return nothing; then the descriptor tells when there is more.
//
// Two sides that only write, each waiting for room before it reads, wait for each
// other: let another thread read, or give the writes deadlines.
#ifndef IPCDOOR_STREAM_HPP
#define IPCDOOR_STREAM_HPP

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/rendezvous.hpp>
#include <ipcdoor/detail/stream_end.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/stream_layout.hpp>

namespace ipcdoor {

class stream_socket : public detail::can_write<detail::can_read<detail::stream_end>> {
public:
    // Takes an end of a connection, whose slots are stream_slot_bytes() large. Never
    // blocks.
    explicit stream_socket(endpoint end, const stream_options& options = {})
        : can_write(std::move(end), stream_reads | stream_writes, options) {}
};

struct stream_listen_options {
    std::uint64_t capacity_bytes = stream_default_capacity;  // in each direction, at least
    std::uint32_t mode = 0600;                               // connecting needs the write bit
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint32_t backlog = 128;
    std::uint64_t spin_ns = 0;  // of accepted sockets, see stream_options
};

// A name that others connect to. Several threads may accept at once.
class stream_listener {
public:
    stream_listener(door& from, const std::string& name, const stream_listen_options& options = {})
        : spin_ns_(options.spin_ns) {
        listen_options listening;
        listening.slot_bytes = stream_slot_bytes(options.capacity_bytes);
        listening.source = options.source;
        listening.mode = options.mode;
        listening.backlog = options.backlog;
        names_ = from.listen(name, listening);
    }

    // The next connection. Throws with is_timeout() at the deadline.
    stream_socket accept(deadline until = {}) { return made(names_.accept(until)); }

    // The same, with nothing at the deadline.
    [[nodiscard]] std::optional<stream_socket> try_accept(
        deadline until = std::chrono::seconds(0)) {
        std::optional<endpoint> accepted = names_.try_accept(until);
        if (!accepted) return std::nullopt;
        return made(std::move(*accepted));
    }

    // Readable while a connection waits. Stays the listener's.
    int fd() const { return names_.fd(); }

    // The name is free again; connections live on.
    void close() noexcept { names_.close(); }

private:
    stream_socket made(endpoint accepted) const {
        stream_options options;
        options.spin_ns = spin_ns_;
        return stream_socket(std::move(accepted), options);
    }

    std::uint64_t spin_ns_;
    listener names_;
};

// Connects to a stream_listener and waits until it has accepted. Throws ENOENT where
// nobody listens, ECONNREFUSED, EACCES, ETIMEDOUT.
inline stream_socket connect_stream(door& from, const std::string& name,
                                    const stream_options& options = {}, deadline until = {}) {
    return stream_socket(detail::connect_through_signals(from, name, until), options);
}

}  // namespace ipcdoor

#endif  // IPCDOOR_STREAM_HPP
