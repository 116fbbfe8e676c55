// SPDX-License-Identifier: MIT
// A wait_set: all of many sources or none, whoever dies, comes or goes.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/semaphore.hpp>
#include <ipcdoor/wait_set.hpp>

#include "lib/lib_support.hpp"
#include "lib/wait_set_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

// ---- all --------------------------------------------------------------------

TEST_CASE("wait_all() takes all or none", "[wait_set]") {
    auto ends = channel_pair();
    channel& ours = ends.first;
    channel& theirs = ends.second;
    auto halves = connected_pair(stream_slot_bytes(4096));
    endpoint& one = halves.first;
    endpoint& other = halves.second;
    stream_socket in(std::move(one));
    stream_socket out(std::move(other));
    auto bells = connected_pair();
    endpoint& end = bells.first;
    endpoint& ringer = bells.second;
    plain_semaphore units;
    counter count;
    timer clock;
    message got;
    std::array<std::byte, 8> bytes{};
    std::size_t some = 0;
    std::uint64_t value = 0;
    std::uint64_t expirations = 0;
    event rung{};
    wait_set set;
    set.add(on_unit(units));
    set.add(on_message(ours, got));
    set.add(on_bytes(in, bytes, some));
    set.add(on_eventfd(count.fd.get(), value));
    set.add(on_timer(clock, expirations));
    set.add(on_event(end, vectors(8), rung));
    std::vector<std::function<void()>> steps{
        [&] { units.release(); },      [&] { theirs.send("message", soon); },
        [&] { out.write("x", soon); }, [&] { count.add(2); },
        [&] { clock.set(0s); },        [&] { ringer.ring(end.slot(), 8, 3); },
    };
    // Whatever comes last.
    for (std::size_t last = 0; last < steps.size(); ++last) {
        for (std::size_t i = 1; i < steps.size(); ++i) {
            CHECK_FALSE(set.try_all());
            steps[(last + i) % steps.size()]();
        }
        CHECK_FALSE(set.try_all());
        // None was taken but what the set keeps.
        CHECK(units.drain() == (last == 0 ? 0 : 1));
        if (last != 0) units.release();
        std::thread later([&] {
            std::this_thread::sleep_for(10ms);
            steps[last]();
        });
        CHECK(error_of([&] { set.wait_all(soon); }) == 0);
        later.join();
        CHECK(got.text() == "message");
        CHECK(some == 1);
        CHECK(value == 2);
        CHECK(expirations == 1);
        CHECK(rung.value == 3);
        got = {};
        some = value = expirations = 0;
        rung = {};
        CHECK(units.drain() == 0);
        CHECK_FALSE(in.try_read(bytes));
        CHECK_FALSE(set.try_any());
    }
}

TEST_CASE("a wait_all() that ends early has taken nothing that others could not have",
          "[wait_set]") {
    auto ends = channel_pair();
    channel& ours = ends.first;
    channel& theirs = ends.second;
    plain_semaphore units(1);
    plain_semaphore missing;
    timer clock(0s);
    message got;
    std::uint64_t expirations = 0;
    wait_set set;
    const source_id unit = set.add(on_unit(units));
    const source_id text = set.add(on_message(ours, got));
    const source_id time = set.add(on_timer(clock, expirations));
    const source_id never = set.add(on_unit(missing));
    theirs.send("still there", soon);
    CHECK(error_of([&] { set.wait_all(20ms); }) == ETIMEDOUT);
    CHECK(units.try_acquire());
    CHECK(ours.receive(soon).text() == "still there");
    CHECK(clock.take() == 1);
    units.release();
    theirs.send("again", soon);
    clock.set(0s);
    // Some of the set only.
    CHECK(error_of([&] { set.wait_all(std::array{text, unit}, soon); }) == 0);
    CHECK(got.text() == "again");
    CHECK(set.wait_any(soon) == wait_report{time, 0});
    missing.release();
    CHECK(set.wait_any(soon) == wait_report{never, 0});
    CHECK_FALSE(set.try_any());
}

