// SPDX-License-Identifier: MIT
// Publishers and subscribers that die at any step: what was published stays, what was half
// written is never seen, chunks come back. And sleep, from every step to every step.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/crash/crash.hpp"
#include "lib/false_publisher.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t sample_bytes = 200;

std::string text(const sample& what) {
    return {reinterpret_cast<const char*>(what.bytes().data()), what.size()};
}
void publish(publisher& by, std::uint64_t number) {
    loan next = by.lend(soon);
    const std::string content = pattern(number, sample_bytes);
    std::memcpy(next.bytes().data(), content.data(), sample_bytes / 2);
    IPCDOOR_STEP("test:half");
    std::memcpy(next.bytes().data() + sample_bytes / 2, content.data() + sample_bytes / 2,
                sample_bytes / 2);
    next.resize(sample_bytes);
    by.publish(std::move(next), soon);
}
bool is_whole(const sample& what) { return text(what) == pattern(what.sequence(), sample_bytes); }

// ---- a publisher that dies ----

// The victim publishes; a subscriber of this process has the first sample in its hands and
// two more in its queue.
struct readers_world {
    readers_world() : name(unique_name()), at(test_door()) {
        subscribing = std::thread([this] {
            listening.wait();
            in.emplace(at, name, subscriber_options{}, soon);
            held.emplace(in->take(soon));
            *seen = 1;
        });
    }
    ~readers_world() {
        if (subscribing.joinable()) subscribing.join();
        if (waiting.joinable()) waiting.join();
    }
    readers_world(const readers_world&) = delete;
    readers_world& operator=(const readers_world&) = delete;

    void enter() {
        victims_door.emplace(test_door());
        publisher_options options{.chunk_bytes = 256, .queue = 4, .max_held = 2, .max_loans = 2};
        options.slow = slow;
        options.source = source();
        out.emplace(*victims_door, name, options);
        listening.open();
        while (out->subscribers() == 0) {
            out->poll();
            std::this_thread::sleep_for(1ms);
        }
        publish(*out, 1);
        while (*seen == 0) std::this_thread::sleep_for(1ms);
        publish(*out, 2);
        publish(*out, 3);
    }
    // What is left: all that was published, whole and in order, then the publisher's end.
    void check_rest(std::uint64_t least) {
        subscribing.join();
        REQUIRE(in);
        std::uint64_t last = 1;
        const int end = error_of([&] {
            for (;;) {
                const sample got = in->take(soon);
                CHECK(got.sequence() == last + 1);
                CHECK(is_whole(got));
                last = got.sequence();
            }
        });
        CHECK(end == EPIPE);
        CHECK(last >= least);
        CHECK(is_whole(*held));
        // The name is another one's to have.
        publisher_options options;
        options.source = source();
        publisher next(at, name, options);
        CHECK(next.publish(std::string("x")) == 1);
    }

    std::string name;
    door at;
    slow_subscriber slow = slow_subscriber::drop_oldest;
    gate listening;
    shared<std::atomic<int>> seen;
    std::optional<subscriber> in;
    std::optional<sample> held;
    std::thread subscribing;
    std::thread waiting;

    // The victim's
    std::optional<door> victims_door;
    std::optional<publisher> out;
};

}  // namespace

TEST_CASE("what was published before a death at any step is there, and nothing else",
          "[crash][publish]") {
    const crash_case<readers_world> cases[] = {
        {"publish", [](readers_world& w) { publish(*w.out, 4); },
         [](readers_world& w, const crash_point& at) { w.check_rest(at.killed ? 3 : 4); }},
        {"publish into a full queue",
         [](readers_world& w) {
             for (std::uint64_t i = 4; i <= 7; ++i) publish(*w.out, i);
         },
         [](readers_world& w, const crash_point&) {
             w.subscribing.join();
             std::uint64_t last = 1;
             const int end = error_of([&] {
                 for (;;) {
                     const sample got = w.in->take(soon);
                     CHECK(got.sequence() > last);
                     CHECK(is_whole(got));
                     last = got.sequence();
                 }
             });
             CHECK(end == EPIPE);
             CHECK(last >= 3);
             CHECK(is_whole(*w.held));
         }},
        {"give a loan back",
         [](readers_world& w) {
             loan next = w.out->lend(soon);
             std::memset(next.bytes().data(), 0x5a, next.size());
             IPCDOOR_STEP("test:filled");
         },
         [](readers_world& w, const crash_point&) { w.check_rest(3); }},
    };
    crash_at_every_step(cases);
}

