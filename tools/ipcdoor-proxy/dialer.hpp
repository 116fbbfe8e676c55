// SPDX-License-Identifier: MIT
//
// Owns: the thread that makes the second half of each connection. Looking up a host and
// waiting for a server to accept may take long, and must hold up nobody who is
// connected already. One thread suffices: all that it waits for is one server.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <ipcdoor/door.hpp>
#include <ipcdoor/stream.hpp>

#include "ipcdoor-proxy/address.hpp"
#include "ipcdoor-proxy/options.hpp"
#include "ipcdoor-proxy/relay.hpp"

namespace ipcdoor_proxy {

// What came: one of the two.
struct half {
    std::optional<ipcdoor::owned_fd> socket;
    std::optional<ipcdoor::stream_socket> stream;
};

class dialer {
public:
    dialer(const options& o, ipcdoor::door& door);
    ~dialer();
    dialer(const dialer&) = delete;
    dialer& operator=(const dialer&) = delete;

    void complete(half came);

    struct result {
        std::unique_ptr<relay> made;  // or
        std::string trouble;
    };
    // The next that is done; nothing where none is.
    std::optional<result> take();
    // Readable while there may be one.
    int fd() const noexcept { return news_.get(); }

private:
    void run();
    result dial(half came);
    ipcdoor::owned_fd connect_socket();

    const options& o_;
    ipcdoor::door& door_;
    ipcdoor::owned_fd news_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<half> waiting_;  // mutex_
    std::deque<result> done_;   // mutex_
    bool ending_ = false;       // mutex_
    std::thread thread_;
};

}  // namespace ipcdoor_proxy
