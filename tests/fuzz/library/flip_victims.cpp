// SPDX-License-Identifier: MIT
#include "fuzz/library/flip_victims.hpp"

#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <optional>
#include <thread>

#include <ipcdoor/message.hpp>
#include <ipcdoor/signal.hpp>

#include "../userlib/src/soft_endpoint.h"
#include "fuzz/library/check.hpp"
#include "fuzz/library/scripted_endpoint.hpp"
#include "fuzz/library/soft_props.hpp"
#include "fuzz/library/window.hpp"

namespace ipcdoor::fuzz {

namespace {

// The library reads payloads with plain loads, as it may: it checks nothing in
// them. TSan would call each of those a race, so under it only words are flipped.
#if defined(__SANITIZE_THREAD__)
constexpr bool flips_data = false;
#else
constexpr bool flips_data = true;
#endif

constexpr std::uint64_t past_ns = 1;

std::uint64_t wrong_word(xorshift64& random, std::uint64_t now, std::uint64_t span) {
    switch (random.below(12)) {
        case 0: return 0;
        case 1: return ~std::uint64_t{0};
        case 2: return now + 1;
        case 3: return now - 1;
        case 4: return now + 8;
        case 5: return now - 8;
        case 6: return now + span;
        case 7: return now - span;
        case 8: return now + span + 8;
        case 9: return now ^ std::uint64_t{1} << 63;
        case 10: return random.below(1 << 16);
        default: return random();
    }
}

void store(shared_u64& word, std::uint64_t value) { word.store(value, std::memory_order_relaxed); }
std::uint64_t load(const shared_u64& word) { return word.load(std::memory_order_relaxed); }

// A producer's words; `head` is what its consumer published. What a word holds at any
// moment is what was stored last, so most stores are plausible.
void flip_producer(xorshift64& random, ring_output& output, std::byte* data, const shared_u64& head,
                   std::uint64_t capacity) {
    const std::uint64_t at = load(head);
    // Where it looks next, where it goes on after a wrap, where it may come to.
    const std::uint64_t places[] = {at % capacity & ~std::uint64_t{7},
                                    at % capacity & ~std::uint64_t{7}, 0,
                                    8 * random.below(capacity / 8)};
    const std::uint64_t where = places[random.below(4)];
    const std::uint64_t choice = random.below(flips_data ? 64 : 20);
    if (choice == 0) {
        store(output.tail, wrong_word(random, load(output.tail), capacity));
    } else if (choice == 1) {
        store(output.armed, wrong_word(random, at, capacity));
    } else if (choice < 5) {
        store(output.armed, at + 8 * random.below(8));
    } else if (choice < 20) {
        store(output.tail, at + 8 * random.below(capacity / 8 + 1));
    } else if (choice < 23) {
        // To the end, to the tail, half of the ring, anything; markers too.
        const std::uint64_t sizes[] = {capacity - where - 8, load(output.tail) - at,
                                       ring_max_payload(capacity), random()};
        store(detail::header_word(data + where),
              detail::pack_record(sizes[random.below(4)] & 0xffffffff,
                                  random.below(2) == 0 ? ring_wrap_type : 1, 0));
    } else {
        store(detail::header_word(data + where),
              detail::pack_record(random.below(64), static_cast<std::uint16_t>(choice % 3 + 1), 0));
    }
}

// A consumer's words; `tail` is what its producer published.
void flip_consumer(xorshift64& random, ring_input& input, const shared_u64& tail,
                   std::uint64_t capacity) {
    const std::uint64_t at = load(tail);
    switch (random.below(16)) {
        case 0: store(input.head, wrong_word(random, load(input.head), capacity)); break;
        case 1: store(input.armed, wrong_word(random, at, capacity)); break;
        case 2:
        case 3: store(input.armed, at + random.below(64)); break;
        case 4: store(input.head, at - 8 * random.below(capacity / 8)); break;
        default: store(input.head, at);
    }
}

constexpr std::uint64_t capacity_of_rings = 1024;

// ---- ring_consumer ----------------------------------------------------------

class consumer_victim final : public victim {
public:
    consumer_victim() { restart(); }

