// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_UNIT_SLOT_MEMORY_HPP
#define IPCDOOR_TESTS_UNIT_SLOT_MEMORY_HPP

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include <ipcdoor/ring_layout.hpp>

namespace ipcdoor::test {

struct free_memory {
    void operator()(void* memory) const { std::free(memory); }
};
using slot_memory = std::unique_ptr<void, free_memory>;

// A slot's memory, zeroed. Exactly as large as said, so that ASan sees the first byte beyond.
inline slot_memory make_slot(std::size_t bytes) {
    void* memory = nullptr;
    if (::posix_memalign(&memory, ring_line_bytes, bytes) != 0) throw std::bad_alloc();
    std::memset(memory, 0, bytes);
    return slot_memory(memory);
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UNIT_SLOT_MEMORY_HPP
