// SPDX-License-Identifier: MIT
/*
 * Every system call of the back ends, and the mappings that they hand out.
 *
 * Calls return what the system call returns, or a negative errno value; the
 * callers know what a failure means and say it. Only the constructors of
 * mappings throw (`failure`).
 */
#ifndef IPCDOOR_SRC_SYS_H
#define IPCDOOR_SRC_SYS_H

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/owned_fd.hpp>

namespace ipcdoor::backend::sys {

enum class access { read, read_write };

class mapping {
public:
    mapping() = default;
    // Shared pages of `fd`, which fork()ed children do not have; throws failure.
    mapping(int fd, std::uint64_t offset, std::size_t bytes, access how);
    // Address space without pages, to be filled by place(); not in children.
    static mapping reserved(std::size_t bytes);
    mapping(mapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)),
          bytes_(std::exchange(other.bytes_, 0)),
          maker_(other.maker_) {}
    mapping& operator=(mapping&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        std::swap(maker_, other.maker_);
        return *this;
    }
    ~mapping();

    // Maps over [at, at + bytes) of this range; 0 or a negative errno.
    int place(std::size_t at, int fd, std::uint64_t offset, std::size_t bytes, access how);

    void* address() const noexcept { return address_; }
    explicit operator bool() const noexcept { return address_ != nullptr; }

private:
    void keep_from_children();  // or throws failure, unmapped

    void* address_ = nullptr;
    std::size_t bytes_ = 0;
    pid_t maker_ = 0;  // the process that alone has it
};

// ---- time and process ----

std::uint64_t now_ns() noexcept;
pid_t process_id() noexcept;
pid_t thread_id() noexcept;
uid_t effective_uid() noexcept;
gid_t effective_gid() noexcept;
std::size_t page_bytes() noexcept;
const char* environment(const char* name) noexcept;  // null in set-uid programs

// ---- descriptors ----

int open_at(int dir, const char* path, int flags, mode_t mode = 0) noexcept;
int status(int fd, struct stat& out) noexcept;
int status_at(int dir, const char* name, struct stat& out) noexcept;  // not following links
int change_mode(int fd, mode_t mode) noexcept;
int change_mode_at(int dir, const char* name, mode_t mode) noexcept;
int make_dir_at(int dir, const char* name, mode_t mode) noexcept;
int remove_at(int dir, const char* name) noexcept;
int remove_dir_at(int dir, const char* name) noexcept;
int rename_at(int dir, const char* from, int to_dir, const char* to) noexcept;
// Fails with -EEXIST instead of replacing what is there.
int rename_new_at(int dir, const char* from, const char* to) noexcept;
int list_dir(int dir, std::vector<std::string>& names);
int lock_file(int fd) noexcept;  // -EAGAIN where somebody holds it
int unlock_file(int fd) noexcept;
int read_at(int fd, void* to, std::size_t bytes, std::uint64_t offset) noexcept;
int write_at(int fd, const void* from, std::size_t bytes, std::uint64_t offset) noexcept;
int truncate_file(int fd, std::uint64_t bytes) noexcept;
int allocate_file(int fd, std::uint64_t from, std::uint64_t bytes) noexcept;
// What the caller of the library is told of a file that could not be made or filled: a full file
// system lacks memory. There ENOSPC says that all slots of a segment are taken.
constexpr int storage_error(int rc) noexcept { return rc == -ENOSPC ? ENOMEM : -rc; }
int file_system_type(int fd, std::uint64_t& type) noexcept;
int make_blocking(int fd) noexcept;
int device_control(int fd, unsigned long request, void* argument) noexcept;

int memory_file(const char* name) noexcept;
int seals(int fd) noexcept;
int add_seals(int fd, int seals) noexcept;

int event_counter() noexcept;  // eventfd, non-blocking
int event_add(int fd) noexcept;
int event_clear(int fd) noexcept;

// ---- waiting ----

int epoll_new() noexcept;
int epoll_watch(int epoll, int fd, std::uint32_t events, std::uint64_t tag) noexcept;
int epoll_forget(int epoll, int fd) noexcept;
// Waits until the absolute CLOCK_MONOTONIC deadline; a past one only asks.
int epoll_until(int epoll, std::span<epoll_event> events, std::uint64_t deadline_ns) noexcept;
int poll_until(std::span<pollfd> fds, std::uint64_t deadline_ns) noexcept;
// Sleeps while `word` is `expected`; 0, -EAGAIN, -EINTR or -ETIMEDOUT.
int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
               std::uint64_t deadline_ns) noexcept;
void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept;
void sleep_ns(std::uint64_t ns) noexcept;

// ---- sockets (AF_UNIX, SOCK_SEQPACKET) and processes ----

struct credentials {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
};

int socket_new(bool blocking) noexcept;
// Paths are relative to the directory `dir`, however long its own path is.
int socket_bind(int fd, int dir, const char* name) noexcept;
int socket_connect(int fd, int dir, const char* name, std::uint64_t deadline_ns) noexcept;
int socket_listen(int fd, int backlog) noexcept;
int socket_accept(int fd) noexcept;  // never blocks
int socket_credentials(int fd, credentials& out) noexcept;
void socket_shutdown(int fd) noexcept;
// Whole messages; never block, never raise SIGPIPE.
int socket_send(int fd, const void* from, std::size_t bytes,
                std::span<const int> fds = {}) noexcept;
int socket_receive(int fd, void* to, std::size_t bytes) noexcept;
// -EMSGSIZE where message or descriptors did not fit, -EMFILE where this process has no room
// for the descriptors; then none are kept.
int socket_receive_fds(int fd, void* to, std::size_t bytes, std::vector<owned_fd>& fds);

// A descriptor that polls readable once the socket's peer process has ended;
// -ESRCH where it already has, other errors where there is no telling.
int peer_process(int socket) noexcept;

int queue_signal(pid_t process, pid_t thread, int signo, std::uint64_t value) noexcept;
bool signal_is_usable(int signo) noexcept;

}  // namespace ipcdoor::backend::sys

#endif  // IPCDOOR_SRC_SYS_H
