// SPDX-License-Identifier: MIT
//
// Owns: the common part of methods that are two file descriptors, one for each direction.
#pragma once

#include <unistd.h>

#include <array>
#include <cerrno>
#include <ipcdoor/owned_fd.hpp>

#include "irqbench/method.hpp"

namespace irqbench {

using ipcdoor::owned_fd;

// Blocking read and write of exactly `Bytes` bytes.
template <std::size_t Bytes>
class descriptor_method : public method {
public:
    using method::method;

    void send() override {
        ssize_t n;
        do n = write(send_fd_, message_.data(), Bytes);
        while (n < 0 && errno == EINTR);
        if (n != static_cast<ssize_t>(Bytes))
            throw std::runtime_error(with_errno(name() + ": write"));
    }

    void receive() override {
        std::array<char, Bytes> buffer;
        ssize_t n;
        do n = read(receive_fd_, buffer.data(), Bytes);
        while (n < 0 && errno == EINTR);
        if (n != static_cast<ssize_t>(Bytes))
            throw std::runtime_error(with_errno(name() + ": read"));
    }

protected:
    int send_fd_ = -1;
    int receive_fd_ = -1;
    std::array<char, Bytes> message_{1};  // as eventfd's counter: one
};

}  // namespace irqbench
