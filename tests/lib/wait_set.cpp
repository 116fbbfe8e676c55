// SPDX-License-Identifier: MIT
// A wait_set: any of many sources, whoever dies, comes or goes.
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/wait_set.hpp>

#include "lib/event_loop.hpp"
#include "lib/lib_support.hpp"
#include "lib/wait_set_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Counts the attempts on another source.
template <class Source>
struct counted {
    Source inner;
    std::atomic<std::uint64_t>* attempts;
    int fd() { return inner.fd(); }
    bool try_take() {
        ++*attempts;
        return inner.try_take();
    }
};
template <class Source>
counted(Source, std::atomic<std::uint64_t>*) -> counted<Source>;

void allow_descriptors(std::size_t count) {
    rlimit now{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &now) == 0);
    if (now.rlim_cur >= count) return;
    now.rlim_cur = std::min<rlim_t>(now.rlim_max, count);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
}

}  // namespace

// ---- deadlines, cancelling --------------------------------------------------

TEST_CASE("waiting ends at the deadline, by cancel() and by close()", "[wait_set]") {
    wait_set set;
    wait_report some[2];
    CHECK_FALSE(set.try_any());
    CHECK(set.try_some(some) == 0);
    CHECK(error_of([&] { (void)set.wait_any(20ms); }) == ETIMEDOUT);
    CHECK(error_of([&] { (void)set.wait_some(some, 20ms); }) == ETIMEDOUT);
    eventfd_in never(set);
    CHECK(error_of([&] { (void)set.wait_any(deadline::at_ns(1)); }) == ETIMEDOUT);
    CHECK(error_of([&] { set.wait_all(20ms); }) == ETIMEDOUT);
    CHECK_FALSE(set.try_all());
    for (const bool closing : {false, true}) {
        std::atomic<int> inside{0};
        std::atomic<int> cancelled{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&, i] {
                ++inside;
                const int error = error_of([&] {
                    if (i % 2 == 0)
                        (void)set.wait_any(soon);
                    else
                        set.wait_all(soon);
                });
                if (error == ECANCELED) ++cancelled;
            });
        }
        while (inside != 4) std::this_thread::yield();
        std::this_thread::sleep_for(20ms);
        if (closing) {
            set.close();
        } else {
            // A thread that had not begun to wait is not meant.
            while (cancelled != 4) {
                set.cancel();
                std::this_thread::sleep_for(1ms);
            }
        }
        for (auto& thread : threads) thread.join();
        CHECK(cancelled == 4);
        if (!closing) {
            never.count.add();
            CHECK(set.wait_any(soon) == wait_report{never.id, 0});
        }
    }
    CHECK(error_of([&] { (void)set.wait_any(soon); }) == ECANCELED);
    CHECK(error_of([&] { (void)set.try_any(); }) == ECANCELED);
    CHECK(error_of([&] { (void)set.try_all(); }) == ECANCELED);
    CHECK(error_of([&] { set.add(on_hint(never.count.fd.get())); }) == ECANCELED);
}

// ---- fairness, rest ---------------------------------------------------------

TEST_CASE("sources that are always ready are served in turn", "[wait_set]") {
    constexpr std::size_t count = 7;
    std::deque<counter> always(count);
    short events = 0;
    wait_set set;
    std::map<source_id, std::uint64_t> reports;
    for (counter& one : always) {
        one.add();
        reports[set.add(on_descriptor(one.fd.get(), POLLIN, events))] = 0;
    }
    const std::uint64_t rounds = 1 + scaled(1000);
    for (std::uint64_t i = 0; i < rounds * count; ++i) ++reports[set.wait_any(soon).id];
    CHECK(reports.size() == count);
    for (const auto& [id, got] : reports) CHECK(got == rounds);
}

