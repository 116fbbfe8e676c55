// SPDX-License-Identifier: MIT
/*
 * The kernel back end: endpoints and listeners of ipcdoor.ko, one ioctl for
 * each call. The module checks rights and ownership; this only maps its pages.
 */
#ifndef IPCDOOR_SRC_KERNEL_ENDPOINT_H
#define IPCDOOR_SRC_KERNEL_ENDPOINT_H

#include <mutex>
#include <vector>

#include "backend.h"
#include "sys.h"

namespace ipcdoor::backend::kernel {

// What the errors of the ioctls mean, with the remedy where there is one.
[[noreturn]] void throw_error(int error, const char* what);

class endpoint : public ipcdoor_endpoint {
public:
    endpoint(owned_fd fd, const struct ipcdoor_endpoint_info& info);

    const char* backend() const noexcept override { return "kernel"; }
    void info(struct ipcdoor_endpoint_info& info) override;
    void* slot_memory(uint32_t slot) override;
    void* data_memory(size_t* bytes) override;
    int ring(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value) override;
    int wait(uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) override;
    int ring_wait(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value,
                  uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) override;
    int poll_fd() override { return fd_.get(); }
    void bind_eventfd(int fd, uint64_t mask) override;
    void bind_signal(int signo, uint64_t mask) override;
    void peer_info(struct ipcdoor_peer_info& info) override;
    void slot_state(uint32_t slot, struct ipcdoor_slot_state& state) override;
    uint32_t seal(uint32_t add) override;
    void grow(uint64_t data_bytes) override;

    // Waits until the server has taken up the connection.
    void await_acceptance(std::uint64_t deadline_ns);

private:
    struct slot_mapping {
        sys::mapping pages;
        std::uint32_t generation = 0;
    };

    const struct ipcdoor_slot_state& shown_slot(uint32_t slot) const;
    void map_data(std::uint64_t bytes);

    const owned_fd fd_;
    const struct ipcdoor_endpoint_info info_;
    sys::mapping state_;

    std::mutex mutex_;  // protects the mappings that are made when asked for
    std::vector<slot_mapping> slots_;
    std::vector<sys::mapping> replaced_;  // given out, of slots attached again since
    sys::mapping data_;
    std::uint64_t data_mapped_ = 0;
};

class listener : public ipcdoor_listener {
public:
    explicit listener(owned_fd fd) : fd_(std::move(fd)) {}

    int poll_fd() const noexcept override { return fd_.get(); }
    std::unique_ptr<ipcdoor_endpoint> accept(uint64_t deadline_ns) override;

private:
    const owned_fd fd_;
};

}  // namespace ipcdoor::backend::kernel

#endif  // IPCDOOR_SRC_KERNEL_ENDPOINT_H
