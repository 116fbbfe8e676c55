// SPDX-License-Identifier: MIT
//
// A peer of a channel that says whatever a test wants it to.
#ifndef IPCDOOR_TESTS_LIB_PUPPET_HPP
#define IPCDOOR_TESTS_LIB_PUPPET_HPP

#include <cstdint>
#include <cstring>
#include <utility>

#include <ipcdoor/ipcdoor.hpp>

#include "support/catch.hpp"

namespace ipcdoor::test {

// The other end of a channel, played by hand, on its lane 0.
struct puppet {
    explicit puppet(endpoint from) : end(std::move(from)) {
        memory = ipcdoor_slot_memory(end.get(), end.slot());
        REQUIRE(memory != nullptr);
        slot_bytes = end.info().slot_bytes;
    }
    message_slot& header() { return *static_cast<message_slot*>(memory); }
    message_lane& slot() { return header().first; }
    std::byte* data() {
        return static_cast<std::byte*>(memory) + message_geometry_of(slot_bytes).offset[0];
    }
    void ring(std::uint32_t vector) { end.ring(1 - end.slot(), vector); }
    // A well-formed slot.
    void open(const message_greeting& greeting = {1 << 20}) {
        capacity = init_message_slot(memory, slot_bytes, greeting).capacity[0];
        ring(3);
    }
    // One record at the beginning of the data.
    void publish(std::uint64_t record, std::uint64_t tail, std::uint64_t id = 0,
                 std::uint64_t length = 0) {
        std::memcpy(data() + 8, &id, sizeof id);
        std::memcpy(data() + 16, &length, sizeof length);
        detail::header_word(data()) = record;
        slot().output.tail = tail;
        ring(1);
    }

    endpoint end;
    void* memory = nullptr;
    std::uint64_t slot_bytes = 0;
    std::uint64_t capacity = 0;
};

// The word that a record starts with.
constexpr std::uint64_t header(std::uint64_t bytes, std::uint16_t type, std::uint16_t flags = 0) {
    return bytes | std::uint64_t{type} << 32 | std::uint64_t{flags} << 48;
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_PUPPET_HPP
