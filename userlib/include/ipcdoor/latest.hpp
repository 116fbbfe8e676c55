// SPDX-License-Identifier: MIT
//
// A latest value: one process writes it, any number of others read it, and nobody waits for
// anybody. Values that no reader came for are gone; what is read is always one whole value.
//
//     struct position { double x, y; };
//     ipcdoor::latest_writer<position> out(door, "position");      // here
//     out.write({1.5, 2.5});
//
//     ipcdoor::latest_reader<position> in(door, "position");       // there
//     auto seen = in.read();                                       // seen.value, seen.sequence
//     while (auto next = in.wait_newer(seen.sequence)) ...         // sleeps on the doorbell
//
// T is trivially copyable. latest_bytes_writer and latest_bytes_reader carry any bytes up to a
// size. Both ends have to name the same type (type_hash.hpp), or the same number in
// latest_options::type.
//
// The value lies in the DATA of a named segment that the writer makes, four times: a write
// fills the next copy and then says which is the latest. So a writer that dies amid a
// write leaves the one before it whole, and a reader fails only where three more values were
// written while it copied one, and then begins again. Readers attach read-only and need the
// name's read bit alone: who may write DATA is the mode's business, latest_options::mode,
// of which 0644 lets others read.
//
// Writing makes no system call but for readers that sleep, and once in 10 ms one to see who has
// come. Reading a new value makes none.
//
// A writer's end. The last value stays readable as long as anybody is attached; then
// wait_newer() throws EPIPE. A new writer of the same name goes on where the old one was, with
// the readers that are there: sequence numbers only grow. Where all have left, the name is free;
// a writer of another type has to wait for that.
//
// Event loops. fd() of a reader is readable while there may be something newer:
// read_if_newer() until it returns nothing. has_writer() says whether more may come.
//
// Threads: a writer, and a reader, is for one thread at a time.
//
// Errors, as ipcdoor::error: ENODATA nothing was written yet; EAGAIN the writer is so fast, or
// hostile, that no value stood still; EPIPE there is no writer and nothing newer;
// ETIMEDOUT; EPROTOTYPE another type; EPROTO and EPROTONOSUPPORT as everywhere; EBUSY another
// writer lives; EMSGSIZE more bytes than the cell has; ENOENT no such name; ENOSPC all places
// are taken.
#ifndef IPCDOOR_LATEST_HPP
#define IPCDOOR_LATEST_HPP

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor.h>

#include <ipcdoor/bytes.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/owner_tag.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/latest_layout.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/type_hash.hpp>

namespace ipcdoor {

struct latest_options {
    std::uint32_t readers = 15;  // at a time, at most 255
    std::uint32_t mode = 0600;   // reading needs the read bit, writing both
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
    std::uint64_t type = 0;  // what both ends have to agree on; 0: type_hash<T>()
};

template <class T>
struct latest_value {
    T value{};
    std::uint64_t sequence = 0;  // 1, 2, 3, ... of this name
};

namespace detail {

// Words of shared memory from and to bytes. With each store a release and each load an
// acquire no fence is needed: a reader that sees one word of a later write sees as well, when it
// looks at the copy's sequence again, that this write had begun (Boehm, "Can seqlocks
// get along with programming language memory models?", MSPC 2012, without the fences,
// which ThreadSanitizer does not know).
inline void store_words(shared_u64* to, const std::byte* from, std::size_t bytes) noexcept {
    const auto store = [&](std::size_t at, std::size_t count) {
        std::uint64_t word = 0;
        std::memcpy(&word, from + at, count);
        to[at / 8].store(word, std::memory_order_release);
        IPCDOOR_STEP("latest.write:word");
    };
    std::size_t at = 0;
#pragma GCC unroll 8
    for (; at + 8 <= bytes; at += 8) store(at, 8);
    if (at != bytes) store(at, bytes - at);
}
inline void load_words(std::byte* to, const shared_u64* from, std::size_t bytes) noexcept {
    const auto load = [&](std::size_t at, std::size_t count) {
        const std::uint64_t word = from[at / 8].load(std::memory_order_acquire);
        std::memcpy(to + at, &word, count);
    };
    std::size_t at = 0;
#pragma GCC unroll 8
    for (; at + 8 <= bytes; at += 8) load(at, 8);
    if (at != bytes) load(at, bytes - at);
}

// What both ends know of a cell.
struct latest_shape {
    std::uint64_t type = 0;
    std::uint64_t value_bytes = 0;
    std::uint64_t align = 1;

