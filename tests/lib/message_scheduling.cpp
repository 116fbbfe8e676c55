// SPDX-License-Identifier: MIT
// How the sender of a message is scheduled, and taking that on.
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include <ipcdoor/message.hpp>
#include <ipcdoor/scheduling.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

TEST_CASE("a message says how its sender is scheduled, where the receiver asks for it",
          "[message][scheduling]") {
    channel_options asks;
    asks.ask_scheduling = true;
    auto ends = connected_pair(channel_slot_bytes(8192));
    channel server(std::move(ends.first), asks);
    channel client(std::move(ends.second));
    client.send("mine", soon);
    message got = server.receive(soon);
    REQUIRE(got.sender_scheduling().has_value());
    CHECK(*got.sender_scheduling() == current_scheduling());

    std::thread([&] {
        CHECK_IN_THREAD(::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 7) == 0);
        client.send("nicer", soon);
        loaned_message loan = client.loan(5, soon);
        std::memcpy(loan.bytes().data(), "loan!", 5);
        loan.publish();
        client.send(pattern(3, 9'000), soon);
    }).join();
    for (const std::string& expected :
         {std::string("nicer"), std::string("loan!"), pattern(3, 9'000)}) {
        server.receive(got, soon);
        CHECK(got.text() == expected);
        REQUIRE(got.sender_scheduling().has_value());
        CHECK(got.sender_scheduling()->nice == 7);
    }
    // Nobody asked at the other end.
    server.send("back", soon);
    CHECK_FALSE(client.receive(soon).sender_scheduling().has_value());
    // Requests carry it, replies do not.
    std::thread service_thread([&] {
        const message request = server.receive(soon);
        CHECK_IN_THREAD(request.sender_scheduling().has_value());
        server.reply(request, "done", soon);
    });
    const message reply = client.call("please", soon);
    service_thread.join();
    CHECK(reply.text() == "done");
    CHECK_FALSE(reply.sender_scheduling().has_value());
}

TEST_CASE("a thread takes on another scheduling, as far as it is told to", "[scheduling]") {
    std::thread([] {
        const scheduling before = current_scheduling();
        {
            const scheduling_guard nicer({SCHED_OTHER, 12, 0}, {99, 15});
            CHECK_IN_THREAD(current_scheduling() == scheduling{SCHED_OTHER, 15, 0});
        }
        // Up again takes a right.
        if (::geteuid() == 0) CHECK_IN_THREAD(current_scheduling() == before);
        CHECK_IN_THREAD(error_of([] { const scheduling_guard none({77, 0, 0}); }) == EINVAL);
        {
            const scheduling_guard idle({SCHED_IDLE, 0, 0});
            CHECK_IN_THREAD(current_scheduling().policy == SCHED_IDLE);
        }
        // Where this thread may.
        const int refused = error_of([] {
            const scheduling_guard fifo({SCHED_FIFO, 0, 50}, {2, -20});
            CHECK_IN_THREAD(current_scheduling() == scheduling{SCHED_FIFO, 0, 2});
        });
        CHECK_IN_THREAD((refused == 0 || refused == EPERM));
    }).join();
    const auto ask_for_more = [] {
        return error_of([] { const scheduling_guard fifo({SCHED_FIFO, 0, 10}); }) == EPERM ? 0 : 1;
    };
    child peer = ::geteuid() == 0 ? child::as_user(4321, ask_for_more) : child(ask_for_more);
    CHECK(peer.wait().exited());
}

TEST_CASE("the longest loan is the same where the receiver asks for scheduling",
          "[message][scheduling]") {
    channel_options asks;
    asks.ask_scheduling = true;
    auto ends = connected_pair(channel_slot_bytes(8192));
    const channel server(std::move(ends.first), asks);
    channel client(std::move(ends.second));
    client.loan(client.max_record_bytes(), soon).publish();
    CHECK(client.try_send(pattern(1, client.max_record_bytes())));
}
