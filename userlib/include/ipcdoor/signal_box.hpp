// SPDX-License-Identifier: MIT
//
// signal_box: a name that any number of processes may signal, and one place that
// receives their pulses (signal.hpp) with who sent each. Who may is the receiver's
// decision. signal_sender: the other side.
//
//     ipcdoor::signal_box box(door, "control", {.mode = 0666, .admits = [](const auto& who) {
//         return who.uid == 0 || who.uid == getuid();
//     }});
//     for (;;) {
//         ipcdoor::received_signal got = box.receive();
//         act(got.what.code, got.what.value, got.sender.pid);
//     }
//
//     ipcdoor::signal_sender to(door, "control");
//     to.send({.code = 3, .value = 42});
//
// Each sender has a connection of its own, so one that is broken, hostile or loud harms
// itself alone: its queue is what it can fill, it is dropped and counted when it breaks
// the protocol or dies, and those that have pulses are served in turn: three times the
// highest priority of the first 32 of them, then who has waited longest.
//
// Order: of one sender as pulse_port says; between senders there is none but that.
#ifndef IPCDOOR_SIGNAL_BOX_HPP
#define IPCDOOR_SIGNAL_BOX_HPP

#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/reception.hpp>
#include <ipcdoor/detail/rendezvous.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/signal.hpp>

namespace ipcdoor {

// A process as the kernel captured it when it connected: pid, uid and gid in the
// receiver's namespaces.
using peer_credentials = struct ipcdoor_peer_info;

struct signal_box_options {
    std::uint32_t mode = 0600;  // of the name: connecting needs the write bit
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint32_t backlog = 128;
    // Further senders wait in the backlog until somebody leaves.
    std::size_t max_senders = 4096;
    // Further ones of the same user are refused, so that none can take all places.
    std::size_t max_senders_per_user = 1024;

    // Whether this process may signal at all; empty: all that `mode` lets in. Asked once,
    // when it connects. One that may not is disconnected.
    std::function<bool(const peer_credentials&)> admits;
    // The codes that it may send (all_codes, codes(1, 2)); empty: all; none: refused. Its
    // own send() throws EACCES for the others, and what comes all the same is dropped.
    std::function<std::uint64_t(const peer_credentials&)> allowed_codes;
    // Both are called by a thread in receive(), try_receive() or deliver_as(), one at a
    // time. They must not use the box. Throwing is a no.

    // Codes blocked from the beginning, see signal_box::block().
    std::uint64_t blocked = 0;
    // Told of each sender that left, with the reason; called by a thread in receive(),
    // try_receive(), deliver_as() or disconnect(). It must not throw, nor receive there.
    std::function<void(std::uint64_t, const error&)> on_gone;
};

struct received_signal {
    pulse what;
    std::uint64_t from = 0;  // the connection; never used again for another one
    peer_credentials sender{};
};

struct signal_box_stats {
    std::uint64_t connected = 0;  // senders that were admitted
    std::uint64_t refused = 0;    // senders that were not
    std::uint64_t gone = 0;       // of the admitted, left, died or dropped
    std::uint64_t broken = 0;     // of these, dropped because they broke the protocol
    std::uint64_t lost = 0;       // pulses that found no room, as their senders say
    std::uint64_t refusals = 0;   // pulses dropped because of their code
    int last_failure = 0;         // errno of the last time that nobody could be let in
};

// Threads: any number may use a box at once; several that receive share the pulses. Only
// destroying it must be alone, after close() has sent the receivers away. A fork()ed
// child may only destroy it (EPERM).
//
// Errors, as ipcdoor::error: ETIMEDOUT, ECANCELED once it is closed, EMFILE and the like
// where the process has no descriptors left for the box itself.
class signal_box : private detail::reception {
public:
    // Listens at once. Throws what door::listen() throws.
    signal_box(door& at, const std::string& name, signal_box_options options = {})
        : reception("signal_box",
                    at.listen(name, {.slot_bytes = ring_data_offset,
                                     .source = options.source,
                                     .mode = options.mode,
                                     .backlog = options.backlog}),
                    options.max_senders),
          options_(std::move(options)),
          blocked_(options_.blocked) {}

