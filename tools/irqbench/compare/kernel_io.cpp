// SPDX-License-Identifier: MIT
#include "irqbench/compare/kernel_io.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

namespace irqbench::compare {

std::array<owned_fd, 2> socket_pair(int type, std::size_t buffer_bytes) {
    int fds[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
        throw unavailable(with_errno("socketpair"));
    std::array<owned_fd, 2> ends{owned_fd(fds[0]), owned_fd(fds[1])};
    // Of UNIX sockets the sender's buffer is the only one.
    const int wanted = static_cast<int>(buffer_bytes);
    for (const owned_fd& end : ends)
        if (setsockopt(end.get(), SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted)) < 0)
            throw unavailable(with_errno("SO_SNDBUF"));
    return ends;
}

void write_all(int fd, std::span<const std::byte> bytes, const std::string& method) {
    while (!bytes.empty()) {
        const ssize_t n = write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw std::runtime_error(with_errno(method + ": write"));
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
}

void write_two(int fd, std::span<const std::byte> first, std::span<const std::byte> second,
               const std::string& method) {
    // A socket does not write to what is sent.
    const auto part = [](std::span<const std::byte> bytes) {
        return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
    };
    const iovec parts[] = {part(first), part(second)};
    ssize_t n;
    do n = writev(fd, parts, 2);
    while (n < 0 && errno == EINTR);
    if (n < 0) throw std::runtime_error(with_errno(method + ": writev"));
    const auto written = static_cast<std::size_t>(n);
    if (written < first.size()) write_all(fd, first.subspan(written), method);
    write_all(fd, second.subspan(written < first.size() ? 0 : written - first.size()), method);
}

std::size_t read_some(int fd, std::span<std::byte> to, const std::string& method) {
    ssize_t n;
    do n = read(fd, to.data(), to.size());
    while (n < 0 && errno == EINTR);
    if (n < 0) throw std::runtime_error(with_errno(method + ": read"));
    if (n == 0) throw std::runtime_error(method + ": it ended");
    return static_cast<std::size_t>(n);
}

void read_all(int fd, std::span<std::byte> to, const std::string& method) {
    while (!to.empty()) to = to.subspan(read_some(fd, to, method));
}

}  // namespace irqbench::compare
