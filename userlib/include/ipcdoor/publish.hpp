// SPDX-License-Identifier: MIT
//
// publisher: one writer, up to hundreds of readers in other processes, no copies. The
// publisher borrows a chunk of its own memory (a loan), fills it and publishes it; every
// subscriber (subscribe.hpp) reads it where it lies. A chunk is used again when every
// living subscriber has released it. What a publish costs does not depend on the size.
//
//     ipcdoor::publisher images(door, "images", {.chunk_bytes = 16 << 20});
//     for (;;) {
//         ipcdoor::loan next = images.lend();
//         next.resize(camera.read(next.bytes()));
//         images.publish(std::move(next));
//     }
//
// Who can do what. Nobody but the publisher can write the memory, the kernel sees to that.
// Subscribers write in their own slots only: what they have taken and what they hold, which
// is bounded (`max_held`). A subscriber that breaks the protocol is dropped alone; of one
// that dies the kernel tells, and what it held is free again. A publisher that dies leaves
// what its subscribers have and have queued; its name is free at once, its memory when the
// last of them has unmapped it.
//
// How many chunks. By default as many as are needed so that lend() never waits, whatever
// the subscribers do: for the queues and the history, for what all of max_subscribers may
// hold, and for the loans. Fewer save memory; then lend() waits for a release where there
// are none.
//
// Subscribers are let in, and missed when they have gone, by publish(), about once a
// millisecond, by lend() where no chunk is free, and by poll(). A publisher that is silent for
// long calls poll() when fd() is readable: a newcomer waits until then.
//
// Threads. Any number may use a publisher at once. A loan belongs to one thread at a time.
// A fork()ed child may only destroy its copies: EPERM.
#ifndef IPCDOOR_PUBLISH_HPP
#define IPCDOOR_PUBLISH_HPP

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/chunk_pool.hpp>
#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/detail/publish_session.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/memory.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/publish_layout.hpp>

namespace ipcdoor {

// A subscriber whose queue is full, because it is slower than its publisher,
enum class slow_subscriber {
    drop_oldest,  // loses what it has waited for longest
    drop_newest,  // does not get what is published now
    block,        // holds up the publisher
};

struct publisher_options {
    std::size_t chunk_bytes = 4096;      // the longest sample
    std::uint32_t queue = 16;            // samples that a subscriber may lag behind
    std::uint32_t history = 0;           // of the latest, for those who come late; up to `queue`
    std::uint32_t max_held = 4;          // samples that a subscriber may hold at once
    std::uint32_t max_loans = 2;         // that the publisher may have at once
    std::uint32_t max_subscribers = 64;  // further ones wait in the backlog
    slow_subscriber slow = slow_subscriber::drop_oldest;
    std::uint32_t chunks = 0;  // 0: as many as are needed
    // What the samples are, in the users' own words; subscribers that expect something else
    // are told so. 0: whatever.
    std::uint64_t type = 0;
    std::uint32_t mode = 0600;  // subscribing needs the write bit
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint32_t backlog = 128;
    page_options memory{};  // of the chunks
};

struct publisher_stats {
    std::uint64_t published = 0;
    std::uint64_t came = 0;     // subscribers that were let in
    std::uint64_t gone = 0;     // of them, left, died or were dropped
    std::uint64_t broken = 0;   // of these, dropped because they broke the protocol
    std::uint64_t dropped = 0;  // oldest samples taken back from full queues
    std::uint64_t missed = 0;   // newest samples not put into full queues
    std::uint64_t waits = 0;    // times that a thread slept for room or a chunk
    std::uint64_t sweeps = 0;   // looks for free chunks
    int last_refusal = 0;       // errno of the last time that nobody could be let in
};

class publisher;

namespace detail {

// What a publisher and its loans share; see publisher.
class publisher_core {
public:
    publisher_core(door& at, const std::string& name, const publisher_options& options)
        : options_(checked(options)),
          pool_(options.chunk_bytes, chunks_of(options), options.memory),
          listener_(at.listen(name, {.slot_bytes = publish_slot_bytes(options.queue),
                                     .source = options.source,
                                     .mode = options.mode,
                                     .backlog = options.backlog})),
          epoll_(::epoll_create1(EPOLL_CLOEXEC)),
          kick_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        if (!epoll_) throw_system("epoll_create1", errno);
        if (!kick_) throw_system("eventfd", errno);
        IPCDOOR_STEP("open:listening");
        watch(listener_.fd(), listener_tag);
        watch(kick_.get(), kick_tag);
    }
    publisher_core(const publisher_core&) = delete;
    publisher_core& operator=(const publisher_core&) = delete;

