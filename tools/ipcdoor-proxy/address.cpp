// SPDX-License-Identifier: MIT
#include "ipcdoor-proxy/address.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "common/throw_errno.hpp"

namespace ipcdoor_proxy {

namespace {

ipcdoor::owned_fd new_socket(int family) {
    ipcdoor::owned_fd made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made) common::throw_errno("socket");
    return made;
}

void set(int fd, int level, int option) {
    const int on = 1;
    static_cast<void>(::setsockopt(fd, level, option, &on, sizeof on));
}

sockaddr_un unix_address(const address& at) {
    sockaddr_un made{};
    made.sun_family = AF_UNIX;
    if (at.path.size() >= sizeof made.sun_path)
        throw std::runtime_error(at.text + ": a path of at most " +
                                 std::to_string(sizeof made.sun_path - 1) + " bytes is possible");
    std::memcpy(made.sun_path, at.path.data(), at.path.size());
    return made;
}

const sockaddr* plain(const sockaddr_un& of) { return reinterpret_cast<const sockaddr*>(&of); }

struct found_free {
    void operator()(addrinfo* found) const noexcept { ::freeaddrinfo(found); }
};

std::unique_ptr<addrinfo, found_free> look_up(const address& at, bool passive) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = passive ? AI_PASSIVE : 0;
    addrinfo* found = nullptr;
    const int rc =
        ::getaddrinfo(at.host.empty() ? nullptr : at.host.c_str(), at.port.c_str(), &hints, &found);
    if (rc != 0) throw std::runtime_error(at.text + ": " + ::gai_strerror(rc));
    return std::unique_ptr<addrinfo, found_free>(found);
}

ipcdoor::owned_fd listen_unix(const address& at) {
    const sockaddr_un where = unix_address(at);
    ipcdoor::owned_fd made = new_socket(AF_UNIX);
    if (::bind(made.get(), plain(where), sizeof where) != 0) {
        if (errno != EADDRINUSE) common::throw_errno(at.text);
        // A socket that nobody listens on any more is replaced, and nothing else is.
        struct stat there {};
        const ipcdoor::owned_fd probe = new_socket(AF_UNIX);
        if (::lstat(at.path.c_str(), &there) != 0 || !S_ISSOCK(there.st_mode) ||
            ::connect(probe.get(), plain(where), sizeof where) == 0 || errno != ECONNREFUSED) {
            errno = EADDRINUSE;
            common::throw_errno(at.text);
        }
        if (::unlink(at.path.c_str()) != 0 || ::bind(made.get(), plain(where), sizeof where) != 0)
            common::throw_errno(at.text);
    }
    if (::listen(made.get(), SOMAXCONN) != 0) common::throw_errno(at.text);
    return made;
}

ipcdoor::owned_fd listen_tcp(const address& at) {
    const auto found = look_up(at, true);
    ipcdoor::owned_fd made = new_socket(found->ai_family);
    set(made.get(), SOL_SOCKET, SO_REUSEADDR);
    if (::bind(made.get(), found->ai_addr, found->ai_addrlen) != 0 ||
        ::listen(made.get(), SOMAXCONN) != 0)
        common::throw_errno(at.text);
    return made;
}

}  // namespace

address parse_address(const std::string& text) {
    address made;
    made.text = text;
    const auto colon = text.find(':');
    const std::string scheme = text.substr(0, colon);
    const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
    if (scheme == "ipcdoor" && !rest.empty()) {
        made.path = rest;
        return made;
    }
    if (scheme == "unix" && !rest.empty()) {
        made.kind = network::unix_socket;
        made.path = rest;
        return made;
    }
    if (scheme == "tcp") {
        made.kind = network::tcp;
        const auto last = rest.rfind(':');
        if (last != std::string::npos && last + 1 < rest.size()) {
            made.port = rest.substr(last + 1);
            made.host = rest.substr(0, last);
            if (made.host.size() > 1 && made.host.front() == '[' && made.host.back() == ']')
                made.host = made.host.substr(1, made.host.size() - 2);
            return made;
        }
    }
    throw std::invalid_argument("'" + text +
                                "' is no address: ipcdoor:NAME, tcp:HOST:PORT or unix:PATH");
}

ipcdoor::owned_fd listen_on(const address& at) {
    return at.kind == network::unix_socket ? listen_unix(at) : listen_tcp(at);
}

ipcdoor::owned_fd connect_to(const address& at) {
    if (at.kind == network::unix_socket) {
        const sockaddr_un where = unix_address(at);
        ipcdoor::owned_fd made = new_socket(AF_UNIX);
        if (::connect(made.get(), plain(where), sizeof where) != 0) common::throw_errno(at.text);
        return made;
    }
    const auto found = look_up(at, false);
    for (const addrinfo* one = found.get();; one = one->ai_next) {
        ipcdoor::owned_fd made = new_socket(one->ai_family);
        no_delay(made.get());
        if (::connect(made.get(), one->ai_addr, one->ai_addrlen) == 0 || errno == EINPROGRESS)
            return made;
        if (one->ai_next == nullptr) common::throw_errno(at.text);
    }
}

int connection_error(int fd) {
    int error = 0;
    socklen_t bytes = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
    return error;
}

// Of UNIX sockets it is an error, and true anyway.
void no_delay(int fd) { set(fd, IPPROTO_TCP, TCP_NODELAY); }

void reset_on_close(int fd) {
    const linger at_once{1, 0};
    static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
}

}  // namespace ipcdoor_proxy
