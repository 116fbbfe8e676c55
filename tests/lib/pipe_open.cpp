// SPDX-License-Identifier: MIT
// How the two ends of a pipe find each other at a name: in any order, at the same
// moment, after one that gave up or died, and what a third one is told.

#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <future>
#include <thread>

#include "lib/stream_support.hpp"
#include "support/counted_signal.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

pipe_options on_source() {
    pipe_options options;
    options.source = source();
    return options;
}

pipe_writer writer_at(const std::string& name, deadline until = soon) {
    door local = test_door();
    return open_pipe_writer(local, name, on_source(), until);
}

pipe_reader reader_at(const std::string& name, deadline until = soon) {
    door local = test_door();
    return open_pipe_reader(local, name, on_source(), until);
}

}  // namespace

TEST_CASE("whichever end of a pipe is opened first waits for the other", "[pipe][open]") {
    const std::string name = unique_name();
    std::optional<pipe_writer> writer;
    std::optional<pipe_reader> reader;
    SECTION("writer first") {
        blocking_thread opening([&] { writer.emplace(writer_at(name)); });
        opening.wait_asleep();
        reader.emplace(reader_at(name));
    }
    SECTION("reader first") {
        blocking_thread opening([&] { reader.emplace(reader_at(name)); });
        opening.wait_asleep();
        writer.emplace(writer_at(name));
    }
    REQUIRE(writer);
    REQUIRE(reader);
    CHECK(writer->capacity() >= pipe_options{}.capacity_bytes);
    CHECK(writer->peer_info().pid == ::getpid());
    writer->write("met", soon);
    writer->close();
    CHECK(read_all(*reader) == "met");
}

