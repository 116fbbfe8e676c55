// SPDX-License-Identifier: MIT
// What a wait_set can wait for: each kind of source, and timers.
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/pipe.hpp>
#include <ipcdoor/semaphore.hpp>
#include <ipcdoor/wait_set.hpp>

#include "lib/lib_support.hpp"
#include "lib/wait_set_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

pipe_reader reader_of(endpoint end) { return pipe_reader(std::move(end)); }

}  // namespace

// ---- any: each kind ---------------------------------------------------------

TEST_CASE("a wait_set takes messages, replies in between, and tells of the peer's death",
          "[wait_set][fork]") {
    service local;
    gate said;
    child peer([&] {
        channel to(local.connect());
        to.send("one", soon);
        to.send("two", {.priority = 3}, soon);
        const message asked = to.receive(soon);
        EXPECT_CHILD(asked.text() == "now");
        to.send("three", soon);
        said.open();
        ::pause();
        return 0;
    });
    channel from(local.accept());
    message got;
    wait_set set;
    const source_id id = set.add(on_message(from, got));
    std::vector<std::string> texts;
    for (int i = 0; i < 2; ++i) {
        CHECK(set.wait_any(soon) == wait_report{id, 0});
        texts.emplace_back(got.text());
    }
    CHECK_FALSE(set.try_any());
    from.send("now", soon);
    CHECK(set.wait_any(soon) == wait_report{id, 0});
    texts.emplace_back(got.text());
    std::sort(texts.begin(), texts.end());
    CHECK(texts == std::vector<std::string>{"one", "three", "two"});
    said.wait();
    CHECK_FALSE(set.try_any());
    peer.kill();
    CHECK(set.wait_any(soon) == wait_report{id, EPIPE});
    CHECK(set.failure(id)->is_peer_death());
    // Once.
    CHECK(error_of([&] { (void)set.wait_any(20ms); }) == ETIMEDOUT);
    CHECK(error_of([&] { set.wait_all(soon); }) == EPIPE);
    // Unless it is asked for again.
    set.resume(id);
    CHECK(set.wait_any(soon) == wait_report{id, EPIPE});
    CHECK_FALSE(set.remove(id));
    CHECK(set.size() == 0);
}

TEST_CASE("a wait_set takes what comes to a mailbox, whoever leaves it", "[wait_set][fork]") {
    door at = test_door();
    const std::string name = unique_name();
    mailbox box(at, name, {.source = source()});
    gate sent;
    std::vector<child> senders;
    for (int i = 0; i < 3; ++i) {
        senders.emplace_back([&] {
            door own = test_door();
            channel to(own.connect(name, soon));
            to.send("hello", soon);
            sent.wait();
            return 0;
        });
    }
    delivery got;
    wait_set set;
    const source_id id = set.add(on_message(box, got));
    std::map<sender_id, int> from;
    for (int i = 0; i < 3; ++i) {
        CHECK(set.wait_any(soon) == wait_report{id, 0});
        CHECK(got.content.text() == "hello");
        ++from[got.from];
    }
    CHECK(from.size() == 3);
    senders[0].kill();
    sent.open();
    for (child& one : senders) (void)one.wait();
    // Deaths of senders are the mailbox's business, and no reports.
    while (box.senders() != 0) CHECK_FALSE(set.try_any());
    box.close();
    CHECK(set.wait_any(soon) == wait_report{id, ECANCELED});
}

TEST_CASE("a wait_set takes vectors, and only those of the mask", "[wait_set]") {
    auto ends = connected_pair();
    endpoint& ours = ends.first;
    endpoint& theirs = ends.second;
    const std::uint32_t slot = ours.slot();
    event low{};
    event high{};
    wait_set set;
    const source_id first = set.add(on_event(ours, vectors(8, 9), low));
    const source_id second = set.add(on_event(ours, vectors(10), high));
    CHECK_FALSE(set.try_any());
    for (std::uint64_t round = 1; round <= 3; ++round) {
        theirs.ring(slot, 9, round);
        CHECK(set.wait_any(soon) == wait_report{first, 0});
        CHECK(low.fired == vectors(9));
        CHECK(low.count == 1);
        CHECK(low.value == round);
        theirs.ring(slot, 10, 100 + round);
        CHECK(set.wait_any(soon) == wait_report{second, 0});
        CHECK(high.fired == vectors(10));
        CHECK(high.value == 100 + round);
    }
    theirs.ring(slot, 8);
    theirs.ring(slot, 10);
    std::vector<source_id> both{set.wait_any(soon).id, set.wait_any(soon).id};
    std::sort(both.begin(), both.end());
    CHECK(both == std::vector<source_id>{first, second});
    theirs.close();
    std::vector<wait_report> last{set.wait_any(soon), set.wait_any(soon)};
    for (const wait_report& one : last) CHECK(one.error_number == EPIPE);
    CHECK(last[0].id != last[1].id);
}

