// SPDX-License-Identifier: MIT
// Hunts lost wake-ups between two processes, with random pauses at every point
// where arming, publishing, ringing and waiting interleave. Half of the time
//
//   ping-pong  one message is under way, answered by a side that spins a little:
//              the answer is published about when the other side arms, and no
//              later message repairs a wake-up that was lost
//   traffic    numbered messages of random sizes both ways over the smallest
//              rings, so that senders sleep for room, and calls meanwhile
//
// A wrong message ends it with 1, silence with 2 and the state of both rings.
//
//     wakeups [--seconds S] [--silence S] [--seed N]
//
//   --seconds  how long, 10 unless given
//   --silence  seconds without a message on one side that count as a hang, 20
//   --seed     of the random numbers; printed, so that a run can be repeated
//
// The back end and the source are those of support/door_under_test.hpp.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

std::atomic<std::uint64_t> seed{0};

// Marsaglia's xorshift32: cheap, so that it does not hide what it should widen.
thread_local constinit std::uint32_t random_state = 0;
std::uint32_t random_bits() {
    std::uint32_t x = random_state;
    if (x == 0) x = static_cast<std::uint32_t>(seed.fetch_add(0x9e3779b9)) | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return random_state = x;
}

void spin(std::uint32_t turns) {
    for (; turns > 0; --turns) std::atomic_signal_fence(std::memory_order_seq_cst);
}

// Mostly nothing, sometimes a few instructions, rarely long enough for the other
// side to go to sleep and for the scheduler to run somebody else.
void random_pause() {
    const std::uint32_t dice = random_bits();
    if (dice % 16 != 0) return;
    if (dice % 2048 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(dice / 2048 % 100));
    } else if (dice % 256 == 0) {
        std::this_thread::yield();
    } else {
        spin(dice / 256 % 500);
    }
}

}  // namespace

#define IPCDOOR_TEST_POINT(name) random_pause()

#include <ipcdoor/ipcdoor.hpp>

#include "support/door_under_test.hpp"
#include "support/process.hpp"

namespace {

using namespace ipcdoor;
using namespace std::chrono_literals;

struct options {
    std::uint64_t seconds = 10;
    std::uint64_t silence = 20;
    std::uint64_t seed = 0;
};

// Of one side, in memory that both see.
struct progress {
    std::atomic<std::uint64_t> sent{0};
    std::atomic<std::uint64_t> received{0};
    std::atomic<std::uint64_t> calls{0};
    std::atomic<std::uint64_t> round_trips{0};
    std::atomic<std::uint64_t> doorbells{0};
    std::atomic<std::uint64_t> waits{0};
};

struct both {
    progress side[2];
    std::atomic<bool> stop_ping_pong{false};
    std::atomic<bool> stop{false};
};

[[noreturn]] void complain(const char* side, const std::string& what) {
    std::fprintf(stderr, "wakeups: %s: %s\n", side, what.c_str());
    std::fflush(nullptr);
    ::_exit(1);
}

void print_slot(const char* name, const endpoint& end, std::uint32_t slot) {
    const auto& words = message_lane_of(static_cast<const void*>(end.memory(slot).data()), 0);
    std::fprintf(stderr, "wakeups: %s: out tail %llu armed %llu, in head %llu armed %llu\n", name,
                 static_cast<unsigned long long>(words.output.tail),
                 static_cast<unsigned long long>(words.output.armed),
                 static_cast<unsigned long long>(words.input.head),
                 static_cast<unsigned long long>(words.input.armed));
}

// What a message carries: its number, repeated to a size that follows from it.
void fill(std::vector<std::uint64_t>& words, std::uint64_t number) {
    words.assign(1 + number * 7919 % 100, number);
}

bool is_right(const message& received, std::uint64_t number) {
    if (received.size() != (1 + number * 7919 % 100) * sizeof number) return false;
    for (std::size_t at = 0; at < received.size(); at += sizeof number)
        if (std::memcmp(received.bytes().data() + at, &number, sizeof number) != 0) return false;
    return true;
}

constexpr std::uint64_t last = ~std::uint64_t{0};

// Side 0 sends, side 1 answers, until side 0 sends the last one.
void ping_pong(const char* name, channel& link, both& shared, std::size_t me) {
    message received;
    for (std::uint64_t number = 0;; ++number) {
        if (me == 0) {
            const std::uint64_t now = shared.stop_ping_pong ? last : number;
            link.send(now);
            // So that it arms at all distances from the answer, mostly near.
            spin(random_bits() % 8192);
            link.receive(received);
            if (received.as<std::uint64_t>() != now) complain(name, "a wrong pong");
        } else {
            link.receive(received);
            link.send(received.as<std::uint64_t>());
        }
        ++shared.side[me].round_trips;
        if (received.as<std::uint64_t>() == last) return;
    }
}

// Requests on their way from the thread that receives to the one that answers:
// were it one thread on both sides, full rings could make both wait for each
// other to receive.
class request_queue {
public:
    void push(message request) {
        const std::lock_guard lock(mutex_);
        requests_.push_back(std::move(request));
        changed_.notify_one();
    }
    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        changed_.notify_one();
    }
    // Nothing once it is closed and empty.
    std::optional<message> pop() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !requests_.empty(); });
        if (requests_.empty()) return std::nullopt;
        message first = std::move(requests_.front());
        requests_.pop_front();
        return first;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<message> requests_;
    bool closed_ = false;
};

