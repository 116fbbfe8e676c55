// SPDX-License-Identifier: MIT
// Fuzz target: a channel's whole engine (send, receive, call, reply) beside a peer
// that writes anything into its slot between operations and while they wait. Each
// call must end, with what it is for or a documented error; after EPROTO there is
// only EPROTO; and what was sent must be readable for an honest receiver.
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include <ipcdoor/message.hpp>

#include "fuzz/library/check.hpp"
#include "fuzz/library/hostile_ring.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/scripted_endpoint.hpp"

namespace {

using namespace ipcdoor;
using detail::channel_core;
using fuzz::error_of;

// The waits' ends are the script's, but a condition variable's is this: past.
constexpr std::uint64_t past_ns = 1;

class play final : public fuzz::script {
public:
    play(fuzz::input& in, fuzz::scripted_endpoint& end)
        : in_(in),
          end_(end),
          capacity_(ring_capacity(end.own.size())),
          own_(*reinterpret_cast<ring_slot*>(end.own.written())),
          peer_(*reinterpret_cast<ring_slot*>(end.peer.written())),
          hostile_(peer_, capacity_) {
        end.restart(*this);
        // Set apart little, so that the inbox is full at times; spin a little, too.
        const std::uint8_t how = in.byte();
        core_.emplace(&end, how >> 1 & 1, (how & 1) != 0 ? 300 : std::size_t{1} << 20);
        if (in.byte() % 4 != 0) init_ring_slot(&peer_, end.peer.size());
        reader_.emplace(reader_words_, ring_data(static_cast<const void*>(end.own.written())),
                        capacity_, own_.output);
    }

    void run() {
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            if (op < 112)
                move();
            else
                operate(op % 8);
        }
        for (int op = 0; op < 8; ++op) operate(op);
    }

    // ---- the doorbell ----

    int on_ring(std::uint32_t slot, std::uint32_t vector) override {
        if (slot == 0) {  // a failing channel wakes its own threads
            FUZZ_CHECK(vector == channel_core::data_vector || vector == channel_core::space_vector);
            return 0;
        }
        FUZZ_CHECK(slot == 1 && vector >= 1 && vector <= 3);
        // The last two: it was counted, but a signal that the peer wants with it
        // could not be sent (soft_wait.cpp).
        switch (in_.byte()) {
            case 1: return -EPIPE;
            case 2: return -EOPNOTSUPP;
            case 3: return -EAGAIN;
            default: return 0;
        }
    }

    int on_wait(std::uint64_t mask) override {
        FUZZ_CHECK(mask == 2 || mask == 4 || mask == 8);
        if (in_.empty()) return -ETIMEDOUT;
        const std::uint8_t how = in_.byte();
        for (int moves = how >> 4 & 3; moves > 0; --moves) move();
        switch (how & 7) {
            case 0: return -ETIMEDOUT;
            case 1: return -EINTR;
            case 2: return (how & 0xc0) == 0xc0 ? -EPIPE : 0;
            default: return 0;
        }
    }

private:
    void move() {
        switch (in_.byte() % 8) {
            case 0: move_header(); break;
            case 1: hostile_.append(in_, in_.byte() % 4, true); break;
            case 2:
            case 3: fuzz::move_consumer(in_, peer_, own_.output.tail, capacity_); break;
            default: hostile_.move(in_, own_.input.head);
        }
    }

    void move_header() {
        const std::uint8_t how = in_.byte();
        switch (how % 8) {
            case 0: peer_.magic = how < 128 ? 0 : in_.number<std::uint64_t>(); break;
            case 1: peer_.version_min = in_.byte(); break;
            case 2: peer_.version_max = in_.byte(); break;
            case 3: peer_.capacity = std::uint64_t{1} << in_.byte() % 64; break;
            case 4: peer_.capacity = in_.word(capacity_, capacity_); break;
            case 5: peer_.data_offset = static_cast<std::uint32_t>(in_.word(2048, 2048)); break;
            default: init_ring_slot(&peer_, end_.peer.size());
        }
        judge_header();
    }