TEST_CASE("a source that is always ready starves nobody", "[wait_set]") {
    counter loud;
    loud.add();
    short events = 0;
    wait_set set;
    const source_id always = set.add(on_descriptor(loud.fd.get(), POLLIN, events));
    std::deque<eventfd_in> quiet;
    for (int i = 0; i < 5; ++i) quiet.emplace_back(set);
    for (int i = 0; i < 100; ++i) CHECK(set.wait_any(soon).id == always);
    for (int round = 0; round < 20; ++round) {
        eventfd_in& one = quiet[static_cast<std::size_t>(round % 5)];
        one.count.add();
        int before = 0;
        while (set.wait_any(soon).id != one.id) REQUIRE(++before <= 10);
    }
}

TEST_CASE("what is pending and nobody's keeps no thread busy", "[wait_set]") {
    auto ends = connected_pair();
    endpoint& ours = ends.first;
    endpoint& theirs = ends.second;
    const std::uint32_t slot = ours.slot();
    event got{};
    std::atomic<std::uint64_t> attempts{0};
    wait_set set;
    set.add(counted{on_event(ours, vectors(8), got), &attempts});
    CHECK_FALSE(set.try_any());
    theirs.ring(slot, 9);  // nobody takes it
    const std::uint64_t start = ipcdoor_now_ns();
    CHECK(error_of([&] { (void)set.wait_any(300ms); }) == ETIMEDOUT);
    // Eight at once, then ever rarer, and every 16 ms in the end.
    const std::uint64_t most = 20 + (ipcdoor_now_ns() - start) / 15'000'000;
    CHECK(attempts < most);
    theirs.ring(slot, 8, 5);
    CHECK(set.wait_any(soon).error_number == 0);
    CHECK(got.value == 5);
    CHECK(ours.wait(vectors(9), 0s).has_value());
    // And an event loop is not kept busy either.
    attempts = 0;
    theirs.ring(slot, 9);
    pollfd loop{set.fd(), POLLIN, 0};
    const std::uint64_t again = ipcdoor_now_ns();
    while (ipcdoor_now_ns() < again + 300'000'000) {
        CHECK_FALSE(set.try_any());
        static_cast<void>(::poll(&loop, 1, 100));
    }
    CHECK(attempts < 20 + (ipcdoor_now_ns() - again) / 15'000'000);
    theirs.ring(slot, 8, 6);
    CHECK(set.wait_any(soon).error_number == 0);
    CHECK(got.value == 6);
}

TEST_CASE("a source that others are quicker at is watched, not rested", "[wait_set]") {
    plain_semaphore units;
    wait_set set;
    std::atomic<std::uint64_t> attempts{0};
    set.add(counted{on_unit(units), &attempts});
    const std::uint64_t rounds = 20;
    for (std::uint64_t i = 0; i < rounds; ++i) {
        CHECK_FALSE(set.try_any());
        units.release();
        CHECK(units.try_acquire());
    }
    units.release();
    CHECK(set.wait_any(soon).error_number == 0);
    CHECK(attempts <= 2 * rounds + 2);
}

// ---- many, and some ---------------------------------------------------------

TEST_CASE("wait_some() lists what there is, each once", "[wait_set]") {
    wait_set set;
    std::deque<eventfd_in> all;
    for (int i = 0; i < 6; ++i) all.emplace_back(set);
    for (const int i : {1, 3, 4}) all[static_cast<std::size_t>(i)].count.add(2);
    std::array<wait_report, 8> into;
    std::size_t got = set.wait_some(into, soon);
    std::vector<source_id> ids;
    for (std::size_t i = 0; i < got; ++i) ids.push_back(into[i].id);
    std::sort(ids.begin(), ids.end());
    CHECK(ids == std::vector<source_id>{all[1].id, all[3].id, all[4].id});
    CHECK(set.try_some(into) == 0);
    // Of one that is always ready there is one report.
    short events = 0;
    counter loud;
    loud.add();
    const source_id always = set.add(on_descriptor(loud.fd.get(), POLLIN, events));
    all[0].count.add();
    got = 0;
    while (got < 2) {
        const std::size_t more = set.wait_some(std::span(into).subspan(got), soon);
        const auto begin = into.begin() + static_cast<std::ptrdiff_t>(got);
        CHECK(std::count_if(begin, begin + static_cast<std::ptrdiff_t>(more),
                            [&](const wait_report& one) { return one.id == always; }) == 1);
        got += more;
    }
}

