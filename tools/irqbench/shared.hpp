// SPDX-License-Identifier: MIT
//
// Owns: the memory that the coordinator and the two measured processes share, and the little
// synchronisation they need outside the measured path.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace irqbench {

// Futexes on shared memory. wait_while() returns once `word` differs from `value`, or false after
// `timeout_ns`.
bool wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value,
                std::uint64_t timeout_ns);
void wake_all(const std::atomic<std::uint32_t>& word);

// Anonymous memory that children inherit and share, zeroed and present before first use.
void* map_shared(std::size_t bytes);
void unmap_shared(void* memory, std::size_t bytes);

// One T in such memory. T is not destroyed: children still use it.
template <typename T>
class shared {
    static_assert(std::is_trivially_destructible_v<T>);

public:
    shared() : value_(new (map_shared(sizeof(T))) T()) {}
    ~shared() { unmap_shared(value_, sizeof(T)); }
    shared(const shared&) = delete;
    shared& operator=(const shared&) = delete;
    T* operator->() const { return value_; }
    T& operator*() const { return *value_; }

private:
    T* value_;
};

// Two parties meet here as often as they like.
class rendezvous {
public:
    // True if both came with `ok`. False if either did not, or the other is not here in time.
    bool meet(bool ok, std::uint64_t timeout_ns);

private:
    std::atomic<std::uint32_t> arrived_{0};
    std::atomic<std::uint32_t> refused_{0};
    std::atomic<std::uint32_t> round_{0};
    std::atomic<std::uint32_t> verdict_{0};
};

// What the kernel said about one ring.
struct kernel_stamps {
    std::uint64_t ring_ns;
    std::uint64_t handler_ns;
    std::uint64_t wake_ns;
    std::uint32_t handler_cpu;
    bool hard_interrupt;
    bool woke;
};

// One ring. The ringer writes before_ns and after_ns, the waiter the rest.
struct sample {
    std::uint64_t before_ns;  // ringer, just before its call
    std::uint64_t after_ns;   // ringer, just after it
    std::uint64_t user_ns;    // waiter, first thing after its call returned
    kernel_stamps kernel;
    bool stamped;
    bool slept;  // the waiter gave up its CPU before the ring came
};

}  // namespace irqbench
