// SPDX-License-Identifier: MIT
//
// Unnamed, process-shared POSIX semaphores, one for each direction.
#include <semaphore.h>

#include <cerrno>

#include "irqbench/method.hpp"

namespace irqbench {

namespace {

struct semaphores {
    struct alignas(64) one {
        sem_t value;
    } of_side[2];
};

class posix_semaphore_method : public method {
public:
    posix_semaphore_method() : method("semaphore", method_kind::peer) {}

    void prepare() override {
        for (auto& s : semaphores_->of_side)
            if (sem_init(&s.value, 1, 0) < 0) throw unavailable(with_errno("sem_init"));
    }

    void open(side s) override {
        mine_ = &semaphores_->of_side[static_cast<int>(s)].value;
        theirs_ = &semaphores_->of_side[1 - static_cast<int>(s)].value;
    }

    void send() override {
        if (sem_post(theirs_) < 0) throw std::runtime_error(with_errno("sem_post"));
    }

    void receive() override {
        while (sem_wait(mine_) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno("sem_wait"));
    }

private:
    shared<semaphores> semaphores_;
    sem_t* mine_ = nullptr;
    sem_t* theirs_ = nullptr;
};

}  // namespace

std::unique_ptr<method> make_posix_semaphore() {
    return std::make_unique<posix_semaphore_method>();
}

}  // namespace irqbench