TEST_CASE("what wait_all() had to keep is reported by the next wait, or by remove()",
          "[wait_set]") {
    door at = test_door();
    const std::string name = unique_name();
    mailbox box(at, name, {.source = source()});
    std::optional<channel> to;
    std::thread connecting([&] { to.emplace(at.connect(name, soon)); });
    delivery got;
    while (box.stats().connected == 0) REQUIRE_FALSE(box.try_receive(got));
    connecting.join();
    // Ready to all appearances, and then not.
    struct unsure {
        counter* of;
        std::atomic<bool>* sure;
        int fd() const { return of->fd.get(); }
        bool try_take() const { return *sure; }
    };
    counter count;
    count.add();
    std::atomic<bool> sure{false};
    wait_set set;
    const source_id from = set.add(on_message(box, got));
    const source_id other = set.add(unsure{&count, &sure});
    // The mailbox's is tried first.
    const std::array ids{from, other};
    const auto try_until_kept = [&](const char* text) {
        to->send(text, soon);
        while (got.content.text() != text) {
            REQUIRE_FALSE(set.try_all(ids));
            std::this_thread::sleep_for(1ms);
        }
        delivery none;
        REQUIRE_FALSE(box.try_receive(none));
    };
    try_until_kept("kept");
    CHECK(set.wait_any(soon) == wait_report{from, 0});
    CHECK(got.content.text() == "kept");
    CHECK_FALSE(set.try_any());
    try_until_kept("counted");
    sure = true;
    set.wait_all(ids, soon);
    CHECK(got.content.text() == "counted");
    sure = false;
    try_until_kept("taken along");
    CHECK(set.remove(from));
    CHECK(got.content.text() == "taken along");
    sure = true;
    CHECK(set.wait_any(soon) == wait_report{other, 0});
}

TEST_CASE("wait_all() gives back what it took when the last one is not there after all",
          "[wait_set]") {
    door at = test_door();
    semaphore count(at, unique_name(), {.initial = 1, .source = source()});
    plain_semaphore units(1);
    auto halves = connected_pair(stream_slot_bytes(4096));
    stream_socket ours(std::move(halves.first));
    stream_socket theirs(std::move(halves.second));
    auto others = connected_pair(stream_slot_bytes(4096));
    stream_socket out(std::move(others.first));
    stream_socket far(std::move(others.second));
    auto bells = connected_pair();
    pulse_port in(bells.first, {.other_vectors = lifecycle_vector});
    pulse_port from(bells.second);
    const std::string name = unique_name();
    listener names = at.listen(name, {.source = source()});
    counter eventfd;
    // Ready to all appearances, and then not.
    struct unsure {
        counter* of;
        bool* sure;
        int fd() const { return of->fd.get(); }
        bool try_take() const { return *sure; }
    };
    counter always;
    always.add();
    bool sure = false;
    std::uint64_t value = 0;
    std::size_t written = 0;
    pulse got{};
    endpoint accepted;
    wait_set set;
    set.add(on_unit(count));
    set.add(on_unit(units));
    set.add(on_readable(ours));
    set.add(on_writable(ours));
    set.add(on_room(out, std::string_view("text"), written));
    set.add(on_eventfd(eventfd.fd.get(), value));
    set.add(on_pulse(bells.first, in, got));
    set.add(on_connection(names, accepted));
    const source_id last = set.add(unsure{&always, &sure});
    theirs.write("x", soon);
    eventfd.add(3);
    CHECK(from.send({.code = 1, .value = 5}));
    endpoint connected;
    std::thread connecting([&] { connected = at.connect(name, soon); });
    for (int i = 0; i < 20; ++i) {
        CHECK_FALSE(set.try_all());
        std::this_thread::sleep_for(1ms);
    }
    CHECK(error_of([&] { set.wait_all(20ms); }) == ETIMEDOUT);
    // All that can be given back is there for others.
    CHECK(count.value() == 1);
    CHECK(units.drain() == 1);
    units.release();
    std::array<std::byte, 8> bytes{};
    CHECK(ours.try_read(bytes) == std::size_t{1});
    theirs.write("y", soon);
    CHECK_FALSE(far.try_read(bytes));
    std::uint64_t counted = 0;
    CHECK(::read(eventfd.fd.get(), &counted, sizeof counted) == sizeof counted);
    CHECK(counted == 3);
    eventfd.add(4);
    sure = true;
    CHECK(error_of([&] { set.wait_all(soon); }) == 0);
    connecting.join();
    CHECK(count.value() == 0);
    CHECK(units.drain() == 0);
    CHECK(value == 4);
    CHECK(got.value == 5);
    CHECK(accepted.info().slots == 2);
    CHECK(written == 4);
    CHECK(far.try_read(bytes) == std::size_t{4});
    set.remove(last);
}

