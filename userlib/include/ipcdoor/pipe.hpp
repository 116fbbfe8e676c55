// SPDX-License-Identifier: MIT
//
// Pipes: bytes from one process to another, without boundaries. pipe_writer and
// pipe_reader are made from the two ends of a connection, or find each other at a
// name, as at a FIFO:
//
//     ipcdoor::pipe_writer out = ipcdoor::open_pipe_writer(door, "log");
//     out.write("one line\n");
//
//     ipcdoor::pipe_reader in = ipcdoor::open_pipe_reader(door, "log");
//     while (const std::size_t bytes = in.read(buffer)) …
//
// Every blocking member takes a deadline, at last; a duration counts from now.
//
// The end. A writer that closes cleanly, or is destroyed, gives its reader the end
// of the stream (0 bytes) after everything that it wrote. One that died, called
// abort() or was destroyed by an exception has not finished: its reader gets
// everything that was written and then EPIPE. So a stream that was cut short is
// never taken for a whole one.
//
// Threads. Any number may use one end at once. Moving, closing and destroying it
// must be alone, shutdown_write() and shutdown_read() need not be. A forked child
// may only destroy it, which ends nothing: anything else is EPERM.
//
// Errors, as ipcdoor::error with these codes:
//
//   ETIMEDOUT  the deadline passed. What a write() had written stays written.
//   EPIPE      reading: the writer died before it had finished, and everything it
//              wrote was read. Writing: the reader is gone or dead, or this side was
//              shut down. It comes at once to a blocked writer and where the reader
//              closed; after a death a write that finds room may still succeed until
//              that was noticed, at the latest when there is none.
//   ENODATA    read_exact(): the stream ended in the middle
//   EPROTO     the peer broke the protocol, or its end does not fit this one (two
//              writers, say)
//   EPROTONOSUPPORT  the peer speaks other versions only
//   EDEADLK    this thread is between reserve() and commit(), or peek() and consume()
//   EINVAL     the endpoint is not one of a connection, or its slots are too small;
//              commit() or consume() of more than there was
//   EBUSY      the endpoint already carries a stream or a channel
//   EBADF      it was closed or moved from
//
// Signal handlers run while a call blocks, and it goes on waiting.
//
// System calls. Writing makes none while the reader is awake, reading none while
// there are bytes.
#ifndef IPCDOOR_PIPE_HPP
#define IPCDOOR_PIPE_HPP

#include <cstdint>
#include <string>
#include <utility>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/rendezvous.hpp>
#include <ipcdoor/detail/stream_end.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/stream_layout.hpp>

namespace ipcdoor {

class pipe_writer : public detail::can_write<detail::stream_end> {
public:
    // Takes an end of a connection, whose slots are stream_slot_bytes() large. Never
    // blocks: writing works before the peer has made its reader.
    explicit pipe_writer(endpoint end, const stream_options& options = {})
        : can_write(std::move(end), stream_writes, options) {}
};

class pipe_reader : public detail::can_read<detail::stream_end> {
public:
    // Takes an end of a connection. Never blocks.
    explicit pipe_reader(endpoint end, const stream_options& options = {})
        : can_read(std::move(end), stream_reads, options) {}
};

struct pipe_options {
    // These are of use to the side that comes first.
    std::uint64_t capacity_bytes = stream_default_capacity;  // at least; rounded up to pages
    std::uint32_t mode = 0600;  // of the name: who may open the other end
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;

    std::uint64_t spin_ns = 0;  // see stream_options
};

namespace detail {

template <class End>
End open_pipe(door& from, const std::string& name, const pipe_options& options, deadline until) {
    listen_options listening;
    listening.slot_bytes = stream_slot_bytes(options.capacity_bytes);
    listening.source = options.source;
    listening.mode = options.mode;
    listening.backlog = 1;
    stream_options ends;
    ends.spin_ns = options.spin_ns;
    return open_at<End>(from, name, listening, ends, until);
}

}  // namespace detail

// Opens an end of the pipe of this name. Whichever side comes first waits for the
// other; once they have met the name is free for the next two. Throws ETIMEDOUT where
// nobody came, EPROTO where the other one opened the same end, EPROTOTYPE where the
// name is a segment's, EACCES.
inline pipe_writer open_pipe_writer(door& from, const std::string& name,
                                    const pipe_options& options = {}, deadline until = {}) {
    return detail::open_pipe<pipe_writer>(from, name, options, until);
}

inline pipe_reader open_pipe_reader(door& from, const std::string& name,
                                    const pipe_options& options = {}, deadline until = {}) {
    return detail::open_pipe<pipe_reader>(from, name, options, until);
}

}  // namespace ipcdoor

#endif  // IPCDOOR_PIPE_HPP
