// SPDX-License-Identifier: MIT
// An io_uring that polls one descriptor, by the bare system calls. A poll holds the
// file and sleeps on its wait queue until the ring is closed or the poll removed.
#ifndef IPCDOOR_TESTS_SYSTEM_RACES_POLL_RING_HPP
#define IPCDOOR_TESTS_SYSTEM_RACES_POLL_RING_HPP

#include <linux/io_uring.h>

#include <cstdint>

#include "support/process.hpp"

namespace ipcdoor::test {

class poll_ring {
public:
    // Throws std::system_error; ENOSYS where the kernel has no io_uring.
    poll_ring();
    ~poll_ring();
    poll_ring(const poll_ring&) = delete;
    poll_ring& operator=(const poll_ring&) = delete;

    // Submits a poll of `fd` (its result comes later), or the removal of it; the
    // result of io_uring_enter(2) or -errno.
    int add(int fd);
    int remove();
    // One completion: its result, or `none`.
    static constexpr int none = INT32_MIN;
    int completion();

    // Whether the kernel has it.
    static bool available();

private:
    int submit(const io_uring_sqe& entry);

    io_uring_params params_{};  // before the ring that fills it in
    unique_fd ring_;
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
    io_uring_sqe* entries_ = nullptr;
    std::size_t entries_bytes_ = 0;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_RACES_POLL_RING_HPP
