// SPDX-License-Identifier: MIT
//
// futex(2) on a shared counter for each direction: add one and wake one; wait while unchanged.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "irqbench/method.hpp"

namespace irqbench {

namespace {

struct counters {
    alignas(64) std::atomic<std::uint32_t> of_side[2];
};

class futex_method : public method {
public:
    futex_method() : method("futex", method_kind::peer) {}

    void open(side s) override {
        mine_ = &words_->of_side[static_cast<int>(s)];
        theirs_ = &words_->of_side[1 - static_cast<int>(s)];
    }

    void send() override {
        theirs_->fetch_add(1, std::memory_order_release);
        if (syscall(SYS_futex, theirs_, FUTEX_WAKE, 1, nullptr, nullptr, 0) < 0)
            throw std::runtime_error(with_errno("futex wake"));
    }

    void receive() override {
        await();
        ++seen_;
    }

    std::uint64_t receive_some() override {
        await();
        const std::uint32_t rung = mine_->load(std::memory_order_acquire) - seen_;
        seen_ += rung;
        return rung;
    }

private:
    void await() {
        while (mine_->load(std::memory_order_acquire) == seen_) {
            const long r = syscall(SYS_futex, mine_, FUTEX_WAIT, seen_, nullptr, nullptr, 0);
            if (r < 0 && errno != EAGAIN && errno != EINTR)
                throw std::runtime_error(with_errno("futex wait"));
        }
    }

    shared<counters> words_;
    std::atomic<std::uint32_t>* mine_ = nullptr;
    std::atomic<std::uint32_t>* theirs_ = nullptr;
    std::uint32_t seen_ = 0;
};

}  // namespace

std::unique_ptr<method> make_futex() { return std::make_unique<futex_method>(); }

}  // namespace irqbench