    std::uint64_t copy_offset(std::uint64_t sequence) const noexcept {
        return latest_copy_offset(value_bytes, sequence % latest_copies);
    }
};

class latest_writer_core {
public:
    latest_writer_core(door& at, const std::string& name, const latest_shape& shape,
                       const latest_options& options, deadline until)
        : shape_(shape) {
        if (shape.value_bytes == 0 || shape.value_bytes > latest_max_bytes ||
            options.readers == 0 || options.readers > IPCDOOR_MAX_SLOTS - 1) {
            throw_error(EINVAL, "latest: a value has 1 byte to 1 GiB, and 1 to 255 readers");
        }
        const create_options wanted{.data_bytes = latest_data_bytes(shape.value_bytes),
                                    .slots = options.readers + 1,
                                    .source = options.source,
                                    .mode = options.mode};
        for (;;) {
            end_ = enter(at, name, wanted, until);
            look_at_data(name);
            if (become_writer()) break;
            // Who waits takes no place.
            end_.close();
            if (until.is_past())
                throw_error(EBUSY, "latest: '" + name + "' has a writer that lives");
            nap();
        }
        begin();
    }

    std::uint64_t write(const std::byte* bytes, std::size_t count) {
        if (count > shape_.value_bytes) {
            throw_error(EMSGSIZE, "latest: a value of " + std::to_string(count) +
                                      " bytes; the cell was made for " +
                                      std::to_string(shape_.value_bytes));
        }
        const std::uint64_t sequence = sequence_ + 1;
        std::byte* const place = data_ + shape_.copy_offset(sequence);
        latest_copy& copy = *reinterpret_cast<latest_copy*>(place);
        IPCDOOR_STEP("latest.write:begin");
        copy.sequence.store(2 * sequence - 1, std::memory_order_relaxed);
        IPCDOOR_STEP("latest.write:odd");
        copy.bytes.store(count, std::memory_order_release);
        IPCDOOR_STEP("latest.write:bytes");
        auto* const words = reinterpret_cast<shared_u64*>(place + latest_words_offset);
        store_words(words, bytes, count);
        copy.sequence.store(2 * sequence, std::memory_order_release);
        IPCDOOR_STEP("latest.write:even");
        header().latest.store(sequence, std::memory_order_seq_cst);
        sequence_ = sequence;
        IPCDOOR_STEP("latest.write:published");
        for (reader& each : readers_) wake(each);
        IPCDOOR_STEP("latest.write:rung");
        if (const std::uint64_t now = roughly_now(); now >= next_look_) {
            next_look_ = now + look_every_ns;
            if (end_.wait(all_vectors, std::chrono::seconds(0))) look();
        }
        return sequence;
    }

    std::uint64_t sequence() const noexcept { return sequence_; }
    endpoint& end() noexcept { return end_; }

private:
    static constexpr std::uint64_t look_every_ns = 10'000'000;
    // As of the last tick, a few milliseconds ago: a tenth of what the exact time costs.
    static std::uint64_t roughly_now() noexcept {
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return to_ns(now);
    }

    struct reader {
        std::uint32_t slot;
        std::uint32_t generation;
        const shared_u64* armed;
        std::uint64_t answered;
    };

    latest_header& header() const noexcept { return *reinterpret_cast<latest_header*>(data_); }

