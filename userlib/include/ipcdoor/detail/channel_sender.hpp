// SPDX-License-Identifier: MIT
//
// The sending half of a channel: one ring for each priority, any number of threads.
//
// A lane's mutex guards its ring. Who must keep the ring without the mutex (it sleeps
// for room, sends a message in parts, or fills a loan) has the lane's turn (busy), and
// the others queue for it. Lanes are independent.
//
// A message longer than a record goes in parts, each with its doorbell, so the receiver
// empties the ring while it is filled. Where the deadline comes amid them, the lane is
// torn: whoever sends next says so first.
//
// The receiver arms a lane only once it has seen a record on it, so the first one rings
// whatever is armed.
#ifndef IPCDOOR_DETAIL_CHANNEL_SENDER_HPP
#define IPCDOOR_DETAIL_CHANNEL_SENDER_HPP

#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/channel_link.hpp>
#include <ipcdoor/detail/descriptor_passing.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/ring.hpp>
#include <ipcdoor/scheduling.hpp>

namespace ipcdoor::detail {

class channel_sender {
public:
    // What is sent, without its bytes.
    struct envelope {
        record_type type = record_type::message;
        std::uint64_t id = 0;  // of requests and replies
        unsigned lane = 0;
        bool has_extras = false;  // set here

        std::size_t prefix_bytes() const noexcept {
            return (type == record_type::message ? 0 : record_id_bytes) +
                   (has_extras ? sizeof(record_extras) : 0);
        }
        std::uint16_t flags() const noexcept { return has_extras ? record_has_extras : 0; }
    };

    // What goes along: the bytes, and descriptors, which stay the caller's.
    struct cargo {
        cargo(std::span<const std::byte> all, std::span<const int> fds = {})
            : bytes(all), descriptors(fds) {}

        std::span<const std::byte> bytes;
        std::span<const int> descriptors;
    };

    explicit channel_sender(channel_link& link) : link_(link) {
        for (unsigned i = 0; i < link.geometry().lanes; ++i) {
            lanes_[i].ring.emplace(link.mine(i).output, link.my_data(i),
                                   link.geometry().capacity[i], link.theirs(i).input);
        }
    }
    channel_sender(const channel_sender&) = delete;
    channel_sender& operator=(const channel_sender&) = delete;

    // The longest message of a lane that takes one record: what can be loaned, and
    // sent without blocking.
    std::size_t max_record_bytes(unsigned lane) const noexcept {
        return ring_max_payload(link_.geometry().capacity[lane]) - record_id_bytes -
               sizeof(record_extras);
    }

    void check_lane(unsigned priority) const {
        if (priority >= message_max_lanes)
            throw_error(EINVAL, "channel: priorities are 0 to 3, not " + std::to_string(priority));
        if (priority >= link_.geometry().lanes) {
            throw_error(EINVAL,
                        "channel: the slots of this connection are too small for priorities; "
                        "listen with slots of at least two pages");
        }
    }

    // Sends `bytes`, the peer's greeting has been seen. `owed`: the peer sleeps for
    // it, the caller rings data_vector. False (only where not `block`): there is no
    // room now. With `watch` the descriptor becomes readable when there may be.
    bool put(envelope what, const cargo& load, std::uint64_t deadline_ns, bool block, bool& owed,
             bool watch = true) {
        const std::span<const std::byte> bytes = load.bytes;
        check(what.lane, bytes.size());
        if (!load.descriptors.empty()) check_descriptors(load.descriptors.size(), block);
        const record_extras extras = extras_of(what, load.descriptors.size());
        const std::size_t prefix = what.prefix_bytes();
        lane_state& out = lanes_[what.lane];
        const bool whole = is_whole(what, bytes.size());
        if (!whole && !block) {
            throw_error(EMSGSIZE, "channel: a message of " + std::to_string(bytes.size()) +
                                      " bytes goes in parts, which takes a send() that may block; "
                                      "at most " +
                                      std::to_string(max_record_bytes(what.lane)) +
                                      " can be tried");
        }
        std::unique_lock lock(out.mutex);
        if (!await_turn(out, lock, deadline_ns, block, watch)) return false;
        if (!mend(out, what.lane, lock, deadline_ns, block, watch)) return false;
        if (!whole || !load.descriptors.empty()) {
            put_slowly(what, extras, load, lock, deadline_ns, owed);
            return true;
        }
        std::byte* const to =
            room(out, what.lane, lock, prefix + bytes.size(), deadline_ns, block, watch);
        if (to == nullptr) return false;
        write_prefix(to, what, extras);
        if (!bytes.empty()) std::memcpy(to + prefix, bytes.data(), bytes.size());
        owed = publish(out, prefix + bytes.size(), what.type, what.flags());
        if (out.queue != 0) out.turn.notify_one();
        return true;
    }