// ---- a subscriber that dies ----

namespace {

// The survivor publishes; as many loans as chunks, so that one that does not come back is seen.
struct writer_world {
    static constexpr std::uint32_t all_chunks = 6;

    writer_world() : name(unique_name()), at(test_door()) {
        publisher_options options{.chunk_bytes = 256,
                                  .queue = 2,
                                  .max_held = 3,
                                  .max_loans = all_chunks,
                                  .max_subscribers = 2,
                                  .chunks = all_chunks};
        options.source = source();
        out.emplace(at, name, options);
        letting_in = std::thread([this] {
            for (std::uint64_t i = 1; !stop;) {
                out->poll();
                // Always something to take.
                if (*wanted != 0) {
                    if (std::optional<loan> next = out->try_lend()) {
                        const std::string content = pattern(i++, sample_bytes);
                        std::memcpy(next->bytes().data(), content.data(), sample_bytes);
                        next->resize(sample_bytes);
                        out->publish(std::move(*next), soon);
                    }
                }
                std::this_thread::sleep_for(100us);
            }
        });
    }
    ~writer_world() { end(); }
    writer_world(const writer_world&) = delete;
    writer_world& operator=(const writer_world&) = delete;
    void end() {
        stop = true;
        if (letting_in.joinable()) letting_in.join();
    }

    void enter() {
        victims_door.emplace(test_door());
        if (subscribes_first) subscribe();
    }
    void subscribe() {
        in.emplace(*victims_door, name, subscriber_options{}, soon);
        *wanted = 1;
    }
    void check_all_back() {
        end();
        const auto limit = std::chrono::steady_clock::now() + soon;
        std::vector<loan> all;
        while (all.size() < all_chunks) {
            REQUIRE(std::chrono::steady_clock::now() < limit);
            if (std::optional<loan> next = out->try_lend())
                all.push_back(std::move(*next));
            else
                std::this_thread::sleep_for(1ms);
        }
        all.clear();
        while (out->subscribers() != 0) {
            REQUIRE(std::chrono::steady_clock::now() < limit);
            out->poll();
        }
        CHECK(out->stats().broken == 0);
        // Others come and go as before.
        for (int i = 0; i < 2; ++i) {
            std::atomic<bool> done{false};
            std::thread next([&] {
                subscriber late(at, name, {}, soon);
                done = true;
                CHECK_IN_THREAD(text(late.take(soon)) == "next");
            });
            while (!done) {
                out->poll();
                std::this_thread::sleep_for(100us);
            }
            out->publish(std::string("next"), soon);
            next.join();
        }
    }

    std::string name;
    door at;
    bool subscribes_first = true;
    std::optional<publisher> out;
    std::atomic<bool> stop{false};
    shared<std::atomic<int>> wanted;
    std::thread letting_in;

    // The victim's
    std::optional<door> victims_door;
    std::optional<subscriber> in;
};

struct newcomers_world : writer_world {
    newcomers_world() { subscribes_first = false; }
};

}  // namespace

TEST_CASE("all chunks come back from a subscriber that dies at any step", "[crash][publish]") {
    const crash_case<writer_world> cases[] = {
        {"take, hold and release",
         [](writer_world& w) {
             std::vector<sample> held;
             for (int i = 0; i < 3; ++i) {
                 held.push_back(w.in->take(soon));
                 EXPECT_CHILD(is_whole(held.back()));
             }
             held.erase(held.begin());
             held.push_back(w.in->take(soon));
             for (const sample& each : held) EXPECT_CHILD(is_whole(each));
         },
         [](writer_world& w, const crash_point&) { w.check_all_back(); }, nullptr, false, 60},
        {"close while samples are held",
         [](writer_world& w) {
             const sample held = w.in->take(soon);
             w.in.reset();
             EXPECT_CHILD(is_whole(held));
         },
         [](writer_world& w, const crash_point&) { w.check_all_back(); }, nullptr, false, 60},
    };
    crash_at_every_step(cases);
}

