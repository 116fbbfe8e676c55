// SPDX-License-Identifier: MIT
//
// The writing half of a stream: who writes, until when, and what ends it. One
// thread at a time has the turn; it alone touches the cursor and waits for
// writer_vector.
#ifndef IPCDOOR_DETAIL_STREAM_OUT_HPP
#define IPCDOOR_DETAIL_STREAM_OUT_HPP

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

class stream_out {
public:
    stream_out(stream_link& link, std::uint64_t spin_ns)
        : link_(link),
          spin_ns_(spin_ns),
          cursor_("stream", link.mine().output, link.capacity(), link.theirs().input),
          data_(link.own_data()),
          offset_(cursor_.tail() % cursor_.capacity()) {}
    stream_out(const stream_out&) = delete;
    stream_out& operator=(const stream_out&) = delete;

    std::uint64_t capacity() const noexcept { return cursor_.capacity(); }

    // Room as of now. Needs no turn.
    std::uint64_t writable() const noexcept {
        const std::uint64_t tail = link_.mine().output.tail.load(std::memory_order_relaxed);
        const std::uint64_t head = link_.theirs().input.head.load(std::memory_order_relaxed);
        const std::uint64_t used = std::min(tail - head, capacity());  // the peer may lie
        return capacity() - used;
    }

    // Writes all parts as one piece: nobody else's bytes come in between. `written`
    // says how much was, whatever is thrown.
    template <class Parts>
    void write(const Parts& parts, std::size_t& written, std::uint64_t deadline_ns) {
        written = 0;
        const std::size_t total = parts_bytes(parts);
        try {
            const user here(*this, deadline_ns);
            std::size_t pending = 0;  // copied, not yet published
            check_open();
            for (const auto& part : parts) {
                std::span<const std::byte> rest = part_bytes(part);
                while (!rest.empty()) {
                    std::uint64_t room = cursor_.room(std::min(rest.size(), piece()));
                    if (room == 0 || pending >= piece()) {
                        written += pending;
                        pending = 0;
                        publish();
                        room = *await(std::min<std::uint64_t>(total - written, half()), deadline_ns,
                                      true);
                    }
                    const auto bytes = static_cast<std::size_t>(
                        std::min<std::uint64_t>({room, rest.size(), piece() - pending}));
                    copy_in(rest.first(bytes));
                    rest = rest.subspan(bytes);
                    pending += bytes;
                }
            }
            written += pending;
            publish();
            // Found by that very ring: nobody will read what was written.
            if (link_.dead()) throw_gone();
        } catch (const error& wrong) {
            throw_error(wrong.error_number(),
                        std::string(wrong.what()) + " (" + std::to_string(written) + " of " +
                            std::to_string(total) + " bytes had been written)");
        }
    }

    // Writes as much as there is room for, at least one byte. Nothing (only where not
    // `block`): there is no room now.
    std::optional<std::size_t> write_some(std::span<const std::byte> bytes,
                                          std::uint64_t deadline_ns, bool block) {
        if (!block) {
            if (!turn_.take_briefly()) return std::nullopt;
            const user here(*this);
            unarm();
            return write_some_now(bytes, 0, false);
        }
        const user here(*this, deadline_ns);
        return write_some_now(bytes, deadline_ns, true);
    }

    // Room in one stretch, 1 to `bytes`; the turn is kept until commit().
    std::span<std::byte> reserve(std::size_t bytes, std::uint64_t deadline_ns) {
        check_reservation(bytes);
        user here(*this, deadline_ns);
        static_cast<void>(await(std::min<std::uint64_t>(bytes, half()), deadline_ns, true));
        return hand_out(here, bytes);
    }

    // The same without waiting; nothing where there is no room now.
    std::optional<std::span<std::byte>> try_reserve(std::size_t bytes) {
        check_reservation(bytes);
        if (!turn_.take(0)) return std::nullopt;
        user here(*this);
        unarm();
        if (!await(std::min<std::uint64_t>(bytes, half()), 0, false)) return std::nullopt;
        return hand_out(here, bytes);
    }

