// SPDX-License-Identifier: MIT
// What POSIX says of message queues (mq_open, mq_send, mq_receive, mq_notify, …), asked of
// channels and mailboxes: one case for each rule. docs/posix.md lists the differences; where
// ours is another rule on purpose, the case says so.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/signal.hpp>

#include "lib/lib_support.hpp"
#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t message_bytes = 512;

// A queue with one open sender: a channel's two ends, or a mailbox and a channel to it.
class queue {
public:
    explicit queue(bool is_box, const channel_options& sending = {},
                   const channel_options& receiving = {})
        : name_(unique_name()), at_(test_door()) {
        if (is_box) {
            mailbox_options options;
            options.record_bytes = message_bytes;
            options.source = source();
            options.channel = receiving;
            box_.emplace(at_, name_, std::move(options));
        } else {
            names_ = at_.listen(
                name_, {.slot_bytes = channel_slot_bytes(message_bytes), .source = source()});
        }
        sender_.emplace(connect(sending, receiving));
    }

    // A further sender; of a mailbox only.
    channel connect(const channel_options& sending = {}, const channel_options& receiving = {}) {
        std::optional<endpoint> end;
        std::thread connecting([&] { end = test_door().connect(name_, soon); });
        if (box_) {
            const auto before = box_->stats().connected;
            delivery none;
            while (box_->stats().connected == before)
                if (box_->try_receive(none)) std::abort();
        } else {
            end_.emplace(names_.accept(soon), receiving);
        }
        connecting.join();
        return channel(std::move(*end), sending);
    }

    channel& sender() { return *sender_; }
    void close_sender() { sender_.reset(); }
    const std::string& name() const { return name_; }

    message receive(deadline until = soon) {
        if (box_) return box_->receive(until).content;
        return end_->receive(until);
    }
    bool try_receive(message& into) {
        if (!box_) return end_->try_receive(into);
        delivery got;
        if (!box_->try_receive(got)) return false;
        into = std::move(got.content);
        return true;
    }
    int fd() { return box_ ? box_->fd() : end_->fd(); }

    // Sends until there is no room; how many there was room for.
    std::size_t fill(const std::string& text) {
        std::size_t sent = 0;
        while (sender().send_if_room(text)) ++sent;
        return sent;
    }

private:
    std::string name_;
    door at_;
    std::optional<mailbox> box_;
    listener names_;
    std::optional<channel> end_;
    std::optional<channel> sender_;
};

// Both, one after the other.
bool both_kinds() { return GENERATE(false, true); }

// The sender's end has met the other one, so that nothing is left to be found out.
void meet(queue& q) {
    q.sender().send("hello", soon);
    CHECK(q.receive().text() == "hello");
}

void ignore_signal(int /*signo*/) {}

// Signals one thread again and again, whose handler does nothing and restarts nothing.
class pestering {
public:
    explicit pestering(pthread_t whom) {
        struct sigaction action {};
        action.sa_handler = ignore_signal;
        ::sigaction(SIGUSR1, &action, &before_);
        thread_ = std::thread([this, whom] {
            while (!stop_) {
                ::pthread_kill(whom, SIGUSR1);
                ++sent_;
                std::this_thread::sleep_for(1ms);
            }
        });
    }
    ~pestering() {
        stop_ = true;
        thread_.join();
        ::sigaction(SIGUSR1, &before_, nullptr);
    }
    pestering(const pestering&) = delete;
    pestering& operator=(const pestering&) = delete;
    int sent() const { return sent_; }

private:
    struct sigaction before_ {};
    std::atomic<bool> stop_{false};
    std::atomic<int> sent_{0};
    std::thread thread_;
};

}  // namespace

// ---- mq_send ----------------------------------------------------------------