    // A chunk, or chunk_pool::none at the deadline.
    std::uint32_t lend(std::uint64_t deadline_ns) {
        check_owner();
        std::unique_lock lock(mutex_);
        const hand_on next_one{changed_};
        if (loans_ >= options_.max_loans) {
            throw_error(ENOBUFS, "publish: " + std::to_string(loans_) +
                                     " loans are out; publish or drop one, or raise max_loans");
        }
        std::uint32_t chunk = pool_.lend();
        if (chunk == chunk_pool::none) {
            // Its turn is kept for it while it waits.
            ++loans_;
            try {
                wait_for(lock, deadline_ns, [&] { return find_chunk(chunk); });
            } catch (...) {
                --loans_;
                throw;
            }
            if (chunk == chunk_pool::none) --loans_;
        } else {
            ++loans_;
        }
        IPCDOOR_STEP("lend:chunk");
        return chunk;
    }
    std::span<std::byte> bytes(std::uint32_t chunk) const noexcept { return pool_.chunk(chunk); }

    void give_back(std::uint32_t chunk) noexcept {
        if (is_copy()) return;
        const std::lock_guard lock(mutex_);
        pool_.give_back(chunk);
        --loans_;
        wake_waiting();
    }

    // The sample's number, or 0 at the deadline, with nothing done.
    std::uint64_t publish(std::uint32_t chunk, std::uint64_t bytes, std::uint64_t deadline_ns) {
        check_owner();
        std::unique_lock lock(mutex_);
        const hand_on next_one{changed_};
        std::uint64_t now = ipcdoor_now_ns();
        if (now >= next_look_ns_) {
            next_look_ns_ = now + look_every_ns;
            look();
        }
        if (options_.slow == slow_subscriber::block && !all_have_room()) {
            if (!wait_for(lock, deadline_ns, [this] { return all_have_room(); })) return 0;
            now = ipcdoor_now_ns();
        }
        const published_sample sample{stats_.published + 1, bytes, now, chunk};
        remember(sample);
        // From here on nothing is thrown: the chunk is the subscribers', and no loan any more.
        ++stats_.published;
        IPCDOOR_STEP("publish:begin");
        for_each_ready([&](publish_session& to) { put(to, sample, true); });
        pool_.publish(chunk);
        --loans_;
        // It may have taken the place of another chunk.
        wake_waiting();
        return sample.sequence;
    }

    void poll() {
        check_owner();
        const std::lock_guard lock(mutex_);
        look();
    }
    int fd() const noexcept { return epoll_.get(); }

    std::size_t subscribers() const {
        const std::lock_guard lock(mutex_);
        return static_cast<std::size_t>(
            std::count_if(sessions_.begin(), sessions_.end(),
                          [](const auto& entry) { return entry.second.ready(); }));
    }
    std::vector<struct ipcdoor_peer_info> peers() const {
        const std::lock_guard lock(mutex_);
        std::vector<struct ipcdoor_peer_info> all;
        for (const auto& [tag, session] : sessions_)
            if (session.ready()) all.push_back(session.peer());
        return all;
    }
    publisher_stats stats() const {
        const std::lock_guard lock(mutex_);
        return stats_;
    }
    // In a forked child: locks and waiting threads in here are the parent's.
    bool is_copy() const noexcept { return !maker_.is_mine(); }
    void leave_to_parent() noexcept {
        sessions_.clear();
        listener_.close();
    }

