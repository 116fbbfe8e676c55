// SPDX-License-Identifier: MIT
// The bytes of one fuzzer input as the script of a hostile peer: numbers, choices
// and wrong values for shared words, zeros once they are used up. (libFuzzer's own
// FuzzedDataProvider comes with clang only, and the inputs are replayed by g++.)
#ifndef IPCDOOR_TESTS_FUZZ_INPUT_HPP
#define IPCDOOR_TESTS_FUZZ_INPUT_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ipcdoor::fuzz {

class input {
public:
    input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

    bool empty() const { return rest_.empty(); }
    std::size_t left() const { return rest_.size(); }

    // Little-endian.
    template <class T>
    T number() {
        T value{};
        const auto from = bytes(sizeof(T));
        if (!from.empty()) std::memcpy(&value, from.data(), from.size());
        return value;
    }
    std::uint8_t byte() { return number<std::uint8_t>(); }
    bool chance() { return (byte() & 1) != 0; }

    // [0, limit), from one byte where that is enough.
    std::uint32_t below(std::uint32_t limit) {
        return limit <= 256 ? byte() % limit : number<std::uint16_t>() % limit;
    }

    template <class T, std::size_t N>
    const T& one_of(const T (&choices)[N]) {
        return choices[below(N)];
    }

    // Up to `count` bytes: fewer where fewer are left.
    std::span<const std::uint8_t> bytes(std::size_t count) {
        const auto taken = rest_.first(std::min(count, rest_.size()));
        rest_ = rest_.subspan(taken.size());
        return taken;
    }

    // A wrong (or right) value for a shared word that holds `now`, in a ring of
    // `span` units: 0, −1, ±1, ± a few records, wrapped, beyond, anything.
    std::uint64_t word(std::uint64_t now, std::uint64_t span) {
        const std::uint8_t choice = byte();
        const std::uint64_t steps = choice >> 4;
        switch (choice & 15) {
            case 0: return 0;
            case 1: return ~std::uint64_t{0};
            case 2: return now + 1;
            case 3: return now - 1;
            case 4: return now + 8 * (steps + 1);
            case 5: return now - 8 * (steps + 1);
            case 6: return now + span;
            case 7: return now - span;
            case 8: return now + span + 8;
            case 9: return now - span - 8;
            case 10: return now ^ std::uint64_t{1} << 63;
            case 11: return std::uint64_t{1} << (steps * 4 + 3);
            case 12: return now + byte();
            case 13: return now + 8 * std::uint64_t{byte()};
            case 14: return number<std::uint32_t>();
            default: return number<std::uint64_t>();
        }
    }

private:
    std::span<const std::uint8_t> rest_;
};

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_INPUT_HPP
