// SPDX-License-Identifier: MIT
// Fault points of what the kernel offers on the descriptors: poll, epoll, dup,
// passing, close.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "support/descriptor_message.hpp"
#include "system/src/faults/subject.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

namespace {

constexpr const char* label = "fault";

class poll_subject : public subject {
public:
    explicit poll_subject(const unique_fd& door)
        : both_(attached_pair(door)), listener_(listen(door, listen_args(label))) {}
    void before() override {
        require(ring(both_.b, 0, 1) == 0, "RING");
        fds_[0] = {both_.a.get(), POLLIN, 0};
        fds_[1] = {both_.b.get(), POLLIN, 0};
        fds_[2] = {listener_.get(), POLLIN, 0};
    }
    int attempt() override {
        const int result = ::poll(fds_, 3, 0);
        return result < 0 ? -errno : result;
    }
    void after(int result) override {
        if (result >= 0) require(result == 1 && fds_[0].revents == POLLIN, "poll: the events");
    }

private:
    pair both_;
    unique_fd listener_;
    pollfd fds_[3] = {};
};

// Adds a descriptor of the door's to an epoll set, and takes it out again.
class epoll_subject : public subject {
public:
    int attempt() override {
        const int result = ::epoll_ctl(set_.get(), EPOLL_CTL_ADD, target(), &event_);
        return result < 0 ? -errno : result;
    }
    void after(int result) override {
        const int removed = ::epoll_ctl(set_.get(), EPOLL_CTL_DEL, target(), nullptr);
        require((removed == 0) == (result == 0), "epoll: added and not, or not added and in it");
    }

private:
    virtual int target() const = 0;

    unique_fd set_{::epoll_create1(EPOLL_CLOEXEC)};
    epoll_event event_{EPOLLIN, {}};
};

class epoll_endpoint : public epoll_subject {
public:
    explicit epoll_endpoint(const unique_fd& door) : own_(create(door)) {}

private:
    int target() const override { return own_.get(); }

    endpoint own_;
};

class epoll_listener : public epoll_subject {
public:
    explicit epoll_listener(const unique_fd& door) : listener_(listen(door, listen_args(label))) {}

private:
    int target() const override { return listener_.get(); }

    unique_fd listener_;
};

class dup_subject : public subject {
public:
    explicit dup_subject(const unique_fd& door) : own_(create(door)), table_(door.get()) {}
    void before() override { table_.take_last(); }
    int attempt() override {
        const int result = ::dup(own_.get());
        return result < 0 ? -errno : result;
    }
    void after(int result) override {
        unique_fd(result).reset();
        table_.give_back_last();
        require(take(own_, ringable_mask).error == -ETIMEDOUT, "dup: the endpoint is not alive");
    }

private:
    endpoint own_;
    full_table table_;
};

// Passes an endpoint to ourselves.
class pass_subject : public subject {
public:
    explicit pass_subject(const unique_fd& door) : own_(create(door)) {
        int ends[2];
        require(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0,
                "socketpair");
        in_.reset(ends[0]);
        out_.reset(ends[1]);
    }

protected:
    int send() {
        descriptor_message message(own_.get());
        return ::sendmsg(in_.get(), message.get(), 0) < 0 ? -errno : 0;
    }
    // What came with the message, if something did, goes to received().
    int receive() {
        descriptor_message message;
        if (::recvmsg(out_.get(), message.get(), MSG_CMSG_CLOEXEC) < 0) return -errno;
        received_.reset(message.received());
        return 0;
    }
    unique_fd received() { return std::move(received_); }
    void check_own() {
        require(take(own_, ringable_mask).error == -ETIMEDOUT, "passing: the endpoint died");
    }

    endpoint own_;

private:
    unique_fd in_;
    unique_fd out_;
    unique_fd received_;
};

class send_subject : public pass_subject {
public:
    using pass_subject::pass_subject;
    int attempt() override { return send(); }
    void after(int result) override {
        require((receive() == 0) == (result == 0), "sendmsg: arrived, or not, against its result");
        if (result == 0) require(static_cast<bool>(received()), "sendmsg: no descriptor");
        check_own();
    }
};

// A receiver that runs out of memory may lose the descriptor, as a stream's end
// would; it must not stay in flight.
class receive_subject : public pass_subject {
public:
    using pass_subject::pass_subject;
    void before() override { require(send() == 0, "sendmsg"); }
    int attempt() override { return receive(); }
    void after(int result) override {
        if (result == 0) received().reset();
        while (receive() == 0) received().reset();
        check_own();
    }
};

// The last close of an endpoint with everything on it; its peer must be told.
class close_subject : public subject {
public:
    explicit close_subject(const unique_fd& door) : door_(door) {}
    void before() override {
        peer_ = create(door_);
        auto own = attach_to(door_, peer_);
        event_.reset(::eventfd(0, EFD_CLOEXEC));
        ipcdoor_bind_eventfd with_event{bit(1), event_.get(), 0};
        ipcdoor_bind_signal with_signal{bit(2), static_cast<std::uint32_t>(SIGRTMIN), 0};
        require(call(own.fd, IPCDOOR_IOC_BIND_EVENTFD, &with_event) == 0, "BIND_EVENTFD");
        require(call(own.fd, IPCDOOR_IOC_BIND_SIGNAL, &with_signal) == 0, "BIND_SIGNAL");
        take(peer_, lifecycle_bit);
        victim_ = own.fd.release();
    }
    int attempt() override { return ::close(victim_) < 0 ? -errno : 0; }
    void after(int) override {
        require((poll_now(peer_.get()) & POLLHUP) != 0, "close: the peer was not told");
        require(peer_info(peer_, 1).state == IPCDOOR_SLOT_DEAD, "close: the slot is not dead");
        peer_ = {};
        event_.reset();
    }

private:
    const unique_fd& door_;
    endpoint peer_;
    unique_fd event_;
    int victim_ = -1;
};

}  // namespace

void add_file_cases(std::vector<fault_case>& cases) {
    const std::vector<int> copies{ENOMEM, EFAULT};
    const auto user = caller::user;
    cases.push_back({"poll", copies, make_subject<poll_subject>, user, faults::some});
    cases.push_back({"epoll, endpoint", copies, make_subject<epoll_endpoint>, user, faults::some});
    cases.push_back({"epoll, listener", copies, make_subject<epoll_listener>, user, faults::some});
    cases.push_back({"dup, descriptors full", copies, make_subject<dup_subject>, user});
    cases.push_back({"sendmsg of it", {ENOMEM, EFAULT, ENOBUFS}, make_subject<send_subject>, user});
    cases.push_back({"recvmsg of it", copies, make_subject<receive_subject>, user});
    cases.push_back({"close", {}, make_subject<close_subject>, user, faults::none_needed});
}

}  // namespace ipcdoor::test
