// SPDX-License-Identifier: MIT
// Fuzz target: pulse_port beside a peer that writes anything into its pulse slot
// between operations and while they wait. A model says which pulse comes next, when
// there is no room, who rings, and when the peer is refused.
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include <ipcdoor/signal.hpp>

#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/scripted_endpoint.hpp"

namespace {

using namespace ipcdoor;
using fuzz::error_of;

constexpr std::size_t slot_bytes = ring_data_offset;  // the least that a port takes

bool contains(std::uint64_t set, unsigned code) { return (set >> code & 1) != 0; }

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
        // A second port goes on where the first one was; numbers wrap.
        if ((how & 32) != 0) {
            own_.posted = posted_ = in.number<std::uint64_t>();
            own_.taken = taken_ = in.number<std::uint64_t>();
            own_.sent = sent_ = 0xffff'fffe;
            peer_.posted = taken_;
            peer_.taken = posted_;
            peer_.sent = 0xffff'fffe;
        }
        pulse_options options;
        if ((how & 64) != 0) options.blocked = blocked_ = codes(1, 2, 3);
        if ((how & 128) != 0) options.refused = refused_ = codes(3, 4);
        port_.emplace(end, options);
        FUZZ_CHECK(own_.blocked == blocked_ && own_.refused == refused_);
        used_ = posted_ ^ peer_.taken;
    }

    void run() {
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            if (op < 128) {
                move();
                continue;
            }
            switch (op % 8) {
                case 0:
                case 1: send(); break;
                case 2: receive(); break;
                case 3: change_mask(); break;
                case 4: look(); break;
                default: try_receive();
            }
        }
        try_receive();
    }

    int on_ring(std::uint32_t slot, std::uint32_t vector) override {
        FUZZ_CHECK(vector == pulse_vector);
        if (slot == 0) {
            ++own_rings_;
            return 0;
        }
        FUZZ_CHECK(slot == 1);
        switch (in_.byte()) {
            case 1: return rung_ = -EPIPE;
            case 2: return rung_ = -EOPNOTSUPP;
            case 3: return rung_ = -EAGAIN;
            default: return rung_ = 0;
        }
    }

    // The port has looked, and found nothing; unless a signal handler ran, it looks again.
    int on_wait(std::uint64_t mask) override {
        FUZZ_CHECK(mask == std::uint64_t{1} << pulse_vector);
        FUZZ_CHECK(error_ == 0 && next() == nullptr);
        if (in_.empty()) {
            collect();
            return waited_ = -ETIMEDOUT;
        }
        const std::uint8_t how = in_.byte();
        for (int moves = how >> 4 & 3; moves > 0; --moves) move();
        if ((how & 7) == 1 && !trying_) return -EINTR;
        collect();
        switch (how & 7) {
            case 0: return waited_ = -ETIMEDOUT;
            case 2: return waited_ = -EPIPE;
            default: return waited_ = 0;
        }
    }