TEST_CASE("a wait_set is told of a segment's members", "[wait_set][fork]") {
    door at = test_door();
    const std::string name = unique_name();
    endpoint own = at.create(name, {.slots = 4, .source = source()});
    event lives{};
    event rung{};
    wait_set set;
    const source_id life = set.add(on_event(own, lifecycle_vector, lives));
    // The other one takes none of these.
    const source_id ring = set.add(on_event(own, vectors(12), rung, 0));
    gate leave;
    child member([&] {
        door in_child = test_door();
        endpoint end = in_child.attach(name);
        end.ring(0, 12, 77);
        leave.wait();
        return 0;
    });
    std::map<source_id, int> reports;
    while (reports[life] == 0 || reports[ring] == 0) ++reports[set.wait_any(soon).id];
    CHECK(rung.value == 77);
    member.kill();
    CHECK(set.wait_any(soon) == wait_report{life, 0});
    // On the module the descriptor says for ever that nobody is left. That is no spinning.
    CHECK_FALSE(keeps_busy([&] { (void)set.wait_any(500ms); }));
}

TEST_CASE("a wait_set takes pulses of a port and of a box", "[wait_set][fork]") {
    auto ends = connected_pair();
    endpoint& ours = ends.first;
    endpoint& theirs = ends.second;
    pulse_port in(ours, {.other_vectors = lifecycle_vector});
    pulse_port out(theirs);
    door at = test_door();
    const std::string name = unique_name();
    signal_box_options options;
    options.source = source();
    signal_box box(at, name, options);
    pulse got{};
    received_signal signalled{};
    wait_set set;
    const source_id port_id = set.add(on_pulse(ours, in, got));
    const source_id box_id = set.add(on_signal(box, signalled));
    child sender([&] {
        door own = test_door();
        signal_sender to(own, name, soon);
        EXPECT_CHILD(to.send({.code = 7, .value = 70}));
        return 0;
    });
    CHECK(set.wait_any(soon) == wait_report{box_id, 0});
    CHECK(signalled.what.code == 7);
    CHECK(signalled.sender.pid == sender.pid());
    CHECK(sender.wait().exited());
    for (unsigned i = 0; i < 4; ++i) CHECK(out.send({.code = i, .value = i, .priority = i}));
    for (unsigned i = 4; i-- > 0;) {
        CHECK(set.wait_any(soon) == wait_report{port_id, 0});
        CHECK(got.code == i);
    }
    // A blocked code wakes nobody.
    in.block(codes(3));
    out.send({.code = 3});
    CHECK(error_of([&] { (void)set.wait_any(20ms); }) == ETIMEDOUT);
    in.unblock(codes(3));
    CHECK(set.wait_any(soon) == wait_report{port_id, 0});
    CHECK(got.code == 3);
    theirs.close();
    CHECK(set.wait_any(soon) == wait_report{port_id, EPIPE});
}

TEST_CASE("a wait_set takes connections", "[wait_set][fork]") {
    door at = test_door();
    const std::string name = unique_name();
    const std::string stream_name = unique_name();
    listener names = at.listen(name, {.slot_bytes = channel_slot_bytes(512), .source = source()});
    stream_listener streams(at, stream_name, {.source = source()});
    endpoint accepted;
    std::optional<stream_socket> socket;
    wait_set set;
    const source_id plain = set.add(on_connection(names, accepted));
    const source_id stream = set.add(on_connection(streams, socket));
    CHECK_FALSE(set.try_any());
    child peer([&] {
        door own = test_door();
        channel to(own.connect(name, soon));
        to.send("plain", soon);
        EXPECT_CHILD(to.receive(soon).text() == "next");
        stream_socket out = connect_stream(own, stream_name, {}, soon);
        out.write("stream", soon);
        return 0;
    });
    CHECK(set.wait_any(soon) == wait_report{plain, 0});
    channel from(std::move(accepted));
    CHECK(from.receive(soon).text() == "plain");
    from.send("next", soon);
    CHECK(set.wait_any(soon) == wait_report{stream, 0});
    std::array<std::byte, 6> bytes{};
    CHECK(socket->read_exact(bytes, soon));
    CHECK(peer.wait().exited());
}

