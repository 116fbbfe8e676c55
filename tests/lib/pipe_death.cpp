// SPDX-License-Identifier: MIT
// Pipes whose other process is killed before, during and after each operation, is
// stopped for a while, or forks: everything that was written is read, a cut stream is
// an error, and nobody waits for the dead.
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <functional>

#include "lib/stream_support.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t capacity = 10'000;

// A process that has one end of a pipe, does something with it and then sleeps until
// it is killed. `done` is open once it has.
class partner {
public:
    partner(const service& local, gate& done, const std::function<void(endpoint)>& act)
        : process_([&] {
              act(local.connect());
              done.open();
              std::this_thread::sleep_for(soon);
              return 0;
          }) {}
    void kill_now() {
        process_.kill();
        CHECK(process_.wait().signaled(SIGKILL));
    }
    child& process() { return process_; }

private:
    child process_;
};

}  // namespace

TEST_CASE("a writer that is killed leaves what it had written, and no clean end",
          "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    gate done;
    const std::string text = pattern(1, 5000);
    SECTION("before it opened its end") {
        partner peer(local, done, [&](endpoint end) {
            done.open();
            std::this_thread::sleep_for(soon);
            end.close();
        });
        pipe_reader reader(local.accept());
        done.wait();
        SECTION("known") { peer.kill_now(); }
        SECTION("while it is read") {
            std::thread killer([&] {
                peer.process().wait_asleep();
                peer.process().kill();
            });
            CHECK(error_of([&] { read_once(reader); }) == EPIPE);
            killer.join();
        }
        CHECK(read_until_error(reader) == std::pair(std::string(), EPIPE));
    }
    SECTION("before it wrote") {
        partner peer(local, done, [&](endpoint end) {
            const pipe_writer writer(std::move(end));
            done.open();
            std::this_thread::sleep_for(soon);
        });
        pipe_reader reader(local.accept());
        done.wait();
        int error = 0;
        blocking_thread reading([&] { error = error_of([&] { read_once(reader); }); });
        reading.wait_asleep();
        peer.kill_now();
        reading.join();
        CHECK(error == EPIPE);
        CHECK(read_until_error(reader) == std::pair(std::string(), EPIPE));
    }
    SECTION("after it wrote") {
        partner peer(local, done, [&](endpoint end) {
            pipe_writer writer(std::move(end));
            writer.write(text, soon);
            done.open();
            std::this_thread::sleep_for(soon);
        });
        pipe_reader reader(local.accept());
        done.wait();
        peer.kill_now();
        CHECK(read_until_error(reader) == std::pair(text, EPIPE));
        std::byte one[1];
        CHECK(error_of([&] { (void)reader.try_read(one); }) == EPIPE);
        CHECK(error_of([&] { (void)reader.read_exact(one, soon); }) == EPIPE);
    }
    SECTION("between reserve and commit") {
        partner peer(local, done, [&](endpoint end) {
            pipe_writer writer(std::move(end));
            writer.write(text, soon);
            auto room = writer.reserve(100, soon);
            std::fill(room.begin(), room.end(), std::byte{'?'});
            done.open();
            std::this_thread::sleep_for(soon);
        });
        pipe_reader reader(local.accept());
        done.wait();
        peer.kill_now();
        CHECK(read_until_error(reader) == std::pair(text, EPIPE));
    }
    SECTION("asleep in a write for which there is no room") {
        const std::string much = pattern(2, 1 << 20);
        partner peer(local, done, [&](endpoint end) {
            pipe_writer writer(std::move(end));
            done.open();
            writer.write(much, soon);
        });
        pipe_reader reader(local.accept());
        done.wait();
        while (reader.readable() < capacity) std::this_thread::yield();
        peer.process().wait_asleep();
        peer.kill_now();
        const auto [got, error] = read_until_error(reader);
        CHECK(error == EPIPE);
        CHECK(got.size() >= capacity);
        CHECK(got == much.substr(0, got.size()));
    }
}

TEST_CASE("a writer that is killed at any moment is never taken for one that finished",
          "[pipe][death][fork]") {
    for (std::uint64_t round = 0; round < scaled(40); ++round) {
        service local(stream_slot_bytes(capacity));
        gate started;
        child peer([&] {
            pipe_writer writer(local.connect());
            started.open();
            for (std::uint64_t i = 0;; ++i) writer.write(i, soon);
            return 0;
        });
        pipe_reader reader(local.accept());
        started.wait();
        std::thread killer([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(round * 137 % 3000));
            peer.kill();
        });
        std::uint64_t next = 0;
        std::uint64_t wrong = 0;
        std::uint64_t number = 0;
        const int error = error_of([&] {
            std::size_t done = 0;
            for (;;) {
                if (!reader.read_exact(std::as_writable_bytes(std::span(&number, 1)), done, soon))
                    return;
                if (number != next++) ++wrong;
            }
        });
        killer.join();
        CHECK(peer.wait().signaled(SIGKILL));
        CHECK(error == EPIPE);
        CHECK(wrong == 0);
    }
}

TEST_CASE("a writer that finished and died is read to its end", "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    child peer([&] {
        pipe_writer writer(local.connect());
        writer.write("all of it", soon);
        return 0;
    });
    pipe_reader reader(local.accept());
    CHECK(peer.wait().exited());
    CHECK(read_until_error(reader) == std::pair(std::string("all of it"), 0));
}

TEST_CASE("a process that exits without closing has not finished", "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    child peer([&] {
        auto* const writer = new pipe_writer(local.connect());
        writer->write("half", soon);
        ::_exit(0);
        return 0;
    });
    pipe_reader reader(local.accept());
    CHECK(peer.wait().exited());
    CHECK(read_until_error(reader) == std::pair(std::string("half"), EPIPE));
}