private:
    // What the port must know of an entry.
    struct entry {
        unsigned index;
        unsigned code;
        unsigned priority;
        std::uint64_t order;
    };

    void move() {
        const unsigned index = in_.byte() % pulse_queue_length;
        const std::uint64_t bit = std::uint64_t{1} << index;
        switch (in_.byte() % 16) {
            case 0: peer_.magic = in_.chance() ? pulse_magic : in_.word(0, 1); break;
            case 1: peer_.version = in_.byte() % 4; break;
            case 2: peer_.posted = in_.word(peer_.posted, bit); break;
            case 3: peer_.posted = taken_ ^ in_.number<std::uint64_t>(); break;
            case 4: peer_.tags[index] = in_.number<std::uint32_t>(); break;
            case 5: peer_.taken = in_.word(peer_.taken, bit); break;
            case 6: peer_.taken = posted_; break;  // honest: has taken all
            case 7: peer_.taken = posted_ ^ (used_ & in_.number<std::uint64_t>()); break;
            case 8: peer_.lost = in_.number<std::uint64_t>(); break;
            case 9: peer_.sent = in_.number<std::uint32_t>(); break;
            case 10: peer_.blocked = in_.chance() ? in_.number<std::uint64_t>() : 0; break;
            case 11: peer_.refused = in_.chance() ? in_.number<std::uint64_t>() : 0; break;
            case 12: peer_.values[index] = in_.number<std::uint64_t>(); break;
            default: {  // honest: one more pulse
                const std::uint64_t waiting = peer_.posted ^ taken_;
                if (~waiting == 0) break;
                const int free = std::countr_one(waiting);
                const std::uint32_t number = peer_.sent + 1;
                peer_.values[free] = in_.byte();
                peer_.tags[free] = pulse_tag(in_.byte() % 8, index % pulse_priorities, number);
                peer_.sent = number;
                peer_.posted = peer_.posted ^ std::uint64_t{1} << free;
            }
        }
    }

    int header_error(bool& seen) const {
        if (seen || peer_.magic == 0) return 0;
        if (peer_.magic != pulse_magic || peer_.version != pulse_version) return EPROTO;
        seen = true;
        return 0;
    }

    // ---- sending ----

    void send() {
        const pulse what{in_.byte() % 68U, in_.number<std::uint32_t>(), in_.byte() % 5U};
        const std::uint64_t waiting = posted_ ^ peer_.taken;
        const std::uint64_t blocked = peer_.blocked;
        int expected = 0;
        if (what.code >= pulse_codes || what.priority >= pulse_priorities)
            expected = EINVAL;
        else if ((expected = header_error(there_)) == 0 && contains(peer_.refused, what.code))
            expected = EACCES;
        else if (expected == 0 && (waiting & ~used_) != 0)
            expected = EPROTO;
        bool queued = false;
        rung_ = 1;
        const int error = error_of([&] { queued = port_->send(what); });
        if (expected != 0) {
            FUZZ_CHECK(error == expected && rung_ == 1 && own_.posted == posted_);
            return;
        }
        unsigned masked = 0;
        for (unsigned i = 0; i < pulse_queue_length; ++i)
            if (contains(waiting, i) && contains(blocked, own_.tags[i] & 63)) ++masked;
        const bool is_blocked = contains(blocked, what.code);
        const bool room = std::popcount(waiting) < 40 + 8 * static_cast<int>(what.priority) &&
                          (!is_blocked || masked < 32);
        // Only a code that is not blocked rings.
        FUZZ_CHECK(is_blocked ? rung_ == 1 && error == 0 : error == -rung_);
        used_ = waiting;
        if (room) {
            const auto index = static_cast<unsigned>(std::countr_one(waiting));
            FUZZ_CHECK(own_.values[index] == what.value);
            FUZZ_CHECK(own_.tags[index] == pulse_tag(what.code, what.priority, ++sent_));
            posted_ ^= std::uint64_t{1} << index;
            used_ |= std::uint64_t{1} << index;
        } else {
            ++lost_;
        }
        FUZZ_CHECK(own_.posted == posted_ && own_.sent == sent_ && own_.lost == lost_);
        if (error == 0) FUZZ_CHECK(queued == room);
    }

    // ---- receiving ----

    // A look at the peer's slot; error_ is what comes of it.
    void collect() {
        error_ = header_error(here_);
        if (error_ != 0 || !here_) return;
        const std::uint64_t waiting = peer_.posted ^ taken_;
        std::uint64_t noted = 0;
        for (const entry& known : known_) noted |= std::uint64_t{1} << known.index;
        if ((noted & ~waiting) != 0) {
            error_ = EPROTO;
            return;
        }
        std::vector<entry> fresh;
        for (unsigned i = 0; i < pulse_queue_length; ++i) {
            if (!contains(waiting & ~noted, i)) continue;
            const std::uint32_t tag = peer_.tags[i];
            const std::uint16_t age =
                static_cast<std::uint16_t>((tag >> 16) - (peer_.sent - 0x8000));
            const entry found{i, tag & 255, tag >> 8 & 255, std::uint64_t{age} << 8 | i};
            if (found.code > 63 || found.priority > 3) {
                error_ = EPROTO;
                return;
            }
            if (contains(refused_, found.code)) {
                ++refusals_;
                taken_ ^= std::uint64_t{1} << i;
            } else {
                fresh.push_back(found);
            }
        }
        ++looks_;
        for (entry& one : fresh) {
            one.order |= looks_ << 24;
            known_.push_back(one);
        }
    }

    const entry* next() const {
        const entry* first = nullptr;
        for (const entry& one : known_) {
            if (contains(blocked_, one.code)) continue;
            if (first == nullptr || one.priority > first->priority ||
                (one.priority == first->priority && one.order < first->order))
                first = &one;
        }
        return first;
    }

    // After a collect(): the pulse that must have come.
    void came(int error, const std::optional<pulse>& got) {
        if (error_ != 0) {
            FUZZ_CHECK(error == error_ && !got);
            return;
        }
        const entry* const first = next();
        FUZZ_CHECK((first != nullptr) == got.has_value());
        if (first == nullptr) return;
        FUZZ_CHECK(error == 0 && got->code == first->code && got->priority == first->priority);
        FUZZ_CHECK(got->value == peer_.values[first->index]);
        taken_ ^= std::uint64_t{1} << first->index;
        known_.erase(known_.begin() + (first - known_.data()));
    }

    void receive(bool trying) {
        trying_ = trying;
        waited_ = 1;
        collect();
        std::optional<pulse> got;
        const int error = error_of([&] {
            if (trying)
                got = port_->try_receive();
            else
                got = port_->receive(deadline::at_ns(1));
        });
        const bool found_nothing = error_ == 0 && next() == nullptr;
        came(error, got);
        if (found_nothing) {
            // receive() waits until there is something or an end of it.
            FUZZ_CHECK(trying ? error == (waited_ == -EPIPE ? EPIPE : 0)
                              : waited_ < 0 && error == -waited_);
        }
        FUZZ_CHECK(own_.taken == taken_ && port_->refusals() == refusals_);
        FUZZ_CHECK(port_->lost() == peer_.lost);
    }
    void receive() { receive(false); }
    void try_receive() { receive(true); }

    void look() {
        collect();
        const entry* const first = next();
        const int priority = port_->next_priority();
        FUZZ_CHECK(priority == (error_ != 0        ? static_cast<int>(pulse_priorities)
                                : first != nullptr ? static_cast<int>(first->priority)
                                                   : -1));
        std::uint64_t all = 0;
        std::uint64_t found = 0;
        for (const entry& one : known_) all |= codes(one.code);
        const int error = error_of([&] { found = port_->pending(); });
        // A second look at a slot that was refused may refuse more codes.
        if (error_ != 0) collect();
        FUZZ_CHECK(error == error_);
        if (error == 0) FUZZ_CHECK(found == all);
        FUZZ_CHECK(own_.taken == taken_);
    }

    void change_mask() {
        const std::uint64_t exactly = in_.number<std::uint16_t>();
        const std::uint64_t released = blocked_ & ~exactly;
        own_rings_ = 0;
        FUZZ_CHECK(port_->set_blocked(exactly) == blocked_);
        blocked_ = exactly;
        FUZZ_CHECK(own_.blocked == exactly && port_->blocked() == exactly);
        unsigned rings = 0;
        if (released != 0) {
            collect();
            if (error_ == 0)
                for (const entry& one : known_)
                    if (contains(released, one.code)) ++rings;
        }
        FUZZ_CHECK(own_rings_ == rings);
    }

    fuzz::input& in_;
    pulse_slot& own_;
    pulse_slot& peer_;
    std::optional<pulse_port> port_;
    bool there_ = false;
    std::uint64_t posted_ = 0;
    std::uint64_t used_ = 0;
    std::uint64_t lost_ = 0;
    std::uint32_t sent_ = 0;
    int rung_ = 0;
    bool here_ = false;
    std::uint64_t taken_ = 0;
    std::uint64_t blocked_ = 0;
    std::uint64_t refused_ = 0;
    std::uint64_t refusals_ = 0;
    std::uint64_t looks_ = 0;
    std::vector<entry> known_;
    int error_ = 0;
    int waited_ = 0;
    bool trying_ = false;
    unsigned own_rings_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static auto* const scripted = new fuzz::scripted_endpoint(slot_bytes);
    static endpoint end(scripted);  // owns it
    fuzz::input in(data, size);
    play(in, end, *scripted).run();
    return 0;
}
