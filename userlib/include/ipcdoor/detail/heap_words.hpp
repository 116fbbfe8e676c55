// SPDX-License-Identifier: MIT
//
// The words of a heap, which its processes share.
#ifndef IPCDOOR_DETAIL_HEAP_WORDS_HPP
#define IPCDOOR_DETAIL_HEAP_WORDS_HPP

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>

#include <ipcdoor/error.hpp>
#include <ipcdoor/heap_layout.hpp>

namespace ipcdoor::detail {

// Every store to shared memory is a release: whoever goes on after a death sees them
// in the order of the program.
inline void heap_set(shared_u64& word, std::uint64_t value) noexcept {
    word.store(value, std::memory_order_release);
}
inline void heap_add(shared_u64& word, std::uint64_t count) noexcept {
    heap_set(word, word.load(std::memory_order_relaxed) + count);
}

[[noreturn]] inline void heap_damaged(const std::string& what) {
    throw_error(EPROTO, "heap: " + what +
                            ": somebody who may write DATA has damaged it; all have to leave this "
                            "segment");
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_HEAP_WORDS_HPP
