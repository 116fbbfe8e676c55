// SPDX-License-Identifier: MIT
// How a wait_set watches descriptors: what comes at a bad moment, stays ready or is nobody's, and
// how often sources are tried.
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/wait_set.hpp>

#include "lib/lib_support.hpp"
#include "lib/wait_set_support.hpp"
#include "support/catch.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A unit of a semaphore; counts the attempts. Level: its descriptor says all.
template <bool Level>
struct unit {
    static constexpr bool level_triggered = Level;
    plain_semaphore* of;
    std::uint64_t* attempts;
    int fd() const { return of->fd(); }
    bool try_take() const {
        ++*attempts;
        return of->try_acquire();
    }
};

// The event comes while an attempt is in vain.
template <bool Level>
struct late {
    static constexpr bool level_triggered = Level;
    plain_semaphore* units;
    bool* comes;
    int fd() const { return units->fd(); }
    bool try_take() const {
        if (units->try_acquire()) return true;
        if (std::exchange(*comes, false)) units->release();
        return false;
    }
};

// Takes nothing, with or without success.
struct stubborn {
    static constexpr bool level_triggered = true;
    counter* of;
    bool* takes;
    std::uint64_t* attempts;
    int fd() const { return of->fd.get(); }
    bool try_take() const {
        ++*attempts;
        return *takes;
    }
};

// An attempt lasts until it may end.
struct slow {
    static constexpr bool level_triggered = true;
    plain_semaphore* of;
    std::atomic<bool>* inside;
    std::atomic<bool>* go_on;
    int fd() const { return of->fd(); }
    bool try_take() const {
        *inside = true;
        while (!*go_on) std::this_thread::sleep_for(1ms);
        return of->try_acquire();
    }
};

template <bool Level>
void check_event_after_attempt_in_vain() {
    wait_set set;
    std::deque<plain_semaphore> units(3);
    std::array<bool, 3> comes{};
    std::array<source_id, 3> ids{};
    for (std::size_t i = 0; i < 3; ++i)
        ids[i] = set.add(late<Level>{&units[i], &comes[i]}, wait_mode::once);
    CHECK_FALSE(set.try_any());
    for (std::size_t round = 0; round < 60; ++round) {
        const std::size_t i = round % 3;
        units[i].release();
        CHECK(set.wait_any(soon) == wait_report{ids[i], 0});
        comes[i] = true;
        set.resume(ids[i]);  // tries it, as all that is resumed
        CHECK(set.wait_any(soon) == wait_report{ids[i], 0});
        CHECK_FALSE(comes[i]);
        set.resume(ids[i]);
        CHECK_FALSE(set.try_any());
    }
}

template <bool Level>
void check_threads_take_each_unit_once() {
    constexpr std::size_t count = 5;
    std::deque<plain_semaphore> units(count);
    std::array<std::uint64_t, count> attempts{};  // whose source it is
    wait_set set;
    std::map<source_id, std::size_t> which;
    for (std::size_t i = 0; i < count; ++i)
        which[set.add(unit<Level>{&units[i], &attempts[i]})] = i;
    std::array<std::atomic<std::uint64_t>, count> reports{};
    std::atomic<std::uint64_t> all{0};
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> waiting;
    for (int t = 0; t < 2; ++t) {
        waiting.emplace_back([&] {
            const int error = error_of([&] {
                for (;;) {
                    ++reports[which.at(set.wait_any(soon).id)];
                    ++all;
                }
            });
            if (error != ECANCELED) ++wrong;
        });
    }
    const std::uint64_t each = 20 + scaled(2000);
    std::vector<std::thread> giving;
    for (int t = 0; t < 2; ++t) {
        giving.emplace_back([&, t] {
            std::minstd_rand random(static_cast<unsigned>(t) + 1);
            std::array<std::uint64_t, count> left;
            left.fill(each);
            // Bursts of one, the one in turn and the other not, and pauses in which everybody
            // sleeps.
            std::size_t i = 0;
            for (std::uint64_t done = 0; done < count * each;) {
                i = (t == 0 ? i + 1 : random()) % count;
                const std::uint64_t some = std::min<std::uint64_t>(left[i], 1 + random() % 3);
                for (std::uint64_t n = 0; n < some; ++n) units[i].release();
                left[i] -= some;
                done += some;
                if (random() % 64 == 0) std::this_thread::sleep_for(100us);
            }
        });
    }
    for (auto& one : giving) one.join();
    while (all != 2 * count * each) std::this_thread::sleep_for(1ms);
    set.close();
    for (auto& one : waiting) one.join();
    CHECK(wrong == 0);
    for (std::size_t i = 0; i < count; ++i) {
        CHECK(reports[i] == 2 * each);
        CHECK(units[i].drain() == 0);
    }
}

}  // namespace