    static void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

    // A new segment, or the one that a dead writer left to its readers. There in slot 0, which
    // readers leave free, or where one of them sits there in any.
    static endpoint enter(door& at, const std::string& name, const create_options& wanted,
                          deadline until) {
        for (;;) {
            try {
                return at.create(name, wanted);
            } catch (const error& wrong) {
                if (wrong.error_number() != EEXIST) throw;
            }
            for (const std::uint32_t slot : {std::uint32_t{0}, std::uint32_t{IPCDOOR_ANY_SLOT}}) {
                try {
                    return at.attach(name, {.slot = slot});
                } catch (const error& wrong) {
                    const int what = wrong.error_number();
                    if (what == EBUSY) continue;
                    // The last one has just left; or all places are taken, as well as slot 0.
                    if ((what != ENOENT && what != EPIPE && what != ENOSPC) || until.is_past())
                        throw;
                    break;
                }
            }
            nap();
        }
    }

    void look_at_data(const std::string& name) {
        const auto data = end_.data();
        if (data.size() < latest_data_bytes(shape_.value_bytes)) {
            // Said by the header, where there is one.
            if (data.size() >= sizeof(latest_header))
                static_cast<void>(
                    verify_latest(*reinterpret_cast<const latest_header*>(data.data()), shape_.type,
                                  shape_.value_bytes, shape_.align));
            throw_error(EPROTO, "latest: '" + name + "' is a segment of another kind");
        }
        data_ = data.data();
    }

    // False: another writer lives.
    bool become_writer() {
        const auto verify = [this] {
            return verify_latest(header(), shape_.type, shape_.value_bytes, shape_.align);
        };
        static_cast<void>(verify());
        const auto self = end_.info();
        std::uint64_t known = header().writer.load(std::memory_order_seq_cst);
        if (known != 0 && owner_lives(end_.get(), self.slots, known)) return false;
        if (!header().writer.compare_exchange_strong(known, owner_tag(self.slot, self.generation)))
            return false;
        // As the one before has left it.
        is_made_ = verify();
        return true;
    }

    void begin() {
        latest_header& head = header();
        IPCDOOR_STEP("latest.begin:writer");
        if (!is_made_) {
            IPCDOOR_STEP("latest.create:begin");
            head.type.store(shape_.type, std::memory_order_release);
            head.value_bytes.store(shape_.value_bytes, std::memory_order_release);
            head.align.store(shape_.align, std::memory_order_release);
            head.version_min.store(latest_version_min, std::memory_order_release);
            head.version_max.store(latest_version_max, std::memory_order_release);
            IPCDOOR_STEP("latest.create:magic");
            head.magic.store(latest_magic, std::memory_order_release);
            IPCDOOR_STEP("latest.create:done");
        }
        // What a predecessor was writing was not said to be the latest, and is written anew.
        sequence_ = head.latest.load(std::memory_order_relaxed);
        if (sequence_ >= latest_max_sequence) {
            throw_error(EPROTO,
                        "latest: the number of the latest value cannot be; the writer before was "
                        "broken or hostile, and all readers have to leave this name");
        }
        // Those whom it knew are known no more, until they have been looked at.
        for (shared_u32& each : head.known) each.store(0, std::memory_order_seq_cst);
        IPCDOOR_STEP("latest.begin:forgotten");
        look();
        next_look_ = ipcdoor_now_ns() + look_every_ns;
        // Those who sleep look whether this is what they waited for.
        for (const reader& each : readers_) ring(each);
    }