TEST_CASE("a wait_set reads and writes streams, to their end", "[wait_set]") {
    auto halves = connected_pair(stream_slot_bytes(4096));
    endpoint& one = halves.first;
    endpoint& other = halves.second;
    stream_socket ours(std::move(one), {.limit_bytes = 4096});
    stream_socket theirs(std::move(other), {.limit_bytes = 4096});
    std::array<std::byte, 100> into{};
    std::size_t bytes = 0;
    const std::string text = pattern(1, 10'000);
    std::size_t written = 0;
    std::size_t done = 0;
    wait_set set;
    const source_id in = set.add(on_bytes(ours, into, bytes));
    source_id out = set.add(on_room(ours, text, written));
    // Until the ring is full.
    while (const auto got = set.try_any()) {
        REQUIRE(*got == wait_report{out, 0});
        REQUIRE(written > 0);
        done += written;
        set.remove(out);
        out = set.add(on_room(ours, std::string_view(text).substr(done), written));
    }
    CHECK(done == 4096);
    theirs.write("hi", soon);
    CHECK(set.wait_any(soon) == wait_report{in, 0});
    CHECK(bytes == 2);
    // The other side reads: there is room again, for which this side waits.
    std::string back(text.size(), '\0');
    std::thread reading(
        [&] { CHECK_IN_THREAD(theirs.read_exact(std::as_writable_bytes(std::span(back)), soon)); });
    while (done < text.size()) {
        REQUIRE(set.wait_any(soon) == wait_report{out, 0});
        done += written;
        set.remove(out);
        if (done < text.size())
            out = set.add(on_room(ours, std::string_view(text).substr(done), written));
    }
    reading.join();
    CHECK(back == text);
    theirs.shutdown_write();
    CHECK(set.wait_any(soon) == wait_report{in, 0});
    CHECK(bytes == 0);
    // The end does not go away.
    CHECK(set.wait_any(soon) == wait_report{in, 0});
}

TEST_CASE("readable and writable are hints, and take nothing", "[wait_set][fork]") {
    service local(stream_slot_bytes(4096));
    gate half;
    child peer([&] {
        pipe_writer out(local.connect());
        out.write("cut ", soon);
        half.wait();
        out.write("short", soon);
        ::raise(SIGKILL);
        return 0;
    });
    pipe_reader in = reader_of(local.accept());
    wait_set set;
    const source_id readable = set.add(on_readable(in));
    CHECK(set.wait_any(soon) == wait_report{readable, 0});
    CHECK(set.wait_any(soon) == wait_report{readable, 0});
    std::string text(4, '\0');
    CHECK(in.read_exact(std::as_writable_bytes(std::span(text)), soon));
    CHECK_FALSE(set.try_any());
    half.open();
    CHECK(set.wait_any(soon) == wait_report{readable, 0});
    text.resize(5);
    CHECK(in.read_exact(std::as_writable_bytes(std::span(text)), soon));
    CHECK(text == "short");
    CHECK(set.wait_any(soon) == wait_report{readable, EPIPE});
    CHECK(peer.wait().signaled(SIGKILL));

    auto halves = connected_pair(stream_slot_bytes(4096));
    endpoint& one = halves.first;
    endpoint& other = halves.second;
    pipe_writer out(std::move(one), {.limit_bytes = 4096});
    std::optional<pipe_reader> sink(reader_of(std::move(other)));
    const source_id writable = set.add(on_writable(out));
    CHECK(set.wait_any(soon) == wait_report{writable, 0});
    CHECK(sink->readable() == 0);
    while (out.try_write(pattern(1, 1000))) {
    }
    CHECK_FALSE(set.try_any());
    std::array<std::byte, 4096> some{};
    CHECK(sink->read(some, soon) > 0);
    CHECK(set.wait_any(soon) == wait_report{writable, 0});
    sink.reset();
    CHECK(set.wait_any(soon) == wait_report{writable, EPIPE});
}

TEST_CASE("a wait_set sends when there is room", "[wait_set]") {
    auto ends = channel_pair(512);
    channel& ours = ends.first;
    channel& theirs = ends.second;
    ours.send("0", soon);
    CHECK(theirs.receive(soon).text() == "0");
    const std::string text = pattern(3, 500);
    wait_set set;
    message got;
    const source_id out = set.add(on_sent(ours, text));
    const source_id in = set.add(on_message(ours, got));
    std::size_t sent = 0;
    while (const auto one = set.try_any()) {
        REQUIRE(*one == wait_report{out, 0});
        ++sent;
    }
    CHECK(sent > 0);
    theirs.send("back", soon);
    CHECK(set.wait_any(soon) == wait_report{in, 0});
    for (std::size_t i = 0; i < sent; ++i) CHECK(theirs.receive(soon).text() == text);
    CHECK(set.wait_any(soon) == wait_report{out, 0});
    CHECK(theirs.receive(soon).text() == text);
    CHECK(error_of([&] { set.wait_all(soon); }) == EOPNOTSUPP);
}

TEST_CASE("a hint is given at first, and while the descriptor is readable", "[wait_set]") {
    auto ends = channel_pair();
    channel& ours = ends.first;
    channel& theirs = ends.second;
    theirs.send("early", soon);
    wait_set set;
    const source_id hint = set.add(on_hint(ours));
    const auto receive_all = [&] {
        int count = 0;
        while (ours.try_receive()) ++count;
        return count;
    };
    CHECK(set.wait_any(soon) == wait_report{hint, 0});
    CHECK(receive_all() == 1);
    CHECK_FALSE(set.try_any());
    theirs.send("later", soon);
    theirs.send("more", soon);
    CHECK(set.wait_any(soon) == wait_report{hint, 0});
    CHECK(receive_all() == 2);
    CHECK_FALSE(set.try_any());
}

TEST_CASE("both kinds of ipcdoor's semaphores are sources", "[wait_set][semaphore]") {
    const std::string name = unique_name();
    door at = test_door();
    semaphore count(at, name + "-count", {.source = source()});
    resource_semaphore units(at, name + "-units", {.units = 1, .source = source()});
    door other = test_door();
    semaphore poster(other, name + "-count", {.source = source()});
    resource_semaphore holder(other, name + "-units", {.source = source()});
    holder.acquire();
    wait_set set;
    const source_id counted = set.add(on_unit(count));
    const source_id unit = set.add(on_unit(units));
    CHECK_FALSE(set.try_any());
    poster.post();
    CHECK(set.wait_any(soon) == wait_report{counted, 0});
    holder.release();
    CHECK(set.wait_any(soon) == wait_report{unit, 0});
    CHECK(units.held() == 1);
    // One alone is not kept.
    poster.post();
    CHECK(error_of([&] { set.wait_all(10ms); }) == ETIMEDOUT);
    CHECK(count.value() == 1);
    units.release();
    set.wait_all(soon);
    CHECK(units.held() == 1);
    CHECK(count.value() == 0);
}

TEST_CASE("ordinary descriptors, eventfds and semaphores are sources as well", "[wait_set]") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    const owned_fd in(ends[0]);
    owned_fd out(ends[1]);
    plain_semaphore units;
    short events = 0;
    short room = 0;
    wait_set set;
    const source_id readable = set.add(on_descriptor(in.get(), POLLIN, events));
    eventfd_in counted_events(set);
    const source_id unit = set.add(on_unit(units));
    CHECK_FALSE(set.try_any());
    REQUIRE(::write(out.get(), "x", 1) == 1);
    // Nothing is taken, so it is reported again.
    CHECK(set.wait_any(soon) == wait_report{readable, 0});
    CHECK(set.wait_any(soon) == wait_report{readable, 0});
    CHECK(events == POLLIN);
    char byte = 0;
    REQUIRE(::read(in.get(), &byte, 1) == 1);
    CHECK_FALSE(set.try_any());
    counted_events.count.add(3);
    counted_events.count.add(4);
    CHECK(set.wait_any(soon) == wait_report{counted_events.id, 0});
    CHECK(counted_events.value == 7);
    units.release();
    units.release();
    CHECK(set.wait_any(soon) == wait_report{unit, 0});
    CHECK(set.wait_any(soon) == wait_report{unit, 0});
    CHECK_FALSE(set.try_any());
    const source_id writable = set.add(on_descriptor(out.get(), POLLOUT, room));
    CHECK(set.wait_any(soon) == wait_report{writable, 0});
    CHECK(room == POLLOUT);
    set.remove(writable);
    out.reset();
    CHECK(set.wait_any(soon) == wait_report{readable, 0});
    CHECK(events == POLLHUP);
}

