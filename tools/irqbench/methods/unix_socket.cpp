// SPDX-License-Identifier: MIT
//
// socketpair(2) of AF_UNIX, stream and datagram, one byte a ring.
#include <sys/socket.h>

#include "irqbench/methods/descriptors.hpp"

namespace irqbench {

namespace {

class unix_socket_method : public descriptor_method<1> {
public:
    unix_socket_method(const char* name, int type)
        : descriptor_method(name, method_kind::peer), type_(type) {}

    void prepare() override {
        int fds[2];
        if (socketpair(AF_UNIX, type_ | SOCK_CLOEXEC, 0, fds) < 0)
            throw unavailable(with_errno("socketpair"));
        ends_[0] = owned_fd(fds[0]);
        ends_[1] = owned_fd(fds[1]);
    }

    void open(side s) override { send_fd_ = receive_fd_ = ends_[s == side::ringer ? 0 : 1].get(); }

private:
    int type_;
    std::array<owned_fd, 2> ends_;
};

}  // namespace

std::unique_ptr<method> make_unix_stream() {
    return std::make_unique<unix_socket_method>("unix-stream", SOCK_STREAM);
}

std::unique_ptr<method> make_unix_datagram() {
    return std::make_unique<unix_socket_method>("unix-dgram", SOCK_DGRAM);
}

}  // namespace irqbench