TEST_CASE("a subscriber that dies while it subscribes leaves no trace", "[crash][publish]") {
    const crash_case<newcomers_world> cases[] = {
        {"subscribe", [](newcomers_world& w) { w.subscribe(); },
         [](newcomers_world& w, const crash_point&) { w.check_all_back(); }},
    };
    crash_at_every_step(cases);
}

// ---- sleep ----

TEST_CASE("whatever a subscriber does meanwhile, a sample ends its wait", "[crash][publish]") {
    struct world : writer_world {
        // Nothing is there before the victim stands still.
        void enter() {
            victims_door.emplace(test_door());
            in.emplace(*victims_door, name, subscriber_options{}, soon);
        }
    };
    const crash_case<world> cases[] = {
        {"take",
         [](world& w) {
             const sample got = w.in->take(std::chrono::hours(1));
             EXPECT_CHILD(got.sequence() == 1);
         },
         [](world& w, const crash_point&) { w.check_all_back(); },
         [](world& w, const crash_point&) {
             w.end();
             w.out->publish(pattern(1, sample_bytes));
         },
         true},
    };
    crash_at_every_step(cases);
}

TEST_CASE("whatever a publisher does meanwhile, room ends its wait", "[crash][publish]") {
    struct blocking_world : readers_world {
        blocking_world() { slow = slow_subscriber::block; }
        std::optional<sample> kept;
    };
    const crash_case<blocking_world> cases[] = {
        {"publish",
         [](blocking_world& w) {
             // The queue has room for two more.
             publish(*w.out, 4);
             publish(*w.out, 5);
             loan next = w.out->lend(soon);
             const std::string content = pattern(6, sample_bytes);
             std::memcpy(next.bytes().data(), content.data(), sample_bytes);
             next.resize(sample_bytes);
             EXPECT_CHILD(w.out->publish(std::move(next), std::chrono::hours(1)) == 6);
         },
         [](blocking_world& w, const crash_point&) {
             std::uint64_t last = w.kept->sequence();
             w.kept.reset();
             while (last < 6) last = w.in->take(soon).sequence();
         },
         [](blocking_world& w, const crash_point&) {
             w.subscribing.join();
             // It is kept: nothing but the room that it leaves tells the publisher.
             w.kept.emplace(w.in->take(soon));
         },
         true},
    };
    crash_at_every_step(cases);
}

// ---- hostile peers, at the worst moment ----

TEST_CASE("a subscriber that rings without end does not keep its publisher",
          "[crash][publish][hostile]") {
    door at = test_door();
    const std::string name = unique_name();
    publisher_options options;
    options.source = source();
    publisher paper(at, name, options);
    std::optional<endpoint> liar;
    std::atomic<bool> connected{false};
    std::thread connecting([&] {
        liar.emplace(at.connect(name, soon));
        connected = true;
    });
    while (!connected) {
        paper.poll();
        std::this_thread::sleep_for(1ms);
    }
    connecting.join();
    std::atomic<unsigned> rung{0};
    const step_observer each([&](const std::string& label) {
        if (label != "look:event") return;
        ++rung;
        liar->ring(1 - liar->slot(), 5);
    });
    liar->ring(1 - liar->slot(), 5);
    paper.poll();
    CHECK(rung != 0);
    CHECK(paper.publish(std::string("x")) == 1);
}

TEST_CASE("a publisher that is always ahead does not keep its subscriber",
          "[crash][publish][hostile]") {
    false_publisher liar;
    liar.serve([](publisher_slot&) {});
    subscriber reader(liar.at, liar.name, {}, soon);
    liar.serving.join();
    // Whenever the subscriber is about to sleep there is something, which is then taken back.
    const step_observer each([&](const std::string& label) {
        const std::uint64_t tail = liar.mine->tail.load();
        if (label == "take:armed") liar.mine->tail.store(tail + 1);
        if (label == "take:hold") liar.mine->floor.store(tail);
    });
    CHECK(error_of([&] { static_cast<void>(reader.try_take()); }) == EPROTO);
    CHECK(error_of([&] { static_cast<void>(reader.take(10ms)); }) == EPROTO);
}