    // Brings the list of readers up to date. A newcomer is told that it is known, and only then
    // looked at; it arms, and only then looks whether it is known. So it is seen to
    // be armed at the next write, or does not sleep for long.
    void look() {
        const auto self = end_.info();
        std::vector<reader> now;
        for (std::uint32_t slot = 0; slot < self.slots; ++slot) {
            if (slot == self.slot) continue;
            const auto state = end_.slot_state(slot);
            if (state.state != IPCDOOR_SLOT_ALIVE) continue;
            const auto found =
                std::find_if(readers_.begin(), readers_.end(), [&](const reader& each) {
                    return each.slot == slot && each.generation == state.generation;
                });
            if (found != readers_.end()) {
                now.push_back(*found);
                continue;
            }
            const auto memory = end_.memory(slot);
            // Replaced meanwhile: its joining is news that is still to come.
            if (end_.slot_state(slot).generation != state.generation) continue;
            now.push_back({slot, state.generation,
                           &reinterpret_cast<const latest_reader_slot*>(memory.data())->armed, 0});
        }
        readers_ = std::move(now);
        for (reader& each : readers_) {
            shared_u32& known = header().known[each.slot];
            if (known.load(std::memory_order_relaxed) == each.generation) continue;
            known.store(each.generation, std::memory_order_seq_cst);
            IPCDOOR_STEP("latest.look:known");
            wake(each);
        }
    }

    // The store of `latest` or `known` before this, and the reader's of `armed` before its look at
    // those, are sequentially consistent: one of the two sees the other.
    void wake(reader& each) {
        const std::uint64_t armed = each.armed->load(std::memory_order_seq_cst);
        if (armed == 0 || armed == each.answered) return;
        each.answered = armed;
        ring(each);
    }
    void ring(const reader& each) {
        // One that is dead or was replaced needs none.
        static_cast<void>(
            ipcdoor_ring(end_.get(), each.slot, each.generation, latest_vector, sequence_));
    }

    latest_shape shape_;
    endpoint end_;
    std::byte* data_ = nullptr;
    bool is_made_ = false;  // the header
    std::uint64_t sequence_ = 0;
    std::uint64_t next_look_ = 0;
    std::vector<reader> readers_;
};

class latest_reader_core {
public:
    latest_reader_core(door& at, const std::string& name, const latest_shape& shape, deadline until)
        : shape_(shape), end_(enter(at, name, until)) {
        const auto info = end_.info();
        slots_ = info.slots;
        slot_ = info.slot;
        generation_ = info.generation;
        const auto data = end_.data();
        if (data.size() < sizeof(latest_header))
            throw_error(EPROTO, "latest: '" + name + "' is a segment of another kind");
        data_ = data.data();
        data_bytes_ = data.size();
        armed_ = &reinterpret_cast<latest_reader_slot*>(end_.memory().data())->armed;
        static_cast<void>(is_there());
    }

    // The latest value's number, 0 before the first.
    std::uint64_t latest() {
        if (!is_there()) return 0;
        return header().latest.load(std::memory_order_acquire);
    }

    // Copies the latest value where its number is not `seen`, and returns the number; 0 where it
    // is, or there is none. `into` has room for the cell's longest; `bytes` is the value's length.
    std::uint64_t read(std::byte* into, std::size_t& bytes, std::uint64_t seen) {
        if (!is_there()) return 0;
        for (int attempt = 0; attempt < attempts; ++attempt) {
            const std::uint64_t sequence = header().latest.load(std::memory_order_acquire);
            if (sequence == seen || sequence == 0) return 0;
            if (sequence > latest_max_sequence)
                throw_error(EPROTO,
                            "latest: the number of the latest value cannot be; the writer "
                            "is broken or hostile");
            const std::byte* const place = data_ + shape_.copy_offset(sequence);
            const latest_copy& copy = *reinterpret_cast<const latest_copy*>(place);
            if (copy.sequence.load(std::memory_order_acquire) != 2 * sequence) continue;
            const std::uint64_t length = copy.bytes.load(std::memory_order_acquire);
            if (length > shape_.value_bytes) {
                if (copy.sequence.load(std::memory_order_acquire) != 2 * sequence) continue;
                throw_error(EPROTO,
                            "latest: a value longer than the cell; the writer is "
                            "broken or hostile");
            }
            load_words(into, reinterpret_cast<const shared_u64*>(place + latest_words_offset),
                       static_cast<std::size_t>(length));
            if (copy.sequence.load(std::memory_order_relaxed) != 2 * sequence) continue;
            bytes = static_cast<std::size_t>(length);
            return sequence;
        }
        throw_error(EAGAIN,
                    "latest: values are written faster than one can be read; try again, or "
                    "make the value smaller");
    }