// One side: ping-pong, then a thread sends, two call, one receives and one
// answers, and one watches them all.
void run_side(const char* name, endpoint from, both& shared, std::size_t me,
              std::uint64_t silence) {
    progress& mine = shared.side[me];
    // Side 1 spins, so that it often answers while side 0 is about to sleep.
    channel link(std::move(from), {.spin_ns = me == 1 ? 200'000U : 0U});
    std::atomic<bool> done{false};
    std::atomic<unsigned> quiet{0};
    request_queue requests;
    const auto guarded = [&](const auto& body) {
        return std::thread([&, body] {
            try {
                body();
            } catch (const std::exception& error) {
                complain(name, error.what());
            }
        });
    };
    std::thread watchdog([&] {
        std::uint64_t before = 0;
        auto since = std::chrono::steady_clock::now();
        while (!done) {
            std::this_thread::sleep_for(50ms);
            const std::uint64_t now = mine.round_trips + mine.received + mine.sent + mine.calls;
            mine.doorbells = link.stats().doorbells;
            mine.waits = link.stats().waits;
            if (now != before) since = std::chrono::steady_clock::now();
            before = now;
            if (std::chrono::steady_clock::now() - since < std::chrono::seconds(silence)) continue;
            std::fprintf(
                stderr,
                "wakeups: %s: HANG: %llu round trips, %llu sent, %llu received, %llu calls\n", name,
                static_cast<unsigned long long>(mine.round_trips),
                static_cast<unsigned long long>(mine.sent),
                static_cast<unsigned long long>(mine.received),
                static_cast<unsigned long long>(mine.calls));
            print_slot("slot 0", link.raw(), 0);
            print_slot("slot 1", link.raw(), 1);
            std::fflush(nullptr);
            ::_exit(2);
        }
    });
    try {
        ping_pong(name, link, shared, me);
    } catch (const std::exception& error) {
        complain(name, error.what());
    }
    std::vector<std::thread> threads;
    threads.push_back(guarded([&] {
        std::vector<std::uint64_t> words;
        for (std::uint64_t number = 0; !shared.stop; ++number) {
            fill(words, number);
            link.send(words);
            ++mine.sent;
            random_pause();
        }
        ++quiet;
    }));
    for (std::uint64_t caller = 0; caller < 2; ++caller) {
        threads.push_back(guarded([&, caller] {
            for (std::uint64_t i = 0; !shared.stop; ++i) {
                const std::uint64_t request = caller << 40 | i;
                if (link.call(request).as<std::uint64_t>() != request + 1)
                    complain(name, "a call got another's reply");
                ++mine.calls;
                random_pause();
            }
            ++quiet;
        }));
    }
    threads.push_back(guarded([&] {
        while (const auto request = requests.pop())
            link.reply(*request, request->as<std::uint64_t>() + 1);
    }));
    // The last thing that this side sends; the peer receives until then.
    threads.push_back(guarded([&] {
        while (quiet < 3) std::this_thread::sleep_for(1ms);
        link.send(last);
    }));
    threads.push_back(guarded([&] {
        message received;
        for (std::uint64_t number = 0;;) {
            link.receive(received);
            if (received.is_request()) {
                requests.push(std::move(received));
            } else if (received.size() == sizeof last && received.as<std::uint64_t>() == last) {
                requests.close();
                return;
            } else if (is_right(received, number)) {
                ++number;
                ++mine.received;
            } else {
                complain(name, "message " + std::to_string(number) + " is wrong");
            }
            random_pause();
        }
    }));
    for (std::thread& thread : threads) thread.join();
    done = true;
    watchdog.join();
    mine.doorbells = link.stats().doorbells;
    mine.waits = link.stats().waits;
}

options parse(int argc, char** argv) {
    options chosen;
    chosen.seed = std::random_device{}();
    for (int i = 1; i < argc; i += 2) {
        const std::string name(argv[i]);
        std::uint64_t* const to = name == "--seconds"   ? &chosen.seconds
                                  : name == "--silence" ? &chosen.silence
                                  : name == "--seed"    ? &chosen.seed
                                                        : nullptr;
        char* end = nullptr;
        if (to != nullptr && i + 1 < argc) *to = std::strtoull(argv[i + 1], &end, 10);
        if (end == nullptr || *end != '\0' || end == argv[i + 1])
            throw std::runtime_error("usage: wakeups [--seconds S] [--silence S] [--seed N]");
    }
    return chosen;
}

int run(int argc, char** argv) {
    const options chosen = parse(argc, argv);
    const test::shared<both> shared;
    seed = chosen.seed;
    listen_options listening;
    listening.source = test::source();
    const std::string name = "wakeups-" + std::to_string(::getpid());
    door here(test::door_uri());
    listener names = here.listen(name, listening);
    test::child peer([&] {
        seed = chosen.seed + 1;
        door there(test::door_uri());
        run_side("client", there.connect(name, 60s), *shared, 1, chosen.silence);
        return 0;
    });
    std::thread clock([&] {
        const std::chrono::milliseconds half(chosen.seconds * 500);
        std::this_thread::sleep_for(half);
        shared->stop_ping_pong = true;
        std::this_thread::sleep_for(half);
        shared->stop = true;
    });
    run_side("server", names.accept(60s), *shared, 0, chosen.silence);
    clock.join();
    const test::child_status ended = peer.wait(std::chrono::seconds(chosen.silence) + 10s);
    for (std::size_t i = 0; i < 2; ++i) {
        const progress& side = shared->side[i];
        std::printf(
            "%s: %llu round trips, %llu messages sent, %llu received, %llu calls, "
            "%llu doorbells, %llu waits\n",
            i == 0 ? "server" : "client", static_cast<unsigned long long>(side.round_trips),
            static_cast<unsigned long long>(side.sent),
            static_cast<unsigned long long>(side.received),
            static_cast<unsigned long long>(side.calls),
            static_cast<unsigned long long>(side.doorbells),
            static_cast<unsigned long long>(side.waits));
    }
    for (std::size_t i = 0; i < 2; ++i) {
        if (shared->side[i].sent != shared->side[1 - i].received) {
            std::fprintf(stderr, "wakeups: messages are missing\n");
            return 1;
        }
    }
    std::printf("wakeups: seed %llu: %s\n", static_cast<unsigned long long>(chosen.seed),
                ended.exited() ? "nothing lost" : "the client failed");
    return ended.exited() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "wakeups: %s\n", error.what());
        return 1;
    }
}
