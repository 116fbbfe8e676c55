// SPDX-License-Identifier: MIT
// Fault points of an endpoint's calls.
//
// RING, WAIT and RING_WAIT in their usual size allocate nothing and copy by words,
// which the kernel cannot make fail: there the words themselves are put on a page
// that is not there. In a larger size they copy as all others do.
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "system/src/faults/subject.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

namespace {

constexpr unsigned vector = 5;

// A pair whose `a` rings vector 5 of its peer `b`.
class pair_subject : public subject {
public:
    explicit pair_subject(const unique_fd& door) : both_(attached_pair(door)) {
        state_ = map_state(both_.a);
        take(both_.a, lifecycle_bit);
        ring_.slot = 1;
        ring_.vector = vector;
    }

protected:
    std::uint64_t rung() const { return slot_state(state_, 1).rung[vector]; }

    pair both_;
    mapping state_;
    ipcdoor_ring ring_{};
};

// A structure and eight bytes more, as a newer program would pass it.
template <typename T>
struct larger {
    T args{};
    std::uint64_t tail = 0;
};

class endpoint_info_subject : public pair_subject {
public:
    using pair_subject::pair_subject;
    int attempt() override { return call(both_.a.fd, IPCDOOR_IOC_ENDPOINT_INFO, &info_); }
    void after(int) override { info_ = {}; }

private:
    ipcdoor_endpoint_info info_{};
};

// Exactly one ring more, or none where the call failed.
class ring_subject : public pair_subject {
public:
    using pair_subject::pair_subject;
    void before() override { before_ = rung(); }
    int attempt() override { return call(both_.a.fd, IPCDOOR_IOC_RING, &ring_); }
    void after(int result) override {
        require(rung() == before_ + (result == 0 ? 1 : 0), "RING: the count is not exact");
        const auto got = take(both_.b, bit(vector));
        require(got.error == (result == 0 ? 0 : -ETIMEDOUT), "RING: what is pending");
    }

private:
    std::uint64_t before_ = 0;
};

class ring_waiter : public ring_subject {
public:
    using ring_subject::ring_subject;
    void before() override {
        ring_subject::before();
        waiter_ = std::thread([this] {
            tid_ = ::gettid();
            woken_ = wait_long(both_.b, bit(vector));
        });
        while (tid_ == 0) std::this_thread::yield();
        wait_thread_asleep(::getpid(), tid_);
    }
    void after(int result) override {
        require(result == 0, "RING to a waiter cannot fail");
        waiter_.join();
        require(woken_.error == 0 && woken_.count == 1, "RING: the waiter got something else");
        tid_ = 0;
    }

private:
    std::thread waiter_;
    std::atomic<pid_t> tid_{0};
    wait_result woken_;
};

class ring_eventfd : public ring_subject {
public:
    explicit ring_eventfd(const unique_fd& door)
        : ring_subject(door), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        ipcdoor_bind_eventfd args{bit(vector), event_.get(), 0};
        require(call(both_.b.fd, IPCDOOR_IOC_BIND_EVENTFD, &args) == 0, "BIND_EVENTFD");
    }
    void after(int result) override {
        ring_subject::after(result);
        eventfd_t count = 0;
        const auto deadline = deadline_in(partner_deadline);
        while (::eventfd_read(event_.get(), &count) != 0 && now_ns() < deadline) ::usleep(100);
        require(count > 0, "RING: the eventfd was not told");
    }

private:
    unique_fd event_;
};

// The ring is counted also where there was no memory to queue its signal.
class ring_signal : public ring_subject {
public:
    explicit ring_signal(const unique_fd& door) : ring_subject(door) {
        ipcdoor_bind_signal args{bit(vector), static_cast<std::uint32_t>(SIGRTMIN), 0};
        sigemptyset(&set_);
        sigaddset(&set_, SIGRTMIN);
        ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
        require(call(both_.b.fd, IPCDOOR_IOC_BIND_SIGNAL, &args) == 0, "BIND_SIGNAL");
    }
    void after(int result) override {
        ring_subject::after(result);
        const timespec now{};
        const bool arrived = ::sigtimedwait(&set_, nullptr, &now) == SIGRTMIN;
        // the first attempt may lose it, the second, without a fault, must not
        require(arrived || !tried_, "RING: no signal");
        tried_ = true;
    }

private:
    sigset_t set_;
    bool tried_ = false;
};

class ring_larger : public ring_subject {
public:
    explicit ring_larger(const unique_fd& door) : ring_subject(door) { args_.args = ring_; }
    int attempt() override {
        return call(both_.a.fd, with_size(IPCDOOR_IOC_RING, sizeof args_), &args_);
    }

private:
    larger<ipcdoor_ring> args_;
};