    void flip(xorshift64& random) override {
        flip_producer(random, peer().output, ring_data(static_cast<void*>(&peer())), own_.head,
                      capacity_of_rings);
    }

    void work(xorshift64& random) override {
        if (ring_->poisoned()) restart();
        const int error = error_of([&] {
            for (int i = 0; i < 16; ++i) {
                ++operations;
                const auto record = ring_->peek();
                if (!record) {
                    static_cast<void>(ring_->publish());
                    static_cast<void>(ring_->arm());
                    ring_->disarm();
                    return;
                }
                const std::byte* const data = ring_data(static_cast<const void*>(pages_.seen()));
                FUZZ_CHECK(record->payload.size() <= ring_max_payload(capacity_of_rings));
                FUZZ_CHECK(record->payload.data() >= data + 8);
                FUZZ_CHECK(record->payload.data() + record->payload.size() <=
                           data + capacity_of_rings);
                if (flips_data && random.below(4) == 0) {
                    const std::size_t room = random.below(512);
                    const std::span<std::byte> to(buffer_.seen() + 512 - room, room);
                    const int small = error_of([&] { static_cast<void>(ring_->pop(to)); });
                    FUZZ_CHECK(small == (record->payload.size() > room ? EMSGSIZE : 0));
                    if (small != 0) ring_->consume();
                } else {
                    touch(record->payload);
                    ring_->consume();
                }
                if (random.below(2) == 0) static_cast<void>(ring_->publish());
            }
        });
        FUZZ_CHECK_ERROR(error, EPROTO);
        if (error == 0) return;
        ++refusals;
        FUZZ_CHECK(ring_->poisoned());
        FUZZ_CHECK(error_of([&] { static_cast<void>(ring_->peek()); }) == EPROTO);
    }

private:
    ring_slot& peer() { return *reinterpret_cast<ring_slot*>(pages_.written()); }
    void restart() {
        const auto& seen = *reinterpret_cast<const ring_slot*>(pages_.seen());
        ring_.emplace(own_, ring_data(static_cast<const void*>(pages_.seen())), capacity_of_rings,
                      seen.output);
    }

    window pages_{ring_slot_bytes(capacity_of_rings), owner::peer};
    window buffer_{512, owner::library};
    ring_input own_{};
    std::optional<ring_consumer> ring_;
};

// ---- ring_producer ----------------------------------------------------------

class producer_victim final : public victim {
public:
    producer_victim() { restart(); }

    void flip(xorshift64& random) override {
        flip_consumer(random, reinterpret_cast<ring_slot*>(peer_.written())->input,
                      own().output.tail, capacity_of_rings);
    }

    void work(xorshift64& random) override {
        if (ring_->poisoned()) restart();
        const int error = error_of([&] {
            for (int i = 0; i < 16; ++i) {
                ++operations;
                const std::size_t bytes = random.below(random.below(4) == 0 ? 505 : 64);
                std::byte* const to = ring_->reserve(bytes);
                if (to == nullptr) {
                    publish();
                    if (ring_->arm(bytes)) ring_->disarm();
                    return;
                }
                std::memset(to, static_cast<int>(bytes & 0xff), bytes);
                ring_->commit(bytes, 7);
                ++committed_;
                if (random.below(2) == 0) publish();
            }
        });
        FUZZ_CHECK_ERROR(error, EPROTO);
        publish();
        if (error == 0) return;
        ++refusals;
        FUZZ_CHECK(ring_->poisoned());
        FUZZ_CHECK(error_of([&] { static_cast<void>(ring_->reserve(1)); }) == EPROTO);
    }

private:
    ring_slot& own() { return *reinterpret_cast<ring_slot*>(pages_.seen()); }

