// SPDX-License-Identifier: MIT
// Publish and subscribe: what arrives, what is lost and counted, who may hold what.
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
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

TEST_CASE("a subscriber reads a sample where it was written, and as it was", "[publish]") {
    newspaper news({.chunk_bytes = 100'000});
    subscriber reader = news.subscribe();
    CHECK(news.paper.subscribers() == 1);
    CHECK(news.paper.peers().at(0).pid == ::getpid());
    CHECK(reader.peer().pid == ::getpid());
    CHECK(reader.chunk_bytes() == 100'000);
    CHECK_FALSE(reader.try_take());

    for (const std::size_t bytes : {0, 1, 64, 99'999, 100'000}) {
        loan next = news.paper.lend();
        REQUIRE(next.size() == 100'000);
        CHECK(reinterpret_cast<std::uintptr_t>(next.bytes().data()) % 64 == 0);
        const std::string content = pattern(bytes, bytes);
        std::memcpy(next.bytes().data(), content.data(), bytes);
        next.resize(bytes);
        const std::uint64_t sequence = news.paper.publish(std::move(next));
        const sample got = reader.take(soon);
        CHECK(text(got) == content);
        CHECK(got.sequence() == sequence);
        CHECK(got.published_ns() != 0);
        CHECK(reinterpret_cast<std::uintptr_t>(got.bytes().data()) % 64 == 0);
    }
    CHECK_FALSE(reader.try_take());
    CHECK(reader.stats().taken == 5);
    CHECK(reader.stats().dropped == 0);
    CHECK(news.paper.stats().published == 5);
}

TEST_CASE("samples are objects for those who want them to be", "[publish]") {
    struct position {
        std::int32_t x, y;
    };
    newspaper news;
    subscriber reader = news.subscribe();
    loan next = news.paper.lend();
    next.emplace<position>(3, 4);
    news.paper.publish(std::move(next));
    const sample got = reader.take(soon);
    CHECK(got.as<position>().y == 4);
    CHECK(got.in_place<position>().x == 3);
    CHECK(error_of([&] { static_cast<void>(got.as<char>()); }) == EMSGSIZE);
}

TEST_CASE("all subscribers get all samples, in the publisher's order", "[publish]") {
    newspaper news({.queue = 64, .max_subscribers = 8});
    std::vector<subscriber> readers;
    for (int i = 0; i < 8; ++i) readers.push_back(news.subscribe());
    CHECK(news.paper.subscribers() == 8);
    for (std::uint64_t i = 1; i <= 64; ++i) CHECK(news.paper.publish(pattern(i, i)) == i);
    for (subscriber& reader : readers) {
        for (std::uint64_t i = 1; i <= 64; ++i) {
            const sample got = reader.take(soon);
            REQUIRE(got.sequence() == i);
            REQUIRE(text(got) == pattern(i, i));
        }
        CHECK_FALSE(reader.try_take());
    }
}

TEST_CASE("taking ends at its deadline", "[publish]") {
    newspaper news;
    subscriber reader = news.subscribe();
    CHECK(error_of([&] { (void)reader.take(10ms); }) == ETIMEDOUT);
    CHECK(error_of([&] { (void)reader.take(0s); }) == ETIMEDOUT);
    news.paper.publish(pattern(1, 50));
    CHECK(text(reader.take(soon)) == pattern(1, 50));
}

TEST_CASE("nobody has to listen", "[publish]") {
    newspaper news;
    for (std::uint64_t i = 1; i <= 1000; ++i) CHECK(news.paper.publish(i) == i);
    subscriber late = news.subscribe();
    CHECK_FALSE(late.try_take());
    news.paper.publish(std::uint64_t{7});
    CHECK(late.take(soon).as<std::uint64_t>() == 7);
}

TEST_CASE("who comes late gets the history", "[publish]") {
    newspaper news({.queue = 8, .history = 3});
    for (std::uint64_t i = 1; i <= 10; ++i) news.paper.publish(i);
    subscriber late = news.subscribe();
    for (std::uint64_t i = 8; i <= 10; ++i) {
        const sample got = late.take(soon);
        CHECK(got.sequence() == i);
        CHECK(got.as<std::uint64_t>() == i);
    }
    CHECK_FALSE(late.try_take());
    news.paper.publish(std::uint64_t{11});
    CHECK(late.take(soon).sequence() == 11);
}

TEST_CASE("drop_oldest: a slow subscriber has the latest, and knows how many it lost",
          "[publish]") {
    newspaper news({.queue = 4});
    subscriber slow = news.subscribe();
    for (std::uint64_t i = 1; i <= 10; ++i) news.paper.publish(i);
    for (std::uint64_t i = 7; i <= 10; ++i) CHECK(slow.take(soon).as<std::uint64_t>() == i);
    CHECK_FALSE(slow.try_take());
    CHECK(slow.stats().dropped == 6);
    CHECK(slow.stats().missed == 0);
    CHECK(news.paper.stats().dropped == 6);
}

TEST_CASE("drop_newest: a slow subscriber keeps what it has", "[publish]") {
    newspaper news({.queue = 4, .max_subscribers = 2, .slow = slow_subscriber::drop_newest});
    subscriber slow = news.subscribe();
    subscriber quick = news.subscribe();
    for (std::uint64_t i = 1; i <= 10; ++i) {
        news.paper.publish(i);
        CHECK(quick.take(soon).as<std::uint64_t>() == i);
    }
    for (std::uint64_t i = 1; i <= 4; ++i) CHECK(slow.take(soon).as<std::uint64_t>() == i);
    CHECK_FALSE(slow.try_take());
    CHECK(slow.stats().missed == 6);
    CHECK(slow.stats().dropped == 0);
    CHECK(news.paper.stats().missed == 6);
}

TEST_CASE("block: a slow subscriber holds up the publisher, until the deadline", "[publish]") {
    newspaper news({.queue = 4, .slow = slow_subscriber::block});
    subscriber slow = news.subscribe();
    for (std::uint64_t i = 1; i <= 4; ++i) news.paper.publish(i);
    loan next = news.paper.lend();
    next.emplace<std::uint64_t>(5U);
    CHECK(news.paper.try_publish(std::move(next)) == 0);
    CHECK(error_of([&] { news.paper.publish(std::move(next), 10ms); }) == ETIMEDOUT);
    // The loan is still ours, and nothing was published.
    CHECK(next.size() == sizeof(std::uint64_t));
    CHECK(news.paper.stats().published == 4);

    const std::uint64_t waits = news.paper.stats().waits;
    std::thread blocked([&] { CHECK_IN_THREAD(news.paper.publish(std::move(next), soon) == 5); });
    spin_until([&] { return news.paper.stats().waits > waits; });
    const std::uint64_t waited_ns = ipcdoor_now_ns();
    for (std::uint64_t i = 1; i <= 4; ++i) CHECK(slow.take(soon).as<std::uint64_t>() == i);
    const sample last = slow.take(soon);
    CHECK(last.as<std::uint64_t>() == 5);
    // It came to be published only then.
    CHECK(last.published_ns() >= waited_ns);
    blocked.join();
    CHECK(slow.stats().dropped == 0);
}

TEST_CASE("a sample stays as it is while it is held", "[publish]") {
    newspaper news({.chunk_bytes = 64, .queue = 2, .max_held = 3});
    subscriber reader = news.subscribe();
    CHECK(reader.max_held() == 3);
    std::vector<sample> held;
    for (std::uint64_t i = 1; i <= 3; ++i) {
        news.paper.publish(pattern(i, 64));
        held.push_back(reader.take(soon));
    }
    news.paper.publish(pattern(4, 64));
    CHECK(error_of([&] { static_cast<void>(reader.try_take()); }) == ENOBUFS);
    // Every chunk but those is used again and again.
    for (std::uint64_t i = 5; i <= 1000; ++i) news.paper.publish(pattern(i, 64));
    for (std::uint64_t i = 1; i <= 3; ++i) CHECK(text(held[i - 1]) == pattern(i, 64));
    held.erase(held.begin());
    CHECK(text(reader.take(soon)) == pattern(999, 64));
}

TEST_CASE("lend() waits for a release where there are fewer chunks than may be held", "[publish]") {
    newspaper news({.queue = 1, .max_held = 4, .max_loans = 1, .chunks = 3});
    CHECK(news.paper.chunks() == 3);
    subscriber reader = news.subscribe();
    std::vector<sample> held;
    for (std::uint64_t i = 1; i <= 3; ++i) {
        news.paper.publish(i);
        held.push_back(reader.take(soon));
    }
    CHECK_FALSE(news.paper.try_lend());
    CHECK(error_of([&] { static_cast<void>(news.paper.lend(10ms)); }) == ETIMEDOUT);
    std::thread releasing([&] {
        std::this_thread::sleep_for(10ms);
        held.clear();
    });
    loan next = news.paper.lend(soon);
    releasing.join();
    next.emplace<std::uint64_t>(4U);
    CHECK(news.paper.publish(std::move(next)) == 4);
    CHECK(reader.take(soon).as<std::uint64_t>() == 4);
}

TEST_CASE("a loan that is dropped was never there", "[publish]") {
    newspaper news({.max_loans = 2});
    subscriber reader = news.subscribe();
    {
        const loan one = news.paper.lend();
        const loan other = news.paper.lend();
        CHECK(one.bytes().data() != other.bytes().data());
        CHECK(error_of([&] { static_cast<void>(news.paper.lend()); }) == ENOBUFS);
    }
    for (int i = 0; i < 1000; ++i) static_cast<void>(news.paper.lend());
    CHECK_FALSE(reader.try_take());
    CHECK(news.paper.publish(std::uint64_t{1}) == 1);
}

TEST_CASE("publish() takes this publisher's loans alone, and once", "[publish]") {
    newspaper news;
    newspaper other;
    loan next = other.paper.lend();
    CHECK(error_of([&] { news.paper.publish(std::move(next)); }) == EINVAL);
    CHECK(other.paper.publish(std::move(next)) == 1);
    CHECK(error_of([&] { other.paper.publish(std::move(next)); }) == EINVAL);
    loan small = news.paper.lend();
    CHECK(error_of([&] { small.resize(4097); }) == EMSGSIZE);
    CHECK(error_of([&] { news.paper.publish(std::string(4097, 'x')); }) == EMSGSIZE);
}

TEST_CASE("options out of range are refused", "[publish]") {
    door at = test_door();
    const auto refused = [&](const publisher_options& options) {
        return error_of([&] { publisher(at, unique_name(), options); });
    };
    CHECK(refused({.chunk_bytes = 0}) == EINVAL);
    CHECK(refused({.queue = 0}) == EINVAL);
    CHECK(refused({.queue = 5000}) == EINVAL);
    CHECK(refused({.queue = 4, .history = 5}) == EINVAL);
    CHECK(refused({.max_held = 0}) == EINVAL);
    CHECK(refused({.max_held = 257}) == EINVAL);
    CHECK(refused({.max_loans = 3, .chunks = 2}) == EINVAL);
    CHECK(refused({.chunks = 2'000'000}) == EINVAL);
}

TEST_CASE("a name that nobody publishes under, and one of something else", "[publish]") {
    door at = test_door();
    CHECK(error_of([&] { subscriber(at, unique_name(), {}, soon); }) == ENOENT);
    const std::string name = unique_name();
    const endpoint segment = at.create(name, {.slots = 2, .source = source()});
    CHECK(error_of([&] { subscriber(at, name, {}, soon); }) == EPROTOTYPE);
}

TEST_CASE("samples of another type than expected are refused", "[publish]") {
    newspaper news({.type = 17});
    CHECK(error_of([&] { news.subscribe({.type = 18}); }) == EPROTOTYPE);
    subscriber right = news.subscribe({.type = 17});
    subscriber whatever = news.subscribe();
    news.paper.publish(std::uint64_t{1});
    CHECK(right.take(soon).sequence() == 1);
    CHECK(whatever.take(soon).sequence() == 1);
}

TEST_CASE("a subscriber's descriptor is readable while there may be a sample", "[publish]") {
    newspaper news;
    subscriber reader = news.subscribe();
    CHECK_FALSE(reader.try_take());
    CHECK_FALSE(is_readable(reader.fd()));
    for (std::uint64_t i = 1; i <= 100; ++i) {
        news.paper.publish(i);
        REQUIRE(becomes_readable(reader.fd()));
        REQUIRE(reader.try_take());
        REQUIRE_FALSE(reader.try_take());
        REQUIRE_FALSE(is_readable(reader.fd()));
    }
}

TEST_CASE("a publisher's descriptor is readable when somebody comes or goes", "[publish]") {
    newspaper news;
    news.paper.poll();
    CHECK_FALSE(is_readable(news.paper.fd()));
    std::optional<subscriber> reader;
    std::thread coming([&] { reader.emplace(news.at, news.name, subscriber_options{}, soon); });
    while (news.paper.subscribers() == 0) {
        REQUIRE(becomes_readable(news.paper.fd()));
        news.paper.poll();
    }
    coming.join();
    reader.reset();
    while (news.paper.subscribers() != 0) {
        REQUIRE(becomes_readable(news.paper.fd()));
        news.paper.poll();
    }
    CHECK(news.paper.stats().came == 1);
    CHECK(news.paper.stats().gone == 1);
    CHECK(news.paper.stats().broken == 0);
}

TEST_CASE("no more subscribers than are wanted; the next is let in when one leaves", "[publish]") {
    newspaper news({.max_subscribers = 2});
    std::optional<subscriber> first(news.subscribe());
    subscriber second = news.subscribe();
    std::atomic<bool> in{false};
    std::thread third([&] {
        subscriber late(news.at, news.name, {}, soon);
        in = true;
        CHECK_IN_THREAD(late.take(soon).size() == 8);
    });
    for (int i = 0; i < 20; ++i) {
        news.paper.poll();
        std::this_thread::sleep_for(1ms);
    }
    CHECK_FALSE(in);
    first.reset();
    news.poll_until([&] { return in.load(); });
    news.paper.publish(std::uint64_t{1});
    third.join();
    CHECK(news.paper.stats().came == 3);
}

TEST_CASE("an event loop is told when there is a place for who waits in the backlog", "[publish]") {
    newspaper news({.max_subscribers = 1});
    std::optional<subscriber> first(news.subscribe());
    std::atomic<bool> in{false};
    std::thread second([&] {
        const subscriber late(news.at, news.name, {}, soon);
        in = true;
    });
    // It connects, and finds the only place taken.
    std::this_thread::sleep_for(10ms);
    news.paper.poll();
    first.reset();
    while (!in) {
        CHECK((becomes_readable(news.paper.fd()) || in));
        news.paper.poll();
    }
    second.join();
    CHECK(news.paper.stats().came == 2);
}

TEST_CASE("a publisher without descriptors for newcomers serves those it has", "[publish][fork]") {
    newspaper news;
    subscriber first = news.subscribe();
    child late([&] {
        door at = test_door();
        subscriber other(at, news.name, {}, soon);
        return text(other.take(soon)) == pattern(2, 50) ? 0 : 1;
    });
    rlimit usual{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
    const int next = ::dup(STDIN_FILENO);
    REQUIRE(next >= 0);
    ::close(next);
    const rlimit few{static_cast<rlim_t>(next), usual.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    news.poll_until([&] { return news.paper.stats().last_refusal != 0; });
    news.paper.publish(pattern(1, 50));
    CHECK(text(first.take(soon)) == pattern(1, 50));
    CHECK(news.paper.stats().last_refusal == EMFILE);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &usual) == 0);
    news.poll_until([&] { return news.paper.subscribers() == 2; });
    news.paper.publish(pattern(2, 50));
    CHECK(text(first.take(soon)) == pattern(2, 50));
    CHECK(late.wait().exited());
}

TEST_CASE("samples outlive their subscriber, which holds up nobody then", "[publish]") {
    newspaper news({.queue = 2, .slow = slow_subscriber::block});
    std::optional<subscriber> reader(news.subscribe());
    news.paper.publish(pattern(1, 100));
    const sample kept = reader->take(soon);
    reader.reset();
    for (std::uint64_t i = 2; i <= 100; ++i) news.paper.publish(pattern(i, 100), soon);
    CHECK(text(kept) == pattern(1, 100));
    CHECK(news.paper.stats().gone == 0);
}