    const publisher_options& options() const noexcept { return options_; }
    std::uint32_t chunks() const noexcept { return pool_.chunks(); }

private:
    using session_tag = std::uint64_t;
    static constexpr session_tag listener_tag = 0;
    static constexpr session_tag kick_tag = 1;
    static constexpr std::uint64_t look_every_ns = 1'000'000;

    void check_owner() const {
        maker_.check("publish: the publisher is the parent process's; make one in this one");
    }

    [[noreturn]] static void throw_system(const char* what, int error_number) {
        throw_error(error_number,
                    std::string("publish: ") + what + ": " + std::strerror(error_number));
    }

    static const publisher_options& checked(const publisher_options& options) {
        const auto in_range = [](const char* what, std::uint64_t value, std::uint64_t least,
                                 std::uint64_t most) {
            if (value >= least && value <= most) return;
            throw_error(EINVAL, std::string("publish: ") + what + " " + std::to_string(value) +
                                    ": " + std::to_string(least) + " to " + std::to_string(most) +
                                    " are possible");
        };
        in_range("chunk_bytes", options.chunk_bytes, 1, publish_max_chunk_bytes);
        in_range("queue", options.queue, 1, publish_max_queue);
        in_range("history", options.history, 0, options.queue);
        in_range("max_held", options.max_held, 1, publish_max_held);
        in_range("max_loans", options.max_loans, 1, publish_max_chunks);
        in_range("max_subscribers", options.max_subscribers, 1, IPCDOOR_MAX_BACKLOG);
        in_range("chunks", chunks_of(options), std::uint64_t{options.max_loans} + options.history,
                 publish_max_chunks);
        return options;
    }

    static std::uint32_t chunks_of(const publisher_options& options) {
        if (options.chunks != 0) return options.chunks;
        // What drop_newest leaves in a slow queue may be older than any other's.
        const std::uint64_t queued = options.slow == slow_subscriber::drop_newest
                                         ? std::uint64_t{options.max_subscribers} * options.queue
                                         : options.queue;
        const std::uint64_t all = queued + options.history +
                                  std::uint64_t{options.max_subscribers} * options.max_held +
                                  options.max_loans;
        return static_cast<std::uint32_t>(std::min<std::uint64_t>(all, publish_max_chunks + 1));
    }