    // ---- loans: the turn is kept from begin_loan() to publish_loan() or cancel_loan() ----

    // Memory of `bytes` in the ring; nullptr (only where not `block`) as for put().
    // `what` is to be passed to these as it comes back.
    std::byte* begin_loan(envelope& what, std::size_t bytes, std::uint64_t deadline_ns,
                          bool block) {
        check(what.lane, bytes);
        const record_extras extras = extras_of(what, 0);
        if (!is_whole(what, bytes)) {
            throw_error(EMSGSIZE, "channel: a loan of " + std::to_string(bytes) +
                                      " bytes is larger than the " +
                                      std::to_string(max_record_bytes(what.lane)) +
                                      " that lie in one piece; listen with larger slots");
        }
        const std::size_t prefix = what.prefix_bytes();
        lane_state& out = lanes_[what.lane];
        std::unique_lock lock(out.mutex);
        if (!await_turn(out, lock, deadline_ns, block, true)) return nullptr;
        if (!mend(out, what.lane, lock, deadline_ns, block, true)) return nullptr;
        std::byte* const to = room(out, what.lane, lock, prefix + bytes, deadline_ns, block, true);
        if (to == nullptr) return nullptr;
        write_prefix(to, what, extras);
        out.busy = true;
        return to + prefix;
    }

    // True: ring data_vector.
    [[nodiscard]] bool publish_loan(const envelope& what, std::size_t bytes) {
        lane_state& out = lanes_[what.lane];
        const std::lock_guard lock(out.mutex);
        const bool owed = publish(out, what.prefix_bytes() + bytes, what.type, what.flags());
        end_turn(out, what.lane);
        return owed;
    }

    void cancel_loan(unsigned on_lane) noexcept {
        lane_state& out = lanes_[on_lane];
        const std::lock_guard lock(out.mutex);
        end_turn(out, on_lane);
    }

    // Takes rings for room that nobody waits for any more, so that they do not keep the
    // descriptor readable.
    void take_stale() {
        if (!any_stale_.exchange(false, std::memory_order_relaxed)) return;
        for (unsigned i = 0; i < link_.geometry().lanes; ++i) {
            const std::lock_guard lock(lanes_[i].mutex);
            if (lanes_[i].polled) continue;
            if (lanes_[i].busy) {
                any_stale_.store(true, std::memory_order_relaxed);
                continue;
            }
            lanes_[i].ring->disarm();
            note(link_.wait(vector_bit(space_vector(i)), 0));
        }
    }

    // In a forked child.
    void leave_to_parent() noexcept { descriptors_.close_all(); }

    // After a failure: nobody may go on waiting.
    void wake_all() {
        for (unsigned i = 0; i < link_.geometry().lanes; ++i) {
            {
                const std::lock_guard lock(lanes_[i].mutex);
                lanes_[i].turn.notify_all();
            }
            link_.ring_own(space_vector(i));
        }
    }

private:
    struct lane_state {
        std::mutex mutex;
        std::condition_variable turn;
        std::optional<ring_producer> ring;  // mutex, or whoever set busy
        bool busy = false;                  // mutex
        unsigned queue = 0;                 // mutex: threads on turn
        bool used = false;                  // mutex: a record was published
        bool torn = false;                  // mutex: the last message is not complete
        bool polled = false;                // mutex: left armed by one that does not block
    };

    // The turn of a lane, for as long as this lives; made and ended with its mutex held.
    class turn_holder {
    public:
        turn_holder(channel_sender& sender, lane_state& out, unsigned index)
            : sender_(sender), out_(out), index_(index) {
            out_.busy = true;
        }
        ~turn_holder() { sender_.end_turn(out_, index_); }
        turn_holder(const turn_holder&) = delete;
        turn_holder& operator=(const turn_holder&) = delete;

    private:
        channel_sender& sender_;
        lane_state& out_;
        const unsigned index_;
    };

    void end_turn(lane_state& out, unsigned index) noexcept {
        out.busy = false;
        out.turn.notify_one();
        // Who polls may have been refused for this turn, or have lost its ring to it.
        if (out.polled) link_.ring_own(space_vector(index));
    }

    void check(unsigned on_lane, std::size_t bytes) {
        check_lane(on_lane);
        const std::uint64_t most = link_.peer_greeting().max_message_bytes;
        if (bytes > most) {
            throw_error(EMSGSIZE, "channel: a message of " + std::to_string(bytes) +
                                      " bytes is larger than the " + std::to_string(most) +
                                      " that the peer receives; open its channel with a larger "
                                      "max_message_bytes");
        }
        if (link_.dead()) link_.throw_dead();
    }

