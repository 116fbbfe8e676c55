// SPDX-License-Identifier: MIT
//
// The receiving half of a channel: the rings of all priorities, any number of threads.
//
// A doorbell's count is taken by whoever waits for it, so one thread at a time, the
// *leader* (leading_), takes records, the urgent ones first, and sleeps in the back end
// for more. It hands them over: a reply to its caller, the rest to a receiver; what
// nobody waits for goes to the inbox. The others sleep on condition variables; a leader
// that leaves wakes another waiter to lead. Who holds a record in place leads until it
// lets go.
//
// mutex_ guards all of it; the leader keeps the rings without it.
//
// Signal handlers run while a call waits, and the wait goes on: a call that
// gave up between its request and the reply would lose the reply.
#ifndef IPCDOOR_DETAIL_CHANNEL_RECEIVER_HPP
#define IPCDOOR_DETAIL_CHANNEL_RECEIVER_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/channel_link.hpp>
#include <ipcdoor/detail/descriptor_passing.hpp>
#include <ipcdoor/detail/spin.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>
#include <ipcdoor/scheduling.hpp>

namespace ipcdoor::detail {

class channel_receiver {
public:
    struct limits {
        std::uint64_t spin_ns;
        std::size_t inbox_bytes;
        std::uint64_t message_bytes;
    };

    // What a descriptor counts for in the inbox: this process can have few of them.
    static constexpr std::size_t descriptor_cost_bytes = 4096;

    // A record that is read in place, until let_go().
    struct held_record {
        std::span<const std::byte> bytes;
        std::uint64_t id = 0;  // 0: wants no reply
        unsigned lane = 0;
    };

    // A thread in receive() (id 0) or in call().
    struct waiter {
        std::uint64_t id;
        message* into;
        bool in_place = false;
        bool done = false;
        bool asleep = false;                // on `changed`: only then it can be woken
        bool polls = false;                 // it was told that there is nothing, and polls
        std::optional<held_record> held{};  // instead of `into`
        std::condition_variable changed{};
    };

    // A call that nobody has to wait for. Members are guarded by the receiver's mutex
    // until it is done, and do not change from then on.
    struct async_call {
        std::uint64_t id = 0;
        message reply;
        std::atomic<bool> done{false};
        int error = 0;  // instead of a reply
        std::string why;
        std::function<void()> then;

        void check() const {
            if (error != 0) throw_error(error, why);
        }
    };

    // `descriptors`: of what is in the greeting of `link`; outlives this.
    channel_receiver(channel_link& link, const limits& wanted, descriptor_receiver& descriptors)
        : link_(link), limits_(wanted), descriptors_(descriptors) {
        for (unsigned i = 0; i < link.geometry().lanes; ++i) {
            lanes_[i].ring.emplace(link.mine(i).input, link.their_data(i),
                                   link.geometry().capacity[i], link.theirs(i).output);
        }
        lanes_[0].used = true;
    }
    channel_receiver(const channel_receiver&) = delete;
    channel_receiver& operator=(const channel_receiver&) = delete;
    ~channel_receiver() { end_calls(ECANCELED, "channel: it was closed before the reply came"); }

    // A waiter's place among the others. Leaving, it wakes another one to lead.
    class enrolled {
    public:
        enrolled(channel_receiver& receiver, waiter& me) : receiver_(receiver), me_(me) {
            const std::lock_guard lock(receiver_.mutex_);
            receiver_.waiters_.push_back(&me_);
        }
        ~enrolled() {
            const std::lock_guard lock(receiver_.mutex_);
            std::erase(receiver_.waiters_, &me_);
            receiver_.pass_on(!me_.polls);
        }
        enrolled(const enrolled&) = delete;
        enrolled& operator=(const enrolled&) = delete;

    private:
        channel_receiver& receiver_;
        waiter& me_;
    };

    // The id of a call to come.
    std::uint64_t new_id() noexcept { return next_id_.fetch_add(1, std::memory_order_relaxed); }

    // ---- calls without a waiting caller ----

