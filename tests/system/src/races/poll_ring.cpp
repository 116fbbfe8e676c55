// SPDX-License-Identifier: MIT
#include "system/src/races/poll_ring.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

namespace ipcdoor::test {

namespace {

constexpr unsigned entries = 4;
constexpr std::uint64_t poll_mark = 1;

void* map_ring(int ring, std::size_t bytes, std::uint64_t offset) {
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                                ring, static_cast<off_t>(offset));
    if (memory == MAP_FAILED)
        throw std::system_error(errno, std::generic_category(), "mmap of an io_uring");
    return memory;
}

}  // namespace

poll_ring::poll_ring() : ring_(static_cast<int>(::syscall(SYS_io_uring_setup, entries, &params_))) {
    if (!ring_) throw std::system_error(errno, std::generic_category(), "io_uring_setup");
    // both rings are in one mapping since 5.4
    if ((params_.features & IORING_FEAT_SINGLE_MMAP) == 0)
        throw std::system_error(ENOSYS, std::generic_category(), "io_uring before 5.4");
    bytes_ =
        std::max<std::size_t>(params_.sq_off.array + params_.sq_entries * sizeof(std::uint32_t),
                              params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe));
    memory_ = map_ring(ring_.get(), bytes_, IORING_OFF_SQ_RING);
    entries_bytes_ = params_.sq_entries * sizeof(io_uring_sqe);
    entries_ = static_cast<io_uring_sqe*>(map_ring(ring_.get(), entries_bytes_, IORING_OFF_SQES));
}

poll_ring::~poll_ring() {
    if (entries_ != nullptr) ::munmap(entries_, entries_bytes_);
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

int poll_ring::submit(const io_uring_sqe& entry) {
    const auto word = [&](std::uint32_t offset) {
        return reinterpret_cast<std::uint32_t*>(static_cast<char*>(memory_) + offset);
    };
    const std::uint32_t mask = *word(params_.sq_off.ring_mask);
    const std::atomic_ref<std::uint32_t> tail(*word(params_.sq_off.tail));
    const std::uint32_t at = tail.load(std::memory_order_relaxed);
    entries_[at & mask] = entry;
    word(params_.sq_off.array)[at & mask] = at & mask;
    tail.store(at + 1, std::memory_order_release);
    const long result = ::syscall(SYS_io_uring_enter, ring_.get(), 1, 0, 0, nullptr, 0);
    return result < 0 ? -errno : static_cast<int>(result);
}

int poll_ring::add(int fd) {
    io_uring_sqe entry{};
    entry.opcode = IORING_OP_POLL_ADD;
    entry.fd = fd;
    entry.poll32_events = POLLIN | POLLPRI;
    entry.user_data = poll_mark;
    return submit(entry);
}

int poll_ring::remove() {
    io_uring_sqe entry{};
    entry.opcode = IORING_OP_POLL_REMOVE;
    entry.fd = -1;
    entry.addr = poll_mark;
    return submit(entry);
}

int poll_ring::completion() {
    const auto word = [&](std::uint32_t offset) -> std::uint32_t& {
        return *reinterpret_cast<std::uint32_t*>(static_cast<char*>(memory_) + offset);
    };
    const std::atomic_ref<std::uint32_t> head(word(params_.cq_off.head));
    const std::uint32_t at = head.load(std::memory_order_relaxed);
    if (at == std::atomic_ref(word(params_.cq_off.tail)).load(std::memory_order_acquire))
        return none;
    const auto* completions =
        reinterpret_cast<const io_uring_cqe*>(static_cast<char*>(memory_) + params_.cq_off.cqes);
    const int result = completions[at & word(params_.cq_off.ring_mask)].res;
    head.store(at + 1, std::memory_order_release);
    return result;
}

bool poll_ring::available() {
    io_uring_params params{};
    const unique_fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, entries, &params)));
    return static_cast<bool>(ring) || errno != ENOSYS;
}

}  // namespace ipcdoor::test
