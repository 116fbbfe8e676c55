// SPDX-License-Identifier: MIT
#include "ipcdoor-proxy/proxy.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "common/throw_errno.hpp"

namespace ipcdoor_proxy {

namespace {

constexpr std::uint64_t listener_tag = 0;
constexpr std::uint64_t dialer_tag = 1;
constexpr std::uint64_t end_tag = 2;
// Of the connections: twice the id for the socket, one more for the stream.
constexpr std::uint64_t first_id = 2;

}  // namespace

proxy::proxy(const options& o, ipcdoor::door& door, int end_fd)
    : o_(o), epoll_(::epoll_create1(EPOLL_CLOEXEC)), dialer_(o, door), next_id_(first_id) {
    if (!epoll_) common::throw_errno("epoll_create1");
    if (o.from.kind == network::ipcdoor) {
        ipcdoor::stream_listen_options listening;
        listening.capacity_bytes = o.capacity_bytes;
        listening.mode = o.mode;
        names_.emplace(door, o.from.path, listening);
    } else {
        socket_ = listen_on(o.from);
    }
    watch(EPOLL_CTL_ADD, dialer_.fd(), EPOLLIN, dialer_tag);
    watch(EPOLL_CTL_ADD, end_fd, EPOLLIN, end_tag);
    watch_listener();
}

void proxy::watch(int operation, int fd, std::uint32_t events, std::uint64_t tag) {
    epoll_event wanted{};
    wanted.events = events;
    wanted.data.u64 = tag;
    if (::epoll_ctl(epoll_.get(), operation, fd, &wanted) != 0) common::throw_errno("epoll_ctl");
}

// Looks for newcomers as long as there is room for one.
void proxy::watch_listener() {
    const bool wanted = served_.size() + dialing_ < o_.max_connections;
    if (wanted == listening_) return;
    watch(wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, names_ ? names_->fd() : socket_.get(), EPOLLIN,
          listener_tag);
    listening_ = wanted;
}

void proxy::run() {
    for (;;) {
        epoll_event events[64];
        const int ready = ::epoll_wait(epoll_.get(), events, 64, more_.empty() ? -1 : 0);
        if (ready < 0 && errno != EINTR) common::throw_errno("epoll_wait");
        for (const std::uint64_t id : std::exchange(more_, {})) {
            if (const auto found = served_.find(id); found != served_.end())
                found->second.queued = false;
            serve(id);
        }
        for (int i = 0; i < ready; ++i) {
            switch (const std::uint64_t tag = events[i].data.u64; tag) {
                case end_tag: return;
                case listener_tag: admit(); break;
                case dialer_tag: adopt(); break;
                default: serve(tag / 2);
            }
        }
        watch_listener();
    }
}

void proxy::admit() {
    while (served_.size() + dialing_ < o_.max_connections && admit_one()) ++dialing_;
}

bool proxy::admit_one() {
    half came;
    if (names_) {
        came.stream = names_->try_accept();
        if (!came.stream) return false;
    } else {
        came.socket.emplace(
            ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!*came.socket) {
            if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return false;
            common::throw_errno("accepting a connection");
        }
        no_delay(came.socket->get());
    }
    dialer_.complete(std::move(came));
    return true;
}

void proxy::adopt() {
    while (std::optional<dialer::result> done = dialer_.take()) {
        --dialing_;
        if (!done->made) {
            if (summary_.failed++ == 0 || o_.verbose) say(done->trouble);
            continue;
        }
        const std::uint64_t id = next_id_++;
        ++summary_.connections;
        if (o_.verbose) say(fmt::format("connection {} is bridged", id));
        // Edges: what is ready and cannot be passed on yet must not keep the loop awake.
        watch(EPOLL_CTL_ADD, done->made->stream_fd(), EPOLLIN | EPOLLET, 2 * id + 1);
        served_[id].bridge = std::move(done->made);
        serve(id);
    }
}

void proxy::serve(std::uint64_t id) {
    const auto found = served_.find(id);
    if (found == served_.end()) return;
    served& one = found->second;
    relay& bridge = *one.bridge;
    if (!bridge.move()) {
        summary_.bytes += bridge.bytes();
        if (!bridge.trouble().empty()) ++summary_.broken;
        if (o_.verbose)
            say(fmt::format("connection {} has ended after {} bytes{}{}", id, bridge.bytes(),
                            bridge.trouble().empty() ? "" : ": ", bridge.trouble()));
        served_.erase(found);
        return;
    }
    if (const std::uint32_t wanted = bridge.socket_events(); wanted != one.socket_events) {
        const int operation = one.socket_events == 0 ? EPOLL_CTL_ADD
                              : wanted == 0          ? EPOLL_CTL_DEL
                                                     : EPOLL_CTL_MOD;
        watch(operation, bridge.socket_fd(), wanted, 2 * id);
        one.socket_events = wanted;
    }
    if (bridge.has_more() && !std::exchange(one.queued, true)) more_.push_back(id);
}

void proxy::say(const std::string& what) const { fmt::print(stderr, "ipcdoor-proxy: {}\n", what); }

}  // namespace ipcdoor_proxy
