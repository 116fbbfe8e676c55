// SPDX-License-Identifier: MIT
//
// pipe(2): one for each direction, one byte a ring.
#include <fcntl.h>

#include "irqbench/methods/descriptors.hpp"

namespace irqbench {

namespace {

class pipe_method : public descriptor_method<1> {
public:
    pipe_method() : descriptor_method("pipe", method_kind::peer) {}

    void prepare() override {
        for (auto& [read_end, write_end] : pipes_) {
            int fds[2];
            if (pipe2(fds, O_CLOEXEC) < 0) throw unavailable(with_errno("pipe2"));
            read_end = owned_fd(fds[0]);
            write_end = owned_fd(fds[1]);
        }
    }

    void open(side s) override {
        const int out = s == side::ringer ? 0 : 1;
        send_fd_ = pipes_[out].second.get();
        receive_fd_ = pipes_[1 - out].first.get();
    }

private:
    std::array<std::pair<owned_fd, owned_fd>, 2> pipes_;
};

}  // namespace

std::unique_ptr<method> make_pipe() { return std::make_unique<pipe_method>(); }

}  // namespace irqbench
