// SPDX-License-Identifier: MIT
// usage: kill_storm [ROUNDS [SEED]]
//
// In each round two processes share a segment, by attaching or by connecting, and
// ring, wait and map as fast as they can; one of the two is killed with SIGKILL at
// a random moment: while it opens, creates, attaches, connects, or later. The
// other must be told, through each of vector 0, EPOLLHUP and EPIPE, and must not
// be stuck. At the end nothing may be left: no endpoint, no byte of pages, no
// descriptor. A failed round is printed with what it takes to repeat it.
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <random>
#include <stdexcept>
#include <system_error>

#include "support/process.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

using random_engine = std::minstd_rand;

constexpr std::chrono::milliseconds told_deadline{20'000};
constexpr int rw = PROT_READ | PROT_WRITE;

constexpr unsigned progress_step = 1000;

// How a survivor ends.
constexpr int told = 0;
constexpr int never_met = 3;

struct round_setup {
    unsigned number;
    unsigned seed;
    bool connection;
    bool kill_opener;    // the one that creates or listens
    bool keep_in_child;  // the victim forks a child that keeps its descriptors
    unsigned delay_us;
    std::string name;
};

// What a round's processes share.
struct round_gates {
    gate killed;
    gate over;
};

std::uint32_t peer_slot(const endpoint& own) { return own.info.slot == 0 ? 1 : 0; }

// One random thing that a living process might be doing when it is killed.
void act(const unique_fd& door, const endpoint& own, const mapping& data, random_engine& random) {
    switch (random() % 8) {
        case 0: {
            const auto pages = map_state(own);
            if (state_of(pages).magic != IPCDOOR_STATE_MAGIC)
                throw std::runtime_error("STATE lost its magic");
            break;
        }
        case 1: map_slot(own, own.info.slot, rw).word() = random(); break;
        case 2: data.word(random() % 512) = random(); break;
        case 3: poll_now(own.get()); break;
        case 4: peer_info(own, peer_slot(own)); break;
        case 5:
            if ((own.info.flags & IPCDOOR_ENDPOINT_CONNECTION) == 0 && random() % 4 == 0)
                attach_to(door, own);  // and leaves again
            break;
        default: break;
    }
}

// The survivor's last word: everything must say that the peer is gone.
int check_told(const endpoint& own) {
    const auto slot = peer_slot(own);
    const bool connection = (own.info.flags & IPCDOOR_ENDPOINT_CONNECTION) != 0;
    const auto deadline = deadline_in(told_deadline);
    while (peer_info(own, slot).state != IPCDOOR_SLOT_DEAD) {
        const auto event = wait(own, lifecycle_bit, deadline);
        if (event.error == -EPIPE) break;
        EXPECT_CHILD(event.error == 0);
    }
    EXPECT_CHILD(peer_info(own, slot).state == IPCDOOR_SLOT_DEAD);
    EXPECT_CHILD(peer_info(own, slot).generation % 2 == 0);
    EXPECT_CHILD((poll_now(own.get(), POLLIN, 20'000) & POLLHUP) != 0);
    EXPECT_CHILD(ring(own, slot, 1) == -EPIPE);
    take(own, ringable_mask);
    EXPECT_CHILD(take(own, ringable_mask).error == (connection ? -EPIPE : -ETIMEDOUT));
    return told;
}

// Rings and waits with the peer until it dies. Each side's every wake-up leads to a
// ring, so both wait without a deadline: only the death can end it.
int play(const unique_fd& door, const endpoint& own, const round_gates& gates,
         random_engine& random) {
    const auto data = map_data(own, rw);
    const auto slot = peer_slot(own);
    bool met = (own.info.flags & IPCDOOR_ENDPOINT_CONNECTION) != 0 ||
               peer_info(own, slot).state != IPCDOOR_SLOT_EMPTY;
    while (!met) {
        const auto event = wait(own, lifecycle_bit, deadline_in(std::chrono::milliseconds(20)));
        met = event.error == 0;
        if (!met && gates.killed.is_open() && peer_info(own, slot).state == IPCDOOR_SLOT_EMPTY)
            return never_met;
    }
    for (std::uint64_t i = 0;; ++i) {
        act(door, own, data, random);
        wait_result event;
        int rung = 0;
        if (random() % 2 == 0) {
            ipcdoor_ring_wait both{};
            both.ring.slot = slot;
            both.ring.vector = 1 + random() % 63;
            both.ring.value = i;
            both.wait.mask = ~std::uint64_t{0};
            both.wait.flags = IPCDOOR_WAIT_ACK;
            both.wait.deadline_ns = IPCDOOR_NO_DEADLINE;
            event.error = call(own.fd, IPCDOOR_IOC_RING_WAIT, &both);
        } else {
            rung = ring(own, slot, 1 + random() % 63, i);
            if (rung == 0) event = wait(own, ~std::uint64_t{0}, IPCDOOR_NO_DEADLINE);
        }
        if (rung == -EPIPE || event.error == -EPIPE) return check_told(own);
        EXPECT_CHILD(rung == 0);
        EXPECT_CHILD(event.error == 0);
    }
}

endpoint accept_until_killed(const unique_fd& listener, const round_gates& gates) {
    for (;;) {
        ipcdoor_accept args{};
        args.deadline_ns = deadline_in(std::chrono::milliseconds(20));
        endpoint made;
        const int result = call(listener, IPCDOOR_IOC_ACCEPT, &args);
        if (result >= 0) {
            made.fd.reset(result);
            made.info = args.info;
            return made;
        }
        EXPECT_CHILD(result == -ETIMEDOUT);
        if (gates.killed.is_open() && poll_now(listener.get()) == 0) return made;
    }
}

// A child that holds the descriptors on after its parent's death.
void keep_in_child(const round_gates& gates) {
    if (::fork() != 0) return;
    gates.over.wait();
    ::_exit(0);
}

int run_opener(const round_setup& round, const round_gates& gates, random_engine random) {
    const auto door = open_door();
    if (round.connection) {
        const auto listener = listen(door, listen_args(round.name));
        const auto own = accept_until_killed(listener, gates);
        if (!own.fd) return never_met;
        if (round.kill_opener && round.keep_in_child) keep_in_child(gates);
        return play(door, own, gates, random);
    }
    auto args = create_args(round.name);
    args.slots = 4;
    const auto own = create(door, args);
    if (round.kill_opener && round.keep_in_child) keep_in_child(gates);
    return play(door, own, gates, random);
}

int run_joiner(const round_setup& round, const round_gates& gates, random_engine random) {
    const auto door = open_door();
    for (;;) {
        endpoint own;
        int result;
        if (round.connection) {
            auto args = connect_args(round.name);
            result = call(door, IPCDOOR_IOC_CONNECT, &args);
            own.info = args.info;
        } else {
            auto args = attach_args(round.name);
            args.slot = 1;
            result = call(door, IPCDOOR_IOC_ATTACH, &args);
            own.info = args.info;
        }
        if (result >= 0) {
            own.fd.reset(result);
            if (!round.kill_opener && round.keep_in_child) keep_in_child(gates);
            return play(door, own, gates, random);
        }
        // not there yet, or there no more
        EXPECT_CHILD(result == -ENOENT || result == -ECONNREFUSED || result == -EPIPE);
        if (gates.killed.is_open()) return never_met;
        ::usleep(200);
    }
}

std::string describe(const round_setup& round) {
    return "round " + std::to_string(round.number) + " (seed " + std::to_string(round.seed) + ", " +
           (round.connection ? "connection" : "segment") + ", killed the " +
           (round.kill_opener ? "opener" : "joiner") + " after " + std::to_string(round.delay_us) +
           " us" + (round.keep_in_child ? ", descriptors kept by its child" : "") + ")";
}

// True where the survivor had met its peer.
bool run_round(const round_setup& round, random_engine& random) {
    round_gates gates;
    const random_engine first(random());
    const random_engine second(random());
    child opener([&] { return run_opener(round, gates, first); });
    child joiner([&] { return run_joiner(round, gates, second); });
    child& victim = round.kill_opener ? opener : joiner;
    child& survivor = round.kill_opener ? joiner : opener;
    ::usleep(round.delay_us);
    victim.kill();
    if (!victim.wait().signaled(9)) throw std::runtime_error("the victim ended by itself");
    gates.killed.open();
    const auto end = survivor.wait(told_deadline);
    gates.over.open();
    if (!end.exited(told) && !end.exited(never_met))
        throw std::runtime_error("the survivor was not told: raw status " +
                                 std::to_string(end.raw));
    while (::waitpid(-1, nullptr, 0) > 0) continue;  // the victims' children
    return end.exited(told);
}

// What a dying process had half made may be freed after a grace period.
void check_nothing_left(const unique_fd& door, const ipcdoor_info& before, std::size_t fds) {
    const auto deadline = deadline_in(told_deadline);
    auto after = get_info(door);
    while (after.user_bytes != before.user_bytes && now_ns() < deadline) {
        ::usleep(10'000);
        after = get_info(door);
    }
    if (after.user_endpoints != before.user_endpoints || after.user_bytes != before.user_bytes)
        throw std::runtime_error("left behind: " + std::to_string(after.user_endpoints) +
                                 " endpoints, " + std::to_string(after.user_bytes) +
                                 " bytes; at the start " + std::to_string(before.user_endpoints) +
                                 ", " + std::to_string(before.user_bytes));
    if (open_fd_count() != fds) throw std::runtime_error("descriptors left behind");
}

// Delays from before the victim has opened the door to well into the exchange. How long
// that is depends on the machine, a debug kernel under emulation needs a hundred times as
// long: while few pairs meet, the longest becomes twice as long.
class kill_delays {
public:
    unsigned next_us(random_engine& random) const {
        return random() % (1u << (8 + random() % magnitudes_));
    }

    void learn(bool has_met) {
        met_ += has_met ? 1 : 0;
        if (++rounds_ < batch) return;
        if (met_ < batch / 3 && magnitudes_ < most_magnitudes) ++magnitudes_;
        rounds_ = met_ = 0;
    }

private:
    static constexpr unsigned batch = 12;
    static constexpr unsigned most_magnitudes = 14;  // two seconds

    unsigned magnitudes_ = 8;
    unsigned rounds_ = 0;
    unsigned met_ = 0;
};

// False where the text is no number.
bool parse(const char* text, unsigned& number) {
    const auto end = text + std::strlen(text);
    const auto parsed = std::from_chars(text, end, number);
    return parsed.ec == std::errc() && parsed.ptr == end;
}

}  // namespace

int main(int argc, char** argv) {
    unsigned rounds = 1000;
    unsigned seed = std::random_device{}();
    if (argc > 3 || (argc > 1 && (!parse(argv[1], rounds) || rounds == 0)) ||
        (argc > 2 && !parse(argv[2], seed))) {
        std::puts("usage: kill_storm [ROUNDS [SEED]]");
        return 2;
    }
    std::printf("seed %u\n", seed);
    // The victims' children are ours to reap.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    random_engine random(seed);
    unsigned met = 0;
    round_setup round{};
    try {
        const auto door = open_door();
        const auto before = get_info(door);
        const auto fds = open_fd_count();
        const auto started = now_ns();
        kill_delays delays;
        for (unsigned i = 1; i <= rounds; ++i) {
            round.number = i;
            round.seed = seed;
            round.connection = random() % 2 == 0;
            round.kill_opener = random() % 2 == 0;
            round.keep_in_child = random() % 4 == 0;
            round.delay_us = delays.next_us(random);
            round.name = fresh_name();
            const bool has_met = run_round(round, random);
            delays.learn(has_met);
            met += has_met ? 1 : 0;
            check_nothing_left(door, before, fds);
            if (i % progress_step == 0)
                std::printf("%u of %u kills, %.1f s\n", i, rounds,
                            static_cast<double>(now_ns() - started) / 1e9);
        }
        const double seconds = static_cast<double>(now_ns() - started) / 1e9;
        std::printf(
            "note: %u kills (seed %u): %u survivors were told, %u had not met their peer "
            "yet; nothing left behind; %.1f s\n",
            rounds, seed, met, rounds - met, seconds);
    } catch (const std::exception& error) {
        std::printf("%s: %s\n", describe(round).c_str(), error.what());
        return 1;
    }
    if (rounds >= 100 && met < rounds / 4) {
        std::printf("only %u of %u pairs had met: the storm tests too little\n", met, rounds);
        return 1;
    }
    return 0;
}
