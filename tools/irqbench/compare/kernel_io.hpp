// SPDX-License-Identifier: MIT
//
// Owns: whole messages over the kernel's descriptors.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "irqbench/methods/descriptors.hpp"

namespace irqbench::compare {

// A pair of UNIX sockets with buffers of `buffer_bytes`, as far as the kernel grants them. Throws
// unavailable.
std::array<owned_fd, 2> socket_pair(int type, std::size_t buffer_bytes);

// These block, and throw std::runtime_error that names `method`.
void write_all(int fd, std::span<const std::byte> bytes, const std::string& method);
void write_two(int fd, std::span<const std::byte> first, std::span<const std::byte> second,
               const std::string& method);
std::size_t read_some(int fd, std::span<std::byte> to, const std::string& method);
void read_all(int fd, std::span<std::byte> to, const std::string& method);

}  // namespace irqbench::compare
