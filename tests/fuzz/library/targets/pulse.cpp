// SPDX-License-Identifier: MIT
// Fuzz target: pulse_port beside a peer that writes anything into its pulse slot
// between operations and while they wait. A model says which value comes next,
// when the queue is full, and when the peer is refused.
#include <cerrno>
#include <cstring>
#include <optional>

#include <ipcdoor/signal.hpp>

#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/scripted_endpoint.hpp"

namespace {

using namespace ipcdoor;
using fuzz::error_of;

constexpr std::size_t slot_bytes = ring_data_offset;  // the least that a port takes

class play final : public fuzz::script {
public:
    play(fuzz::input& in, endpoint& end, fuzz::scripted_endpoint& scripted)
        : in_(in),
          own_(*reinterpret_cast<pulse_slot*>(scripted.own.written() + ring_pulse_offset)),
          peer_(*reinterpret_cast<pulse_slot*>(scripted.peer.written() + ring_pulse_offset)) {
        scripted.restart(*this);
        const std::uint8_t how = in.byte();
        if (how % 4 != 0) {
            peer_.version = pulse_version;
            peer_.magic = pulse_magic;
        }
        // A second port goes on where the first one was; at 2^64 cursors wrap.
        if ((how & 32) != 0) {
            tail_ = head_ = 0 - static_cast<std::uint64_t>(how >> 6);
            own_.tail = tail_;
            own_.head = head_;
            peer_.tail = head_;
            peer_.head = tail_;
        }
        port_.emplace(end);
    }

    void run() {
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            if (op < 128) {
                move();
                continue;
            }
            switch (op % 4) {
                case 0:
                case 1: send(); break;
                case 2: receive(); break;
                default: try_receive();
            }
        }
        try_receive();
    }

    int on_ring(std::uint32_t slot, std::uint32_t vector) override {
        FUZZ_CHECK(slot == 1 && vector == pulse_vector);
        switch (in_.byte()) {
            case 1: return rung_ = -EPIPE;
            case 2: return rung_ = -EOPNOTSUPP;
            case 3: return rung_ = -EAGAIN;
            default: return rung_ = 0;
        }
    }

    int on_wait(std::uint64_t mask) override {
        FUZZ_CHECK(mask == std::uint64_t{1} << pulse_vector);
        // The port has just looked, and found nothing wrong; but not after EINTR.
        verified_ = verified_ || (!interrupted_ && peer_.magic == pulse_magic);
        interrupted_ = false;
        if (in_.empty()) return -ETIMEDOUT;
        const std::uint8_t how = in_.byte();
        for (int moves = how >> 4 & 3; moves > 0; --moves) move();
        switch (how & 7) {
            case 0: return waited_ = -ETIMEDOUT;
            case 1: interrupted_ = true; return -EINTR;
            case 2: return waited_ = -EPIPE;
            default: return 0;
        }
    }

private:
    void move() {
        switch (in_.byte() % 10) {
            case 0: peer_.magic = in_.chance() ? pulse_magic : in_.word(0, 1); break;
            case 1: peer_.version = in_.byte() % 3; break;
            case 2: peer_.tail = in_.word(head_, 64); break;
            case 3:
            case 4: {  // honest: one more pulse
                const std::uint64_t tail = peer_.tail;
                peer_.values[tail % pulse_queue_length] = in_.byte();
                peer_.tail = tail + 1;
                break;
            }
            case 5: peer_.head = in_.word(tail_, 64); break;
            case 6: peer_.head = tail_; break;  // honest: has taken all
            case 7: peer_.lost = in_.number<std::uint64_t>(); break;
            case 8: peer_.head = peer_.head + in_.byte() % 8; break;
            default: peer_.values[in_.byte() % pulse_queue_length] = in_.number<std::uint64_t>();
        }
    }

    void send() {
        const std::uint64_t value = in_.number<std::uint32_t>();
        const std::uint64_t held = tail_ - peer_.head;
        bool queued = false;
        rung_ = 1;
        const int error = error_of([&] { queued = port_->send(value); });
        if (held > pulse_queue_length) {
            FUZZ_CHECK(error == EPROTO && rung_ == 1);
            return;
        }
        FUZZ_CHECK(error == -rung_);
        FUZZ_CHECK_ERROR(error, EPIPE, EOPNOTSUPP, EAGAIN);
        if (held < pulse_queue_length) {
            FUZZ_CHECK(own_.values[tail_ % pulse_queue_length] == value);
            ++tail_;
        } else {
            ++lost_;
        }
        FUZZ_CHECK(own_.tail == tail_ && own_.lost == lost_);
        if (error == 0) FUZZ_CHECK(queued == (held < pulse_queue_length));
    }

    // What a look at the peer's slot must come to: a value, nothing (0) or EPROTO.
    std::optional<std::uint64_t> expected(int& error) {
        error = 0;
        if (!verified_) {
            if (peer_.magic == 0) return std::nullopt;
            if (peer_.magic != pulse_magic || peer_.version != pulse_version) {
                error = EPROTO;
                return std::nullopt;
            }
            verified_ = true;
        }
        const std::uint64_t waiting = peer_.tail - head_;
        if (waiting > pulse_queue_length) error = EPROTO;
        if (error != 0 || waiting == 0) return std::nullopt;
        return peer_.values[head_++ % pulse_queue_length];
    }

    void try_receive() {
        int expected_error = 0;
        const auto value = expected(expected_error);
        std::optional<std::uint64_t> found;
        const int error = error_of([&] { found = port_->try_receive(); });
        FUZZ_CHECK(error == expected_error && found == value);
        FUZZ_CHECK(own_.head == head_);
        FUZZ_CHECK(port_->lost() == peer_.lost);
    }

    // The peer moves while it waits, so only the last look can be foreseen.
    void receive() {
        std::uint64_t found = 0;
        waited_ = 0;
        const int error = error_of([&] { found = port_->receive(deadline::at_ns(1)); });
        if (error == 0) {
            FUZZ_CHECK(found == peer_.values[head_ % pulse_queue_length]);
            ++head_;
            verified_ = true;
        } else if (error == EPROTO) {
            int expected_error = 0;
            const auto value = expected(expected_error);
            FUZZ_CHECK(!value && expected_error == EPROTO);
        } else {
            FUZZ_CHECK(error == -waited_ || (waited_ == 0 && error == ETIMEDOUT && in_.empty()));
            int expected_error = 0;
            FUZZ_CHECK(!expected(expected_error) && expected_error == 0);
        }
        FUZZ_CHECK(own_.head == head_);
    }

    fuzz::input& in_;
    pulse_slot& own_;
    pulse_slot& peer_;
    std::optional<pulse_port> port_;
    std::uint64_t tail_ = 0;
    std::uint64_t head_ = 0;
    std::uint64_t lost_ = 0;
    bool verified_ = false;
    int rung_ = 0;
    int waited_ = 0;
    bool interrupted_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static auto* const scripted = new fuzz::scripted_endpoint(slot_bytes);
    static endpoint end(scripted);  // owns it
    fuzz::input in(data, size);
    play(in, end, *scripted).run();
    return 0;
}