    // The next pulse of any sender; blocks while there is none.
    received_signal receive(deadline until = {}) {
        received_signal got;
        if (!next(got, until.ns()))
            detail::throw_error(ETIMEDOUT, "signal_box: the deadline passed, no signal came");
        return got;
    }
    // Nothing where there is none. Never blocks.
    [[nodiscard]] std::optional<received_signal> try_receive() {
        received_signal got;
        if (!next(got, 0)) return std::nullopt;
        return got;
    }

    // For poll and epoll, readable while there may be something: try_receive() until it
    // returns nothing, which also lets senders in. Stays the box's.
    int fd() const noexcept { return readable_fd(); }

    // Raises the POSIX signal `signo`, SIGRTMIN to SIGRTMAX, in this process for each
    // pulse instead of returning it: with si_code SI_QUEUE, si_pid and si_uid of the
    // sender as the kernel captured them, si_value the pulse's value and si_errno its code.
    // Blocks until the deadline or close(); run it in a thread. Block the signal in all
    // threads first and take it with sigwaitinfo(2) or signalfd(2), or install a handler
    // with SA_SIGINFO: its default action is death.
    //
    // Policy, masks and priorities hold: the pulses come through this thread and not, as
    // with signal_binding, straight from the ringer, who chooses there what is raised and
    // when. Where RLIMIT_SIGPENDING are pending, it waits for room, deadline or not, and the
    // senders' queues fill.
    // Throws EINVAL for another signal.
    void deliver_as(int signo, deadline until = {}) {
        if (signo < SIGRTMIN || signo > SIGRTMAX)
            detail::throw_error(EINVAL, "signal_box: " + std::to_string(signo) +
                                            " is no real-time signal, only these queue");
        received_signal got;
        while (next_unless_closed(got, until.ns())) raise(signo, got);
    }

    // ---- masks, as of sigprocmask(2), for all senders ----
    //
    // Pulses of blocked codes wait with their senders and wake nobody. Each returns the
    // set of blocked codes before.

    std::uint64_t block(std::uint64_t more) { return change_mask(more, 0); }
    std::uint64_t unblock(std::uint64_t fewer) { return change_mask(0, fewer); }
    std::uint64_t set_blocked(std::uint64_t exactly) { return change_mask(exactly, ~exactly); }
    std::uint64_t blocked() const {
        const std::lock_guard lock(mutex_);
        return blocked_;
    }

    // ---- senders ----

    // Ends a connection; on_gone is told ECANCELED. What it has sent and was not received
    // is gone.
    void disconnect(std::uint64_t from) {
        check_owner();
        std::unique_lock lock(mutex_);
        drop(from, error(ECANCELED, "signal_box: it was disconnected here"));
        bury(lock);
    }

    std::size_t senders() const {
        const std::lock_guard lock(mutex_);
        return senders_.size();
    }
    signal_box_stats stats() const {
        const std::lock_guard lock(mutex_);
        signal_box_stats now = stats_;
        now.last_failure = last_refusal_;
        for (const auto& [id, from] : senders_) {
            now.lost += from->port.lost();
            now.refusals += from->port.refusals();
        }
        return now;
    }

    // Sends everybody away who receives, now and later. From any thread.
    void close() { close_reception(); }

private:
    static constexpr std::size_t most_refused = 16;

    struct source {
        source(endpoint accepted, const peer_credentials& peer, const pulse_options& options)
            : end(std::move(accepted)), port(end, options), who(peer) {}

        endpoint end;
        pulse_port port;
        const peer_credentials who;
        bool queued = false;  // in ready_
    };

    struct departed {
        std::uint64_t id;
        std::unique_ptr<source> from;
        error why;
    };

    // ---- receiving ----

    bool next(received_signal& into, std::uint64_t deadline_ns) {
        return take_until(deadline_ns, [&](std::unique_lock<std::mutex>& lock) {
            const bool taken = take(into);
            bury(lock);
            if (taken && !ready_.empty()) changed_.notify_one();
            return taken;
        });
    }

    bool next_unless_closed(received_signal& into, std::uint64_t deadline_ns) {
        try {
            return next(into, deadline_ns);
        } catch (const error& wrong) {
            if (wrong.error_number() != ECANCELED) throw;
            return false;
        }
    }