TEST_CASE("a reader that is killed ends its writer's waits", "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    gate done;
    const std::string much(1 << 20, 'x');
    int error = 0;
    SECTION("before it opened its end") {
        partner peer(local, done, [](endpoint end) {
            std::this_thread::sleep_for(soon);
            end.close();
        });
        pipe_writer writer(local.accept());
        blocking_thread writing([&] { error = error_of([&] { writer.write(much, soon); }); });
        writing.wait_asleep();
        peer.kill_now();
        writing.join();
        CHECK(error == EPIPE);
        CHECK(error_of([&] { writer.write("x", soon); }) == EPIPE);
        CHECK(error_of([&] { writer.drain(soon); }) == EPIPE);
        CHECK(error_of([&] { (void)writer.try_write("x"); }) == EPIPE);
    }
    SECTION("before it read") {
        partner peer(local, done, [&](endpoint end) {
            const pipe_reader reader(std::move(end));
            done.open();
            std::this_thread::sleep_for(soon);
        });
        pipe_writer writer(local.accept());
        done.wait();
        blocking_thread writing([&] { error = error_of([&] { writer.write(much, soon); }); });
        writing.wait_asleep();
        peer.kill_now();
        writing.join();
        CHECK(error == EPIPE);
        CHECK(error_of([&] { (void)writer.reserve(1, soon); }) == EPIPE);
    }
    SECTION("asleep in a read") {
        partner peer(local, done, [&](endpoint end) {
            pipe_reader reader(std::move(end));
            done.open();
            read_all(reader);
        });
        pipe_writer writer(local.accept());
        done.wait();
        writer.write("x", soon);
        writer.drain(soon);
        peer.process().wait_asleep();
        peer.kill_now();
        // A write that finds room may succeed until the death is noticed.
        CHECK(error_of([&] { writer.write(much, soon); }) == EPIPE);
    }
    SECTION("between peek and consume") {
        partner peer(local, done, [&](endpoint end) {
            pipe_reader reader(std::move(end));
            (void)reader.peek(soon);
            done.open();
            std::this_thread::sleep_for(soon);
        });
        pipe_writer writer(local.accept());
        writer.write("x", soon);
        done.wait();
        blocking_thread draining([&] { error = error_of([&] { writer.drain(soon); }); });
        draining.wait_asleep();
        peer.kill_now();
        draining.join();
        CHECK(error == EPIPE);
    }
    SECTION("in the middle of reading") {
        partner peer(local, done, [&](endpoint end) {
            pipe_reader reader(std::move(end));
            done.open();
            read_all(reader);
        });
        pipe_writer writer(local.accept());
        done.wait();
        std::thread killer([&] {
            std::this_thread::sleep_for(5ms);
            peer.process().kill();
        });
        error = error_of([&] {
            for (;;) writer.write(much, soon);
        });
        killer.join();
        CHECK(error == EPIPE);
    }
}

TEST_CASE("a reader that is stopped for a while gets everything when it goes on",
          "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    const std::string text = pattern(3, scaled(1'000'000));
    child peer([&] {
        pipe_reader reader(local.connect());
        EXPECT_CHILD(read_all(reader) == text);
        return 0;
    });
    pipe_writer writer(local.accept());
    std::size_t at = 0;
    for (int stop = 0; stop < 3; ++stop) {
        peer.kill(SIGSTOP);
        peer.wait_asleep();
        blocking_thread writing([&] {
            const std::size_t some = text.size() / 3 + (stop == 2 ? text.size() % 3 : 0);
            writer.write(std::string_view(text).substr(at, some), soon);
            at += some;
        });
        writing.wait_asleep_or_ended();  // a small scale's part has room
        peer.kill(SIGCONT);
        writing.join();
    }
    writer.close();
    CHECK(peer.wait().exited());
}

TEST_CASE("a forked child that destroys its copy ends nothing", "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    auto ends = local.pair();
    auto writer = std::make_unique<pipe_writer>(std::move(ends.first));
    pipe_reader reader(std::move(ends.second));
    writer->write("before", soon);
    child copy([&] {
        writer.reset();
        return 0;
    });
    CHECK(copy.wait().exited());
    writer->write(" after", soon);
    std::string both(12, '\0');
    CHECK(reader.read_exact(room_of(both), soon));
    CHECK(both == "before after");
    std::byte one[1];
    CHECK_FALSE(reader.try_read(one));
    writer.reset();
    CHECK(read_once(reader).empty());
}

TEST_CASE("a forked child that uses its copy is refused, each time anew", "[pipe][death][fork]") {
    service local(stream_slot_bytes(capacity));
    auto of_full = local.pair();
    auto of_empty = local.pair();
    pipe_writer full(std::move(of_full.first));
    pipe_reader empty(std::move(of_empty.first));
    // Both are left armed, which whoever comes next has to undo.
    while (full.try_write(std::string(1024, 'x'))) {
    }
    std::byte one[1];
    REQUIRE_FALSE(empty.try_read(one));
    child copy([&] {
        for (int i = 0; i < 2; ++i) {
            EXPECT_CHILD(error_of([&] { full.write("y", 0s); }) == EPERM);
            EXPECT_CHILD(error_of([&] { (void)full.try_reserve(1); }) == EPERM);
            EXPECT_CHILD(error_of([&] { (void)empty.read(one, 0s); }) == EPERM);
            EXPECT_CHILD(error_of([&] { (void)empty.try_peek(); }) == EPERM);
        }
        return 0;
    });
    CHECK(copy.wait().exited());
}
