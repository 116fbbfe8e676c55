// SPDX-License-Identifier: MIT
//
// The reading half of a stream: who reads, until when, and how it ends: cleanly,
// once the writer finished and everything is read, or by the writer's death. One
// thread at a time has the turn; it alone touches the cursor and waits for
// reader_vector.
#ifndef IPCDOOR_DETAIL_STREAM_IN_HPP
#define IPCDOOR_DETAIL_STREAM_IN_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/detail/cursor.hpp>
#include <ipcdoor/detail/spin.hpp>
#include <ipcdoor/detail/stream_link.hpp>
#include <ipcdoor/detail/stream_parts.hpp>
#include <ipcdoor/detail/turn.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/stream_layout.hpp>

namespace ipcdoor::detail {

class stream_in {
public:
    stream_in(stream_link& link, std::uint64_t spin_ns) : link_(link), spin_ns_(spin_ns) {}
    stream_in(const stream_in&) = delete;
    stream_in& operator=(const stream_in&) = delete;

    // Bytes as of now. Needs no turn.
    std::uint64_t readable() const noexcept {
        const std::uint64_t head = link_.mine().input.head.load(std::memory_order_relaxed);
        const std::uint64_t tail = link_.theirs().output.tail.load(std::memory_order_relaxed);
        return tail - head <= link_.most_capacity() ? tail - head : 0;  // the peer may lie
    }

    // Waits for the peer's header.
    void await_peer(std::uint64_t deadline_ns) {
        const user here(*this, deadline_ns);
        for (;;) {
            const bool dead = link_.dead();
            if (open()) return;
            if (dead) throw_error(EPIPE, "stream: the peer died before it opened its stream");
            const int waited = link_.wait_for_header(deadline_ns);
            if (waited == -ETIMEDOUT) {
                if (open()) return;
                throw_error(ETIMEDOUT,
                            "stream: the deadline passed while waiting for the peer's stream");
            }
            if (waited != 0 && waited != -EPIPE) throw_if(waited);
        }
    }

    // Reads what is there, into one part after the other: a byte at least, or 0 at the
    // end of the stream.
    template <class Parts>
    std::size_t read(const Parts& parts, std::uint64_t deadline_ns) {
        const user here(*this, deadline_ns);
        return *read_now(parts, deadline_ns, true);
    }

    // The same without waiting; nothing where nothing is there.
    template <class Parts>
    std::optional<std::size_t> try_read(const Parts& parts) {
        if (!turn_.take_briefly()) return std::nullopt;
        const user here(*this);
        unarm();
        return read_now(parts, 0, false);
    }

    // Reads until `to` is full. `done` says how much was, whatever is thrown. False:
    // the stream ended before the first byte.
    bool read_exact(std::span<std::byte> to, std::size_t& done, std::uint64_t deadline_ns) {
        done = 0;
        try {
            const user here(*this, deadline_ns);
            while (done < to.size()) {
                const std::uint64_t bytes = *await(deadline_ns, true);
                if (bytes == 0) {
                    if (done == 0) return false;
                    throw_error(ENODATA, "stream: it ended in the middle");
                }
                done += copy_out(to.subspan(done), bytes);
            }
            return true;
        } catch (const error& wrong) {
            throw_error(wrong.error_number(),
                        std::string(wrong.what()) + " (" + std::to_string(done) + " of " +
                            std::to_string(to.size()) + " bytes had been read)");
        }
    }

    // What is readable in one stretch; the turn is kept until consume(). Empty at the
    // end of the stream, and then the turn is not kept.
    std::span<const std::byte> peek(std::uint64_t deadline_ns) {
        user here(*this, deadline_ns);
        if (*await(deadline_ns, true) == 0) return {};
        return hand_out(here);
    }