TEST_CASE("a source that fails to give back, or to confirm, is reported as failed", "[wait_set]") {
    enum class failing { with_error, with_something_else };
    const failing how = GENERATE(failing::with_error, failing::with_something_else);
    const int expected = how == failing::with_error ? EDOM : EIO;
    struct stubborn {
        counter* of;
        failing how;
        bool gives;
        int fd() const { return of->fd.get(); }
        bool try_take() const { return true; }
        void give_back() const {
            if (gives) fail();
        }
        void confirm() const {
            if (!gives) fail();
        }
        void fail() const {
            if (how == failing::with_error) throw error(EDOM, "of the test");
            throw std::runtime_error("of the test");
        }
    };
    counter ready;
    ready.add();
    plain_semaphore units;
    wait_set set;
    SECTION("to give back") {
        const source_id id = set.add(stubborn{&ready, how, true});
        const source_id unit = set.add(on_unit(units));
        const std::array both{id, unit};
        struct missing {
            counter* of;
            int fd() const { return of->fd.get(); }
            bool try_take() const { return false; }
        };
        const source_id never = set.add(missing{&ready});
        CHECK(error_of([&] { (void)set.try_all(std::array{id, never}); }) == expected);
        CHECK(set.failure(id)->error_number() == expected);
        units.release();
        CHECK(error_of([&] { set.wait_all(both, soon); }) == expected);
        CHECK(set.wait_any(soon) == wait_report{unit, 0});
    }
    SECTION("to confirm") {
        const source_id id = set.add(stubborn{&ready, how, false});
        set.add(on_unit(units));
        units.release();
        CHECK(error_of([&] { set.wait_all(soon); }) == 0);
        CHECK(units.drain() == 0);
        CHECK(set.wait_any(soon) == wait_report{id, expected});
    }
}

TEST_CASE("two wait_all() with opposite orders never wait for each other", "[wait_set][fork]") {
    plain_semaphore forks[3] = {plain_semaphore(1), plain_semaphore(1), plain_semaphore(1)};
    shared<std::atomic<std::uint64_t>> meals;
    shared<std::atomic<int>> at_table;
    const std::uint64_t each = 20 + scaled(1000);
    // Philosophers, in processes, who sometimes want all three.
    std::vector<child> philosophers;
    for (std::size_t p = 0; p < 3; ++p) {
        philosophers.emplace_back([&, p] {
            wait_set set;
            source_id ids[3];
            for (std::size_t i = 0; i < 3; ++i)
                ids[(p + i) % 3] = set.add(on_unit(forks[(p + i) % 3]));
            for (std::uint64_t n = 0; n < each; ++n) {
                std::vector<source_id> mine{ids[p], ids[(p + 1) % 3]};
                if (n % 4 == p) mine = {ids[2], ids[0], ids[1]};
                set.wait_all(mine, soon);
                EXPECT_CHILD(at_table->fetch_add(1) == 0);
                ++*meals;
                EXPECT_CHILD(at_table->fetch_sub(1) == 1);
                for (const source_id id : mine)
                    forks[static_cast<std::size_t>(std::find(ids, ids + 3, id) - ids)].release();
            }
            return 0;
        });
    }
    for (child& one : philosophers) CHECK(one.wait().exited());
    CHECK(*meals == 3 * each);
    for (plain_semaphore& one : forks) CHECK(one.drain() == 1);
}