    std::shared_ptr<async_call> begin_call() {
        auto call = std::make_shared<async_call>();
        call->id = new_id();
        const std::lock_guard lock(mutex_);
        calls_.emplace(call->id, call);
        return call;
    }
    // Nobody wants the reply any more, nor what follows it.
    void forget_call(async_call& call) {
        const std::lock_guard lock(mutex_);
        calls_.erase(call.id);
        call.then = nullptr;
    }
    // Does `then` when the call is done. False: it is done already, and nothing will be.
    bool when_done(async_call& call, std::function<void()> then) {
        const std::lock_guard lock(mutex_);
        if (call.done.load(std::memory_order_relaxed)) return false;
        call.then = std::move(then);
        return true;
    }
    // False (only where not `block`): it is not done yet, and the rings are left armed.
    bool await_call(async_call& call, std::uint64_t deadline_ns, bool block) {
        waiter me{call.id, &call.reply};
        const enrolled here(*this, me);
        {
            const std::lock_guard lock(mutex_);
            if (call.done.load(std::memory_order_relaxed)) return true;
        }
        return await(me, deadline_ns, block, false);
    }
    // All that are under way fail.
    void end_calls(int error, const std::string& why) {
        std::vector<std::shared_ptr<async_call>> ended;
        {
            const std::lock_guard lock(mutex_);
            fail_calls(error, why);
            ended.swap(completed_);
        }
        follow_up(ended);
    }

    // Until `me` has what it waits for. `owed`: data_vector is still to be rung. False
    // (only where not `block`): it is not there now, and the rings are left armed.
    bool await(waiter& me, std::uint64_t deadline_ns, bool block, bool owed) {
        std::unique_lock lock(mutex_);
        for (;;) {
            if (!completed_.empty()) {
                std::vector<std::shared_ptr<async_call>> completed;
                completed.swap(completed_);
                pass_on();  // others go on while this one is busy
                lock.unlock();
                if (std::exchange(owed, false)) link_.ring_for_data();
                follow_up(completed);
                lock.lock();
                continue;
            }
            if (me.done || take_from_inbox(me)) {
                if (owed) {
                    lock.unlock();
                    link_.ring_for_data();
                }
                return true;
            }
            link_.check_failed();
            if (!leading_ && !stalled_) {
                if (!lead(lock, me, deadline_ns, block, owed)) {
                    polled_ = me.polls = true;
                    return false;
                }
                continue;
            }
            if (!block) {
                // What nobody takes now must not keep the descriptor readable.
                if (!leading_ && link_.wait(polled_vectors, 0) == -EPIPE) link_.note_death();
                polled_ = me.polls = true;
                return false;
            }
            if (owed) {
                owed = false;
                lock.unlock();
                link_.ring_for_data();
                lock.lock();
                continue;
            }
            me.asleep = true;
            const bool woken = wait_until(me.changed, lock, deadline_ns);
            me.asleep = false;
            if (woken || me.done || take_from_inbox(me)) continue;
            // Nobody may have looked for it lately.
            if (!leading_ && !stalled_ && lead(lock, me, 0, false, owed)) continue;
            channel_link::throw_timeout(me.id == 0 ? "a message" : "the reply");
        }
    }

    // Of what a receiver would get now; -1: nothing.
    int next_priority() {
        const std::lock_guard lock(mutex_);
        for (int i = message_max_lanes - 1; i >= 0; --i)
            if (!inbox_[static_cast<unsigned>(i)].empty()) return i;
        if (leading_) return -1;
        try {
            const auto record = next();
            return record ? static_cast<int>(record->lane) : -1;
        } catch (const error&) {
            return message_max_lanes;  // whoever receives finds out
        }
    }

    // Takes rings for records that nobody here waits for: they are found without.
    void take_rings() {
        const std::lock_guard lock(mutex_);
        if (!leading_ && link_.wait(vector_bit(data_vector), 0) == -EPIPE) link_.note_death();
    }

    // Gives a record back that was read in place.
    void let_go(const held_record& held) noexcept {
        bool ring = false;
        {
            const std::lock_guard lock(mutex_);
            ring = pass(held.lane);
            leading_ = false;
            pass_on();
        }
        // Who is dead needs no room, and who cannot be rung finds it at its deadline.
        if (ring) static_cast<void>(link_.ring(space_vector(held.lane)));
    }