TEST_CASE("64 and 1,000 sources are told apart", "[wait_set]") {
    const std::size_t count = GENERATE(std::size_t{64}, std::size_t{1000});
    allow_descriptors(count + 100);
    wait_set set;
    std::deque<eventfd_in> all;
    for (std::size_t i = 0; i < count; ++i) all.emplace_back(set);
    CHECK_FALSE(set.try_any());
    for (std::size_t step = 0; step < 2 * count; step += 7) {
        eventfd_in& one = all[step * 31 % count];
        one.count.add(step + 1);
        CHECK(set.wait_any(soon) == wait_report{one.id, 0});
        CHECK(one.value == step + 1);
    }
    for (eventfd_in& one : all) one.count.add();
    std::map<source_id, int> reports;
    std::array<wait_report, 50> into;
    std::size_t got = 0;
    while (got < count) {
        const std::size_t more = set.wait_some(into, soon);
        for (std::size_t i = 0; i < more; ++i) ++reports[into[i].id];
        got += more;
    }
    CHECK(got == count);
    CHECK(reports.size() == count);
    CHECK_FALSE(set.try_any());
    for (eventfd_in& one : all) one.count.add();
    CHECK(set.try_all());
    CHECK_FALSE(set.try_any());
}

// ---- coming and going -------------------------------------------------------

TEST_CASE("a removed source is never reported, an added one is", "[wait_set]") {
    wait_set set;
    eventfd_in first(set);
    eventfd_in second(set);
    first.count.add();
    second.count.add();
    CHECK_FALSE(set.remove(first.id));
    CHECK(set.wait_any(soon) == wait_report{second.id, 0});
    CHECK_FALSE(set.try_any());
    std::atomic<source_id> reported{0};
    std::thread waiting([&] { reported = set.wait_any(soon).id; });
    std::this_thread::sleep_for(20ms);
    // While somebody waits.
    eventfd_in third(set);
    set.remove(second.id);
    second.count.add();
    std::this_thread::sleep_for(20ms);
    CHECK(reported == 0);
    third.count.add();
    waiting.join();
    CHECK(reported == third.id);
}

TEST_CASE("a source that is added or resumed is tried at once, also while somebody waits",
          "[wait_set]") {
    // Its descriptor never says anything.
    struct silent {
        counter* of;
        int fd() const { return of->fd.get(); }
        bool try_take() const { return true; }
    };
    wait_set set;
    counter count;
    std::atomic<source_id> reported{0};
    const auto wait_asleep = [&] { return std::thread([&] { reported = set.wait_any(soon).id; }); };
    std::thread waiting = wait_asleep();
    std::this_thread::sleep_for(20ms);
    const source_id id = set.add(silent{&count}, wait_mode::once);
    waiting.join();
    CHECK(reported == id);
    reported = 0;
    waiting = wait_asleep();
    std::this_thread::sleep_for(20ms);
    CHECK(reported == 0);
    set.resume(id);
    waiting.join();
    CHECK(reported == id);
}

TEST_CASE("one source of a descriptor does not keep from another what it is to be told",
          "[wait_set]") {
    auto ends = connected_pair(stream_slot_bytes(4096));
    stream_socket in(std::move(ends.first));
    stream_socket out(std::move(ends.second));
    std::array<std::byte, 8> into{};
    std::size_t bytes = 0;
    wait_set set;
    const source_id hint = set.add(on_readable(in), wait_mode::once);
    const source_id taking = set.add(on_bytes(in, into, bytes));
    for (int round = 0; round < 3; ++round) {
        CHECK_FALSE(set.try_any());
        out.write("x", soon);
        // The one takes the ring that the other one waits for.
        if (round != 0) set.resume(hint);
        std::vector<source_id> ids{set.wait_any(soon).id};
        if (ids[0] == hint) ids.push_back(set.wait_any(soon).id);
        CHECK(ids.back() == taking);
        CHECK(bytes == 1);
    }
}