TEST_CASE("mq_send: a full queue is EAGAIN where the sender does not block, and nothing is sent",
          "[mq]") {
    queue q(both_kinds(), {.full = when_full::fail});
    meet(q);
    const std::string text = pattern(1, message_bytes);
    std::size_t sent = q.fill(text);
    CHECK(sent > 0);
    CHECK(error_of([&] { q.sender().send(text, soon); }) == EAGAIN);
    CHECK_FALSE(q.sender().try_send(text));
    message got;
    for (; sent > 0; --sent) CHECK(q.receive().text() == text);
    CHECK_FALSE(q.try_receive(got));
    // There is room again.
    q.sender().send("room", soon);
    CHECK(q.receive().text() == "room");
}

TEST_CASE("mq_send: a full queue blocks the sender until a message is received", "[mq]") {
    queue q(both_kinds());
    meet(q);
    const std::string text = pattern(2, message_bytes);
    std::size_t sent = q.fill(text);
    std::atomic<bool> done{false};
    std::thread sending([&] {
        q.sender().send(text, soon);
        done = true;
    });
    std::this_thread::sleep_for(20ms);
    CHECK_FALSE(done);
    for (++sent; sent > 0; --sent) CHECK(q.receive().text() == text);
    sending.join();
}

TEST_CASE("mq_send: a message that is too long is EMSGSIZE, and nothing is sent", "[mq]") {
    queue q(both_kinds(), {}, {.max_message_bytes = 1000});
    meet(q);
    CHECK(error_of([&] { q.sender().send(pattern(3, 1001), soon); }) == EMSGSIZE);
    message got;
    CHECK_FALSE(q.try_receive(got));
    std::thread sending([&] { q.sender().send(pattern(3, 1000), soon); });
    CHECK(q.receive().text() == pattern(3, 1000));
    sending.join();
}

TEST_CASE("mq_send: a message may be empty", "[mq]") {
    queue q(both_kinds());
    q.sender().send("", soon);
    q.sender().send("next", soon);
    CHECK(q.receive().size() == 0);
    CHECK(q.receive().text() == "next");
}

TEST_CASE("mq_send: a priority that is none is EINVAL", "[mq]") {
    queue q(both_kinds());
    meet(q);
    CHECK(error_of([&] { q.sender().send("x", {.priority = 4}, soon); }) == EINVAL);
    message got;
    CHECK_FALSE(q.try_receive(got));
}

TEST_CASE("mq_timedsend: ETIMEDOUT when there was no room until the deadline, nothing is sent",
          "[mq]") {
    queue q(both_kinds());
    meet(q);
    const std::string text = pattern(4, message_bytes);
    std::size_t sent = q.fill(text);
    const std::uint64_t start = ipcdoor_now_ns();
    CHECK(error_of([&] { q.sender().send(text, 20ms); }) == ETIMEDOUT);
    CHECK(ipcdoor_now_ns() - start >= 20'000'000);
    // A deadline that is past.
    CHECK(error_of([&] { q.sender().send(text, deadline::at_ns(1)); }) == ETIMEDOUT);
    message got;
    for (; sent > 0; --sent) CHECK(q.receive().text() == text);
    CHECK_FALSE(q.try_receive(got));
}

TEST_CASE("mq_timedsend, mq_timedreceive: a deadline does not matter where nobody has to wait",
          "[mq]") {
    queue q(both_kinds());
    meet(q);
    q.sender().send("late", deadline::at_ns(1));
    CHECK(q.receive(deadline::at_ns(1)).text() == "late");
    q.sender().send("zero", 0s);
    CHECK(q.receive(0s).text() == "zero");
}

// ---- mq_receive -------------------------------------------------------------

TEST_CASE("mq_receive: an empty queue is told at once where the receiver does not block", "[mq]") {
    queue q(both_kinds());
    message got;
    CHECK_FALSE(q.try_receive(got));
    q.sender().send("one", soon);
    while (!q.try_receive(got)) std::this_thread::yield();
    CHECK(got.text() == "one");
    CHECK_FALSE(q.try_receive(got));
}

TEST_CASE("mq_receive: an empty queue blocks the receiver until a message is sent", "[mq]") {
    queue q(both_kinds());
    meet(q);
    std::atomic<bool> done{false};
    std::string text;
    std::thread receiving([&] {
        text = q.receive().text();
        done = true;
    });
    std::this_thread::sleep_for(20ms);
    CHECK_FALSE(done);
    q.sender().send("woken", soon);
    receiving.join();
    CHECK(text == "woken");
}