    void publish() {
        static_cast<void>(ring_->publish());
        for (; committed_ > 0; --committed_) {
            const auto record = reader_->peek();
            FUZZ_CHECK(record && record->type == 7);
            for (const std::byte& byte : record->payload)
                FUZZ_CHECK(static_cast<std::size_t>(byte) == (record->payload.size() & 0xff));
            reader_->consume();
        }
        static_cast<void>(reader_->publish());
    }

    void restart() {
        const auto& consumer = *reinterpret_cast<const ring_slot*>(peer_.seen());
        std::byte* const data = ring_data(static_cast<void*>(pages_.seen()));
        reader_words_.head = load(own().output.tail);
        ring_.emplace(own().output, data, capacity_of_rings, consumer.input);
        reader_.emplace(reader_words_, data, capacity_of_rings, own().output);
    }

    window pages_{ring_slot_bytes(capacity_of_rings), owner::library};
    window peer_{sizeof(ring_slot), owner::peer};
    ring_input reader_words_{};
    std::optional<ring_producer> ring_;
    std::optional<ring_consumer> reader_;  // honest, of the same memory
    unsigned committed_ = 0;
};

// ---- channel and pulse_port -------------------------------------------------

// Waits end at once, in turn with news and without.
class impatient : public script {
public:
    int on_ring(std::uint32_t, std::uint32_t) override { return 0; }
    int on_wait(std::uint64_t) override { return ++waits_ % 8 == 0 ? -ETIMEDOUT : 0; }

private:
    unsigned waits_ = 0;
};

class channel_victim final : public victim {
public:
    channel_victim() {
        end_.restart(script_);
        restart();
    }

    void flip(xorshift64& random) override {
        auto& peer = *reinterpret_cast<message_slot*>(end_.peer.written());
        const auto lane = static_cast<unsigned>(random.below(layout_.lanes));
        const std::uint64_t capacity = layout_.capacity[lane];
        auto& theirs = message_lane_of(static_cast<void*>(end_.peer.written()), lane);
        const auto& own = message_lane_of(static_cast<const void*>(end_.own.written()), lane);
        switch (random.below(32)) {
            case 0: store(peer.magic, wrong_word(random, message_magic, 1)); break;
            case 1: store(peer.max_message_bytes, wrong_word(random, most_bytes, capacity)); break;
            case 2: peer.version_min = static_cast<std::uint32_t>(random.below(3)); break;
            case 3: peer.version_max = static_cast<std::uint32_t>(random.below(3)); break;
            case 4:
            case 5: init_message_slot(&peer, end_.peer.size(), {most_bytes}); break;
            case 6:
            case 7:
            case 8:
            case 9:
            case 10:
            case 11: flip_consumer(random, theirs.input, own.output.tail, capacity); break;
            default:
                flip_producer(random, theirs.output, end_.peer.written() + layout_.offset[lane],
                              own.input.head, capacity);
        }
    }

    void work(xorshift64& random) override {
        using detail::record_type;
        const std::uint64_t choice = random.below(8);
        const auto lane = static_cast<unsigned>(random.below(layout_.lanes));
        const auto bytes = std::span(payload_).first(random.below(sizeof(payload_)));
        ++operations;
        const int error = error_of([&] {
            switch (choice) {
                case 0: core_->send({record_type::message, 0, lane}, bytes, past_ns, true); break;
                case 1:
                    core_->send({record_type::message, 0, lane}, bytes.first(bytes.size() / 4),
                                past_ns, false);
                    break;
                case 2: core_->call(lane, bytes, received_, past_ns); break;
                case 3: core_->send({record_type::reply, 1, lane}, bytes, past_ns, true); break;
                case 4: {
                    std::optional<detail::channel_core::held_record> held;
                    core_->receive_in_place(received_, held, past_ns, true);
                    if (held) core_->let_go(*held);
                    break;
                }
                default: core_->receive(received_, past_ns, choice == 5);
            }
        });
        FUZZ_CHECK(received_.size() <= most_bytes || received_.size() <= layout_.capacity[0]);
        FUZZ_CHECK_ERROR(error, EPROTO, EPROTONOSUPPORT, ETIMEDOUT, choice < 4 ? EMSGSIZE : EPROTO);
        if (error != EPROTO) return;
        ++refusals;
        FUZZ_CHECK(error_of([&] { core_->receive(received_, past_ns, false); }) == EPROTO);
        restart();
    }

private:
    static constexpr std::size_t slot_bytes = 8192;
    static constexpr std::size_t most_bytes = 4096;

