// SPDX-License-Identifier: MIT
//
// Between byte streams and file descriptors: read(2) and write(2) straight from and
// to shared memory, and stdio's FILE over a stream.
//
// Descriptors may be blocking or not. With a deadline a blocking one is polled
// before it is used; what it does after that is its own affair. A write(2) to a pipe
// that nobody reads raises SIGPIPE, as ever.
#ifndef IPCDOOR_DESCRIPTOR_HPP
#define IPCDOOR_DESCRIPTOR_HPP

#include <poll.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/pipe.hpp>
#include <ipcdoor/stream.hpp>

namespace ipcdoor {

namespace detail {

[[noreturn]] inline void throw_descriptor(int error_number, const char* call, int fd) {
    throw_error(error_number, std::string(call) + " of descriptor " + std::to_string(fd) + ": " +
                                  std::strerror(error_number));
}

// Until read(2) or write(2) has something to do, or an error to tell.
inline void poll_descriptor(int fd, short events, deadline until) {
    pollfd one{fd, events, 0};
    for (;;) {
        timespec rest{};
        const bool endless = until.ns() == IPCDOOR_NO_DEADLINE;
        if (!endless) rest = to_timespec(ns_until(until.ns()));
        const int ready = ::ppoll(&one, 1, endless ? nullptr : &rest, nullptr);
        if (ready > 0) return;
        if (ready == 0)
            throw_error(ETIMEDOUT,
                        "the deadline passed while waiting for descriptor " + std::to_string(fd));
        if (errno != EINTR) throw_descriptor(errno, "poll", fd);
    }
}

// read(2) or write(2) as `transfer`, with whatever it takes until bytes moved.
template <class Transfer>
std::size_t transfer_through(int fd, short events, const char* call, deadline until,
                             Transfer transfer) {
    if (until.ns() != IPCDOOR_NO_DEADLINE) poll_descriptor(fd, events, until);
    for (;;) {
        const ssize_t moved = transfer();
        if (moved >= 0) return static_cast<std::size_t>(moved);
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            poll_descriptor(fd, events, until);
        else if (errno != EINTR)
            throw_descriptor(errno, call, fd);
    }
}

}  // namespace detail

// Writes one stretch of what is readable to `fd`. Returns how much, 0 at the end of
// the stream. Where it throws, nothing is lost: what was not written was not read.
template <class Reader>
[[nodiscard]] std::size_t copy_some_to_fd(Reader& from, int fd, deadline until = {}) {
    const std::span<const std::byte> bytes = from.peek(until);
    if (bytes.empty()) return 0;
    struct consumer {
        Reader& from;
        std::size_t written = 0;
        ~consumer() { from.consume(written); }
    } done{from};
    // Not all at once: the writer goes on while this is written.
    const std::size_t some = std::min(bytes.size(), from.core().in().piece());
    done.written = detail::transfer_through(fd, POLLOUT, "write", until,
                                            [&] { return ::write(fd, bytes.data(), some); });
    return done.written;
}

// Writes everything to `fd`, until the end of the stream. Returns how much it was.
template <class Reader>
std::uint64_t copy_to_fd(Reader& from, int fd, deadline until = {}) {
    std::uint64_t total = 0;
    while (const std::size_t bytes = copy_some_to_fd(from, fd, until)) total += bytes;
    return total;
}

// Reads once from `fd` into the stream. Returns how much, 0 at the end of the file.
// The peer's death is not noticed while the descriptor has nothing to read.
template <class Writer>
[[nodiscard]] std::size_t copy_some_from_fd(int fd, Writer& to, deadline until = {}) {
    const std::span<std::byte> room = to.reserve(std::numeric_limits<std::size_t>::max(), until);
    struct committer {
        Writer& to;
        std::size_t read = 0;
        ~committer() { to.commit(read); }
    } done{to};
    const std::size_t some = std::min(room.size(), to.core().out().piece());
    done.read = detail::transfer_through(fd, POLLIN, "read", until,
                                         [&] { return ::read(fd, room.data(), some); });
    return done.read;
}

// Reads everything from `fd`, until its end, which does not end the stream. Returns
// how much it was.
template <class Writer>
std::uint64_t copy_from_fd(int fd, Writer& to, deadline until = {}) {
    std::uint64_t total = 0;
    while (const std::size_t bytes = copy_some_from_fd(fd, to, until)) total += bytes;
    return total;
}

// ---- stdio ------------------------------------------------------------------

// The two halves of a stream socket. One FILE for both would have to be told of each
// change between reading and writing.
struct socket_files {
    std::FILE* in;
    std::FILE* out;
};

namespace detail {

// The end behind one FILE or two, whose functions must not throw.
template <class End>
class stdio_end {
public:
    explicit stdio_end(End&& end) : end_(std::move(end)) {}
    ~stdio_end() {
        if (cut_short_) end_.abort();
    }
    stdio_end(const stdio_end&) = delete;
    stdio_end& operator=(const stdio_end&) = delete;

