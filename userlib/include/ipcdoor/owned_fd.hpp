// SPDX-License-Identifier: MIT
//
// owned_fd: a file descriptor that is closed with its owner.
#ifndef IPCDOOR_OWNED_FD_HPP
#define IPCDOOR_OWNED_FD_HPP

#include <unistd.h>

#include <utility>

namespace ipcdoor {

class owned_fd {
public:
    owned_fd() noexcept = default;
    explicit owned_fd(int fd) noexcept : fd_(fd) {}
    owned_fd(owned_fd&& other) noexcept : fd_(other.release()) {}
    owned_fd& operator=(owned_fd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~owned_fd() { reset(); }

    explicit operator bool() const noexcept { return fd_ >= 0; }
    int get() const noexcept { return fd_; }
    // Whoever gets it closes it.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    void reset() noexcept {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_OWNED_FD_HPP
