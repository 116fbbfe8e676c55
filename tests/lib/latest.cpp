// SPDX-License-Identifier: MIT
// Latest values: whole ones only, whoever writes how fast, dies, lies or comes back.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/latest.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/vandal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A value that is whole only if all its words say the same.
struct sample {
    std::uint64_t words[25];

    static sample of(std::uint64_t number) {
        sample made;
        std::fill(std::begin(made.words), std::end(made.words), number);
        return made;
    }
    bool is_whole() const {
        return std::all_of(std::begin(words), std::end(words),
                           [this](std::uint64_t word) { return word == words[0]; });
    }
};

latest_options with_source(std::uint32_t readers = 15, std::uint64_t type = 0) {
    latest_options options;
    options.readers = readers;
    options.source = source();
    options.type = type;
    return options;
}

// A writer in a process of its own, which writes numbers from `first` on, until it is killed.
child endless_writer(const std::string& name, std::uint64_t first, gate& started) {
    return child([&name, first, &started] {
        door at = test_door();
        latest_writer<sample> out(at, name, with_source(), soon);
        for (std::uint64_t i = first;; ++i) {
            out.write(sample::of(i));
            if (i == first) started.open();
        }
        return 0;
    });
}

const latest_header& header_of(const endpoint& end) {
    return *reinterpret_cast<const latest_header*>(end.data().data());
}

}  // namespace

TEST_CASE("a reader sees the latest value and its number", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_writer<sample> out(at, name, with_source());
    latest_reader<sample> in(at, name);
    CHECK(error_of([&] { (void)in.read(); }) == ENODATA);
    CHECK_FALSE(in.read_if_newer(0));
    CHECK(out.write(sample::of(7)) == 1);
    CHECK(in.read().value.words[0] == 7);
    CHECK(in.read().sequence == 1);
    CHECK(in.read().sequence == 1);
    CHECK_FALSE(in.read_if_newer(1));
    for (std::uint64_t i = 2; i <= 20; ++i) {
        CHECK(out.write(sample::of(i)) == i);
        const auto got = in.read_if_newer(i - 1);
        REQUIRE(got);
        CHECK(got->sequence == i);
        CHECK(got->value.words[24] == i);
    }
    latest_reader<sample> late(at, name);
    CHECK(late.read().sequence == 20);
    CHECK(out.sequence() == 20);
}

TEST_CASE("bytes of any length up to the cell's", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_bytes_writer out(at, name, 1000, with_source(2));
    latest_bytes_reader in(at, name, 1000);
    std::vector<std::byte> got;
    CHECK(error_of([&] { (void)in.read(got); }) == ENODATA);
    for (const std::size_t bytes : {0, 1, 7, 8, 9, 500, 1000}) {
        const std::string text = pattern(bytes, bytes);
        const std::uint64_t sequence = out.write(text);
        CHECK(in.read(got) == sequence);
        CHECK(std::string(reinterpret_cast<const char*>(got.data()), got.size()) == text);
    }
    CHECK(error_of([&] { out.write(std::string(1001, 'x')); }) == EMSGSIZE);
    CHECK(in.read_if_newer(got, out.sequence()) == 0);
    CHECK(in.wait_newer(got, out.sequence(), 10ms) == 0);
    CHECK(error_of([&] { const latest_bytes_reader wrong(at, name, 999); }) == EPROTOTYPE);
    CHECK(error_of([&] { const latest_bytes_writer wrong(at, unique_name(), 0); }) == EINVAL);
}

TEST_CASE("reader and writer have to mean the same type", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<latest_writer<std::uint64_t>> out(std::in_place, at, name, with_source());
    CHECK(error_of([&] { const latest_reader<std::int64_t> wrong(at, name); }) == EPROTOTYPE);
    CHECK(error_of([&] { const latest_reader<sample> wrong(at, name); }) == EPROTOTYPE);
    CHECK(error_of([&] { const latest_reader<std::uint64_t> wrong(at, name, 0s, 5); }) ==
          EPROTOTYPE);
    latest_reader<std::uint64_t> in(at, name);
    out.reset();
    // Nor may a new writer change it under those who read.
    CHECK(error_of([&] { const latest_writer<std::int64_t> wrong(at, name, with_source()); }) ==
          EPROTOTYPE);
    CHECK(error_of([&] { const latest_writer<sample> wrong(at, name, with_source()); }) ==
          EPROTOTYPE);
    const std::string numbered = unique_name();
    latest_writer<int> mine(at, numbered, with_source(2, 99));
    latest_reader<int> theirs(at, numbered, 0s, 99);
    mine.write(5);
    CHECK(theirs.read().value == 5);
}

