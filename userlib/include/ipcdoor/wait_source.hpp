// SPDX-License-Identifier: MIT
//
// What a wait_set (wait_set.hpp) waits for. A source is anything with a descriptor and an
// attempt that never blocks:
//
//     struct waitable {
//         int fd();         // asked once; readable while an attempt may succeed
//         bool try_take();  // takes what is there; false: nothing. After that the descriptor
//                           // tells of more
//     };
//
// and, where it has them, any of
//
//     void give_back();              // undoes the try_take() that was the last to succeed
//     void confirm();                // it will not be undone
//     bool ready();                  // whether try_take() would succeed; takes nothing
//     std::uint32_t events();        // of epoll; without it EPOLLIN. Asked once
//     static constexpr bool any_only = true;  // wait_all() refuses it
//     static constexpr bool level_triggered = true;  // see below
//
// level_triggered says that the descriptor is readable whenever try_take() would succeed, also
// where no attempt in vain came before, as an eventfd is. The set then asks the kernel after a
// success, and not the source. A library object's descriptor tells of the next only once an
// attempt has found nothing; so those have it not.
//
// Below is one for each of the library's objects. Each borrows the object and the variable
// that it fills, and both have to stay for as long as the source is in a set. The variable
// is the set's until the source was reported: look at it then, not before.
//
//   source            takes                                   in wait_all()
//   on_unit           a unit: try_acquire()                   gives back
//   on_eventfd        the eventfd's count                     gives back: adds it again
//   on_readable       nothing: bytes are there, or the end    gives back
//   on_writable       nothing: there is room for a byte       gives back
//   on_bytes          bytes, 0 at the end                     gives back
//   on_room           writes some bytes                       gives back
//   on_timer          the expirations so far                  is looked at
//   on_connection     a connection                            is looked at
//   on_message        a message of a channel                  is looked at
//   on_pulse          a pulse of a port                       is looked at
//   on_descriptor     nothing: poll(2)'s events               is looked at
//   on_hint           nothing: see there                      is looked at
//   on_event          vectors of an endpoint                  keeps
//   on_message        a delivery of a mailbox                 keeps
//   on_signal         a pulse of a signal_box                 keeps
//   on_any            what another wait_set reports           keeps
//   on_sent           sends a message                         refused: EOPNOTSUPP
//   of your own       what try_take() says                    by its members; without: keeps
//
// wait_all() says what gives back, is looked at, and keeps mean. What a source gives back
// others may have missed for a moment.
//
// Threads: a set makes one call at a time on one source. The objects' own rules hold for
// everybody else who uses them.
#ifndef IPCDOOR_WAIT_SOURCE_HPP
#define IPCDOOR_WAIT_SOURCE_HPP

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/signal.hpp>
#include <ipcdoor/signal_box.hpp>
#include <ipcdoor/stream.hpp>

namespace ipcdoor {

template <class Source>
concept waitable = requires(Source& source) {
    { source.fd() } -> std::convertible_to<int>;
    { source.try_take() } -> std::convertible_to<bool>;
};

namespace detail {

template <class Semaphore>
concept releases = requires(Semaphore& semaphore) {
    semaphore.release();
};
template <class Semaphore>
concept posts = requires(Semaphore& semaphore) {
    semaphore.post();
};

}  // namespace detail

// A counting semaphore, whoever wrote it; it gets a unit by release() or post().
template <class Semaphore>
concept semaphore_like = (detail::releases<Semaphore> ||
                          detail::posts<Semaphore>)&&requires(Semaphore& semaphore) {
    { semaphore.fd() } -> std::convertible_to<int>;
    { semaphore.try_acquire() } -> std::convertible_to<bool>;
};

namespace detail {

// poll(2)'s events of now, without waiting.
inline short events_of(int fd, short wanted) {
    pollfd one{fd, wanted, 0};
    while (::poll(&one, 1, 0) < 0)
        if (errno != EINTR)
            throw_error(errno, std::string("wait_set: poll: ") + std::strerror(errno));
    if ((one.revents & POLLNVAL) != 0)
        throw_error(EBADF, "wait_set: descriptor " + std::to_string(fd) +
                               " is not open; remove a source before you close what it is of");
    return one.revents;
}

// read(2) of the eight bytes that eventfd and timerfd count in. 0: nothing is there.
inline std::uint64_t take_count(int fd, const char* what) {
    for (;;) {
        std::uint64_t count = 0;
        if (::read(fd, &count, sizeof count) == static_cast<ssize_t>(sizeof count)) return count;
        if (errno == EAGAIN) return 0;
        if (errno != EINTR)
            throw_error(errno,
                        std::string("wait_set: read of ") + what + ": " + std::strerror(errno));
    }
}

}  // namespace detail

// ---- timers -----------------------------------------------------------------

// A timer: expires at a point of CLOCK_MONOTONIC, and from then on every `period`, if that
// is not zero. Any number of threads may use it at once.
class timer {
public:
    // Not set.
    timer() : fd_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
        if (!fd_)
            detail::throw_error(errno,
                                std::string("timer: timerfd_create: ") + std::strerror(errno));
    }
    explicit timer(deadline first, std::chrono::nanoseconds period = {}) : timer() {
        set(first, period);
    }

