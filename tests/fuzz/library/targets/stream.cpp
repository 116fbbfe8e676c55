// SPDX-License-Identifier: MIT
// Fuzz target: both directions of a byte stream beside a peer that writes anything into
// its slot between operations and while they wait. Each call must end, with what it is
// for or a documented error; a cursor that was caught lying is never believed again; an
// end stays an end; and an honest reader finds in the own slot what was written.
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include <ipcdoor/detail/stream_core.hpp>

#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/scripted_endpoint.hpp"

namespace {

using namespace ipcdoor;
using detail::stream_core;
using detail::stream_link;
using fuzz::attempt;
using fuzz::error_of;

// The waits' ends are the script's, but a condition variable's is this: past.
constexpr std::uint64_t past_ns = 1;
constexpr std::uint32_t both = stream_reads | stream_writes;
constexpr std::uint64_t bit(std::uint32_t vector) { return std::uint64_t{1} << vector; }

// The byte at a place of the stream that is written here.
constexpr std::uint64_t period = 251;
constexpr std::byte byte_at(std::uint64_t place) { return static_cast<std::byte>(place % period); }

constexpr std::size_t most_bytes = 4096;
constexpr std::array<std::byte, most_bytes + period> written_bytes = [] {
    std::array<std::byte, most_bytes + period> made{};
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = byte_at(i);
    return made;
}();

class play final : public fuzz::script {
public:
    play(fuzz::input& in, fuzz::scripted_endpoint& end)
        : in_(in),
          end_(end),
          own_(*reinterpret_cast<stream_slot*>(end.own.written())),
          peer_(*reinterpret_cast<stream_slot*>(end.peer.written())),
          room_(stream_capacity(end.own.size())) {
        end.restart(*this);
        // Small at times, so that it wraps; spin a little, too.
        const std::uint8_t how = in.byte();
        const std::uint64_t limits[] = {0, 1, 7, 100};
        core_.emplace(&end, both, how >> 2 & 1, limits[how & 3]);
        capacity_ = core_->out().capacity();
        if (in.byte() % 4 != 0) init_stream_slot(&peer_, end.peer.size(), both);
    }

    void run() {
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            if (op < 112)
                move();
            else
                operate(op % 13);
        }
        for (int op = 0; op < 13; ++op) operate(op);
        core_->finish();
        FUZZ_CHECK(own_.finished == 1 && own_.gone == 1);
        look_at_own_slot();
    }

    // ---- the doorbell ----

