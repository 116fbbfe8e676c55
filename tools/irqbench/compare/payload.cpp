// SPDX-License-Identifier: MIT
#include "irqbench/compare/payload.hpp"

#include <cstring>

namespace irqbench::compare {

namespace {

// An odd constant: consecutive messages differ in every word.
constexpr std::uint64_t stride = 0x9e3779b97f4a7c15U;

}  // namespace

// Words by memcpy(): what a method hands over need not be aligned.
void fill(std::span<std::byte> memory, std::uint64_t number) {
    std::uint64_t word = (number + 1) * stride;
    for (std::size_t at = 0; at < memory.size(); at += word_bytes, ++word)
        std::memcpy(memory.data() + at, &word, word_bytes);
}

bool is_filled(std::span<const std::byte> memory, std::uint64_t number) {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < memory.size(); at += word_bytes) {
        std::uint64_t word;
        std::memcpy(&word, memory.data() + at, word_bytes);
        sum += word;
    }
    const std::uint64_t words = memory.size() / word_bytes;
    return sum == words * (number + 1) * stride + words * (words - 1) / 2;
}

void check(std::span<const std::byte> memory, std::size_t bytes, std::uint64_t number,
           const std::string& method) {
    if (memory.size() != bytes)
        throw std::runtime_error(method + ": a message of " + std::to_string(memory.size()) +
                                 " bytes came where one of " + std::to_string(bytes) +
                                 " was expected");
    if (!is_filled(memory, number))
        throw std::runtime_error(method + ": message " + std::to_string(number) +
                                 " came with other content than was sent");
}

}  // namespace irqbench::compare