TEST_CASE("remove() waits for the attempt that is under way, and says what it has taken",
          "[wait_set]") {
    struct slow {
        counter* of;
        std::atomic<bool>* inside;
        std::atomic<bool>* go_on;
        bool takes;
        int fd() const { return of->fd.get(); }
        bool try_take() {
            *inside = true;
            while (!*go_on) std::this_thread::yield();
            return takes;
        }
    };
    for (const bool takes : {false, true}) {
        counter count;
        std::atomic<bool> inside{false};
        std::atomic<bool> go_on{false};
        std::atomic<bool> removed{false};
        wait_set set;
        const source_id id = set.add(slow{&count, &inside, &go_on, takes});
        std::atomic<int> waited{0};
        std::thread waiting([&] { waited = error_of([&] { (void)set.wait_any(soon); }); });
        while (!inside) std::this_thread::yield();
        bool taken = false;
        std::thread removing([&] {
            taken = set.remove(id);
            removed = true;
        });
        std::this_thread::sleep_for(20ms);
        CHECK_FALSE(removed);
        go_on = true;
        removing.join();
        CHECK(taken == takes);
        set.close();
        waiting.join();
        CHECK(waited == ECANCELED);
    }
}

TEST_CASE("a source may remove itself", "[wait_set]") {
    struct leaver {
        wait_set* set;
        counter* of;
        source_id id = 0;
        int fd() const { return of->fd.get(); }
        bool try_take() {
            if (id != 0) set->remove(id);
            return id != 0;
        }
    };
    wait_set set;
    counter count;
    leaver source{&set, &count};
    source.id = set.add_borrowed(source);
    CHECK_FALSE(set.try_any());
    CHECK(set.size() == 0);
}

TEST_CASE("what was taken is reported although the next source throws", "[wait_set]") {
    struct thrower {
        counter* of;
        int fd() const { return of->fd.get(); }
        bool try_take() { throw std::runtime_error("out of luck"); }
    };
    wait_set set;
    eventfd_in first(set);
    first.count.add();
    counter count;
    count.add();
    set.add(thrower{&count});
    std::array<wait_report, 4> into;
    CHECK(set.wait_some(into, soon) == 1);
    CHECK(into[0] == wait_report{first.id, 0});
    CHECK(first.value == 1);
    CHECK_THROWS_AS(set.wait_some(into, soon), std::runtime_error);
}

TEST_CASE("what a source throws that is no error of ipcdoor's comes out of the wait",
          "[wait_set]") {
    struct thrower {
        counter* of;
        int* left;
        int fd() const { return of->fd.get(); }
        bool try_take() {
            if (--*left > 0) throw std::runtime_error("out of luck");
            return *left == 0;
        }
    };
    wait_set set;
    counter count;
    int left = 3;
    const source_id id = set.add(thrower{&count, &left});
    CHECK_THROWS_AS(set.wait_any(soon), std::runtime_error);
    CHECK_THROWS_AS(set.wait_all(soon), std::runtime_error);
    CHECK(set.wait_any(soon) == wait_report{id, 0});
    CHECK_FALSE(set.try_any());
}

TEST_CASE("sources come and go while threads wait", "[wait_set]") {
    wait_set set;
    std::atomic<std::uint64_t> reported{0};
    std::atomic<std::uint64_t> wrong{0};
    plain_semaphore units;
    const source_id steady = set.add(on_unit(units));
    std::vector<std::thread> waiting;
    for (int i = 0; i < 3; ++i) {
        waiting.emplace_back([&, i] {
            wait_report some[4];
            for (;;) {
                const int error = error_of([&] {
                    const std::size_t got =
                        i == 0 ? set.wait_some(some, soon) : (some[0] = set.wait_any(soon), 1);
                    for (std::size_t k = 0; k < got; ++k)
                        if (some[k].id == steady) ++reported;
                });
                if (error == ECANCELED) return;
                if (error != 0) ++wrong;
            }
        });
    }
    const std::uint64_t rounds = 20 + scaled(2000);
    std::vector<std::thread> changing;
    for (int i = 0; i < 2; ++i) {
        changing.emplace_back([&] {
            for (std::uint64_t round = 0; round < rounds; ++round) {
                counter count;
                std::uint64_t value = 0;
                if (round % 2 == 0) count.add(3);
                const source_id id = set.add(on_eventfd(count.fd.get(), value));
                if (round % 3 == 0) count.add(4);
                if (round % 5 == 0) std::this_thread::yield();
                (void)set.remove(id);
                // Nobody writes it any more.
                value = 0;
            }
        });
    }
    for (std::uint64_t round = 0; round < rounds; ++round) units.release();
    for (auto& thread : changing) thread.join();
    while (reported != rounds) std::this_thread::sleep_for(1ms);
    set.close();
    for (auto& thread : waiting) thread.join();
    CHECK(wrong == 0);
    CHECK(units.drain() == 0);
}