TEST_CASE("an event that arrives after an attempt in vain and before the sleep is not lost",
          "[wait_set]") {
    check_event_after_attempt_in_vain<false>();
    check_event_after_attempt_in_vain<true>();
}

TEST_CASE("two threads take each unit of several semaphores once", "[wait_set]") {
    check_threads_take_each_unit_once<false>();
    check_threads_take_each_unit_once<true>();
}

TEST_CASE("a set is told of events in whatever order they come", "[wait_set]") {
    constexpr std::size_t count = 16;
    wait_set set;
    std::deque<plain_semaphore> units(count);
    std::uint64_t attempts = 0;
    std::vector<source_id> ids;
    for (plain_semaphore& one : units) ids.push_back(set.add(unit<true>{&one, &attempts}));
    CHECK_FALSE(set.try_any());
    std::minstd_rand random(7);
    std::size_t last = 0;
    const auto next = [&](const char* order) {
        if (*order == 't') return (last + 1) % count;          // in turn
        if (*order == 'p') return (last + count - 1) % count;  // the other way round
        if (*order == 's') return last;                        // the same again
        if (*order == 'a') return last == 3 ? std::size_t{9} : std::size_t{3};  // alternating
        return random() % count;
    };
    for (const char* order : {"turn", "prior", "same", "random", "alternating", "turn"}) {
        INFO(order);
        attempts = 0;
        constexpr std::uint64_t rounds = 400;
        for (std::uint64_t round = 0; round < rounds; ++round) {
            last = next(order);
            units[last].release();
            CHECK(set.wait_any(soon) == wait_report{ids[last], 0});
        }
        // The descriptor says all, so hardly any attempt is in vain: those that follow a
        // report which was right before, and was not this time.
        CHECK(attempts <= rounds + rounds / 10);
        CHECK_FALSE(set.try_any());
    }
}

TEST_CASE("messages of many channels are taken in whatever order they come", "[wait_set]") {
    constexpr std::size_t count = 6;
    std::vector<std::pair<channel, channel>> channels;
    std::array<message, count> got;
    wait_set set;
    std::vector<source_id> ids;
    for (std::size_t i = 0; i < count; ++i) channels.push_back(channel_pair());
    for (std::size_t i = 0; i < count; ++i)
        ids.push_back(set.add(on_message(channels[i].first, got[i])));
    CHECK_FALSE(set.try_any());
    std::minstd_rand random(3);
    std::uint64_t number = 0;
    const auto pass = [&](std::size_t i) {
        channels[i].second.send(++number, soon);
        CHECK(set.wait_any(soon) == wait_report{ids[i], 0});
        CHECK(got[i].as<std::uint64_t>() == number);
    };
    for (int phase = 0; phase < 4; ++phase) {
        for (std::size_t n = 0; n < 20 * count; ++n)
            pass(phase % 2 == 0 ? n % count : random() % count);
        // Several at once, against the order that was learned.
        for (std::size_t i = count; i-- > 0;) channels[i].second.send(++number, soon);
        std::vector<source_id> seen;
        for (std::size_t n = 0; n < count; ++n) seen.push_back(set.wait_any(soon).id);
        std::sort(seen.begin(), seen.end());
        CHECK(seen == ids);
        if (phase >= 2) CHECK_FALSE(set.try_any());
    }
    // Who is expected next has died.
    for (std::size_t n = 0; n < 8 * count; ++n) pass(n % count);
    pass(0);
    { const channel gone(std::move(channels[1].second)); }
    CHECK(set.wait_any(soon) == wait_report{ids[1], EPIPE});
    pass(2);
    CHECK_FALSE(set.try_any());
}

