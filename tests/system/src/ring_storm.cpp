// SPDX-License-Identifier: MIT
// usage: ring_storm [RINGS [--any-cpu]]
//
// Four threads on two CPUs (or wherever they are put, for CPUs that come and go) ring
// together RINGS times (ten million), each a vector
// of its own and by turns one that all four share. For each vector a waiter takes
// what it is given, and one more thread looks at everything with its own books.
// All counts must come out exact, and no waiter may be left asleep.
#include <unistd.h>

#include <array>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/process.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

constexpr unsigned ringers = 4;
constexpr unsigned shared_vector = ringers + 1;
constexpr unsigned vectors = ringers + 1;  // 1 .. shared_vector
// A waiter that hears nothing for so long, while rings are outstanding, is stuck.
constexpr std::chrono::milliseconds stuck_after{30'000};

struct tally {
    std::atomic<std::uint64_t> failures{0};
    std::array<std::atomic<std::uint64_t>, vectors + 1> taken{};
    std::array<std::uint64_t, IPCDOOR_VECTORS> observed{};
};

void fail(tally& all, const char* what, int error) {
    std::printf("%s: %d\n", what, error);
    ++all.failures;
}

void ring_all(const endpoint& from, unsigned index, bool pinned, std::uint64_t count, tally& all) {
    if (pinned && !run_on_cpu(index % 2))
        fail(all, "cannot run on CPU", static_cast<int>(index % 2));
    for (std::uint64_t i = 0; i < count; ++i) {
        const unsigned vector = i % 4 == 3 ? shared_vector : 1 + index;
        const int error = ring(from, 1, vector, i);
        if (error != 0) return fail(all, "RING", error);
    }
}

void take_all(const endpoint& on, unsigned vector, std::uint64_t expected, tally& all) {
    while (all.taken[vector] < expected) {
        const auto event = wait(on, bit(vector), deadline_in(stuck_after));
        if (event.error != 0) return fail(all, "WAIT that takes", event.error);
        all.taken[vector] += event.count;
    }
}

void observe_all(const endpoint& on, std::uint64_t expected, tally& all) {
    std::uint64_t seen = 0;
    while (seen < expected) {
        ipcdoor_wait args{};
        args.mask = ringable_mask;
        args.deadline_ns = deadline_in(stuck_after);
        args.seen = reinterpret_cast<std::uintptr_t>(all.observed.data());
        const int error = call(on.fd, IPCDOOR_IOC_WAIT, &args);
        if (error != 0) return fail(all, "WAIT with seen", error);
        seen += args.count;
    }
}

void check(bool exact, const std::string& what) {
    if (!exact) throw std::runtime_error(what);
}

void storm(std::uint64_t rings, bool pinned) {
    const auto door = open_door();
    const auto both = attached_pair(door);
    const auto state = map_state(both.a);
    const auto& slot = slot_state(state, 1);
    const std::uint64_t each = rings / ringers;
    const std::uint64_t shared_each = each / 4;
    const std::uint64_t own_each = each - shared_each;
    tally all;
    std::vector<std::thread> threads;
    const auto started = now_ns();
    for (unsigned v = 1; v <= ringers; ++v)
        threads.emplace_back([&, v] { take_all(both.b, v, own_each, all); });
    threads.emplace_back([&] { take_all(both.b, shared_vector, ringers * shared_each, all); });
    threads.emplace_back([&] { observe_all(both.b, ringers * each, all); });
    for (unsigned i = 0; i < ringers; ++i)
        threads.emplace_back([&, i] { ring_all(both.a, i, pinned, each, all); });
    for (auto& thread : threads) thread.join();
    const double seconds = static_cast<double>(now_ns() - started) / 1e9;

    check(all.failures == 0, std::to_string(all.failures.load()) + " calls failed");
    for (unsigned v = 1; v <= vectors; ++v) {
        const auto expected = v == shared_vector ? ringers * shared_each : own_each;
        const auto number = " of vector " + std::to_string(v);
        check(all.taken[v] == expected, "rings taken" + number);
        check(all.observed[v] == expected, "rings observed" + number);
        check(slot.rung[v] == expected, "rings in STATE" + number);
    }
    check(slot.rings == ringers * each, "all rings in STATE");
    check(slot.deliveries + slot.coalesced + slot.suppressed == slot.rings,
          "deliveries, coalesced and suppressed rings do not add up to all rings");
    check(take(both.b, ringable_mask).error == -ETIMEDOUT, "rings left over");
    std::printf("note: %" PRIu64 " rings by source %u in %.1f s: %" PRIu64 " deliveries, %" PRIu64
                " coalesced, %" PRIu64 " suppressed; all counts exact\n",
                static_cast<std::uint64_t>(slot.rings), both.a.info.source, seconds,
                static_cast<std::uint64_t>(slot.deliveries),
                static_cast<std::uint64_t>(slot.coalesced),
                static_cast<std::uint64_t>(slot.suppressed));
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t rings = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000'000;
    const bool any_cpu = argc == 3 && std::string_view(argv[2]) == "--any-cpu";
    if (rings < 16 || rings % 16 != 0 || argc > (any_cpu ? 3 : 2)) {
        std::puts("usage: ring_storm [RINGS [--any-cpu]], RINGS a multiple of 16");
        return 2;
    }
    if (!any_cpu && cpu_count() < 2) {
        std::puts("ring_storm needs two CPUs");
        return 77;
    }
    try {
        storm(rings, !any_cpu);
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
    return 0;
}