TEST_CASE("what cannot be waited for is refused", "[wait_set]") {
    wait_set set;
    std::uint64_t value = 0;
    short events = 0;
    event rung{};
    message into;
    const owned_fd blocking(::eventfd(0, EFD_CLOEXEC));
    CHECK(error_of([&] { set.add(on_eventfd(blocking.get(), value)); }) == EINVAL);
    const owned_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    REQUIRE(file);
    CHECK(error_of([&] { set.add(on_descriptor(file.get(), POLLIN, events)); }) == EPERM);
    CHECK(error_of([&] { set.add(on_descriptor(-1, POLLIN, events)); }) == EBADF);
    CHECK(error_of([&] { set.add(on_eventfd(-1, value)); }) == EBADF);
    auto ends = connected_pair();
    CHECK(error_of([&] { set.add(on_event(ends.first, 0, rung)); }) == EINVAL);
    CHECK(error_of([&] { (void)set.remove(1); }) == ENOENT);
    CHECK(error_of([&] { set.resume(1); }) == ENOENT);
    CHECK(error_of([&] { (void)set.failure(1); }) == ENOENT);
    CHECK(error_of([&] { set.wait_all(soon); }) == EINVAL);
    const source_id id = set.add(on_eventfd(counter().fd.get(), value));
    CHECK(error_of([&] { set.wait_all(std::array{id, id}, soon); }) == EINVAL);
    CHECK(error_of([&] { set.wait_all(std::array{id, id + 1}, soon); }) == ENOENT);
    CHECK(error_of([&] { (void)set.wait_some({}, soon); }) == EINVAL);
    // Its descriptor was closed.
    CHECK(set.wait_any(soon) == wait_report{id, EBADF});
    // In a circle.
    wait_set inner;
    wait_report got;
    set.add(on_any(inner, got));
    CHECK(error_of([&] { inner.add(on_any(set, got)); }) == ELOOP);
}

