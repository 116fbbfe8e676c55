// SPDX-License-Identifier: MIT
#include "kernel_endpoint.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "failure.h"

namespace ipcdoor::backend::kernel {

namespace {

constexpr std::uint64_t lifecycle = std::uint64_t{1} << IPCDOOR_VECTOR_LIFECYCLE;

// Of the calls on the hot path; literals, so that failing costs nothing.
const char* hot_error_text(int error) {
    switch (error) {
        case EINVAL: return "the segment has no such slot, or the vector is out of range";
        case ENOTCONN: return "nobody was ever attached to this slot";
        case EPIPE: return "the peer's endpoint is dead";
        case ESTALE: return "the slot was attached again since: its generation is another";
        case ETIMEDOUT: return "nothing was rung before the deadline";
        case EINTR: return "a signal handler ran: call again";
        case ESHUTDOWN: return "this endpoint is dead: its interrupt source was removed";
        default: return "the doorbell ioctl failed";
    }
}

int hot_result(int rc) { return rc < 0 ? fail(-rc, hot_error_text(-rc)) : 0; }

void fill(ipcdoor_event* event, const struct ipcdoor_wait& wait) {
    if (event != nullptr) *event = {wait.fired, wait.count, wait.value};
}

void control(int fd, unsigned long request, void* argument, const char* what) {
    const int rc = sys::device_control(fd, request, argument);
    if (rc < 0) throw_error(-rc, what);
}

// An event loop has made the descriptor non-blocking (Asio does with every one that it is
// given), and the call came back at once. Here the deadline alone says whether a call
// blocks. True: now it does, again; else `rc` says that the deadline has passed.
bool may_block(int fd, std::uint64_t deadline_ns, int& rc) {
    if (deadline_ns > sys::now_ns()) {
        rc = sys::make_blocking(fd);
        return rc == 0;
    }
    rc = -ETIMEDOUT;
    return false;
}

// The kernel writes STATE while we read; each field is read and written whole.
template <class T>
T shown(const T& field) {
    return __atomic_load_n(&field, __ATOMIC_ACQUIRE);
}

template <class T>
void copy_words(T& to, const T& from) {
    static_assert(sizeof(T) % sizeof(std::uint64_t) == 0);
    auto* out = reinterpret_cast<unsigned char*>(&to);
    const auto* in = reinterpret_cast<const std::uint64_t*>(&from);
    for (std::size_t i = 0; i < sizeof(T) / sizeof(std::uint64_t); ++i) {
        const std::uint64_t word = __atomic_load_n(in + i, __ATOMIC_RELAXED);
        std::memcpy(out + i * sizeof(word), &word, sizeof(word));
    }
}

}  // namespace

void throw_error(int error, const char* what) {
    const char* why = std::strerror(error);
    switch (error) {
        case EDQUOT: why = "the limit of this user is reached: see the module's parameters"; break;
        case ENODEV: why = "the interrupt source is not present; GET_INFO lists them"; break;
        case EPROTOTYPE: why = "the name is of the other kind, listener or segment"; break;
        case EBUSY: why = "taken, or a writable mapping exists"; break;
        case ENOSPC: why = "no slot is free"; break;
        case EFBIG: why = "beyond max_data_bytes"; break;
        case ETIMEDOUT: why = "the deadline has passed"; break;
        case EINTR: why = "a signal handler ran: call again"; break;
        case ENOENT: why = "no such name"; break;
        case EACCES: why = "the name's mode or this endpoint's rights do not allow it"; break;
        case EPIPE: why = "the peer is dead"; break;
        default: break;
    }
    throw failure(error, "%s: %s", what, why);
}

endpoint::endpoint(owned_fd fd, const struct ipcdoor_endpoint_info& info)
    : fd_(std::move(fd)),
      info_(info),
      state_(fd_.get(), info.state_offset, info.state_bytes, sys::access::read),
      slots_(info.slots) {}

void endpoint::info(struct ipcdoor_endpoint_info& info) {
    control(fd_.get(), IPCDOOR_IOC_ENDPOINT_INFO, &info, "asking for the endpoint's layout");
}

const struct ipcdoor_slot_state& endpoint::shown_slot(uint32_t slot) const {
    if (slot >= info_.slots)
        throw failure(EINVAL, "slot %u: the segment has slots 0 to %u", slot, info_.slots - 1);
    const auto* base = static_cast<const char*>(state_.address());
    const auto* head = reinterpret_cast<const ipcdoor_state*>(base);
    return *reinterpret_cast<const struct ipcdoor_slot_state*>(
        base + head->slot_state_offset + std::size_t{slot} * head->slot_state_bytes);
}

// ---- memory ----

void* endpoint::slot_memory(uint32_t slot) {
    const std::uint32_t generation = shown(shown_slot(slot).generation);
    const std::lock_guard lock(mutex_);
    slot_mapping& mapped = slots_[slot];
    // The same occupant, alive or dead, has an odd generation and the next one.
    const bool same = (mapped.generation + 1) / 2 == (generation + 1) / 2;
    if (mapped.pages && same) return mapped.pages.address();
    if (mapped.pages) replaced_.push_back(std::move(mapped.pages));
    mapped = {sys::mapping(fd_.get(), info_.slot_offset + slot * info_.slot_bytes, info_.slot_bytes,
                           slot == info_.slot ? sys::access::read_write : sys::access::read),
              generation};
    return mapped.pages.address();
}

// Adds what GROW added; the address was reserved for all that may come.
void endpoint::map_data(std::uint64_t bytes) {
    if (!data_) data_ = sys::mapping::reserved(info_.max_data_bytes);
    if (bytes <= data_mapped_) return;
    const int rc = data_.place(
        data_mapped_, fd_.get(), info_.data_offset + data_mapped_, bytes - data_mapped_,
        (info_.rights & IPCDOOR_RIGHT_WRITE) != 0 ? sys::access::read_write : sys::access::read);
    if (rc < 0) throw_error(-rc, "mapping DATA");
    data_mapped_ = bytes;
}

void* endpoint::data_memory(size_t* bytes) {
    if (info_.max_data_bytes == 0)
        throw failure(ENODATA, "the segment was made without data_bytes");
    const auto* head = static_cast<const ipcdoor_state*>(state_.address());
    const std::uint64_t now = shown(head->data_bytes);
    if (now == 0) throw failure(ENODATA, "the segment has no DATA yet: ipcdoor_grow() gives it");
    const std::lock_guard lock(mutex_);
    map_data(now);
    *bytes = static_cast<size_t>(now);
    return data_.address();
}

// ---- doorbells ----

int endpoint::ring(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value) {
    struct ipcdoor_ring ring {
        slot, vector, generation, 0, value
    };
    return hot_result(sys::device_control(fd_.get(), IPCDOOR_IOC_RING, &ring));
}

int endpoint::wait(uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) {
    struct ipcdoor_wait wait {};
    wait.mask = mask;
    wait.deadline_ns = deadline_ns;
    wait.flags = IPCDOOR_WAIT_ACK;
    int rc;
    do {
        rc = sys::device_control(fd_.get(), IPCDOOR_IOC_WAIT, &wait);
    } while (rc == -EAGAIN && may_block(fd_.get(), deadline_ns, rc));
    if (rc >= 0) fill(event, wait);
    return hot_result(rc);
}

int endpoint::ring_wait(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value,
                        uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) {
    struct ipcdoor_ring_wait both {};
    both.ring = {slot, vector, generation, 0, value};
    both.wait.mask = mask;
    both.wait.deadline_ns = deadline_ns;
    both.wait.flags = IPCDOOR_WAIT_ACK;
    const int rc = sys::device_control(fd_.get(), IPCDOOR_IOC_RING_WAIT, &both);
    if (rc == -EAGAIN) return wait(mask, deadline_ns, event);  // it was rung
    if (rc >= 0) fill(event, both.wait);
    return hot_result(rc);
}

void endpoint::bind_eventfd(int fd, uint64_t mask) {
    struct ipcdoor_bind_eventfd bind {
        fd < 0 ? 0 : mask, fd, 0
    };
    control(fd_.get(), IPCDOOR_IOC_BIND_EVENTFD, &bind, "binding an eventfd");
}

void endpoint::bind_signal(int signo, uint64_t mask) {
    struct ipcdoor_bind_signal bind {
        signo == 0 ? 0 : mask, static_cast<std::uint32_t>(signo), 0
    };
    control(fd_.get(), IPCDOOR_IOC_BIND_SIGNAL, &bind, "binding a signal");
}

// ---- what is known ----

void endpoint::peer_info(struct ipcdoor_peer_info& info) {
    control(fd_.get(), IPCDOOR_IOC_PEER_INFO, &info, "asking for a peer");
}

void endpoint::slot_state(uint32_t slot, struct ipcdoor_slot_state& state) {
    const struct ipcdoor_slot_state& live = shown_slot(slot);
    // A writer is in there for nanoseconds; the bound is for a broken module.
    for (int attempt = 0; attempt < 100'000; ++attempt) {
        const std::uint64_t sequence = shown(live.stamps.sequence);
        if ((sequence & 1) != 0) continue;
        copy_words(state, live);
        std::atomic_thread_fence(std::memory_order_acquire);
        if (shown(live.stamps.sequence) == sequence) return;
    }
    throw failure(EAGAIN, "slot %u's stamps never stood still: call again", slot);
}

uint32_t endpoint::seal(uint32_t add) {
    struct ipcdoor_seal seal {
        add, 0, 0, 0
    };
    control(fd_.get(), IPCDOOR_IOC_SEAL, &seal, "sealing");
    return seal.seals;
}

void endpoint::grow(uint64_t data_bytes) {
    struct ipcdoor_grow grow {
        data_bytes, 0, 0
    };
    control(fd_.get(), IPCDOOR_IOC_GROW, &grow, "growing DATA");
}

// ---- connections ----

void endpoint::await_acceptance(std::uint64_t deadline_ns) {
    const struct ipcdoor_slot_state& server = shown_slot(0);
    for (;;) {
        switch (shown(server.state)) {
            case IPCDOOR_SLOT_ALIVE: {
                // The acceptance rang the lifecycle vector: that is no news to
                // the caller, who gets the connection by it.
                wait(lifecycle, 0, nullptr);
                return;
            }
            case IPCDOOR_SLOT_DEAD:
                throw failure(ECONNREFUSED, "the listener closed without accepting the connection");
            default: break;
        }
        const int rc = wait(lifecycle, deadline_ns, nullptr);
        if (rc == -EPIPE) continue;  // DEAD now
        if (rc == -ETIMEDOUT) throw failure(ETIMEDOUT, "not accepted before the deadline");
        if (rc == -EINTR)
            throw failure(EINTR,
                          "a signal handler ran before the connection was accepted: "
                          "connect again");
        if (rc < 0) throw_error(-rc, "waiting for the connection to be accepted");
    }
}

std::unique_ptr<ipcdoor_endpoint> listener::accept(uint64_t deadline_ns) {
    struct ipcdoor_accept accept {};
    accept.deadline_ns = deadline_ns;
    int rc;
    do {
        rc = sys::device_control(fd_.get(), IPCDOOR_IOC_ACCEPT, &accept);
    } while (rc == -EAGAIN && may_block(fd_.get(), deadline_ns, rc));
    owned_fd fd(rc);
    if (!fd) throw_error(-fd.get(), "accepting a connection");
    return std::make_unique<endpoint>(std::move(fd), accept.info);
}

}  // namespace ipcdoor::backend::kernel