TEST_CASE("several are ready at once and still only what is there is reported", "[wait_set]") {
    constexpr std::size_t count = 16;
    wait_set set;
    std::deque<eventfd_in> all;
    for (std::size_t i = 0; i < count; ++i) all.emplace_back(set);
    CHECK_FALSE(set.try_any());
    std::array<wait_report, count> into;
    for (std::uint64_t round = 1; round <= 50; ++round) {
        // In turn first, which leads the set to expect the next one.
        for (eventfd_in& one : all) {
            one.count.add(round);
            CHECK(set.wait_any(soon) == wait_report{one.id, 0});
            CHECK(one.value == round);
        }
        std::vector<source_id> expected;
        for (std::size_t i = round % 3; i < count; i += 3) {
            all[i].count.add(round);
            expected.push_back(all[i].id);
        }
        const std::size_t got = set.wait_some(into, soon);
        std::vector<source_id> ids;
        for (std::size_t i = 0; i < got; ++i) ids.push_back(into[i].id);
        std::sort(ids.begin(), ids.end());
        CHECK(ids == expected);
        CHECK(set.try_some(into) == 0);
    }
}

TEST_CASE("sources of every kind that stay ready are served in turn, and starve nobody",
          "[wait_set]") {
    // Nothing is taken; a little of very much is taken; the descriptor says nothing of it.
    counter loud;
    loud.add();
    short events = 0;
    plain_semaphore many(1'000'000);
    plain_semaphore more(1'000'000);
    std::uint64_t attempts = 0;
    std::uint64_t value = 0;
    wait_set set;
    std::map<source_id, std::uint64_t> reports;
    reports[set.add(on_descriptor(loud.fd.get(), POLLIN, events))] = 0;
    reports[set.add(on_eventfd(many.fd(), value))] = 0;
    reports[set.add(unit<false>{&more, &attempts})] = 0;
    std::deque<eventfd_in> quiet;
    for (int i = 0; i < 3; ++i) quiet.emplace_back(set);
    for (int i = 0; i < 300; ++i) {
        const auto found = reports.find(set.wait_any(soon).id);
        REQUIRE(found != reports.end());
        ++found->second;
    }
    for (const auto& [id, got] : reports) CHECK(got >= 90);
    for (std::size_t round = 0; round < 30; ++round) {
        eventfd_in& one = quiet[round % 3];
        one.count.add();
        int before = 0;
        while (set.wait_any(soon).id != one.id) REQUIRE(++before <= 12);
    }
}

TEST_CASE("more that stay ready than one look tells of", "[wait_set]") {
    constexpr std::size_t count = 150;
    wait_set set;
    std::deque<counter> always(count);
    short events = 0;
    std::map<source_id, std::uint64_t> reports;
    for (counter& one : always) {
        one.add();
        reports[set.add(on_descriptor(one.fd.get(), POLLIN, events))] = 0;
    }
    eventfd_in quiet(set);
    for (std::size_t i = 0; i < 10 * count; ++i) ++reports[set.wait_any(soon).id];
    CHECK(reports.size() == count);
    for (const auto& [id, got] : reports) CHECK(got >= 5);
    quiet.count.add();
    std::size_t before = 0;
    while (set.wait_any(soon).id != quiet.id) REQUIRE(++before <= 2 * count);
    // All of them at once, however many.
    std::vector<wait_report> into(2 * count);
    CHECK(set.try_some(into) >= 1);
    CHECK(set.try_all(std::array{reports.begin()->first, reports.rbegin()->first}));
    CHECK_FALSE(set.try_all());
    quiet.count.add();
    CHECK(set.try_all());
}

