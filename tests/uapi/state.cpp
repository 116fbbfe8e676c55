// SPDX-License-Identifier: MIT
// The STATE pages: counters, and the stamps of each source on the ringer's own
// CPU and on another one.
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/threads.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

ipcdoor_stamps read_stamps(const volatile ipcdoor_slot_state& slot) {
    for (;;) {
        const std::uint64_t before = slot.stamps.sequence;
        std::atomic_thread_fence(std::memory_order_acquire);
        ipcdoor_stamps copy{};
        copy.sequence = before;
        copy.ring_ns = slot.stamps.ring_ns;
        copy.handler_ns = slot.stamps.handler_ns;
        copy.wake_ns = slot.stamps.wake_ns;
        copy.ring_cpu = slot.stamps.ring_cpu;
        copy.handler_cpu = slot.stamps.handler_cpu;
        copy.flags = slot.stamps.flags;
        copy.source = slot.stamps.source;
        std::atomic_thread_fence(std::memory_order_acquire);
        if (before % 2 == 0 && before == slot.stamps.sequence) return copy;
    }
}

// A thread on a CPU of its own that takes vector 1 until vector 2 rings.
class receiver {
public:
    receiver(const endpoint& on, unsigned cpu)
        : thread_([this, &on, cpu] {
              run_on_cpu(cpu);
              seated_ = true;
              for (;;) {
                  const auto got = wait_long(on, bit(1) | bit(2));
                  if (got.error != 0) failed_ = true;
                  if (got.error != 0 || (got.fired & bit(2)) != 0) return;
                  taken_ += got.count;
              }
          }) {
        // Moving it to that CPU may look like sleep.
        while (!seated_) std::this_thread::yield();
    }
    void wait_asleep() const { thread_.wait_asleep(); }
    std::uint64_t taken() const { return taken_; }
    bool failed() const { return failed_; }

private:
    std::atomic<bool> seated_{false};
    std::atomic<std::uint64_t> taken_{0};
    std::atomic<bool> failed_{false};
    blocking_thread thread_;  // the last, since it uses the others
};

void check_deliveries(std::uint32_t source, unsigned ring_cpu, unsigned wait_cpu) {
    INFO("source " << source << ", CPU " << ring_cpu << " rings CPU " << wait_cpu);
    const auto door = open_door();
    auto args = create_args();
    args.source = source;
    args.flags = IPCDOOR_CREATE_STAMPS;
    const auto [a, b] = attached_pair(door, args);
    REQUIRE(a.info.source == source);
    const auto state = map_state(a);
    const auto& slot = slot_state(state, 1);
    REQUIRE(run_on_cpu(ring_cpu));
    constexpr std::uint64_t rounds = 50;
    {
        receiver other(b, wait_cpu);
        for (std::uint64_t i = 1; i <= rounds; ++i) {
            other.wait_asleep();
            const auto before = now_ns();
            const std::uint64_t sequence = slot.stamps.sequence;
            REQUIRE(ring(a, 1, 1, i) == 0);
            while (other.taken() < i && !other.failed()) ::sched_yield();
            REQUIRE_FALSE(other.failed());
            const auto stamps = read_stamps(slot);
            REQUIRE(stamps.sequence == sequence + 2);
            REQUIRE(stamps.source == source);
            REQUIRE(stamps.ring_ns >= before);
            REQUIRE(stamps.handler_ns >= stamps.ring_ns);
            REQUIRE(stamps.wake_ns >= stamps.handler_ns);
            REQUIRE(now_ns() >= stamps.wake_ns);
            REQUIRE(stamps.ring_cpu == ring_cpu);
            REQUIRE((stamps.flags & IPCDOOR_STAMP_WOKE) != 0);
            // each single one, not most of them
            REQUIRE(((stamps.flags & IPCDOOR_STAMP_HARDIRQ) != 0) ==
                    (source != IPCDOOR_SOURCE_DIRECT));
            if (source == IPCDOOR_SOURCE_IPI) REQUIRE(stamps.handler_cpu == wait_cpu);
            if (source == IPCDOOR_SOURCE_DIRECT || source == IPCDOOR_SOURCE_TIMER)
                REQUIRE(stamps.handler_cpu == ring_cpu);
        }
        CHECK(slot.rings == rounds);
        CHECK(slot.deliveries == rounds);
        CHECK(slot.interrupts == (source == IPCDOOR_SOURCE_DIRECT ? 0 : rounds));
        CHECK(slot.wakes == rounds);
        CHECK(slot.suppressed == 0);
        CHECK(slot.coalesced == 0);
        REQUIRE(ring(a, 1, 2) == 0);
    }
}