    // The same without waiting; nothing where nothing is there.
    std::optional<std::span<const std::byte>> try_peek() {
        if (!turn_.take(0)) return std::nullopt;
        user here(*this);
        unarm();
        const std::optional<std::uint64_t> some = await(0, false);
        if (!some) return std::nullopt;
        if (*some == 0) return std::span<const std::byte>{};
        return hand_out(here);
    }

    // Gives back the first `bytes` of what was peeked.
    void consume(std::size_t bytes) {
        if (bytes > peeked_) {
            throw_error(EINVAL, "stream: consume() of " + std::to_string(bytes) +
                                    " bytes where peek() gave " + std::to_string(peeked_));
        }
        if (peeked_ == 0) return;  // nothing is peeked, so the turn is not ours
        peeked_ = 0;
        step(bytes);
        publish();
        turn_.give();
    }

    // How much is read before the writer is told: it writes on meanwhile. For who has
    // the turn, once something was there.
    std::size_t piece() const noexcept {
        return static_cast<std::size_t>(std::max<std::uint64_t>(4096, cursor_->capacity() / 2));
    }

    // Nothing more is read from now on. From any thread: who reads is woken and gets
    // the end of the stream, the writer EPIPE.
    void shut() noexcept {
        if (shut_.exchange(true)) return;
        link_.ring_own(stream_link::reader_vector);
        link_.mine().gone.store(1, std::memory_order_release);
        link_.ring_peer(stream_link::writer_vector);
    }

    // See stream_out.
    void acknowledge_stale() {
        if (!turn_.take_briefly()) return;
        const user here(*this);
        if (left_armed_) return;
        try {
            link_.acknowledge(stream_link::reader_vector);
        } catch (const error&) {
            // Whoever uses this half meets it, too.
        }
    }

private:
    // Has the turn, and gives it back unless it is kept.
    class user {
    public:
        // The turn was taken.
        explicit user(stream_in& in) noexcept : in_(&in) {}
        // Waits for it. What unarm() throws gives it back: this object is complete by then.
        user(stream_in& in, std::uint64_t deadline_ns) : user(with_turn(in, deadline_ns)) {
            in.unarm();
        }
        ~user() {
            if (in_ != nullptr) in_->turn_.give();
        }
        user(const user&) = delete;
        user& operator=(const user&) = delete;
        void keep() noexcept { std::exchange(in_, nullptr)->turn_.keep(); }

    private:
        static stream_in& with_turn(stream_in& in, std::uint64_t deadline_ns) {
            if (!in.turn_.take(deadline_ns)) {
                throw_error(ETIMEDOUT,
                            "stream: the deadline passed while another thread was reading");
            }
            return in;
        }

        stream_in* in_;
    };

    // Some bytes are there: those that lie in one stretch. The turn is kept.
    std::span<const std::byte> hand_out(user& here) {
        peeked_ =
            static_cast<std::size_t>(std::min(cursor_->look(), cursor_->capacity() - offset_));
        here.keep();
        return {link_.peer_data() + offset_, peeked_};
    }

    // What a try_ call left behind. The turn is the caller's.
    void unarm() {
        if (!left_armed_) return;
        left_armed_ = false;
        if (cursor_) cursor_->disarm();
        link_.acknowledge(stream_link::reader_vector);
    }

    // True once the peer's header is there and right.
    bool open() {
        if (cursor_) return true;
        const std::uint64_t capacity = link_.verify_peer();
        if (capacity == 0) return false;
        cursor_.emplace("stream", link_.mine().input, capacity, link_.theirs().output);
        offset_ = cursor_->head() % capacity;
        return true;
    }

    // Bytes that are there, 0 at the end, nothing where neither is known.
    std::optional<std::uint64_t> look() {
        if (ended_ || shut_.load(std::memory_order_relaxed)) return 0;
        // Known before the look at the tail: what that shows then is all.
        const bool dead = link_.dead();
        if (open()) {
            if (const std::uint64_t bytes = cursor_->readable()) return bytes;
            const bool finished = link_.theirs().finished.load(std::memory_order_acquire) != 0;
            if (finished || dead) {
                if (const std::uint64_t bytes = cursor_->look()) return bytes;
            }
            if (finished) {
                ended_ = true;
                return 0;
            }
        }
        if (dead) {
            throw_error(EPIPE,
                        "stream: the writer died before it had finished; what it had written "
                        "before was read");
        }
        return std::nullopt;
    }

