// SPDX-License-Identifier: MIT
//
// Semaphores between processes that need not know each other. A semaphore is found by its
// name, in a segment of its own, or lies where its user places it in DATA of an endpoint.
//
// semaphore: a count. Who posts need not be who acquires, as with sem_post(3).
//
//     ipcdoor::semaphore jobs(door, "jobs", {.initial = 0});
//     jobs.post();                                // one process
//     jobs.acquire(std::chrono::seconds(1));      // another one
//
// resource_semaphore: units that have owners. What a process holds when it dies is free
// again, without anybody who looks after it.
//
//     ipcdoor::resource_semaphore licences(door, "licences", {.units = 3});
//     licences.acquire();
//     ...
//     licences.release();
//
// Uncontended calls make no system call. Who waits sleeps at the doorbell; a death rings
// everybody's, so no unit and no wake-up stays with a dead process. docs/semaphores.md
// compares them with POSIX semaphores.
//
// Threads: any number may use one at once; only destroying it must be alone. A fork()ed
// child may only destroy it, and opens its own. One object for each place and endpoint.
//
// Errors, as ipcdoor::error: ETIMEDOUT, the deadline passed and no unit was there; EPERM
// in a fork()ed child; EPROTO what is there is malformed, EPROTONOSUPPORT of another
// version. Waiting goes on after signal handlers ran. Opening throws what door::create()
// and attach() throw, EEXIST with create_only, ENOENT with open_only, EINVAL, EACCES
// without the right to write, ENOSPC where all members are there.
#ifndef IPCDOOR_SEMAPHORE_HPP
#define IPCDOOR_SEMAPHORE_HPP

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/shared_object.hpp>
#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/detail/waiting_line.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/sync_layout.hpp>

namespace ipcdoor {

// Of who creates it; who opens it later gets what is there.
struct semaphore_options {
    std::uint32_t initial = 0;
    std::uint32_t maximum = semaphore_max_value;
    opening how = opening::open_or_create;
    std::uint32_t mode = 0600;   // of the name: using it takes reading and writing
    std::uint32_t members = 32;  // processes that may have it open at once, 2 to 256
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

class semaphore {
public:
    // The bytes that a placed one takes in DATA.
    static constexpr std::uint64_t bytes() noexcept { return sizeof(semaphore_layout); }

    semaphore(door& at, const std::string& name, const semaphore_options& options = {})
        : object_(kind(), at, name, common(options), bytes(), filler{options}),
          shared_(*reinterpret_cast<semaphore_layout*>(object_.base())),
          maximum_(checked_maximum()),
          line_(object_, shared_.line) {}
    semaphore(endpoint& end, const place& where, const semaphore_options& options = {})
        : object_(kind(), end, where, common(options).how, bytes(), filler{options}),
          shared_(*reinterpret_cast<semaphore_layout*>(object_.base())),
          maximum_(checked_maximum()),
          line_(object_, shared_.line) {}
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;

    // One more unit; wakes one of those that wait. Never blocks. Throws EOVERFLOW where
    // the count is at its maximum.
    void post() {
        object_.check();
        std::uint32_t seen = shared_.count.load(std::memory_order_relaxed);
        do {
            if (seen >= maximum_) [[unlikely]]
                overflow();
        } while (!shared_.count.compare_exchange_weak(seen, seen + 1));
        IPCDOOR_STEP("post:counted");
        if (line_.anybody()) [[unlikely]]
            line_.wake_one();
    }

    // Takes a unit, waiting for it until the deadline. A unit that is there is taken even
    // when the deadline has passed, as by sem_timedwait(3).
    void acquire(deadline until = {}) {
        object_.check();
        if (take()) [[likely]]
            return;
        const rest left{*this};
        if (!line_.wait([this] { return take(); }, until.ns()))
            detail::throw_error(ETIMEDOUT, "semaphore: the deadline passed, no unit came");
    }

    // False where there is none. Never blocks.
    [[nodiscard]] bool try_acquire() {
        object_.check();
        if (take()) [[likely]]
            return true;
        if (!line_.polled()) return false;
        const rest left{*this};
        return line_.look([this] { return take(); });
    }

    // The count now; another moment it is another.
    std::uint32_t value() const {
        object_.check();
        return shared_.count.load(std::memory_order_seq_cst);
    }
    std::uint32_t maximum() const noexcept { return maximum_; }

