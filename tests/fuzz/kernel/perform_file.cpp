// SPDX-License-Identifier: MIT
// Descriptors: what any file understands, polling, passing.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fuzz/kernel/actor.hpp"
#include "support/descriptor_message.hpp"

namespace kfuzz {

namespace {

std::int64_t keep(actor& by, const operation& op, std::int64_t result) {
    const std::int64_t said = outcome(result);
    by.regs->keep(op.get("to"), said);
    return said;
}

std::int64_t open_door(actor& by, const operation& op) {
    const int flags = O_RDWR | O_CLOEXEC | (op.get("nonblock") != 0 ? O_NONBLOCK : 0);
    return keep(by, op, ::syscall(SYS_openat, AT_FDCWD, "/dev/ipcdoor0", flags, 0));
}

std::int64_t poll(const actor& by, const operation& op) {
    std::array<pollfd, 2> set{};
    set[0] = {by.regs->fd(op.get("fd")), static_cast<short>(op.get("events")), 0};
    set[1] = {by.regs->fd(op.get("other")), static_cast<short>(op.get("events")), 0};
    return outcome(::syscall(SYS_poll, set.data(), set.size(),
                             static_cast<int>(std::min<std::uint64_t>(op.get("timeout"), 10))));
}

std::int64_t epoll_ctl(const actor& by, const operation& op) {
    epoll_event event{};
    event.events = static_cast<std::uint32_t>(op.get("events"));
    const int what = 1 + static_cast<int>(op.get("what") % 3);  // add, delete, modify
    return outcome(::syscall(SYS_epoll_ctl, by.regs->fd(op.get("fd")), what,
                             by.regs->fd(op.get("other")), &event));
}

std::int64_t epoll_wait(const actor& by, const operation& op) {
    std::array<epoll_event, 4> events{};
    return outcome(::syscall(SYS_epoll_pwait, by.regs->fd(op.get("fd")), events.data(),
                             events.size(), std::min<std::uint64_t>(op.get("timeout"), 10), nullptr,
                             0));
}

// A ring with one poll request, which stays under way until the ring is closed.
std::int64_t uring_poll(actor& by, const operation& op) {
    io_uring_params params{};
    const std::int64_t ring = outcome(::syscall(SYS_io_uring_setup, 2, &params));
    if (ring < 0) return ring;
    by.regs->keep(op.get("to"), ring);
    const std::size_t ring_bytes = params.sq_off.array + params.sq_entries * sizeof(std::uint32_t);
    const std::size_t entries_bytes = params.sq_entries * sizeof(io_uring_sqe);
    constexpr int rw = PROT_READ | PROT_WRITE;
    void* ring_memory =
        ::mmap(nullptr, ring_bytes, rw, MAP_SHARED, static_cast<int>(ring), IORING_OFF_SQ_RING);
    void* entries_memory =
        ::mmap(nullptr, entries_bytes, rw, MAP_SHARED, static_cast<int>(ring), IORING_OFF_SQES);
    if (ring_memory == MAP_FAILED || entries_memory == MAP_FAILED) return -ENOMEM;

    auto* entry = static_cast<io_uring_sqe*>(entries_memory);
    std::memset(entry, 0, sizeof(*entry));
    entry->opcode = IORING_OP_POLL_ADD;
    entry->fd = by.regs->fd(op.get("fd"));
    entry->poll32_events = static_cast<std::uint32_t>(op.get("events"));
    auto* words = static_cast<std::byte*>(ring_memory);
    *reinterpret_cast<std::uint32_t*>(words + params.sq_off.array) = 0;
    auto* tail = reinterpret_cast<std::uint32_t*>(words + params.sq_off.tail);
    std::atomic_ref(*tail).store(*tail + 1, std::memory_order_release);
    const std::int64_t result = outcome(::syscall(SYS_io_uring_enter, ring, 1, 0, 0, nullptr, 0));
    ::munmap(ring_memory, ring_bytes);
    ::munmap(entries_memory, entries_bytes);
    return result;
}

std::int64_t reopen(actor& by, const operation& op, int fd, int flags) {
    char path[40];
    std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return keep(by, op, ::syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0));
}

// What must do no harm to an endpoint's pages, and other things that files do.
std::int64_t file(actor& by, const operation& op) {
    const int fd = by.regs->fd(op.get("fd"));
    struct stat status {};
    switch (op.get("what")) {
        case 0: return outcome(::ftruncate(fd, 0));
        case 1:
            return outcome(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536));
        case 2: return outcome(::fallocate(fd, 0, 0, 1 << 20));
        case 3: return outcome(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
        case 4: return outcome(::lseek(fd, 4096, SEEK_SET));
        case 5: return outcome(::fchmod(fd, 0777));
        case 6: return outcome(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
        case 7: return reopen(by, op, fd, O_RDWR);
        case 8: return reopen(by, op, fd, O_PATH);
        case 9: return outcome(::fsync(fd));
        case 10: return outcome(::fchown(fd, 1000, 1000));
        case 11: return outcome(::fcntl(fd, F_SETLEASE, F_RDLCK));
        case 12: return outcome(::fstat(fd, &status));
        case 13: return outcome(::fcntl(fd, F_SETFL, O_ASYNC));
        default: return outcome(::fcntl(fd, F_GET_SEALS));
    }
}

std::int64_t read_some(const actor& by, const operation& op) {
    std::array<std::byte, 64> buffer{};
    const int fd = by.regs->fd(op.get("fd"));
    // an eventfd without a count would block
    pollfd ready{fd, POLLIN, 0};
    if (::syscall(SYS_poll, &ready, 1, 0) == 0) return -EAGAIN;
    return outcome(::syscall(SYS_read, fd, buffer.data(), buffer.size()));
}

// An eventfd takes it as a number, and is full with the greatest but one.
std::int64_t write_some(const actor& by, const operation& op) {
    const int fd = by.regs->fd(op.get("fd"));
    const std::uint64_t value = op.get("value");
    // what was not opened by this program may block
    pollfd ready{fd, POLLOUT, 0};
    if (::syscall(SYS_poll, &ready, 1, 0) == 0) return -EAGAIN;
    return outcome(::syscall(SYS_write, fd, &value, sizeof(value)));
}

std::int64_t send(const actor& by, const operation& op) {
    ipcdoor::test::descriptor_message message(by.regs->fd(op.get("fd")));
    return outcome(::syscall(SYS_sendmsg, by.regs->sockets[0], message.get(), MSG_DONTWAIT));
}

std::int64_t receive(actor& by, const operation& op) {
    ipcdoor::test::descriptor_message message;
    const std::int64_t result = outcome(::syscall(SYS_recvmsg, by.regs->sockets[1], message.get(),
                                                  MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (result < 0) return result;
    const int fd = message.received();
    if (fd < 0) return -ENOMSG;
    by.regs->keep(op.get("to"), fd);
    return fd;
}

std::int64_t steal(actor& by, const operation& op) {
    const pid_t owner = by.board->pids[std::min<std::uint64_t>(op.get("of"), actors - 1)];
    const std::int64_t process = outcome(::syscall(SYS_pidfd_open, owner, 0));
    if (process < 0) return process;
    const std::int64_t result =
        keep(by, op, ::syscall(SYS_pidfd_getfd, process, by.regs->fd(op.get("fd")), 0));
    ::syscall(SYS_close, process);
    return result;
}

std::int64_t close_register(actor& by, const operation& op) {
    const std::uint64_t index = op.get("fd");
    if (index >= fd_registers) return -EBADF;
    return outcome(::syscall(SYS_close, by.regs->fds[index].exchange(-1)));
}

std::int64_t set_nonblock(const actor& by, const operation& op) {
    return outcome(::syscall(SYS_fcntl, by.regs->fd(op.get("fd")), F_SETFL,
                             op.get("on") != 0 ? O_NONBLOCK : 0));
}

}  // namespace

std::int64_t perform_file(actor& by, const operation& op) {
    switch (op.kind) {
        case op_kind::open: return open_door(by, op);
        case op_kind::poll: return poll(by, op);
        case op_kind::epoll_create:
            return keep(by, op, ::syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
        case op_kind::epoll_ctl: return epoll_ctl(by, op);
        case op_kind::epoll_wait: return epoll_wait(by, op);
        case op_kind::uring_poll: return uring_poll(by, op);
        case op_kind::eventfd: return keep(by, op, ::syscall(SYS_eventfd2, 0, EFD_NONBLOCK));
        case op_kind::read: return read_some(by, op);
        case op_kind::write: return write_some(by, op);
        case op_kind::file: return file(by, op);
        case op_kind::nonblock: return set_nonblock(by, op);
        case op_kind::close: return close_register(by, op);
        case op_kind::dup: return keep(by, op, ::syscall(SYS_dup, by.regs->fd(op.get("fd"))));
        case op_kind::send: return send(by, op);
        case op_kind::receive: return receive(by, op);
        default: return steal(by, op);
    }
}

}  // namespace kfuzz
