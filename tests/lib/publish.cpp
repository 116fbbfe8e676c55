// SPDX-License-Identifier: MIT
// Publish and subscribe: what arrives, what is lost and counted, who may hold what.
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/false_publisher.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A publisher of the back end and source under test.
struct newspaper {
    explicit newspaper(publisher_options options = {})
        : name(unique_name()), at(test_door()), paper(at, name, with_source(options)) {}

    // Letting somebody in is the publisher's business, which may be this thread.
    subscriber subscribe(const subscriber_options& options = {}) {
        std::atomic<bool> done{false};
        std::thread letting_in([&] {
            while (!done) {
                paper.poll();
                std::this_thread::sleep_for(1ms);
            }
        });
        std::optional<subscriber> made;
        try {
            made.emplace(at, name, options, soon);
        } catch (...) {
            done = true;
            letting_in.join();
            throw;
        }
        done = true;
        letting_in.join();
        return std::move(*made);
    }
    // Until a subscriber's end has been noticed.
    void await_gone(std::uint64_t gone) {
        const auto limit = std::chrono::steady_clock::now() + soon;
        while (paper.stats().gone < gone) {
            REQUIRE(std::chrono::steady_clock::now() < limit);
            paper.poll();
            std::this_thread::sleep_for(1ms);
        }
    }

    static publisher_options with_source(publisher_options options) {
        options.source = source();
        return options;
    }

    std::string name;
    door at;
    publisher paper;
};

std::string text(const sample& what) {
    return {reinterpret_cast<const char*>(what.bytes().data()), what.size()};
}

bool is_readable(int fd) {
    pollfd wanted{fd, POLLIN, 0};
    return ::poll(&wanted, 1, 0) == 1;
}

}  // namespace

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

    std::thread blocked([&] { CHECK_IN_THREAD(news.paper.publish(std::move(next), soon) == 5); });
    std::this_thread::sleep_for(10ms);
    for (std::uint64_t i = 1; i <= 5; ++i) CHECK(slow.take(soon).as<std::uint64_t>() == i);
    blocked.join();
    CHECK(slow.stats().dropped == 0);
}