TEST_CASE("names that are not there, taken, or something else", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    CHECK(error_of([&] { const latest_reader<int> nobody(at, name); }) == ENOENT);
    latest_writer<int> out(at, name, with_source(2));
    CHECK(error_of([&] { const latest_writer<int> second(at, name, with_source(), 0s); }) == EBUSY);
    latest_reader<int> one(at, name);
    latest_reader<int> two(at, name);
    CHECK(error_of([&] { const latest_reader<int> third(at, name); }) == ENOSPC);
    CHECK(error_of([&] { const latest_writer<int> none(at, unique_name(), with_source(256)); }) ==
          EINVAL);
    const std::string other = unique_name();
    endpoint segment = at.create(other, {.data_bytes = 8192, .slots = 4, .source = source()});
    std::memset(segment.data().data(), 1, 8);
    CHECK(error_of([&] { const latest_reader<int> wrong(at, other); }) == EPROTO);
    const std::string bare = unique_name();
    endpoint nothing = at.create(bare, {.slots = 4, .source = source()});
    CHECK(error_of([&] { const latest_reader<int> wrong(at, bare); }) == EPROTO);
    nothing.close();
}

TEST_CASE("a writer is told what it cannot write into", "[latest]") {
    door at = test_door();
    struct large {
        char bytes[100'000];
    };
    const auto refused = [&](const std::string& name) {
        return error_of([&] { const latest_writer<large> wrong(at, name, with_source()); });
    };
    const std::string bare = unique_name();
    const endpoint nothing = at.create(bare, {.slots = 4, .source = source()});
    CHECK(refused(bare) == EPROTO);
    const std::string small = unique_name();
    const endpoint segment = at.create(small, {.data_bytes = 8192, .slots = 4, .source = source()});
    CHECK(refused(small) == EPROTO);
    std::memset(segment.data().data(), 1, 8);
    CHECK(refused(small) == EPROTO);
    // All places are taken, slot 0 too.
    const std::string full = unique_name();
    const endpoint first = at.create(full, {.data_bytes = 8192, .slots = 2, .source = source()});
    const endpoint second = at.attach(full);
    for (const auto until : {0ms, 20ms})
        CHECK(error_of([&] { const latest_writer<int> none(at, full, with_source(), until); }) ==
              ENOSPC);
}

TEST_CASE("a reader of a cell that nobody has made yet", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<endpoint> maker(at.create(
        name, {.data_bytes = latest_data_bytes(sizeof(sample)), .slots = 4, .source = source()}));
    latest_reader<sample> in(at, name);
    // Whoever sits in slot 0 may be about to make it.
    CHECK(in.has_writer());
    CHECK_FALSE(in.wait_newer(0, 10ms));
    in.wait_writer(soon);
    maker.reset();
    CHECK_FALSE(in.has_writer());
    CHECK(error_of([&] { (void)in.wait_newer(0, soon); }) == EPIPE);
    CHECK(error_of([&] { in.wait_writer(10ms); }) == ETIMEDOUT);
    latest_writer<sample> out(at, name, with_source());
    CHECK(in.has_writer());
    out.write(sample::of(1));
    CHECK(in.wait_newer(0, soon)->value.is_whole());
}

TEST_CASE("a reader that comes while there is no writer leaves that its place", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<latest_writer<int>> out(std::in_place, at, name, with_source());
    out->write(1);
    latest_reader<int> stays(at, name);
    out.reset();
    latest_reader<int> late(at, name);
    CHECK(late.read().value == 1);
    CHECK_FALSE(late.has_writer());
    out.emplace(at, name, with_source());
    out->write(2);
    CHECK(late.wait_newer(1, soon)->value == 2);
    CHECK(stays.wait_newer(1, soon)->value == 2);
}

TEST_CASE("a cell that is larger than its segment is refused", "[latest][hostile]") {
    door at = test_door();
    const std::string small = unique_name();
    const endpoint liar = at.create(small, {.data_bytes = 8192, .slots = 4, .source = source()});
    const std::string honest = unique_name();
    latest_bytes_writer out(at, honest, 100'000, with_source());
    const endpoint model = at.attach(honest);
    std::memcpy(liar.data().data(), model.data().data(), sizeof(latest_header));
    CHECK(error_of([&] { const latest_bytes_reader wrong(at, small, 100'000); }) == EPROTO);
}

TEST_CASE("a reader may come before its writer", "[latest][threads]") {
    door at = test_door();
    const std::string name = unique_name();
    gate seen;
    std::thread writing([&] {
        door own = test_door();
        std::this_thread::sleep_for(20ms);
        latest_writer<int> out(own, name, with_source());
        out.write(3);
        seen.wait();
    });
    latest_reader<int> in(at, name, soon);
    const auto got = in.wait_newer(0, soon);
    seen.open();
    writing.join();
    REQUIRE(got);
    CHECK(got->value == 3);
}

TEST_CASE("values are whole while a writer writes as fast as it can", "[latest][fork]") {
    const std::string name = unique_name();
    gate started;
    child writing = endless_writer(name, 1, started);
    started.wait();
    door at = test_door();
    latest_reader<sample> in(at, name);
    std::uint64_t last = 0;
    std::uint64_t wrong = 0;
    std::uint64_t failed = 0;
    const std::uint64_t rounds = scaled(50'000);
    for (std::uint64_t i = 0; i < rounds || last < 100; ++i) {
        try {
            const auto got = in.read();
            if (!got.value.is_whole() || got.value.words[0] != got.sequence || got.sequence < last)
                ++wrong;
            last = got.sequence;
        } catch (const error& tired) {
            if (tired.error_number() != EAGAIN) ++wrong;
            ++failed;
        }
    }
    CHECK(wrong == 0);
    CHECK(failed < rounds);
    // Its death, at whatever instruction, leaves a whole value.
    writing.kill();
    CHECK(writing.wait().signaled(9));
    const auto final = in.read();
    CHECK(final.value.is_whole());
    CHECK(final.value.words[0] == final.sequence);
    CHECK(error_of([&] { (void)in.wait_newer(final.sequence, soon); }) == EPIPE);
    CHECK(in.read().sequence == final.sequence);
    CHECK_FALSE(in.has_writer());
}

TEST_CASE("who waits is woken by a write, with each new value or a later one",
          "[latest][threads]") {
    for (const int readers : {1, 3}) {
        door at = test_door();
        const std::string name = unique_name();
        latest_writer<sample> out(at, name, with_source());
        const std::uint64_t values = 1 + scaled(30'000) / static_cast<unsigned>(readers * readers);
        std::atomic<std::uint64_t> seen[3] = {};
        std::vector<std::thread> threads;
        for (int r = 0; r < readers; ++r)
            threads.emplace_back([&, r] {
                door own = test_door();
                latest_reader<sample> in(own, name);
                std::uint64_t last = 0;
                while (last < values) {
                    const auto got = in.wait_newer(last, soon);
                    CHECK_IN_THREAD(got && got->sequence > last && got->value.is_whole());
                    last = got->sequence;
                    seen[r] = last;
                }
            });
        // Each value is seen by all before the next is written, at every moment of their way to
        // sleep: a lost wake-up is a timeout.
        std::mt19937 random(3);
        for (std::uint64_t i = 1; i <= values; ++i) {
            for (std::uint32_t pause = random() % 512; pause > 0; --pause) (void)seen[0].load();
            out.write(sample::of(i));
            for (int r = 0; r < readers; ++r)
                while (seen[r] < i) std::this_thread::yield();
        }
        for (std::thread& each : threads) each.join();
        CHECK(out.sequence() == values);
    }
}

TEST_CASE("a write rings nobody who does not sleep", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_writer<int> out(at, name, with_source());
    latest_reader<int> in(at, name);
    endpoint watching = at.attach(name, {.read_only = true});
    const auto rung = [&] {
        const auto state = watching.slot_state(1);
        return state.rung[latest_vector];
    };
    std::this_thread::sleep_for(20ms);
    for (int i = 0; i < 1000; ++i) out.write(i);
    CHECK(in.read().value == 999);
    CHECK(rung() == 0);
    CHECK_FALSE(in.wait_newer(in.read().sequence, 1ms));
    out.write(0);
    CHECK(rung() <= 1);
}

TEST_CASE("a deadline ends a wait for what nobody writes", "[latest]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_writer<int> out(at, name, with_source());
    latest_reader<int> in(at, name);
    CHECK_FALSE(in.wait_newer(0, 0s));
    CHECK_FALSE(in.wait_newer(0, 10ms));
    out.write(1);
    CHECK_FALSE(in.wait_newer(1, 30ms));
    CHECK(in.wait_newer(0, 0s)->value == 1);
}

TEST_CASE("a sleeper is told of its writer's death", "[latest][fork][threads]") {
    const std::string name = unique_name();
    gate written;
    child writing([&] {
        door at = test_door();
        latest_writer<int> out(at, name, with_source());
        out.write(1);
        written.open();
        for (;;) ::pause();
        return 0;
    });
    written.wait();
    door at = test_door();
    latest_reader<int> in(at, name);
    blocking_thread sleeper(
        [&] { CHECK_IN_THREAD(error_of([&] { (void)in.wait_newer(1, soon); }) == EPIPE); });
    sleeper.wait_asleep();
    writing.kill();
    sleeper.join();
    CHECK(in.read().value == 1);
    CHECK(writing.wait().signaled(9));
}

TEST_CASE("a new writer goes on where a dead one was", "[latest][fork]") {
    const std::string name = unique_name();
    door at = test_door();
    std::optional<latest_reader<sample>> in;
    std::uint64_t last = 0;
    for (int life = 0; life < 4; ++life) {
        gate started;
        child writing = endless_writer(name, last + 1, started);
        started.wait();
        if (!in) in.emplace(at, name);
        in->wait_writer(soon);
        CHECK(in->has_writer());
        for (int i = 0; i < 20; ++i) {
            const auto got = in->wait_newer(last, soon);
            REQUIRE(got);
            CHECK(got->sequence > last);
            CHECK(got->value.is_whole());
            CHECK(got->value.words[0] == got->sequence);
            last = got->sequence;
        }
        writing.kill();
        CHECK(writing.wait().signaled(9));
        last = in->read().sequence;
        CHECK(error_of([&] { (void)in->wait_newer(last, soon); }) == EPIPE);
    }
    CHECK(error_of([&] { in->wait_writer(10ms); }) == ETIMEDOUT);
    // The name is free once all have left.
    in.reset();
    latest_writer<int> other(at, name, with_source());
    CHECK(other.write(1) == 1);
}

TEST_CASE("a reader that sleeps hears of a new writer", "[latest][threads]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<latest_writer<int>> out(std::in_place, at, name, with_source());
    out->write(1);
    latest_reader<int> in(at, name);
    out.reset();
    blocking_thread sleeper([&] {
        in.wait_writer(soon);
        const auto got = in.wait_newer(1, soon);
        CHECK_IN_THREAD(got && got->value == 2 && got->sequence == 2);
    });
    sleeper.wait_asleep();
    out.emplace(at, name, with_source(), soon);
    CHECK(out->sequence() == 1);
    out->write(2);
    sleeper.join();
}

TEST_CASE("fd() is readable when there is something newer", "[latest][poll]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<latest_writer<int>> out(std::in_place, at, name, with_source());
    latest_reader<int> in(at, name);
    const int fd = in.fd();
    std::uint64_t last = 0;
    const std::uint64_t rounds = 1 + scaled(300);
    for (std::uint64_t i = 1; i <= rounds; ++i) {
        const auto nothing = in.read_if_newer(last);
        if (nothing) last = nothing->sequence;
        out->write(static_cast<int>(i));
        // Readable, as often as it takes until it has been seen.
        while (last < i) {
            REQUIRE(becomes_readable(fd));
            if (const auto got = in.read_if_newer(last)) {
                last = got->sequence;
                CHECK(got->value == static_cast<int>(i));
            }
        }
    }
    // Once nothing is new and the writer knows its reader, it stays silent.
    std::this_thread::sleep_for(20ms);
    out->write(0);
    last = 0;
    while (const auto got = in.read_if_newer(last)) last = got->sequence;
    const auto deadline = std::chrono::steady_clock::now() + soon;
    while (becomes_readable(fd, 20ms)) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        CHECK_FALSE(in.read_if_newer(last));
    }
    // A death is news.
    out.reset();
    CHECK(becomes_readable(fd));
    CHECK_FALSE(in.read_if_newer(last));
    CHECK_FALSE(in.has_writer());
}

TEST_CASE("a reader that dies harms nobody, and its place is free again", "[latest][fork]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_writer<int> out(at, name, with_source(1));
    for (int life = 0; life < 3; ++life) {
        gate asleep;
        child reading([&] {
            door own = test_door();
            latest_reader<int> in(own, name);
            asleep.open();
            std::uint64_t last = out.sequence();
            for (;;)
                if (const auto got = in.wait_newer(last)) last = got->sequence;
            return 0;
        });
        asleep.wait();
        for (int i = 0; i < 100; ++i) out.write(i);
        std::this_thread::sleep_for(15ms);
        out.write(1);
        reading.kill();
        CHECK(reading.wait().signaled(9));
        for (int i = 0; i < 100; ++i) out.write(i);
    }
    latest_reader<int> in(at, name);
    CHECK(in.read().value == 99);
}

// ---- liars ----

TEST_CASE("a hostile writer makes reads fail, not hang", "[latest][hostile]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_writer<std::uint64_t> out(at, name, with_source());
    latest_reader<std::uint64_t> in(at, name);
    out.write(1);
    // By another endpoint that may write, as the writer itself could.
    endpoint liar = at.attach(name);
    auto* const data = liar.data().data();
    auto& head = const_cast<latest_header&>(header_of(liar));
    auto& copy = *reinterpret_cast<latest_copy*>(data + latest_copy_offset(8, 1));
    SECTION("a copy that is being written for ever") {
        copy.sequence = 1;
        CHECK(error_of([&] { (void)in.read(); }) == EAGAIN);
        CHECK(error_of([&] { (void)in.wait_newer(0, 10ms); }) == EAGAIN);
    }
    SECTION("a latest that is nowhere") {
        head.latest = 2;
        CHECK(error_of([&] { (void)in.read(); }) == EAGAIN);
        for (const std::uint64_t nowhere : {~std::uint64_t{0}, std::uint64_t{1} << 63}) {
            head.latest = nowhere;
            CHECK(error_of([&] { (void)in.read(); }) == EPROTO);
        }
    }
    SECTION("lengths") {
        copy.bytes = 9;
        CHECK(error_of([&] { (void)in.read(); }) == EPROTO);
        copy.bytes = ~std::uint64_t{0};
        CHECK(error_of([&] { (void)in.read(); }) == EPROTO);
        copy.bytes = 3;
        CHECK(error_of([&] { (void)in.read(); }) == EPROTO);
    }
    SECTION("known and writer") {
        for (auto& each : head.known) each = 77;
        head.writer = 99;
        CHECK(in.read().value == 1);
        CHECK(error_of([&] { (void)in.wait_newer(1, 10ms); }) == EPIPE);
        CHECK_FALSE(in.has_writer());
    }
    SECTION("a header that changes") {
        head.magic = 5;
        CHECK(error_of([&] { const latest_reader<std::uint64_t> wrong(at, name); }) == EPROTO);
        head.magic = latest_magic;
        head.version_min = 9;
        head.version_max = 9;
        CHECK(error_of([&] { const latest_reader<std::uint64_t> wrong(at, name); }) ==
              EPROTONOSUPPORT);
        head.version_max = 8;
        CHECK(error_of([&] { const latest_reader<std::uint64_t> wrong(at, name); }) == EPROTO);
        CHECK(in.read().value == 1);
    }
}

TEST_CASE("a reader that sits in slot 0 keeps no writer out", "[latest][hostile]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<latest_writer<std::uint64_t>> out(std::in_place, at, name, with_source());
    out->write(1);
    latest_reader<std::uint64_t> in(at, name);
    out.reset();
    const endpoint squatter = at.attach(name, {.read_only = true, .slot = 0});
    out.emplace(at, name, with_source());
    CHECK(in.has_writer());
    CHECK(error_of([&] { const latest_writer<std::uint64_t> second(at, name, with_source()); }) ==
          EBUSY);
    out->write(2);
    CHECK(in.wait_newer(1, soon)->value == 2);
}

TEST_CASE("a writer does not go on from a number that cannot be", "[latest][hostile]") {
    door at = test_door();
    const std::string name = unique_name();
    std::optional<latest_writer<std::uint64_t>> out(std::in_place, at, name, with_source());
    out->write(1);
    endpoint liar = at.attach(name);
    auto& head = const_cast<latest_header&>(header_of(liar));
    out.reset();
    for (const std::uint64_t number : {~std::uint64_t{0}, latest_max_sequence + 1}) {
        head.latest = number;
        CHECK(error_of([&] { latest_writer<std::uint64_t> no(at, name, with_source()); }) ==
              EPROTO);
    }
    head.latest = 1;
    latest_writer<std::uint64_t> next(at, name, with_source());
    CHECK(next.write(2) == 2);
}

TEST_CASE("a reader that writes is ended", "[latest][hostile][fork]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_writer<std::uint64_t> out(at, name, with_source());
    out.write(7);
    bool in_data = false;
    SECTION("into the value") { in_data = true; }
    SECTION("into the writer's slot") {}
    child bad([&] {
        ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it
        door own = test_door();
        const endpoint mine = own.attach(name, {.read_only = true});
        const std::byte* const place =
            in_data ? mine.data().data() + latest_copy_offset(8, 1) : mine.memory(0).data();
        *const_cast<volatile std::byte*>(place) = {};
        return 0;
    });
    CHECK(bad.wait().signaled(SIGSEGV));
    latest_reader<std::uint64_t> in(at, name);
    CHECK(in.read().value == 7);
}

TEST_CASE("whatever a writer writes, its readers fail or go on", "[latest][hostile][threads]") {
    door at = test_door();
    const std::string name = unique_name();
    latest_bytes_writer out(at, name, 300, with_source());
    out.write("something");
    endpoint liar = at.attach(name);
    auto* const words = reinterpret_cast<shared_u64*>(liar.data().data());
    vandal lying([&](xorshift64& random) {
        const std::uint64_t at_word =
            16 + random() % (latest_data_bytes(300) / 8 - 16);  // not the magic
        const std::uint64_t values[] = {0,
                                        ~std::uint64_t{0},
                                        random(),
                                        random() % 400,
                                        words[at_word] + 2,
                                        words[16] * 2,
                                        words[16] + 1};
        words[random() % 3 == 0 ? 16 : at_word] = values[random() % 7];
        std::this_thread::yield();
    });
    latest_bytes_reader in(at, name, 300);
    std::set<int> seen;
    std::vector<std::byte> got;
    const std::uint64_t rounds = scaled(3000);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        seen.insert(error_of([&] { (void)in.read(got); }));
        seen.insert(error_of([&] { (void)in.read_if_newer(got, i); }));
        if (i % 10 == 0) seen.insert(error_of([&] { (void)in.wait_newer(got, i, 1ms); }));
    }
    lying.stop();
    for (const int code : seen) {
        INFO(code);
        CHECK(std::set<int>{0, EPROTO, EAGAIN, ENODATA, EPIPE, EMSGSIZE}.count(code) == 1);
    }
}

TEST_CASE("readers of another user read, and cannot write", "[latest][user]") {
    if (skipped_without_root()) return;
    const public_doors doors;
    door at = doors.open();
    const std::string name = unique_name();
    latest_options options = with_source();
    options.mode = 0644;
    latest_writer<int> out(at, name, options);
    out.write(42);
    child other = child::as_user(1234, [&] {
        door own = doors.open();
        latest_reader<int> in(own, name);
        EXPECT_CHILD(in.read().value == 42);
        EXPECT_CHILD(error_of([&] { (void)own.attach(name); }) == EACCES);
        EXPECT_CHILD(error_of([&] { const latest_writer<int> no(own, "0/" + name, {}, 0s); }) != 0);
        return 0;
    });
    CHECK(other.wait().exited());
}
