// SPDX-License-Identifier: MIT
// Fuzz target: ring_producer beside a consumer that writes anything into its words
// between any two operations. A model says when there is room, when the consumer
// is refused, and where records go; an honest reader, who empties the ring at each
// publication, must find every record as it was committed.
#include <array>
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
using fuzz::error_of;

// The producer's slot, and the consumer's words.
struct stage {
    explicit stage(std::uint64_t capacity)
        : pages(ring_slot_bytes(capacity), fuzz::owner::library),
          peer(sizeof(ring_slot), fuzz::owner::peer),
          reader(std::make_unique<ring_input>()) {
        pages.forbid(0, offsetof(ring_slot, output));
        pages.forbid(offsetof(ring_slot, input), ring_data_offset);
        peer.forbid(0, offsetof(ring_slot, input));
    }
    fuzz::window pages;
    fuzz::window peer;
    std::unique_ptr<ring_input> reader;
};

class play {
public:
    play(fuzz::input& in, stage& on, std::uint64_t capacity, std::uint64_t start)
        : in_(in),
          capacity_(capacity),
          own_(*reinterpret_cast<ring_slot*>(on.pages.written())),
          peer_(*reinterpret_cast<ring_slot*>(on.peer.written())),
          data_(ring_data(static_cast<void*>(on.pages.seen()))),
          tail_(start),
          published_(start),
          head_(start < capacity ? 0 : start - capacity) {
        on.pages.clear();
        on.peer.clear();
        own_.output.tail = start;
        peer_.input.head = start;
        on.reader->head = start;
        auto& seen = *reinterpret_cast<ring_slot*>(on.pages.seen());
        const auto& consumer = *reinterpret_cast<const ring_slot*>(on.peer.seen());
        ring_.emplace(seen.output, data_, capacity, consumer.input);
        reader_.emplace(*on.reader, data_, capacity, seen.output);
    }

    void run() {
        // Throwing is what takes the time: one call shows that it stays poisoned.
        while (!in_.empty() && refusals_ < 1) {
            const std::uint8_t op = in_.byte();
            if (op < 96) {
                fuzz::move_consumer(in_, peer_.input, own_.output.tail, capacity_);
                continue;
            }
            switch (op % 8) {
                case 0:
                case 1:
                case 2: put(size()); break;
                case 3: reserve(size()); break;
                case 4:
                case 5: publish(); break;
                case 6: arm(size()); break;
                default: ring_->disarm(); FUZZ_CHECK(own_.output.armed == 0);
            }
        }
        publish();
    }

private:
    struct record {
        std::size_t bytes;
        std::uint16_t type;
        std::uint8_t fill;
    };

    std::size_t size() {
        const std::uint8_t choice = in_.byte();
        const std::size_t most = capacity_ / 2 - 8;
        switch (choice % 8) {
            case 0: return most;
            case 1: return most + 1;
            case 2: return in_.number<std::uint64_t>();
            case 3: return most - choice / 8;
            default: return in_.byte() % most;
        }
    }

    // ---- what must come of it ----

    std::uint64_t record_bytes(std::size_t bytes) const { return 8 + (bytes + 7) / 8 * 8; }
    std::uint64_t rest() const { return capacity_ - tail_ % capacity_; }
    bool wraps(std::size_t bytes) const { return record_bytes(bytes) > rest(); }
    std::uint64_t need(std::size_t bytes) const {
        return record_bytes(bytes) + (wraps(bytes) ? rest() : 0);
    }
    bool has_room(std::size_t bytes) const { return capacity_ - (tail_ - head_) >= need(bytes); }

    // False: refused.
    bool look_at_head() {
        const std::uint64_t head = peer_.input.head;
        if (head % 8 != 0 || published_ - head > published_ - head_) return false;
        head_ = head;
        return true;
    }

    // True where the error was the right one, and ends the operation.
    bool refused(int error, std::size_t bytes) {
        if (poisoned_) {
            ++refusals_;
            FUZZ_CHECK(error == EPROTO);
        } else if (bytes > capacity_ / 2 - 8) {
            FUZZ_CHECK(error == EMSGSIZE);
        } else {
            return false;
        }
        return true;
    }