// ---- timers -----------------------------------------------------------------

TEST_CASE("timers expire not before their time, once or again and again", "[wait_set]") {
    std::uint64_t counts[4] = {};
    timer never(forever);
    {
        timer past(deadline::at_ns(1));
        wait_set set;
        set.add(on_timer(never, counts[2]));
        const source_id id = set.add(on_timer(past, counts[3]));
        CHECK(set.wait_any(soon) == wait_report{id, 0});
        CHECK(counts[3] == 1);
        CHECK_FALSE(set.try_any());
    }
    const std::uint64_t start = ipcdoor_now_ns();
    timer once(deadline::at_ns(start + 30'000'000));
    timer often(5ms, 5ms);
    wait_set set;
    const source_id ids[] = {set.add(on_timer(once, counts[0])),
                             set.add(on_timer(often, counts[1])),
                             set.add(on_timer(never, counts[2]))};
    std::uint64_t expirations = 0;
    bool fired = false;
    while (!fired || expirations < 10) {
        const wait_report got = set.wait_any(soon);
        if (got.id == ids[1]) {
            expirations += std::exchange(counts[1], 0);
            CHECK(ipcdoor_now_ns() >= start + expirations * 5'000'000);
        } else {
            REQUIRE(got.id == ids[0]);
            CHECK_FALSE(std::exchange(fired, true));
            CHECK(ipcdoor_now_ns() >= start + 30'000'000);
        }
    }
    often.stop();
    (void)set.try_any();
    CHECK(error_of([&] { (void)set.wait_any(20ms); }) == ETIMEDOUT);
    once.set(deadline::at_ns(1));
    CHECK(set.wait_any(soon) == wait_report{ids[0], 0});
    CHECK(error_of([&] { never.set(1s, -1ms); }) == EINVAL);
    CHECK(counts[2] == 0);
}