TEST_CASE("threads in wait_all() and wait_any() share a set", "[wait_set]") {
    plain_semaphore left;
    plain_semaphore right;
    wait_set set;
    const source_id a = set.add(on_unit(left));
    const source_id b = set.add(on_unit(right));
    const std::uint64_t rounds = 20 + scaled(1000);
    std::atomic<std::uint64_t> pairs{0};
    std::atomic<std::uint64_t> lefts{0};
    std::atomic<std::uint64_t> rights{0};
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            const int error = error_of([&] {
                for (;;) {
                    if (i == 0) {
                        set.wait_all(std::array{a, b}, soon);
                        ++pairs;
                    } else if (i == 1) {
                        set.wait_all(std::array{b, a}, soon);
                        ++pairs;
                    } else {
                        const source_id id = set.wait_any(soon).id;
                        if (id != a && id != b) ++wrong;
                        ++(id == a ? lefts : rights);
                    }
                }
            });
            if (error != ECANCELED) ++wrong;
        });
    }
    for (std::uint64_t i = 0; i < rounds; ++i) {
        left.release();
        right.release();
    }
    while (pairs + lefts != rounds || pairs + rights != rounds) std::this_thread::sleep_for(1ms);
    set.close();
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(left.drain() == 0);
    CHECK(right.drain() == 0);
}

TEST_CASE("a process that is killed in wait_all() holds nothing", "[wait_set][fork]") {
    plain_semaphore here(1);
    plain_semaphore missing;
    for (int round = 0; round < 5; ++round) {
        child waiting([&] {
            wait_set set;
            set.add(on_unit(here));
            set.add(on_unit(missing));
            set.wait_all(soon);
            return 1;
        });
        waiting.wait_asleep();
        waiting.kill();
        CHECK(waiting.wait().signaled(SIGKILL));
        CHECK(here.try_acquire());
        here.release();
    }
}

TEST_CASE("wait_all() ends when one of its sources dies or is removed", "[wait_set][fork]") {
    service local;
    gate met;
    child peer([&] {
        const channel to(local.connect());
        met.open();
        ::pause();
        return 0;
    });
    channel from(local.accept());
    plain_semaphore units(1);
    message got;
    wait_set set;
    const source_id text = set.add(on_message(from, got));
    const source_id unit = set.add(on_unit(units));
    met.wait();
    std::atomic<int> ended{0};
    std::thread waiting([&] { ended = error_of([&] { set.wait_all(soon); }); });
    std::this_thread::sleep_for(20ms);
    peer.kill();
    waiting.join();
    CHECK(ended == EPIPE);
    CHECK(set.failure(text)->is_peer_death());
    CHECK(units.drain() == 1);
    CHECK(error_of([&] { (void)set.wait_any(20ms); }) == ETIMEDOUT);
    set.remove(text);
    eventfd_in other(set);
    std::thread removed([&] {
        ended = error_of([&] { set.wait_all(std::array{unit, other.id}, soon); });
    });
    std::this_thread::sleep_for(20ms);
    set.remove(other.id);
    removed.join();
    CHECK(ended == ENOENT);
    // All that is left.
    std::thread rest([&] { ended = error_of([&] { set.wait_all(soon); }); });
    std::this_thread::sleep_for(20ms);
    units.release();
    rest.join();
    CHECK(ended == 0);
}
