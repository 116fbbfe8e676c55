// SPDX-License-Identifier: MIT
// Sources by hand for the tests of wait_set.
#ifndef IPCDOOR_TESTS_LIB_WAIT_SET_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_WAIT_SET_SUPPORT_HPP

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include <ipcdoor/detail/wait_until.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/wait_set.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"

namespace ipcdoor::test {

// Whether this thread, in a wait that has to end by its deadline, runs for more than half of
// the time that this takes.
template <class Wait>
bool keeps_busy(Wait wait) {
    const auto now_ns = [](clockid_t clock) {
        timespec now{};
        ::clock_gettime(clock, &now);
        return detail::to_ns(now);
    };
    const std::uint64_t begin_ns = now_ns(CLOCK_MONOTONIC);
    const std::uint64_t cpu_begin_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    CHECK(error_of(wait) == ETIMEDOUT);
    const std::uint64_t cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_begin_ns;
    return 2 * cpu_ns > now_ns(CLOCK_MONOTONIC) - begin_ns;
}

// The simplest semaphore, shared with later children.
class plain_semaphore {
public:
    explicit plain_semaphore(unsigned units = 0)
        : fd_(::eventfd(units, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC)) {}
    int fd() const { return fd_.get(); }
    bool try_acquire() {
        std::uint64_t one = 0;
        return ::read(fd_.get(), &one, sizeof one) == sizeof one;
    }
    void release() {
        const std::uint64_t one = 1;
        if (::write(fd_.get(), &one, sizeof one) != sizeof one) std::abort();
    }
    // Takes them all.
    unsigned drain() {
        unsigned units = 0;
        while (try_acquire()) ++units;
        return units;
    }

private:
    owned_fd fd_;
};

// An eventfd that is written by hand.
struct counter {
    counter() : fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
    void add(std::uint64_t count = 1) const {
        if (::write(fd.get(), &count, sizeof count) != sizeof count) std::abort();
    }
    owned_fd fd;
};

// An eventfd that a set waits for, and the count that it took.
struct eventfd_in {
    explicit eventfd_in(wait_set& set) : id(set.add(on_eventfd(count.fd.get(), value))) {}
    counter count;
    std::uint64_t value = 0;
    source_id id;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_WAIT_SET_SUPPORT_HPP