    int on_ring(std::uint32_t slot, std::uint32_t vector) override {
        FUZZ_CHECK(vector == stream_link::reader_vector || vector == stream_link::writer_vector);
        if (slot == 0) return 0;  // a half that was shut down wakes its own threads
        FUZZ_CHECK(slot == 1);
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
        const std::uint64_t vectors = mask & ~bit(IPCDOOR_VECTOR_LIFECYCLE);
        FUZZ_CHECK(vectors == bit(stream_link::reader_vector) ||
                   vectors == bit(stream_link::writer_vector) ||
                   vectors == (bit(stream_link::reader_vector) | bit(detail::hello_vector)));
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
    // ---- the peer ----

    void move() {
        const std::uint64_t head = own_.input.head;
        const std::uint64_t tail = own_.output.tail;
        switch (in_.byte() % 12) {
            case 0: move_header(); break;
            case 1: peer_.output.tail = in_.word(peer_.output.tail, room_); break;
            case 2: peer_.output.tail = in_.word(head, room_); break;
            case 3:
            case 4: peer_.output.tail += in_.byte(); break;
            case 5: peer_.input.head = in_.word(peer_.input.head, capacity_); break;
            case 6: peer_.input.head = in_.word(tail, capacity_); break;
            case 7: peer_.input.head = tail; break;  // honest: it has read everything
            case 8: peer_.input.armed = in_.word(tail, capacity_); break;
            case 9: peer_.output.armed = in_.word(head, room_); break;
            case 10: peer_.finished = in_.byte() % 4 == 0 ? in_.byte() : 0; break;
            default: peer_.gone = in_.byte() % 4 == 0 ? in_.byte() : 0;
        }
    }

    void move_header() {
        header_moved_ = true;
        const std::uint8_t how = in_.byte();
        switch (how % 8) {
            case 0: peer_.magic = how < 128 ? 0 : in_.number<std::uint64_t>(); break;
            case 1: peer_.version_min = in_.byte(); break;
            case 2: peer_.version_max = in_.byte(); break;
            case 3: peer_.capacity = in_.number<std::uint16_t>(); break;
            case 4: peer_.capacity = in_.word(room_, room_); break;
            case 5: peer_.data_offset = static_cast<std::uint32_t>(in_.word(2048, 2048)); break;
            case 6: peer_.roles = in_.byte(); break;
            default: init_stream_slot(&peer_, end_.peer.size(), both);
        }
        judge_header();
    }

    // What the header of a slot may say, in words of stream_layout.hpp.
    void judge_header() const {
        const std::uint64_t said = peer_.capacity;
        const bool fits = peer_.data_offset == 2048 && said >= 1 && said <= room_;
        const bool speaks = peer_.version_min == 1 && peer_.version_max >= 1;
        const bool sane = peer_.version_min != 0 && peer_.version_min <= peer_.version_max;
        const auto [error, found] =
            attempt([&] { return verify_stream_slot(end_.peer.seen(), end_.peer.size(), both); });
        if (peer_.magic == 0)
            FUZZ_CHECK(error == 0 && found == 0);
        else if (peer_.magic != stream_magic || !sane)
            FUZZ_CHECK(error == EPROTO);
        else if (!speaks)
            FUZZ_CHECK(error == EPROTONOSUPPORT);
        else
            FUZZ_CHECK(fits && peer_.roles == 3 ? error == 0 && found == said : error == EPROTO);
    }

    // ---- the operations ----

    // A byte at least: without one a cursor is not looked at.
    std::span<const std::byte> payload() {
        const std::uint8_t size = in_.byte();
        const std::size_t bytes = size < 240 ? size + std::size_t{1} : std::size_t{size} * 16;
        return std::span(written_bytes).subspan(own_.output.tail % period, bytes);
    }

    // A cursor that was caught stays poisoned. Where the header moved meanwhile it may
    // have been that, which a peer can put right.
    void judge(int error, bool may_time_out, bool& poisoned, bool over) {
        if (poisoned && !over) {
            // Before it comes to that, the header or a death may have their say.
            FUZZ_CHECK(error == EPROTO || error == EPROTONOSUPPORT || error == EPIPE);
            return;
        }
        FUZZ_CHECK_ERROR(error, EPIPE, EPROTO, EPROTONOSUPPORT, may_time_out ? ETIMEDOUT : EPROTO);
        if (error != EPROTO || header_moved_) return;
        poisoned =
            error_of([&] { verify_stream_slot(end_.peer.seen(), end_.peer.size(), both); }) == 0;
    }
    void judge_write(int error, bool may_time_out) {
        judge(error, may_time_out, out_poisoned_, false);
        // Found amid a write, it leaves bytes there that were never published.
        torn_ = torn_ || error == EPROTO;
    }
    void judge_read(int error, bool may_time_out) {
        judge(error, may_time_out, in_poisoned_, ended_);
        // An end stays an end.
        if (ended_) FUZZ_CHECK(error == 0);
    }

    void operate(int op) {
        header_moved_ = false;
        static const fuzz::window buffer(2048, fuzz::owner::library);
        const std::uint64_t tail = own_.output.tail;
        switch (op) {
            case 0: {  // all of it
                std::size_t written = 99999;
                const std::span<const std::byte> one[] = {payload()};
                judge_write(error_of([&] { core_->out().write(one, written, past_ns); }), true);
                FUZZ_CHECK(written <= one[0].size());
                FUZZ_CHECK(own_.output.tail == tail + written);
                break;
            }
            case 1: {  // some
                const auto bytes = payload();
                const auto [error, some] =
                    attempt([&] { return core_->out().write_some(bytes, past_ns, true); });
                judge_write(error, true);
                if (error == 0) {
                    FUZZ_CHECK(some && *some <= bytes.size() && own_.output.tail == tail + *some);
                }
                break;
            }
            case 2: {  // without waiting
                const auto bytes = payload();
                const auto [error, some] = attempt([&] { return core_->try_write(bytes); });
                judge_write(error, false);
                if (error == 0 && some)
                    FUZZ_CHECK(*some <= bytes.size() && own_.output.tail == tail + *some);
                break;
            }
            case 3: {  // in place
                const std::size_t wanted = in_.byte() + std::size_t{1};
                const auto [error, room] =
                    attempt([&] { return core_->out().reserve(wanted, past_ns); });
                judge_write(error, true);
                if (error != 0) break;
                FUZZ_CHECK(!room.empty() && room.size() <= wanted && room.size() <= capacity_);
                const std::size_t used = in_.byte() % (room.size() + 1);
                for (std::size_t i = 0; i < used; ++i) room[i] = byte_at(tail + i);
                const std::size_t too_many = room.size() + 1;
                FUZZ_CHECK(error_of([&] { core_->out().commit(too_many); }) == EINVAL);
                core_->out().commit(used);
                FUZZ_CHECK(own_.output.tail == tail + used);
                break;
            }
            case 4:
                if (in_.byte() % 8 != 0) break;  // or little would be written after it
                core_->out().shut();
                FUZZ_CHECK(own_.finished == 1);
                break;
            case 5: judge_write(error_of([&] { core_->out().drain(past_ns); }), true); break;
            case 6:
            case 7: {  // what is there; the last byte is before a guard page
                const std::size_t bytes = in_.number<std::uint16_t>() % 2049;
                const std::span<std::byte> one[] = {std::span(buffer.seen() + 2048 - bytes, bytes)};
                std::optional<std::size_t> got;
                const int error = error_of(
                    [&] { got = op == 6 ? core_->try_read(one) : core_->in().read(one, past_ns); });
                if (bytes == 0) break;
                judge_read(error, op == 7);
                if (error == 0 && got) {
                    FUZZ_CHECK(*got <= bytes && *got <= room_);
                    FUZZ_CHECK(!ended_ || *got == 0);
                    ended_ = *got == 0;
                }
                break;
            }
            case 8: {  // exactly
                const std::size_t bytes = in_.byte();
                std::size_t done = 99999;
                const auto [error, all] = attempt([&] {
                    return core_->in().read_exact({buffer.seen(), bytes}, done, past_ns);
                });
                FUZZ_CHECK(done <= bytes);
                if (error == ENODATA) {
                    FUZZ_CHECK(done < bytes);
                    ended_ = true;
                    break;
                }
                if (bytes == 0) break;
                judge_read(error, true);
                if (error == 0) {
                    FUZZ_CHECK(all == (done == bytes));
                    if (!all) ended_ = true;
                }
                break;
            }
            case 9: {  // in place
                const auto [error, bytes] = attempt([&] { return core_->in().peek(past_ns); });
                judge_read(error, true);
                if (error != 0) break;
                if (bytes.empty()) {
                    ended_ = true;
                    break;
                }
                const std::byte* const data =
                    stream_data(static_cast<const void*>(end_.peer.seen()));
                FUZZ_CHECK(bytes.data() >= data && bytes.data() + bytes.size() <= data + room_);
                fuzz::touch(bytes);
                const std::uint64_t head = own_.input.head;
                const std::size_t used = in_.number<std::uint16_t>() % (bytes.size() + 1);
                core_->in().consume(used);
                FUZZ_CHECK(own_.input.head == head + used);
                break;
            }
            case 10:
                if (in_.byte() % 8 != 0) break;
                core_->in().shut();
                ended_ = true;
                FUZZ_CHECK(own_.gone == 1);
                break;
            case 11:
                FUZZ_CHECK(core_->out().writable() <= capacity_);
                FUZZ_CHECK(core_->in().readable() <= room_);
                break;
            default: {
                const int error = error_of([&] { core_->in().await_peer(past_ns); });
                FUZZ_CHECK_ERROR(error, EPIPE, EPROTO, EPROTONOSUPPORT, ETIMEDOUT);
            }
        }
        look_at_own_slot();
    }

    // As an honest peer would.
    void look_at_own_slot() const {
        FUZZ_CHECK(verify_stream_slot(&own_, end_.own.size(), both) == capacity_);
        if (torn_) return;
        const std::uint64_t tail = own_.output.tail;
        const std::byte* const data = stream_data(static_cast<const void*>(&own_));
        for (std::uint64_t back = 1; back <= capacity_ && back <= tail; ++back)
            FUZZ_CHECK(data[(tail - back) % capacity_] == byte_at(tail - back));
    }

    fuzz::input& in_;
    fuzz::scripted_endpoint& end_;
    stream_slot& own_;
    stream_slot& peer_;
    const std::uint64_t room_;  // a slot's
    std::uint64_t capacity_ = 0;
    std::optional<stream_core> core_;
    bool header_moved_ = false;  // during this operation
    bool out_poisoned_ = false;
    bool in_poisoned_ = false;
    bool torn_ = false;
    bool ended_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // Ends at a guard page, so it is of whole lines.
    static fuzz::scripted_endpoint small(stream_slot_bytes(3 * ring_line_bytes));
    static fuzz::scripted_endpoint page(4096);
    fuzz::input in(data, size);
    play story(in, in.chance() ? page : small);
    story.run();
    return 0;
}