    void restart() {
        auto& own = *reinterpret_cast<message_slot*>(end_.own.seen());
        own.magic = 0;
        core_.emplace(
            &end_, detail::channel_core::options{{0, std::size_t{1} << 12, most_bytes}, 0, false});
    }

    impatient script_;
    scripted_endpoint end_{slot_bytes};
    const message_geometry layout_ = message_geometry_of(slot_bytes);
    std::optional<detail::channel_core> core_;
    message received_;
    const std::byte payload_[2048]{};
};

class pulse_victim final : public victim {
public:
    pulse_victim() {
        scripted_->restart(script_);
        port_.emplace(end_);
    }

    void flip(xorshift64& random) override {
        auto& peer = *reinterpret_cast<pulse_slot*>(scripted_->peer.written() + ring_pulse_offset);
        auto& own = *reinterpret_cast<pulse_slot*>(scripted_->own.written() + ring_pulse_offset);
        const auto index = static_cast<unsigned>(random.below(pulse_queue_length));
        const std::uint64_t bit = std::uint64_t{1} << index;
        switch (random.below(16)) {
            case 0: store(peer.posted, wrong_word(random, load(peer.posted), bit)); break;
            case 1: store(peer.taken, wrong_word(random, load(peer.taken), bit)); break;
            case 2: store(peer.lost, random()); break;
            case 3: store(peer.magic, random.below(2) == 0 ? pulse_magic : random()); break;
            case 4:
                peer.version = random.below(4) != 0 ? pulse_version
                                                    : static_cast<std::uint32_t>(random.below(3));
                break;
            case 5: store(peer.values[index], random()); break;
            case 6: peer.sent = static_cast<std::uint32_t>(random()); break;
            case 7: store(peer.blocked, random()); break;
            case 8: store(peer.refused, random.below(4) == 0 ? random() : 0); break;
            case 9: peer.tags[index] = static_cast<std::uint32_t>(random()); break;
            case 10: store(peer.taken, load(own.posted) ^ (random() & random())); break;
            case 11: store(peer.taken, load(own.posted)); break;
            case 12: store(peer.posted, load(own.taken) ^ random()); break;
            case 13: store(peer.posted, load(own.taken)); break;
            default:
                peer.tags[index] = pulse_tag(static_cast<unsigned>(random.below(pulse_codes)),
                                             static_cast<unsigned>(random.below(pulse_priorities)),
                                             static_cast<std::uint32_t>(random()));
                store(peer.posted, load(peer.posted) ^ bit);
        }
    }

    void work(xorshift64& random) override {
        ++operations;
        const std::uint64_t choice = random.below(6);
        const int error = error_of([&] {
            std::optional<pulse> got;
            switch (choice) {
                case 0:
                    static_cast<void>(
                        port_->send({static_cast<unsigned>(random.below(pulse_codes)), random(),
                                     static_cast<unsigned>(random.below(pulse_priorities))}));
                    break;
                case 1: got = port_->receive(deadline::at_ns(past_ns)); break;
                case 2: port_->set_blocked(random.below(2) == 0 ? 0 : random()); break;
                case 3: static_cast<void>(port_->pending()); break;
                default: got = port_->try_receive();
            }
            if (got) FUZZ_CHECK(got->code < pulse_codes && got->priority < pulse_priorities);
        });
        FUZZ_CHECK_ERROR(error, EPROTO, choice == 0 ? EACCES : EPROTO,
                         choice == 1 ? ETIMEDOUT : EPROTO);
        if (error == EPROTO) ++refusals;
        // Verified once and for all: start where that is still to be done.
        if (random.below(64) == 0) port_.emplace(end_);
    }

private:
    impatient script_;
    scripted_endpoint* const scripted_ = new scripted_endpoint(ring_data_offset);
    endpoint end_{scripted_};  // owns it
    std::optional<pulse_port> port_;
};

// ---- the software back end --------------------------------------------------

namespace soft = backend::soft;
namespace sys = backend::sys;

class soft_victim final : public victim {
public:
    soft_victim() { restart(); }

