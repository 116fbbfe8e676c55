// SPDX-License-Identifier: MIT
#include "ipcdoor-proxy/relay.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "common/throw_errno.hpp"

namespace ipcdoor_proxy {

namespace {

// Of one direction before the other connections have their turn.
constexpr std::uint64_t fair_share_bytes = 1 << 20;
constexpr std::size_t stretch_bytes = 256 * 1024;

}  // namespace

bool relay::move() {
    try {
        events_ = 0;
        more_ = false;
        if (in_open_) socket_to_stream(fair_share_bytes);
        if (out_open_) stream_to_socket(fair_share_bytes);
    } catch (const std::exception& wrong) {
        trouble_ = wrong.what();
        stream_.abort();
        reset_on_close(socket_.get());
        return false;
    }
    return in_open_ || out_open_;
}

void relay::socket_to_stream(std::uint64_t share) {
    for (std::uint64_t moved = 0; moved < share;) {
        const auto room = stream_.try_reserve(stretch_bytes);
        if (!room) return;
        const ssize_t got = ::read(socket_.get(), room->data(), room->size());
        const int error = errno;
        stream_.commit(got > 0 ? static_cast<std::size_t>(got) : 0);
        if (got > 0) {
            moved += static_cast<std::uint64_t>(got);
            bytes_ += static_cast<std::uint64_t>(got);
            continue;
        }
        if (got == 0) {
            in_open_ = false;
            stream_.shutdown_write();
            return;
        }
        if (error == EINTR) continue;
        errno = error;
        if (error != EAGAIN) common::throw_errno("reading from the socket");
        events_ |= EPOLLIN;
        return;
    }
    more_ = true;
}

void relay::stream_to_socket(std::uint64_t share) {
    for (std::uint64_t moved = 0; moved < share;) {
        const auto some = stream_.try_peek();
        if (!some) return;
        if (some->empty()) {
            out_open_ = false;
            if (::shutdown(socket_.get(), SHUT_WR) != 0 && errno != ENOTCONN)
                common::throw_errno("ending the socket's direction");
            return;
        }
        const ssize_t put = ::send(socket_.get(), some->data(), some->size(), MSG_NOSIGNAL);
        const int error = errno;
        stream_.consume(put > 0 ? static_cast<std::size_t>(put) : 0);
        if (put > 0) {
            moved += static_cast<std::uint64_t>(put);
            bytes_ += static_cast<std::uint64_t>(put);
            continue;
        }
        if (error == EINTR) continue;
        errno = error;
        if (error != EAGAIN) common::throw_errno("writing to the socket");
        events_ |= EPOLLOUT;
        return;
    }
    more_ = true;
}

}  // namespace ipcdoor_proxy