    // After a failure: nobody may go on waiting.
    void wake_all() {
        {
            const std::lock_guard lock(mutex_);
            for (waiter* other : waiters_) other->changed.notify_one();
        }
        link_.ring_own(data_vector);
    }

private:
    // Who looks in vain and goes back to epoll takes what nobody here waits for, too:
    // the greeting's ring, and the kernel's (soft: has no EPOLLPRI for it).
    static constexpr std::uint64_t polled_vectors =
        vector_bit(data_vector) | vector_bit(hello_vector) | vector_bit(IPCDOOR_VECTOR_LIFECYCLE);

    static constexpr unsigned records_between_looks = 64;  // at the clock
    static constexpr std::uint64_t reserved_at_once = std::uint64_t{1} << 20;

    struct lane_state {
        std::optional<ring_consumer> ring;       // mutex_, or whoever set leading_
        bool used = false;                       // a record was seen: worth arming
        std::optional<message_extras> extras{};  // of the record that comes next
        bool partial = false;                    // `whole` is being put together
        record_type type{};
        std::uint64_t id = 0;
        std::uint64_t total = 0;
        message whole;
    };

    // Wakes a receiver for the inbox, and a waiter to lead. mutex_ is held.
    //
    // Every waiter that leaves comes here, so a wake-up that met a waiter on its
    // way out is not lost but handed on.
    void pass_on(bool tell_pollers = true) {
        bool taken_care_of = inbox_count_ == 0 || wake_receiver();
        if (!leading_ && !stalled_) {
            for (waiter* other : waiters_) {
                if (other->done || !other->asleep) continue;
                other->changed.notify_one();
                return;
            }
            taken_care_of = false;
        }
        // An event loop that was sent back to its descriptor: what it waits for may have
        // been taken into the inbox, or be armed for by nobody any more.
        if (!taken_care_of && tell_pollers && std::exchange(polled_, false))
            link_.ring_own(data_vector);
    }

    // False: nobody sleeps for a message.
    bool wake_receiver() {
        for (waiter* other : waiters_) {
            if (other->id != 0 || other->done || !other->asleep) continue;
            other->changed.notify_one();
            return true;
        }
        return false;
    }

    // ---- the inbox ----

    // Empty messages take memory too.
    static std::size_t inbox_cost(std::size_t bytes, std::size_t descriptors) noexcept {
        return sizeof(message) + bytes + descriptors * descriptor_cost_bytes;
    }

    bool inbox_has_room(std::size_t bytes, std::size_t descriptors) const noexcept {
        // A dead peer adds no more than its rings hold.
        return inbox_count_ == 0 || link_.dead() ||
               inbox_bytes_ + inbox_cost(bytes, descriptors) <= limits_.inbox_bytes;
    }

    void count_in_inbox(const message& added) noexcept {
        inbox_bytes_ += inbox_cost(added.size(), added.descriptor_count());
        ++inbox_count_;
    }

    bool take_from_inbox(waiter& me) {
        if (me.id != 0 || inbox_count_ == 0) return false;
        auto oldest = std::find_if(inbox_.rbegin(), inbox_.rend(),
                                   [](const auto& queue) { return !queue.empty(); });
        std::swap(*me.into, oldest->front());
        oldest->pop_front();
        inbox_bytes_ -= inbox_cost(me.into->size(), me.into->descriptor_count());
        --inbox_count_;
        stalled_ = false;
        me.done = true;
        return true;
    }

    // ---- leading ----