TEST_CASE("mq_receive: the oldest of the highest priority comes first", "[mq][priority]") {
    queue q(both_kinds());
    meet(q);
    // Priority and number, in an order that is neither.
    const std::array<unsigned, 12> priorities{1, 0, 3, 2, 3, 0, 1, 2, 0, 3, 1, 2};
    for (std::size_t i = 0; i < priorities.size(); ++i)
        q.sender().send(static_cast<std::uint64_t>(i), {.priority = priorities[i]}, soon);
    std::vector<std::size_t> expected;
    for (unsigned p = 4; p-- > 0;)
        for (std::size_t i = 0; i < priorities.size(); ++i)
            if (priorities[i] == p) expected.push_back(i);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < priorities.size(); ++i) {
        const message got = q.receive();
        order.push_back(static_cast<std::size_t>(got.as<std::uint64_t>()));
        // The priority is told with the message.
        CHECK(got.priority() == priorities[order.back()]);
    }
    CHECK(order == expected);
}

TEST_CASE("mq_receive: an urgent message passes those that wait", "[mq][priority]") {
    queue q(both_kinds());
    meet(q);
    q.sender().send("1", {.priority = 0}, soon);
    q.sender().send("2", {.priority = 0}, soon);
    CHECK(q.receive().text() == "1");
    q.sender().send("urgent", {.priority = 1}, soon);
    CHECK(q.receive().text() == "urgent");
    CHECK(q.receive().text() == "2");
}

TEST_CASE("mq_timedreceive: ETIMEDOUT when nothing came until the deadline", "[mq]") {
    queue q(both_kinds());
    meet(q);
    const std::uint64_t start = ipcdoor_now_ns();
    CHECK(error_of([&] { (void)q.receive(20ms); }) == ETIMEDOUT);
    CHECK(ipcdoor_now_ns() - start >= 20'000'000);
    CHECK(error_of([&] { (void)q.receive(deadline::at_ns(1)); }) == ETIMEDOUT);
    // The queue is none the worse.
    q.sender().send("after", soon);
    CHECK(q.receive().text() == "after");
}

// Another rule: POSIX leaves the message in the queue, EMSGSIZE, where the buffer is too
// small. Here there is no buffer: the message brings its memory.
TEST_CASE("mq_receive: a message of any length that was sent is received whole", "[mq]") {
    queue q(both_kinds());
    meet(q);
    const std::string text = pattern(5, 20 * message_bytes);
    std::thread sending([&] { q.sender().send(text, soon); });
    message got;
    got = q.receive();
    sending.join();
    CHECK(got.text() == text);
    q.sender().send("short", soon);
    CHECK(q.receive().text() == "short");
}

// Another rule: POSIX fails with EINTR, or goes on with SA_RESTART. Here handlers run, and
// the call goes on until its deadline.
TEST_CASE("EINTR: a signal handler ends neither sending nor receiving", "[mq]") {
    queue q(both_kinds());
    meet(q);
    const pestering pest(::pthread_self());
    CHECK(error_of([&] { (void)q.receive(50ms); }) == ETIMEDOUT);
    std::thread sending([&] {
        std::this_thread::sleep_for(50ms);
        q.sender().send("in spite of it", soon);
    });
    CHECK(q.receive().text() == "in spite of it");
    sending.join();
    const std::string text = pattern(6, message_bytes);
    std::size_t sent = q.fill(text);
    CHECK(error_of([&] { q.sender().send(text, 50ms); }) == ETIMEDOUT);
    std::size_t received = 0;
    std::thread receiving([&] {
        std::this_thread::sleep_for(50ms);
        for (std::size_t left = sent + 1; left > 0; --left)
            received += q.receive().text() == text ? 1 : 0;
    });
    q.sender().send(text, soon);
    receiving.join();
    CHECK(received == sent + 1);
    CHECK(pest.sent() > 0);
}

