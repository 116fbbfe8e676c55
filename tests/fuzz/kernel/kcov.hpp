// SPDX-License-Identifier: MIT
// The kernel's coverage buffers (KCOV): one for each actor, opened by the fuzzer and
// enabled by whichever thread plays the actor. They are shared with its children, and
// free for the next one as soon as the thread has ended.
//
// Only code of the calling thread counts: what interrupts and kernel threads run does
// not, and of a thread's end only what it does itself (close, munmap, execve).
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_KCOV_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_KCOV_HPP

#include <array>
#include <cstdint>
#include <span>

#include "fuzz/kernel/program.hpp"

namespace kfuzz {

class kcov_buffers {
public:
    // Without coverage where `wanted` is false. Throws std::runtime_error where the
    // kernel has none.
    explicit kcov_buffers(bool wanted);
    kcov_buffers(const kcov_buffers&) = delete;
    kcov_buffers& operator=(const kcov_buffers&) = delete;
    ~kcov_buffers();

    // For the calling thread, until it ends or disables it. No allocation, no lock.
    void enable(unsigned actor) const;
    void disable(unsigned actor) const;

    // A zero among the addresses: what follows belongs to another operation. By the
    // thread that the buffer is enabled for.
    void mark(unsigned actor) const;

    void clear(unsigned actor) const;
    // Addresses of instrumented points in order, and zeros of mark().
    std::span<const std::uint64_t> trace(unsigned actor) const;

private:
    struct buffer {
        int fd = -1;
        std::uint64_t* words = nullptr;  // [0] is the count
    };
    std::array<buffer, actors> buffers_;
};

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_KCOV_HPP