    // Calls attempt(), which reads what is not `seen`, until it returns something; what it
    // returned last at the deadline.
    template <class Attempt>
    auto wait_for(std::uint64_t seen, deadline until, Attempt attempt) {
        for (bool waited = false;; waited = true) {
            auto got = attempt();
            if (got) return got;
            // Newer no more: a hostile writer's doing.
            if (waited && until.is_past()) return got;
            if (!wait_newer(seen, until)) return got;
        }
    }

    // Until a writer lives.
    void wait_writer(deadline until) {
        while (!writer_lives()) {
            if (until.is_past())
                throw_error(ETIMEDOUT, "latest: the deadline passed and no writer came");
            doze(until);
        }
    }

    bool writer_lives() {
        if (!is_there()) {
            // It may be about to write the header.
            return end_.slot_state(0).state == IPCDOOR_SLOT_ALIVE;
        }
        return owner_lives(end_.get(), slots_, header().writer.load(std::memory_order_seq_cst));
    }

    int fd() {
        if (!poll_) {
            owned_fd poll(::epoll_create1(EPOLL_CLOEXEC));
            owned_fd tick(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
            if (poll.get() < 0 || tick.get() < 0)
                throw_error(errno, "latest: no descriptor left for fd()");
            for (const int each : {end_.fd(), tick.get()}) {
                epoll_event readable{};
                readable.events = EPOLLIN;
                if (::epoll_ctl(poll.get(), EPOLL_CTL_ADD, each, &readable) != 0)
                    throw_error(errno, "latest: epoll_ctl failed");
            }
            poll_ = std::move(poll);
            tick_ = std::move(tick);
            set_tick(1);  // once, for a first look
        }
        return poll_.get();
    }
    // After a look that found nothing: makes fd() tell of what comes next. False: look again.
    bool settle(std::uint64_t seen) {
        if (!poll_) return true;
        static_cast<void>(end_.wait(all_vectors, std::chrono::seconds(0)));
        arm();
        set_tick(is_known() || !writer_lives() ? 0 : short_ns);
        return !is_newer(seen);
    }

    endpoint& end() noexcept { return end_; }

private:
    static constexpr int attempts = 100;
    static constexpr std::uint64_t short_ns = 5'000'000;
    static constexpr std::uint64_t mask = std::uint64_t{1} << latest_vector | lifecycle_vector;

    const latest_header& header() const noexcept {
        return *reinterpret_cast<const latest_header*>(data_);
    }

    // Any place but slot 0, for the next writer. Who was given that keeps it until it has another.
    static endpoint enter(door& at, const std::string& name, deadline until) {
        for (;;) {
            try {
                endpoint first = at.attach(name, {.read_only = true});
                if (first.slot() != 0) return first;
                return at.attach(name, {.read_only = true});
            } catch (const error& wrong) {
                const int what = wrong.error_number();
                if ((what != ENOENT && what != EPIPE) || until.is_past()) throw;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    // Whether the cell was made; once it was, it stays what it is.
    bool is_there() {
        if (there_) return true;
        if (!verify_latest(header(), shape_.type, shape_.value_bytes, shape_.align)) return false;
        if (data_bytes_ < latest_data_bytes(shape_.value_bytes))
            throw_error(EPROTO, "latest: the cell is larger than its segment");
        return there_ = true;
    }

    bool is_newer(std::uint64_t seen) {
        if (!is_there()) return false;
        const std::uint64_t sequence = header().latest.load(std::memory_order_seq_cst);
        return sequence != seen && sequence != 0;
    }
    bool is_known() const noexcept {
        return header().known[slot_].load(std::memory_order_seq_cst) == generation_;
    }

    // Until there is a value whose number is not `seen`; false at the deadline.
    bool wait_newer(std::uint64_t seen, deadline until) {
        for (;;) {
            if (is_newer(seen)) return true;
            IPCDOOR_STEP("latest.wait:nothing");
            arm();
            IPCDOOR_STEP("latest.wait:armed");
            if (is_newer(seen)) break;
            IPCDOOR_STEP("latest.wait:still");
            if (!writer_lives()) {
                // What it wrote before it died.
                if (is_newer(seen)) break;
                disarm();
                throw_error(EPIPE, "latest: there is no writer, and nothing newer");
            }
            if (until.is_past()) {
                disarm();
                return false;
            }
            doze(until);
        }
        disarm();
        return true;
    }

    void arm() noexcept { armed_->store(++epoch_, std::memory_order_seq_cst); }
    void disarm() noexcept {
        if (!poll_) armed_->store(0, std::memory_order_relaxed);
    }

    // Until something is rung, somebody comes or goes. A writer that does not know this reader
    // yet will not ring, so the next look comes soon.
    void doze(deadline until) {
        std::uint64_t at = until.ns();
        IPCDOOR_STEP("latest.wait:known");
        if (!is_known()) at = std::min(at, ipcdoor_deadline_ns(short_ns));
        IPCDOOR_STEP("latest.wait:sleep");
        static_cast<void>(end_.wait(mask, deadline::at_ns(at)));
    }

    void set_tick(std::uint64_t ns) noexcept {
        itimerspec every{};
        every.it_value.tv_nsec = static_cast<long>(ns);
        // Also takes back that it has ticked.
        static_cast<void>(::timerfd_settime(tick_.get(), 0, &every, nullptr));
    }

    latest_shape shape_;
    endpoint end_;
    std::uint32_t slots_ = 0;
    std::uint32_t slot_ = 0;
    std::uint32_t generation_ = 0;
    const std::byte* data_ = nullptr;
    std::uint64_t data_bytes_ = 0;
    bool there_ = false;
    shared_u64* armed_ = nullptr;
    std::uint64_t epoch_ = 0;
    owned_fd poll_;
    owned_fd tick_;
};

}  // namespace detail

// ---- values of a type -------------------------------------------------------

template <class T>
class latest_writer {
    static_assert(std::is_trivially_copyable_v<T>, "its bytes are copied");

public:
    // Makes the name's segment, or goes on in the one that a dead writer left. Waits until the
    // deadline for a writer that lives to leave.
    latest_writer(door& at, const std::string& name, const latest_options& options = {},
                  deadline until = std::chrono::milliseconds(100))
        : core_(at, name,
                {options.type != 0 ? options.type : type_hash<T>(), sizeof(T), alignof(T)}, options,
                until) {}

    // Returns the value's number. Never blocks.
    std::uint64_t write(const T& value) {
        return core_.write(reinterpret_cast<const std::byte*>(&value), sizeof(T));
    }
    // Of the latest value, a predecessor's included; 0 before the first.
    std::uint64_t sequence() const noexcept { return core_.sequence(); }

private:
    detail::latest_writer_core core_;
};

template <class T>
class latest_reader {
    static_assert(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>);

public:
    // Waits until the deadline for somebody to make the name; ENOENT.
    latest_reader(door& at, const std::string& name, deadline until = std::chrono::seconds(0),
                  std::uint64_t type = 0)
        : core_(at, name, {type != 0 ? type : type_hash<T>(), sizeof(T), alignof(T)}, until) {}

    // The latest value, new or not. Never blocks. ENODATA before the first.
    latest_value<T> read() {
        latest_value<T> got;
        if (read_unless(0, got)) return got;
        detail::throw_error(ENODATA, "latest: nothing was written yet");
    }
    // The latest value where it is not that of number `seen`. Never blocks.
    std::optional<latest_value<T>> read_if_newer(std::uint64_t seen) {
        if (auto got = read_unless(seen)) return got;
        if (core_.settle(seen)) return std::nullopt;
        return read_unless(seen);
    }
    // The same, once there is one; nothing at the deadline.
    std::optional<latest_value<T>> wait_newer(std::uint64_t seen, deadline until = {}) {
        return core_.wait_for(seen, until, [&] { return read_unless(seen); });
    }
    // Returns once a writer lives, a new one for example; throws ETIMEDOUT.
    void wait_writer(deadline until = {}) { core_.wait_writer(until); }
    bool has_writer() { return core_.writer_lives(); }

    int fd() { return core_.fd(); }

private:
    std::optional<latest_value<T>> read_unless(std::uint64_t seen) {
        std::optional<latest_value<T>> got(std::in_place);
        if (!read_unless(seen, *got)) got.reset();
        return got;
    }
    bool read_unless(std::uint64_t seen, latest_value<T>& into) {
        std::size_t length = 0;
        into.sequence = core_.read(reinterpret_cast<std::byte*>(&into.value), length, seen);
        if (into.sequence != 0 && length != sizeof(T))
            detail::throw_error(EPROTO,
                                "latest: a value of the wrong length; the writer is "
                                "broken or hostile");
        return into.sequence != 0;
    }

    detail::latest_reader_core core_;
};

// ---- bytes ------------------------------------------------------------------

class latest_bytes_writer {
public:
    latest_bytes_writer(door& at, const std::string& name, std::size_t max_bytes,
                        const latest_options& options = {},
                        deadline until = std::chrono::milliseconds(100))
        : core_(at, name, {options.type, max_bytes, 1}, options, until) {}

    std::uint64_t write(const bytes_view& value) {
        return core_.write(value.bytes().data(), value.size());
    }
    std::uint64_t sequence() const noexcept { return core_.sequence(); }

private:
    detail::latest_writer_core core_;
};

class latest_bytes_reader {
public:
    // `max_bytes` as the writer's.
    latest_bytes_reader(door& at, const std::string& name, std::size_t max_bytes,
                        deadline until = std::chrono::seconds(0), std::uint64_t type = 0)
        : max_bytes_(max_bytes), core_(at, name, {type, max_bytes, 1}, until) {}

    // As latest_reader's; the value is `into`, whose memory is used again.
    std::uint64_t read(std::vector<std::byte>& into) {
        if (const auto sequence = read_unless(into, 0)) return sequence;
        detail::throw_error(ENODATA, "latest: nothing was written yet");
    }
    // 0: there is none.
    std::uint64_t read_if_newer(std::vector<std::byte>& into, std::uint64_t seen) {
        if (const auto sequence = read_unless(into, seen)) return sequence;
        return core_.settle(seen) ? 0 : read_unless(into, seen);
    }
    // 0: the deadline passed.
    std::uint64_t wait_newer(std::vector<std::byte>& into, std::uint64_t seen,
                             deadline until = {}) {
        return core_.wait_for(seen, until, [&] { return read_unless(into, seen); });
    }
    void wait_writer(deadline until = {}) { core_.wait_writer(until); }
    bool has_writer() { return core_.writer_lives(); }
    int fd() { return core_.fd(); }

private:
    std::uint64_t read_unless(std::vector<std::byte>& into, std::uint64_t seen) {
        into.resize(max_bytes_);
        std::size_t length = 0;
        const std::uint64_t sequence = core_.read(into.data(), length, seen);
        into.resize(sequence == 0 ? 0 : length);
        return sequence;
    }

    std::size_t max_bytes_;
    detail::latest_reader_core core_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_LATEST_HPP