    std::size_t senders_here() const override { return senders_.size(); }
    void found_ready(std::uint64_t id) override {
        if (!put_out(id)) enqueue(id);
    }
    int next_priority(std::uint64_t id) override {
        const auto found = senders_.find(id);
        return found == senders_.end() ? -1 : found->second->port.next_priority();
    }

    void enqueue(std::uint64_t id) {
        const auto found = senders_.find(id);
        if (found != senders_.end() && !std::exchange(found->second->queued, true))
            ready_.push_back(id);
    }

    // A pulse of one of those that have some, never blocking.
    bool take(received_signal& into) {
        while (!ready_.empty()) {
            const std::uint64_t id = choose();
            const auto found = senders_.find(id);
            if (found == senders_.end()) continue;
            source& from = *found->second;
            from.queued = false;
            try {
                const std::optional<pulse> got = from.port.try_receive();
                if (!got) continue;
                into.what = *got;
            } catch (const error& wrong) {
                if (!wrong.is_peer_death()) ++stats_.broken;
                drop(id, wrong);
                continue;
            }
            into.from = id;
            into.sender = from.who;
            enqueue(id);
            return true;
        }
        return false;
    }

    void raise(int signo, const received_signal& got) {
        siginfo_t info{};
        info.si_signo = signo;
        info.si_code = SI_QUEUE;
        info.si_errno = static_cast<int>(got.what.code);
        info.si_pid = got.sender.pid;
        info.si_uid = got.sender.uid;
        info.si_value.sival_ptr = reinterpret_cast<void*>(got.what.value);
        // Of its own process, so the kernel takes si_pid and si_uid as they are here.
        while (::syscall(SYS_rt_sigqueueinfo, ::getpid(), signo, &info) != 0) {
            if (errno != EAGAIN)
                detail::throw_error(
                    errno, std::string("signal_box: rt_sigqueueinfo: ") + std::strerror(errno));
            {
                std::unique_lock lock(mutex_);
                if (closed_) return;
            }
            // Nothing tells of a signal that was taken.
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    std::uint64_t change_mask(std::uint64_t more, std::uint64_t fewer) {
        check_owner();
        const std::lock_guard lock(mutex_);
        const std::uint64_t before = blocked_;
        blocked_ = (before & ~fewer) | more;
        // What is unblocked makes its sender's descriptor readable, for who waits for those.
        for (const auto& [id, from] : senders_) {
            from->port.set_blocked(blocked_);
            if (from->port.next_priority() >= 0) enqueue(id);
        }
        changed_.notify_one();
        return before;
    }

    // ---- coming and going ----

    void admit(endpoint accepted) override {
        const std::uint32_t peer = 1 - accepted.slot();
        const peer_credentials who = accepted.peer_info(peer);
        const std::uint64_t allowed = allowed_to(who);
        if (allowed == 0) {
            ++stats_.refused;
            refuse(std::move(accepted), peer);
            return;
        }
        const std::uint64_t id = new_id();
        auto made = std::make_unique<source>(
            std::move(accepted), who,
            pulse_options{.blocked = blocked_, .refused = ~allowed, .other_vectors = all_vectors});
        watch(made->end.fd(), EPOLLIN, id);
        // Greets it. If that fails, it is dead or asked for what it cannot have.
        static_cast<void>(ipcdoor_ring(made->end.get(), peer, 0, pulse_vector, 0));
        senders_.emplace(id, std::move(made));
        ++of_user_[who.uid];
        ++stats_.connected;
        enqueue(id);
    }

    // A slot says so. Who was refused leaves when it has read that, or is put out at the
    // first ring, or when too many do not leave.
    void refuse(endpoint from, std::uint32_t peer) {
        const pulse_port no(from, {.refused = all_codes});
        static_cast<void>(ipcdoor_wait(from.get(), all_vectors, 0, nullptr));
        static_cast<void>(ipcdoor_ring(from.get(), peer, 0, pulse_vector, 0));
        const std::uint64_t id = new_id();
        watch(from.fd(), EPOLLIN, id);
        refused_.emplace(id, std::move(from));
        if (refused_.size() > most_refused) put_out(refused_.begin()->first);
    }

    bool put_out(std::uint64_t id) {
        const auto found = refused_.find(id);
        if (found == refused_.end()) return false;
        forget(found->second.fd());
        refused_.erase(found);
        return true;
    }

    std::uint64_t allowed_to(const peer_credentials& who) const {
        const auto same = of_user_.find(who.uid);
        if (same != of_user_.end() && same->second >= options_.max_senders_per_user) return 0;
        try {
            if (options_.admits && !options_.admits(who)) return 0;
            return options_.allowed_codes ? options_.allowed_codes(who) : all_codes;
        } catch (...) {
            return 0;
        }
    }

    void drop(std::uint64_t id, const error& why) {
        const auto found = senders_.find(id);
        if (found == senders_.end()) return;
        departed_.push_back({id, std::move(found->second), why});
        senders_.erase(found);
        source& from = *departed_.back().from;
        forget(from.end.fd());
        if (const auto same = of_user_.find(from.who.uid); --same->second == 0)
            of_user_.erase(same);
        stats_.lost += from.port.lost();
        stats_.refusals += from.port.refusals();
        ++stats_.gone;
        let_in_again();
    }

    // What is to be done about the departed with nothing locked.
    void bury(std::unique_lock<std::mutex>& lock) {
        while (!departed_.empty()) {
            std::vector<departed> some = std::exchange(departed_, {});
            lock.unlock();
            if (options_.on_gone)
                for (const departed& one : some) options_.on_gone(one.id, one.why);
            some.clear();
            lock.lock();
        }
    }

    const signal_box_options options_;
    std::unordered_map<std::uint64_t, std::unique_ptr<source>> senders_;  // mutex_
    std::unordered_map<std::uint32_t, std::size_t> of_user_;              // mutex_: by uid
    std::map<std::uint64_t, endpoint> refused_;  // mutex_: not yet gone, the oldest first
    std::vector<departed> departed_;             // mutex_
    std::uint64_t blocked_ = 0;                  // mutex_
    signal_box_stats stats_;                     // mutex_: lost and refusals of the departed only
};

// Signals a box by name. Any number of threads may use it at once, but for moving.
class signal_sender {
public:
    // Connects, and waits until the box has decided. Throws what door::connect() throws
    // (ENOENT nobody has the name, EACCES its mode), EACCES the box refuses this
    // process, EPIPE or ECONNREFUSED the box is gone, or has refused so many that it
    // cannot tell each, ETIMEDOUT, EPROTO the name is no box's.
    signal_sender(door& from, const std::string& name, deadline until = {})
        : end_(detail::connect_through_signals(from, name, until)),
          port_(std::make_unique<pulse_port>(end_)) {
        bool dead = false;
        // Once more after the death: it may have decided before.
        while (!port_->peer_is_open()) {
            if (dead) detail::throw_error(EPIPE, "signal_sender: '" + name + "' went away at once");
            int waited;
            do {
                waited = ipcdoor_wait(end_.get(), vectors(pulse_vector), until.ns(), nullptr);
            } while (waited == -EINTR);
            if (waited == -EPIPE)
                dead = true;
            else if (waited == -ETIMEDOUT)
                detail::throw_error(
                    ETIMEDOUT, "signal_sender: '" + name + "' did not answer before the deadline");
            else
                detail::throw_if(waited);
        }
        if (port_->accepted() == 0)
            detail::throw_error(EACCES, "signal_sender: '" + name + "' refuses this process");
    }

    // Sends a pulse; never blocks. False: there was no room, the pulse is lost and
    // counted. Throws EACCES for a code that the box does not take from this process,
    // EPIPE once the box is gone, EINVAL, EPROTO.
    bool send(const pulse& what) { return port_->send(what); }

    // The codes that the box takes from this process.
    std::uint64_t allowed_codes() const noexcept { return port_->accepted(); }

    // Of the connection; its descriptor tells of the box's end.
    endpoint& raw() noexcept { return end_; }

private:
    endpoint end_;
    std::unique_ptr<pulse_port> port_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_SIGNAL_BOX_HPP