    // Bytes that are there, 0 at the end. Nothing (only where not `block`): there are
    // none, and the cursor is left armed.
    std::optional<std::uint64_t> await(std::uint64_t deadline_ns, bool block) {
        for (bool acknowledged = false;;) {
            if (const std::optional<std::uint64_t> bytes = look()) return bytes;
            if (!block) {
                if (!acknowledged) {
                    // Before the look that comes next, so that no ring is taken for it.
                    acknowledged = true;
                    link_.acknowledge(stream_link::reader_vector);
                    continue;
                }
                if (cursor_ && !cursor_->arm()) continue;
                left_armed_ = true;
                return std::nullopt;
            }
            if (spin_ns_ != 0 && deadline_ns != 0 &&
                spin_for(spin_ns_, [this] { return look().has_value(); }))
                continue;
            if (cursor_ && !cursor_->arm()) continue;
            const int waited = cursor_ ? link_.wait(stream_link::reader_vector, deadline_ns)
                                       : link_.wait_for_header(deadline_ns);
            if (waited == 0) continue;
            if (cursor_) cursor_->disarm();
            if (waited == -ETIMEDOUT) {
                // The last bytes may have come with the deadline.
                if (const std::optional<std::uint64_t> bytes = look()) return bytes;
                throw_error(ETIMEDOUT, "stream: the deadline passed while waiting for bytes");
            }
            if (waited != -EPIPE) throw_if(waited);
        }
    }

    template <class Parts>
    std::optional<std::size_t> read_now(const Parts& parts, std::uint64_t deadline_ns, bool block) {
        const std::size_t wanted = parts_bytes(parts);
        if (wanted == 0) return 0;
        const std::optional<std::uint64_t> some = await(deadline_ns, block);
        if (!some) return std::nullopt;
        if (*some == 0) return 0;
        // Some were known of; there may be more.
        const std::uint64_t bytes = cursor_->readable(wanted);
        std::size_t done = 0;
        for (const auto& part : parts) {
            if (done == bytes) break;
            done += copy_out(part_room(part), bytes - done);
        }
        return done;
    }

    // Reads up to `bytes`, which are there; returns how many `to` took.
    std::size_t copy_out(std::span<std::byte> to, std::uint64_t bytes) {
        const auto all = static_cast<std::size_t>(std::min<std::uint64_t>(to.size(), bytes));
        for (std::size_t done = 0; done < all;) {
            const auto some = static_cast<std::size_t>(
                std::min<std::uint64_t>({all - done, cursor_->capacity() - offset_, piece()}));
            std::memcpy(to.data() + done, link_.peer_data() + offset_, some);
            step(some);
            publish();
            done += some;
        }
        return all;
    }

    void step(std::size_t bytes) noexcept {
        cursor_->advance(bytes);
        offset_ += bytes;
        if (offset_ == cursor_->capacity()) offset_ = 0;
    }

    // A dead writer needs no room.
    void publish() noexcept {
        if (cursor_->publish()) link_.ring_peer(stream_link::writer_vector);
    }

    stream_link& link_;
    const std::uint64_t spin_ns_;
    turn turn_{"stream: this thread is between peek() and consume(); end that first"};
    std::optional<consumer_cursor<1>> cursor_;  // all to left_armed_: who has the turn
    std::uint64_t offset_ = 0;                  // of head() in the data
    std::size_t peeked_ = 0;                    // handed out by peek()
    bool ended_ = false;                        // the writer finished, everything is read
    bool left_armed_ = false;                   // by a try_ call that found nothing
    std::atomic<bool> shut_{false};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_STREAM_IN_HPP