    void watch(int fd, session_tag tag) {
        epoll_event wanted{};
        wanted.events = EPOLLIN;
        wanted.data.u64 = tag;
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &wanted) != 0)
            throw_system("epoll_ctl", errno);
    }

    // ---- publishing ----

    // One that breaks the protocol, or is dead, is dropped, and the others go on.
    template <class Operation>
    void for_each_ready(Operation operation) {
        for (auto at = sessions_.begin(); at != sessions_.end();) {
            const auto session = at++;
            if (!session->second.ready()) continue;
            try {
                operation(session->second);
            } catch (const error& wrong) {
                drop(session, wrong.error_number());
            } catch (const std::bad_alloc&) {  // for an error's words
                drop(session, ENOMEM);
            }
        }
    }

    void put(publish_session& to, const published_sample& sample, bool ring) {
        if (!to.listens()) return;
        if (!to.has_room()) {
            if (options_.slow == slow_subscriber::drop_newest) {
                to.miss();
                ++stats_.missed;
                return;
            }
            to.drop_oldest();
            ++stats_.dropped;
        }
        if (to.put(sample) && ring) to.ring_for_data();
    }

    void remember(const published_sample& sample) {
        if (options_.history == 0) return;
        history_.push_back(sample);
        if (history_.size() > options_.history) history_.pop_front();
    }

    bool all_have_room() {
        bool room = true;
        for_each_ready(
            [&](publish_session& to) { room = (!to.listens() || to.has_room()) && room; });
        return room;
    }

    bool find_chunk(std::uint32_t& chunk) {
        chunk = pool_.lend();
        if (chunk != chunk_pool::none) return true;
        ++stats_.sweeps;
        pool_.sweep([this](auto mark) {
            for (const published_sample& old : history_) mark(old.chunk);
            for_each_ready([&](publish_session& of) { of.mark_used(pool_.chunks(), mark); });
        });
        chunk = pool_.lend();
        return chunk != chunk_pool::none;
    }

    // Until `satisfied`, tried again whenever a subscriber has made room; false at the
    // deadline. Subscribers ring once for each number that they are given: what is armed
    // here is looked at again before this thread sleeps.
    template <class Satisfied>
    bool wait_for(std::unique_lock<std::mutex>& lock, std::uint64_t deadline_ns,
                  Satisfied satisfied) {
        if (satisfied()) return true;
        // Some may have died, and be found out only now.
        look();
        if (deadline_ns == 0) return satisfied();
        for (;;) {
            IPCDOOR_STEP("room:none");
            ++epoch_;
            awaiting_ = true;
            for_each_ready([this](publish_session& of) {
                of.await_room(epoch_);
                IPCDOOR_STEP("room:armed");
            });
            const bool done = satisfied();
            if (done || deadline::at_ns(deadline_ns).is_past()) {
                if (!leading_) disarm();
                return done;
            }
            ++stats_.waits;
            if (leading_) {
                static_cast<void>(wait_until(changed_, lock, deadline_ns));
                continue;
            }
            leading_ = true;
            lock.unlock();
            epoll_event none;
            const int ready = ::epoll_wait(epoll_.get(), &none, 1, epoll_timeout_ms(deadline_ns));
            const int error_number = errno;
            lock.lock();
            leading_ = false;
            eventfd_t kicks;
            static_cast<void>(::eventfd_read(kick_.get(), &kicks));
            changed_.notify_all();
            if (ready < 0 && error_number != EINTR) {
                disarm();
                throw_system("epoll_wait", error_number);
            }
            look();
        }
    }
    // Something that others may wait for has changed, and the descriptors may not tell: of
    // the one that waits for them, too.
    void wake_waiting() noexcept {
        changed_.notify_all();
        if (leading_) ::eventfd_write(kick_.get(), 1);
    }
    void disarm() {
        awaiting_ = false;
        for_each_ready([](publish_session& of) {
            of.await_room(0);
            IPCDOOR_STEP("room:disarmed");
        });
    }

    // ---- who comes and who goes ----

    void look() {
        std::array<epoll_event, 64> events;
        // The events are the leader's, where there is one: they wake it, unless they are gone
        // when it looks.
        int ready = leading_ ? 0 : ::epoll_wait(epoll_.get(), events.data(), events.size(), 0);
        if (ready < 0) ready = 0;  // a signal: the next look will do
        bool newcomers = retry_ns_ != 0 && deadline::at_ns(retry_ns_).is_past();
        for (int i = 0; i < ready; ++i) {
            const session_tag tag = events[static_cast<std::size_t>(i)].data.u64;
            if (tag == listener_tag) {
                newcomers = true;
                continue;
            }
            const auto session = sessions_.find(tag);
            if (session == sessions_.end()) continue;
            try {
                session->second.take_events();
            } catch (const error& wrong) {
                drop(session, wrong.error_number());
            }
        }
        if (newcomers) admit();
        if (greeting_ != 0) greet();
    }

    void admit() {
        try {
            while (sessions_.size() < options_.max_subscribers) {
                std::optional<endpoint> accepted = listener_.try_accept();
                if (!accepted) {
                    if (std::exchange(full_, false)) watch(listener_.fd(), listener_tag);
                    retry_ns_ = 0;
                    return;
                }
                IPCDOOR_STEP("greet:accepted");
                const session_tag tag = next_tag_++;
                const auto made = sessions_.try_emplace(
                    tag, std::move(*accepted),
                    publish_session::terms{options_.queue, options_.max_held, options_.type,
                                           options_.memory.pages == huge_pages::reserved});
                try {
                    watch(made.first->second.fd(), tag);
                } catch (...) {
                    sessions_.erase(made.first);
                    throw;
                }
                ++greeting_;
            }
            retry_ns_ = 0;
        } catch (const error& wrong) {
            // No descriptors or no memory left: a while later there may be.
            stats_.last_refusal = wrong.error_number();
            retry_ns_ = ipcdoor_deadline_ns(100'000'000);
        }
        // The listener is looked at again when somebody leaves.
        if (!std::exchange(full_, true))
            ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.fd(), nullptr);
    }

    void greet() {
        for (auto at = sessions_.begin(); at != sessions_.end();) {
            const auto session = at++;
            publish_session& to = session->second;
            if (to.ready()) continue;
            try {
                if (!to.greet(pool_)) continue;
                --greeting_;
                ++stats_.came;
                // A thread that waits has to be told of what this one releases.
                if (awaiting_) to.await_room(epoch_);
                for (const published_sample& old : history_) put(to, old, false);
                to.tell_greeted();
            } catch (const error& wrong) {
                drop(session, wrong.error_number());
            }
        }
    }

    void drop(std::map<session_tag, publish_session>::iterator session, int why) {
        if (session->second.ready())
            ++stats_.gone;
        else
            --greeting_;
        if (why == EPROTO || why == EPROTONOSUPPORT) ++stats_.broken;
        sessions_.erase(session);
        // What it held may be what somebody waits for, and there is a place for another.
        wake_waiting();
        if (full_) listen_again();
    }
    void listen_again() noexcept {
        epoll_event wanted{};
        wanted.events = EPOLLIN;
        wanted.data.u64 = listener_tag;
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.fd(), &wanted) == 0)
            full_ = false;
        else
            retry_ns_ = 1;  // at the next look
    }

    const fork_mark maker_;
    const publisher_options options_;
    chunk_pool pool_;  // mutex_, but for what chunks there are
    listener listener_;
    const owned_fd epoll_;
    const owned_fd kick_;  // wakes who waits for epoll_

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::map<session_tag, publish_session> sessions_;  // mutex_
    std::deque<published_sample> history_;             // mutex_
    session_tag next_tag_ = kick_tag + 1;              // mutex_
    std::uint32_t loans_ = 0;                          // mutex_
    std::size_t greeting_ = 0;                         // mutex_: sessions that are not ready
    std::uint64_t epoch_ = 0;                          // mutex_: of the latest wait for room
    bool awaiting_ = false;                            // mutex_: subscribers are asked to ring
    bool leading_ = false;                             // mutex_: a thread waits for descriptors
    bool full_ = false;                                // mutex_: the listener is not looked at
    std::uint64_t retry_ns_ = 0;                       // mutex_: when it is again, 0: not yet
    std::uint64_t next_look_ns_ = 0;                   // mutex_
    publisher_stats stats_;                            // mutex_
};

}  // namespace detail

