// SPDX-License-Identifier: MIT
//
// eventfd(2): an eight-byte counter for each direction, blocking read.
#include <sys/eventfd.h>

#include "irqbench/methods/descriptors.hpp"

namespace irqbench {

namespace {

class eventfd_method : public descriptor_method<8> {
public:
    eventfd_method() : descriptor_method("eventfd", method_kind::peer) {}

    void prepare() override {
        for (owned_fd& fd : fds_) {
            fd = owned_fd(eventfd(0, EFD_CLOEXEC));
            if (fd.get() < 0) throw unavailable(with_errno("eventfd"));
        }
    }

    void open(side s) override {
        send_fd_ = fds_[s == side::ringer ? 0 : 1].get();
        receive_fd_ = fds_[s == side::ringer ? 1 : 0].get();
    }

    std::uint64_t receive_some() override {
        std::uint64_t count = 0;
        ssize_t n;
        do n = read(receive_fd_, &count, sizeof(count));
        while (n < 0 && errno == EINTR);
        if (n != sizeof(count)) throw std::runtime_error(with_errno(name() + ": read"));
        return count;
    }

private:
    std::array<owned_fd, 2> fds_;
};

}  // namespace

std::unique_ptr<method> make_eventfd() { return std::make_unique<eventfd_method>(); }

}  // namespace irqbench