    // For poll and epoll: readable when there may be a unit; try_acquire() until false.
    // Stays the semaphore's, or the endpoint's where it is placed. Who has asked for it is
    // woken when nobody sleeps, so let it look, or destroy the semaphore.
    int fd() {
        object_.check();
        const int fd = line_.fd();
        if (value() != 0) line_.remind();
        return fd;
    }

private:
    static const detail::object_kind& kind() noexcept {
        static constexpr detail::object_kind one{"semaphore", semaphore_magic,
                                                 sizeof(semaphore_layout)};
        return one;
    }
    static detail::object_options common(const semaphore_options& options) {
        if (options.maximum > semaphore_max_value || options.initial > options.maximum) {
            detail::throw_error(EINVAL, "semaphore: " + std::to_string(options.initial) +
                                            " units of at most " + std::to_string(options.maximum) +
                                            ": the maximum is 2147483647 or less, and not "
                                            "below the first count");
        }
        return {options.how, options.mode, options.members, options.source};
    }
    struct filler {
        const semaphore_options& options;
        void operator()(sync_header& header, std::byte* base) const noexcept {
            header.parameter[0].store(options.maximum, std::memory_order_relaxed);
            reinterpret_cast<semaphore_layout*>(base)->count.store(options.initial,
                                                                   std::memory_order_relaxed);
        }
    };

    std::uint32_t checked_maximum() const {
        const std::uint64_t found = object_.parameter(0);
        if (found > semaphore_max_value) object_.malformed("its maximum is wrong");
        return static_cast<std::uint32_t>(found);
    }

    [[noreturn]] void overflow() const {
        detail::throw_error(
            EOVERFLOW, "semaphore: the count is at its maximum of " + std::to_string(maximum_));
    }

    bool take() noexcept {
        std::uint32_t seen = shared_.count.load(std::memory_order_seq_cst);
        while (seen != 0)
            if (shared_.count.compare_exchange_weak(seen, seen - 1)) {
                IPCDOOR_STEP("acquire:taken");
                return true;
            }
        return false;
    }

    // Whoever leaves, in whatever way, may have been rung for a unit that it did not need:
    // it passes the wake-up on while units are left.
    struct rest {
        semaphore& of;
        ~rest() {
            if (of.shared_.count.load(std::memory_order_seq_cst) != 0 && of.line_.anybody())
                of.line_.wake_one();
        }
    };

    detail::shared_object object_;
    semaphore_layout& shared_;
    const std::uint32_t maximum_;
    detail::waiting_line line_;
};

struct resource_semaphore_options {
    std::uint32_t units = 1;  // all free at first; 1 to 65,536
    opening how = opening::open_or_create;
    std::uint32_t mode = 0600;   // of the name: using it takes reading and writing
    std::uint32_t members = 32;  // processes that may have it open at once, 2 to 256
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

// The owner of a unit is the process's attachment: any of its threads may release what
// another one has acquired. Destroying the object releases what it held.
class resource_semaphore {
public:
    // The bytes that a placed one takes in DATA.
    static constexpr std::uint64_t bytes(std::uint32_t units) noexcept {
        return sizeof(resource_layout) + std::uint64_t{8} * units;
    }

    resource_semaphore(door& at, const std::string& name,
                       const resource_semaphore_options& options = {})
        : object_(kind(), at, name, common(options), bytes(options.units), filler{options}),
          units_(reinterpret_cast<shared_u64*>(object_.base() + sizeof(resource_layout))),
          count_(checked_count()),
          line_(object_, reinterpret_cast<resource_layout*>(object_.base())->line) {}
    resource_semaphore(endpoint& end, const place& where,
                       const resource_semaphore_options& options = {})
        : object_(kind(), end, where, common(options).how, bytes(options.units), filler{options}),
          units_(reinterpret_cast<shared_u64*>(object_.base() + sizeof(resource_layout))),
          count_(checked_count()),
          line_(object_, reinterpret_cast<resource_layout*>(object_.base())->line) {}
    resource_semaphore(const resource_semaphore&) = delete;
    resource_semaphore& operator=(const resource_semaphore&) = delete;
    ~resource_semaphore() {
        if (!object_.is_mine()) return;
        for (std::uint32_t i = 0; i < count_ && give_back(); ++i) line_.wake_one();
    }

    // Takes a unit, waiting for it until the deadline. A unit that is there is taken even
    // when the deadline has passed.
    void acquire(deadline until = {}) {
        object_.check();
        if (take_free()) [[likely]]
            return;
        const rest left{*this};
        if (!line_.wait([this] { return take(); }, until.ns()))
            detail::throw_error(ETIMEDOUT, "resource_semaphore: the deadline passed, all " +
                                               std::to_string(count_) + " units are held");
    }

    // False where there is none, not even a dead process's. Never blocks.
    [[nodiscard]] bool try_acquire() {
        object_.check();
        if (take_free()) [[likely]]
            return true;
        const rest left{*this};
        return line_.polled() ? line_.look([this] { return take(); }) : take();
    }

