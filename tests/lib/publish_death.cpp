// SPDX-License-Identifier: MIT
// Publish and subscribe: processes that end or are killed, and forked copies.
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/lib_support.hpp"
#include "lib/publish_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a publisher that is gone leaves what it has published", "[publish]") {
    std::optional<newspaper> news(std::in_place, publisher_options{.queue = 8});
    const std::string name = news->name;
    subscriber reader = news->subscribe();
    for (std::uint64_t i = 1; i <= 5; ++i) news->paper.publish(pattern(i, 50));
    const sample held = reader.take(soon);
    news.reset();
    for (std::uint64_t i = 2; i <= 5; ++i) CHECK(text(reader.take(soon)) == pattern(i, 50));
    CHECK(error_of([&] { static_cast<void>(reader.take(soon)); }) == EPIPE);
    CHECK(error_of([&] { static_cast<void>(reader.try_take()); }) == EPIPE);
    CHECK(text(held) == pattern(1, 50));

    // The name is free, although this subscriber still has the old one's samples.
    door at = test_door();
    publisher next(at, name, with_source(publisher_options{}));
    CHECK(text(held) == pattern(1, 50));
}

TEST_CASE("a publisher that goes before it lets a subscriber in is a death", "[publish]") {
    door at = test_door();
    const std::string name = unique_name();
    listener house = at.listen(name, {.slot_bytes = publish_slot_bytes(4), .source = source()});
    int error = 0;
    blocking_thread coming(
        [&] { error = error_of([&] { const subscriber none(at, name, {}, soon); }); });
    std::optional<endpoint> accepted(house.accept(soon));
    coming.wait_asleep();
    accepted.reset();
    coming.join();
    CHECK(error == EPIPE);
}

TEST_CASE("a publisher that is killed leaves what it has published", "[publish]") {
    const std::string name = unique_name();
    gate published;
    child writer([&] {
        door at = test_door();
        publisher paper(at, name, with_source(publisher_options{.queue = 8}));
        while (paper.subscribers() == 0) paper.poll();
        for (std::uint64_t i = 1; i <= 5; ++i) paper.publish(pattern(i, 50));
        const loan unfinished = paper.lend();
        std::memset(unfinished.bytes().data(), 'x', unfinished.size());
        published.open();
        for (;;) ::pause();
        return 1;
    });
    door at = test_door();
    std::optional<subscriber> reader;
    spin_until([&] {
        const int failed = error_of([&] { reader.emplace(at, name, subscriber_options{}, soon); });
        REQUIRE((failed == 0 || failed == ENOENT));
        return failed == 0;
    });
    published.wait();
    const sample held = reader->take(soon);
    writer.kill();
    CHECK(writer.wait().signaled(SIGKILL));
    for (std::uint64_t i = 2; i <= 5; ++i) CHECK(text(reader->take(soon)) == pattern(i, 50));
    CHECK(error_of([&] { static_cast<void>(reader->take(soon)); }) == EPIPE);
    CHECK(text(held) == pattern(1, 50));
}

TEST_CASE("what a killed subscriber held comes back", "[publish]") {
    newspaper news({.queue = 1, .max_held = 4, .max_loans = 1, .chunks = 4});
    gate holding;
    child reader([&] {
        door at = test_door();
        subscriber mine(at, news.name, {}, soon);
        std::vector<sample> held;
        for (int i = 0; i < 4; ++i) held.push_back(mine.take(soon));
        holding.open();
        for (;;) ::pause();
        return 1;
    });
    news.poll_until([&] { return news.paper.subscribers() != 0; });
    std::uint64_t published = 0;
    while (!holding.is_open()) {
        std::optional<loan> next = news.paper.try_lend();
        if (next) published = news.paper.publish(std::move(*next));
        std::this_thread::sleep_for(1ms);
    }
    REQUIRE(published >= 4);
    CHECK_FALSE(news.paper.try_lend());
    reader.kill();
    CHECK(reader.wait().signaled(SIGKILL));
    // Its end wakes who waits.
    for (int i = 0; i < 10; ++i) news.paper.publish(news.paper.lend(soon));
    CHECK(news.paper.stats().gone == 1);
    CHECK(news.paper.stats().broken == 0);
}

TEST_CASE("a killed subscriber does not hold up a publisher that blocks", "[publish]") {
    newspaper news({.queue = 1, .slow = slow_subscriber::block});
    gate in;
    child reader([&] {
        door at = test_door();
        const subscriber mine(at, news.name, {}, soon);
        in.open();
        for (;;) ::pause();
        return 1;
    });
    news.poll_until([&] { return in.is_open(); });
    news.paper.publish(std::uint64_t{1});
    std::thread blocked([&] { CHECK_IN_THREAD(news.paper.publish(std::uint64_t{2}, soon) == 2); });
    std::this_thread::sleep_for(10ms);
    reader.kill();
    blocked.join();
    CHECK(reader.wait().signaled(SIGKILL));
}

TEST_CASE("EXDEV for a subscriber in another PID namespace", "[publish][fork][namespace]") {
    if (::geteuid() != 0) {
        std::printf("skipped: only root can make PID namespaces\n");
        return;
    }
    newspaper news;
    child outer([&] {
        if (::unshare(CLONE_NEWPID) != 0) return 77;
        const pid_t inner = ::fork();
        if (inner == 0) {
            door own = test_door();
            const int why = error_of([&] { const subscriber none(own, news.name, {}, soon); });
            ::_exit(why == EXDEV ? 0 : 1);
        }
        int status = 0;
        EXPECT_CHILD(::waitpid(inner, &status, 0) == inner);
        EXPECT_CHILD(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return 0;
    });
    const child_status end = let_in(news.paper, [&] { return outer.wait(); });
    if (end.exited(77)) std::printf("skipped: no PID namespaces here\n");
    CHECK((end.exited() || end.exited(77)));
    subscriber near = news.subscribe();
    news.paper.publish(pattern(1, 50));
    CHECK(text(near.take(soon)) == pattern(1, 50));
}

TEST_CASE("a forked child's copies harm nobody", "[publish]") {
    newspaper news;
    subscriber reader = news.subscribe();
    news.paper.publish(pattern(1, 10));
    std::optional<sample> held(reader.take(soon));
    std::optional<loan> lent(news.paper.lend());
    child copy([&] {
        EXPECT_CHILD(error_of([&] { static_cast<void>(reader.try_take()); }) == EPERM);
        EXPECT_CHILD(error_of([&] { static_cast<void>(news.paper.try_lend()); }) == EPERM);
        EXPECT_CHILD(error_of([&] { news.paper.publish(bytes_view()); }) == EPERM);
        EXPECT_CHILD(error_of([&] { news.paper.publish(std::move(*lent)); }) == EPERM);
        EXPECT_CHILD(error_of([&] { news.paper.poll(); }) == EPERM);
        {
            const loan lent_in_child = std::move(*lent);
            const sample in_child = std::move(*held);
            const subscriber gone = std::move(reader);
            const publisher closed = std::move(news.paper);
        }
        return 0;
    });
    CHECK(copy.wait().exited(0));
    CHECK(text(*held) == pattern(1, 10));
    news.paper.publish(pattern(2, 10));
    CHECK(text(reader.take(soon)) == pattern(2, 10));
    CHECK(news.paper.subscribers() == 1);
}
