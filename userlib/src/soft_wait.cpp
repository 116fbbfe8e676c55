// SPDX-License-Identifier: MIT
// Ringing and waiting, of the endpoints of the software back end.
#include <bit>
#include <cerrno>

#include "failure.h"
#include "soft_endpoint.h"

namespace ipcdoor::backend::soft {

namespace {

bool is_past(std::uint64_t deadline_ns) {
    if (deadline_ns == 0) return true;
    return deadline_ns != IPCDOOR_NO_DEADLINE && sys::now_ns() >= deadline_ns;
}

void count(outbox& box, std::uint32_t vector, std::uint64_t value) {
    box.value[vector].store(value, std::memory_order_relaxed);
    box.count[vector].fetch_add(1, std::memory_order_release);
    box.total.fetch_add(1, std::memory_order_seq_cst);
}

}  // namespace

// ---- ringing ----

// Under the mutex: 0 once counted, -EAGAIN where the slot changed hands.
int endpoint::count_ring(const std::shared_ptr<link>& target, bool lives, uint32_t generation,
                         uint32_t vector, uint64_t value) {
    if (!target) return fail(ENOTCONN, "nobody was ever attached to this slot");
    if (!lives && target->alive) {
        bury(*target);
        settle();
    }
    if (!target->alive) return fail(EPIPE, "the slot's endpoint is dead");
    if (generation != 0 && generation != target->where.generation)
        return fail(ESTALE, "the slot was attached again since: its generation is another");
    count(own_control().out[target->where.slot], vector, value);
    return 0;
}

int endpoint::ring(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value) {
    if (slot >= shape_.slots) return fail(EINVAL, "the segment has no such slot");
    for (bool may_look_again = true;;) {
        std::shared_ptr<link> target;
        {
            const std::lock_guard lock(mutex_);
            target = links_[slot];
        }
        const bool lives = target && target->peer_lives();  // a system call: not locked
        {
            const std::lock_guard lock(mutex_);
            if (target != links_[slot]) continue;
            const int rc = count_ring(target, lives, generation, vector, value);
            if (rc < 0) {
                // Somebody may have come since the last look.
                if (may_look_again && admit_newcomers()) {
                    settle();
                    may_look_again = false;
                    continue;
                }
                return rc;
            }
        }
        target->wake();
        return send_signal(*target, vector, value);
    }
}

int endpoint::send_signal(const link& target, uint32_t vector, uint64_t value) const {
    const control& head = target.pages->head();
    const std::uint64_t mask = head.signal_mask.load(std::memory_order_acquire);
    if ((mask >> vector & 1) == 0) return 0;
    // The peer's wishes reach the peer's own process only, whatever it wrote.
    const int signo = static_cast<int>(head.signal_number.load(std::memory_order_relaxed));
    const pid_t thread = static_cast<pid_t>(head.signal_thread.load(std::memory_order_relaxed));
    if (!sys::signal_is_usable(signo) || thread <= 0) return 0;
    if (target.peer.pid <= 0)
        return fail(EOPNOTSUPP, "counted, but the peer of another PID namespace gets no signal");
    const int rc = sys::queue_signal(target.peer.pid, thread, signo, value);
    if (rc == -EPERM)
        return fail(EOPNOTSUPP,
                    "counted, but the peer's user may not be sent signals: "
                    "without the module that takes kill(2)'s permission");
    if (rc == -EAGAIN) return fail(EAGAIN, "counted, but the peer's queue of signals is full");
    return 0;  // a thread that ended wants no signals
}

void endpoint::ring_lifecycle_of_peers() {
    std::vector<std::shared_ptr<link>> told;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& peer : links_) {
            if (!peer || peer->is_self() || !peer->alive) continue;
            count(own_control().out[peer->where.slot], IPCDOOR_VECTOR_LIFECYCLE, 0);
            told.push_back(peer);
        }
    }
    for (const auto& peer : told) peer->wake();
}

// ---- taking ----

void endpoint::harvest(link& peer) {
    const outbox& box = peer.pages->head().out[seat_.slot];
    if (box.generation.load(std::memory_order_acquire) != seat_.generation) return;
    const std::uint64_t total = box.total.load(std::memory_order_seq_cst);
    if (total == peer.seen_total) return;
    peer.seen_total = total;
    for (unsigned vector = 0; vector < IPCDOOR_VECTORS; ++vector) {
        const std::uint64_t now = box.count[vector].load(std::memory_order_acquire);
        if (now == peer.seen[vector]) continue;
        count_[vector] += now - peer.seen[vector];
        value_[vector] = box.value[vector].load(std::memory_order_relaxed);
        peer.seen[vector] = now;
        pending_ |= std::uint64_t{1} << vector;
    }
}

void endpoint::harvest() {
    for (const auto& peer : links_)
        if (peer && peer->alive) harvest(*peer);
}

bool endpoint::take(uint64_t mask, ipcdoor_event* event) {
    const std::uint64_t fired = pending_ & mask;
    if (fired == 0) return false;
    ipcdoor_event taken{fired, 0, value_[std::countr_zero(fired)]};
    for (std::uint64_t bits = fired; bits != 0; bits &= bits - 1) {
        std::uint64_t& count = count_[std::countr_zero(bits)];
        taken.count += count;
        count = 0;
    }
    pending_ &= ~fired;
    if (event != nullptr) *event = taken;
    return true;
}

// ---- waiting ----

bool endpoint::peer_gone() const {
    if ((flags_ & IPCDOOR_ENDPOINT_CONNECTION) == 0) return false;
    const auto& peer = links_[1 - seat_.slot];
    return peer && !peer->alive;
}

