// SPDX-License-Identifier: MIT
//
// endpoint: one attachment to a segment. It owns a slot, sees the others', and
// has a doorbell with 64 vectors.
//
// Threads: every member but the move operations, close() and the destructor may
// be called from several threads at once.
//
// fork(). An endpoint is its process's own, on both back ends. A child has a copy of the
// handle, which it may destroy; anything else fails with EPERM. It has none of the memory:
// slots and DATA are not mapped there, and touching what the parent was given is a SIGSEGV,
// or hits what the child has mapped there since. (Where another thread is inside of a call
// that maps memory meanwhile, soft may leave the child that piece.) The endpoint's
// descriptors stay open in the child until it destroys the copy or executes a program: that
// never hides the parent's death, but with the module its close(). To take part, a child
// opens a door and attaches, or connects, by itself.
//
// Errors are ipcdoor::error with the errno values that <ipcdoor.h> lists for the
// C call of the same name. Waiting calls return false or nothing at the deadline
// and go on after signal handlers ran.
#ifndef IPCDOOR_ENDPOINT_HPP
#define IPCDOOR_ENDPOINT_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include <ipcdoor.h>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/page_options.hpp>

namespace ipcdoor {

// Vectors fired, rings counted, and the latest value of the lowest vector.
using event = ipcdoor_event;

// The bits of some vectors, for masks: vectors(0, 5).
template <class... Vectors>
constexpr std::uint64_t vectors(Vectors... vector) noexcept {
    return ((std::uint64_t{1} << vector) | ... | 0);
}

// All vectors; with the lifecycle vector 0, which tells of peers' lives.
inline constexpr std::uint64_t all_vectors = ~std::uint64_t{0};
inline constexpr std::uint64_t lifecycle_vector = 1;

class endpoint {
public:
    // Nothing: only to be assigned to or destroyed.
    endpoint() noexcept = default;
    // Takes what the C interface made.
    explicit endpoint(ipcdoor_endpoint* handle) noexcept : handle_(handle) {}

    explicit operator bool() const noexcept { return handle_ != nullptr; }
    ipcdoor_endpoint* get() const noexcept { return handle_.get(); }
    ipcdoor_endpoint* release() noexcept { return handle_.release(); }

    // Detaches: the peers are told, the memory is gone.
    void close() noexcept { handle_.reset(); }

    // ---- what it is ----

    struct ipcdoor_endpoint_info info() const {
        struct ipcdoor_endpoint_info known {};
        detail::throw_if(ipcdoor_endpoint_info(get(), &known));
        return known;
    }

    std::uint32_t slot() const { return info().slot; }

    // "kernel" or "soft"
    std::string_view backend() const noexcept { return ipcdoor_endpoint_backend(get()); }

    // ---- memory ----

    // The own slot, which nobody else can write.
    std::span<std::byte> memory() const {
        const auto known = info();
        return {static_cast<std::byte*>(slot_address(known.slot)),
                static_cast<std::size_t>(known.slot_bytes)};
    }

    // Any slot, to read. What a peer writes changes while it is read: copy what
    // has to be checked, then check the copy.
    std::span<const std::byte> memory(std::uint32_t slot) const {
        return {static_cast<const std::byte*>(slot_address(slot)),
                static_cast<std::size_t>(info().slot_bytes)};
    }

    // DATA, which all with the right to write can write; of a read-only
    // endpoint, writing faults. Empty where the segment has none. Ask again
    // after a grow().
    std::span<std::byte> data() const {
        std::size_t bytes = 0;
        void* address = ipcdoor_data_memory(get(), &bytes);
        if (address == nullptr) {
            if (errno == ENODATA) return {};
            detail::throw_error(errno, ipcdoor_error());
        }
        return {static_cast<std::byte*>(address), bytes};
    }

