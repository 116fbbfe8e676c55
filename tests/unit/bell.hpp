// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_UNIT_BELL_HPP
#define IPCDOOR_TESTS_UNIT_BELL_HPP

#include <semaphore.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace ipcdoor::test {

// A counted doorbell between threads. The watchdog of the test binary ends a lost wake-up.
class bell {
public:
    bell() { ::sem_init(&semaphore_, 0, 0); }
    ~bell() { ::sem_destroy(&semaphore_); }
    bell(const bell&) = delete;
    bell& operator=(const bell&) = delete;

    void ring() {
        rings.fetch_add(1, std::memory_order_relaxed);
        ::sem_post(&semaphore_);
    }
    void wait() {
        while (::sem_wait(&semaphore_) != 0 && errno == EINTR) {
        }
    }

    std::atomic<std::uint64_t> rings{0};

private:
    ::sem_t semaphore_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UNIT_BELL_HPP