TEST_CASE("a pipe has the capacity that who came first asked for", "[pipe][open]") {
    const std::string name = unique_name();
    std::optional<pipe_reader> reader;
    blocking_thread opening([&] {
        door local = test_door();
        pipe_options options = on_source();
        options.capacity_bytes = 300'000;
        reader.emplace(open_pipe_reader(local, name, options, soon));
    });
    opening.wait_asleep();
    const pipe_writer writer = writer_at(name);
    opening.join();
    CHECK(writer.capacity() >= 300'000);
    CHECK(writer.capacity() < 310'000);
}

TEST_CASE("two ends of a pipe that are opened at the same moment meet", "[pipe][open][fork]") {
    const std::string name = unique_name();
    for (std::uint64_t round = 0; round < scaled(50); ++round) {
        gate both;
        child peer([&] {
            both.wait();
            pipe_writer writer = writer_at(name);
            writer.write(round, soon);
            return 0;
        });
        both.open();
        pipe_reader reader = reader_at(name);
        std::uint64_t got = 0;
        REQUIRE(reader.read_exact(std::as_writable_bytes(std::span(&got, 1)), soon));
        CHECK(got == round);
        CHECK(read_once(reader).empty());
        CHECK(peer.wait().exited());
    }
}

TEST_CASE("opening a pipe alone ends at the deadline, in words", "[pipe][open]") {
    const std::string name = unique_name();
    for (int i = 0; i < 2; ++i) {
        try {
            const pipe_writer writer = writer_at(name, 30ms);
            FAIL("nobody was there");
        } catch (const error& wrong) {
            CHECK(wrong.is_timeout());
            CHECK(std::string(wrong.what()).find("nobody opened the other end") !=
                  std::string::npos);
        }
        CHECK(error_of([&] { reader_at(name, 0s); }) == ETIMEDOUT);
    }
    door local = test_door();
    const int refused =
        error_of([&] { (void)open_pipe_reader(local, name, {.source = 4711}, soon); });
    CHECK((refused == EINVAL || refused == EOPNOTSUPP));
}

TEST_CASE("one that gave up does not stand in the way of the next two", "[pipe][open]") {
    const std::string name = unique_name();
    CHECK(error_of([&] { reader_at(name, 10ms); }) == ETIMEDOUT);
    auto opening = std::async(std::launch::async, [&] { return reader_at(name); });
    pipe_writer writer = writer_at(name);
    pipe_reader reader = opening.get();
    writer.write("x", soon);
    CHECK(read_once(reader) == "x");
}

TEST_CASE("one that was killed while it waited does not, either", "[pipe][open][fork]") {
    const std::string name = unique_name();
    SECTION("while it listened") {
        child first([&] {
            reader_at(name);
            return 0;
        });
        first.wait_asleep();
        first.kill();
        CHECK(first.wait().signaled(SIGKILL));
    }
    SECTION("accepted, before it opened its end") {
        // It connects to the writer's name as another end would, and goes.
        std::optional<pipe_writer> writer;
        blocking_thread opening([&] { writer.emplace(writer_at(name)); });
        opening.wait_asleep();
        {
            door local = test_door();
            const endpoint passing = detail::connect_through_signals(local, name, soon);
        }
        pipe_reader reader = reader_at(name);
        opening.join();
        writer->write("x", soon);
        CHECK(read_once(reader) == "x");
    }
    auto opening = std::async(std::launch::async, [&] { return reader_at(name); });
    pipe_writer writer = writer_at(name);
    pipe_reader reader = opening.get();
    writer.write("x", soon);
    CHECK(read_once(reader) == "x");
}

TEST_CASE("a third one at a pipe's name meets nobody, and the pipe goes on", "[pipe][open]") {
    const std::string name = unique_name();
    auto opening = std::async(std::launch::async, [&] { return reader_at(name); });
    pipe_writer writer = writer_at(name);
    pipe_reader reader = opening.get();
    CHECK(error_of([&] { writer_at(name, 30ms); }) == ETIMEDOUT);
    CHECK(error_of([&] { reader_at(name, 30ms); }) == ETIMEDOUT);
    writer.write("x", soon);
    CHECK(read_once(reader) == "x");
    // Two more make a pipe of their own.
    auto again = std::async(std::launch::async, [&] { return reader_at(name); });
    pipe_writer second = writer_at(name);
    pipe_reader second_reader = again.get();
    second.write("y", soon);
    CHECK(read_once(second_reader) == "y");
    CHECK(reader.readable() == 0);
}

TEST_CASE("of two readers that come to one writer one waits for the next writer",
          "[pipe][open][fork]") {
    const std::string name = unique_name();
    for (std::uint64_t round = 0; round < scaled(20); ++round) {
        std::optional<pipe_writer> first;
        std::vector<child> readers;
        // Forked before, for a child of whoever listens would listen as well.
        gate listening;
        for (int i = 0; i < 2; ++i) {
            readers.emplace_back([&] {
                listening.wait();
                pipe_reader reader = reader_at(name);
                EXPECT_CHILD(read_all(reader) == "for one");
                return 0;
            });
        }
        blocking_thread opening([&] { first.emplace(writer_at(name)); });
        opening.wait_asleep();
        listening.open();
        opening.join();
        pipe_writer second = writer_at(name);
        first->write("for one", soon);
        second.write("for one", soon);
        first->close();
        second.close();
        for (child& reader : readers) CHECK(reader.wait().exited());
    }
}

TEST_CASE("two that open the same end are told so, both", "[pipe][open]") {
    const std::string name = unique_name();
    const auto opens = [&](bool writes) {
        return std::async(std::launch::async, [&, writes] {
            return error_of([&] {
                if (writes)
                    writer_at(name);
                else
                    reader_at(name);
            });
        });
    };
    for (const bool writes : {true, false}) {
        auto first = opens(writes);
        auto second = opens(writes);
        CHECK(first.get() == EPROTO);
        CHECK(second.get() == EPROTO);
    }
}

TEST_CASE("a name that is something else is refused", "[pipe][open]") {
    door local = test_door();
    const std::string name = unique_name();
    SECTION("a segment") {
        create_options options;
        options.source = source();
        const endpoint segment = local.create(name, options);
        CHECK(error_of([&] { writer_at(name); }) == EPROTOTYPE);
    }
    SECTION("a channel") {
        listen_options options;
        options.slot_bytes = channel_slot_bytes(1000);
        options.source = source();
        listener names = local.listen(name, options);
        int error = 0;
        blocking_thread opening([&] { error = error_of([&] { writer_at(name, forever); }); });
        endpoint accepted = names.accept(soon);
        opening.wait_asleep();
        const channel wrong(std::move(accepted));
        opening.join();
        CHECK(error == EPROTO);
    }
    SECTION("a listener that does not accept") {
        listen_options options;
        options.source = source();
        const listener names = local.listen(name, options);
        CHECK(error_of([&] { writer_at(name, 30ms); }) == ETIMEDOUT);
    }
    SECTION("one whose other end always dies first") {
        listen_options options;
        options.slot_bytes = stream_slot_bytes(4096);
        options.source = source();
        listener names = local.listen(name, options);
        std::atomic<bool> over{false};
        blocking_thread closing([&] {
            while (!over) {
                (void)names.try_accept();
                std::this_thread::sleep_for(1ms);
            }
        });
        CHECK(error_of([&] { writer_at(name, 50ms); }) == ETIMEDOUT);
        over = true;
    }
    SECTION("no name at all") {
        CHECK(error_of([&] { writer_at("a/b/c"); }) == EINVAL);
    }
}

TEST_CASE("signal handlers run while a pipe is opened, and it waits on", "[pipe][open]") {
    counted_signal signals;
    const std::string name = unique_name();
    std::optional<pipe_reader> reader;
    blocking_thread opening([&] { reader.emplace(reader_at(name)); });
    for (int i = 0; i < 5; ++i) {
        opening.wait_asleep();
        signals.interrupt(opening.handle());
    }
    CHECK_FALSE(opening.ended());
    pipe_writer writer = writer_at(name);
    opening.join();
    writer.write("x", soon);
    CHECK(read_once(*reader) == "x");
}
