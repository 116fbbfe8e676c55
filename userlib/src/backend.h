// SPDX-License-Identifier: MIT
/*
 * The one interface that both back ends implement. The opaque types of
 * <ipcdoor.h> are its abstract classes, so a handle is a pointer to its object.
 *
 * Arguments arrive checked by c_api.cpp: options complete, names well-formed,
 * vectors in range. Slots are the back end's to check, which alone knows how
 * many there are. Slow calls throw `failure`; ring() and wait() return a
 * negative errno.
 */
#ifndef IPCDOOR_SRC_BACKEND_H
#define IPCDOOR_SRC_BACKEND_H

#include <ipcdoor.h>

#include <memory>

#include <ipcdoor/detail/fork_mark.hpp>

struct ipcdoor_endpoint {
    virtual ~ipcdoor_endpoint() = default;

    virtual const char* backend() const noexcept = 0;
    virtual void info(struct ipcdoor_endpoint_info& info) = 0;
    virtual void* slot_memory(uint32_t slot) = 0;
    virtual void* data_memory(size_t* bytes) = 0;
    virtual int ring(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value) = 0;
    virtual int wait(uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) = 0;
    virtual int ring_wait(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value,
                          uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) = 0;
    virtual int poll_fd() = 0;
    virtual void bind_eventfd(int fd, uint64_t mask) = 0;
    virtual void bind_signal(int signo, uint64_t mask) = 0;
    virtual void peer_info(struct ipcdoor_peer_info& info) = 0;
    virtual void slot_state(uint32_t slot, struct ipcdoor_slot_state& state) = 0;
    virtual uint32_t seal(uint32_t add) = 0;
    virtual void grow(uint64_t data_bytes) = 0;

    const ipcdoor::detail::fork_mark owner;
};

struct ipcdoor_listener {
    virtual ~ipcdoor_listener() = default;

    virtual int poll_fd() const noexcept = 0;
    virtual std::unique_ptr<ipcdoor_endpoint> accept(uint64_t deadline_ns) = 0;

    const ipcdoor::detail::fork_mark owner;
};

struct ipcdoor_door {
    virtual ~ipcdoor_door() = default;

    virtual const char* backend() const noexcept = 0;
    virtual void info(struct ipcdoor_info& info) = 0;
    virtual std::unique_ptr<ipcdoor_endpoint> create(const ipcdoor_create_options& options) = 0;
    virtual std::unique_ptr<ipcdoor_endpoint> attach(const ipcdoor_attach_options& options) = 0;
    virtual std::unique_ptr<ipcdoor_endpoint> attach_fd(int fd, bool read_only) = 0;
    virtual std::unique_ptr<ipcdoor_listener> listen(const ipcdoor_listen_options& options) = 0;
    virtual std::unique_ptr<ipcdoor_endpoint> connect(const char* name, uint64_t deadline_ns) = 0;

    const ipcdoor::detail::fork_mark owner;
};

namespace ipcdoor::backend {

std::unique_ptr<ipcdoor_door> open_kernel_door(const char* path);

// An empty path means $IPCDOOR_RUNTIME_DIR or the default.
std::unique_ptr<ipcdoor_door> open_soft_door(const char* path);

}  // namespace ipcdoor::backend

#endif  // IPCDOOR_SRC_BACKEND_H
