// SPDX-License-Identifier: MIT
//
// Owns: what is known of where and why ipcdoor's methods are slower. Every reason was measured, and
// a comment says how; what was not is left without one.
#include <initializer_list>
#include <string_view>

#include "irqbench/compare/model.hpp"
#include "irqbench/compare/transport.hpp"

namespace irqbench::compare {

namespace {

// Counted with strace -c on doorbells, calls and messages: one each of ppoll, sendto, epoll_pwait2
// and recvfrom for every one way whose receiver slept; write and read with eventfd.
constexpr const char* soft_calls =
    "soft makes four system calls where the receiver sleeps (ppoll: is the peer alive, send; "
    "epoll_wait, recv), the kernel's method two";
// The same count: as many ppoll as rings, whoever sleeps.
constexpr const char* soft_rings = "every ring on soft asks by ppoll whether the peer is alive";
// With rings of 2 MiB a stream's round trip of 1 MiB goes from half as fast as the kernel's to as
// fast.
constexpr const char* soft_halves =
    "longer than the 256 KiB between the sides, so both sleep in the middle of it, and on soft "
    "each such sleep takes four system calls";
// 1 MiB less 1 KiB, whose ring has half the size, took 410 and 440 us where 1 MiB took 1380 and
// 720, in the same runs; with nothing else on the machine the two are closer.
constexpr const char* large_ring =
    "the ring has room for two such messages, rounded up to a power of two, of which a busy "
    "machine's caches keep little; in place it is faster";
// Hundreds of minor faults a call, and half the time without them (MALLOC_TRIM_THRESHOLD_ and
// MALLOC_MMAP_THRESHOLD_ so large that nothing is given back).
constexpr const char* new_results =
    "each result is decoded into new memory: allocated, faulted in, cleared and copied to";
// Context switches: the ringer is preempted by up to every ring, by a fifth of them with eventfd;
// with --source direct the two are alike, in doorbells, pulses and shared memory.
constexpr const char* one_by_one =
    "on one CPU a ring's interrupt mostly lets the receiver preempt the ringer, so each ring is "
    "taken by itself; with --source direct it is as with eventfd";

bool one_of(const std::string& name, std::initializer_list<std::string_view> names) {
    for (const std::string_view n : names)
        if (name == n) return true;
    return false;
}

}  // namespace

std::string known_reason(const contest& c, const match& m, bool throughput,
                         const compare_parameters& with) {
    constexpr std::size_t small = 16384;
    if (c.method == "rpc" && m.bytes > small) return new_results;
    if (c.method == "message" && m.bytes > queue_bytes && !throughput) return large_ring;
    const bool slept = !throughput || c.calls;
    if (with.backend == "soft") {
        if (one_of(c.method, {"pipe", "stream"}) && m.bytes > queue_bytes && slept)
            return soft_halves;
        if (slept && c.method != "signal" && m.bytes <= small) return soft_calls;
        if (!slept && (c.events || c.method == "memory")) return soft_rings;
        if (c.method == "memory") return soft_calls;
        if (c.method == "signal") return soft_rings;
        return "";
    }
    if ((c.events || c.method == "memory") && throughput && with.ringer_cpu == with.waiter_cpu &&
        with.source != "direct")
        return one_by_one;
    return "";
}

}  // namespace irqbench::compare