// What a failed WAIT had acknowledged is pending again.
class wait_subject : public pair_subject {
public:
    explicit wait_subject(const unique_fd& door) : pair_subject(door) {
        wait_.mask = bit(vector);
        wait_.flags = IPCDOOR_WAIT_ACK;
    }
    void before() override {
        require(ring(both_.a, 1, vector) == 0, "RING");
        require(ring(both_.a, 1, vector) == 0, "RING");
    }
    int attempt() override { return call(both_.b.fd, IPCDOOR_IOC_WAIT, &wait_); }
    void after(int result) override {
        if (result == 0) require(wait_.count == 2, "WAIT: the count is not exact");
        const auto left = take(both_.b, bit(vector));
        require(left.count == (result == 0 ? 0 : 2), "WAIT: what is pending afterwards");
        wait_.count = 0;
    }

protected:
    ipcdoor_wait wait_{};
};

class wait_larger : public wait_subject {
public:
    using wait_subject::wait_subject;
    int attempt() override {
        args_.args = wait_;
        const int result = call(both_.b.fd, with_size(IPCDOOR_IOC_WAIT, sizeof args_), &args_);
        wait_ = args_.args;
        return result;
    }

private:
    larger<ipcdoor_wait> args_;
};

class wait_seen : public wait_subject {
public:
    explicit wait_seen(const unique_fd& door) : wait_subject(door) {
        wait_.flags = 0;
        wait_.seen = reinterpret_cast<std::uintptr_t>(seen_);
    }
    void after(int result) override {
        if (result == 0) require(seen_[vector] == rung(), "WAIT: seen was not brought up to date");
        if (result != 0) require(seen_[vector] == before_, "WAIT: seen was changed by a failure");
        before_ = seen_[vector];
        take(both_.b, bit(vector));
    }

private:
    std::uint64_t seen_[IPCDOOR_VECTORS] = {};
    std::uint64_t before_ = 0;
};

// By itself, so that there is something to return.
class ring_wait_subject : public ring_subject {
public:
    explicit ring_wait_subject(const unique_fd& door) : ring_subject(door) {
        both_args_.args.ring = ring_;
        both_args_.args.wait.mask = bit(vector);
        both_args_.args.wait.flags = IPCDOOR_WAIT_ACK;
        require(ring(both_.b, 0, vector) == 0, "RING");
    }
    int attempt() override { return call(both_.a.fd, IPCDOOR_IOC_RING_WAIT, &both_args_.args); }
    void after(int result) override {
        ring_subject::after(result);
        if (result == 0) require(ring(both_.b, 0, vector) == 0, "RING");
    }

protected:
    larger<ipcdoor_ring_wait> both_args_;
};

class ring_wait_larger : public ring_wait_subject {
public:
    using ring_wait_subject::ring_wait_subject;
    int attempt() override {
        return call(both_.a.fd, with_size(IPCDOOR_IOC_RING_WAIT, sizeof both_args_), &both_args_);
    }
};

