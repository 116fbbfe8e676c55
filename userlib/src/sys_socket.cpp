// SPDX-License-Identifier: MIT
// The socket half of sys.h.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <ipcdoor.h>

#include "sys.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace ipcdoor::backend::sys {

namespace {

constexpr std::size_t most_fds = 4;

int result(long value) noexcept { return value < 0 ? -errno : static_cast<int>(value); }

// sun_path is short; the directory's descriptor stands in for its path, and
// cannot be exchanged for another directory after it was checked.
int make_address(sockaddr_un& address, int dir, const char* name) noexcept {
    address = {};
    address.sun_family = AF_UNIX;
    const int length =
        std::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
    return length < static_cast<int>(sizeof(address.sun_path)) ? 0 : -ENAMETOOLONG;
}

}  // namespace

int socket_new(bool blocking) noexcept {
    return result(
        ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0));
}

int socket_bind(int fd, int dir, const char* name) noexcept {
    sockaddr_un address;
    const int rc = make_address(address, dir, name);
    if (rc != 0) return rc;
    return result(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
}

int socket_connect(int fd, int dir, const char* name, std::uint64_t deadline_ns) noexcept {
    sockaddr_un address;
    const int rc = make_address(address, dir, name);
    if (rc != 0) return rc;

    // connect() waits for room in the backlog as long as sends may take.
    timeval timeout{};
    if (deadline_ns != IPCDOOR_NO_DEADLINE) {
        const std::uint64_t now = now_ns();
        const std::uint64_t left_us = deadline_ns > now ? (deadline_ns - now) / 1000 : 0;
        timeout.tv_sec = static_cast<time_t>(left_us / 1'000'000);
        timeout.tv_usec = std::max<suseconds_t>(static_cast<suseconds_t>(left_us % 1'000'000), 1);
    }
    if (::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0) return -errno;
    return result(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
}

int socket_listen(int fd, int backlog) noexcept { return result(::listen(fd, backlog)); }

int socket_accept(int fd) noexcept {
    // The listening sockets are non-blocking; what they give away need not be.
    return result(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
}

int socket_credentials(int fd, credentials& out) noexcept {
    ucred about{};
    socklen_t length = sizeof(about);
    const int rc = result(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &about, &length));
    if (rc == 0) out = {about.pid, about.uid, about.gid};
    return rc;
}

void socket_shutdown(int fd) noexcept { ::shutdown(fd, SHUT_RDWR); }

int socket_send(int fd, const void* from, std::size_t bytes, std::span<const int> fds) noexcept {
    if (fds.empty()) return result(::send(fd, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (fds.size() > most_fds) return -EINVAL;

    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_fds)] = {};
    iovec part{const_cast<void*>(from), bytes};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    return result(::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

int socket_receive(int fd, void* to, std::size_t bytes) noexcept {
    return result(::recv(fd, to, bytes, MSG_DONTWAIT));
}

int socket_receive_fds(int fd, void* to, std::size_t bytes, std::vector<owned_fd>& fds) {
    fds.clear();
    fds.reserve(most_fds);  // nothing may throw once descriptors have arrived
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_fds)];
    iovec part{to, bytes};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const int rc = result(::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (rc < 0) return rc;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int received;
            std::memcpy(&received, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            owned_fd owned(received);
            if (fds.size() < most_fds) fds.push_back(std::move(owned));
        }
    }
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        // What is cut off although there was room in `control` found none in the table of files.
        const bool no_room = (message.msg_flags & MSG_TRUNC) == 0 && fds.size() < most_fds;
        fds.clear();
        return no_room ? -EMFILE : -EMSGSIZE;
    }
    return rc;
}

int peer_process(int socket) noexcept {
    int fd = -1;
    socklen_t length = sizeof(fd);
    // Since Linux 6.5, and without the race of a process id that is used again.
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0) return fd;
    // EINVAL is how these kernels say that the process is gone.
    if (errno != ENOPROTOOPT) return errno == EINVAL ? -ESRCH : -errno;
    credentials about;
    const int rc = socket_credentials(socket, about);
    if (rc < 0) return rc;
    if (about.pid <= 0) return -EOPNOTSUPP;  // of another PID namespace
    return result(::syscall(SYS_pidfd_open, about.pid, 0));
}

}  // namespace ipcdoor::backend::sys
