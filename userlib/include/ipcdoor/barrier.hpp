// SPDX-License-Identifier: MIT
//
// barrier: a number of parties, threads of any processes, wait for each other, phase after
// phase.
//
//     ipcdoor::barrier start(door, "start", {.parties = 4});
//     for (;;) {
//         work();
//         start.arrive_and_wait();
//     }
//
// A party that dies breaks the phase: those who wait, and those who come later, get EPIPE
// until somebody calls reset(), after which as many parties as before are awaited; another
// process may take the place of the dead one. A process counts as a party's from the time
// that it opens the barrier until it destroys it in order. A deadline that passes breaks
// the phase as well, because who has arrived cannot be taken back.
//
// Who dies right after it has arrived has done its part: the phase ends well if the others
// arrive before any of them is told.
//
// Threads: any number may use one at once; only destroying it must be alone. A fork()ed
// child may only destroy it, and opens its own. One object for each place and endpoint.
//
// Errors, as ipcdoor::error: EPIPE the phase is broken, ETIMEDOUT and is broken now, EPERM
// in a fork()ed child, EPROTO what is there is malformed; and those of opening
// (semaphore.hpp).
#ifndef IPCDOOR_BARRIER_HPP
#define IPCDOOR_BARRIER_HPP

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

struct barrier_options {
    std::uint32_t parties = 2;  // 1 to 65,536
    opening how = opening::open_or_create;
    std::uint32_t mode = 0600;   // of the name: using it takes reading and writing
    std::uint32_t members = 32;  // processes that may have it open at once, 2 to 256
    std::uint32_t source = IPCDOOR_SOURCE_AUTO;
};

class barrier {
public:
    // The bytes that a placed one takes in DATA.
    static constexpr std::uint64_t bytes(std::uint32_t parties) noexcept {
        return sizeof(barrier_layout) + std::uint64_t{8} * parties;
    }

    barrier(door& at, const std::string& name, const barrier_options& options = {})
        : object_(kind(), at, name, common(options), bytes(options.parties), filler{options}),
          shared_(*reinterpret_cast<barrier_layout*>(object_.base())),
          places_(reinterpret_cast<shared_u64*>(object_.base() + sizeof(barrier_layout))),
          parties_(checked_parties()),
          line_(object_, shared_.line) {
        join();
    }
    barrier(endpoint& end, const place& where, const barrier_options& options = {})
        : object_(kind(), end, where, common(options).how, bytes(options.parties), filler{options}),
          shared_(*reinterpret_cast<barrier_layout*>(object_.base())),
          places_(reinterpret_cast<shared_u64*>(object_.base() + sizeof(barrier_layout))),
          parties_(checked_parties()),
          line_(object_, shared_.line) {
        join();
    }
    barrier(const barrier&) = delete;
    barrier& operator=(const barrier&) = delete;
    ~barrier() {
        if (!object_.is_mine()) return;
        std::uint32_t own = object_.generation();
        shared_.member[object_.slot()].compare_exchange_strong(own, 0);
        IPCDOOR_STEP("close:left");
    }

    // Returns when all parties of this phase have arrived; true to one of them, as
    // PTHREAD_BARRIER_SERIAL_THREAD is told.
    bool arrive_and_wait(deadline until = {}) {
        object_.check();
        std::uint64_t seen = 0;
        const std::uint32_t place = arrive(seen);
        IPCDOOR_STEP("arrive:placed");
        if (all_there(phase_of(seen)))
            finish(seen);
        else if (!await(seen, until.ns()))
            give_up(seen);
        if (!ended_well(seen)) broken();
        return place == parties_ - 1;
    }

    bool is_broken() const {
        object_.check();
        return (word() & barrier_broken) != 0;
    }