    // Forgets what has expired and was not taken. A time that is past expires at once,
    // `forever` never.
    void set(deadline first, std::chrono::nanoseconds period = {}) {
        if (period < period.zero()) detail::throw_error(EINVAL, "timer: the period is negative");
        // 0 would be "not set" to the kernel, and so would be a time beyond its reach.
        const std::uint64_t at = std::max<std::uint64_t>(first.ns(), 1);
        itimerspec wanted{};
        if (first.ns() < static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count())) {
            wanted.it_value = detail::to_timespec(at);
            wanted.it_interval = detail::to_timespec(static_cast<std::uint64_t>(period.count()));
        }
        if (::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &wanted, nullptr) != 0)
            detail::throw_error(errno,
                                std::string("timer: timerfd_settime: ") + std::strerror(errno));
    }
    void stop() { set(forever); }

    // How often it has expired since this was asked last; 0: not. Never blocks.
    std::uint64_t take() { return detail::take_count(fd_.get(), "a timer"); }

    // Readable while there is something to take. Stays the timer's.
    int fd() const noexcept { return fd_.get(); }

private:
    owned_fd fd_;
};

class on_timer {
public:
    static constexpr bool level_triggered = true;

    on_timer(timer& of, std::uint64_t& expirations) : of_(&of), into_(&expirations) {}
    int fd() const { return of_->fd(); }
    bool ready() const { return detail::events_of(fd(), POLLIN) != 0; }
    bool try_take() {
        const std::uint64_t count = of_->take();
        if (count != 0) *into_ = count;
        return count != 0;
    }

private:
    timer* of_;
    std::uint64_t* into_;
};

// ---- semaphores -------------------------------------------------------------

template <semaphore_like Semaphore>
class on_unit {
public:
    explicit on_unit(Semaphore& of) : of_(&of) {}
    int fd() const { return of_->fd(); }
    bool try_take() { return of_->try_acquire(); }
    void give_back() {
        if constexpr (detail::releases<Semaphore>)
            of_->release();
        else
            of_->post();
    }

private:
    Semaphore* of_;
};

// ---- descriptors ------------------------------------------------------------

// An eventfd's count: all of it, or 1 with EFD_SEMAPHORE. It has to be non-blocking
// (EINVAL): somebody else may read it first.
class on_eventfd {
public:
    static constexpr bool level_triggered = true;

    on_eventfd(int fd, std::uint64_t& count) : fd_(fd), into_(&count) {
        const int flags = ::fcntl(fd, F_GETFL);
        if (flags < 0)
            detail::throw_error(
                errno, "wait_set: eventfd " + std::to_string(fd) + ": " + std::strerror(errno));
        if ((flags & O_NONBLOCK) == 0)
            detail::throw_error(EINVAL, "wait_set: eventfd " + std::to_string(fd) +
                                            " is blocking, and might keep a thread that waits for "
                                            "others; make it with EFD_NONBLOCK");
    }
    int fd() const noexcept { return fd_; }
    bool try_take() {
        const std::uint64_t count = detail::take_count(fd_, "an eventfd");
        if (count != 0) *into_ = count;
        return count != 0;
    }
    void give_back() {
        while (::write(fd_, into_, sizeof *into_) != static_cast<ssize_t>(sizeof *into_))
            if (errno != EINTR)
                detail::throw_error(errno,
                                    std::string("wait_set: giving an eventfd's count back: ") +
                                        std::strerror(errno));
    }

private:
    int fd_;
    std::uint64_t* into_;
};

// Any descriptor of which poll(2) knows: which of `events` (POLLIN, POLLOUT, …) it has, and
// POLLERR and POLLHUP, which come unasked. Nothing is taken: it is reported again and again
// for as long as it is so. A regular file is EPERM.
class on_descriptor {
public:
    static constexpr bool level_triggered = true;

