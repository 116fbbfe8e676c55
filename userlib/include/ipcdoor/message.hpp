// SPDX-License-Identifier: MIT
//
// Messages over a connection: channel, the two ends of which are made from what
// connect() and accept() return. Its two slots hold rings in each direction, one for
// each priority (message_layout.hpp, ring.hpp); the doorbell is rung only where the
// other side sleeps.
//
//   asynchronous  send() puts a message into the ring and goes on; receive()
//                 takes the next one. Boundaries are kept, and the order of
//                 messages with one priority; what is more urgent comes first.
//   synchronous   call() sends a request and returns the reply to it, to the
//                 thread that called, however many call at once. The other side
//                 gets requests from receive() and answers each with reply(), in
//                 any order, from any thread.
//                 start_call() does not wait: its reply comes by get(), or co_await.
//   zero-copy     loan() gives memory in the ring to be filled and published;
//                 receive_in_place() lets a message be read where it lies.
//
// Every blocking member takes a deadline, at last; a duration counts from now.
//
// Threads. Any number may use one channel at once, in any mix. Only moving and
// destroying it must be alone. A forked child may only destroy it (EPERM), as well as
// pending replies, loans and messages held in place, which stay the parent's. The last two
// may be handed to another thread.
//
// Event loops. Where try_receive() or try_send() returns false, or nothing, fd()
// becomes readable once there is a message, or room: put it into epoll, and try until
// there is nothing left to do. It is level-triggered.
//
// Errors, as ipcdoor::error with these codes:
//
//   EMSGSIZE   the message is longer than the peer's max_message_bytes, or does not
//              lie in one record where it has to; nothing was sent
//   ETIMEDOUT  the deadline passed. After send(): nothing was sent that the peer
//              would receive. After call(): a reply that comes later is dropped and
//              counted.
//   EPIPE      the peer is dead, however it ended. Receiving, this comes after
//              everything that it had published. Sending, it comes at once to a
//              blocked sender; a send that finds room may still succeed until
//              the death was noticed, as on sockets, at the latest when the ring
//              is full.
//   EPROTO     the peer broke the protocol (also: a reply to a call never made).
//              The channel is of no use any more; others are not concerned.
//   EPROTONOSUPPORT  the peer speaks other versions only
//   EAGAIN     send() found no room, and when_full is fail
//   EINVAL     reply() to a message that is not a request; a priority that is none
//   EOPNOTSUPP the peer takes no file descriptors (max_descriptors)
//   EBADF      one of those to be sent is not open; nothing was sent
//   ENOTCONN   the peer's socket for them is in another network namespace
//   EMFILE     receiving: this process has no room for the socket that they come to; the
//              message is still there
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

#include <sys/types.h>

#include <cerrno>
#include <coroutine>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/channel_core.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>