    void flip(xorshift64& random) override {
        soft::control& head = head_.load(std::memory_order_acquire)[0];
        soft::outbox& box = head.out[random.below(2)];
        const std::uint64_t vector = random.below(IPCDOOR_VECTORS);
        switch (random.below(16)) {
            case 0: store(head.armed, wrong_word(random, load(head.armed), 64)); break;
            case 1: store(head.signal_mask, random()); break;
            case 2: head.signal_number = static_cast<std::uint32_t>(random.below(70)); break;
            case 3: head.signal_thread = static_cast<std::uint32_t>(random()); break;
            case 4: box.generation = static_cast<std::uint32_t>(random.below(3)); break;
            case 5: store(box.total, wrong_word(random, load(box.total), 64)); break;
            case 6:
                store(box.count[vector], wrong_word(random, load(box.count[vector]), 64));
                break;
            case 7: store(box.value[vector], random()); break;
            case 8:
                if (random.below(64) == 0) head.closed = 1;
                break;
            default:
                box.generation = 1;
                box.count[vector].fetch_add(1, std::memory_order_relaxed);
                box.total.fetch_add(1, std::memory_order_relaxed);
        }
    }

    void work(xorshift64& random) override {
        ++operations;
        const auto vector = static_cast<std::uint32_t>(1 + random.below(63));
        const std::uint64_t bit = std::uint64_t{1} << vector;
        ipcdoor_event event{};
        int rc = 0;
        switch (random.below(5)) {
            case 0:
                rc = ipcdoor_ring(end_.get(), 1, 0, vector, 1);
                FUZZ_CHECK_ERROR(-rc, EPIPE, EOPNOTSUPP, EAGAIN);
                break;
            case 1:
                rc = ipcdoor_wait(end_.get(), ~std::uint64_t{0}, past_ns, &event);
                FUZZ_CHECK_ERROR(-rc, EPIPE, ETIMEDOUT);
                FUZZ_CHECK((rc == 0) == (event.fired != 0));
                break;
            case 2:
                FUZZ_CHECK(ipcdoor_ring(end_.get(), 0, 1, vector, 1) == 0);
                FUZZ_CHECK(ipcdoor_wait(end_.get(), bit, past_ns, &event) == 0);
                FUZZ_CHECK(event.fired == bit);
                break;
            case 3: {
                struct ipcdoor_slot_state state {};
                FUZZ_CHECK(ipcdoor_slot_state(end_.get(), 1, &state) == 0);
                break;
            }
            default: FUZZ_CHECK(ipcdoor_endpoint_fd(end_.get()) >= 0);
        }
        if (rc != -EPIPE) return;
        ++refusals;
        // Dead is dead, whatever its pages say now.
        FUZZ_CHECK(ipcdoor_ring(end_.get(), 1, 0, vector, 1) == -EPIPE);
        restart();
    }

private:
    struct closer {
        void operator()(ipcdoor_endpoint* end) const { ipcdoor_endpoint_close(end); }
    };
    static constexpr soft::shape shape{2, page, 0, 0};
    static constexpr soft::seat own_seat{0, 1, all_rights};
    static constexpr soft::seat peer_seat{1, 1, all_rights};