    // Gives one unit back; wakes one of those that wait. Throws EPERM where this process
    // holds none.
    void release() {
        object_.check();
        if (!give_back())
            detail::throw_error(EPERM, "resource_semaphore: this process holds no unit");
        if (line_.anybody()) [[unlikely]]
            line_.wake_one();
    }

    // Units that this process holds.
    std::uint32_t held() const {
        object_.check();
        return number_of(object_.tag());
    }
    // Units that are free, those of dead processes included.
    std::uint32_t value() {
        object_.check();
        if (set_free() != 0 && line_.anybody()) line_.wake_one();
        return number_of(0);
    }
    std::uint32_t units() const noexcept { return count_; }

    // As semaphore::fd().
    int fd() {
        object_.check();
        const int fd = line_.fd();
        if (value() != 0) line_.remind();
        return fd;
    }

private:
    static const detail::object_kind& kind() noexcept {
        static constexpr detail::object_kind one{"resource_semaphore", resource_semaphore_magic,
                                                 sizeof(resource_layout)};
        return one;
    }
    static detail::object_options common(const resource_semaphore_options& options) {
        if (options.units == 0 || options.units > resource_max_units) {
            detail::throw_error(EINVAL, "resource_semaphore: " + std::to_string(options.units) +
                                            " units: 1 to 65536 are possible");
        }
        return {options.how, options.mode, options.members, options.source};
    }
    struct filler {
        const resource_semaphore_options& options;
        void operator()(sync_header& header, std::byte*) const noexcept {
            header.parameter[0].store(options.units, std::memory_order_relaxed);
        }
    };

    std::uint32_t checked_count() const {
        const std::uint64_t found = object_.parameter(0);
        if (found == 0 || found > resource_max_units ||
            object_.bytes() < bytes(static_cast<std::uint32_t>(found)))
            object_.malformed("it says that it has " + std::to_string(found) + " units");
        return static_cast<std::uint32_t>(found);
    }

    std::uint32_t number_of(std::uint64_t tag) const noexcept {
        std::uint32_t found = 0;
        for (std::uint32_t i = 0; i < count_; ++i)
            if (units_[i].load(std::memory_order_seq_cst) == tag) ++found;
        return found;
    }

    bool exchange(std::uint32_t unit, std::uint64_t from, std::uint64_t to) noexcept {
        return units_[unit].load(std::memory_order_seq_cst) == from &&
               units_[unit].compare_exchange_strong(from, to);
    }

    bool take_free() noexcept {
        std::uint32_t unit = hint_.load(std::memory_order_relaxed);
        for (std::uint32_t i = 0; i < count_; ++i, unit = unit + 1 == count_ ? 0 : unit + 1) {
            if (!exchange(unit, 0, object_.tag())) continue;
            IPCDOOR_STEP("acquire:owned");
            hint_.store(unit, std::memory_order_relaxed);
            return true;
        }
        return false;
    }

    bool take() { return take_free() || (set_free() != 0 && take_free()); }

    // The one that was taken last is mostly the first one looked at.
    bool give_back() noexcept {
        std::uint32_t unit = hint_.load(std::memory_order_relaxed);
        for (std::uint32_t i = 0; i < count_; ++i, unit = unit == 0 ? count_ - 1 : unit - 1) {
            if (!exchange(unit, object_.tag(), 0)) continue;
            IPCDOOR_STEP("release:given");
            hint_.store(unit, std::memory_order_relaxed);
            return true;
        }
        return false;
    }

    // The units of those who are dead, or never were: how many. An attachment never comes
    // back, so what was dead once may be set free at any later time.
    std::uint32_t set_free() {
        std::uint32_t freed = 0;
        std::array<std::uint64_t, IPCDOOR_MAX_SLOTS> alive{};  // by slot, the latest found so
        for (std::uint32_t i = 0; i < count_; ++i) {
            const std::uint64_t owner = units_[i].load(std::memory_order_seq_cst);
            if (owner == 0 || owner == object_.tag()) continue;
            const std::uint32_t slot = static_cast<std::uint32_t>(owner) - 1;
            if (slot < alive.size()) {
                if (alive[slot] == owner) continue;
                if (object_.lives(owner)) {
                    alive[slot] = owner;
                    continue;
                }
            }
            if (!exchange(i, owner, 0)) continue;
            IPCDOOR_STEP("recover:freed");
            ++freed;
        }
        return freed;
    }

    // As semaphore's.
    struct rest {
        resource_semaphore& of;
        ~rest() {
            if (of.line_.anybody() && of.number_of(0) != 0) of.line_.wake_one();
        }
    };

    detail::shared_object object_;
    shared_u64* const units_;
    const std::uint32_t count_;
    std::atomic<std::uint32_t> hint_{0};
    detail::waiting_line line_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_SEMAPHORE_HPP