    void check_descriptors(std::size_t count, bool block) {
        const std::uint64_t most = std::min<std::uint64_t>(
            max_descriptors_of_message,
            descriptor_address::of(link_.peer_greeting().descriptor_socket).most);
        if (most == 0) {
            throw_error(EOPNOTSUPP,
                        "channel: the peer takes no file descriptors; open its channel with "
                        "max_descriptors");
        }
        if (count > most) {
            throw_error(EMSGSIZE, "channel: " + std::to_string(count) +
                                      " descriptors are more than the " + std::to_string(most) +
                                      " that the peer takes with one message");
        }
        if (!block) {
            throw_error(EINVAL,
                        "channel: descriptors go along with a send() that may block, no other");
        }
    }

    // Says in `what` whether there are any.
    record_extras extras_of(envelope& what, std::size_t descriptors) {
        record_extras made;
        made.descriptors = static_cast<std::uint16_t>(descriptors);
        if (what.type != record_type::reply &&
            (link_.peer_greeting().flags & message_slot_asks_scheduling) != 0) {
            const scheduling now = current_scheduling();
            made.has_scheduling = 1;
            made.policy = static_cast<std::uint8_t>(now.policy);
            made.nice = static_cast<std::int8_t>(now.nice);
            made.realtime_priority = static_cast<std::uint8_t>(now.realtime_priority);
        }
        what.has_extras = descriptors != 0 || made.has_scheduling != 0;
        return made;
    }

    // In one record.
    bool is_whole(const envelope& what, std::size_t bytes) const noexcept {
        return bytes <= max_record_bytes(what.lane);
    }

    static void write_prefix(std::byte* to, const envelope& what, const record_extras& extras) {
        if (what.type != record_type::message) {
            std::memcpy(to, &what.id, record_id_bytes);
            to += record_id_bytes;
        }
        if (what.has_extras) std::memcpy(to, &extras, sizeof extras);
    }

    bool await_turn(lane_state& out, std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns,
                    bool block, bool watch) {
        while (out.busy) {
            link_.check_failed();
            if (!block) {
                out.polled = out.polled || watch;
                return false;
            }
            ++out.queue;
            const bool woken = wait_until(out.turn, lock, deadline_ns);
            --out.queue;
            link_.check_failed();
            if (!woken && out.busy) channel_link::throw_timeout("room in the ring");
        }
        return true;
    }

    // Closes the record that was reserved. True: the peer sleeps for it.
    bool publish(lane_state& out, std::size_t bytes, record_type type, std::uint16_t flags) {
        out.ring->commit(bytes, static_cast<std::uint16_t>(type), flags);
        const bool armed = out.ring->publish();
        return !std::exchange(out.used, true) || armed;
    }

    // Tells the peer that the message before this one will not be completed.
    bool mend(lane_state& out, unsigned index, std::unique_lock<std::mutex>& lock,
              std::uint64_t deadline_ns, bool block, bool watch) {
        if (!out.torn) return true;
        if (room(out, index, lock, 0, deadline_ns, block, watch) == nullptr) return false;
        out.torn = false;
        if (publish(out, 0, record_type::abort, 0)) link_.ring_for_data();
        return true;
    }

    // What keeps the lane for longer than a record takes: descriptors, and parts.
    void put_slowly(const envelope& what, record_extras extras, const cargo& load,
                    std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns, bool& owed) {
        lane_state& out = lanes_[what.lane];
        const turn_holder turn(*this, out, what.lane);
        std::span<const std::byte> bytes = load.bytes;
        const std::uint64_t total = bytes.size();
        const bool whole = is_whole(what, bytes.size());
        // A quarter of the ring: filled here while another one is emptied there.
        const std::size_t part_bytes =
            static_cast<std::size_t>(out.ring->capacity() / 4) - ring_record_header_bytes;
        bool first = true;
        do {
            const std::size_t prefix = first ? what.prefix_bytes() + (whole ? 0 : sizeof total) : 0;
            const std::size_t now =
                whole ? bytes.size() : std::min(bytes.size(), part_bytes - prefix);
            std::byte* to = room(out, what.lane, lock, prefix + now, deadline_ns, true, false);
            if (first) {
                if (!load.descriptors.empty())
                    give(what.lane, load.descriptors, extras.token, lock, deadline_ns);
                write_prefix(to, what, extras);
                if (!whole) std::memcpy(to + what.prefix_bytes(), &total, sizeof total);
            }
            if (now != 0) std::memcpy(to + prefix, bytes.data(), now);
            bytes = bytes.subspan(now);
            const std::uint16_t more = bytes.empty() ? 0 : record_more;
            owed = publish(out, prefix + now, first ? what.type : record_type::part,
                           first ? static_cast<std::uint16_t>(what.flags() | more) : more);
            out.torn = !bytes.empty();
            if (owed && !bytes.empty()) link_.ring_for_data();
            first = false;
        } while (!bytes.empty());
    }