namespace ipcdoor {

// What send() does where the ring is full.
enum class when_full {
    block,    // waits for room, until the deadline
    fail,     // EAGAIN
    discard,  // drops the message and counts it (channel_stats::discarded)
};

struct channel_options {
    // How long a receiver spins, looking for a message, before it sleeps. 0, the
    // default, is right wherever both sides may need the same CPU; a few
    // microseconds help where each side has one of its own.
    std::uint64_t spin_ns = 0;
    // Messages that call() sets aside for receive(), while it waits for its
    // reply, may take this much memory.
    std::size_t inbox_bytes = std::size_t{1} << 20;
    // The longest message that this end receives. One that does not fit a record comes
    // in parts and is put together in this process's memory.
    std::size_t max_message_bytes = std::size_t{16} << 20;
    when_full full = when_full::block;
    // The most file descriptors that come along with a message to this end, at most 253.
    // More than none opens a socket for them. A peer in another PID namespace cannot be told
    // from others there, and is told that none are taken.
    std::size_t max_descriptors = 0;
    // Whoever sends messages and requests to this end says how its thread is scheduled:
    // message::sender_scheduling(). It costs the sender a system call for each.
    bool ask_scheduling = false;
};

struct send_options {
    unsigned priority = 0;  // 0 to 3, the higher the more urgent
    // File descriptors for the receiver, which gets copies of its own; they stay the
    // sender's. Not with loans, and not where the call may not block.
    std::span<const int> descriptors{};
};

struct channel_stats {
    std::uint64_t doorbells = 0;     // system calls for ringing (with waiting or without)
    std::uint64_t waits = 0;         // times a thread went to sleep, or looked for a death
    std::uint64_t late_replies = 0;  // came after their call's deadline, or twice; dropped
    std::uint64_t discarded = 0;     // found no room, where when_full is discard
};

// The slot size to listen with so that messages of up to `message_bytes` lie in one
// record each; longer ones go in parts.
constexpr std::uint64_t channel_slot_bytes(std::uint64_t message_bytes) noexcept {
    return message_slot_bytes(2 * (detail::padded(message_bytes) + ring_record_header_bytes +
                                   detail::record_id_bytes + sizeof(detail::record_extras)));
}

// Memory in the ring, to be filled and published. Until then nobody else can send
// with its priority. Destroyed unpublished, it was never there. The channel outlives it.
class loaned_message {
public:
    loaned_message(loaned_message&& other) noexcept
        : core_(std::exchange(other.core_, nullptr)),
          envelope_(other.envelope_),
          bytes_(other.bytes_) {}
    loaned_message& operator=(loaned_message&& other) noexcept {
        std::swap(core_, other.core_);
        std::swap(envelope_, other.envelope_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~loaned_message() { cancel(); }

    // 8-byte aligned; what was there before, until it is written.
    std::span<std::byte> bytes() const noexcept { return bytes_; }

    // The memory as an object, zeroed. Throws EMSGSIZE where it is too small.
    template <class T>
    requires(std::is_trivially_copyable_v<T>&& std::is_default_constructible_v<T> &&
             alignof(T) <= ring_record_align) T& emplace() {
        if (bytes_.size() < sizeof(T)) {
            detail::throw_error(EMSGSIZE, "channel: a loan of " + std::to_string(bytes_.size()) +
                                              " bytes is too small for an object of " +
                                              std::to_string(sizeof(T)));
        }
        return *new (bytes_.data()) T{};
    }

    // Sends the first `used` bytes of it, all unless said. Throws what send() throws.
    void publish(std::size_t used = static_cast<std::size_t>(-1)) {
        if (core_ == nullptr)
            detail::throw_error(EINVAL, "channel: this loan was published or moved away");
        const std::size_t sent = used == static_cast<std::size_t>(-1) ? bytes_.size() : used;
        if (sent > bytes_.size()) {
            detail::throw_error(EINVAL, "channel: " + std::to_string(sent) +
                                            " bytes of a loan of " + std::to_string(bytes_.size()) +
                                            " were published");
        }
        std::exchange(core_, nullptr)->publish_loan(envelope_, sent);
    }

    void cancel() noexcept {
        if (core_ != nullptr) std::exchange(core_, nullptr)->cancel_loan(envelope_);
    }

private:
    friend class channel;

    loaned_message(detail::channel_core& core, const detail::channel_core::envelope& what,
                   std::span<std::byte> bytes) noexcept
        : core_(&core), envelope_(what), bytes_(bytes) {}

    detail::channel_core* core_;
    detail::channel_core::envelope envelope_;
    std::span<std::byte> bytes_;
};

// A received message where it lies, or, where that is in pieces, put together. While it
// is held nobody else receives from the channel, which outlives it. The sender can change
// the bytes while they are read: copy what has to be checked, then check the copy.
class held_message {
public:
    held_message(held_message&& other) noexcept
        : core_(std::exchange(other.core_, nullptr)),
          record_(std::exchange(other.record_, std::nullopt)),
          whole_(std::move(other.whole_)) {}
    held_message& operator=(held_message&& other) noexcept {
        std::swap(core_, other.core_);
        std::swap(record_, other.record_);
        std::swap(whole_, other.whole_);
        return *this;
    }
    ~held_message() { release(); }

    std::span<const std::byte> bytes() const noexcept {
        return record_ ? record_->bytes : whole_.bytes();
    }
    std::size_t size() const noexcept { return bytes().size(); }
    std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(bytes().data()), bytes().size()};
    }
    bool is_request() const noexcept { return record_ ? record_->id != 0 : whole_.is_request(); }
    unsigned priority() const noexcept { return record_ ? record_->lane : whole_.priority(); }
    // False where it was put together from parts, or had been set aside by a call().
    bool is_in_place() const noexcept { return record_.has_value(); }
    // What came along, as message says.
    std::size_t descriptor_count() const noexcept { return whole_.descriptor_count(); }
    std::vector<owned_fd> take_descriptors() { return whole_.take_descriptors(); }
    const std::optional<scheduling>& sender_scheduling() const noexcept {
        return whole_.sender_scheduling();
    }