    // Begins anew after the barrier was broken; otherwise it does nothing. Who still waits
    // in the broken phase gets EPIPE.
    void reset() {
        object_.check();
        std::uint64_t seen = word();
        if ((seen & barrier_broken) == 0) return;
        forget_the_dead();
        const std::uint32_t epoch = epoch_of(seen);
        // How the epoch ended, for those who have not looked yet; never older than before.
        shared_u64& note = shared_.ended[epoch % barrier_epochs];
        const std::uint64_t ended = barrier_word(epoch, phase_of(seen));
        std::uint64_t noted = note.load(std::memory_order_relaxed);
        while (noted < ended && !note.compare_exchange_weak(noted, ended)) {
        }
        IPCDOOR_STEP("reset:noted");
        if (shared_.word.compare_exchange_strong(seen,
                                                 barrier_word(epoch + 1, phase_of(seen) + 1))) {
            IPCDOOR_STEP("reset:done");
            line_.ring_all(line_.take_all());
        }
    }

    std::uint32_t parties() const noexcept { return parties_; }
    // Grows with each phase that ended well and each reset.
    std::uint32_t phase() const {
        object_.check();
        return phase_of(word());
    }

private:
    // As often may a phase end between a look at it and the arrival.
    static constexpr unsigned most_tries = 10'000;

    static const detail::object_kind& kind() noexcept {
        static constexpr detail::object_kind one{"barrier", barrier_magic, sizeof(barrier_layout)};
        return one;
    }
    static detail::object_options common(const barrier_options& options) {
        if (options.parties == 0 || options.parties > barrier_max_parties) {
            detail::throw_error(EINVAL, "barrier: " + std::to_string(options.parties) +
                                            " parties: 1 to 65536 are possible");
        }
        return {options.how, options.mode, options.members, options.source};
    }
    struct filler {
        const barrier_options& options;
        void operator()(sync_header& header, std::byte* base) const noexcept {
            header.parameter[0].store(options.parties, std::memory_order_relaxed);
            // Places of zeros are those of phase 0.
            reinterpret_cast<barrier_layout*>(base)->word.store(barrier_word(0, 1),
                                                                std::memory_order_relaxed);
        }
    };