    // What the header of a slot may say, in words of ring_layout.hpp.
    void judge_header() const {
        const std::uint64_t room = end_.peer.size() - 2048;
        const std::uint64_t said = peer_.capacity;
        bool fits = peer_.data_offset == 2048;
        std::uint64_t power = 256;
        while (power < said && power < room) power *= 2;
        fits = fits && said == power && said <= room;
        const bool speaks = peer_.version_min == 1 && peer_.version_max >= 1;
        const bool sane = peer_.version_min != 0 && peer_.version_min <= peer_.version_max;
        std::uint64_t found = 0;
        const int error =
            error_of([&] { found = verify_ring_slot(end_.peer.seen(), end_.peer.size()); });
        if (peer_.magic == 0)
            FUZZ_CHECK(error == 0 && found == 0);
        else if (peer_.magic != ring_magic || !sane)
            FUZZ_CHECK(error == EPROTO);
        else if (!speaks)
            FUZZ_CHECK(error == EPROTONOSUPPORT);
        else
            FUZZ_CHECK(fits ? error == 0 && found == said : error == EPROTO);
    }

    std::span<const std::byte> payload() {
        const std::uint8_t size = in_.byte();
        return std::span(payload_).first(size < 250 ? size : capacity_ / 2 - 276 + size);
    }

    // Errors of a call that may block, of one that may not, and of reply().
    void judge(int error, bool may_time_out, bool with_payload, bool may_be_invalid = false) {
        if (error == EINVAL && may_be_invalid) return;
        if (failed_) {
            FUZZ_CHECK(error == EPROTO);
            return;
        }
        FUZZ_CHECK_ERROR(error, EPIPE, EPROTO, EPROTONOSUPPORT, may_time_out ? ETIMEDOUT : EPROTO,
                         with_payload ? EMSGSIZE : EPROTO);
        failed_ = error == EPROTO;
    }

    void judge_message() {
        FUZZ_CHECK(received_.size() <= ring_max_payload(capacity_));
        fuzz::touch(received_.bytes());
    }

    void operate(int op) {
        bool done = true;
        int error = 0;
        switch (op) {
            case 0:
            case 1: {
                const bool blocks = op == 1;
                const auto bytes = payload();
                error = error_of([&] {
                    done = core_->send(channel_core::type_message, 0, bytes, past_ns, blocks);
                });
                judge(error, blocks, true);
                FUZZ_CHECK(done || !blocks);
                break;
            }
            case 2:
            case 3: {
                const bool blocks = op == 3;
                error = error_of([&] { done = core_->receive(received_, past_ns, blocks); });
                judge(error, blocks, false);
                FUZZ_CHECK(done || !blocks);
                if (error == 0 && done) judge_message();
                break;
            }
            case 4:
            case 5: {
                message reply;
                error = error_of([&] { core_->call(payload(), reply, past_ns); });
                judge(error, true, true);
                if (error == 0) {
                    FUZZ_CHECK(reply.size() <= core_->max_message_bytes());
                    FUZZ_CHECK(!reply.is_request());
                    fuzz::touch(reply.bytes());
                }
                break;
            }
            case 6:
                error = error_of([&] { core_->reply(received_, payload(), past_ns); });
                FUZZ_CHECK(received_.is_request() == (error != EINVAL));
                judge(error, true, true, true);
                break;
            default: {
                const bool is_request = received_.is_request();
                error = error_of(
                    [&] { core_->reply_receive(received_, payload(), received_, past_ns); });
                if (failed_)
                    FUZZ_CHECK(error == EPROTO);
                else
                    FUZZ_CHECK(is_request == (error != EINVAL));
                judge(error, true, true, true);
                if (error == 0) judge_message();
            }
        }
        look_at_own_slot();
    }

    // As an honest peer would.
    void look_at_own_slot() {
        FUZZ_CHECK(verify_ring_slot(&own_, end_.own.size()) == capacity_);
        while (const auto record = reader_->peek()) {
            FUZZ_CHECK(record->type >= 1 && record->type <= 3 && record->flags == 0);
            FUZZ_CHECK(record->type == channel_core::type_message || record->payload.size() >= 8);
            reader_->consume();
        }
        static_cast<void>(reader_->publish());
    }

    fuzz::input& in_;
    fuzz::scripted_endpoint& end_;
    const std::uint64_t capacity_;
    ring_slot& own_;
    ring_slot& peer_;
    fuzz::hostile_producer hostile_;
    std::optional<channel_core> core_;
    message received_;
    bool failed_ = false;

    ring_input reader_words_{};
    std::optional<ring_consumer> reader_;
    static constexpr std::array<std::byte, 4096> payload_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::scripted_endpoint small(ring_slot_bytes(512));
    static fuzz::scripted_endpoint page(4096);
    fuzz::input in(data, size);
    play story(in, in.chance() ? page : small);
    story.run();
    return 0;
}