// ---- several senders, several receivers -------------------------------------

TEST_CASE("several senders: no message is lost, doubled or torn, and each one's are in order",
          "[mq][fork]") {
    queue q(true);
    const std::uint64_t each = 10 + scaled(500);
    constexpr std::uint64_t senders = 4;
    std::vector<child> processes;
    for (std::uint64_t s = 0; s < senders; ++s) {
        processes.emplace_back([&, s] {
            channel to(test_door().connect(q.name(), soon));
            for (std::uint64_t i = 0; i < each; ++i) {
                std::string text = pattern(s * each + i, 16 + i % 400);
                const std::array<std::uint64_t, 2> head{s, i};
                std::copy_n(reinterpret_cast<const char*>(head.data()), sizeof head, text.begin());
                to.send(text, soon);
            }
            return 0;
        });
    }
    std::array<std::uint64_t, senders> next{};
    std::uint64_t wrong = 0;
    for (std::uint64_t n = 0; n < senders * each; ++n) {
        const message got = q.receive();
        std::array<std::uint64_t, 2> head{};
        REQUIRE(got.size() >= sizeof head);
        std::copy_n(got.text().begin(), sizeof head, reinterpret_cast<char*>(head.data()));
        REQUIRE(head[0] < senders);
        if (head[1] != next[head[0]]++) ++wrong;
        const std::string whole = pattern(head[0] * each + head[1], 16 + head[1] % 400);
        if (got.text().substr(sizeof head) != std::string_view(whole).substr(sizeof head)) ++wrong;
    }
    CHECK(wrong == 0);
    for (child& one : processes) CHECK(one.wait().exited());
    message none;
    CHECK_FALSE(q.try_receive(none));
}

// Another rule: receivers are threads of one process. POSIX has any process that opened the
// queue for reading receive from it.
TEST_CASE("several receivers: each message goes to one of them", "[mq]") {
    queue q(both_kinds());
    meet(q);
    const std::uint64_t count = 20 + scaled(2000);
    std::vector<std::atomic<int>> seen(count);
    std::vector<std::thread> receivers;
    std::atomic<std::uint64_t> received{0};
    for (int i = 0; i < 3; ++i) {
        receivers.emplace_back([&] {
            for (;;) {
                const auto number = q.receive().as<std::uint64_t>();
                if (number == count) return;
                ++seen[number];
                ++received;
            }
        });
    }
    for (std::uint64_t n = 0; n < count; ++n) q.sender().send(n, soon);
    for (int i = 0; i < 3; ++i) q.sender().send(count, soon);
    for (auto& thread : receivers) thread.join();
    CHECK(received == count);
    CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& times) { return times == 1; }));
}

TEST_CASE("a blocked receiver gets the message, and one at a time is woken", "[mq]") {
    queue q(both_kinds());
    meet(q);
    std::atomic<int> received{0};
    std::vector<std::thread> receivers;
    for (int i = 0; i < 3; ++i) {
        receivers.emplace_back([&] {
            (void)q.receive();
            ++received;
        });
    }
    for (int i = 1; i <= 3; ++i) {
        std::this_thread::sleep_for(10ms);
        CHECK(received == i - 1);
        q.sender().send("one", soon);
        while (received != i) std::this_thread::sleep_for(1ms);
    }
    for (auto& thread : receivers) thread.join();
}

// ---- mq_notify --------------------------------------------------------------

