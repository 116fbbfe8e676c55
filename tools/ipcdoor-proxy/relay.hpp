// SPDX-License-Identifier: MIT
//
// Owns: one bridged connection: bytes from a socket into an ipcdoor stream and back,
// straight from and into the shared memory, with the ends of both directions.
#pragma once

#include <cstdint>
#include <string>

#include <ipcdoor/stream.hpp>

#include "ipcdoor-proxy/address.hpp"

namespace ipcdoor_proxy {

class relay {
public:
    relay(ipcdoor::owned_fd socket, ipcdoor::stream_socket stream)
        : socket_(std::move(socket)), stream_(std::move(stream)) {}

    // Moves what can be moved without waiting, up to a fair share. False: both
    // directions have ended, or one of the sides is broken (see trouble()); then this
    // is to be destroyed, and whoever is left is told: a broken stream by abort, a broken
    // socket by a reset.
    bool move();

    // What has to be waited for at the socket (EPOLLIN, EPOLLOUT); the stream's
    // descriptor is to be watched always.
    std::uint32_t socket_events() const noexcept { return events_; }
    // There was more to do than a fair share.
    bool has_more() const noexcept { return more_; }

    int socket_fd() const noexcept { return socket_.get(); }
    int stream_fd() const { return stream_.fd(); }

    std::uint64_t bytes() const noexcept { return bytes_; }
    const std::string& trouble() const noexcept { return trouble_; }

private:
    void socket_to_stream(std::uint64_t share);
    void stream_to_socket(std::uint64_t share);

    ipcdoor::owned_fd socket_;
    ipcdoor::stream_socket stream_;
    bool in_open_ = true;   // the socket may have bytes for the stream
    bool out_open_ = true;  // and the other way round
    bool more_ = false;
    std::uint32_t events_ = 0;
    std::uint64_t bytes_ = 0;  // both directions
    std::string trouble_;
};

}  // namespace ipcdoor_proxy