TEST_CASE("several threads share a set, and with wait_mode::once a source's variable",
          "[wait_set]") {
    constexpr std::size_t pairs = 3;
    const std::uint64_t each = 20 + scaled(1000);
    std::vector<std::pair<channel, channel>> channels;
    for (std::size_t i = 0; i < pairs; ++i) channels.push_back(channel_pair());
    wait_set set;
    std::array<message, pairs> got;
    std::map<source_id, std::size_t> which;
    for (std::size_t i = 0; i < pairs; ++i)
        which[set.add(on_message(channels[i].first, got[i]), wait_mode::once)] = i;
    std::atomic<std::uint64_t> received{0};
    std::atomic<std::uint64_t> wrong{0};
    std::array<std::uint64_t, pairs> expected{};  // whose source it is
    std::vector<std::thread> workers;
    for (int w = 0; w < 3; ++w) {
        workers.emplace_back([&] {
            const int error = error_of([&] {
                for (;;) {
                    const wait_report now = set.wait_any(soon);
                    const std::size_t i = which.at(now.id);
                    if (now.error_number != 0 || got[i].as<std::uint64_t>() != expected[i]++)
                        ++wrong;
                    ++received;
                    set.resume(now.id);
                }
            });
            if (error != ECANCELED) ++wrong;
        });
    }
    std::vector<std::thread> senders;
    for (std::size_t i = 0; i < pairs; ++i) {
        senders.emplace_back([&, i] {
            for (std::uint64_t n = 0; n < each; ++n) channels[i].second.send(n, soon);
        });
    }
    for (auto& sender : senders) sender.join();
    while (received != pairs * each) std::this_thread::sleep_for(1ms);
    set.close();
    for (auto& worker : workers) worker.join();
    CHECK(wrong == 0);
}

TEST_CASE("a forked child may only destroy its copy of a set, and the set goes on",
          "[wait_set][fork]") {
    auto set = std::make_unique<wait_set>();
    eventfd_in one(*set);
    CHECK_FALSE(set->try_any());
    child copy([&] {
        const std::array ids{one.id};
        std::array<wait_report, 2> some;
        timer clock;
        std::uint64_t expirations = 0;
        const auto refused = [](auto call) { return error_of(call) == EPERM; };
        EXPECT_CHILD(refused([&] { (void)set->add(on_timer(clock, expirations)); }));
        EXPECT_CHILD(refused([&] { (void)set->remove(one.id); }));
        EXPECT_CHILD(refused([&] { set->resume(one.id); }));
        EXPECT_CHILD(refused([&] { (void)set->failure(one.id); }));
        EXPECT_CHILD(refused([&] { (void)set->contains(one.id); }));
        EXPECT_CHILD(refused([&] { (void)set->size(); }));
        EXPECT_CHILD(refused([&] { (void)set->wait_any(soon); }));
        EXPECT_CHILD(refused([&] { (void)set->try_any(); }));
        EXPECT_CHILD(refused([&] { (void)set->wait_some(some, soon); }));
        EXPECT_CHILD(refused([&] { (void)set->try_some(some); }));
        EXPECT_CHILD(refused([&] { set->wait_all(ids, soon); }));
        EXPECT_CHILD(refused([&] { (void)set->try_all(); }));
        EXPECT_CHILD(refused([&] { set->cancel(); }));
        EXPECT_CHILD(refused([&] { set->close(); }));
        set.reset();
        return 0;
    });
    CHECK(copy.wait().exited());
    one.count.add();
    CHECK(set->wait_any(soon) == wait_report{one.id, 0});
    CHECK_FALSE(set->try_any());
    one.count.add();
    CHECK(set->wait_any(soon) == wait_report{one.id, 0});
}

