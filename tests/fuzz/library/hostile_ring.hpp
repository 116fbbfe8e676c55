// SPDX-License-Identifier: MIT
// What a hostile producer or consumer does to the words of its own slot: one move
// at a time, chosen by the input. Some moves are honest, so that the other side
// gets somewhere.
#ifndef IPCDOOR_TESTS_FUZZ_HOSTILE_RING_HPP
#define IPCDOOR_TESTS_FUZZ_HOSTILE_RING_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <ipcdoor/ring.hpp>

#include "fuzz/library/input.hpp"

namespace ipcdoor::fuzz {

// The rings that are tried, each with a stage of its own that is made once.
inline constexpr std::uint64_t ring_capacities[] = {256, 512, 1024, 4096};

inline std::uint64_t ring_capacity(std::uint8_t how) { return ring_capacities[how & 3]; }

template <typename Stage>
Stage& ring_stage(std::uint8_t how) {
    static Stage stages[] = {Stage(ring_capacities[0]), Stage(ring_capacities[1]),
                             Stage(ring_capacities[2]), Stage(ring_capacities[3])};
    return stages[how & 3];
}

// Flags of a record: mostly those that channels know.
inline std::uint16_t record_flags(input& in) {
    const std::uint8_t how = in.byte();
    return how < 240 ? how & 1 : how;
}

// The ring of a peer that produces, as that peer writes it.
class hostile_producer {
public:
    hostile_producer(ring_output& output, std::byte* data, std::uint64_t capacity)
        : output_(output), data_(data), capacity_(capacity) {}

    void start_at(std::uint64_t tail) { output_.tail = tail; }

    // One honest record behind the tail; its payload is the input's. A request or
    // reply (types of channel_core) starts with a correlation id.
    void append(input& in, std::uint16_t type, bool with_id) {
        std::uint64_t tail = output_.tail;
        const std::uint64_t most = ring_max_payload(capacity_);
        std::uint64_t bytes = in.byte();
        if (bytes >= 240) bytes = most - (bytes - 240) * 8;
        if (bytes > most) bytes = most;
        const std::uint64_t record = ring_record_header_bytes + detail::padded(bytes);
        const std::uint64_t rest = capacity_ - tail % capacity_;
        if (tail % ring_record_align != 0) return;
        if (record > rest) {
            header(tail) = detail::pack_record(rest - 8, ring_wrap_type, 0);
            tail += rest;
        }
        header(tail) = detail::pack_record(bytes, type, record_flags(in));
        std::byte* const to = data_ + tail % capacity_ + ring_record_header_bytes;
        std::uint64_t written = 0;
        if (with_id && bytes >= sizeof(std::uint64_t)) {
            // or the length of a message in parts
            const std::uint64_t id = in.byte();
            std::memcpy(to, &id, sizeof(id));
            written = sizeof(id);
            if (bytes >= 2 * sizeof(id)) {
                std::memcpy(to + written, &id, sizeof(id));
                written += sizeof(id);
            }
        }
        const auto payload = in.bytes(std::min<std::uint64_t>(bytes - written, in.byte() % 16));
        if (!payload.empty()) std::memcpy(to + written, payload.data(), payload.size());
        output_.tail = tail + record;
    }

    // A header, right or wrong, where the reader will look, or anywhere.
    void write_header(input& in, std::uint64_t head) {
        const std::uint8_t how = in.byte();
        std::uint64_t at = 0;
        switch (how & 3) {
            case 0: at = head; break;
            case 1: at = 0; break;
            case 2: at = output_.tail; break;
            default: at = 8 * std::uint64_t{in.byte()};
        }
        at = at % capacity_ & ~std::uint64_t{7};
        const std::uint64_t rest = capacity_ - at;
        const std::uint64_t readable = output_.tail - head;
        const std::uint64_t near[] = {rest - 8,
                                      rest,
                                      readable - 8,
                                      readable,
                                      readable - 7,
                                      ring_max_payload(capacity_),
                                      ring_max_payload(capacity_) + 1};
        std::uint64_t bytes = 0;
        if ((how >> 2 & 3) == 0)
            bytes = in.number<std::uint32_t>();
        else if ((how >> 2 & 3) == 1)
            bytes = in.byte();
        else
            bytes = in.one_of(near);
        const std::uint16_t types[] = {
            0, 1, 2, 3, 4, 5, ring_wrap_type, ring_wrap_type, in.number<std::uint16_t>()};
        const std::uint16_t type = types[(how >> 4) % 9];
        header(at) = detail::pack_record(bytes & 0xffffffff, type, record_flags(in));
    }

    // One move; `head` is the reader's.
    void move(input& in, std::uint64_t head) {
        switch (in.byte() % 9) {
            case 0: output_.tail = in.word(output_.tail, capacity_); break;
            case 1: output_.tail = in.word(head, capacity_); break;
            case 2: output_.armed = in.word(head, capacity_); break;
            case 3:
            case 4: write_header(in, head); break;
            case 5: header(8 * std::uint64_t{in.byte()}) = in.number<std::uint64_t>(); break;
            case 6: append(in, in.byte() % 6, true); break;
            case 7: {  // a lie that agrees with itself: a record of any length
                const std::uint64_t bytes = in.number<std::uint32_t>();
                header(head) = detail::pack_record(bytes, in.byte() % 6, record_flags(in));
                output_.tail = head + ring_record_header_bytes + detail::padded(bytes);
                break;
            }
            default: {
                const std::uint64_t at = in.number<std::uint16_t>() % capacity_;
                const auto some = in.bytes(std::min<std::uint64_t>(in.byte() % 64, capacity_ - at));
                if (!some.empty()) std::memcpy(data_ + at, some.data(), some.size());
            }
        }
    }

private:
    shared_u64& header(std::uint64_t at) {
        return detail::header_word(data_ + (at % capacity_ & ~std::uint64_t{7}));
    }

    ring_output& output_;
    std::byte* data_;
    std::uint64_t capacity_;
};

// What a peer that consumes does to its words; `tail` is the producer's.
inline void move_consumer(input& in, ring_input& words, std::uint64_t tail,
                          std::uint64_t capacity) {
    switch (in.byte() % 5) {
        case 0: words.head = in.word(words.head, capacity); break;
        case 1: words.head = in.word(tail, capacity); break;
        case 2: words.armed = in.word(tail, capacity); break;
        case 3: words.armed = in.word(words.head, capacity); break;
        default: words.head = tail;  // honest: it has read everything
    }
}

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_HOSTILE_RING_HPP