    // Takes records from the rings until `me` is done or the inbox is full, and
    // sleeps in the back end for them. False (only where not `block`): nothing.
    bool lead(std::unique_lock<std::mutex>& lock, waiter& me, std::uint64_t deadline_ns, bool block,
              bool& owed) {
        struct leadership {
            channel_receiver& receiver;
            std::unique_lock<std::mutex>& lock;
            const waiter& me;
            ~leadership() {
                if (!lock.owns_lock()) lock.lock();
                receiver.leading_ = me.held.has_value();
            }
        };
        leading_ = true;
        unsigned taken = 0;
        const leadership leader{*this, lock, me};
        while (!me.done && !stalled_ && completed_.empty() && (me.id != 0 || inbox_count_ == 0)) {
            link_.check_failed();
            // Known dead before the look into the rings: what they hold is all.
            const bool drained = link_.dead();
            if (const auto record = next()) {
                if (std::exchange(owed, false)) link_.ring_for_data();
                dispatch(*record, me);
                // A peer may send without end what is for nobody.
                if (me.done || ++taken % records_between_looks != 0) continue;
                if (!block) {
                    // What is pending is taken first, so that this ring is news to epoll.
                    static_cast<void>(link_.wait(polled_vectors, 0));
                    link_.ring_own(data_vector);
                    return false;
                }
                if (deadline::at_ns(deadline_ns).is_past())
                    channel_link::throw_timeout(me.id == 0 ? "a message" : "the reply");
                continue;
            }
            if (drained) {
                if (calls_.empty()) link_.throw_dead();
                fail_calls(EPIPE, "channel: the peer died before it replied; connect again");
                return true;
            }
            if (block && limits_.spin_ns != 0) {
                // Who sleeps for what is owed cannot answer while this one spins.
                if (std::exchange(owed, false)) link_.ring_for_data();
                if (spin(lock)) continue;
            }
            if (!arm()) continue;
            lock.unlock();
            const int waited =
                block ? link_.wait(vector_bit(data_vector), deadline_ns, std::exchange(owed, false))
                      : link_.wait(polled_vectors, 0);
            lock.lock();
            if (waited == 0) {
                // The peer may not get through to this, for strangers.
                if (descriptors_.most() != 0) descriptors_.admit(link_.peer_process());
                continue;
            }
            if (waited == -EPIPE) {
                disarm();
                link_.note_death();
            } else if (waited == -ETIMEDOUT) {
                if (!block) {
                    if (next()) continue;
                    return false;
                }
                disarm();
                if (next()) continue;
                channel_link::throw_timeout(me.id == 0 ? "a message" : "the reply");
            } else {
                disarm();
                throw_if(waited);
            }
        }
        return true;
    }

    struct lane_record {
        unsigned lane;
        ring_record record;
    };

    // The most urgent record.
    std::optional<lane_record> next() {
        for (unsigned i = link_.geometry().lanes; i-- > 0;) {
            if (const auto record = lanes_[i].ring->peek()) {
                lanes_[i].used = true;
                return lane_record{i, *record};
            }
        }
        return std::nullopt;
    }

    // A lane that was never used needs no arming: its first record rings anyway.
    bool arm() {
        for (unsigned i = 0; i < link_.geometry().lanes; ++i) {
            if (!lanes_[i].used || lanes_[i].ring->arm()) continue;
            while (i-- > 0)
                if (lanes_[i].used) lanes_[i].ring->disarm();
            return false;
        }
        return true;
    }

    void disarm() noexcept {
        for (unsigned i = 0; i < link_.geometry().lanes; ++i)
            if (lanes_[i].used) lanes_[i].ring->disarm();
    }

    // Looks for a record for spin_ns; the others may come and go meanwhile.
    bool spin(std::unique_lock<std::mutex>& lock) {
        lock.unlock();
        const bool found = spin_for(limits_.spin_ns, [this] { return next().has_value(); });
        lock.lock();
        return found;
    }

    // ---- records ----

    // Passes the peeked record of a lane. True: the peer sleeps for that room.
    bool pass(unsigned on_lane) noexcept {
        lanes_[on_lane].ring->consume();
        return lanes_[on_lane].ring->publish();
    }

    void pass_and_ring(unsigned on_lane) {
        if (pass(on_lane)) link_.ring_for_space(on_lane);
    }

    static std::uint64_t take_word(std::span<const std::byte>& bytes, const char* what) {
        std::uint64_t word = 0;
        if (bytes.size() < sizeof word)
            ring_violation(std::string("a record is too short for its ") + what);
        std::memcpy(&word, bytes.data(), sizeof word);
        bytes = bytes.subspan(sizeof word);
        return word;
    }

