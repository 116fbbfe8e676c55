// SPDX-License-Identifier: MIT
// Fuzz target: a channel's whole engine (send, receive, call, reply, loans, all
// priorities, messages in parts) beside a peer that writes anything into its slot
// between operations and while they wait. Each call must end, with what it is for or a
// documented error; after EPROTO there is only EPROTO; and what was sent must be
// readable for an honest receiver.
#include <algorithm>
#include <array>
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
using detail::record_type;
using fuzz::error_of;

// The waits' ends are the script's, but a condition variable's is this: past.
constexpr std::uint64_t past_ns = 1;
constexpr std::uint64_t most_bytes = 3000;

// A lane as an honest peer reads it.
struct honest_lane {
    ring_input words{};
    std::optional<ring_consumer> ring;
    bool partial = false;
    bool missed = false;  // what came before, so that parts may come from nowhere
    std::uint64_t left = 0;
};

class play final : public fuzz::script {
public:
    play(fuzz::input& in, fuzz::scripted_endpoint& end)
        : in_(in),
          end_(end),
          layout_(message_geometry_of(end.own.size())),
          peer_(*reinterpret_cast<message_slot*>(end.peer.written())) {
        end.restart(*this);
        // Set apart little, so that the inbox is full at times; spin a little, too.
        const std::uint8_t how = in.byte();
        // A socket for descriptors is something that few runs can wait for.
        core_.emplace(
            &end, channel_core::options{{static_cast<std::uint64_t>(how >> 1 & 1),
                                         (how & 1) != 0 ? 300 : std::size_t{1} << 20, most_bytes},
                                        how >= 252 ? std::size_t{2} : 0,
                                        false});
        if (in.byte() % 4 != 0) init_message_slot(&peer_, end.peer.size(), greeting());
        for (unsigned i = 0; i < layout_.lanes; ++i) {
            hostile_.emplace_back(theirs(i).output, end.peer.written() + layout_.offset[i],
                                  layout_.capacity[i]);
            attach(i);
        }
    }

