// SPDX-License-Identifier: MIT
//
// Owns: where the proxy listens and where it connects to, in words and as sockets.
#pragma once

#include <string>

#include <ipcdoor/owned_fd.hpp>

namespace ipcdoor_proxy {

enum class network { ipcdoor, tcp, unix_socket };

// ipcdoor:NAME, tcp:HOST:PORT, unix:PATH
struct address {
    network kind = network::ipcdoor;
    std::string host;  // tcp: may be empty, any address
    std::string port;  // tcp
    std::string path;  // unix: the path; ipcdoor: the name
    std::string text;  // as it was given
};

// Throws std::invalid_argument with a sentence for people.
address parse_address(const std::string& text);

// A listening socket, non-blocking. A socket file that nobody listens on any more is
// replaced. Throws std::system_error or std::runtime_error.
ipcdoor::owned_fd listen_on(const address& at);

// A connection under way, non-blocking: writable once it is there, or has failed, which
// connection_error() tells. Throws as listen_on().
ipcdoor::owned_fd connect_to(const address& at);
int connection_error(int fd);

// Small writes go at once.
void no_delay(int fd);
// A socket that is closed then is reset instead of ended.
void reset_on_close(int fd);

}  // namespace ipcdoor_proxy
