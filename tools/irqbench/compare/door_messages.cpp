// SPDX-License-Identifier: MIT
//
// ipcdoor's channel: messages copied and in place, calls, and rpc on top of it.
#include <unistd.h>

#include <algorithm>

#include "irqbench/compare/transport.hpp"

namespace irqbench::compare {

namespace {

constexpr auto connect_timeout = std::chrono::seconds(5);

class channel_transport : public copying_transport {
public:
    channel_transport(const char* name, const door_choice& door, std::size_t bytes)
        : copying_transport(name, method_kind::door, bytes), connector_(door) {}

    void open(side s) override {
        connector_.open(s, std::max(ipcdoor::channel_slot_bytes(bytes_),
                                    ipcdoor::message_slot_bytes(queue_bytes)));
    }
    void connect(side s) override {
        or_unavailable([&] { channel_.emplace(connector_.connect(s)); });
    }

protected:
    ipcdoor::channel& channel() { return *channel_; }

private:
    connector connector_;
    std::optional<ipcdoor::channel> channel_;
};

class message_transport : public channel_transport {
public:
    using channel_transport::channel_transport;

protected:
    void put(std::span<const std::byte> message) override { channel().send(message, until_); }
    std::span<const std::byte> get() override {
        channel().receive(received_message_, until_);
        return received_message_.bytes();
    }

private:
    ipcdoor::message received_message_;
};

class call_transport : public channel_transport {
public:
    call_transport(const char* name, const door_choice& door, std::size_t bytes)
        : channel_transport(name, door, bytes) {}

    void open(side s) override {
        calls_ = s == side::ringer;
        channel_transport::open(s);
    }

protected:
    void put(std::span<const std::byte> reply) override {
        channel().reply(received_message_, reply, until_);
    }
    std::span<const std::byte> get() override {
        channel().receive(received_message_, until_);
        return received_message_.bytes();
    }
    std::span<const std::byte> put_get(std::span<const std::byte> message) override {
        if (calls_)
            channel().call(message, received_message_, until_);
        else
            channel().reply_receive(received_message_, message, received_message_, until_);
        return received_message_.bytes();
    }

private:
    bool calls_ = false;
    ipcdoor::message received_message_;
};

// Connects as the others do, and shares nothing else with those that copy.
class in_place_transport : public transport {
public:
    in_place_transport(const char* name, const door_choice& door, std::size_t bytes)
        : transport(name, method_kind::door, bytes), connector_(door) {}

    void open(side s) override {
        side_ = s;
        connector_.open(s, std::max(ipcdoor::channel_slot_bytes(bytes_),
                                    ipcdoor::message_slot_bytes(queue_bytes)));
    }
    void connect(side s) override {
        or_unavailable([&] { channel_.emplace(connector_.connect(s)); });
    }

protected:
    void publish(ipcdoor::loaned_message loan) {
        fill_next(loan.bytes());
        loan.publish();
    }

    side side_ = side::ringer;
    std::optional<ipcdoor::channel> channel_;

private:
    connector connector_;
};

class message_in_place : public in_place_transport {
public:
    using in_place_transport::in_place_transport;

    void send() override { publish(channel_->loan(bytes_, until_)); }
    void receive() override { check_next(channel_->receive_in_place(until_).bytes()); }
};

class call_in_place : public in_place_transport {
public:
    using in_place_transport::in_place_transport;

    void send() override {
        ipcdoor::loaned_message loan = channel_->loan_reply(*request_, bytes_, until_);
        request_.reset();
        publish(std::move(loan));
    }
    void receive() override {
        request_.emplace(channel_->receive_in_place(until_));
        check_next(request_->bytes());
    }
    void exchange() override {
        if (side_ == side::waiter) {
            send();
            receive();
            return;
        }
        ipcdoor::loaned_message loan = channel_->loan_request(bytes_, {}, until_);
        fill_next(loan.bytes());
        channel_->call(std::move(loan), reply_, until_);
        check_next(reply_.bytes());
    }

private:
    std::optional<ipcdoor::held_message> request_;
    ipcdoor::message reply_;
};

// A method that takes a message and returns one. The server's handler checks what came and makes
// the reply, so serving a call is all that there is to do on that side.
class rpc_transport : public transport {
public:
    rpc_transport(const door_choice& door, std::size_t bytes)
        : transport("rpc", method_kind::door, bytes), connector_(door), out_(bytes) {}