    static std::uint32_t phase_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word);
    }
    static std::uint32_t epoch_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word >> 32) & 0x7fffffff;
    }
    std::uint64_t word() const noexcept { return shared_.word.load(std::memory_order_seq_cst); }

    std::uint32_t checked_parties() const {
        const std::uint64_t found = object_.parameter(0);
        if (found == 0 || found > barrier_max_parties ||
            object_.bytes() < bytes(static_cast<std::uint32_t>(found)))
            object_.malformed("it says that it has " + std::to_string(found) + " parties");
        return static_cast<std::uint32_t>(found);
    }

    void join() noexcept {
        shared_.member[object_.slot()].store(object_.generation());
        IPCDOOR_STEP("open:joined");
    }

    [[noreturn]] static void broken() {
        detail::throw_error(EPIPE,
                            "barrier: a party has died or given up; reset() begins anew with as "
                            "many parties");
    }

    // Takes a place in the present phase, which `seen` is then. A place that still holds an
    // earlier phase can only be taken while its phase cannot have ended.
    std::uint32_t arrive(std::uint64_t& seen) {
        for (unsigned tries = 0; tries < most_tries; ++tries) {
            seen = word();
            if ((seen & barrier_broken) != 0) broken();
            const std::uint64_t mine =
                barrier_place(phase_of(seen), mutex_record(object_.slot(), object_.generation()));
            for (std::uint32_t i = 0; i < parties_; ++i) {
                std::uint64_t taken = places_[i].load(std::memory_order_seq_cst);
                if (taken >> 32 == phase_of(seen)) continue;
                if (places_[i].compare_exchange_strong(taken, mine)) return i;
            }
            // All have arrived, and nobody has said so yet; who should may have died.
            finish(seen);
        }
        object_.malformed("all its places are always taken");
    }

    bool all_there(std::uint32_t phase) const noexcept {
        for (std::uint32_t i = 0; i < parties_; ++i)
            if (places_[i].load(std::memory_order_seq_cst) >> 32 != phase) return false;
        return true;
    }

    // The phase ended well.
    void finish(std::uint64_t seen) noexcept {
        const std::uint64_t next = barrier_word(epoch_of(seen), phase_of(seen) + 1);
        if (!shared_.word.compare_exchange_strong(seen, next)) return;
        IPCDOOR_STEP("arrive:finished");
        line_.ring_all(line_.take_all());
    }

    bool break_phase(std::uint64_t seen) noexcept {
        if (!shared_.word.compare_exchange_strong(seen, seen | barrier_broken)) return false;
        IPCDOOR_STEP("arrive:broken");
        line_.ring_all(line_.take_all());
        return true;
    }

    bool await(std::uint64_t seen, std::uint64_t deadline_ns) {
        return line_.wait(
            [&] {
                if (word() != seen) return true;
                // The last one may have died before it said so.
                if (all_there(phase_of(seen))) {
                    finish(seen);
                    return true;
                }
                IPCDOOR_STEP("await:looking");
                // Each piece of news is looked at by one thread of the process for each phase;
                // the first look finds those who died before this process came.
                const std::uint64_t look =
                    barrier_place(phase_of(seen), static_cast<std::uint32_t>(line_.news() + 1));
                if (looked_at_.exchange(look) == look || !somebody_died(phase_of(seen)))
                    return false;
                break_phase(seen);
                return word() != seen;
            },
            deadline_ns);
    }

    void give_up(std::uint64_t seen) {
        if (!break_phase(seen)) return;
        detail::throw_error(ETIMEDOUT,
                            "barrier: the deadline passed before all had arrived; it is broken "
                            "now, reset() begins anew");
    }

    bool ended_well(std::uint64_t seen) const noexcept {
        const std::uint64_t now = word();
        if (epoch_of(now) == epoch_of(seen)) return phase_of(now) != phase_of(seen);
        // Where this is too long ago to be known, it counts as broken.
        const std::uint64_t note =
            shared_.ended[epoch_of(seen) % barrier_epochs].load(std::memory_order_acquire);
        return epoch_of(note) == epoch_of(seen) && phase_of(seen) < phase_of(note);
    }

    // ---- the dead ----

    bool is_dead(std::uint32_t slot, std::uint32_t record) const {
        if (slot == object_.slot()) return mutex_record(slot, object_.generation()) != record;
        const auto state = object_.state_of(slot);
        return state.state != IPCDOOR_SLOT_ALIVE || mutex_record(slot, state.generation) != record;
    }

    bool is_dead_member(std::uint32_t slot) const {
        const shared_u32& member = shared_.member[slot];
        const std::uint32_t generation = member.load(std::memory_order_seq_cst);
        if (generation == 0) return false;
        IPCDOOR_STEP("await:member");
        // Once more: it may have left in order before its end was seen.
        return is_dead(slot, mutex_record(slot, generation)) &&
               member.load(std::memory_order_seq_cst) == generation;
    }

    bool somebody_died(std::uint32_t phase) const {
        for (std::uint32_t slot = 0; slot < object_.slots(); ++slot)
            if (is_dead_member(slot)) return true;
        for (std::uint32_t i = 0; i < parties_; ++i) {
            const std::uint64_t taken = places_[i].load(std::memory_order_seq_cst);
            const auto record = static_cast<std::uint32_t>(taken);
            const std::uint32_t slot = record & 0xff;
            if (taken >> 32 != phase) continue;
            if (slot >= object_.slots() || is_dead(slot, record)) return true;
        }
        return false;
    }

    void forget_the_dead() {
        for (std::uint32_t slot = 0; slot < object_.slots(); ++slot) {
            std::uint32_t generation = shared_.member[slot].load(std::memory_order_seq_cst);
            if (generation == 0 || !is_dead(slot, mutex_record(slot, generation))) continue;
            shared_.member[slot].compare_exchange_strong(generation, 0);
            IPCDOOR_STEP("reset:forgotten");
        }
    }

    detail::shared_object object_;
    barrier_layout& shared_;
    shared_u64* const places_;
    const std::uint32_t parties_;
    std::atomic<std::uint64_t> looked_at_{0};  // {phase, news() + 1} of the last look at who lives
    detail::waiting_line line_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_BARRIER_HPP