TEST_CASE("a source whose attempts leave its descriptor readable is reported, or rests",
          "[wait_set]") {
    counter count;
    count.add();
    bool takes = true;
    std::uint64_t attempts = 0;
    wait_set set;
    const source_id id = set.add(stubborn{&count, &takes, &attempts});
    for (int i = 0; i < 30; ++i) CHECK(set.wait_any(soon) == wait_report{id, 0});
    CHECK(attempts == 30);
    takes = false;
    attempts = 0;
    const std::uint64_t start = ipcdoor_now_ns();
    CHECK(error_of([&] { (void)set.wait_any(300ms); }) == ETIMEDOUT);
    CHECK(attempts < 20 + (ipcdoor_now_ns() - start) / 15'000'000);
    takes = true;
    CHECK(set.wait_any(soon) == wait_report{id, 0});
    // It is watched again when it has nothing, and tells so.
    std::uint64_t drained = 0;
    REQUIRE(::read(count.fd.get(), &drained, sizeof drained) == sizeof drained);
    takes = false;
    CHECK_FALSE(set.try_any());
    takes = true;
    CHECK_FALSE(set.try_any());
    count.add();
    CHECK(set.wait_any(soon) == wait_report{id, 0});
}

TEST_CASE("a source is removed with an event queued, or expected", "[wait_set]") {
    wait_set set;
    std::deque<eventfd_in> all;
    for (int i = 0; i < 4; ++i) all.emplace_back(set);
    CHECK_FALSE(set.try_any());
    // One report, and the others are known to be ready.
    for (eventfd_in& one : all) one.count.add();
    CHECK(set.wait_any(soon) == wait_report{all[0].id, 0});
    CHECK_FALSE(set.remove(all[1].id));
    CHECK(set.wait_any(soon) == wait_report{all[2].id, 0});
    CHECK(set.wait_any(soon) == wait_report{all[3].id, 0});
    CHECK_FALSE(set.try_any());
    // 2 follows 0, and 3 follows 2.
    const auto run = [&](std::initializer_list<std::size_t> order) {
        for (int round = 0; round < 8; ++round) {
            for (const std::size_t i : order) {
                all[i].count.add();
                CHECK(set.wait_any(soon) == wait_report{all[i].id, 0});
            }
        }
    };
    run({0, 2, 3});
    all[0].count.add();
    CHECK(set.wait_any(soon) == wait_report{all[0].id, 0});
    all[2].count.add();
    CHECK_FALSE(set.remove(all[2].id));
    CHECK_FALSE(set.try_any());
    run({3, 0});
    // The one that was reported last.
    CHECK_FALSE(set.remove(all[0].id));
    CHECK_FALSE(set.try_any());
    all.emplace_back(set);
    run({3, 4, 4});
    // The same descriptor, once more.
    set.remove(all[4].id);
    all[4].count.add(2);
    all[4].id = set.add(on_eventfd(all[4].count.fd.get(), all[4].value));
    CHECK(set.wait_any(soon) == wait_report{all[4].id, 0});
    CHECK(all[4].value == 2);
    run({4, 3});
}

TEST_CASE("a source that is ready and nobody's keeps no thread busy", "[wait_set]") {
    wait_set set;
    eventfd_in other(set);
    const auto idle = [&] { CHECK_FALSE(keeps_busy([&] { (void)set.wait_any(300ms); })); };
    // It was reported, and is not resumed.
    plain_semaphore units(3);
    std::uint64_t attempts = 0;
    const source_id once = set.add(unit<true>{&units, &attempts}, wait_mode::once);
    CHECK(set.wait_any(soon) == wait_report{once, 0});
    idle();
    // An event loop is told of nothing either, at the latest when it has asked twice.
    CHECK_FALSE(set.try_any());
    CHECK_FALSE(set.try_any());
    pollfd loop{set.fd(), POLLIN, 0};
    CHECK(::poll(&loop, 1, 0) == 0);
    set.resume(once);
    CHECK(set.wait_any(soon) == wait_report{once, 0});
    set.resume(once);
    CHECK(set.wait_any(soon) == wait_report{once, 0});
    set.resume(once);
    CHECK_FALSE(set.try_any());
    units.release();
    CHECK(set.wait_any(soon) == wait_report{once, 0});
    set.remove(once);
    // It is ready, and wait_all() waits for another one.
    counter loud;
    loud.add();
    short events = 0;
    const source_id always = set.add(on_descriptor(loud.fd.get(), POLLIN, events));
    CHECK_FALSE(keeps_busy([&] { set.wait_all(300ms); }));
    std::thread later([&] {
        std::this_thread::sleep_for(10ms);
        other.count.add();
    });
    set.wait_all(soon);
    later.join();
    CHECK(other.value == 1);
    CHECK(set.wait_any(soon) == wait_report{always, 0});
    set.remove(always);
    idle();
}

