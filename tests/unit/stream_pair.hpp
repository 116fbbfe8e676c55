// SPDX-License-Identifier: MIT
// Two slots in plain memory and the byte stream from the first to the second.
#ifndef IPCDOOR_TESTS_UNIT_STREAM_PAIR_HPP
#define IPCDOOR_TESTS_UNIT_STREAM_PAIR_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <ipcdoor/detail/cursor.hpp>
#include <ipcdoor/stream_layout.hpp>

#include "unit/slot_memory.hpp"

namespace ipcdoor::test {

class stream_pair {
public:
    explicit stream_pair(std::uint64_t wanted_capacity)
        : slot_bytes(stream_slot_bytes(wanted_capacity)),
          producer_slot(make_slot(slot_bytes)),
          consumer_slot(make_slot(slot_bytes)),
          capacity(init_stream_slot(producer_slot.get(), slot_bytes, stream_writes)),
          producer("stream", from().output, capacity, to().input),
          consumer("stream", to().input, capacity, from().output) {}

    stream_slot& from() { return *static_cast<stream_slot*>(producer_slot.get()); }
    stream_slot& to() { return *static_cast<stream_slot*>(consumer_slot.get()); }
    std::byte* data() { return stream_data(producer_slot.get()); }

    // Writes bytes first, first + 1, … as long as there is room, up to `most` of them.
    // Not published.
    std::uint64_t put(std::uint64_t first, std::uint64_t most) {
        const std::uint64_t bytes = std::min(producer.room(1), most);
        for (std::uint64_t i = 0; i < bytes; ++i)
            data()[(producer.tail() + i) % capacity] = static_cast<std::byte>(mixed(first + i));
        producer.advance(bytes);
        return bytes;
    }
    // Reads what is there, up to `most`, and counts the bytes that are not the ones
    // that put() writes. Not published.
    std::uint64_t take(std::uint64_t first, std::uint64_t most, std::uint64_t& wrong) {
        const std::uint64_t bytes = std::min(consumer.readable(), most);
        for (std::uint64_t i = 0; i < bytes; ++i) {
            if (data()[(consumer.head() + i) % capacity] !=
                static_cast<std::byte>(mixed(first + i)))
                ++wrong;
        }
        consumer.advance(bytes);
        return bytes;
    }

private:
    static std::uint64_t mixed(std::uint64_t number) {
        return number * 0x9e3779b97f4a7c15ULL >> 56;
    }

public:
    const std::size_t slot_bytes;
    slot_memory producer_slot;
    slot_memory consumer_slot;
    const std::uint64_t capacity;
    detail::producer_cursor<1> producer;
    detail::consumer_cursor<1> consumer;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UNIT_STREAM_PAIR_HPP
