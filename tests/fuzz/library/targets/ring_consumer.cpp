// SPDX-License-Identifier: MIT
// Fuzz target: ring_consumer beside a producer that writes anything into its slot
// between any two operations. A model says for each operation what must come of
// it: the very record, nothing, or EPROTO and then EPROTO for good.
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include <ipcdoor/ring.hpp>

#include "fuzz/library/check.hpp"
#include "fuzz/library/hostile_ring.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/window.hpp"

namespace {

using namespace ipcdoor;
using fuzz::attempt;
using fuzz::error_of;

// The producer's slot; all but the words and the data is off limits.
struct stage {
    explicit stage(std::uint64_t capacity)
        : pages(ring_slot_bytes(capacity), fuzz::owner::peer), own(std::make_unique<ring_input>()) {
        pages.forbid(0, offsetof(ring_slot, output));
        pages.forbid(offsetof(ring_slot, input), ring_data_offset);
    }
    fuzz::window pages;
    std::unique_ptr<ring_input> own;
};

class play {
public:
    play(fuzz::input& in, stage& on, std::uint64_t capacity, std::uint64_t start)
        : in_(in),
          capacity_(capacity),
          written_(*reinterpret_cast<ring_slot*>(on.pages.written())),
          own_(*on.own),
          hostile_(written_.output, ring_data(static_cast<void*>(&written_)), capacity),
          data_(ring_data(static_cast<const void*>(on.pages.seen()))),
          head_(start),
          published_(start),
          tail_(start) {
        on.pages.clear();
        own_.head = start;
        own_.armed = 0;
        hostile_.start_at(start);
        const auto& seen = *reinterpret_cast<const ring_slot*>(on.pages.seen());
        ring_.emplace(own_, data_, capacity, seen.output);
    }

    void run() {
        // Throwing is what takes the time: one call shows that it stays poisoned.
        while (!in_.empty() && refusals_ < 1) {
            const std::uint8_t op = in_.byte();
            // Half of the moves are the peer's.
            if (op < 128) {
                hostile_.move(in_, head_);
                continue;
            }
            switch (op % 8) {
                case 0:
                case 1: peek(); break;
                case 2: consume(); break;
                case 3: publish(); break;
                case 4: arm(); break;
                case 5: pop(in_.number<std::uint16_t>()); break;
                case 6:
                    ring_->disarm();
                    FUZZ_CHECK(own_.armed == 0);
                    break;
                default: drain();
            }
        }
        if (!poisoned_) drain();
    }

private:
    struct record {
        std::uint64_t header;
        std::uint64_t at;
        std::uint64_t skipped;
        std::uint64_t bytes() const { return header & 0xffffffff; }
        std::uint16_t type() const { return static_cast<std::uint16_t>(header >> 32); }
        std::uint64_t all() const { return skipped + 8 + (bytes() + 7) / 8 * 8; }
    };

    // ---- what must come of it ----

    // False: refused.
    bool look_at_tail() {
        const std::uint64_t tail = written_.output.tail;
        if (tail % 8 != 0 || tail - published_ > capacity_ ||
            tail - published_ < tail_ - published_)
            return false;
        tail_ = tail;
        return true;
    }

    std::uint64_t header_at(std::uint64_t at) const {
        std::uint64_t header;
        std::memcpy(&header, reinterpret_cast<const std::byte*>(&written_) + ring_data_offset + at,
                    sizeof(header));
        return header;
    }

    // The next record if the rules let it be one.
    std::optional<record> expected() const {
        record next{header_at(head_ % capacity_), head_ % capacity_, 0};
        if (next.type() == ring_wrap_type) {
            next.skipped = capacity_ - next.at;
            if (next.at == 0 || next.bytes() + 8 != next.skipped) return std::nullopt;
            if (tail_ - head_ < next.skipped + 8) return std::nullopt;
            next.at = 0;
            next.header = header_at(0);
            if (next.type() == ring_wrap_type) return std::nullopt;
        }
        if (next.bytes() > capacity_ / 2 - 8 || next.all() > tail_ - head_ ||
            next.all() - next.skipped > capacity_ - next.at)
            return std::nullopt;
        return next;
    }

    bool rings(std::uint64_t cursor) {
        const std::uint64_t armed = written_.output.armed;
        if (armed == 0 || armed == answered_) return false;
        if (static_cast<std::int64_t>(cursor - armed) < 0) return false;
        answered_ = armed;
        return true;
    }

