// SPDX-License-Identifier: MIT
// Two slots in plain memory and the ring from the first to the second.
#ifndef IPCDOOR_TESTS_UNIT_RING_PAIR_HPP
#define IPCDOOR_TESTS_UNIT_RING_PAIR_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <ipcdoor/ring.hpp>

#include "unit/slot_memory.hpp"

namespace ipcdoor::test {

class ring_pair {
public:
    explicit ring_pair(std::uint64_t wanted_capacity = 1024)
        : slot_bytes(ring_slot_bytes(wanted_capacity)),
          producer_slot(make_slot(slot_bytes)),
          consumer_slot(make_slot(slot_bytes)),
          capacity(init_ring_slot(producer_slot.get(), slot_bytes)),
          producer(from().output, data(), capacity, to().input),
          consumer(to().input, data(), capacity, from().output) {}

    ring_slot& from() { return *static_cast<ring_slot*>(producer_slot.get()); }
    ring_slot& to() { return *static_cast<ring_slot*>(consumer_slot.get()); }
    std::byte* data() { return ring_data(producer_slot.get()); }
    // The header word of the record at a byte offset of the data.
    shared_u64& header_at(std::size_t offset) { return detail::header_word(data() + offset); }

    const std::size_t slot_bytes;
    slot_memory producer_slot;
    slot_memory consumer_slot;
    const std::uint64_t capacity;
    ring_producer producer;
    ring_consumer consumer;
};

// A payload whose every byte follows from its number and length.
inline std::vector<std::byte> pattern(std::uint64_t number, std::size_t bytes) {
    std::vector<std::byte> payload(bytes);
    for (std::size_t i = 0; i < bytes; ++i)
        payload[i] = static_cast<std::byte>((number * 131 + i * 7 + bytes) & 0xff);
    return payload;
}

inline bool is_pattern(std::span<const std::byte> payload, std::uint64_t number) {
    for (std::size_t i = 0; i < payload.size(); ++i) {
        if (payload[i] != static_cast<std::byte>((number * 131 + i * 7 + payload.size()) & 0xff))
            return false;
    }
    return true;
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UNIT_RING_PAIR_HPP