    // Gives the peeked record to whom it is for, and passes it in the ring.
    // Leaves it there, stalled, where the inbox has no room for it, and with all that it
    // brings where memory is wanting: the next look finds it as this one did.
    void dispatch(const lane_record& found, waiter& me) {
        lane_state& from = lanes_[found.lane];
        std::span<const std::byte> bytes = found.record.payload;
        const auto type = static_cast<record_type>(found.record.type);
        const bool more = (found.record.flags & record_more) != 0;
        if ((found.record.flags & ~(record_more | record_has_extras)) != 0)
            ring_violation("a record with the unknown flags " + std::to_string(found.record.flags));
        const bool has_extras = (found.record.flags & record_has_extras) != 0;
        if (has_extras && (type == record_type::part || type == record_type::abort))
            ring_violation("a record with extras amid the parts of a message");
        switch (type) {
            case record_type::message:
            case record_type::request:
            case record_type::reply: {
                if (from.partial) ring_violation("a record amid the parts of another");
                std::uint64_t id = 0;
                if (type != record_type::message) {
                    id = take_word(bytes, "id");
                    if (id == 0) ring_violation("a request or reply with the id 0");
                }
                if (has_extras) take_extras(found.lane, bytes);
                if (more) {
                    begin_parts(from, type, id, bytes);
                } else if (!deliver(found.lane, type, id, bytes, me)) {
                    return;
                }
                break;
            }
            case record_type::part:
                if (!from.partial) ring_violation("a part of nothing");
                if (!add_part(found.lane, bytes, more, me)) return;
                break;
            case record_type::abort:
                if (!from.partial || !bytes.empty() || more) ring_violation("an abort of nothing");
                from.partial = false;
                from.whole = {};
                break;
            default:
                ring_violation("a record of the unknown type " + std::to_string(found.record.type));
        }
        pass_and_ring(found.lane);
    }

    void begin_parts(lane_state& from, record_type type, std::uint64_t id,
                     std::span<const std::byte> bytes) {
        from.total = take_word(bytes, "length");
        if (from.total > limits_.message_bytes) {
            ring_violation("a message of " + std::to_string(from.total) + " bytes where at most " +
                           std::to_string(limits_.message_bytes) + " are received");
        }
        if (bytes.size() >= from.total) ring_violation("a part as long as the whole");
        from.type = type;
        from.id = id;
        // As it comes: the length is only what the peer says.
        from.whole = {};
        from.whole.bytes_.reserve(static_cast<std::size_t>(std::min(from.total, reserved_at_once)));
        append(from.whole, bytes);
        attach(from.whole, from);
        from.partial = true;
    }

    static void append(message& whole, std::span<const std::byte> bytes) {
        whole.bytes_.insert(whole.bytes_.end(), bytes.begin(), bytes.end());
    }

    // False: stalled, the part stays.
    bool add_part(unsigned on_lane, std::span<const std::byte> bytes, bool more, waiter& me) {
        lane_state& from = lanes_[on_lane];
        const std::uint64_t left = from.total - from.whole.size();
        if (bytes.empty() || (more ? bytes.size() >= left : bytes.size() != left))
            ring_violation("parts that are not as long as the message");
        if (!more && from.type != record_type::reply && me.id != 0 &&
            !inbox_has_room(static_cast<std::size_t>(from.total), from.whole.descriptor_count())) {
            stalled_ = true;
            return false;
        }
        if (more) {
            append(from.whole, bytes);
            return true;
        }
        const auto finish = [&](message& to) {
            append(from.whole, bytes);
            from.whole.request_ = from.type == record_type::request ? from.id : 0;
            from.whole.priority_ = on_lane;
            to = std::exchange(from.whole, {});
        };
        if (from.type == record_type::reply) {
            deliver_reply(from.id, finish);
            from.whole = {};  // nobody may have wanted it
        } else if (me.id == 0) {
            finish(*me.into);
            me.done = true;
        } else {
            set_aside(on_lane, finish);
        }
        from.partial = false;
        return true;
    }

    // False: stalled or held, the record stays.
    bool deliver(unsigned on_lane, record_type type, std::uint64_t id,
                 std::span<const std::byte> bytes, waiter& me) {
        lane_state& from = lanes_[on_lane];
        const auto fill = [&](message& to) {
            to.assign(bytes, type == record_type::reply ? 0 : id, on_lane);
            attach(to, from);
        };
        if (type == record_type::reply) {
            deliver_reply(id, fill);
            from.extras.reset();  // nobody may have wanted it
        } else if (me.id == 0) {
            if (me.in_place) {
                me.done = true;
                attach(*me.into, from);
                me.held = held_record{bytes, id, on_lane};
                return false;
            }
            fill(*me.into);
            me.done = true;
        } else {
            if (!inbox_has_room(bytes.size(), from.extras ? from.extras->descriptors.size() : 0)) {
                stalled_ = true;
                return false;
            }
            set_aside(on_lane, fill);
        }
        return true;
    }

