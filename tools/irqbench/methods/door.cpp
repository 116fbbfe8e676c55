// SPDX-License-Identifier: MIT
//
// ipcdoor's own doorbell through the library: a connection by listen, connect and accept; the
// waiter has slot 0, the ringer slot 1.
#include <ipcdoor.h>
#include <unistd.h>

#include <cerrno>

#include "irqbench/clock.hpp"
#include "irqbench/method.hpp"
#include "irqbench/sources.hpp"

namespace irqbench {

namespace {

constexpr std::uint32_t vector = 1;
constexpr std::uint64_t vector_mask = std::uint64_t{1} << vector;
constexpr std::uint64_t connect_timeout_ns = 5'000'000'000U;

class door_method : public method {
public:
    door_method(std::string name, method_kind kind, std::string uri, std::uint32_t source,
                bool stamps)
        : method(std::move(name), kind), uri_(std::move(uri)), source_(source), stamps_(stamps) {
        static unsigned made = 0;
        label_ = "irqbench." + std::to_string(getpid()) + "." + std::to_string(made++);
    }

    ~door_method() override {
        ipcdoor_listener_close(listener_);
        ipcdoor_endpoint_close(endpoint_);
        ipcdoor_door_close(door_);
    }

    void open(side s) override {
        if (ipcdoor_door_open(uri_.c_str(), &door_) < 0) throw unavailable(ipcdoor_error());
        if (s == side::ringer) return;
        ipcdoor_listen_options options{};
        options.size = sizeof(options);
        options.name = label_.c_str();
        options.source = source_;
        options.stamps = stamps_ ? 1 : 0;
        if (ipcdoor_listen(door_, &options, &listener_) < 0) throw unavailable(ipcdoor_error());
    }

    void connect(side s) override {
        const std::uint64_t deadline = ipcdoor_deadline_ns(connect_timeout_ns);
        const int r = s == side::waiter
                          ? ipcdoor_accept(listener_, deadline, &endpoint_)
                          : ipcdoor_connect(door_, label_.c_str(), deadline, &endpoint_);
        if (r < 0) throw unavailable(ipcdoor_error());
        ipcdoor_listener_close(listener_);
        listener_ = nullptr;
        own_slot_ = s == side::waiter ? 0 : 1;
    }

    void begin_batch() override { deadline_ns_ = now_ns() + batch_deadline_ns; }

    void send() override {
        if (ipcdoor_ring(endpoint_, 1 - own_slot_, 0, vector, 0) < 0) fail("ring");
    }

    void receive() override {
        int r;
        do r = ipcdoor_wait(endpoint_, vector_mask, deadline_ns_, nullptr);
        while (r == -EINTR);
        if (r < 0) fail("wait");
    }

    void exchange() override {
        const int r = ipcdoor_ring_wait(endpoint_, 1 - own_slot_, 0, vector, 0, vector_mask,
                                        deadline_ns_, nullptr);
        if (r == -EINTR)
            receive();
        else if (r < 0)
            fail("ring and wait");
    }

    bool read_stamps(kernel_stamps& out) override {
        if (!stamps_) return false;
        struct ipcdoor_slot_state state;
        if (ipcdoor_slot_state(endpoint_, own_slot_, &state) < 0) fail("state page");
        const struct ipcdoor_stamps& s = state.stamps;
        out = {s.ring_ns,
               s.handler_ns,
               s.wake_ns,
               s.handler_cpu,
               (s.flags & IPCDOOR_STAMP_HARDIRQ) != 0,
               (s.flags & IPCDOOR_STAMP_WOKE) != 0};
        return s.sequence != 0 && s.source == source_;
    }

private:
    // One deadline a batch: computing one for each call would put a timestamp into the measured
    // path that the compared methods do not have.
    static constexpr std::uint64_t batch_deadline_ns = 60'000'000'000U;

    [[noreturn]] void fail(const char* call) const {
        throw std::runtime_error(name() + ": " + call + ": " + ipcdoor_error());
    }

    std::string uri_;
    std::uint32_t source_;
    bool stamps_;
    std::string label_;
    ipcdoor_door* door_ = nullptr;
    ipcdoor_listener* listener_ = nullptr;
    ipcdoor_endpoint* endpoint_ = nullptr;
    std::uint32_t own_slot_ = 0;
    std::uint64_t deadline_ns_ = 0;
};

}  // namespace

std::unique_ptr<method> make_door(std::string uri, std::uint32_t source, bool stamps) {
    const std::string name = source_name(source);
    return std::make_unique<door_method>(stamps ? name : "ipcdoor:" + name,
                                         stamps ? method_kind::source : method_kind::door,
                                         std::move(uri), source, stamps);
}

std::unique_ptr<method> make_soft_door() {
    return std::make_unique<door_method>("ipcdoor:soft", method_kind::door,
                                         "soft:", IPCDOOR_SOURCE_DIRECT, false);
}

}  // namespace irqbench