    // Gives the memory back; the bytes are gone, and what it answers is forgotten.
    void release() noexcept {
        if (record_) core_->let_go(*record_);
        record_.reset();
        whole_ = {};
    }

private:
    friend class channel;

    explicit held_message(detail::channel_core& core) noexcept : core_(&core) {}

    detail::channel_core* core_;
    std::optional<detail::channel_core::held_record> record_;
    message whole_;
};

// The reply to a call that was started and not waited for. Somebody has to receive from
// the channel meanwhile: get() does, and so does an event loop's try_receive().
//
//     pending_reply first = channel.start_call("a");
//     pending_reply second = channel.start_call("b");
//     use(first.get(deadline), second.get(deadline));
//     message third = co_await channel.start_call("c");
//
// In an event loop try_get() whenever the channel's fd() is readable, or await
// async_call() of async.hpp.
//
// A coroutine goes on in the thread that received the reply, inside its call on the
// channel, and so does then(): neither may throw, nor receive from the same channel by
// waiting there, and what takes long there holds up that thread's own call.
// Destroyed, the reply is dropped when it comes, and counted (late_replies).
//
// Errors of get() and co_await: those of call(); ECANCELED where the channel is gone.
class [[nodiscard]] pending_reply {
public:
    pending_reply(pending_reply&&) noexcept = default;
    pending_reply& operator=(pending_reply&& other) noexcept {
        forget();
        core_ = std::move(other.core_);
        call_ = std::move(other.call_);
        return *this;
    }
    ~pending_reply() { forget(); }

    // Whether get() returns, or throws, at once.
    bool ready() const noexcept { return call_->done.load(std::memory_order_acquire); }

    // The request's number on its channel: its message::request_id() there.
    std::uint64_t id() const noexcept { return call_->id; }

    // Waits for the reply, which is here only once. At the deadline it can be waited for
    // again.
    message get(deadline until = {}) {
        static_cast<void>(look(until.ns(), true));
        return std::move(call_->reply);
    }
    // The reply, where it is there. Never blocks; then the channel's fd() tells of more.
    std::optional<message> try_get() {
        if (!look(0, false)) return std::nullopt;
        return std::move(call_->reply);
    }

    // Does `what` once the reply is there; at once where it is. One at a time.
    void then(const std::function<void()>& what) {
        const auto core = core_.lock();
        if (!core || !core->receiver().when_done(*call_, what)) what();
    }

    bool await_ready() const noexcept { return ready(); }
    bool await_suspend(std::coroutine_handle<> waiting) {
        const auto core = core_.lock();
        return core && core->receiver().when_done(*call_, waiting);
    }
    message await_resume() { return get(); }

private:
    friend class channel;

    pending_reply(const std::shared_ptr<detail::channel_core>& core,
                  std::shared_ptr<detail::channel_core::async_call> call) noexcept
        : core_(core), call_(std::move(call)) {}

    bool look(std::uint64_t deadline_ns, bool block) {
        if (!ready()) {
            if (const auto core = core_.lock()) {
                if (!core->await_call(*call_, deadline_ns, block)) return false;
            } else if (!ready()) {
                detail::throw_error(ECANCELED, "channel: it is being closed");
            }
        }
        call_->check();
        return true;
    }

    void forget() noexcept {
        if (!call_) return;
        const auto core = core_.lock();
        // In a forked child another thread's lock may be held for ever.
        if (core && !core->is_copy()) core->receiver().forget_call(*call_);
    }

    std::weak_ptr<detail::channel_core> core_;
    std::shared_ptr<detail::channel_core::async_call> call_;
};

class channel {
public:
    // Takes an end of a connection. Never blocks: the peer's end is checked when
    // it is first needed, so a client that stays silent holds up nobody else.
    // Throws EINVAL for an endpoint that is not one of a connection or whose
    // slots are too small, EBUSY for one that already carried a channel.
    explicit channel(endpoint end, const channel_options& options = {})
        : endpoint_(std::make_unique<endpoint>(std::move(end))),
          core_(std::make_shared<detail::channel_core>(
              endpoint_->get(), detail::channel_core::options{{options.spin_ns, options.inbox_bytes,
                                                               options.max_message_bytes},
                                                              options.max_descriptors,
                                                              options.ask_scheduling})),
          full_(options.full) {}

