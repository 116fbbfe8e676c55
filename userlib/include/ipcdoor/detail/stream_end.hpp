// SPDX-License-Identifier: MIT
//
// The ends of byte streams, built up from parts: stream_end owns the connection,
// can_read and can_write add what a user does with it. pipe.hpp and stream.hpp have
// what is made of them, and the whole story of errors and threads.
#ifndef IPCDOOR_DETAIL_STREAM_END_HPP
#define IPCDOOR_DETAIL_STREAM_END_HPP

#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/stream_core.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>

namespace ipcdoor {

struct stream_options {
    // How long a reader or writer spins, looking for bytes or room, before it sleeps.
    // 0, the default, is right wherever both sides may need the same CPU; a few
    // microseconds help where each side has one of its own.
    std::uint64_t spin_ns = 0;
    // At most so many bytes are under way from here to the peer; 0: as many as the
    // slot holds.
    std::uint64_t limit_bytes = 0;
};

namespace detail {

class stream_end {
public:
    stream_end(stream_end&& other) noexcept
        : endpoint_(std::move(other.endpoint_)), core_(std::move(other.core_)) {}
    stream_end& operator=(stream_end&& other) noexcept {
        if (this != &other) {
            close();
            endpoint_ = std::move(other.endpoint_);
            core_ = std::move(other.core_);
        }
        return *this;
    }
    // A clean close, unless an exception is what ends this object's life: then the
    // stream may be cut short, and the peer is told so, as by abort().
    ~stream_end() {
        if (std::uncaught_exceptions() > unwinding_)
            abort();
        else
            close();
    }

    // False after close(), abort() and moving from it. Everything else that is called
    // then fails with EBADF.
    explicit operator bool() const noexcept { return core_ != nullptr; }

    // Ends the stream cleanly: the peer reads everything that was written and then the
    // end. To be called when no other thread uses this.
    void close() noexcept {
        // A forked child's copy: memory and stream are the parent's.
        if (core_ != nullptr && core_->is_mine()) core_->finish();
        abort();
    }

    // Closes without an end, as if this process died: the peer reads what was written
    // and then gets EPIPE. To be called when no other thread uses this.
    void abort() noexcept {
        core_.reset();
        endpoint_.reset();
    }

    // Waits until the peer has opened its end as well, and checks that the two fit. No
    // call needs that; it tells early of a peer that is something else (EPROTO).
    void await_peer(deadline until = {}) { core().in().await_peer(until.ns()); }

    // For poll and epoll: readable when it is worth calling again what has returned
    // nothing, try_read() or try_write(), and not before. So call until nothing comes.
    // Stays the stream's.
    int fd() const { return raw().fd(); }

    // Who is at the other end, as the kernel captured it.
    struct ipcdoor_peer_info peer_info() const {
        return raw().peer_info(core().peer_slot());
    }

    // For vectors 8 to 63; those below are spoken for.
    endpoint& raw() const {
        static_cast<void>(core());
        return *endpoint_;
    }

    // For adapters. EPERM in a forked child.
    stream_core& core() const {
        if (core_ == nullptr)
            throw_error(EBADF, "stream: it was closed, or moved from; open another one");
        core_->check_mine();
        return *core_;
    }

protected:
    stream_end(endpoint end, std::uint32_t roles, const stream_options& options)
        : endpoint_(std::make_unique<endpoint>(std::move(end))),
          core_(std::make_unique<stream_core>(endpoint_->get(), roles, options.spin_ns,
                                              options.limit_bytes)) {}

private:
    const int unwinding_ = std::uncaught_exceptions();  // when this object's life began
    std::unique_ptr<endpoint> endpoint_;
    std::unique_ptr<stream_core> core_;
};

// ---- writing ----------------------------------------------------------------

template <class Base>
class can_write : public Base {
public:
    // Writes everything; blocks while there is no room. What another thread writes
    // comes before or after it, not in between.
    void write(const bytes_view& bytes, deadline until = {}) {
        std::size_t written = 0;
        write(bytes, written, until);
    }
    // The same; `written` says how much was, also where this throws.
    void write(const bytes_view& bytes, std::size_t& written, deadline until = {}) {
        const std::span<const std::byte> one[] = {bytes.bytes()};
        this->core().out().write(one, written, until.ns());
    }

    // Writes one part after the other, all as one piece.
    void write_gathered(std::span<const bytes_view> parts, deadline until = {}) {
        std::size_t written = 0;
        this->core().out().write(parts, written, until.ns());
    }
    void write_gathered(std::span<const iovec> parts, deadline until = {}) {
        std::size_t written = 0;
        this->core().out().write(parts, written, until.ns());
    }