    static std::FILE* open_in(std::shared_ptr<stdio_end> shared) {
        return open(std::move(shared), "r", {read, nullptr, nullptr, close_in});
    }
    static std::FILE* open_out(std::shared_ptr<stdio_end> shared) {
        return open(std::move(shared), "w", {nullptr, write, nullptr, close_out});
    }

private:
    using cookie = std::shared_ptr<stdio_end>;

    static std::FILE* open(cookie shared, const char* mode, cookie_io_functions_t functions) {
        auto owned = std::make_unique<cookie>(std::move(shared));
        std::FILE* const file = ::fopencookie(owned.get(), mode, functions);
        if (file == nullptr) throw_error(ENOMEM, "fopencookie: no memory for a FILE");
        static_cast<void>(owned.release());
        return file;
    }

    static stdio_end& self(void* from) { return **static_cast<cookie*>(from); }

    static ssize_t read(void* from, char* to, std::size_t bytes) {
        return guarded(-1, [&] {
            return self(from).end_.read({reinterpret_cast<std::byte*>(to), bytes});
        });
    }
    static ssize_t write(void* to, const char* from, std::size_t bytes) {
        const ssize_t written = guarded(0, [&] {
            self(to).end_.write(std::span(from, bytes));
            return bytes;
        });
        if (written == 0 && bytes != 0) self(to).cut_short_ = true;
        return written;
    }
    static int close_in(void* from) {
        const std::unique_ptr<cookie> last(static_cast<cookie*>(from));
        guarded(0, [&] {
            (*last)->end_.shutdown_read();
            return 0;
        });
        return 0;
    }
    static int close_out(void* to) {
        const std::unique_ptr<cookie> last(static_cast<cookie*>(to));
        // A write that failed: this must not look like an end.
        guarded(0, [&] {
            if (!(*last)->cut_short_) (*last)->end_.shutdown_write();
            return 0;
        });
        return 0;
    }

    template <class Call>
    static ssize_t guarded(ssize_t failed, Call call) {
        try {
            return static_cast<ssize_t>(call());
        } catch (const std::system_error& wrong) {
            errno = wrong.code().value();
        } catch (const std::bad_alloc&) {
            errno = ENOMEM;
        }
        return failed;
    }

    End end_;
    std::atomic<bool> cut_short_{false};
};

}  // namespace detail

// A FILE that owns the end: fclose() closes it, cleanly unless a write had failed. It
// buffers as files do: fflush() what is to be seen.
inline std::FILE* to_file(pipe_reader end) {
    using owner = detail::stdio_end<pipe_reader>;
    return owner::open_in(std::make_shared<owner>(std::move(end)));
}
inline std::FILE* to_file(pipe_writer end) {
    using owner = detail::stdio_end<pipe_writer>;
    return owner::open_out(std::make_shared<owner>(std::move(end)));
}

// Each fclose() shuts its half down, and the second one closes the socket.
inline socket_files to_files(stream_socket end) {
    using owner = detail::stdio_end<stream_socket>;
    const auto shared = std::make_shared<owner>(std::move(end));
    std::FILE* const in = owner::open_in(shared);
    try {
        return {in, owner::open_out(shared)};
    } catch (const std::exception&) {
        static_cast<void>(std::fclose(in));
        throw;
    }
}

}  // namespace ipcdoor

#endif  // IPCDOOR_DESCRIPTOR_HPP