// ---- event loops ------------------------------------------------------------

TEST_CASE("a wait_set in an event loop is readable only while there may be something",
          "[wait_set][poll]") {
    auto ends = channel_pair();
    channel& ours = ends.first;
    channel& theirs = ends.second;
    message got;
    timer clock;
    std::uint64_t expirations = 0;
    wait_set set;
    const source_id text = set.add(on_message(ours, got));
    const source_id time = set.add(on_timer(clock, expirations));
    pollfd loop{set.fd(), POLLIN, 0};
    theirs.send("zero", soon);
    const auto wait = [&] {
        for (;;) {
            if (const auto one = set.try_any()) return *one;
            REQUIRE(::poll(&loop, 1, 60'000) == 1);
        }
    };
    CHECK(wait() == wait_report{text, 0});
    for (int round = 0; round < 5; ++round) {
        CHECK_FALSE(set.try_any());
        CHECK(::poll(&loop, 1, 0) == 0);
        theirs.send("one", soon);
        theirs.send("two", soon);
        CHECK(wait() == wait_report{text, 0});
        CHECK(wait() == wait_report{text, 0});
        CHECK_FALSE(set.try_any());
        clock.set(2ms);
        CHECK(wait() == wait_report{time, 0});
    }
    // Told of a source that was added, and of one that another thread has left.
    CHECK_FALSE(set.try_any());
    eventfd_in added(set);
    added.count.add();
    CHECK(wait() == wait_report{added.id, 0});
    eventfd_in more(set);
    eventfd_in last(set);
    CHECK_FALSE(set.try_any());
    for (const eventfd_in* one : {&added, &more, &last}) one->count.add();
    std::atomic<source_id> other{0};
    std::thread thread([&] { other = set.wait_any(soon).id; });
    thread.join();
    REQUIRE(::poll(&loop, 1, 60'000) == 1);
    std::vector<source_id> all{other, wait().id, wait().id};
    std::sort(all.begin(), all.end());
    CHECK(all == std::vector<source_id>{added.id, more.id, last.id});
}

TEST_CASE("a wait_set is awaited, and nested", "[wait_set][async]") {
    coroutine_loop loop;
    auto ends = channel_pair();
    channel& ours = ends.first;
    channel& theirs = ends.second;
    message got;
    wait_set inner;
    const source_id text = inner.add(on_message(ours, got));
    wait_set outer;
    wait_report within;
    const source_id nested = outer.add(on_any(inner, within));
    timer clock(5ms, 5ms);
    std::uint64_t expirations = 0;
    const source_id tick = outer.add(on_timer(clock, expirations));
    int ticks = 0;
    std::vector<std::string> texts;
    const std::function<bool(wait_report)> told = [&](wait_report now) {
        if (now.id == nested) {
            CHECK(within == wait_report{text, 0});
            texts.emplace_back(got.text());
        } else {
            CHECK(now == wait_report{tick, 0});
            if (++ticks == 2) theirs.send("hello", soon);
            if (ticks == 3) theirs.send("again", soon);
        }
        return texts.size() < 2;
    };
    bool done = false;
    [](coroutine_loop& on, wait_set& set, const std::function<bool(wait_report)>& go_on,
       bool& ended) -> detached_task {
        while (go_on(co_await async_wait_any(on, set))) {
        }
        ended = true;
    }(loop, outer, told, done);
    CHECK(loop.run_until([&] { return done; }));
    CHECK(texts == std::vector<std::string>{"hello", "again"});
    CHECK(loop.waiting() == 0);
}
