// SPDX-License-Identifier: MIT
//
// What carries a number at most: doorbell, pulse and bound signal, and eventfd, futex and queued
// signal of the kernel. Those that irqbench measures anyway are its own methods.
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "irqbench/compare/transport.hpp"

namespace irqbench::compare {

namespace {

// Streams them in bursts: none of these has a queue that would hold a sender up.
class bell_transport : public method {
public:
    bell_transport(const char* name, method_kind kind, std::unique_ptr<method> bell)
        : method(name, kind), bell_(std::move(bell)) {}

    void prepare() override { bell_->prepare(); }
    void open(side s) override { bell_->open(s); }
    void connect(side s) override { bell_->connect(s); }
    void begin_batch() override { bell_->begin_batch(); }
    void send() override { bell_->send(); }
    void receive() override { bell_->receive(); }
    void exchange() override { bell_->exchange(); }

    void send_many(std::uint64_t count) override {
        for (std::uint64_t left = count; left != 0;) {
            const std::uint64_t now = std::min(left, burst);
            for (std::uint64_t i = 0; i < now; ++i) bell_->send();
            bell_->receive();
            left -= now;
        }
    }
    void receive_many(std::uint64_t count) override {
        for (std::uint64_t left = count; left != 0;) {
            const std::uint64_t now = std::min(left, burst);
            for (std::uint64_t taken = 0; taken < now;) taken += bell_->receive_some();
            bell_->send();
            left -= now;
        }
    }

private:
    std::unique_ptr<method> bell_;
};

class door_bell : public method {
public:
    door_bell(const char* name, const door_choice& door)
        : method(name, method_kind::door), connector_(door) {}

    void open(side s) override { connector_.open(s, 0); }
    void connect(side s) override {
        or_unavailable([&] {
            end_ = connector_.connect(s);
            peer_ = 1 - end_.slot();
        });
        attach();
    }
    void begin_batch() override { until_ = ipcdoor::deadline::at_ns(now_ns() + batch_ns); }

protected:
    static constexpr std::uint64_t batch_ns = 60'000'000'000U;

    virtual void attach() {}

    ipcdoor::endpoint end_;
    std::uint32_t peer_ = 0;
    ipcdoor::deadline until_;

private:
    connector connector_;
};

class doorbell : public door_bell {
public:
    explicit doorbell(const door_choice& door) : door_bell("doorbell", door) {}

    void send() override { end_.ring(peer_, vector); }
    void receive() override { taken(end_.wait(ipcdoor::vectors(vector), until_)); }
    void exchange() override {
        taken(end_.ring_wait(peer_, vector, 0, ipcdoor::vectors(vector), until_));
    }
    std::uint64_t receive_some() override {
        return taken(end_.wait(ipcdoor::vectors(vector), until_));
    }

private:
    static constexpr std::uint32_t vector = 1;

    static std::uint64_t taken(const std::optional<ipcdoor::event>& event) {
        if (!event) throw std::runtime_error("doorbell: no ring came");
        return event->count;
    }
};

class pulse : public door_bell {
public:
    explicit pulse(const door_choice& door) : door_bell("pulse", door) {}

    void send() override {
        if (!port_->send({.value = ++sent_})) throw std::runtime_error("pulse: the queue was full");
    }
    void receive() override {
        if (const std::uint64_t value = port_->receive(until_).value; value != ++received_)
            throw std::runtime_error("pulse: " + std::to_string(value) + " came where " +
                                     std::to_string(received_) + " was sent");
    }

private:
    void attach() override {
        or_unavailable([&] { port_.emplace(end_); });
    }

    std::optional<ipcdoor::pulse_port> port_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
};

// A ring that arrives as a signal, taken synchronously.
class bound_signal : public door_bell {
public:
    explicit bound_signal(const door_choice& door) : door_bell("signal", door) {}

    void open(side s) override {
        sigemptyset(&set_);
        // SIGRTMIN is the counterpart's.
        sigaddset(&set_, SIGRTMIN + 1);
        if (sigprocmask(SIG_BLOCK, &set_, nullptr) < 0)
            throw unavailable(with_errno("sigprocmask"));
        door_bell::open(s);
    }
    void send() override { end_.ring(peer_, vector, ++sent_); }
    void receive() override {
        siginfo_t info;
        while (sigwaitinfo(&set_, &info) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno("sigwaitinfo"));
        if (const std::uint64_t value = ipcdoor::to_signal_event(info).value; value != ++received_)
            throw std::runtime_error("signal: value " + std::to_string(value) + " came where " +
                                     std::to_string(received_) + " was sent");
    }

private:
    static constexpr std::uint32_t vector = 8;

    void attach() override {
        or_unavailable([&] {
            bound_.emplace(ipcdoor::bind_signal(end_, SIGRTMIN + 1, ipcdoor::vectors(vector)));
        });
    }

    sigset_t set_{};
    std::optional<ipcdoor::signal_binding> bound_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
};

transport_pointer bell(const char* name, method_kind kind, std::unique_ptr<method> made) {
    return std::make_unique<bell_transport>(name, kind, std::move(made));
}

}  // namespace

transport_pointer make_doorbell(const door_choice& door, std::size_t) {
    return bell("doorbell", method_kind::door, std::make_unique<doorbell>(door));
}
transport_pointer make_pulse(const door_choice& door, std::size_t) {
    return bell("pulse", method_kind::door, std::make_unique<pulse>(door));
}
transport_pointer make_bound_signal(const door_choice& door, std::size_t) {
    return bell("signal", method_kind::door, std::make_unique<bound_signal>(door));
}
transport_pointer make_eventfd_bell(const door_choice&, std::size_t) {
    return bell("eventfd", method_kind::peer, make_eventfd());
}
transport_pointer make_futex_bell(const door_choice&, std::size_t) {
    return bell("futex", method_kind::peer, make_futex());
}
transport_pointer make_sigqueue_bell(const door_choice&, std::size_t) {
    return bell("sigqueue", method_kind::peer, make_realtime_signal());
}

}  // namespace irqbench::compare