void endpoint::arm() {
    own_control().armed.store(++epoch_, std::memory_order_seq_cst);
    harvest();
}

// The leader's way out: somebody else may lead.
void endpoint::step_down() {
    leading_ = false;
    if (!outer_) own_control().armed.store(0, std::memory_order_relaxed);
    if (followers_ == 0) return;
    news_.fetch_add(1, std::memory_order_relaxed);
    sys::futex_wake_all(news_);
}

// Sleeps until the leader has news; 0, -EINTR or -ETIMEDOUT.
int endpoint::follow(std::unique_lock<std::mutex>& lock, uint64_t deadline_ns) {
    const std::uint32_t seen = news_.load(std::memory_order_relaxed);
    ++followers_;
    lock.unlock();
    const int rc = sys::futex_wait(news_, seen, deadline_ns);
    lock.lock();
    --followers_;
    return rc == -EAGAIN ? 0 : rc;
}

// Sleeps for all, and keeps the books of what came; 0 or a negative errno.
int endpoint::lead(std::unique_lock<std::mutex>& lock, uint64_t mask, uint64_t deadline_ns) {
    leading_ = true;
    const bool only_looks = is_past(deadline_ns);
    if (!only_looks) {
        arm();
        if ((pending_ & mask) != 0 || peer_gone()) {
            step_down();
            return 0;
        }
    }
    lock.unlock();
    epoll_event events[16];
    const int ready = sys::epoll_until(inner_.get(), events, only_looks ? 0 : deadline_ns);
    lock.lock();
    if (ready > 0) handle({events, static_cast<std::size_t>(ready)});
    step_down();
    return ready < 0 ? ready : 0;
}

int endpoint::wait_locked(std::unique_lock<std::mutex>& lock, uint64_t mask, uint64_t deadline_ns,
                          ipcdoor_event* event) {
    // Even a past deadline gets one look at what the sockets say.
    for (bool looked = false;; looked = true) {
        harvest();
        if (take(mask, event)) return 0;
        if (peer_gone()) return fail(EPIPE, "the connection's peer is dead");
        if ((looked || leading_) && is_past(deadline_ns))
            return fail(ETIMEDOUT, "nothing was rung before the deadline");
        const int rc = leading_ ? follow(lock, deadline_ns) : lead(lock, mask, deadline_ns);
        if (rc == 0 || rc == -ETIMEDOUT) continue;
        harvest();
        if (take(mask, event)) return 0;
        if (rc == -EINTR) return fail(EINTR, "a signal handler ran: call again");
        return fail(-rc, "epoll failed");
    }
}

int endpoint::wait(uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) {
    std::unique_lock lock(mutex_);
    const int rc = wait_locked(lock, mask, deadline_ns, event);
    settle();
    return rc;
}

int endpoint::ring_wait(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value,
                        uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) {
    const int rc = ring(slot, generation, vector, value);
    return rc < 0 ? rc : wait(mask, deadline_ns, event);
}

void endpoint::handle(std::span<const epoll_event> events) {
    for (const epoll_event& event : events) handle(event);
}

void endpoint::handle(const epoll_event& event) {
    const auto kind = static_cast<event_kind>(event.data.u64 >> 56);
    const auto slot = static_cast<std::uint32_t>(event.data.u64 >> 32 & 0xffffff);
    const auto serial = static_cast<std::uint32_t>(event.data.u64);
    if (kind == event_kind::kick) {
        sys::event_clear(kick_.get());
        return;
    }
    if (kind == event_kind::join) {
        admit_newcomers();
        return;
    }
    link* peer = links_[slot].get();
    if (peer == nullptr || peer->serial != serial || !peer->alive) return;
    if (kind == event_kind::socket) {
        // One message suffices: a second one makes the socket readable again.
        char bell[16];
        const int rc = sys::socket_receive(peer->socket.get(), bell, sizeof(bell));
        if (rc > 0 || rc == -EAGAIN || rc == -EINTR) return;
    }
    bury(*peer);
}

// ---- poll and epoll ----

int endpoint::poll_fd() {
    const std::lock_guard lock(mutex_);
    if (!outer_) {
        owned_fd level(sys::event_counter());
        owned_fd outer(sys::epoll_new());
        if (!level || !outer) throw failure(EMFILE, "no descriptors left for ipcdoor_endpoint_fd");
        int rc = sys::epoll_watch(outer.get(), inner_.get(), EPOLLIN, 0);
        if (rc == 0) rc = sys::epoll_watch(outer.get(), level.get(), EPOLLIN, 0);
        if (rc < 0) throw failure(-rc, "epoll_ctl failed");
        level_ = std::move(level);
        outer_ = std::move(outer);
    }
    settle();
    return outer_.get();
}

// Makes poll_fd() tell the truth: readable while something is pending, and
// armed otherwise. Under the mutex, after every change of the books.
void endpoint::settle() {
    if (!outer_) return;
    if (!leading_) {  // the leader does all this when it is back
        // Bounded: a peer that sends without end only keeps the descriptor readable.
        for (int round = 0; round < 64; ++round) {
            epoll_event events[16];
            const int ready = sys::epoll_until(inner_.get(), events, 0);
            if (ready <= 0) break;
            handle({events, static_cast<std::size_t>(ready)});
        }
        arm();
    }
    if (pending_ != 0 || peer_gone())
        sys::event_add(level_.get());
    else
        sys::event_clear(level_.get());
}

}  // namespace ipcdoor::backend::soft
