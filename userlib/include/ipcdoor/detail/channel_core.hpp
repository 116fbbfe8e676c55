// SPDX-License-Identifier: MIT
//
// The engine under channel: the two halves of a connection's messages on one link.
// Their mutexes are never held together. What is found wrong with the peer ends the
// channel for every thread, and is recorded with none of them held.
#ifndef IPCDOOR_DETAIL_CHANNEL_CORE_HPP
#define IPCDOOR_DETAIL_CHANNEL_CORE_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>

#include <ipcdoor.h>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/detail/channel_link.hpp>
#include <ipcdoor/detail/channel_receiver.hpp>
#include <ipcdoor/detail/channel_sender.hpp>
#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/error.hpp>

namespace ipcdoor::detail {

class channel_core {
public:
    using envelope = channel_sender::envelope;
    using held_record = channel_receiver::held_record;
    using cargo = channel_sender::cargo;

    struct options {
        channel_receiver::limits receiving;
        std::size_t descriptors = 0;  // most of a message that is received
        bool ask_scheduling = false;
    };

    // `endpoint` is one of a connection's two and outlives this.
    channel_core(ipcdoor_endpoint* endpoint, const options& wanted)
        : descriptors_(wanted.descriptors != 0 && peer_can_be_told(endpoint) ? wanted.descriptors
                                                                             : 0),
          link_(endpoint,
                {wanted.receiving.message_bytes,
                 wanted.ask_scheduling ? message_slot_asks_scheduling : 0, descriptors_.word()}),
          out_(link_),
          in_(link_, wanted.receiving, descriptors_) {}

    channel_link& link() noexcept { return link_; }
    const channel_sender& sender() const noexcept { return out_; }

    // Sends a one-way message or a reply. False (only where not `block`): there is
    // no room now.
    bool send(const envelope& what, const cargo& load, std::uint64_t deadline_ns, bool block,
              bool watch = true) {
        return guarded([&] {
            if (!link_.await_peer(deadline_ns, block)) return false;
            bool owed = false;
            if (!out_.put(what, load, deadline_ns, block, owed, watch)) return false;
            if (owed) link_.ring_for_data();
            if (link_.dead()) link_.throw_dead();
            return true;
        });
    }

    // Receives the next message or request. False (only where not `block`): there is
    // none now.
    bool receive(message& into, std::uint64_t deadline_ns, bool block) {
        return guarded([&] {
            if (!link_.await_peer(deadline_ns, block)) return false;
            channel_receiver::waiter me{0, &into};
            const channel_receiver::enrolled here(in_, me);
            if (in_.await(me, deadline_ns, block, false)) return true;
            out_.take_stale();
            return false;
        });
    }

    // The same, without copying where it lies in one piece: then `held` has it, and
    // nobody else receives until let_go().
    bool receive_in_place(message& into, std::optional<held_record>& held,
                          std::uint64_t deadline_ns, bool block) {
        return guarded([&] {
            if (!link_.await_peer(deadline_ns, block)) return false;
            channel_receiver::waiter me{0, &into, true};
            const channel_receiver::enrolled here(in_, me);
            if (!in_.await(me, deadline_ns, block, false)) {
                out_.take_stale();
                return false;
            }
            held = me.held;
            return true;
        });
    }
    void let_go(const held_record& held) noexcept {
        if (!is_copy()) in_.let_go(held);
    }

    void call(unsigned lane, const cargo& load, message& into, std::uint64_t deadline_ns) {
        guarded([&] {
            link_.await_peer(deadline_ns, true);
            channel_receiver::waiter me{in_.new_id(), &into};
            // A reply may be back before put() returns.
            const channel_receiver::enrolled here(in_, me);
            bool owed = false;
            out_.put({record_type::request, me.id, lane}, load, deadline_ns, true, owed);
            return in_.await(me, deadline_ns, true, owed);
        });
    }

    // ---- calls without a waiting caller ----

    using async_call = channel_receiver::async_call;