    // Publishes the first `bytes` of what was reserved.
    void commit(std::size_t bytes) {
        if (bytes > reserved_) {
            throw_error(EINVAL, "stream: commit() of " + std::to_string(bytes) +
                                    " bytes where reserve() gave " + std::to_string(reserved_));
        }
        if (reserved_ == 0) return;  // nothing is reserved, so the turn is not ours
        reserved_ = 0;
        step(bytes);
        publish();
        leave();
    }

    // Waits until the reader has read everything.
    void drain(std::uint64_t deadline_ns) {
        const user here(*this, deadline_ns);
        const auto all_read = [&] { return cursor_.room(capacity()) == capacity(); };
        for (;;) {
            // Known before the look: what was read then is all that ever will be.
            const bool over =
                link_.dead() || link_.theirs().gone.load(std::memory_order_acquire) != 0;
            if (all_read()) return;
            if (over) throw_error(EPIPE, "stream: the reader is gone before it had read all");
            if (!cursor_.arm(capacity())) return;
            const int waited = link_.wait(stream_link::writer_vector, deadline_ns);
            if (waited == 0) continue;
            cursor_.disarm();
            if (waited == -ETIMEDOUT) {
                if (all_read()) return;
                throw_error(ETIMEDOUT,
                            "stream: the deadline passed while waiting for the reader to read");
            }
            if (waited != -EPIPE) throw_if(waited);
        }
    }

    // How much is written before the reader is told: it reads the first piece while the
    // next is written.
    std::size_t piece() const noexcept {
        const std::uint64_t least = std::min<std::uint64_t>(4096, capacity());
        return static_cast<std::size_t>(std::max(least, half()));
    }

    // Nothing more is written from now on. From any thread: who writes is woken and
    // told, and what it has published is the end.
    void shut() noexcept {
        shut_.store(true);
        link_.ring_own(stream_link::writer_vector);
        finish_if_free();
    }

    // The same at the very end, when no other thread is here.
    void finish() noexcept {
        shut_.store(true);
        if (finished_.exchange(true)) return;
        link_.mine().finished.store(1, std::memory_order_release);
        link_.ring_peer(stream_link::reader_vector);
    }

    // For the other half's try_ calls: takes rings that nobody here waits for, so that
    // the endpoint's descriptor does not stay readable by them.
    void acknowledge_stale() {
        if (!turn_.take_briefly()) return;
        const user here(*this);
        if (left_armed_) return;
        try {
            link_.acknowledge(stream_link::writer_vector);
        } catch (const error&) {
            // Whoever uses this half meets it, too.
        }
    }

private:
    // Has the turn, and gives it back unless it is kept.
    class user {
    public:
        // The turn was taken.
        explicit user(stream_out& out) noexcept : out_(&out) {}
        // Waits for it. What unarm() throws gives it back: this object is complete by then.
        user(stream_out& out, std::uint64_t deadline_ns) : user(with_turn(out, deadline_ns)) {
            out.unarm();
        }
        ~user() {
            if (out_ != nullptr) out_->leave();
        }
        user(const user&) = delete;
        user& operator=(const user&) = delete;
        void keep() noexcept { std::exchange(out_, nullptr)->turn_.keep(); }

    private:
        static stream_out& with_turn(stream_out& out, std::uint64_t deadline_ns) {
            if (!out.turn_.take(deadline_ns)) {
                throw_error(ETIMEDOUT,
                            "stream: the deadline passed while another thread was writing");
            }
            return out;
        }

        stream_out* out_;
    };

    static void check_reservation(std::size_t bytes) {
        if (bytes == 0) throw_error(EINVAL, "stream: reserve() of 0 bytes; ask for 1 at least");
    }

    // There is some room: what of it lies in one stretch, up to `bytes`. The turn is kept.
    std::span<std::byte> hand_out(user& here, std::size_t bytes) {
        // Some was known of; there may be more.
        const std::uint64_t room = cursor_.room(std::min<std::uint64_t>(bytes, capacity()));
        reserved_ = static_cast<std::size_t>(
            std::min<std::uint64_t>({room, bytes, cursor_.capacity() - offset_}));
        here.keep();
        return {data_ + offset_, reserved_};
    }

    std::uint64_t half() const noexcept { return std::max<std::uint64_t>(1, capacity() / 2); }

    void leave() noexcept {
        turn_.give();
        if (shut_.load()) finish_if_free();
    }

