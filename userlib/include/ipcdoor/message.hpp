// SPDX-License-Identifier: MIT
//
// Messages over a connection: channel, the two ends of which are made from what
// connect() and accept() return. Its two slots hold a ring in each direction
// (ring.hpp); the doorbell is rung only where the other side sleeps.
//
//   asynchronous  send() puts a message into the ring and goes on; receive()
//                 takes the next one. Boundaries and order are kept.
//   synchronous   call() sends a request and returns the reply to it, to the
//                 thread that called, however many call at once. The other side
//                 gets requests from receive() and answers each with reply(), in
//                 any order, from any thread.
//
// Every blocking member takes a deadline, at last; a duration counts from now.
//
// Threads. Any number may use one channel at once, in any mix. Only moving and
// destroying it must be alone. A forked child may only destroy it.
//
// Errors, as ipcdoor::error with these codes:
//
//   EMSGSIZE   the message is larger than max_message_bytes(); nothing was sent
//   ETIMEDOUT  the deadline passed. After send(): nothing was sent. After
//              call(): a reply that comes later is dropped and counted.
//   EPIPE      the peer is dead, however it ended. Receiving, this comes after
//              everything that it had published. Sending, it comes at once to a
//              blocked sender; a send that finds room may still succeed until
//              the death was noticed, as on sockets, at the latest when the ring
//              is full.
//   EPROTO     the peer broke the protocol (also: a reply to a call never made).
//              The channel is of no use any more; others are not concerned.
//   EPROTONOSUPPORT  the peer speaks other versions only
//   EINVAL     reply() to a message that is not a request
//
// Signal handlers run while a call blocks, and it goes on waiting.
//
// System calls. Sending makes none while the receiver is awake, receiving none
// while there are messages. call() makes one on the kernel back end where both
// sides sleep in turn (ring and wait at once), reply_receive() likewise.
//
// Two sides that only send, each waiting for room before it receives, wait for
// each other: let another thread receive, or give the sends deadlines.
//
// A peer that never receives can make send() block, and one that floods while
// nobody here receives can hold up call(): beyond `inbox_bytes` of set-aside
// messages call() waits for a receive(), up to its deadline.
#ifndef IPCDOOR_MESSAGE_HPP
#define IPCDOOR_MESSAGE_HPP

#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/channel_core.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>

namespace ipcdoor {

struct channel_options {
    // How long a receiver spins, looking for a message, before it sleeps. 0, the
    // default, is right wherever both sides may need the same CPU; a few
    // microseconds help where each side has one of its own.
    std::uint64_t spin_ns = 0;
    // Messages that call() sets aside for receive(), while it waits for its
    // reply, may take this much memory.
    std::size_t inbox_bytes = std::size_t{1} << 20;
};

struct channel_stats {
    std::uint64_t doorbells = 0;     // system calls for ringing (with waiting or without)
    std::uint64_t waits = 0;         // times a thread went to sleep, or looked for a death
    std::uint64_t late_replies = 0;  // came after their call's deadline, or twice; dropped
};

// The slot size to listen with for messages of up to `message_bytes`.
constexpr std::uint64_t channel_slot_bytes(std::uint64_t message_bytes) noexcept {
    return ring_slot_bytes(2 * (detail::padded(message_bytes) + ring_record_header_bytes +
                                detail::channel_core::id_bytes));
}

class channel {
public:
    // Takes an end of a connection. Never blocks: the peer's end is checked when
    // it is first needed, so a client that stays silent holds up nobody else.
    // Throws EINVAL for an endpoint that is not one of a connection or whose
    // slots are too small, EBUSY for one that already carried a channel.
    explicit channel(endpoint end, const channel_options& options = {})
        : endpoint_(std::make_unique<endpoint>(std::move(end))),
          core_(std::make_unique<detail::channel_core>(endpoint_->get(), options.spin_ns,
                                                       options.inbox_bytes)) {}

    // The longest message: a little less than half of the ring.
    std::size_t max_message_bytes() const noexcept { return core_->max_message_bytes(); }

    // ---- asynchronous ----

    // Blocks while the ring is full.
    void send(const bytes_view& bytes, deadline until = {}) {
        core_->send(detail::channel_core::type_message, 0, bytes.bytes(), until.ns(), true);
    }

    // False, and nothing sent, where send() would block. Never blocks.
    [[nodiscard]] bool try_send(const bytes_view& bytes) {
        return core_->send(detail::channel_core::type_message, 0, bytes.bytes(), 0, false);
    }

    // The next message or request; blocks while there is none.
    message receive(deadline until = {}) {
        message received;
        receive(received, until);
        return received;
    }

    // The same, reusing the memory of `into`.
    void receive(message& into, deadline until = {}) { core_->receive(into, until.ns(), true); }

    // The next message, where it is there. Never blocks, but makes a system call
    // where there is none, to learn of the peer's death.
    [[nodiscard]] bool try_receive(message& into) { return core_->receive(into, 0, false); }
    std::optional<message> try_receive() {
        std::optional<message> received(std::in_place);
        if (!try_receive(*received)) received.reset();
        return received;
    }

    // ---- synchronous ----

    // Sends a request and returns the reply to it.
    message call(const bytes_view& request, deadline until = {}) {
        message reply;
        call(request, reply, until);
        return reply;
    }

    // The same, reusing the memory of `into`.
    void call(const bytes_view& request, message& into, deadline until = {}) {
        core_->call(request.bytes(), into, until.ns());
    }

    // Answers a request from this channel, once.
    void reply(const message& request, const bytes_view& bytes, deadline until = {}) {
        core_->reply(request, bytes.bytes(), until.ns());
    }

    // reply(), then receive(), in one system call where both are needed. `into`
    // may be `request` itself. Throws what receive() throws after the reply was
    // sent, too: on ETIMEDOUT go on with receive(), for a reply that waits for
    // room needs a client that takes none.
    void reply_receive(const message& request, const bytes_view& bytes, message& into,
                       deadline until = {}) {
        core_->reply_receive(request, bytes.bytes(), into, until.ns());
    }

    // ---- the rest ----

    // A snapshot.
    channel_stats stats() const noexcept {
        const detail::channel_core::counters& now = core_->stats();
        return {now.doorbells.load(std::memory_order_relaxed),
                now.waits.load(std::memory_order_relaxed),
                now.late_replies.load(std::memory_order_relaxed)};
    }

    // For peer_info() and vectors 5 to 63; 1 to 4 are spoken for.
    endpoint& raw() noexcept { return *endpoint_; }

private:
    std::unique_ptr<endpoint> endpoint_;
    std::unique_ptr<detail::channel_core> core_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_MESSAGE_HPP
