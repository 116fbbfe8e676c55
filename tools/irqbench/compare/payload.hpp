// SPDX-License-Identifier: MIT
//
// Owns: what every compared method carries, so that all do the same work with it: the sender writes
// each byte of a message, the receiver reads each and checks it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace irqbench::compare {

inline constexpr std::size_t word_bytes = sizeof(std::uint64_t);

// Writes message `number`; the size is a multiple of word_bytes.
void fill(std::span<std::byte> memory, std::uint64_t number);

// Whether `memory` holds what fill() writes.
bool is_filled(std::span<const std::byte> memory, std::uint64_t number);

// Throws std::runtime_error, naming `method`, where it does not, or has another size.
void check(std::span<const std::byte> memory, std::size_t bytes, std::uint64_t number,
           const std::string& method);

}  // namespace irqbench::compare
