// SPDX-License-Identifier: MIT
//
// The engine under channel: two rings and their doorbells made into blocking
// calls for any number of threads. It owns the order of locks and who waits.
//
// A ring has one producer and one consumer, and a doorbell's count is taken by
// whoever waits for it. So on each side one thread at a time, the *leader*, may
// sleep in the kernel, and the others sleep on condition variables:
//
//   sending    send_mutex_ guards out_. Who finds no room leads: it arms the
//              ring, drops the mutex and waits for space_vector. Others queue
//              behind it (sending_).
//   receiving  mutex_ guards in_, the waiters and the inbox. The leader (leading_)
//              takes records and hands them over: a reply to its caller, the
//              rest to a receiver; what nobody waits for goes to the inbox.
//              A leader that leaves wakes another waiter to lead.
//
// send_mutex_ and mutex_ are never held together. A failure is recorded with
// neither held (fail()).
//
// Signal handlers run while a call waits, and the wait goes on: a call that
// gave up between its request and the reply would lose the reply.
#ifndef IPCDOOR_DETAIL_CHANNEL_CORE_HPP
#define IPCDOOR_DETAIL_CHANNEL_CORE_HPP

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>

namespace ipcdoor::detail {

inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class channel_core {
public:
    struct counters {
        std::atomic<std::uint64_t> doorbells{0};     // rung, in both roles
        std::atomic<std::uint64_t> waits{0};         // times a thread slept in the back end
        std::atomic<std::uint64_t> late_replies{0};  // nobody waited for them any more
    };

    // Types of a record. Requests and replies start with the correlation id.
    static constexpr std::uint16_t type_message = 1;
    static constexpr std::uint16_t type_request = 2;
    static constexpr std::uint16_t type_reply = 3;
    static constexpr std::size_t id_bytes = sizeof(std::uint64_t);

    // Vectors of the doorbell. signal.hpp has 4; 5 to 63 are the user's.
    static constexpr std::uint32_t data_vector = 1;   // the sender's ring has data
    static constexpr std::uint32_t space_vector = 2;  // the receiver's ring has room
    static constexpr std::uint32_t hello_vector = 3;  // the slot's header is written

    // `endpoint` is one of a connection's two and outlives this.
    channel_core(ipcdoor_endpoint* endpoint, std::uint64_t spin_ns, std::size_t inbox_bytes)
        : endpoint_(endpoint), spin_ns_(spin_ns), inbox_limit_(inbox_bytes) {
        struct ipcdoor_endpoint_info info {};
        throw_if(ipcdoor_endpoint_info(endpoint, &info));
        if ((info.flags & IPCDOOR_ENDPOINT_CONNECTION) == 0 || info.slots != 2) {
            throw_error(EINVAL,
                        "channel: this endpoint is not one of a connection; get it from "
                        "connect() or accept()");
        }
        own_ = info.slot;
        peer_ = 1 - info.slot;
        slot_bytes_ = info.slot_bytes;
        void* const mine = slot_memory(own_);
        mine_ = static_cast<ring_slot*>(mine);
        theirs_ = slot_memory(peer_);
        if (mine_->magic.load(std::memory_order_relaxed) != 0)
            throw_error(EBUSY, "channel: this endpoint already carries a channel");
        capacity_ = init_ring_slot(mine, slot_bytes_);
        // The peer may wait for the header; if it died, the first use will tell.
        const int rung = ring(hello_vector);
        if (rung != -EPIPE) throw_if(rung);
    }
    channel_core(const channel_core&) = delete;
    channel_core& operator=(const channel_core&) = delete;

    std::size_t max_message_bytes() const noexcept {
        return ring_max_payload(capacity_) - id_bytes;
    }
    const counters& stats() const noexcept { return stats_; }

    // Waits for the peer's header and checks it, once. False (only where not
    // `block`): it is not there yet.
    bool await_peer(std::uint64_t deadline_ns, bool block) {
        if (ready_.load(std::memory_order_acquire)) return true;
        std::unique_lock lock(hello_mutex_);
        bool dead = false;
        while (!ready_.load(std::memory_order_relaxed)) {
            if (const std::uint64_t capacity = verify_ring_slot(theirs_, slot_bytes_)) {
                const ring_slot& theirs = *static_cast<const ring_slot*>(theirs_);
                in_.emplace(mine_->input, ring_data(theirs_), capacity, theirs.output);
                out_.emplace(mine_->output, ring_data(static_cast<void*>(mine_)), capacity_,
                             theirs.input);
                ready_.store(true, std::memory_order_release);
                break;
            }
            if (dead) throw_error(EPIPE, "channel: the peer died before it opened its channel");
            if (greeting_) {
                if (!block) return false;
                if (!wait_until(greeted_, lock, deadline_ns)) throw_timeout("the peer's channel");
                continue;
            }
            greeting_ = true;
            lock.unlock();
            const int waited = wait(hello_vector, block ? deadline_ns : 0);
            lock.lock();
            greeting_ = false;
            greeted_.notify_all();
            if (waited == -EPIPE) {
                dead = true;
            } else if (waited == -ETIMEDOUT) {
                if (!block) return false;
                throw_timeout("the peer's channel");
            } else {
                throw_if(waited);
            }
        }
        greeted_.notify_all();
        return true;
    }

    // Sends a one-way message (id 0) or a reply. False (only where not `block`):
    // there is no room now.
    bool send(std::uint16_t type, std::uint64_t id, std::span<const std::byte> bytes,
              std::uint64_t deadline_ns, bool block) {
        return guarded([&] {
            bool owed = false;
            if (!put(type, id, bytes, deadline_ns, block, owed)) return false;
            if (owed) ring_for_data();
            if (dead_.load(std::memory_order_relaxed)) throw_dead();
            return true;
        });
    }

    // Receives the next message or request. False (only where not `block`):
    // there is none now.
    bool receive(message& into, std::uint64_t deadline_ns, bool block) {
        return guarded([&] {
            if (!await_peer(deadline_ns, block)) return false;
            waiter me{0, &into};
            const enrolled here(*this, me);
            return await(me, deadline_ns, block, false);
        });
    }

    void call(std::span<const std::byte> bytes, message& into, std::uint64_t deadline_ns) {
        guarded([&] {
            await_peer(deadline_ns, true);
            waiter me{next_id_.fetch_add(1, std::memory_order_relaxed), &into};
            // A reply may be back before put() returns.
            const enrolled here(*this, me);
            bool owed = false;
            put(type_request, me.id, bytes, deadline_ns, true, owed);
            return await(me, deadline_ns, true, owed);
        });
    }

    void reply(const message& request, std::span<const std::byte> bytes,
               std::uint64_t deadline_ns) {
        send(type_reply, request_id(request), bytes, deadline_ns, true);
    }

    void reply_receive(const message& request, std::span<const std::byte> bytes, message& into,
                       std::uint64_t deadline_ns) {
        guarded([&] {
            const std::uint64_t id = request_id(request);
            await_peer(deadline_ns, true);
            bool owed = false;
            put(type_reply, id, bytes, deadline_ns, true, owed);
            waiter me{0, &into};
            const enrolled here(*this, me);
            return await(me, deadline_ns, true, owed);
        });
    }

private:
    // A thread in receive() (id 0) or in call().
    struct waiter {
        std::uint64_t id;
        message* into;
        bool done = false;
        std::condition_variable changed{};
    };

    // A waiter's place in waiters_. Leaving, it wakes another one to lead.
    class enrolled {
    public:
        enrolled(channel_core& core, waiter& me) : core_(core), me_(me) {
            const std::lock_guard lock(core_.mutex_);
            core_.waiters_.push_back(&me_);
        }
        ~enrolled() {
            const std::lock_guard lock(core_.mutex_);
            std::erase(core_.waiters_, &me_);
            core_.pass_on();
        }
        enrolled(const enrolled&) = delete;
        enrolled& operator=(const enrolled&) = delete;

    private:
        channel_core& core_;
        waiter& me_;
    };

    static void throw_timeout(const char* what) {
        throw_error(ETIMEDOUT,
                    std::string("channel: the deadline passed while waiting for ") + what);
    }

    static std::uint64_t request_id(const message& request) {
        if (!request.is_request())
            throw_error(EINVAL, "channel: reply() to a message that is not a request");
        return request.request_;
    }

    void* slot_memory(std::uint32_t slot) const {
        void* const memory = ipcdoor_slot_memory(endpoint_, slot);
        if (memory == nullptr) throw_if(-errno);
        return memory;
    }

    // ---- doorbells ----

    int ring(std::uint32_t vector) noexcept {
        stats_.doorbells.fetch_add(1, std::memory_order_relaxed);
        const int rung = ipcdoor_ring(endpoint_, peer_, 0, vector, 0);
        return lacks_only_signal(rung) ? 0 : rung;
    }

    // Counted, but a signal that the peer wants with it could not be sent (soft:):
    // that is the peer's affair, and no reason to fail here.
    static bool lacks_only_signal(int rung) noexcept {
        return rung == -EAGAIN || rung == -EOPNOTSUPP;
    }

    // For those who receive next: a death is noted, and told once everything that
    // was published has been received.
    void ring_for_data() {
        const int rung = ring(data_vector);
        if (rung == -EPIPE)
            dead_.store(true, std::memory_order_relaxed);
        else
            throw_if(rung);
    }

    // 0, -EPIPE or -ETIMEDOUT. Anything else is a hint to look again, too, but
    // for errors that no waiting cures.
    int wait(std::uint32_t vector, std::uint64_t deadline_ns, bool ring_first = false) noexcept {
        stats_.waits.fetch_add(1, std::memory_order_relaxed);
        const std::uint64_t mask = std::uint64_t{1} << vector;
        int waited;
        if (ring_first) {
            stats_.doorbells.fetch_add(1, std::memory_order_relaxed);
            waited =
                ipcdoor_ring_wait(endpoint_, peer_, 0, data_vector, 0, mask, deadline_ns, nullptr);
            if (waited != -EINTR && !lacks_only_signal(waited)) return waited;
        }
        do {
            waited = ipcdoor_wait(endpoint_, mask, deadline_ns, nullptr);
        } while (waited == -EINTR);
        return waited;
    }

    // ---- failure ----

    [[noreturn]] void throw_dead() {
        dead_.store(true, std::memory_order_relaxed);
        throw_error(EPIPE, "channel: the peer is dead; connect again");
    }

    // Runs an operation; what it finds wrong with the peer ends the channel for
    // every other thread too.
    template <class Operation>
    bool guarded(Operation operation) {
        if (failed_.load(std::memory_order_acquire)) throw_failed();
        try {
            return operation();
        } catch (const std::system_error& wrong) {
            if (wrong.code().value() == EPROTO) fail(wrong.what());
            throw;
        }
    }

    [[noreturn]] void throw_failed() const {
        // failure_ was written before failed_ and never again.
        throw_error(EPROTO, failure_);
    }

    void fail(const std::string& why) {
        {
            const std::lock_guard lock(mutex_);
            if (failed_.load(std::memory_order_relaxed)) return;
            failure_ = why;
            failed_.store(true, std::memory_order_release);
            for (waiter* other : waiters_) other->changed.notify_one();
        }
        {
            const std::lock_guard lock(send_mutex_);
            send_turn_.notify_all();
        }
        // Leaders sleep in the back end: wake them by the own doorbells. A
        // failing ring leaves them to their deadlines or the peer's next ring.
        static_cast<void>(ipcdoor_ring(endpoint_, own_, 0, data_vector, 0));
        static_cast<void>(ipcdoor_ring(endpoint_, own_, 0, space_vector, 0));
    }

    // ---- sending ----

    // Puts one record into the ring. `owed`: the peer sleeps for it, the caller
    // rings data_vector.
    bool put(std::uint16_t type, std::uint64_t id, std::span<const std::byte> bytes,
             std::uint64_t deadline_ns, bool block, bool& owed) {
        if (bytes.size() > max_message_bytes()) {
            throw_error(EMSGSIZE, "channel: a message of " + std::to_string(bytes.size()) +
                                      " bytes is larger than the " +
                                      std::to_string(max_message_bytes()) +
                                      " that this channel takes; listen with larger slots");
        }
        if (!await_peer(deadline_ns, block)) return false;
        if (dead_.load(std::memory_order_relaxed)) throw_dead();
        const std::size_t prefix = type == type_message ? 0 : id_bytes;
        const std::size_t record = prefix + bytes.size();

        std::unique_lock lock(send_mutex_);
        while (sending_) {
            if (!block) return false;
            ++send_queue_;
            const bool woken = wait_until(send_turn_, lock, deadline_ns);
            --send_queue_;
            if (failed_.load(std::memory_order_acquire)) throw_failed();
            if (!woken && sending_) throw_timeout("room in the ring");
        }
        std::byte* to = out_->reserve(record);
        if (to == nullptr) {
            if (!block) return false;
            to = await_room(lock, record, deadline_ns);
        }
        if (prefix != 0) std::memcpy(to, &id, prefix);
        if (!bytes.empty()) std::memcpy(to + prefix, bytes.data(), bytes.size());
        out_->commit(record, type);
        owed = out_->publish();
        if (send_queue_ != 0) send_turn_.notify_one();
        return true;
    }

    // Leads the senders until a record of `bytes` fits.
    std::byte* await_room(std::unique_lock<std::mutex>& lock, std::size_t bytes,
                          std::uint64_t deadline_ns) {
        struct leadership {
            channel_core& core;
            ~leadership() {
                core.sending_ = false;
                core.send_turn_.notify_one();
            }
        };
        sending_ = true;
        const leadership leader{*this};
        while (out_->arm(bytes)) {
            lock.unlock();
            const int waited = wait(space_vector, deadline_ns);
            lock.lock();
            if (failed_.load(std::memory_order_acquire)) throw_failed();
            if (waited == 0) continue;
            out_->disarm();
            if (waited == -EPIPE) throw_dead();
            if (waited != -ETIMEDOUT) throw_if(waited);
            // The last room may have come with the deadline.
            if (std::byte* const to = out_->reserve(bytes)) return to;
            throw_timeout("room in the ring");
        }
        return out_->reserve(bytes);
    }

    // ---- receiving ----

    // Wakes a receiver for the inbox, and a waiter to lead. mutex_ is held.
    //
    // Every waiter that leaves comes here, so a wake-up that met a waiter on its
    // way out is not lost but handed on.
    void pass_on() {
        if (!inbox_.empty()) wake_receiver();
        if (leading_ || stalled_) return;
        for (waiter* other : waiters_) {
            if (other->done) continue;
            other->changed.notify_one();
            return;
        }
    }

    void wake_receiver() {
        for (waiter* other : waiters_) {
            if (other->id != 0 || other->done) continue;
            other->changed.notify_one();
            return;
        }
    }

    // Empty messages take memory too.
    static std::size_t inbox_cost(std::size_t bytes) noexcept { return sizeof(message) + bytes; }

    bool take_from_inbox(waiter& me) {
        if (me.id != 0 || inbox_.empty()) return false;
        std::swap(*me.into, inbox_.front());
        inbox_.pop_front();
        inbox_bytes_ -= inbox_cost(me.into->size());
        stalled_ = false;
        me.done = true;
        return true;
    }

    // Until `me` has what it waits for. `owed`: data_vector is still to be rung.
    bool await(waiter& me, std::uint64_t deadline_ns, bool block, bool owed) {
        std::unique_lock lock(mutex_);
        for (;;) {
            if (me.done || take_from_inbox(me)) {
                if (owed) {
                    lock.unlock();
                    ring_for_data();
                }
                return true;
            }
            if (failed_.load(std::memory_order_relaxed)) throw_failed();
            if (!leading_ && !stalled_) {
                if (!lead(lock, me, deadline_ns, block, owed)) return false;
                continue;
            }
            if (!block) return false;
            if (owed) {
                owed = false;
                lock.unlock();
                ring_for_data();
                lock.lock();
                continue;
            }
            if (!wait_until(me.changed, lock, deadline_ns) && !me.done && !take_from_inbox(me))
                throw_timeout(me.id == 0 ? "a message" : "the reply");
        }
    }

    // Takes records from the ring until `me` is done or the inbox is full, and
    // sleeps in the back end for them. False (only where not `block`): nothing.
    bool lead(std::unique_lock<std::mutex>& lock, waiter& me, std::uint64_t deadline_ns, bool block,
              bool& owed) {
        struct leadership {
            channel_core& core;
            std::unique_lock<std::mutex>& lock;
            ~leadership() {
                if (!lock.owns_lock()) lock.lock();
                core.leading_ = false;
            }
        };
        leading_ = true;
        const leadership leader{*this, lock};
        while (!me.done && !stalled_ && (me.id != 0 || inbox_.empty())) {
            if (failed_.load(std::memory_order_relaxed)) throw_failed();
            // Known dead before the look into the ring: what it holds is all.
            const bool drained = dead_.load(std::memory_order_relaxed);
            if (const std::optional<ring_record> record = in_->peek()) {
                if (owed) {
                    owed = false;
                    ring_for_data();
                }
                dispatch(*record, me);
                continue;
            }
            if (drained) throw_dead();
            if (block && spin_ns_ != 0) {
                // Who sleeps for what is owed cannot answer while this one spins.
                if (std::exchange(owed, false)) ring_for_data();
                if (spin(lock)) continue;
            }
            if (!in_->arm()) continue;
            lock.unlock();
            const int waited =
                wait(data_vector, block ? deadline_ns : 0, std::exchange(owed, false));
            lock.lock();
            if (waited == 0) continue;
            in_->disarm();
            if (waited == -EPIPE) {
                dead_.store(true, std::memory_order_relaxed);
            } else if (waited == -ETIMEDOUT) {
                if (in_->peek()) continue;
                if (!block) return false;
                throw_timeout(me.id == 0 ? "a message" : "the reply");
            } else {
                throw_if(waited);
            }
        }
        return true;
    }

    // Looks for a record for spin_ns; the others may come and go meanwhile.
    bool spin(std::unique_lock<std::mutex>& lock) {
        lock.unlock();
        const std::uint64_t end = ipcdoor_deadline_ns(spin_ns_);
        bool found = false;
        do {
            for (int i = 0; i < 32 && !found; ++i) {
                found = in_->peek().has_value();
                cpu_relax();
            }
        } while (!found && ipcdoor_now_ns() < end);
        lock.lock();
        return found;
    }

    // Gives the peeked record to whom it is for, and passes it in the ring.
    // Leaves it there, stalled, where the inbox has no room for it.
    void dispatch(const ring_record& record, waiter& me) {
        std::span<const std::byte> bytes = record.payload;
        std::uint64_t id = 0;
        if (record.type == type_request || record.type == type_reply) {
            if (bytes.size() < id_bytes) ring_violation("a request or reply without its id");
            std::memcpy(&id, bytes.data(), id_bytes);
            bytes = bytes.subspan(id_bytes);
            if (id == 0) ring_violation("a request or reply with the id 0");
        } else if (record.type != type_message) {
            ring_violation("a record of the unknown type " + std::to_string(record.type));
        }
        if (record.type == type_reply) {
            deliver_reply(id, bytes);
        } else if (me.id == 0) {
            me.into->assign(bytes, id);
            me.done = true;
        } else {
            if (!inbox_.empty() && inbox_bytes_ + inbox_cost(bytes.size()) > inbox_limit_) {
                stalled_ = true;
                return;
            }
            inbox_.emplace_back().assign(bytes, id);
            inbox_bytes_ += inbox_cost(bytes.size());
            wake_receiver();
        }
        in_->consume();
        // A dead peer needs no room.
        if (in_->publish()) {
            const int rung = ring(space_vector);
            if (rung != -EPIPE) throw_if(rung);
        }
    }

    void deliver_reply(std::uint64_t id, std::span<const std::byte> bytes) {
        for (waiter* other : waiters_) {
            if (other->id != id || other->done) continue;
            other->into->assign(bytes, 0);
            other->done = true;
            other->changed.notify_one();
            return;
        }
        if (id >= next_id_.load(std::memory_order_relaxed))
            ring_violation("a reply to call " + std::to_string(id) + ", which was never made");
        stats_.late_replies.fetch_add(1, std::memory_order_relaxed);
    }

    ipcdoor_endpoint* const endpoint_;
    const std::uint64_t spin_ns_;
    const std::size_t inbox_limit_;
    std::uint32_t own_ = 0;
    std::uint32_t peer_ = 0;
    std::uint64_t slot_bytes_ = 0;
    std::uint64_t capacity_ = 0;
    ring_slot* mine_ = nullptr;
    const void* theirs_ = nullptr;

    std::mutex hello_mutex_;
    std::condition_variable greeted_;
    bool greeting_ = false;           // hello_mutex_: a thread waits in the back end
    std::atomic<bool> ready_{false};  // in_ and out_ exist

    std::mutex send_mutex_;
    std::condition_variable send_turn_;
    std::optional<ring_producer> out_;  // send_mutex_, or whoever set sending_
    bool sending_ = false;              // send_mutex_
    unsigned send_queue_ = 0;           // send_mutex_: threads on send_turn_

    std::mutex mutex_;
    std::optional<ring_consumer> in_;  // mutex_, or whoever set leading_
    bool leading_ = false;             // mutex_
    bool stalled_ = false;             // mutex_: the inbox has no room for the next record
    std::vector<waiter*> waiters_;     // mutex_
    std::deque<message> inbox_;        // mutex_
    std::size_t inbox_bytes_ = 0;      // mutex_

    std::atomic<std::uint64_t> next_id_{1};
    std::atomic<bool> dead_{false};
    std::atomic<bool> failed_{false};
    std::string failure_;  // before failed_
    counters stats_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CHANNEL_CORE_HPP