class bind_eventfd_subject : public pair_subject {
public:
    explicit bind_eventfd_subject(const unique_fd& door)
        : pair_subject(door), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        args_ = {bit(vector), event_.get(), 0};
    }
    int attempt() override { return call(both_.b.fd, IPCDOOR_IOC_BIND_EVENTFD, &args_); }
    void after(int result) override {
        require(ring(both_.a, 1, vector) == 0, "RING");
        if (result == 0)
            require((poll_now(event_.get(), POLLIN, 20'000) & POLLIN) != 0, "eventfd: not told");
        eventfd_t count = 0;
        ::eventfd_read(event_.get(), &count);
        take(both_.b, bit(vector));
        ipcdoor_bind_eventfd none{0, -1, 0};
        require(call(both_.b.fd, IPCDOOR_IOC_BIND_EVENTFD, &none) == 0, "unbinding the eventfd");
    }

private:
    unique_fd event_;
    ipcdoor_bind_eventfd args_{};
};

class bind_signal_subject : public pair_subject {
public:
    explicit bind_signal_subject(const unique_fd& door) : pair_subject(door) {
        args_ = {bit(vector), static_cast<std::uint32_t>(SIGRTMIN), 0};
    }
    int attempt() override { return call(both_.b.fd, IPCDOOR_IOC_BIND_SIGNAL, &args_); }
    void after(int) override {
        ipcdoor_bind_signal none{};
        require(call(both_.b.fd, IPCDOOR_IOC_BIND_SIGNAL, &none) == 0, "unbinding the signal");
    }

private:
    ipcdoor_bind_signal args_{};
};

class peer_info_subject : public pair_subject {
public:
    using pair_subject::pair_subject;
    int attempt() override { return call(both_.a.fd, IPCDOOR_IOC_PEER_INFO, &args_); }
    void after(int result) override {
        if (result == 0) require(args_.pid == ::getpid(), "PEER_INFO: pid");
        args_ = {};
    }

private:
    ipcdoor_peer_info args_{};
};

class seal_subject : public subject {
public:
    explicit seal_subject(const unique_fd& door) : door_(door) {}
    void before() override { own_ = create(door_); }
    int attempt() override {
        args_ = {IPCDOOR_SEAL_WRITE, 0, 0, 0};
        return call(own_.fd, IPCDOOR_IOC_SEAL, &args_);
    }
    void after(int result) override {
        std::uint32_t seals = 0;
        require(seal(own_, 0, &seals) == 0, "SEAL asks");
        if (result == 0) require(seals == IPCDOOR_SEAL_WRITE, "SEAL: not sealed");
        require(seals == state_of(map_state(own_)).seals, "SEAL: STATE says something else");
        own_ = {};
    }

private:
    const unique_fd& door_;
    endpoint own_;
    ipcdoor_seal args_{};
};

// The new pages are all there, or none is and none is paid for. A result that
// could not be written (EFAULT) leaves the segment grown.
class grow_subject : public subject {
public:
    explicit grow_subject(const unique_fd& door) : door_(door) {}
    void before() override {
        auto layout = create_args();
        layout.max_data_bytes = grown;
        own_ = create(door_, layout);
        bytes_ = get_info(door_).user_bytes;
        args_.data_bytes = grown;
    }
    int attempt() override { return call(own_.fd, IPCDOOR_IOC_GROW, &args_); }
    void after(int result) override {
        const auto state = map_state(own_);
        const std::uint64_t now = state_of(state).data_bytes;
        require(result == 0 ? now == grown : now == grown || now == 4096, "GROW: the size");
        require(get_info(door_).user_bytes == bytes_ + now - 4096, "GROW: the charge");
        own_.info.data_bytes = now;
        const auto data = map_data(own_, PROT_READ);
        for (std::size_t word = 0; word < now / 8; word += 512)
            require(data.word(word) == 0, "GROW: a page is not zero");
        own_ = {};
    }

private:
    static constexpr std::uint64_t grown = 5 * std::uint64_t{4096};
    const unique_fd& door_;
    endpoint own_;
    std::uint64_t bytes_ = 0;
    ipcdoor_grow args_{};
};

}  // namespace

void add_endpoint_cases(std::vector<fault_case>& cases) {
    const std::vector<int> copies{ENOMEM, EFAULT};
    const auto some = faults::some;
    const auto none = faults::none_needed;
    const auto user = caller::user;
    cases.push_back({"ENDPOINT_INFO", {EFAULT}, make_subject<endpoint_info_subject>, user, some});
    cases.push_back({"RING", {}, make_subject<ring_subject>, user, none});
    cases.push_back({"RING to a waiter", {}, make_subject<ring_waiter>, user, none});
    cases.push_back({"RING with an eventfd", {}, make_subject<ring_eventfd>, user, none});
    cases.push_back({"RING with a signal", {}, make_subject<ring_signal>, user, some});
    cases.push_back({"RING, larger structure", {EFAULT}, make_subject<ring_larger>, user, some});
    cases.push_back({"WAIT", {}, make_subject<wait_subject>, user, none});
    cases.push_back({"WAIT with seen", {EFAULT}, make_subject<wait_seen>, user, some});
    cases.push_back({"WAIT, larger structure", {EFAULT}, make_subject<wait_larger>, user, some});
    cases.push_back({"RING_WAIT", {}, make_subject<ring_wait_subject>, user, none});
    cases.push_back(
        {"RING_WAIT, larger structure", {EFAULT}, make_subject<ring_wait_larger>, user, some});
    cases.push_back({"BIND_EVENTFD", copies, make_subject<bind_eventfd_subject>, user, some});
    cases.push_back({"BIND_SIGNAL", copies, make_subject<bind_signal_subject>, user, some});
    cases.push_back({"PEER_INFO", {EFAULT}, make_subject<peer_info_subject>, user, some});
    cases.push_back({"SEAL", {EFAULT}, make_subject<seal_subject>, user, some});
    cases.push_back({"GROW", copies, make_subject<grow_subject>, user, some});
}

}  // namespace ipcdoor::test
