// SPDX-License-Identifier: MIT
// A mailbox: many senders, one receiver, none of whom harms another.
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/mailbox.hpp>

#include "lib/box_support.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// A mailbox, and channels to it.
struct post_office : box_under_test<mailbox, mailbox_options> {
    using box_under_test::box_under_test;

    channel connect() {
        return channel(let_in([this] { return at.connect(name, soon); }));
    }

protected:
    bool receives() override {
        delivery got;
        return box.try_receive(got);
    }
};

// A slow machine's interrupts come late, but in order.
void let_rings_arrive() {
    auto [waiting, ringing] = connected_pair();
    ringing.ring(waiting.info().slot, 8);
    CHECK(waiting.wait(std::uint64_t{1} << 8, soon));
}

}  // namespace

TEST_CASE("a mailbox receives what all its senders send, and answers each", "[mailbox]") {
    post_office office;
    constexpr std::uint64_t senders = 8;
    const std::uint64_t each = 1 + scaled(1000);
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (std::uint64_t s = 0; s < senders; ++s) {
        threads.emplace_back([&, s] {
            door own = test_door();
            channel to(own.connect(office.name, soon));
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::uint64_t number = s << 32 | i;
                if (i % 3 == 0) {
                    if (to.call(number, soon).as<std::uint64_t>() != number + 1) ++wrong;
                } else {
                    to.send(number, soon);
                }
            }
            // Its last messages are received although it leaves.
        });
    }
    std::map<sender_id, std::uint64_t> next;
    std::map<sender_id, std::uint64_t> who;
    for (std::uint64_t i = 0; i < senders * each; ++i) {
        const delivery got = office.box.receive(soon);
        const auto number = got.content.as<std::uint64_t>();
        if (who.emplace(got.from, number >> 32).first->second != number >> 32) ++wrong;
        if (next[got.from]++ != (number & 0xffffffff)) ++wrong;
        if (got.content.is_request()) office.box.reply(got, number + 1, soon);
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(who.size() == senders);
    office.serve_until([&] { return office.box.senders() == 0; });
    CHECK(office.box.stats().connected == senders);
    CHECK(office.box.stats().gone == senders);
    CHECK(office.box.stats().broken == 0);
}

TEST_CASE("the kernel says who sent a message", "[mailbox][fork]") {
    post_office office;
    child peer([&] {
        door own = test_door();
        channel to(own.connect(office.name, soon));
        to.send("me", soon);
        (void)to.receive(soon);
        return 0;
    });
    const delivery got = office.box.receive(soon);
    CHECK(got.content.text() == "me");
    const auto sender = office.box.peer(got.from);
    CHECK(sender.pid == peer.pid());
    CHECK(sender.uid == ::geteuid());
    office.box.send(got.from, "bye", {}, soon);
    CHECK(peer.wait().exited());
    office.serve_until([&] { return office.box.senders() == 0; });
    CHECK(error_of([&] { office.box.send(got.from, "late", {}, soon); }) == EPIPE);
    CHECK(error_of([&] { (void)office.box.peer(got.from); }) == EPIPE);
}

TEST_CASE("the more urgent message of several senders comes first", "[mailbox][priority]") {
    post_office office;
    std::vector<channel> senders;
    for (int i = 0; i < 6; ++i) senders.push_back(office.connect());
    for (unsigned i = 0; i < 6; ++i) {
        senders[i].send("low", soon);
        senders[i].send("high", {.priority = 1 + i % 3}, soon);
    }
    let_rings_arrive();
    std::vector<unsigned> priorities;
    for (int i = 0; i < 12; ++i) priorities.push_back(office.box.receive(soon).content.priority());
    // One in four is who has waited longest.
    const auto low = std::count(priorities.begin(), priorities.begin() + 9, 0U);
    CHECK(low <= 3);
    CHECK(std::count(priorities.begin(), priorities.end(), 0U) == 6);
    CHECK(*std::max_element(priorities.begin(), priorities.begin() + 2) == 3);
}