    bool try_give(unsigned lane, std::uint64_t socket_word, const peer_identity& peer,
                  std::span<const int> fds, std::uint64_t& token) {
        try {
            return descriptors_.give(lane, socket_word, peer, fds, token);
        } catch (const error& wrong) {
            if (wrong.error_number() != ENOTCONN) throw;
            // The dead do not listen.
            link_.ring_for_data();
            if (link_.dead()) link_.throw_dead();
            throw;
        }
    }

    // Sends descriptors ahead of their record. The lane is this thread's, the room for the
    // record is reserved.
    void give(unsigned lane, std::span<const int> fds, std::uint64_t& token,
              std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns) {
        struct unlocked {
            std::unique_lock<std::mutex>& lock;
            explicit unlocked(std::unique_lock<std::mutex>& held) : lock(held) { lock.unlock(); }
            ~unlocked() { lock.lock(); }
        };
        const unlocked others_may_queue(lock);
        const peer_identity peer = link_.peer_process();
        while (!try_give(lane, link_.peer_greeting().descriptor_socket, peer, fds, token)) {
            link_.check_failed();
            // Who has strangers in its queue is told to look there.
            if (descriptors_.fd(lane) < 0) link_.ring_for_data();
            if (link_.dead()) link_.throw_dead();
            if (deadline::at_ns(deadline_ns).is_past())
                channel_link::throw_timeout("the peer to take descriptors");
            pollfd full{descriptors_.fd(lane), POLLOUT, 0};
            static_cast<void>(::poll(&full, 1, 1));
        }
    }

    // Memory for a record of `bytes`; nullptr (only where not `block`): there is none, and
    // with `watch` the ring is left armed.
    std::byte* room(lane_state& out, unsigned index, std::unique_lock<std::mutex>& lock,
                    std::size_t bytes, std::uint64_t deadline_ns, bool block, bool watch) {
        const std::uint64_t mask = vector_bit(space_vector(index));
        // Its ring has come, or will be looked for anew.
        if (!block && std::exchange(out.polled, false)) note(link_.wait(mask, 0));
        if (std::byte* const to = out.ring->reserve(bytes)) return to;
        if (block) return await_room(out, index, lock, bytes, deadline_ns);
        // The greeting's and the kernel's rings are nobody's: see channel_receiver.
        note(link_.wait(mask | vector_bit(hello_vector) | vector_bit(IPCDOOR_VECTOR_LIFECYCLE), 0));
        if (link_.dead()) link_.throw_dead();
        if (!watch || !out.ring->arm(bytes)) return out.ring->reserve(bytes);
        out.polled = true;
        return nullptr;
    }

    // Of a wait that only looked.
    void note(int waited) {
        if (waited == -EPIPE)
            link_.note_death();
        else if (waited != -ETIMEDOUT)
            throw_if(waited);
    }

    std::byte* await_room(lane_state& out, unsigned index, std::unique_lock<std::mutex>& lock,
                          std::size_t bytes, std::uint64_t deadline_ns) {
        const std::uint64_t mask = vector_bit(space_vector(index));
        // Who sends in parts has it already.
        std::optional<turn_holder> turn;
        if (!out.busy) turn.emplace(*this, out, index);
        while (out.ring->arm(bytes)) {
            lock.unlock();
            const int waited = link_.wait(mask, deadline_ns);
            lock.lock();
            link_.check_failed();
            if (waited == 0) continue;
            out.ring->disarm();
            any_stale_.store(true, std::memory_order_relaxed);
            if (waited == -EPIPE) link_.throw_dead();
            if (waited != -ETIMEDOUT) throw_if(waited);
            // The last room may have come with the deadline.
            if (std::byte* const to = out.ring->reserve(bytes)) return to;
            channel_link::throw_timeout("room in the ring");
        }
        return out.ring->reserve(bytes);
    }

    channel_link& link_;
    descriptor_sender descriptors_;  // a lane's by whoever has its turn
    std::array<lane_state, message_max_lanes> lanes_;
    std::atomic<bool> any_stale_{false};
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_CHANNEL_SENDER_HPP