    // Where the pages of a part of memory() or data() lie, rounded outwards to pages: NUMA
    // node, huge pages, lock and prefault, for as long as this is open. The pages were made
    // with the segment, so they are changed, and what cannot be is an error:
    //
    //   prefault   both back ends, peers' slots as well. By MADV_POPULATE_WRITE and _READ,
    //              before Linux 5.14 by a read of each page
    //   lock       soft: mlock(2), within RLIMIT_MEMLOCK, else ENOMEM, EPERM or EAGAIN. The
    //              module's pages are never swapped anyway: they are only mapped at once
    //   numa_node  both, but only pages that no other endpoint has touched yet, so right after
    //              the segment is made: else EBUSY. EINVAL a node without memory, EOPNOTSUPP a
    //              kernel without NUMA
    //   advise     soft with MADV_COLLAPSE (Linux 6.1) and huge pages enabled for shared
    //              memory, and whole huge pages in the part; else EOPNOTSUPP
    //   reserved   never: EOPNOTSUPP
    //
    // memory (memory.hpp) can all of it. What grow() adds, and a slot that is attached again,
    // are new pages. What was done before an error stays done.
    void prepare_pages(std::span<const std::byte> part, const page_options& wanted) const {
        static_cast<void>(info());  // EPERM in a child
        detail::prepare_segment_pages(backend() == "kernel", part, wanted);
    }

    void grow(std::uint64_t data_bytes) { detail::throw_if(ipcdoor_grow(get(), data_bytes)); }

    // Adds IPCDOOR_SEAL_*; returns all seals.
    std::uint32_t seal(std::uint32_t add = 0) {
        std::uint32_t all = 0;
        detail::throw_if(ipcdoor_seal(get(), add, &all));
        return all;
    }

    // ---- the doorbell ----

    // Rings a vector, 1 to 63, of a slot. Never blocks.
    void ring(std::uint32_t slot, std::uint32_t vector, std::uint64_t value = 0,
              std::uint32_t generation = 0) {
        detail::throw_if(ipcdoor_ring(get(), slot, generation, vector, value));
    }

    // Waits for vectors of `mask` and takes them; nothing at the deadline.
    // Throws with is_peer_death() for a connection whose peer is dead, once
    // nothing is left to take.
    [[nodiscard]] std::optional<event> wait(std::uint64_t mask = all_vectors, deadline until = {}) {
        event taken;
        int result;
        do {
            result = ipcdoor_wait(get(), mask, until.ns(), &taken);
        } while (result == -EINTR);
        return outcome(result, taken);
    }

    // Rings, then waits: one system call on the kernel back end.
    [[nodiscard]] std::optional<event> ring_wait(std::uint32_t slot, std::uint32_t vector,
                                                 std::uint64_t value, std::uint64_t mask,
                                                 deadline until = {},
                                                 std::uint32_t generation = 0) {
        event taken;
        int result =
            ipcdoor_ring_wait(get(), slot, generation, vector, value, mask, until.ns(), &taken);
        // The ring was done; only the wait is repeated.
        while (result == -EINTR) result = ipcdoor_wait(get(), mask, until.ns(), &taken);
        return outcome(result, taken);
    }

    // For poll and epoll: readable while a vector is pending. Stays the
    // endpoint's; take the events with wait(mask, std::chrono::seconds(0)).
    int fd() const { return detail::throw_if(ipcdoor_endpoint_fd(get())); }

    // An eventfd to signal at deliveries; -1 unbinds.
    void bind_eventfd(int fd, std::uint64_t mask) {
        detail::throw_if(ipcdoor_bind_eventfd(get(), fd, mask));
    }

    // ---- the others ----

    struct ipcdoor_peer_info peer_info(std::uint32_t slot) const {
        struct ipcdoor_peer_info known {};
        known.slot = slot;
        detail::throw_if(ipcdoor_peer_info(get(), &known));
        return known;
    }

    struct ipcdoor_slot_state slot_state(std::uint32_t slot) const {
        struct ipcdoor_slot_state known {};
        detail::throw_if(ipcdoor_slot_state(get(), slot, &known));
        return known;
    }

private:
    struct closer {
        void operator()(ipcdoor_endpoint* handle) const noexcept { ipcdoor_endpoint_close(handle); }
    };

    void* slot_address(std::uint32_t slot) const {
        void* address = ipcdoor_slot_memory(get(), slot);
        if (address == nullptr) detail::throw_error(errno, ipcdoor_error());
        return address;
    }

    static std::optional<event> outcome(int result, const event& taken) {
        if (result == -ETIMEDOUT) return std::nullopt;
        detail::throw_if(result);
        return taken;
    }

    std::unique_ptr<ipcdoor_endpoint, closer> handle_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_ENDPOINT_HPP