    void run() {
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            if (op < 112)
                move();
            else
                operate(op % operations);
        }
        for (int op = 0; op < operations; ++op) operate(op);
    }

    // ---- the doorbell ----

    int on_ring(std::uint32_t slot, std::uint32_t vector) override {
        bool space = false;
        for (unsigned i = 0; i < layout_.lanes; ++i) space |= vector == detail::space_vector(i);
        if (slot == 0) {  // a failing channel wakes its own threads
            FUZZ_CHECK(vector == detail::data_vector || space);
            return 0;
        }
        FUZZ_CHECK(slot == 1 &&
                   (space || vector == detail::data_vector || vector == detail::hello_vector));
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
        FUZZ_CHECK(mask != 0 && (mask & ~std::uint64_t{0xef}) == 0);
        if (in_.empty()) return -ETIMEDOUT;
        // Read before the peer says that it has: a long message goes on meanwhile.
        look_at_own_slot();
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
    static constexpr int operations = 12;

    message_lane& mine(unsigned lane) {
        return message_lane_of(static_cast<void*>(end_.own.written()), lane);
    }
    message_lane& theirs(unsigned lane) {
        return message_lane_of(static_cast<void*>(end_.peer.written()), lane);
    }
    unsigned any_lane() { return in_.byte() % layout_.lanes; }

    void attach(unsigned lane) {
        reader_[lane].ring.emplace(
            reader_[lane].words,
            static_cast<const std::byte*>(end_.own.written()) + layout_.offset[lane],
            layout_.capacity[lane], mine(lane).output);
    }

    void move() {
        const std::uint8_t how = in_.byte() % 8;
        if (how == 0) return move_header();
        const unsigned on = any_lane();
        switch (how) {
            case 1: hostile_[on].append(in_, in_.byte() % 6, true); break;
            case 2:
            case 3:
                fuzz::move_consumer(in_, theirs(on).input, mine(on).output.tail,
                                    layout_.capacity[on]);
                break;
            default: hostile_[on].move(in_, mine(on).input.head);
        }
    }

    void move_header() {
        const std::uint8_t how = in_.byte();
        switch (how % 6) {
            case 0: peer_.magic = how < 128 ? 0 : in_.number<std::uint64_t>(); break;
            case 1: peer_.version_min = in_.byte(); break;
            case 2: peer_.version_max = in_.byte(); break;
            case 3: peer_.max_message_bytes = in_.word(most_bytes, most_bytes); break;
            case 4: init_message_slot(&peer_, end_.peer.size(), {most_bytes}); break;
            default: init_message_slot(&peer_, end_.peer.size(), greeting());
        }
        judge_header();
    }

    // Of a peer that may ask how senders are scheduled, and names any socket.
    message_greeting greeting() {
        const std::uint8_t how = in_.byte();
        return {most_bytes, how & 3U, how < 128 ? 0 : in_.number<std::uint64_t>()};
    }

    // What the header of a slot may say.
    void judge_header() const {
        const bool speaks = peer_.version_min == 1 && peer_.version_max >= 1;
        const bool sane = peer_.version_min != 0 && peer_.version_min <= peer_.version_max;
        bool found = false;
        const int error = error_of([&] { found = verify_message_slot(end_.peer.seen()); });
        if (peer_.magic == 0)
            FUZZ_CHECK(error == 0 && !found);
        else if (peer_.magic != message_magic || !sane)
            FUZZ_CHECK(error == EPROTO);
        else if (!speaks)
            FUZZ_CHECK(error == EPROTONOSUPPORT);
        else
            FUZZ_CHECK(error == 0 && found);
    }

    // Around the longest record, too, and in parts.
    std::span<const std::byte> payload() {
        const std::uint8_t size = in_.byte();
        const std::uint64_t record = ring_max_payload(layout_.capacity[0]);
        const std::uint64_t bytes = size < 200   ? size
                                    : size < 240 ? record + size - 220
                                                 : record * (size - 238);
        return std::span(payload_).first(std::min<std::uint64_t>(bytes, sizeof(payload_)));
    }

    // Errors of a call that may block, and of one that may not.
    void judge(int error, bool may_time_out, bool with_payload) {
        if (failed_) {
            FUZZ_CHECK(error == EPROTO);
            return;
        }
        FUZZ_CHECK_ERROR(error, EPIPE, EPROTO, EPROTONOSUPPORT, may_time_out ? ETIMEDOUT : EPROTO,
                         with_payload ? EMSGSIZE : EPROTO);
        failed_ = error == EPROTO;
    }

    void judge_message() {
        FUZZ_CHECK(received_.size() <=
                   std::max<std::uint64_t>(most_bytes, ring_max_payload(layout_.capacity[0])));
        FUZZ_CHECK(received_.priority() < layout_.lanes);
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
                const unsigned on = any_lane();
                // Nobody is there to take it, whatever socket the peer names.
                const int descriptor = 0;
                const std::size_t descriptors = in_.byte() >= 250 ? 1 : 0;
                error = error_of([&] {
                    done =
                        core_->send({record_type::message, 0, on},
                                    {bytes, std::span(&descriptor, descriptors)}, past_ns, blocks);
                });
                if (descriptors != 0 &&
                    (error == EOPNOTSUPP || error == ENOTCONN || error == EINVAL))
                    break;
                FUZZ_CHECK(descriptors == 0 || error != 0);
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
                const unsigned on = any_lane();
                error = error_of([&] { core_->call(on, payload(), received_, past_ns); });
                judge(error, true, true);
                if (error == 0) {
                    FUZZ_CHECK(!received_.is_request());
                    judge_message();
                }
                break;
            }
            case 6:
                error = error_of([&] {
                    core_->send({record_type::reply, 1U + in_.byte(), any_lane()}, payload(),
                                past_ns, true);
                });
                judge(error, true, true);
                break;
            case 7:
                error = error_of([&] {
                    core_->reply_receive({record_type::reply, 1U + in_.byte(), any_lane()},
                                         payload(), received_, past_ns);
                });
                judge(error, true, true);
                if (error == 0) judge_message();
                break;
            case 8: operate_in_place(); break;
            default: operate_loan(op);
        }
        look_at_own_slot();
    }

    void operate_in_place() {
        std::optional<channel_core::held_record> held;
        const int error =
            error_of([&] { core_->receive_in_place(received_, held, past_ns, true); });
        judge(error, true, false);
        if (!held) {
            if (error == 0) judge_message();
            return;
        }
        FUZZ_CHECK(error == 0 && held->lane < layout_.lanes &&
                   held->bytes.size() <= ring_max_payload(layout_.capacity[held->lane]));
        fuzz::touch(held->bytes);
        for (int moves = in_.byte() % 4; moves > 0; --moves) move();
        fuzz::touch(held->bytes);
        message other;
        bool received = false;
        const int meanwhile = error_of([&] { received = core_->receive(other, past_ns, false); });
        FUZZ_CHECK(meanwhile != 0 || !received || !failed_);
        core_->let_go(*held);
    }

    void operate_loan(int op) {
        const unsigned on = any_lane();
        auto what =
            op == 9 ? core_->request(on) : channel_core::envelope{record_type::message, 0, on};
        const std::size_t bytes = in_.byte();
        std::byte* memory = nullptr;
        const int error =
            error_of([&] { memory = core_->begin_loan(what, bytes, past_ns, op != 10); });
        judge(error, op != 10, true);
        if (memory == nullptr) return;
        std::memset(memory, 0x5a, bytes);
        for (int moves = in_.byte() % 4; moves > 0; --moves) move();
        const std::uint8_t how = in_.byte();
        if (how % 4 == 0) {
            core_->cancel_loan(what);
        } else if (op == 9) {
            bool published = false;
            const int called = error_of(
                [&] { core_->call_with_loan(what, bytes, received_, past_ns, published); });
            if (!published) core_->cancel_loan(what);
            judge(called, true, false);
        } else {
            judge(error_of([&] { core_->publish_loan(what, std::min<std::size_t>(how, bytes)); }),
                  false, false);
        }
    }

    // As an honest peer would.
    void look_at_own_slot() {
        // It is called amid the library's own work, which takes exceptions for the peer's.
        FUZZ_CHECK(error_of([&] { read_own_slot(); }) == 0);
    }
    void read_own_slot() {
        FUZZ_CHECK(verify_message_slot(end_.own.written()));
        for (unsigned i = 0; i < layout_.lanes; ++i) {
            honest_lane& from = reader_[i];
            const std::uint64_t tail = mine(i).output.tail;
            if (tail - from.words.head > layout_.capacity[i]) {
                // The peer said beforehand that it had read what was yet to come, and it
                // was overwritten: its loss.
                from.words.head = tail;
                from.missed = true;
                attach(i);
            }
            while (const auto record = from.ring->peek()) {
                read(from, *record);
                from.ring->consume();
            }
            static_cast<void>(from.ring->publish());
        }
    }

    static void read(honest_lane& from, const ring_record& record) {
        const auto type = static_cast<record_type>(record.type);
        std::uint64_t bytes = record.payload.size();
        FUZZ_CHECK(record.flags <= 3);
        const bool more = (record.flags & detail::record_more) != 0;
        const bool extras = (record.flags & detail::record_has_extras) != 0;
        if (from.missed) {
            if (type == record_type::part || type == record_type::abort) return;
            from.missed = from.partial = false;
        }
        if (type == record_type::abort) {
            FUZZ_CHECK(from.partial && bytes == 0 && record.flags == 0);
            from.partial = false;
            return;
        }
        if (type == record_type::part) {
            FUZZ_CHECK(from.partial && !extras && (more ? bytes < from.left : bytes == from.left));
            from.left -= bytes;
            from.partial = more;
            return;
        }
        FUZZ_CHECK(!from.partial && record.type >= 1 && record.type <= 3);
        const std::size_t prefix = (type == record_type::message ? 0 : detail::record_id_bytes) +
                                   (extras ? sizeof(detail::record_extras) : 0);
        FUZZ_CHECK(bytes >= prefix + (more ? sizeof from.left : 0));
        if (!more) return;
        std::memcpy(&from.left, record.payload.data() + prefix, sizeof from.left);
        bytes -= prefix + sizeof from.left;
        FUZZ_CHECK(bytes < from.left);
        from.left -= bytes;
        from.partial = true;
    }

    fuzz::input& in_;
    fuzz::scripted_endpoint& end_;
    const message_geometry layout_;
    message_slot& peer_;
    std::vector<fuzz::hostile_producer> hostile_;
    std::optional<channel_core> core_;
    message received_;
    bool failed_ = false;
    std::array<honest_lane, message_max_lanes> reader_;
    static constexpr std::array<std::byte, 4096> payload_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::scripted_endpoint small(ring_slot_bytes(512));
    static fuzz::scripted_endpoint page(4096);
    static fuzz::scripted_endpoint urgent(8192);
    fuzz::input in(data, size);
    const std::uint8_t which = in.byte() % 3;
    play story(in, which == 0 ? page : which == 1 ? small : urgent);
    story.run();
    return 0;
}