TEST_CASE("a sender that floods does not starve another", "[mailbox]") {
    post_office office;
    channel loud = office.connect();
    channel quiet = office.connect();
    // Its channel has been greeted then.
    loud.send("0", soon);
    while (loud.try_send(pattern(1, 10))) {
    }
    quiet.send("quiet", soon);
    int before = 0;
    while (office.box.receive(soon).content.text() != "quiet") ++before;
    CHECK(before <= 2);
}

TEST_CASE("a hostile sender is dropped, and nobody else is concerned", "[mailbox][hostile]") {
    int told = 0;
    mailbox_options options;
    options.on_gone = [&](sender_id, const error& why) { told = why.error_number(); };
    post_office office(options);
    channel good = office.connect();
    std::thread accepting(
        [&] { CHECK_IN_THREAD(office.box.receive(soon).content.text() == "fine"); });
    endpoint bad = office.at.connect(office.name, soon);
    std::memset(bad.memory().data(), 0x55, 256);
    bad.ring(1 - bad.slot(), 1);
    while (office.box.stats().broken == 0) std::this_thread::sleep_for(1ms);
    good.send("fine", soon);
    accepting.join();
    CHECK(told == EPROTO);
    CHECK(office.box.senders() == 1);
    CHECK(office.box.stats().broken == 1);
}

TEST_CASE("more senders than allowed wait until somebody leaves", "[mailbox]") {
    mailbox_options options;
    options.max_senders = 2;
    post_office office(options);
    auto first = std::make_unique<channel>(office.connect());
    const channel second = office.connect();
    std::thread third([&] {
        door own = test_door();
        channel to(own.connect(office.name, soon));
        to.send("third", soon);
        // until it was received
        CHECK_IN_THREAD(to.receive(soon).text() == "bye");
    });
    delivery got;
    for (int i = 0; i < 20; ++i) {
        CHECK_FALSE(office.box.try_receive(got));
        std::this_thread::sleep_for(1ms);
    }
    first.reset();
    got = office.box.receive(soon);
    CHECK(got.content.text() == "third");
    office.box.send(got.from, "bye", {}, soon);
    third.join();
}

TEST_CASE("receiving ends at the deadline, and when the mailbox is closed", "[mailbox]") {
    post_office office;
    delivery got;
    CHECK_FALSE(office.box.try_receive(got));
    CHECK(error_of([&] { (void)office.box.receive(20ms); }) == ETIMEDOUT);
    std::atomic<int> cancelled{0};
    std::vector<std::thread> receivers;
    for (int i = 0; i < 3; ++i) {
        receivers.emplace_back([&] {
            if (error_of([&] { (void)office.box.receive(soon); }) == ECANCELED) ++cancelled;
        });
    }
    std::this_thread::sleep_for(20ms);
    office.box.close();
    for (auto& receiver : receivers) receiver.join();
    CHECK(cancelled == 3);
    CHECK(error_of([&] { (void)office.box.receive(soon); }) == ECANCELED);
}

TEST_CASE("several threads share a mailbox's messages", "[mailbox]") {
    post_office office;
    constexpr std::uint64_t senders = 3;
    const std::uint64_t each = 1 + scaled(2000);
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> served{0};
    std::vector<std::thread> workers;
    for (int w = 0; w < 3; ++w) {
        workers.emplace_back([&] {
            const int error = error_of([&] {
                for (;;) {
                    const delivery got = office.box.receive(soon);
                    // EPIPE: who has the last reply may leave before this side is told
                    const int replied =
                        error_of([&] { office.box.reply(got, got.content.bytes(), soon); });
                    if (replied != 0 && replied != EPIPE) ++wrong;
                    ++served;
                }
            });
            if (error != ECANCELED) ++wrong;
        });
    }
    std::vector<std::thread> threads;
    for (std::uint64_t s = 0; s < senders; ++s) {
        threads.emplace_back([&, s] {
            door own = test_door();
            channel to(own.connect(office.name, soon));
            for (std::uint64_t i = 0; i < each; ++i)
                if (to.call(s << 32 | i, soon).as<std::uint64_t>() != (s << 32 | i)) ++wrong;
        });
    }
    for (auto& thread : threads) thread.join();
    office.box.close();
    for (auto& worker : workers) worker.join();
    CHECK(wrong == 0);
    CHECK(served == senders * each);
}