    on_descriptor(int fd, short events, short& revents)
        : fd_(fd), events_(events), into_(&revents) {}
    int fd() const noexcept { return fd_; }
    std::uint32_t events() const noexcept { return static_cast<std::uint16_t>(events_); }
    bool ready() const { return detail::events_of(fd_, events_) != 0; }
    bool try_take() {
        const short now = detail::events_of(fd_, events_);
        if (now != 0) *into_ = now;
        return now != 0;
    }

private:
    int fd_;
    short events_;
    short* into_;
};

// A hint, as epoll gives it: the object may have something, and nothing is taken. It is
// reported once at first, and then while its descriptor is readable; try the object until it
// has nothing, or the descriptor may not tell of the next.
class on_hint {
public:
    static constexpr bool level_triggered = true;

    template <class Object>
    requires requires(Object& object) {
        { object.fd() } -> std::convertible_to<int>;
    }
    explicit on_hint(Object& of) : fd_(of.fd()) {}
    explicit on_hint(int fd) : fd_(fd) {}
    int fd() const noexcept { return fd_; }
    bool ready() const { return first_ || detail::events_of(fd_, POLLIN) != 0; }
    bool try_take() {
        const bool is_ready = ready();
        first_ = false;
        return is_ready;
    }

private:
    int fd_;
    bool first_ = true;
};

// ---- doorbells, connections, pulses -----------------------------------------

// Vectors of `mask`, as of endpoint::wait(). Those of `dropped` are taken as well and
// forgotten, so that the descriptor tells of news only: by default that somebody joined or
// left, unless `mask` has it. Say 0 where somebody else waits for what is dropped. What
// neither has must not stay pending for long: the set looks again and again then, every
// 16 ms, and learns of its vectors so much later.
class on_event {
public:
    on_event(endpoint& of, std::uint64_t mask, event& into,
             std::uint64_t dropped = lifecycle_vector)
        : of_(&of), mask_(mask), dropped_(dropped & ~mask), into_(&into) {
        if (mask == 0) detail::throw_error(EINVAL, "wait_set: an empty mask of vectors");
    }
    int fd() const { return of_->fd(); }
    std::uint32_t events() const noexcept {
        // The module tells of lives apart.
        return ((mask_ | dropped_) & lifecycle_vector) != 0 ? EPOLLIN | EPOLLPRI : EPOLLIN;
    }
    bool try_take() {
        if (take()) return true;
        if (dropped_ == 0) return false;
        // The mask comes last: what rings before that leaves the descriptor readable.
        static_cast<void>(of_->wait(dropped_, std::chrono::seconds(0)));
        return take();
    }

private:
    bool take() {
        const std::optional<event> got = of_->wait(mask_, std::chrono::seconds(0));
        if (got) *into_ = *got;
        return got.has_value();
    }

    endpoint* of_;
    std::uint64_t mask_;
    std::uint64_t dropped_;
    event* into_;
};

// `into` is an endpoint of a listener, or an optional stream_socket of a stream_listener.
template <class Listener, class Into>
class on_connection {
public:
    on_connection(Listener& of, Into& into) : of_(&of), into_(&into) {}
    int fd() const { return of_->fd(); }
    bool ready() const { return detail::events_of(fd(), POLLIN) != 0; }
    bool try_take() {
        auto got = of_->try_accept();
        if (!got) return false;
        *into_ = std::move(*got);
        return true;
    }

private:
    Listener* of_;
    Into* into_;
};

// `of` is a port at `end`.
class on_pulse {
public:
    on_pulse(endpoint& end, pulse_port& of, pulse& into) : end_(&end), of_(&of), into_(&into) {}
    int fd() const { return end_->fd(); }
    bool ready() const { return of_->next_priority() >= 0; }
    bool try_take() {
        const std::optional<pulse> got = of_->try_receive();
        if (got) *into_ = *got;
        return got.has_value();
    }

private:
    endpoint* end_;
    pulse_port* of_;
    pulse* into_;
};

class on_signal {
public:
    on_signal(signal_box& of, received_signal& into) : of_(&of), into_(&into) {}
    int fd() const noexcept { return of_->fd(); }
    bool try_take() {
        const std::optional<received_signal> got = of_->try_receive();
        if (got) *into_ = *got;
        return got.has_value();
    }

private:
    signal_box* of_;
    received_signal* into_;
};

// ---- messages ---------------------------------------------------------------

// From a channel into a message, from a mailbox into a delivery.
template <class From, class Into>
class on_message;

template <>
class on_message<channel, message> {
public:
    on_message(channel& of, message& into) : of_(&of), into_(&into) {}
    int fd() const { return of_->fd(); }
    // Of what has arrived, another call's reply may be all: then try_take() has nothing.
    bool ready() const { return of_->next_priority() >= 0; }
    bool try_take() { return of_->try_receive(*into_); }

private:
    channel* of_;
    message* into_;
};