    void poisoned_now(int error) {
        FUZZ_CHECK(error == EPROTO);
        FUZZ_CHECK(ring_->poisoned());
        poisoned_ = true;
    }

    // ---- the operations ----

    void peek() {
        const auto [error, found] = attempt([&] { return ring_->peek(); });
        if (peeked_) {
            // In place since it was peeked, whatever its header says now.
            FUZZ_CHECK(error == 0 && found);
        } else if (poisoned_) {
            ++refusals_;
            FUZZ_CHECK(error == EPROTO);
        } else {
            const bool refused = head_ == tail_ && !look_at_tail();
            if (!refused && head_ == tail_) {
                FUZZ_CHECK(error == 0 && !found);
            } else if (const auto next = refused ? std::nullopt : expected()) {
                FUZZ_CHECK(error == 0 && found);
                peeked_ = next;
            } else {
                poisoned_now(error);
            }
        }
        if (!found) return;
        FUZZ_CHECK(found->type == peeked_->type() && found->flags == peeked_->header >> 48);
        FUZZ_CHECK(found->payload.size() == peeked_->bytes());
        FUZZ_CHECK(found->payload.data() == data_ + peeked_->at + 8);
        fuzz::touch(found->payload);
    }

    void consume() {
        if (!peeked_) return;
        ring_->consume();
        head_ += peeked_->all();
        peeked_.reset();
    }

    void publish() {
        const bool moved = head_ != published_;
        published_ = head_;
        FUZZ_CHECK(ring_->publish() == (moved && rings(head_)));
        FUZZ_CHECK(own_.head == head_);
    }

    void arm() {
        publish();
        bool sleeps = false;
        const int error = error_of([&] { sleeps = ring_->arm(); });
        if (poisoned_) {
            ++refusals_;
            FUZZ_CHECK(error == EPROTO);
        } else if (head_ != tail_) {
            FUZZ_CHECK(error == 0 && !sleeps);
        } else if (!look_at_tail()) {
            poisoned_now(error);
        } else {
            FUZZ_CHECK(error == 0 && sleeps == (head_ == tail_));
            FUZZ_CHECK(own_.armed == (sleeps ? head_ + 1 : 0));
        }
    }

    void pop(std::size_t room) {
        // The last byte is before a guard page, so an over-long copy is a crash.
        static const fuzz::window buffer(2048, fuzz::owner::library);
        const std::span<std::byte> to(buffer.seen() + room % 2048, 2048 - room % 2048);
        peek();
        const auto expected_record = peeked_;
        const auto [error, found] = attempt([&] { return ring_->pop(to); });
        if (poisoned_ && !expected_record) {
            FUZZ_CHECK(error == EPROTO);
        } else if (!expected_record) {
            FUZZ_CHECK(error == 0 && !found);
        } else if (expected_record->bytes() > to.size()) {
            FUZZ_CHECK(error == EMSGSIZE);
        } else {
            FUZZ_CHECK(error == 0 && found && found->payload.size() == expected_record->bytes());
            FUZZ_CHECK(std::equal(found->payload.begin(), found->payload.end(),
                                  data_ + expected_record->at + 8));
            head_ += expected_record->all();
            peeked_.reset();
        }
    }

    // A record takes eight bytes at least, so this ends.
    void drain() {
        for (std::uint64_t i = 0; i <= capacity_ / 8; ++i) {
            peek();
            if (!peeked_) {
                publish();
                return;
            }
            consume();
        }
        FUZZ_CHECK(!"more records than the ring can hold");
    }

    fuzz::input& in_;
    const std::uint64_t capacity_;
    ring_slot& written_;
    ring_input& own_;
    fuzz::hostile_producer hostile_;
    const std::byte* const data_;
    std::optional<ring_consumer> ring_;

    std::uint64_t head_;
    std::uint64_t published_;
    std::uint64_t tail_;  // as last looked at
    std::uint64_t answered_ = 0;
    std::optional<record> peeked_;
    bool poisoned_ = false;
    unsigned refusals_ = 0;  // since then
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::input in(data, size);
    const std::uint8_t how = in.byte();
    const std::uint64_t capacity = fuzz::ring_capacity(how);
    // Fresh, in mid-life, and where the cursors wrap at 2^64.
    const std::uint64_t starts[] = {0, capacity - 8 * std::uint64_t{how} / 16,
                                    8 * std::uint64_t{in.byte()}, 0 - 8 * std::uint64_t{how}};
    play(in, fuzz::ring_stage<stage>(how), capacity, starts[how >> 2 & 3] & ~std::uint64_t{7})
        .run();
    return 0;
}