    // Writes what there is room for, and says how much: a byte at least, for which it
    // may block.
    std::size_t write_some(const bytes_view& bytes, deadline until = {}) {
        return *this->core().out().write_some(bytes.bytes(), until.ns(), true);
    }

    // The same without blocking. Nothing: there is no room, and fd() tells when to try
    // again; or another thread is writing.
    [[nodiscard]] std::optional<std::size_t> try_write(const bytes_view& bytes) {
        return this->core().try_write(bytes.bytes());
    }

    // In place: room in one stretch, 1 to `bytes` of it, blocking while there is none.
    // What is written there can be read after commit(). Until then this direction is
    // this thread's: others wait, and another call from this one fails with EDEADLK.
    std::span<std::byte> reserve(std::size_t bytes, deadline until = {}) {
        return this->core().out().reserve(bytes, until.ns());
    }
    // The same without blocking, with the rules of try_write().
    [[nodiscard]] std::optional<std::span<std::byte>> try_reserve(std::size_t bytes) {
        return this->core().try_reserve(bytes);
    }
    // Hands over the first `bytes` of it; 0 gives the reservation up.
    void commit(std::size_t bytes) { this->core().out().commit(bytes); }

    // Waits until the reader has read everything. Throws EPIPE where it never will.
    void drain(deadline until = {}) { this->core().out().drain(until.ns()); }

    // Ends this direction cleanly, from any thread: the peer reads what was written and
    // then the end. Threads that write here are woken and get EPIPE.
    void shutdown_write() { this->core().out().shut(); }

    // How much may be under way, and how much room there is now.
    std::uint64_t capacity() const { return this->core().out().capacity(); }
    std::uint64_t writable() const { return this->core().out().writable(); }

protected:
    using Base::Base;
};

// ---- reading ----------------------------------------------------------------

template <class Base>
class can_read : public Base {
public:
    // Reads what is there, a byte at least, for which it blocks. 0: the end.
    [[nodiscard]] std::size_t read(std::span<std::byte> to, deadline until = {}) {
        const std::span<std::byte> one[] = {to};
        return this->core().in().read(one, until.ns());
    }

    // The same into one part after the other.
    [[nodiscard]] std::size_t read_scattered(std::span<const std::span<std::byte>> parts,
                                             deadline until = {}) {
        return this->core().in().read(parts, until.ns());
    }
    [[nodiscard]] std::size_t read_scattered(std::span<const iovec> parts, deadline until = {}) {
        return this->core().in().read(parts, until.ns());
    }

    // Reads until `to` is full. False: the stream ended before the first byte. Throws
    // ENODATA where it ended after that. What was read is lost to others even so.
    [[nodiscard]] bool read_exact(std::span<std::byte> to, deadline until = {}) {
        std::size_t done = 0;
        return read_exact(to, done, until);
    }
    // The same; `done` says how much was read, also where this throws.
    [[nodiscard]] bool read_exact(std::span<std::byte> to, std::size_t& done, deadline until = {}) {
        return this->core().in().read_exact(to, done, until.ns());
    }

    // Reads what is there without blocking. 0: the end. Nothing: nothing is there, and
    // fd() tells when to try again; or another thread is reading.
    [[nodiscard]] std::optional<std::size_t> try_read(std::span<std::byte> to) {
        const std::span<std::byte> one[] = {to};
        return this->core().try_read(one);
    }

    // In place: what is readable in one stretch, blocking while nothing is. Empty: the
    // end. It lies in the peer's memory: copy what has to be checked, then check the
    // copy. Until consume() this direction is this thread's, as with reserve().
    [[nodiscard]] std::span<const std::byte> peek(deadline until = {}) {
        return this->core().in().peek(until.ns());
    }
    // The same without blocking, with the rules of try_read().
    [[nodiscard]] std::optional<std::span<const std::byte>> try_peek() {
        return this->core().try_peek();
    }
    // Passes the first `bytes` of it; the rest stays. Not after the end.
    void consume(std::size_t bytes) { this->core().in().consume(bytes); }

    // Ends this direction, from any thread: what is still there is dropped, the peer's
    // writes fail with EPIPE, and threads that read here are woken and get the end.
    void shutdown_read() { this->core().in().shut(); }

    // Bytes that are there now.
    std::uint64_t readable() const { return this->core().in().readable(); }

protected:
    using Base::Base;
};

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_DETAIL_STREAM_END_HPP