template <>
class on_message<mailbox, delivery> {
public:
    on_message(mailbox& of, delivery& into) : of_(&of), into_(&into) {}
    int fd() const noexcept { return of_->fd(); }
    bool try_take() { return of_->try_receive(*into_); }

private:
    mailbox* of_;
    delivery* into_;
};

on_message(channel&, message&)->on_message<channel, message>;
on_message(mailbox&, delivery&)->on_message<mailbox, delivery>;

// Sends once there is room. Each report is one message sent: take the source out, or change
// the bytes, which have to stay. They lie in one record. What comes from the peer meanwhile
// keeps the descriptor readable: have an on_message() of the channel in the set as well, or
// say that nobody waits for messages there (`sends_only`, see channel::take_rings()).
class on_sent {
public:
    static constexpr bool any_only = true;  // nobody can take a message back

    on_sent(channel& to, const bytes_view& bytes, const send_options& options = {},
            bool sends_only = false)
        : to_(&to), bytes_(bytes), options_(options), sends_only_(sends_only) {}
    int fd() const { return to_->fd(); }
    bool try_take() {
        if (to_->try_send(bytes_, options_)) return true;
        if (sends_only_) to_->take_rings();
        return false;
    }

private:
    channel* to_;
    bytes_view bytes_;
    send_options options_;
    bool sends_only_;
};

// ---- byte streams -----------------------------------------------------------
//
// While a wait_all() holds them, others who read, or write, wait for their turn.

// Bytes to read, or the end of the stream: pipe_reader, stream_socket.
template <class Reader>
class on_readable {
public:
    explicit on_readable(Reader& of) : of_(&of) {}
    int fd() const { return of_->fd(); }
    bool try_take() {
        const auto some = of_->try_peek();
        held_ = some && !some->empty();
        return some.has_value();
    }
    void give_back() { confirm(); }
    void confirm() {
        if (std::exchange(held_, false)) of_->consume(0);
    }

private:
    Reader* of_;
    bool held_ = false;
};

// Room to write a byte at least: pipe_writer, stream_socket.
template <class Writer>
class on_writable {
public:
    explicit on_writable(Writer& of) : of_(&of) {}
    int fd() const { return of_->fd(); }
    bool try_take() {
        held_ = of_->try_reserve(1).has_value();
        return held_;
    }
    void give_back() { confirm(); }
    void confirm() {
        if (std::exchange(held_, false)) of_->commit(0);
    }

private:
    Writer* of_;
    bool held_ = false;
};

// Reads some bytes, as try_read(), but no more than lie in one stretch; 0 is the end, and is
// reported again and again.
template <class Reader>
class on_bytes {
public:
    on_bytes(Reader& of, std::span<std::byte> into, std::size_t& bytes)
        : of_(&of), into_(into), bytes_(&bytes) {
        if (into.empty()) detail::throw_error(EINVAL, "wait_set: no memory to read into");
    }
    int fd() const { return of_->fd(); }
    bool try_take() {
        const auto some = of_->try_peek();
        if (!some) return false;
        held_ = !some->empty();
        *bytes_ = std::min(some->size(), into_.size());
        std::copy_n(some->begin(), *bytes_, into_.begin());
        return true;
    }
    void give_back() { end(0); }
    void confirm() { end(*bytes_); }

private:
    void end(std::size_t passed) {
        if (std::exchange(held_, false)) of_->consume(passed);
    }

    Reader* of_;
    std::span<std::byte> into_;
    std::size_t* bytes_;
    bool held_ = false;
};

// Writes some of the bytes, which have to stay: how many. As on_sent, each report is one
// write.
template <class Writer>
class on_room {
public:
    on_room(Writer& of, const bytes_view& from, std::size_t& bytes)
        : of_(&of), from_(from), bytes_(&bytes) {
        if (from.bytes().empty()) detail::throw_error(EINVAL, "wait_set: no bytes to write");
    }
    int fd() const { return of_->fd(); }
    bool try_take() {
        const std::span<const std::byte> from = from_.bytes();
        const auto room = of_->try_reserve(from.size());
        if (!room) return false;
        held_ = true;
        *bytes_ = std::min(room->size(), from.size());
        std::copy_n(from.begin(), *bytes_, room->begin());
        return true;
    }
    void give_back() { end(0); }
    void confirm() { end(*bytes_); }

private:
    void end(std::size_t written) {
        if (std::exchange(held_, false)) of_->commit(written);
    }

    Writer* of_;
    bytes_view from_;
    std::size_t* bytes_;
    bool held_ = false;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_WAIT_SOURCE_HPP