    void open(side s) override {
        connector_.open_door();
        if (s == side::ringer) return;
        or_unavailable([&] {
            ipcdoor::mailbox_options options;
            options.record_bytes = std::max<std::uint64_t>(options.record_bytes, bytes_ + 64);
            options.source = connector_.source();
            server_ = std::make_unique<ipcdoor::rpc::server>(connector_.door(), connector_.label(),
                                                             options);
        });
        server_->bind("exchange", [this](std::span<const std::byte> message) {
            check_next(message);
            fill_next(out_);
            over_ = last_ != nullptr && last_->load() != 0;
            return std::span<const std::byte>(out_);
        });
    }

    void connect(side s) override {
        or_unavailable([&] {
            if (s == side::ringer) {
                client_ = std::make_unique<ipcdoor::rpc::client>(
                    connector_.door(), connector_.label(), connect_timeout);
                return;
            }
            const ipcdoor::deadline until = connect_timeout;
            while (server_->clients().senders() == 0) {
                if (until.is_past()) throw unavailable("the client did not come");
                static_cast<void>(server_->serve_one(std::chrono::milliseconds(1)));
            }
        });
    }

    void send() override { not_by_halves(); }
    void receive() override { not_by_halves(); }

    void exchange() override {
        fill_next(out_);
        check_next(client_->call_until<std::vector<std::byte>>(until_, "exchange",
                                                               std::span<const std::byte>(out_)));
    }

    // The handler sees `last` set in the last call and in none before, because a call is over
    // before the next is made.
    void answer(const std::atomic<std::uint32_t>& last) override {
        last_ = &last;
        over_ = false;
        while (!over_)
            if (!server_->serve_one(until_)) throw std::runtime_error("rpc: no call came");
        last_ = nullptr;
    }

private:
    [[noreturn]] static void not_by_halves() {
        throw std::logic_error("rpc is measured by whole calls");
    }

    connector connector_;
    std::vector<std::byte> out_;
    std::unique_ptr<ipcdoor::rpc::server> server_;
    std::unique_ptr<ipcdoor::rpc::client> client_;
    const std::atomic<std::uint32_t>* last_ = nullptr;
    bool over_ = false;
};

}  // namespace

connector::connector(door_choice door) : choice_(std::move(door)) {
    static unsigned made = 0;
    label_ = "irqbench.compare." + std::to_string(getpid()) + "." + std::to_string(made++);
}

void connector::open_door() {
    or_unavailable([&] { door_ = std::make_unique<ipcdoor::door>(choice_.uri); });
}

void connector::open(side s, std::uint64_t slot_bytes) {
    open_door();
    if (s == side::ringer) return;
    or_unavailable([&] {
        listener_ = door_->listen(label_, {.slot_bytes = slot_bytes, .source = choice_.source});
    });
}

ipcdoor::endpoint connector::connect(side s) {
    return or_unavailable([&] {
        if (s == side::ringer) return door_->connect(label_, connect_timeout);
        ipcdoor::endpoint accepted = listener_.accept(connect_timeout);
        listener_.close();
        return accepted;
    });
}

transport_pointer make_message(const door_choice& door, std::size_t bytes) {
    return std::make_unique<message_transport>("message", door, bytes);
}
transport_pointer make_message_in_place(const door_choice& door, std::size_t bytes) {
    return std::make_unique<message_in_place>("message-in-place", door, bytes);
}
transport_pointer make_call(const door_choice& door, std::size_t bytes) {
    if (bytes >= in_place_bytes) return std::make_unique<call_in_place>("call", door, bytes);
    return std::make_unique<call_transport>("call", door, bytes);
}
transport_pointer make_rpc(const door_choice& door, std::size_t bytes) {
    return std::make_unique<rpc_transport>(door, bytes);
}

}  // namespace irqbench::compare
