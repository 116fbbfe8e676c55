// SPDX-License-Identifier: MIT
// A wait_set: any of many sources, or all of them, whoever dies, comes or goes.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/pipe.hpp>
#include <ipcdoor/semaphore.hpp>
#include <ipcdoor/wait_set.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// The simplest semaphore, shared with later children.
class plain_semaphore {
public:
    explicit plain_semaphore(unsigned units = 0)
        : fd_(::eventfd(units, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC)) {}
    int fd() const { return fd_.get(); }
    bool try_acquire() {
        std::uint64_t one = 0;
        return ::read(fd_.get(), &one, sizeof one) == sizeof one;
    }
    void release() {
        const std::uint64_t one = 1;
        if (::write(fd_.get(), &one, sizeof one) != sizeof one) std::abort();
    }
    // Takes them all.
    unsigned drain() {
        unsigned units = 0;
        while (try_acquire()) ++units;
        return units;
    }

private:
    owned_fd fd_;
};

// An eventfd that is written by hand.
struct counter {
    counter() : fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
    void add(std::uint64_t count = 1) const {
        if (::write(fd.get(), &count, sizeof count) != sizeof count) std::abort();
    }
    owned_fd fd;
};

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

// What one test lets its set wait for is said in a few words.
struct eventfd_in {
    explicit eventfd_in(wait_set& set) : id(set.add(on_eventfd(count.fd.get(), value))) {}
    counter count;
    std::uint64_t value = 0;
    source_id id;
};

std::uint64_t cpu_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

void allow_descriptors(std::size_t count) {
    rlimit now{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &now) == 0);
    if (now.rlim_cur >= count) return;
    now.rlim_cur = std::min<rlim_t>(now.rlim_max, count);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
}

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
    const std::uint64_t before = cpu_ns();
    CHECK(error_of([&] { (void)set.wait_any(500ms); }) == ETIMEDOUT);
    CHECK(cpu_ns() - before < 250'000'000);
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

TEST_CASE("a forked child may destroy its copy of a set, and the set goes on", "[wait_set][fork]") {
    auto set = std::make_unique<wait_set>();
    eventfd_in one(*set);
    CHECK_FALSE(set->try_any());
    child copy([&] {
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
    struct poll_loop {
        void when_readable(int fd, std::function<void()> ready) { waiting[fd] = std::move(ready); }
        void forget(int fd) { waiting.erase(fd); }
        bool run_until(const std::function<bool()>& enough) {
            while (!enough()) {
                std::vector<pollfd> all;
                for (const auto& [fd, ready] : waiting) all.push_back({fd, POLLIN, 0});
                if (::poll(all.data(), all.size(), 60'000) <= 0) return false;
                for (const pollfd& one : all) {
                    if (one.revents == 0) continue;
                    const auto ready = std::move(waiting[one.fd]);
                    waiting.erase(one.fd);
                    ready();
                }
            }
            return true;
        }
        std::map<int, std::function<void()>> waiting;
    } loop;
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
    [](poll_loop& on, wait_set& set, const std::function<bool(wait_report)>& go_on,
       bool& ended) -> detached_task {
        while (go_on(co_await async_wait_any(on, set))) {
        }
        ended = true;
    }(loop, outer, told, done);
    CHECK(loop.run_until([&] { return done; }));
    CHECK(texts == std::vector<std::string>{"hello", "again"});
    CHECK(loop.waiting.empty());
}