    // Puts what `fill` makes into the inbox. Where that throws, nothing has happened.
    template <class Fill>
    void set_aside(unsigned on_lane, Fill fill) {
        message& added = inbox_[on_lane].emplace_back();
        try {
            fill(added);
        } catch (...) {
            inbox_[on_lane].pop_back();
            throw;
        }
        count_in_inbox(added);
        wake_receiver();
    }

    // Once for each record, though one that stalls is looked at again.
    void take_extras(unsigned on_lane, std::span<const std::byte>& bytes) {
        record_extras extras;
        if (bytes.size() < sizeof extras) ring_violation("a record is too short for its extras");
        std::memcpy(&extras, bytes.data(), sizeof extras);
        bytes = bytes.subspan(sizeof extras);
        if (lanes_[on_lane].extras) return;
        message_extras made;
        if (extras.has_scheduling != 0) {
            made.sender =
                scheduling{extras.policy, extras.nice, std::uint32_t{extras.realtime_priority}};
        }
        if (extras.descriptors > descriptors_.most()) {
            ring_violation(std::to_string(extras.descriptors) + " descriptors where at most " +
                           std::to_string(descriptors_.most()) + " are taken");
        }
        if (extras.descriptors != 0) {
            made.descriptors =
                descriptors_.take(on_lane, extras.token, extras.descriptors, link_.peer_process());
        }
        lanes_[on_lane].extras = std::move(made);
    }

    static void attach(message& to, lane_state& from) noexcept {
        if (from.extras)
            to.extras_ = std::move(*from.extras);
        else if (to.extras_.any())
            to.extras_ = {};
        from.extras.reset();
    }

    // Whose continuation throws, ends the program: there is nobody here to tell. One may
    // end what another one belongs to, which is forgotten then.
    void follow_up(const std::vector<std::shared_ptr<async_call>>& completed) noexcept {
        for (const auto& call : completed) {
            std::function<void()> then;
            {
                const std::lock_guard lock(mutex_);
                then.swap(call->then);
            }
            if (then) then();
        }
    }

    // mutex_ is held.
    void complete(const std::shared_ptr<async_call>& call) {
        call->done.store(true, std::memory_order_release);
        if (call->then) completed_.push_back(call);
        for (waiter* other : waiters_) {
            if (other->id != call->id || other->done) continue;
            other->done = true;
            other->changed.notify_one();
        }
    }

    // mutex_ is held.
    void fail_calls(int error, const std::string& why) {
        for (const auto& [id, call] : calls_) {
            call->error = error;
            call->why = why;
            complete(call);
        }
        calls_.clear();
    }

    // Gives a reply to its caller, where that still wants it. Where `fill` throws, nothing
    // has happened.
    template <class Fill>
    void deliver_reply(std::uint64_t id, Fill fill) {
        if (const auto found = calls_.find(id); found != calls_.end()) {
            const std::shared_ptr<async_call> call = found->second;
            if (call->then) completed_.reserve(completed_.size() + 1);
            fill(call->reply);
            calls_.erase(found);
            complete(call);
            return;
        }
        for (waiter* other : waiters_) {
            if (other->id != id || other->done) continue;
            fill(*other->into);
            other->done = true;
            other->changed.notify_one();
            return;
        }
        if (id >= next_id_.load(std::memory_order_relaxed))
            ring_violation("a reply to call " + std::to_string(id) + ", which was never made");
        link_.stats().late_replies.fetch_add(1, std::memory_order_relaxed);
    }

    channel_link& link_;
    const limits limits_;
    descriptor_receiver& descriptors_;  // the leader's

    std::mutex mutex_;
    std::array<lane_state, message_max_lanes> lanes_;
    bool leading_ = false;          // mutex_
    bool stalled_ = false;          // mutex_: the inbox has no room for the next record
    std::vector<waiter*> waiters_;  // mutex_
    std::array<std::deque<message>, message_max_lanes> inbox_;  // mutex_
    bool polled_ = false;          // mutex_: who does not block was told that there is nothing
    std::size_t inbox_count_ = 0;  // mutex_
    std::size_t inbox_bytes_ = 0;  // mutex_
    std::unordered_map<std::uint64_t, std::shared_ptr<async_call>> calls_;  // mutex_
    std::vector<std::shared_ptr<async_call>> completed_;  // mutex_: `then` is still to be done
    std::atomic<std::uint64_t> next_id_{1};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CHANNEL_RECEIVER_HPP
