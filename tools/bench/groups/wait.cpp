// SPDX-License-Identifier: MIT
//
// Waiting for one of many: what is ready costs, and what is not must not.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/wait_set.hpp>
#include <random>
#include <string>
#include <vector>

#include "bench/registry.hpp"
#include "common/throw_errno.hpp"

namespace {

enum class order { in_turn, random };

// Eventfds of which one becomes ready in each operation.
class eventfds {
public:
    eventfds(std::size_t count, order which) : order_(which) {
        for (std::size_t i = 0; i < count; ++i) {
            all_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
            if (!all_.back()) common::throw_errno("eventfd");
        }
    }
    std::size_t size() const noexcept { return all_.size(); }
    int fd(std::size_t i) const noexcept { return all_[i].get(); }

    std::size_t ready_next() {
        if (order_ == order::in_turn)
            next_ = next_ + 1 == all_.size() ? 0 : next_ + 1;
        else
            next_ = random_() % all_.size();
        const std::uint64_t one = 1;
        bench::require(::write(fd(next_), &one, sizeof one) == sizeof one, "an eventfd is full");
        return next_;
    }

private:
    const order order_;
    std::minstd_rand random_;
    std::vector<ipcdoor::owned_fd> all_;
    std::size_t next_ = 0;
};

class door_wait {
public:
    door_wait(std::size_t count, order which) : events_(count, which), counts_(count) {
        for (std::size_t i = 0; i < count; ++i)
            ids_.push_back(set_.add(ipcdoor::on_eventfd(events_.fd(i), counts_[i])));
    }
    void operator()() {
        const std::size_t ready = events_.ready_next();
        const ipcdoor::wait_report got = set_.wait_any();
        bench::require(got.id == ids_[ready] && got.error_number == 0 && counts_[ready] == 1,
                       "wait_set: another source");
    }

private:
    eventfds events_;
    std::vector<std::uint64_t> counts_;
    std::vector<ipcdoor::source_id> ids_;
    ipcdoor::wait_set set_;
};

class epoll_wait_and_read {
public:
    epoll_wait_and_read(std::size_t count, order which)
        : events_(count, which), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        for (std::size_t i = 0; i < count; ++i) {
            epoll_event wanted{};
            wanted.events = EPOLLIN;
            wanted.data.u64 = i;
            if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, events_.fd(i), &wanted) != 0)
                common::throw_errno("epoll_ctl");
        }
    }
    void operator()() {
        const std::size_t ready = events_.ready_next();
        epoll_event got{};
        bench::require(::epoll_wait(epoll_.get(), &got, 1, -1) == 1 && got.data.u64 == ready,
                       "epoll: another descriptor");
        std::uint64_t count = 0;
        bench::require(
            ::read(events_.fd(ready), &count, sizeof count) == sizeof count && count == 1,
            "epoll: not readable");
    }

private:
    eventfds events_;
    ipcdoor::owned_fd epoll_;
};

const bench::part waits("wait", [](bench::group& g) {
    g.title = "Waiting for one of many eventfds";
    g.operation = "write to an eventfd, the next one or any, wait for any of all, read its count";
    g.axis = bench::axis_kind::number;
    g.axis_title = "eventfds";
    const char *own = "ipcdoor::wait_set", *other = "epoll";
    const char *own_random = "ipcdoor::wait_set, random", *other_random = "epoll, random";
    const auto add = [&](std::size_t count, order which, const char* ours, const char* theirs) {
        const auto x = static_cast<double>(count);
        g.add({ours, x, true, [=] { return bench::make_work<door_wait>(count, which); }});
        g.add({theirs, x, false,
               [=] { return bench::make_work<epoll_wait_and_read>(count, which); }});
    };
    for (const std::size_t count : {1U, 8U, 64U, 512U}) add(count, order::in_turn, own, other);
    for (const std::size_t count : {8U, 64U, 512U})
        add(count, order::random, own_random, other_random);
    g.compare({"wait_set, 64 : 1", {own, 64}, {own, 1}, 1.10});
    g.compare({"wait_set, 64 : 8", {own, 64}, {own, 8}});
    g.compare({"wait_set, 512 : 8", {own, 512}, {own, 8}});
    g.compare({"wait_set, 64, random : 1", {own_random, 64}, {own, 1}});
    g.compare({"epoll, 64 : 1", {other, 64}, {other, 1}});
    g.compare({"epoll, 64, random : 1", {other_random, 64}, {other, 1}});
    for (const double x : {1.0, 8.0, 64.0, 512.0})
        g.compare({"wait_set : epoll, " + g.label(x), {own, x}, {other, x}});
    for (const double x : {8.0, 64.0, 512.0})
        g.compare({"random, wait_set : epoll, " + g.label(x), {own_random, x}, {other_random, x}});
});

}  // namespace