// Puts the calling thread back where it may run.
class affinity_guard {
public:
    affinity_guard() { ::sched_getaffinity(0, sizeof before_, &before_); }
    ~affinity_guard() { ::sched_setaffinity(0, sizeof before_, &before_); }

private:
    cpu_set_t before_;
};

// The source asked for by the environment, else every one that is present.
std::vector<std::uint32_t> sources_to_test() {
    const auto door = open_door();
    const auto asked = test_source();
    if (asked != IPCDOOR_SOURCE_AUTO) return {asked};
    std::vector<std::uint32_t> present;
    for (std::uint32_t source = 1; source < IPCDOOR_SOURCE_COUNT; ++source)
        if (((get_info(door).sources >> source) & 1) != 0) present.push_back(source);
    return present;
}

}  // namespace

TEST_CASE("every delivery on the ringer's own CPU is a hard interrupt of the source",
          "[uapi][state][source]") {
    const affinity_guard guard;
    for (const auto source : sources_to_test()) check_deliveries(source, 0, 0);
}

TEST_CASE("every delivery to another CPU is a hard interrupt of the source",
          "[uapi][state][source]") {
    if (cpu_count() < 2) {
        std::puts("skipped: one CPU only");
        return;
    }
    const affinity_guard guard;
    for (const auto source : sources_to_test()) {
        check_deliveries(source, 0, 1);
        check_deliveries(source, 1, 0);
    }
}

TEST_CASE("STATE describes the segment", "[uapi][state]") {
    const auto door = open_door();
    auto args = create_args("", 8192);
    args.slots = 256;
    const auto a = create(door, args);
    const auto state = map_state(a);
    const auto& head = state_of(state);
    CHECK(head.magic == IPCDOOR_STATE_MAGIC);
    CHECK(std::memcmp(const_cast<const std::uint64_t*>(
                          reinterpret_cast<const volatile std::uint64_t*>(&head.magic)),
                      "IPCDOOR1", 8) == 0);
    CHECK(head.slots == 256);
    CHECK(head.slot_state_offset >= sizeof(ipcdoor_state));
    CHECK(head.slot_state_offset % 8 == 0);
    CHECK(head.slot_state_bytes >= sizeof(ipcdoor_slot_state));
    CHECK(head.slot_state_offset + std::uint64_t{256} * head.slot_state_bytes <=
          a.info.state_bytes);
    CHECK(head.seals == 0);
    CHECK(head.data_bytes == 8192);
    CHECK(slot_state(state, 0).state == IPCDOOR_SLOT_ALIVE);
    CHECK(slot_state(state, 255).state == IPCDOOR_SLOT_EMPTY);
    CHECK(slot_state(state, 255).generation == 0);
}

TEST_CASE("rings that find nobody are suppressed, and counted", "[uapi][state]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    const auto state = map_state(a);
    const auto& slot = slot_state(state, 1);
    for (int i = 0; i < 5; ++i) REQUIRE(ring(a, 1, 8) == 0);
    CHECK(slot.rings == 5);
    CHECK(slot.rung[8] == 5);
    CHECK(slot.suppressed == 5);
    CHECK(slot.deliveries == 0);
    CHECK(slot.interrupts == 0);
    CHECK(slot.wakes == 0);
    CHECK(slot_state(state, 0).rung[8] == 0);
    // a bound eventfd listens
    const unique_fd event(::eventfd(0, EFD_CLOEXEC));
    ipcdoor_bind_eventfd bind{};
    bind.fd = event.get();
    bind.mask = bit(8);
    REQUIRE(call(b.fd, IPCDOOR_IOC_BIND_EVENTFD, &bind) == 0);
    REQUIRE(ring(a, 1, 8) == 0);
    CHECK(poll_now(event.get(), POLLIN, 60'000) == POLLIN);
    CHECK(slot.suppressed == 5);
    CHECK(slot.deliveries == 1);
    CHECK(slot.stamps.sequence == 0);  // not asked for
}

TEST_CASE("waits and timeouts are counted", "[uapi][state]") {
    const auto door = open_door();
    const auto a = create(door);
    const auto state = map_state(a);
    const auto& slot = slot_state(state, 0);
    CHECK(take(a, bit(1)).error == -ETIMEDOUT);
    CHECK(slot.waits == 0);  // it did not sleep
    CHECK(slot.timeouts == 1);
    CHECK(wait(a, bit(1), deadline_in(std::chrono::milliseconds(5))).error == -ETIMEDOUT);
    CHECK(slot.waits == 1);
    CHECK(slot.timeouts == 2);
    CHECK(slot.spurious == 0);
}