    // Whoever has the turn does it when leaving.
    void finish_if_free() noexcept {
        if (finished_.load() || !turn_.take_briefly()) return;
        finish();
        turn_.give();
    }

    // What a try_ call left behind. The turn is the caller's.
    void unarm() {
        if (!left_armed_) return;
        left_armed_ = false;
        cursor_.disarm();
        link_.acknowledge(stream_link::writer_vector);
    }

    [[noreturn]] static void throw_gone() {
        throw_error(EPIPE, "stream: the reader is gone; connect again");
    }

    void check_open() {
        if (shut_.load(std::memory_order_relaxed))
            throw_error(EPIPE, "stream: writing was shut down on this side");
        if (!verified_) verified_ = link_.verify_peer() != 0;
        if (link_.dead() || link_.theirs().gone.load(std::memory_order_acquire) != 0) throw_gone();
    }

    // Room for a byte at least; where it has to sleep, for `need`. Nothing (only where
    // not `block`): there is none, and the cursor is left armed.
    std::optional<std::uint64_t> await(std::uint64_t need, std::uint64_t deadline_ns, bool block) {
        for (bool acknowledged = false;;) {
            check_open();
            if (const std::uint64_t room = cursor_.room(1)) return room;
            if (!block) {
                if (!acknowledged) {
                    // Before the look that comes next, so that no ring is taken for it.
                    acknowledged = true;
                    link_.acknowledge(stream_link::writer_vector);
                    continue;
                }
                if (!cursor_.arm(need)) continue;
                left_armed_ = true;
                return std::nullopt;
            }
            if (spin_ns_ != 0 && deadline_ns != 0 && spin_for(spin_ns_, [this] {
                    return cursor_.room(1) != 0 || shut_.load(std::memory_order_relaxed);
                }))
                continue;
            if (!cursor_.arm(need)) continue;
            const int waited = link_.wait(stream_link::writer_vector, deadline_ns);
            if (waited == 0) continue;
            cursor_.disarm();
            if (waited == -ETIMEDOUT) {
                // The last room may have come with the deadline.
                check_open();
                if (const std::uint64_t room = cursor_.room(1)) return room;
                throw_error(ETIMEDOUT, "stream: the deadline passed while waiting for room");
            }
            if (waited != -EPIPE) throw_if(waited);
        }
    }

    std::optional<std::size_t> write_some_now(std::span<const std::byte> bytes,
                                              std::uint64_t deadline_ns, bool block) {
        if (bytes.empty()) {
            check_open();
            return 0;
        }
        if (!await(std::min<std::uint64_t>(bytes.size(), half()), deadline_ns, block))
            return std::nullopt;
        const auto some = static_cast<std::size_t>(
            std::min<std::uint64_t>(cursor_.room(bytes.size()), bytes.size()));
        copy_in(bytes.first(some));
        publish();
        if (link_.dead()) throw_gone();
        return some;
    }

    // There is room for them.
    void copy_in(std::span<const std::byte> bytes) noexcept {
        while (!bytes.empty()) {
            const auto some = static_cast<std::size_t>(
                std::min<std::uint64_t>(bytes.size(), capacity() - offset_));
            std::memcpy(data_ + offset_, bytes.data(), some);
            step(some);
            bytes = bytes.subspan(some);
        }
    }

    void step(std::size_t bytes) noexcept {
        cursor_.advance(bytes);
        offset_ += bytes;
        if (offset_ == capacity()) offset_ = 0;
    }

    void publish() noexcept {
        if (cursor_.publish()) link_.ring_peer(stream_link::reader_vector);
    }

    stream_link& link_;
    const std::uint64_t spin_ns_;
    turn turn_{"stream: this thread is between reserve() and commit(); end that first"};
    producer_cursor<1> cursor_;  // all to left_armed_: who has the turn
    std::byte* const data_;
    std::uint64_t offset_;      // of tail() in the data
    std::size_t reserved_ = 0;  // handed out by reserve()
    bool verified_ = false;     // the peer's header was right
    bool left_armed_ = false;   // by a try_ call that found nothing
    std::atomic<bool> shut_{false};
    std::atomic<bool> finished_{false};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_STREAM_OUT_HPP
