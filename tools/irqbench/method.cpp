// SPDX-License-Identifier: MIT
#include "irqbench/method.hpp"

#include <cerrno>
#include <cstring>

namespace irqbench {

namespace {

constexpr struct {
    const char* name;
    std::unique_ptr<method> (*make)();
} peers[] = {
    {"eventfd", make_eventfd},
    {"futex", make_futex},
    {"pipe", make_pipe},
    {"unix-stream", make_unix_stream},
    {"unix-dgram", make_unix_datagram},
    {"mq", make_posix_mq},
    {"semaphore", make_posix_semaphore},
    {"signal", make_realtime_signal},
    {"soft", make_soft_door},
};

}  // namespace

std::string with_errno(const std::string& what) { return what + ": " + std::strerror(errno); }

const std::vector<std::string>& peer_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> list;
        for (const auto& p : peers) list.emplace_back(p.name);
        return list;
    }();
    return names;
}

std::unique_ptr<method> make_peer(const std::string& name) {
    for (const auto& p : peers)
        if (name == p.name) return p.make();
    throw std::invalid_argument("unknown method '" + name + "'");
}

}  // namespace irqbench