TEST_CASE("a mailbox in an event loop is readable only while there may be something",
          "[mailbox][poll]") {
    post_office office;
    channel to = office.connect();
    delivery got;
    CHECK_FALSE(office.box.try_receive(got));
    pollfd loop{office.box.fd(), POLLIN, 0};
    for (int round = 0; round < 5; ++round) {
        CHECK(::poll(&loop, 1, 0) == 0);
        to.send("one", soon);
        to.send("two", soon);
        REQUIRE(::poll(&loop, 1, 60'000) == 1);
        CHECK(office.box.receive(soon).content.text() == "one");
        CHECK(office.box.receive(soon).content.text() == "two");
        CHECK_FALSE(office.box.try_receive(got));
    }
}

TEST_CASE("an urgent flood does not starve a modest sender", "[mailbox][priority]") {
    post_office office;
    channel loud = office.connect();
    channel quiet = office.connect();
    loud.send("0", soon);
    std::atomic<bool> stop{false};
    std::thread flood([&] {
        while (!stop) (void)loud.send_if_room("flood", {.priority = 3});
    });
    while (office.box.receive(soon).content.priority() != 3) {
    }
    quiet.send("quiet", soon);
    // Its ring may take its time (a timer's tick); starved, it never comes.
    constexpr std::uint64_t without_end = 200'000;
    std::uint64_t before = 0;
    while (before < without_end && office.box.receive(soon).content.text() != "quiet") ++before;
    stop = true;
    flood.join();
    CHECK(before < without_end);
}

TEST_CASE("what follows a reply may use the mailbox that received it", "[mailbox][pending]") {
    post_office office;
    channel to = office.connect();
    to.send("hello", soon);
    const delivery hello = office.box.receive(soon);
    const auto end = office.box.sender(hello.from);
    std::size_t seen = 0;
    pending_reply asked = end->start_call("question", soon);
    asked.then([&] {
        seen = office.box.senders();
        office.box.send(hello.from, "thanks", {}, soon);
    });
    const message question = to.receive(soon);
    to.reply(question, "answer", soon);
    to.send("done", soon);
    CHECK(office.box.receive(soon).content.text() == "done");
    CHECK(seen == 1);
    CHECK(to.receive(soon).text() == "thanks");
}

TEST_CASE("a mailbox without descriptors for newcomers serves those it has", "[mailbox][fork]") {
    post_office office;
    channel first = office.connect();
    office.short_of_descriptors<channel>([&] {
        first.send("still served", soon);
        CHECK(office.box.receive(soon).content.text() == "still served");
    });
    // And newcomers are let in again.
    std::thread late([&] {
        door own = test_door();
        channel to(own.connect(office.name, soon));
        to.send("late", soon);
        CHECK_IN_THREAD(to.receive(soon).text() == "bye");
    });
    const delivery got = office.box.receive(soon);
    CHECK(got.content.text() == "late");
    office.box.send(got.from, "bye", {}, soon);
    late.join();
}

TEST_CASE("a forked child that uses its copy of a mailbox takes nothing from its parent",
          "[mailbox][fork]") {
    post_office office;
    channel to = office.connect();
    to.send("first", soon);
    const sender_id from = office.box.receive(soon).from;
    to.send("before", soon);
    std::optional<channel> late;
    std::thread connecting([&] { late.emplace(office.at.connect(office.name, soon)); });
    child heir([&] {
        delivery got;
        EXPECT_CHILD(error_of([&] { (void)office.box.try_receive(got); }) == EPERM);
        EXPECT_CHILD(error_of([&] { office.box.receive(got, 10ms); }) == EPERM);
        EXPECT_CHILD(error_of([&] { office.box.disconnect(from); }) == EPERM);
        EXPECT_CHILD(error_of([&] { office.box.send(from, "x", {}, 10ms); }) == EPERM);
        return 0;
    });
    CHECK(heir.wait().exited());
    CHECK(office.box.receive(soon).content.text() == "before");
    office.serve_until([&] { return office.box.stats().connected == 2; });
    connecting.join();
    late->send("late", soon);
    CHECK(office.box.receive(soon).content.text() == "late");
    to.send("after", soon);
    CHECK(office.box.receive(soon).content.text() == "after");
    CHECK(office.box.senders() == 2);
}