TEST_CASE("a source that another thread is at keeps no thread busy, and is watched after that",
          "[wait_set]") {
    plain_semaphore units(2);
    std::atomic<bool> inside{false};
    std::atomic<bool> go_on{false};
    wait_set set;
    const source_id id = set.add(slow{&units, &inside, &go_on});
    std::atomic<source_id> first{0};
    std::thread working([&] { first = set.wait_any(soon).id; });
    while (!inside) std::this_thread::yield();
    CHECK_FALSE(keeps_busy([&] { (void)set.wait_any(300ms); }));
    // While this thread sleeps for all.
    std::thread later([&] {
        std::this_thread::sleep_for(20ms);
        go_on = true;
    });
    CHECK(set.wait_any(soon) == wait_report{id, 0});
    later.join();
    working.join();
    CHECK(first == id);
    CHECK_FALSE(set.try_any());
}

TEST_CASE("two directions of one descriptor are told apart, whichever is ready", "[wait_set]") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    const owned_fd in(ends[0]);
    const owned_fd out(ends[1]);
    short readable = 0;
    short also = 0;
    wait_set set;
    const source_id one = set.add(on_descriptor(in.get(), POLLIN, readable), wait_mode::once);
    const source_id other = set.add(on_descriptor(in.get(), POLLIN | POLLPRI, also));
    CHECK_FALSE(set.try_any());
    REQUIRE(::write(out.get(), "x", 1) == 1);
    std::map<source_id, int> reports;
    for (int i = 0; i < 10; ++i) ++reports[set.wait_any(soon).id];
    CHECK(reports[one] == 1);
    CHECK(reports[other] == 9);
    set.remove(other);
    CHECK_FALSE(set.try_any());
    set.resume(one);
    CHECK(set.wait_any(soon) == wait_report{one, 0});
}

TEST_CASE("a descriptor that was closed under a source that takes nothing is an error",
          "[wait_set]") {
    struct idle {
        int number;
        int fd() const { return number; }
        bool try_take() const { return false; }
    };
    wait_set set;
    counter closed;
    closed.add();
    const source_id id = set.add(idle{closed.fd.get()});
    CHECK_FALSE(set.try_any());
    // So the kernel goes on telling of it.
    const owned_fd copy(::dup(closed.fd.get()));
    closed.fd.reset();
    CHECK(set.wait_any(soon) == wait_report{id, EBADF});
}

TEST_CASE("a second source of a descriptor that was closed is refused", "[wait_set]") {
    wait_set set;
    short events = 0;
    counter closed;
    set.add(on_descriptor(closed.fd.get(), POLLIN, events));
    CHECK_FALSE(set.try_any());
    const int number = closed.fd.get();
    closed.fd.reset();
    CHECK(error_of([&] { set.add(on_descriptor(number, POLLIN, events)); }) == EBADF);
}

TEST_CASE("a descriptor that was closed before its source was removed is an error", "[wait_set]") {
    wait_set set;
    eventfd_in good(set);
    auto bad = std::make_unique<eventfd_in>(set);
    CHECK_FALSE(set.try_any());
    const source_id id = bad->id;
    // So the kernel goes on telling of it.
    const owned_fd copy(::dup(bad->count.fd.get()));
    bad->count.add();
    bad->count.fd.reset();
    CHECK(set.wait_any(soon) == wait_report{id, EBADF});
    CHECK(error_of([&] { (void)set.wait_any(soon); }) == EBADF);
    CHECK_FALSE(set.remove(id));
    CHECK(error_of([&] { (void)set.wait_any(soon); }) == EBADF);
    // What is good is reported all the same.
    good.count.add();
    CHECK(set.wait_any(soon) == wait_report{good.id, 0});
    // Whoever has it open can put an end to it.
    std::uint64_t count = 0;
    REQUIRE(::read(copy.get(), &count, sizeof count) == sizeof count);
    CHECK(error_of([&] { (void)set.wait_any(20ms); }) == ETIMEDOUT);
}
