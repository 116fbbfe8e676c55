// SPDX-License-Identifier: MIT
// What the tests of the heap share.
#ifndef IPCDOOR_TESTS_LIB_HEAP_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_HEAP_SUPPORT_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include <ipcdoor/heap.hpp>

#include "lib/lib_support.hpp"

namespace ipcdoor::test {

inline constexpr std::uint64_t page = 4096;

inline create_options data_of(std::uint64_t bytes, std::uint64_t most = 0) {
    create_options wanted;
    wanted.data_bytes = bytes;
    wanted.max_data_bytes = most;
    wanted.slots = 8;
    wanted.source = source();
    return wanted;
}

// A segment, and heaps in it by further endpoints of this process.
struct store {
    explicit store(std::uint64_t bytes = 64 * page, std::uint64_t most = 0,
                   const heap_options& options = {})
        : name(unique_name()),
          at(test_door()),
          end(at.create(name, data_of(bytes, most))),
          mine(end, options) {}

    std::string name;
    door at;
    endpoint end;
    heap mine;
};

// In any process.
struct visitor {
    explicit visitor(const std::string& name, const heap_options& options = {})
        : at(test_door()), end(at.attach(name)), theirs(end, options) {}
    door at;
    endpoint end;
    heap theirs;
};

inline void fill(void* memory, std::size_t bytes, unsigned number) {
    std::memset(memory, static_cast<int>(number * 37 + 1), bytes);
}
inline bool holds(const void* memory, std::size_t bytes, unsigned number) {
    const auto* const all = static_cast<const unsigned char*>(memory);
    return std::all_of(all, all + bytes, [number](unsigned char byte) {
        return byte == static_cast<unsigned char>(number * 37 + 1);
    });
}

inline heap_header& header_of(endpoint& end) {
    return *reinterpret_cast<heap_header*>(end.data().data());
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_HEAP_SUPPORT_HPP