// The descriptor stands for mq_notify(): who wants a signal or a thread instead of poll(2)
// has it raised by whoever polls, or binds one to the doorbell (bind_signal()).
TEST_CASE("mq_notify: an empty queue tells of the first message that comes, once", "[mq][poll]") {
    queue q(both_kinds());
    message got;
    pollfd told{q.fd(), POLLIN, 0};
    meet(q);
    for (int round = 0; round < 3; ++round) {
        // Registering is to have looked in vain.
        CHECK_FALSE(q.try_receive(got));
        CHECK(::poll(&told, 1, 0) == 0);
        q.sender().send("first", soon);
        CHECK(::poll(&told, 1, 60'000) == 1);
        q.sender().send("second", soon);
        while (!q.try_receive(got)) std::this_thread::yield();
        CHECK(got.text() == "first");
        CHECK(q.receive().text() == "second");
    }
}

TEST_CASE("mq_notify: the same as a signal, which carries who sent", "[mq][fork]") {
    service local;
    const int signo = SIGRTMIN + 3;
    blocked_signal signals(signo);
    gate registered;
    gate go_on;
    child peer([&] {
        channel to(local.connect());
        to.send("hello", soon);
        registered.wait();
        to.send("news", soon);
        go_on.wait();
        return 0;
    });
    {
        channel from(local.accept());
        CHECK(from.receive(soon).text() == "hello");
        const signal_binding bound = bind_signal(from.raw(), signo, vectors(1));
        message got;
        CHECK_FALSE(from.try_receive(got));
        registered.open();
        const siginfo_t info = signals.take(60s);
        REQUIRE(info.si_signo == signo);
        CHECK(info.si_pid == peer.pid());
        CHECK(from.receive(soon).text() == "news");
    }
    go_on.open();
    CHECK(peer.wait().exited());
}

TEST_CASE("mq_notify: who blocks in receiving gets the message, not who polls", "[mq][poll]") {
    queue q(false);
    meet(q);
    message got;
    CHECK_FALSE(q.try_receive(got));
    std::string text;
    std::thread receiving([&] { text = q.receive().text(); });
    std::this_thread::sleep_for(20ms);
    q.sender().send("for the receiver", soon);
    receiving.join();
    CHECK(text == "for the receiver");
    CHECK_FALSE(q.try_receive(got));
}

// ---- attributes -------------------------------------------------------------

TEST_CASE("mq_getattr: the longest message, and whether one waits", "[mq]") {
    queue q(false, {}, {.max_message_bytes = 5000});
    meet(q);
    // mq_msgsize
    CHECK(q.sender().max_record_bytes() >= message_bytes);
    CHECK(error_of([&] { q.sender().send(pattern(1, 5001), soon); }) == EMSGSIZE);
    // mq_maxmsg: bytes rather than messages are what there is room for.
    const std::size_t large = q.fill(pattern(1, message_bytes));
    for (std::size_t i = 0; i < large; ++i) (void)q.receive();
    const std::size_t small = q.fill(pattern(1, 8));
    CHECK(small > large);
    // mq_curmsgs: not how many, but whether, and how urgent.
    message got;
    for (std::size_t i = 0; i < small; ++i) CHECK(q.try_receive(got));
    CHECK_FALSE(q.try_receive(got));
}

// Another rule: POSIX has O_NONBLOCK changed by mq_setattr(). Here it is chosen for each call.
TEST_CASE("mq_setattr: a call is blocking or not, whatever the others are", "[mq]") {
    queue q(both_kinds(), {.full = when_full::block});
    meet(q);
    const std::string text = pattern(7, message_bytes);
    const std::size_t sent = q.fill(text);
    CHECK_FALSE(q.sender().send_if_room(text));
    CHECK(error_of([&] { q.sender().send(text, 0s); }) == ETIMEDOUT);
    for (std::size_t i = 0; i < sent; ++i) CHECK(q.receive().text() == text);
    message got;
    CHECK_FALSE(q.try_receive(got));
    CHECK(error_of([&] { (void)q.receive(0s); }) == ETIMEDOUT);
}

// ---- names ------------------------------------------------------------------

TEST_CASE("mq_open: O_EXCL on a name that is taken, and a name that nobody has", "[mq]") {
    queue q(both_kinds());
    door at = test_door();
    // EEXIST of POSIX.
    CHECK(error_of([&] { (void)at.listen(q.name(), {.source = source()}); }) == EADDRINUSE);
    CHECK(error_of([&] { mailbox(at, q.name(), {.source = source()}); }) == EADDRINUSE);
    CHECK(error_of([&] { (void)at.connect(unique_name(), soon); }) == ENOENT);
}

TEST_CASE("mq_unlink: who has the queue open goes on, and the name is free", "[mq]") {
    door at = test_door();
    const std::string name = unique_name();
    const listen_options options{.slot_bytes = channel_slot_bytes(message_bytes),
                                 .source = source()};
    listener first = at.listen(name, options);
    std::optional<endpoint> end;
    std::thread connecting([&] { end = test_door().connect(name, soon); });
    channel receiver(first.accept(soon));
    connecting.join();
    channel sender(std::move(*end));
    sender.send("before", soon);
    first.close();
    CHECK(error_of([&] { (void)at.connect(name, soon); }) == ENOENT);
    sender.send("after", soon);
    // A new queue of the same name is another one.
    listener second = at.listen(name, options);
    std::thread again([&] { end = test_door().connect(name, soon); });
    channel other(second.accept(soon));
    again.join();
    channel to_other(std::move(*end));
    to_other.send("elsewhere", soon);
    CHECK(receiver.receive(soon).text() == "before");
    CHECK(receiver.receive(soon).text() == "after");
    CHECK(other.receive(soon).text() == "elsewhere");
}

// ---- ends -------------------------------------------------------------------

TEST_CASE("mq_close: what a sender that closed has sent is still received", "[mq]") {
    queue q(both_kinds());
    q.sender().send("one", soon);
    q.sender().send("two", {.priority = 1}, soon);
    q.close_sender();
    std::vector<std::string> texts;
    texts.emplace_back(q.receive().text());
    texts.emplace_back(q.receive().text());
    std::sort(texts.begin(), texts.end());
    CHECK(texts == std::vector<std::string>{"one", "two"});
}

TEST_CASE("a sender that is killed leaves what it has sent, and nothing of what it was sending",
          "[mq][fork]") {
    for (int round = 0; round < 5; ++round) {
        queue q(true);
        shared<std::atomic<std::uint64_t>> sent;
        child sender([&] {
            channel to(test_door().connect(q.name(), soon));
            for (std::uint64_t i = 0;; ++i) {
                to.send(pattern(i, message_bytes), soon);
                sent->store(i + 1);
            }
            return 0;
        });
        std::uint64_t received = 0;
        // In the middle of it.
        for (; received < 20; ++received)
            REQUIRE(q.receive().text() == pattern(received, message_bytes));
        sender.kill();
        CHECK(sender.wait().signaled(SIGKILL));
        const std::uint64_t at_least = *sent;
        message got;
        while (received < at_least || q.try_receive(got)) {
            if (received < at_least) got = q.receive();
            REQUIRE(got.text() == pattern(received, message_bytes));
            ++received;
        }
        // It may have been killed before it had counted the last one.
        CHECK(received <= at_least + 1);
        // The others go on.
        q.sender().send("alive", soon);
        CHECK(q.receive().text() == "alive");
    }
}

// Another rule: a POSIX queue outlives those who use it. Here the receiver is its owner: with
// it the queue ends, and its senders are told.
TEST_CASE("when the receiver dies, senders get EPIPE, also those that are blocked", "[mq][fork]") {
    service local(channel_slot_bytes(message_bytes));
    child receiver([&] {
        channel from(local.connect());
        (void)from.receive(soon);
        ::pause();
        return 0;
    });
    channel to(local.accept());
    to.send("hello", soon);
    const std::string text = pattern(8, message_bytes);
    std::atomic<int> ended{0};
    std::thread sending([&] {
        ended = error_of([&] {
            for (;;) to.send(text, soon);
        });
    });
    std::this_thread::sleep_for(20ms);
    CHECK(ended == 0);
    receiver.kill();
    sending.join();
    CHECK(ended == EPIPE);
}

// Another rule: POSIX hands open queues on to a forked child.
TEST_CASE("a forked child may close its copy, and the queue goes on", "[mq][fork]") {
    queue q(both_kinds());
    meet(q);
    child copy([&] {
        q.close_sender();
        return 0;
    });
    CHECK(copy.wait().exited());
    q.sender().send("still open", soon);
    CHECK(q.receive().text() == "still open");
}
