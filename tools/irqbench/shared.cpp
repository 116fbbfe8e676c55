// SPDX-License-Identifier: MIT
#include "irqbench/shared.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

#include "common/throw_errno.hpp"
#include "irqbench/clock.hpp"

namespace irqbench {

namespace {

long futex(const std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
           const timespec* timeout) {
    return syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

}  // namespace

bool wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value,
                std::uint64_t timeout_ns) {
    const std::uint64_t deadline = now_ns() + timeout_ns;
    while (word.load() == value) {
        const std::uint64_t now = now_ns();
        if (now >= deadline) return false;
        const std::uint64_t left = deadline - now;
        const timespec t{static_cast<time_t>(left / 1'000'000'000U),
                         static_cast<long>(left % 1'000'000'000U)};
        futex(word, FUTEX_WAIT, value, &t);
    }
    return true;
}

void wake_all(const std::atomic<std::uint32_t>& word) {
    futex(word, FUTEX_WAKE, INT32_MAX, nullptr);
}

void* map_shared(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) common::throw_errno("mmap of shared memory");
    return memory;
}

void unmap_shared(void* memory, std::size_t bytes) { munmap(memory, bytes); }

bool rendezvous::meet(bool ok, std::uint64_t timeout_ns) {
    const std::uint32_t round = round_.load();
    if (!ok) refused_.store(1);
    if (arrived_.fetch_add(1) == 0) {
        if (!wait_while(round_, round, timeout_ns)) return false;
        return verdict_.load() != 0;
    }
    // The last to come clears up for the next meeting before it lets the other go on.
    const bool both = refused_.exchange(0) == 0;
    arrived_.store(0);
    verdict_.store(both ? 1 : 0);
    round_.store(round + 1);
    wake_all(round_);
    return both;
}

}  // namespace irqbench
