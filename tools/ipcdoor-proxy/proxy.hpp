// SPDX-License-Identifier: MIT
//
// Owns: the event loop of ipcdoor-proxy: who comes, who is served next, who is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <ipcdoor/door.hpp>
#include <ipcdoor/stream.hpp>

#include "ipcdoor-proxy/dialer.hpp"
#include "ipcdoor-proxy/options.hpp"
#include "ipcdoor-proxy/relay.hpp"

namespace ipcdoor_proxy {

struct proxy_summary {
    std::uint64_t connections = 0;  // that were bridged
    std::uint64_t failed = 0;       // that found nobody at the other side
    std::uint64_t broken = 0;       // that ended by an error
    std::uint64_t bytes = 0;        // both directions
};

class proxy {
public:
    // Listens at once. `end_fd` becomes readable when it is time to end. Throws
    // ipcdoor::error, std::system_error, std::runtime_error.
    proxy(const options& o, ipcdoor::door& door, int end_fd);
    proxy(const proxy&) = delete;
    proxy& operator=(const proxy&) = delete;

    // Serves until `end_fd` is readable.
    void run();

    const proxy_summary& summary() const noexcept { return summary_; }

private:
    struct served {
        std::unique_ptr<relay> bridge;
        std::uint32_t socket_events = 0;  // as epoll has them; 0: not watched
        bool queued = false;              // in more_
    };

    void watch(int operation, int fd, std::uint32_t events, std::uint64_t tag);
    void admit();
    bool admit_one();
    void adopt();
    void serve(std::uint64_t id);
    void watch_listener();
    void say(const std::string& what) const;

    const options& o_;
    ipcdoor::owned_fd epoll_;
    std::optional<ipcdoor::stream_listener> names_;
    ipcdoor::owned_fd socket_;
    dialer dialer_;
    bool listening_ = false;     // epoll looks at the listener
    std::uint64_t dialing_ = 0;  // came, and wait for their second half
    std::uint64_t next_id_;
    std::unordered_map<std::uint64_t, served> served_;
    std::vector<std::uint64_t> more_;  // had more to do than a fair share
    proxy_summary summary_;
};

}  // namespace ipcdoor_proxy