    channel(channel&&) noexcept = default;
    channel& operator=(channel&& other) noexcept {
        leave_to_parent();
        core_ = std::move(other.core_);
        endpoint_ = std::move(other.endpoint_);
        full_ = other.full_;
        return *this;
    }
    ~channel() { leave_to_parent(); }

    // The longest message of a priority that lies in one record: it can be loaned, and
    // sent by try_send().
    std::size_t max_record_bytes(unsigned priority = 0) const {
        core_->sender().check_lane(priority);
        return core_->sender().max_record_bytes(priority);
    }

    // ---- asynchronous ----

    // Where the ring is full: as channel_options::full says, and blocks unless it says
    // otherwise. What does not lie in one record needs when_full::block.
    void send(const bytes_view& bytes, const send_options& options, deadline until = {}) {
        const bool block = full_ == when_full::block;
        if (core_->send({detail::record_type::message, 0, options.priority},
                        {bytes.bytes(), options.descriptors}, until.ns(), block, false))
            return;
        if (full_ == when_full::fail) {
            detail::throw_error(EAGAIN,
                                "channel: no room in the ring; receive there, or send later");
        }
        core_->link().stats().discarded.fetch_add(1, std::memory_order_relaxed);
    }
    void send(const bytes_view& bytes, deadline until = {}) { send(bytes, send_options{}, until); }

    // False, and nothing sent, where there is no room now. Never blocks. Then fd() tells of
    // room, until the next try; who gives the message up uses send_if_room() instead.
    [[nodiscard]] bool try_send(const bytes_view& bytes, const send_options& options = {}) {
        return core_->send({detail::record_type::message, 0, options.priority},
                           {bytes.bytes(), options.descriptors}, 0, false);
    }

    // For an event loop that sends, and does not receive meanwhile: what has come must not
    // keep fd() readable while it waits for room. The next try_receive() finds it.
    void take_rings() { core_->receiver().take_rings(); }