TEST_CASE("block: a long stream loses nothing", "[publish]") {
    newspaper news({.queue = 8, .max_held = 2, .slow = slow_subscriber::block});
    std::vector<subscriber> readers;
    for (int i = 0; i < 3; ++i) readers.push_back(news.subscribe());
    const std::uint64_t count = scaled(20'000);
    std::vector<std::thread> reading;
    for (subscriber& reader : readers) {
        reading.emplace_back([&reader, count] {
            for (std::uint64_t i = 1; i <= count; ++i) {
                const sample got = reader.take(soon);
                CHECK_IN_THREAD(got.sequence() == i);
                CHECK_IN_THREAD(got.as<std::uint64_t>() == i * 3);
            }
        });
    }
    for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(i * 3, soon);
    for (std::thread& thread : reading) thread.join();
    CHECK(news.paper.stats().dropped == 0);
}

TEST_CASE("drop_oldest against takers that never stop: no sample is torn or comes twice",
          "[publish]") {
    newspaper news({.chunk_bytes = 512, .queue = 2, .max_held = 2});
    subscriber reader = news.subscribe();
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> taken{0};
    std::thread reading([&] {
        std::uint64_t last = 0;
        for (;;) {
            const bool over = done;
            const std::optional<sample> got = reader.try_take();
            if (!got) {
                if (over) return;
                continue;
            }
            CHECK_IN_THREAD(got->sequence() > last);
            last = got->sequence();
            CHECK_IN_THREAD(text(*got) == pattern(last, 512));
            ++taken;
        }
    });
    const std::uint64_t count = scaled(20'000);
    for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(pattern(i, 512));
    done = true;
    reading.join();
    CHECK(taken == reader.stats().taken);
    CHECK(taken + reader.stats().dropped == count);
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

TEST_CASE("lend() that waits gets what another thread gives back", "[publish]") {
    newspaper news({.queue = 1, .max_held = 1, .max_loans = 3, .chunks = 3});
    subscriber reader = news.subscribe();
    news.paper.publish(std::uint64_t{1});
    const sample held = reader.take(soon);
    const loan first = news.paper.lend();
    std::optional<loan> second(news.paper.lend());
    std::atomic<bool> got{false};
    std::thread waiting([&] {
        const loan third = news.paper.lend(forever);
        got = true;
    });
    while (news.paper.stats().waits == 0) std::this_thread::yield();
    std::this_thread::sleep_for(10ms);
    CHECK_FALSE(got);
    second.reset();
    waiting.join();
    CHECK(got);
}

TEST_CASE("publish() that waits is woken although another thread polls", "[publish]") {
    newspaper news({.queue = 1, .slow = slow_subscriber::block});
    subscriber reader = news.subscribe();
    const std::uint64_t count = scaled(5'000);
    std::atomic<bool> done{false};
    std::thread polling([&] {
        while (!done) news.paper.poll();
    });
    std::thread publishing([&] {
        for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(i, forever);
    });
    for (std::uint64_t i = 1; i <= count; ++i) REQUIRE(reader.take(forever).sequence() == i);
    publishing.join();
    done = true;
    polling.join();
}

TEST_CASE("a thread that waits for a chunk gets what the others leave", "[publish][threads]") {
    newspaper news({.queue = 1, .max_held = 4, .max_loans = 2, .chunks = 3});
    subscriber reader = news.subscribe();
    std::vector<sample> held;
    const auto publish_and_take = [&](std::uint64_t i) {
        news.paper.publish(i);
        held.push_back(reader.take(soon));
    };
    publish_and_take(1);
    std::optional<loan> other;
    SECTION("a loan that is dropped") {
        publish_and_take(2);
        other.emplace(news.paper.lend());
    }
    SECTION("a sample that is taken back from the queue") {
        news.paper.publish(std::uint64_t{2});
        other.emplace(news.paper.lend());
    }
    const bool publishes = held.size() == 1;

    std::atomic<pid_t> waiting_tid{0};
    std::atomic<bool> lent{false};
    std::thread waiting([&] {
        waiting_tid = static_cast<pid_t>(::syscall(SYS_gettid));
        static_cast<void>(news.paper.lend());
        lent = true;
    });
    while (waiting_tid == 0) std::this_thread::sleep_for(1ms);
    wait_thread_asleep(::getpid(), waiting_tid);
    CHECK_FALSE(lent);
    if (publishes)
        news.paper.publish(std::move(*other));
    else
        other.reset();
    const auto limit = std::chrono::steady_clock::now() + soon;
    while (!lent && std::chrono::steady_clock::now() < limit) std::this_thread::sleep_for(1ms);
    CHECK(lent);
    held.clear();  // wakes it in any case
    waiting.join();
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
        pollfd wanted{reader.fd(), POLLIN, 0};
        REQUIRE(::poll(&wanted, 1, 60'000) == 1);
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
        pollfd wanted{news.paper.fd(), POLLIN, 0};
        REQUIRE(::poll(&wanted, 1, 60'000) == 1);
        news.paper.poll();
    }
    coming.join();
    reader.reset();
    while (news.paper.subscribers() != 0) {
        pollfd wanted{news.paper.fd(), POLLIN, 0};
        REQUIRE(::poll(&wanted, 1, 60'000) == 1);
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
    while (!in) {
        news.paper.poll();
        std::this_thread::sleep_for(1ms);
    }
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
        pollfd wanted{news.paper.fd(), POLLIN, 0};
        CHECK((::poll(&wanted, 1, 60'000) == 1 || in));
        news.paper.poll();
    }
    second.join();
    CHECK(news.paper.stats().came == 2);
}

TEST_CASE("several threads share one subscriber's samples", "[publish]") {
    newspaper news({.queue = 16, .max_held = 8, .slow = slow_subscriber::block});
    subscriber reader = news.subscribe();
    const std::uint64_t count = scaled(4'000);
    std::vector<std::atomic<int>> seen(count + 1);
    std::vector<std::thread> reading;
    std::atomic<std::uint64_t> left{count};
    for (int i = 0; i < 4; ++i) {
        reading.emplace_back([&] {
            for (;;) {
                try {
                    const sample got = reader.take(soon);
                    ++seen[got.sequence()];
                    --left;
                } catch (const error& wrong) {
                    CHECK_IN_THREAD(wrong.is_peer_death());
                    return;
                }
            }
        });
    }
    {
        const publisher ends = [&] {
            for (std::uint64_t i = 1; i <= count; ++i) news.paper.publish(i, soon);
            return std::move(news.paper);
        }();
        while (left != 0) std::this_thread::sleep_for(1ms);
    }
    for (std::thread& thread : reading) thread.join();
    CHECK(std::all_of(seen.begin() + 1, seen.end(), [](const auto& times) { return times == 1; }));
}

TEST_CASE("several threads publish through one publisher", "[publish]") {
    newspaper news({.queue = 8, .max_loans = 4, .slow = slow_subscriber::block});
    subscriber reader = news.subscribe();
    const std::uint64_t each = scaled(2'000);
    std::vector<std::thread> writing;
    for (std::uint64_t writer = 0; writer < 4; ++writer) {
        writing.emplace_back([&news, writer, each] {
            for (std::uint64_t i = 1; i <= each; ++i) news.paper.publish(writer << 32 | i, soon);
        });
    }
    std::uint64_t last[4] = {};
    for (std::uint64_t i = 1; i <= 4 * each; ++i) {
        const sample got = reader.take(soon);
        REQUIRE(got.sequence() == i);
        const auto value = got.as<std::uint64_t>();
        REQUIRE(value >> 32 < 4);
        REQUIRE((value & 0xffffffff) == ++last[value >> 32]);
    }
    for (std::thread& thread : writing) thread.join();
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

// ---- deaths -----------------------------------------------------------------

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
    publisher next(at, name, newspaper::with_source({}));
    CHECK(text(held) == pattern(1, 50));
}

TEST_CASE("a publisher that is killed leaves what it has published", "[publish]") {
    const std::string name = unique_name();
    gate published;
    child writer([&] {
        door at = test_door();
        publisher paper(at, name, newspaper::with_source({.queue = 8}));
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
    const auto limit = std::chrono::steady_clock::now() + soon;
    while (!reader) {
        try {
            reader.emplace(at, name, subscriber_options{}, soon);
        } catch (const error& wrong) {
            REQUIRE(wrong.error_number() == ENOENT);
            REQUIRE(std::chrono::steady_clock::now() < limit);
            std::this_thread::sleep_for(1ms);
        }
    }
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
    while (news.paper.subscribers() == 0) {
        news.paper.poll();
        std::this_thread::sleep_for(1ms);
    }
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
    while (!in.is_open()) {
        news.paper.poll();
        std::this_thread::sleep_for(1ms);
    }
    news.paper.publish(std::uint64_t{1});
    std::thread blocked([&] { CHECK_IN_THREAD(news.paper.publish(std::uint64_t{2}, soon) == 2); });
    std::this_thread::sleep_for(10ms);
    reader.kill();
    blocked.join();
    CHECK(reader.wait().signaled(SIGKILL));
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

// ---- hostile peers ----------------------------------------------------------

namespace {

// A subscriber that writes what it likes into its slot.
struct false_reader {
    explicit false_reader(newspaper& news) : end(news.at.connect(news.name, soon)), giver(1) {
        mine = reinterpret_cast<subscriber_slot*>(end.memory().data());
    }
    void greet(newspaper& news) {
        mine->descriptor_socket.store(giver.word());
        mine->version_min.store(1);
        mine->version_max.store(1);
        mine->magic.store(subscribe_magic);
        const auto before = news.paper.subscribers();
        const auto limit = std::chrono::steady_clock::now() + soon;
        while (news.paper.subscribers() == before) {
            REQUIRE(std::chrono::steady_clock::now() < limit);
            end.ring(1 - end.slot(), detail::hello_vector);
            news.paper.poll();
        }
    }

    endpoint end;
    detail::descriptor_receiver giver;
    subscriber_slot* mine;
};

// A false one connects while the publisher accepts.
std::optional<false_reader> intruder(newspaper& news) {
    std::optional<false_reader> made;
    std::atomic<bool> done{false};
    std::thread letting_in([&] {
        while (!done) {
            news.paper.poll();
            std::this_thread::sleep_for(1ms);
        }
    });
    made.emplace(news);
    done = true;
    letting_in.join();
    return made;
}

}  // namespace

TEST_CASE("a subscriber that writes into a sample is ended, and the others see nothing of it",
          "[publish][hostile][fork]") {
    newspaper news;
    subscriber honest = news.subscribe();
    gate held;
    const auto bad_reader = [&](const std::function<void(std::byte*)>& write) {
        return child([&] {
            ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it
            door at = test_door();
            subscriber mine(at, news.name, {}, soon);
            const sample got = mine.take(soon);
            held.open();
            write(const_cast<std::byte*>(got.bytes().data()));
            return 0;
        });
    };
    bool faults = false;
    child bad;
    SECTION("by a store") {
        faults = true;
        bad = bad_reader([](std::byte* at) { *static_cast<volatile std::byte*>(at) = {}; });
    }
    SECTION("by way of /proc") {
        bad = bad_reader([](std::byte* at) {
            const owned_fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
            EXPECT_CHILD(memory);
            char zero = 0;
            EXPECT_CHILD(::pwrite(memory.get(), &zero, 1,
                                  static_cast<off_t>(reinterpret_cast<std::uintptr_t>(at))) < 0);
        });
    }
    while (news.paper.subscribers() < 2) {
        news.paper.poll();
        std::this_thread::sleep_for(1ms);
    }
    news.paper.publish(pattern(1, 64));
    const sample got = honest.take(soon);
    held.wait();
    CHECK((faults ? bad.wait().signaled(SIGSEGV) : bad.wait().exited()));
    CHECK(text(got) == pattern(1, 64));
    news.paper.publish(pattern(2, 64));
    CHECK(text(honest.take(soon)) == pattern(2, 64));
}

TEST_CASE("a subscriber that lies is dropped alone", "[publish]") {
    newspaper news({.queue = 4, .max_loans = 1, .chunks = 8});
    subscriber honest = news.subscribe();
    auto liar = intruder(news);
    std::uint64_t broken = 1;

    SECTION("about what it is") {
        liar->mine->version_min.store(2);
        liar->mine->version_max.store(1);
        liar->mine->magic.store(subscribe_magic);
        liar->end.ring(1 - liar->end.slot(), detail::hello_vector);
    }
    SECTION("with the magic of something else") {
        liar->mine->magic.store(message_magic);
        liar->end.ring(1 - liar->end.slot(), detail::hello_vector);
    }
    SECTION("about its socket") {
        liar->mine->version_min.store(1);
        liar->mine->version_max.store(1);
        liar->mine->descriptor_socket.store(~std::uint64_t{0});
        liar->mine->magic.store(subscribe_magic);
        liar->end.ring(1 - liar->end.slot(), detail::hello_vector);
    }
    SECTION("about what it has taken") {
        liar->greet(news);
        liar->mine->head.store(1000);
    }
    SECTION("and gives back what it has taken") {
        liar->greet(news);
        for (std::uint64_t i = 1; i <= 4; ++i) news.paper.publish(i);
        for (int i = 0; i < 4; ++i) static_cast<void>(honest.take(soon));
        liar->mine->head.store(3);
        news.paper.publish(std::uint64_t{5});
        static_cast<void>(honest.take(soon));
        liar->mine->head.store(2);
    }
    SECTION("about what it holds") {
        liar->greet(news);
        liar->mine->holds[3].store(9);
    }
    SECTION("by saying nothing") { broken = 0; }
    SECTION("by holding and never reading") {
        liar->greet(news);
        liar->mine->holds[0].store(1);
        liar->mine->holds[1].store(2);
        broken = 0;
    }
    const auto before = news.paper.stats().published;
    const auto limit = std::chrono::steady_clock::now() + soon;
    for (std::uint64_t i = 1; i <= 100; ++i) {
        news.paper.publish(pattern(i, 64), soon);
        const sample got = honest.take(soon);
        REQUIRE(got.sequence() == before + i);
        REQUIRE(text(got) == pattern(i, 64));
    }
    while (news.paper.stats().broken < broken) {
        REQUIRE(std::chrono::steady_clock::now() < limit);
        news.paper.poll();
    }
    CHECK(news.paper.stats().broken == broken);
    CHECK(honest.stats().dropped == 0);
}

TEST_CASE("a subscriber that comes and goes by its flag keeps no more than its share",
          "[publish][hostile]") {
    // By default there are chunks for whatever the subscribers do.
    newspaper news({.queue = 16, .max_held = 4, .max_loans = 1, .max_subscribers = 2});
    subscriber honest = news.subscribe();
    auto liar = intruder(news);
    liar->greet(news);
    // Its queue would keep what it held when it closed, and not the others' latest.
    for (std::uint64_t i = 1; i <= 100; ++i) {
        liar->mine->closed.store(0);
        std::optional<loan> next = news.paper.try_lend();
        REQUIRE(next);
        if (i > 16) liar->mine->closed.store(1);
        REQUIRE(news.paper.try_publish(std::move(*next)) == i);
    }
    for (std::uint64_t i = 85; i <= 100; ++i) CHECK(honest.take(soon).sequence() == i);
}

TEST_CASE("whatever a subscriber writes, lending never waits and the others get all",
          "[publish][hostile][threads]") {
    newspaper news({.queue = 4, .max_held = 2, .max_loans = 1, .max_subscribers = 2});
    subscriber honest = news.subscribe();
    auto liar = intruder(news);
    liar->greet(news);
    std::atomic<bool> stop{false};
    std::thread vandal([&] {
        std::uint64_t x = 88172645463325252ULL;
        while (!stop) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            liar->mine->holds[x % publish_max_held].store(static_cast<std::uint32_t>(x >> 32) %
                                                          (news.paper.chunks() + 1));
            liar->mine->closed.store(x >> 8 & 1);
            liar->mine->armed.store(x >> 9 & 63);
            if (x % 8 == 0)
                static_cast<void>(
                    ipcdoor_ring(liar->end.get(), 1 - liar->end.slot(), 0, 1 + x / 8 % 8, x));
        }
    });
    const std::uint64_t count = scaled(5'000);
    for (std::uint64_t i = 1; i <= count; ++i) {
        std::optional<loan> next = news.paper.try_lend();
        REQUIRE(next);
        next->emplace<std::uint64_t>(i);
        REQUIRE(news.paper.try_publish(std::move(*next)) == i);
        REQUIRE(honest.take(soon).as<std::uint64_t>() == i);
    }
    stop = true;
    vandal.join();
    CHECK(honest.stats().dropped == 0);
}

TEST_CASE("what a subscriber that lies has held wakes who waits for it", "[publish][hostile]") {
    newspaper news({.queue = 1, .max_held = 4, .max_loans = 2, .chunks = 3});
    auto liar = intruder(news);
    liar->greet(news);
    loan other = news.paper.lend();
    for (std::uint32_t chunk = 1; chunk <= 3; ++chunk) liar->mine->holds[chunk].store(chunk);
    std::atomic<pid_t> waiting_tid{0};
    std::atomic<bool> lent{false};
    // Those that were free are lent first.
    std::thread waiting([&] {
        static_cast<void>(news.paper.publish(news.paper.lend()));
        static_cast<void>(news.paper.publish(news.paper.lend()));
        waiting_tid = static_cast<pid_t>(::syscall(SYS_gettid));
        static_cast<void>(news.paper.lend());
        lent = true;
    });
    while (waiting_tid == 0) std::this_thread::sleep_for(1ms);
    wait_thread_asleep(::getpid(), waiting_tid);
    CHECK_FALSE(lent);
    // Found out by another thread, which does not wait.
    liar->mine->head.store(1000);
    news.paper.publish(std::move(other));
    const auto limit = std::chrono::steady_clock::now() + soon;
    while (!lent && std::chrono::steady_clock::now() < limit) std::this_thread::sleep_for(1ms);
    CHECK(lent);
    CHECK(news.paper.stats().broken == 1);
    if (!lent) intruder(news);  // ends the wait
    waiting.join();
}

TEST_CASE("a publisher whose header is impossible is refused", "[publish]") {
    false_publisher liar;
    int expected = EPROTO;
    SECTION("magic") {
        liar.serve([](publisher_slot& slot) { slot.version_max.store(0); });
    }
    SECTION("version") {
        liar.serve([](publisher_slot& slot) {
            slot.version_min.store(7);
            slot.version_max.store(9);
        });
        expected = EPROTONOSUPPORT;
    }
    SECTION("chunks") {
        liar.serve([](publisher_slot& slot) { slot.chunks.store(5); });
    }
    SECTION("no chunks") {
        liar.serve([](publisher_slot& slot) { slot.chunks.store(0); });
    }
    SECTION("chunk size") {
        liar.serve([](publisher_slot& slot) { slot.chunk_bytes.store(~std::uint64_t{0}); });
    }
    SECTION("pool size") {
        liar.serve([](publisher_slot& slot) { slot.pool_bytes.store(1 << 20); });
    }
    SECTION("queue") {
        liar.serve([](publisher_slot& slot) { slot.queue_capacity.store(4096); });
    }
    SECTION("holds") {
        liar.serve([](publisher_slot& slot) { slot.max_held.store(257); });
    }
    SECTION("another packet's number") {
        liar.serve([](publisher_slot& slot) { slot.pool_token.store(99); });
    }
    CHECK(error_of([&] { subscriber(liar.at, liar.name, {}, soon); }) == expected);
}

TEST_CASE("a publisher that could take its pages away is refused", "[publish]") {
    false_publisher liar;
    liar.pool = memory(1);
    liar.serve([](publisher_slot& slot) { slot.pool_bytes.store(4 * 4096); });
    CHECK(error_of([&] { subscriber(liar.at, liar.name, {}, soon); }) == EPROTO);
}

TEST_CASE("a publisher that lies in its queue is found out", "[publish]") {
    false_publisher liar;
    liar.serve([](publisher_slot&) {});
    subscriber reader(liar.at, liar.name, {}, soon);
    liar.serving.join();
    liar.put(0, 10);
    CHECK(reader.take(soon).size() == 10);
    SECTION("a chunk that is none") { liar.put(4, 10); }
    SECTION("more than a chunk") { liar.put(0, 4097); }
    SECTION("a tail beyond its queue") { liar.mine->tail.store(1000); }
    SECTION("a tail that goes back") { liar.mine->tail.store(0); }
    SECTION("a floor beyond the tail") { liar.mine->floor.store(50); }
    CHECK(error_of([&] { static_cast<void>(reader.try_take()); }) == EPROTO);
    CHECK(error_of([&] { static_cast<void>(reader.take(soon)); }) == EPROTO);
}

TEST_CASE("a publisher that never greets makes its subscriber's deadline pass", "[publish]") {
    door at = test_door();
    const std::string name = unique_name();
    listener silent = at.listen(name, {.slot_bytes = publish_slot_bytes(16), .source = source()});
    endpoint accepted;
    std::thread accepting([&] { accepted = silent.accept(soon); });
    CHECK(error_of([&] { subscriber(at, name, {}, 300ms); }) == ETIMEDOUT);
    accepting.join();
}