    std::shared_ptr<async_call> start_call(unsigned lane, const cargo& load,
                                           std::uint64_t deadline_ns) {
        std::shared_ptr<async_call> call;
        guarded([&] {
            link_.await_peer(deadline_ns, true);
            call = in_.begin_call();
            try {
                bool owed = false;
                out_.put({record_type::request, call->id, lane}, load, deadline_ns, true, owed);
                if (owed) link_.ring_for_data();
            } catch (...) {
                in_.forget_call(*call);
                throw;
            }
            return true;
        });
        return call;
    }
    // False (only where not `block`): the reply is not there now.
    bool await_call(async_call& call, std::uint64_t deadline_ns, bool block) {
        // What it has come to stays, whatever came of the channel.
        if (!call.done.load(std::memory_order_acquire) &&
            !guarded([&] { return in_.await_call(call, deadline_ns, block); }))
            return false;
        call.check();
        return true;
    }
    channel_receiver& receiver() noexcept { return in_; }

    // Replies, then receives.
    void reply_receive(const envelope& what, const cargo& load, message& into,
                       std::uint64_t deadline_ns) {
        guarded([&] {
            link_.await_peer(deadline_ns, true);
            bool owed = false;
            out_.put(what, load, deadline_ns, true, owed);
            channel_receiver::waiter me{0, &into};
            const channel_receiver::enrolled here(in_, me);
            return in_.await(me, deadline_ns, true, owed);
        });
    }

    // ---- loans ----

    envelope request(unsigned lane) noexcept { return {record_type::request, in_.new_id(), lane}; }

    std::byte* begin_loan(envelope& what, std::size_t bytes, std::uint64_t deadline_ns,
                          bool block) {
        std::byte* memory = nullptr;
        guarded([&] {
            if (!link_.await_peer(deadline_ns, block)) return false;
            memory = out_.begin_loan(what, bytes, deadline_ns, block);
            return memory != nullptr;
        });
        return memory;
    }
    void publish_loan(const envelope& what, std::size_t bytes) {
        guarded([&] {
            if (out_.publish_loan(what, bytes)) link_.ring_for_data();
            if (link_.dead()) link_.throw_dead();
            return true;
        });
    }
    // `published`: the loan is gone, whatever is thrown.
    void call_with_loan(const envelope& what, std::size_t bytes, message& into,
                        std::uint64_t deadline_ns, bool& published) {
        guarded([&] {
            channel_receiver::waiter me{what.id, &into};
            const channel_receiver::enrolled here(in_, me);
            const bool owed = out_.publish_loan(what, bytes);
            published = true;
            return in_.await(me, deadline_ns, true, owed);
        });
    }
    void cancel_loan(const envelope& what) noexcept {
        if (!is_copy()) out_.cancel_loan(what.lane);
    }

    // In a forked child: memory, locks and waiting threads are the parent's.
    bool is_copy() const noexcept { return !maker_.is_mine(); }
    void leave_to_parent() noexcept {
        descriptors_.close_all();
        out_.leave_to_parent();
    }

private:
    // From others at the socket for descriptors.
    static bool peer_can_be_told(ipcdoor_endpoint* endpoint) {
        struct ipcdoor_endpoint_info info {};
        throw_if(ipcdoor_endpoint_info(endpoint, &info));
        struct ipcdoor_peer_info peer {};
        peer.slot = 1 - info.slot;
        return info.slots == 2 && ipcdoor_peer_info(endpoint, &peer) == 0 && peer.pid > 0;
    }

    // Runs an operation; what it finds wrong with the peer ends the channel for
    // every other thread too.
    template <class Operation>
    bool guarded(Operation operation) {
        maker_.check("channel: it is the parent's; a forked child opens one by itself");
        link_.check_failed();
        try {
            return operation();
        } catch (const std::system_error& wrong) {
            if (wrong.code().value() == EPROTO && link_.fail(wrong.what())) {
                in_.wake_all();
                out_.wake_all();
                in_.end_calls(EPROTO, wrong.what());
            }
            throw;
        }
    }

    const fork_mark maker_;
    descriptor_receiver descriptors_;  // in_'s
    channel_link link_;
    channel_sender out_;
    channel_receiver in_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CHANNEL_CORE_HPP