// A chunk that is being filled. Dropped without having been published, it is as if it had
// never been.
class loan {
public:
    loan(loan&& other) noexcept
        : core_(std::move(other.core_)), chunk_(other.chunk_), bytes_(other.bytes_) {}
    loan& operator=(loan&& other) noexcept {
        std::swap(core_, other.core_);
        std::swap(chunk_, other.chunk_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~loan() {
        if (core_) core_->give_back(chunk_);
    }

    // At an address that is a multiple of 64; what was in there is still in there.
    std::span<std::byte> bytes() const noexcept { return bytes_; }
    std::size_t size() const noexcept { return bytes_.size(); }

    // How much of it is published, at most what was lent. Throws EMSGSIZE beyond.
    void resize(std::size_t bytes) {
        const std::size_t most = core_ ? core_->options().chunk_bytes : 0;
        if (bytes > most) {
            detail::throw_error(EMSGSIZE, "publish: " + std::to_string(bytes) +
                                              " bytes do not fit a chunk of " +
                                              std::to_string(most) + "; raise chunk_bytes");
        }
        if (core_) bytes_ = core_->bytes(chunk_).first(bytes);
    }

    // Makes an object in it and lets it be all that is published.
    template <class T, class... Arguments>
    requires(std::is_trivially_copyable_v<T>) T& emplace(Arguments&&... arguments) {
        static_assert(alignof(T) <= publish_chunk_alignment);
        resize(sizeof(T));
        return *::new (static_cast<void*>(bytes_.data())) T{std::forward<Arguments>(arguments)...};
    }

private:
    friend class publisher;
    loan(std::shared_ptr<detail::publisher_core> core, std::uint32_t chunk)
        : core_(std::move(core)), chunk_(chunk), bytes_(core_->bytes(chunk)) {}

    std::shared_ptr<detail::publisher_core> core_;  // null: published, or moved away
    std::uint32_t chunk_;
    std::span<std::byte> bytes_;
};

class publisher {
public:
    // Listens at once. Throws what door::listen() and memory's constructor throw, and
    // EINVAL for options out of range.
    publisher(door& at, const std::string& name, const publisher_options& options = {})
        : core_(std::make_shared<detail::publisher_core>(at, name, options)) {}
    publisher(publisher&&) noexcept = default;
    publisher& operator=(publisher&& other) noexcept {
        std::swap(core_, other.core_);
        return *this;
    }
    ~publisher() {
        if (core_ == nullptr || !core_->is_copy()) return;
        core_->leave_to_parent();
        static_cast<void>(new (std::nothrow)
                              std::shared_ptr<detail::publisher_core>(std::move(core_)));
    }

    // A chunk to fill. Waits where there is none (see above); throws ETIMEDOUT, and ENOBUFS
    // beyond max_loans.
    loan lend(deadline until = {}) {
        std::optional<loan> lent = lent_by(until.ns());
        if (!lent) {
            detail::throw_error(ETIMEDOUT,
                                "publish: the deadline passed while subscribers held all chunks; "
                                "give it more, or let them hold fewer");
        }
        return std::move(*lent);
    }
    // Nothing where there is none. Never blocks.
    [[nodiscard]] std::optional<loan> try_lend() { return lent_by(0); }

    // Publishes a loan of this publisher to all who have subscribed, and returns its
    // number: 1, 2, 3... Waits only with slow_subscriber::block. Throws ETIMEDOUT, and EINVAL
    // for what is no loan of this publisher; then `what` is still the caller's.
    std::uint64_t publish(loan&& what, deadline until = {}) {
        const std::uint64_t sequence = published_by(what, until.ns());
        if (sequence == 0) {
            detail::throw_error(ETIMEDOUT,
                                "publish: the deadline passed while a subscriber's queue was "
                                "full");
        }
        return sequence;
    }
    // 0 where it would have to wait. Never blocks.
    [[nodiscard]] std::uint64_t try_publish(loan&& what) { return published_by(what, 0); }

    // Publishes a copy.
    std::uint64_t publish(const bytes_view& bytes, deadline until = {}) {
        loan copy = lend(until);
        copy.resize(bytes.size());
        if (bytes.size() != 0) std::memcpy(copy.bytes().data(), bytes.bytes().data(), bytes.size());
        return publish(std::move(copy), until);
    }

    // Lets subscribers in and forgets those who have gone. Never blocks.
    void poll() { core_->poll(); }
    // Readable while poll() has something to do. Stays the publisher's.
    int fd() const noexcept { return core_->fd(); }

    std::size_t subscribers() const { return core_->subscribers(); }
    // Who they are, as the kernel captured it.
    std::vector<struct ipcdoor_peer_info> peers() const { return core_->peers(); }
    publisher_stats stats() const { return core_->stats(); }
    std::uint32_t chunks() const noexcept { return core_->chunks(); }

private:
    std::optional<loan> lent_by(std::uint64_t deadline_ns) {
        const std::uint32_t chunk = core_->lend(deadline_ns);
        if (chunk == detail::chunk_pool::none) return std::nullopt;
        return loan(core_, chunk);
    }
    std::uint64_t published_by(loan& what, std::uint64_t deadline_ns) {
        if (what.core_ != core_) {
            detail::throw_error(EINVAL,
                                "publish: this is no loan of this publisher; lend() gives one, "
                                "once");
        }
        const std::uint64_t sequence = core_->publish(what.chunk_, what.bytes_.size(), deadline_ns);
        if (sequence != 0) what.core_.reset();
        return sequence;
    }

    std::shared_ptr<detail::publisher_core> core_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_PUBLISH_HPP