    void restart() {
        int sockets[2];
        FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
        socket_ = ipcdoor::owned_fd(sockets[1]);
        soft::endpoint::plan plan{shape, own_seat, IPCDOOR_ENDPOINT_CONNECTION, {}, {}};
        ipcdoor::owned_fd file;
        plan.own = soft::make_sealed_slot(shape, own_seat, file);
        auto made = std::make_unique<soft::endpoint>(std::move(plan));
        auto link =
            std::make_shared<soft::link>(peer_seat, peer_pages_, ipcdoor::owned_fd(sockets[0]));
        link->peer.pid = INT_MAX;  // signals that it asks for reach nobody
        writable().closed = 0;
        made->add_link(std::move(link), true);
        end_.reset(made.release());
        head_.store(&writable(), std::memory_order_release);
    }

    static std::shared_ptr<soft::slot_pages> seen_pages(int file) {
        auto seen = std::make_shared<soft::slot_pages>();
        const std::size_t bytes = shape.slot_file_bytes();
        seen->pages = sys::mapping::reserved(bytes + page);
        FUZZ_CHECK(seen->pages.place(0, file, 0, bytes,
                                     flips_data ? sys::access::read : sys::access::read_write) ==
                   0);
        seen->control_bytes = shape.control_bytes();
        return seen;
    }
    static ipcdoor::owned_fd filled() {
        ipcdoor::owned_fd fd = memory_file(shape.slot_file_bytes(), true, 0);
        static_cast<void>(soft::make_slot(fd.get(), shape, peer_seat));
        return fd;
    }
    // One view under TSan, which goes by addresses; see window.hpp.
    soft::control& writable() const {
        return flips_data ? *static_cast<soft::control*>(written_.address())
                          : peer_pages_->own_head();
    }

    const ipcdoor::owned_fd file_ = filled();
    const sys::mapping written_{file_.get(), 0, shape.slot_file_bytes(), sys::access::read_write};
    const std::shared_ptr<soft::slot_pages> peer_pages_ = seen_pages(file_.get());
    ipcdoor::owned_fd socket_;
    std::unique_ptr<ipcdoor_endpoint, closer> end_;
    std::atomic<soft::control*> head_{nullptr};
};

}  // namespace

std::vector<std::string> victim_names() {
    return {"consumer", "producer", "channel", "pulse", "soft"};
}

std::unique_ptr<victim> make_victim(const std::string& name) {
    if (name == "consumer") return std::make_unique<consumer_victim>();
    if (name == "producer") return std::make_unique<producer_victim>();
    if (name == "channel") return std::make_unique<channel_victim>();
    if (name == "pulse") return std::make_unique<pulse_victim>();
    if (name == "soft") return std::make_unique<soft_victim>();
    return nullptr;
}

flip_counts run_victim(victim& who, const flip_limits& limits) {
    using clock = std::chrono::steady_clock;
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> flips{0};
    std::atomic<std::uint64_t> rounds{0};
    std::thread hostile([&] {
        xorshift64 random((limits.seed ^ 0x9e3779b97f4a7c15) * 2 + 1);
        while (!stop.load(std::memory_order_relaxed)) {
            for (int i = 0; i < 64; ++i) who.flip(random);
            flips.fetch_add(64, std::memory_order_relaxed);
        }
    });
    std::thread working([&] {
        xorshift64 random(limits.seed * 2 + 1);
        while (!stop.load(std::memory_order_relaxed)) {
            who.work(random);
            rounds.fetch_add(1, std::memory_order_relaxed);
        }
    });
    const auto start = clock::now();
    auto moved = start;
    for (std::uint64_t before = 0;;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        const auto now = clock::now();
        const std::uint64_t done = rounds.load(std::memory_order_relaxed);
        if (done != before) moved = now;
        before = done;
        if (now - moved > std::chrono::minutes(5)) broken(__FILE__, __LINE__, "a hang", 0);
        if (limits.seconds != 0 ? now - start >= std::chrono::seconds(limits.seconds)
                                : flips >= limits.flips && done >= limits.flips / 100)
            break;
    }
    stop = true;
    hostile.join();
    working.join();
    return {flips, who.operations, who.refusals};
}

}  // namespace ipcdoor::fuzz