    // try_send() for those who do not want to be told by fd() of room.
    [[nodiscard]] bool send_if_room(const bytes_view& bytes, const send_options& options = {}) {
        return core_->send({detail::record_type::message, 0, options.priority},
                           {bytes.bytes(), options.descriptors}, 0, false, false);
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

    // ---- zero-copy ----

    // Memory for a message of `bytes`, at most max_record_bytes(); blocks while there is
    // no room.
    loaned_message loan(std::size_t bytes, const send_options& options, deadline until = {}) {
        check_loan(options);
        return lend({detail::record_type::message, 0, options.priority}, bytes, until);
    }
    loaned_message loan(std::size_t bytes, deadline until = {}) {
        return loan(bytes, send_options{}, until);
    }
    // The same for a request, to be passed to call(), and for a reply.
    loaned_message loan_request(std::size_t bytes, const send_options& options = {},
                                deadline until = {}) {
        check_loan(options);
        return lend(core_->request(options.priority), bytes, until);
    }
    loaned_message loan_reply(const message& request, std::size_t bytes, deadline until = {}) {
        return lend(reply_to(request.request_, request.priority()), bytes, until);
    }
    loaned_message loan_reply(const held_message& request, std::size_t bytes, deadline until = {}) {
        return lend(reply_to(id_of(request), request.priority()), bytes, until);
    }

    // As receive(), without copying.
    held_message receive_in_place(deadline until = {}) {
        held_message held(*core_);
        core_->receive_in_place(held.whole_, held.record_, until.ns(), true);
        return held;
    }
    std::optional<held_message> try_receive_in_place() {
        std::optional<held_message> held(held_message{*core_});
        if (!core_->receive_in_place(held->whole_, held->record_, 0, false)) held.reset();
        return held;
    }

    // ---- synchronous ----

    // Sends a request and returns the reply to it.
    message call(const bytes_view& request, deadline until = {}) {
        message reply;
        call(request, reply, until);
        return reply;
    }
    message call(const bytes_view& request, const send_options& options, deadline until = {}) {
        message reply;
        call(request, options, reply, until);
        return reply;
    }

    // The same, reusing the memory of `into`.
    void call(const bytes_view& request, message& into, deadline until = {}) {
        call(request, send_options{}, into, until);
    }
    void call(const bytes_view& request, const send_options& options, message& into,
              deadline until = {}) {
        core_->call(options.priority, {request.bytes(), options.descriptors}, into, until.ns());
    }

    // The same with a request of loan_request().
    void call(loaned_message&& request, message& into, deadline until = {}) {
        if (request.core_ != core_.get() || request.envelope_.type != detail::record_type::request)
            detail::throw_error(EINVAL,
                                "channel: call() takes a loan of this channel's loan_request()");
        bool published = false;
        try {
            core_->call_with_loan(request.envelope_, request.bytes_.size(), into, until.ns(),
                                  published);
        } catch (...) {
            if (published) request.core_ = nullptr;
            throw;
        }
        request.core_ = nullptr;
    }

    // Sends a request and goes on; blocks while the ring is full.
    pending_reply start_call(const bytes_view& request, const send_options& options,
                             deadline until = {}) {
        return {core_, core_->start_call(options.priority, {request.bytes(), options.descriptors},
                                         until.ns())};
    }
    pending_reply start_call(const bytes_view& request, deadline until = {}) {
        return start_call(request, send_options{}, until);
    }

    // Answers a request from this channel, once.
    void reply(const message& request, const bytes_view& bytes, deadline until = {}) {
        reply(request, bytes, std::span<const int>{}, until);
    }
    // The same with file descriptors.
    void reply(const message& request, const bytes_view& bytes, std::span<const int> descriptors,
               deadline until = {}) {
        core_->send(reply_to(request.request_, request.priority()), {bytes.bytes(), descriptors},
                    until.ns(), true);
    }
    void reply(const held_message& request, const bytes_view& bytes, deadline until = {}) {
        core_->send(reply_to(id_of(request), request.priority()), bytes.bytes(), until.ns(), true);
    }

    // reply(), then receive(), in one system call where both are needed. `into`
    // may be `request` itself. Throws what receive() throws after the reply was
    // sent, too: on ETIMEDOUT go on with receive(), for a reply that waits for
    // room needs a client that takes none.
    void reply_receive(const message& request, const bytes_view& bytes, message& into,
                       deadline until = {}) {
        core_->reply_receive(reply_to(request.request_, request.priority()), bytes.bytes(), into,
                             until.ns());
    }

    // ---- the rest ----

    // The priority of what try_receive() would take next; -1 where there is nothing, or
    // where another thread receives. A guess: more urgent ones may come.
    int next_priority() { return core_->receiver().next_priority(); }

    // For poll and epoll, see above. Stays the channel's.
    int fd() const { return endpoint_->fd(); }

    // Makes fd() readable once more, for an event loop that leaves something for later.
    void remind() { core_->link().ring_own(detail::data_vector); }

    // Who the peer is, as the kernel captured it.
    struct ipcdoor_peer_info peer() const {
        return endpoint_->peer_info(1 - endpoint_->slot());
    }

    // A snapshot.
    channel_stats stats() const noexcept {
        const detail::channel_link::counters& now = core_->link().stats();
        return {now.doorbells.load(std::memory_order_relaxed),
                now.waits.load(std::memory_order_relaxed),
                now.late_replies.load(std::memory_order_relaxed),
                now.discarded.load(std::memory_order_relaxed)};
    }

    // For the pulses of signal.hpp and vectors 8 to 63; those below are spoken for.
    endpoint& raw() noexcept { return *endpoint_; }

private:
    static detail::channel_core::envelope reply_to(std::uint64_t id, unsigned priority) {
        if (id == 0)
            detail::throw_error(EINVAL, "channel: reply() to a message that is not a request");
        return {detail::record_type::reply, id, priority};
    }
    static std::uint64_t id_of(const held_message& held) noexcept {
        return held.record_ ? held.record_->id : held.whole_.request_;
    }

    static void check_loan(const send_options& options) {
        if (!options.descriptors.empty()) {
            detail::throw_error(EINVAL,
                                "channel: descriptors do not go along with a loan; send() them");
        }
    }

    loaned_message lend(detail::channel_core::envelope what, std::size_t bytes, deadline until) {
        std::byte* const memory = core_->begin_loan(what, bytes, until.ns(), true);
        return {*core_, what, {memory, bytes}};
    }

    // In a forked child: locks and waiting threads in there are the parent's, and so is
    // whatever follows a reply. The endpoint's descriptors are closed.
    void leave_to_parent() noexcept {
        if (core_ == nullptr || !core_->is_copy()) return;
        core_->leave_to_parent();
        static_cast<void>(new (std::nothrow)
                              std::shared_ptr<detail::channel_core>(std::move(core_)));
    }

    std::unique_ptr<endpoint> endpoint_;
    std::shared_ptr<detail::channel_core> core_;  // gone before the endpoint
    when_full full_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_MESSAGE_HPP