    void poisoned_now(int error) {
        FUZZ_CHECK(error == EPROTO);
        FUZZ_CHECK(ring_->poisoned());
        poisoned_ = true;
    }

    std::span<const record> committed() const { return std::span(records_).first(committed_); }

    // ---- the operations ----

    std::byte* reserve(std::size_t bytes) {
        std::byte* to = nullptr;
        const int error = error_of([&] { to = ring_->reserve(bytes); });
        if (refused(error, bytes)) return nullptr;
        if (!has_room(bytes) && !look_at_head()) {
            poisoned_now(error);
            return nullptr;
        }
        FUZZ_CHECK(error == 0 && (to != nullptr) == has_room(bytes));
        if (to != nullptr) FUZZ_CHECK(to == data_ + (wraps(bytes) ? 0 : tail_ % capacity_) + 8);
        return to;
    }

    void put(std::size_t bytes) {
        std::byte* const to = reserve(bytes);
        if (to == nullptr) return;
        const record made{in_.chance() ? bytes : bytes / 2, static_cast<std::uint16_t>(in_.byte()),
                          in_.byte()};
        std::memset(to, made.fill, bytes);
        ring_->commit(made.bytes, made.type, made.fill);
        if (wraps(bytes)) tail_ += rest();
        tail_ += record_bytes(made.bytes);
        records_[committed_++] = made;
    }

    void publish() {
        const bool moved = tail_ != published_;
        const std::uint64_t armed = peer_.input.armed;
        const bool rings = moved && armed != 0 && armed != answered_ &&
                           static_cast<std::int64_t>(tail_ - armed) >= 0;
        if (rings) answered_ = armed;
        published_ = tail_;
        FUZZ_CHECK(ring_->publish() == rings);
        FUZZ_CHECK(own_.output.tail == tail_);
        for (const record& put : committed()) {
            const auto found = reader_->peek();
            FUZZ_CHECK(found && found->payload.size() == put.bytes);
            FUZZ_CHECK(found->type == put.type && found->flags == put.fill);
            for (const std::byte& byte : found->payload)
                FUZZ_CHECK(static_cast<std::uint8_t>(byte) == put.fill);
            reader_->consume();
        }
        FUZZ_CHECK(!reader_->peek());
        committed_ = 0;
        static_cast<void>(reader_->publish());
    }

    void arm(std::size_t bytes) {
        publish();
        bool sleeps = false;
        const int error = error_of([&] { sleeps = ring_->arm(bytes); });
        if (refused(error, bytes)) return;
        if (has_room(bytes)) {
            FUZZ_CHECK(error == 0 && !sleeps);
        } else if (!look_at_head()) {
            poisoned_now(error);
        } else {
            FUZZ_CHECK(error == 0 && sleeps == !has_room(bytes));
            FUZZ_CHECK(own_.output.armed == (sleeps ? tail_ + need(bytes) - capacity_ : 0));
        }
    }

    fuzz::input& in_;
    const std::uint64_t capacity_;
    ring_slot& own_;
    ring_slot& peer_;
    std::byte* const data_;
    std::optional<ring_producer> ring_;
    std::optional<ring_consumer> reader_;

    std::uint64_t tail_;
    std::uint64_t published_;
    std::uint64_t head_;  // as last looked at
    std::uint64_t answered_ = 0;
    std::array<record, 4096 / 8> records_;  // committed, not published
    std::size_t committed_ = 0;
    bool poisoned_ = false;
    unsigned refusals_ = 0;  // since then
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::input in(data, size);
    const std::uint8_t how = in.byte();
    const std::uint64_t capacity = fuzz::ring_capacity(how);
    const std::uint64_t starts[] = {0, capacity - 8 * std::uint64_t{how} / 16,
                                    8 * std::uint64_t{in.byte()},
                                    (std::uint64_t{1} << 63) - 8 * std::uint64_t{how}};
    play(in, fuzz::ring_stage<stage>(how), capacity, starts[how >> 2 & 3] & ~std::uint64_t{7})
        .run();
    return 0;
}
