// SPDX-License-Identifier: MIT
// Event loops as a user of the library may have them.
#ifndef IPCDOOR_TESTS_LIB_EVENT_LOOP_HPP
#define IPCDOOR_TESTS_LIB_EVENT_LOOP_HPP

#include <sys/epoll.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include <ipcdoor/error.hpp>
#include <ipcdoor/owned_fd.hpp>

#include "support/catch.hpp"
#include "support/process.hpp"

namespace ipcdoor::test {

// epoll over some descriptors, level-triggered, that counts how often it was woken.
class epoll_set {
public:
    epoll_set() { REQUIRE(epoll_); }
    explicit epoll_set(int fd) : epoll_set() { add(fd, 0); }
    void add(int fd, std::uint64_t tag) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = tag;
        REQUIRE(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
    }
    void remove(int fd) { REQUIRE(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) == 0); }
    // The tags of those that are ready.
    std::vector<std::uint64_t> wait(std::chrono::milliseconds timeout = partner_deadline) {
        epoll_event events[64];
        const int ready = ::epoll_wait(epoll_.get(), events, 64, static_cast<int>(timeout.count()));
        REQUIRE(ready >= 0);
        std::vector<std::uint64_t> tags;
        for (int i = 0; i < ready; ++i) tags.push_back(events[i].data.u64);
        wakeups += tags.size();
        return tags;
    }

    std::uint64_t wakeups = 0;

private:
    owned_fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
};

// One for co_await (ipcdoor/async.hpp).
class coroutine_loop {
public:
    void when_readable(int fd, std::function<void()> ready) {
        if (refuses) throw error(ENOSPC, "no more descriptors");
        epoll_event wanted{};
        wanted.events = EPOLLIN;
        wanted.data.fd = fd;
        if (!waiting_.emplace(fd, std::move(ready)).second ||
            ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &wanted) != 0)
            throw error(EBUSY, "one at a time");
    }
    void forget(int fd) {
        waiting_.erase(fd);
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    }

    // Until the condition holds; false where nothing happens for long.
    bool run_until(const std::function<bool()>& enough) {
        while (!enough()) {
            epoll_event event{};
            const int ready = ::epoll_wait(epoll_.get(), &event, 1, 60'000);
            if (ready == 0) return false;
            if (ready < 0) continue;
            ++wakes;
            const auto found = waiting_.find(event.data.fd);
            if (found == waiting_.end()) return false;
            const std::function<void()> what = std::move(found->second);
            forget(event.data.fd);
            what();
        }
        return true;
    }

    std::size_t waiting() const { return waiting_.size(); }
    bool refuses = false;
    unsigned wakes = 0;

private:
    owned_fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
    std::map<int, std::function<void()>> waiting_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_EVENT_LOOP_HPP
