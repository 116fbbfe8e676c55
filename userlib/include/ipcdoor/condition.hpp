// SPDX-License-Identifier: MIT
//
// condition: a condition variable between processes, for what a mutex protects.
//
//     ipcdoor::mutex lock(door, "queue.lock");
//     ipcdoor::condition filled(door, "queue.filled");
//     ipcdoor::mutex_guard held(lock);
//     while (empty()) filled.wait(held);
//
// Wake-ups are hints: whoever waits for something looks again. They come for nothing, too,
// when a process joins or dies, so that a death leaves nobody asleep: neither that of one
// who was notified and did not come to act, nor that of one who died while it notified. A
// wait() that throws notifies another one.
//
// All waiters of a condition use the same mutex. Who notifies need not hold it; the change
// that it tells of is made while holding it.
//
// Threads: any number may use one at once; only destroying it must be alone. A fork()ed
// child may only destroy it, and opens its own. One object for each place and endpoint.
//
// Errors, as ipcdoor::error: those of mutex::lock() and unlock(), which wait() does, EPERM
// where the guard does not hold the mutex, and those of opening (semaphore.hpp).
#ifndef IPCDOOR_CONDITION_HPP
#define IPCDOOR_CONDITION_HPP

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
#include <ipcdoor/mutex.hpp>
#include <ipcdoor/sync_layout.hpp>

namespace ipcdoor {

struct condition_options {
    opening how = opening::open_or_create;
    std::uint32_t mode = 0600;   // of the name: using it takes reading and writing
    std::uint32_t members = 32;  // processes that may have it open at once, 2 to 256
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

class condition {
public:
    // The bytes that a placed one takes in DATA.
    static constexpr std::uint64_t bytes() noexcept { return sizeof(condition_layout); }

    condition(door& at, const std::string& name, const condition_options& options = {})
        : object_(kind(), at, name, common(options), bytes(), filler{}),
          shared_(*reinterpret_cast<condition_layout*>(object_.base())),
          line_(object_, shared_.line) {}
    condition(endpoint& end, const place& where, const condition_options& options = {})
        : object_(kind(), end, where, options.how, bytes(), filler{}),
          shared_(*reinterpret_cast<condition_layout*>(object_.base())),
          line_(object_, shared_.line) {}
    condition(const condition&) = delete;
    condition& operator=(const condition&) = delete;

    // Unlocks the mutex, waits until it is notified, and locks it again; also before it
    // throws. False: the deadline passed first. Ask held.owner_died() as after locking.
    // The deadline is the wait's: locking again has none, as with POSIX, so whoever keeps the
    // mutex keeps this call.
    bool wait(mutex_guard& held, deadline until = {}) {
        object_.check();
        if (!held.owns())
            detail::throw_error(EPERM, "condition: the guard does not hold the mutex");
        const std::uint64_t before = shared_.notified.load(std::memory_order_seq_cst);
        const std::uint64_t news = line_.news();
        bool notified = false;
        hand_on if_thrown{*this};
        try {
            // The bit is set before the mutex is unlocked: who changes something after that
            // and notifies finds it. One that has taken the bit has done so after `before`
            // was read, and counts after that: so whoever is rung finds another count.
            notified = line_.wait(
                [&] {
                    return shared_.notified.load(std::memory_order_seq_cst) != before ||
                           line_.news() != news;
                },
                until.ns(), [&] { held.unlock(); });
        } catch (...) {
            if (!held.owns()) held.lock();
            throw;
        }
        held.lock();
        if_thrown.of = nullptr;
        return notified;
    }

    // Until pred(), which is asked while the mutex is held, is true; false where it is not at
    // the deadline.
    template <class Predicate>
    bool wait(mutex_guard& held, Predicate pred, deadline until) {
        while (!pred())
            if (!wait(held, until)) return pred();
        return true;
    }

    // Wakes at least one of those who wait. No system call where nobody does.
    void notify_one() {
        object_.check();
        tell_one();
    }

    void notify_all() {
        object_.check();
        const auto all = line_.take_all();
        shared_.notified.fetch_add(1);
        IPCDOOR_STEP("notify_all:counted");
        line_.ring_all(all);
        if (line_.anybody()) line_.ring_all(line_.take_all());
    }

private:
    // Whoever throws may have been the one that was notified, and does not come to act.
    struct hand_on {
        condition* of;
        explicit hand_on(condition& whose) noexcept : of(&whose) {}
        hand_on(const hand_on&) = delete;
        hand_on& operator=(const hand_on&) = delete;
        ~hand_on() {
            if (of != nullptr) of->tell_one();
        }
    };

    void tell_one() noexcept {
        for (unsigned tries = 0; tries < 2 * IPCDOOR_MAX_SLOTS; ++tries) {
            const auto slot = line_.take_one();
            IPCDOOR_STEP("notify:taken");
            shared_.notified.fetch_add(1);
            IPCDOOR_STEP("notify:counted");
            if (!slot) break;
            if (line_.ring(*slot)) return;
        }
        // Nobody; or a process whose leader left while another of its threads was about to
        // become the next one, and had looked at the count before it grew.
        if (line_.anybody()) line_.ring_all(line_.take_all());
    }

    static const detail::object_kind& kind() noexcept {
        static constexpr detail::object_kind one{"condition", condition_magic,
                                                 sizeof(condition_layout)};
        return one;
    }
    static detail::object_options common(const condition_options& options) noexcept {
        return {options.how, options.mode, options.members, options.source};
    }
    struct filler {
        void operator()(sync_header&, std::byte*) const noexcept {}
    };

    detail::shared_object object_;
    condition_layout& shared_;
    detail::waiting_line line_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_CONDITION_HPP
