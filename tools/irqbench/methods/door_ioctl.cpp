// SPDX-License-Identifier: MIT
//
// The door by its bare system calls, as <linux/ipcdoor.h> describes them: what the library's share
// of a round trip is measured against.
#include <fcntl.h>
#include <linux/ipcdoor.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "irqbench/clock.hpp"
#include "irqbench/methods/descriptors.hpp"
#include "irqbench/sources.hpp"

namespace irqbench {

namespace {

constexpr std::uint32_t vector = 1;
constexpr std::uint64_t connect_timeout_ns = 5'000'000'000U;
constexpr std::uint64_t batch_timeout_ns = 60'000'000'000U;

class door_ioctl_method : public method {
public:
    door_ioctl_method(std::string path, std::uint32_t source)
        : method("ioctl:" + source_name(source), method_kind::door),
          path_(std::move(path)),
          source_(source) {
        static unsigned made = 0;
        label_ = "irqbench.ioctl." + std::to_string(getpid()) + "." + std::to_string(made++);
    }

    void open(side s) override {
        door_ = owned_fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
        if (door_.get() < 0) throw unavailable(with_errno(path_));
        if (s == side::ringer) return;
        ipcdoor_listen listen{};
        std::snprintf(listen.name, sizeof(listen.name), "%s", label_.c_str());
        listen.source = source_;
        listen.mode = 0600;
        listen.uid = listen.gid = ~0U;
        listen.backlog = 1;
        listener_ = owned_fd(ioctl(door_.get(), IPCDOOR_IOC_LISTEN, &listen));
        if (listener_.get() < 0) throw unavailable(with_errno("LISTEN"));
    }

    void connect(side s) override {
        if (s == side::waiter) {
            ipcdoor_accept accept{};
            accept.deadline_ns = now_ns() + connect_timeout_ns;
            endpoint_ = owned_fd(ioctl(listener_.get(), IPCDOOR_IOC_ACCEPT, &accept));
            if (endpoint_.get() < 0) throw unavailable(with_errno("ACCEPT"));
        } else {
            struct ipcdoor_connect connect {};
            std::snprintf(connect.name, sizeof(connect.name), "%s", label_.c_str());
            connect.deadline_ns = now_ns() + connect_timeout_ns;
            endpoint_ = owned_fd(ioctl(door_.get(), IPCDOOR_IOC_CONNECT, &connect));
            if (endpoint_.get() < 0) throw unavailable(with_errno("CONNECT"));
        }
        peer_slot_ = s == side::waiter ? 1 : 0;
    }

    void begin_batch() override {
        call_ = {};
        call_.ring.slot = peer_slot_;
        call_.ring.vector = vector;
        call_.wait.mask = std::uint64_t{1} << vector;
        call_.wait.deadline_ns = now_ns() + batch_timeout_ns;
        call_.wait.flags = IPCDOOR_WAIT_ACK;
    }

    void send() override {
        if (ioctl(endpoint_.get(), IPCDOOR_IOC_RING, &call_.ring) < 0)
            throw std::runtime_error(with_errno(name() + ": RING"));
    }

    void receive() override {
        while (ioctl(endpoint_.get(), IPCDOOR_IOC_WAIT, &call_.wait) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno(name() + ": WAIT"));
    }

    void exchange() override {
        if (ioctl(endpoint_.get(), IPCDOOR_IOC_RING_WAIT, &call_) == 0) return;
        if (errno != EINTR) throw std::runtime_error(with_errno(name() + ": RING_WAIT"));
        receive();
    }

private:
    std::string path_;
    std::uint32_t source_;
    std::string label_;
    owned_fd door_;
    owned_fd listener_;
    owned_fd endpoint_;
    std::uint32_t peer_slot_ = 0;
    ipcdoor_ring_wait call_{};  // the kernel writes its outputs only: good for every call
};

}  // namespace

std::unique_ptr<method> make_door_ioctl(std::string path, std::uint32_t source) {
    return std::make_unique<door_ioctl_method>(std::move(path), source);
}

}  // namespace irqbench
