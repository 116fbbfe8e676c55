// SPDX-License-Identifier: MIT
// Messages that are written and read where they lie.
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

void fill(const loaned_message& loan, const std::string& text) {
    REQUIRE(loan.bytes().size() >= text.size());
    std::memcpy(loan.bytes().data(), text.data(), text.size());
}

}  // namespace

TEST_CASE("a loan is sent as far as it was used", "[message][loan]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    loaned_message loan = client.loan(1000, soon);
    CHECK(loan.bytes().size() == 1000);
    fill(loan, pattern(1, 700));
    CHECK_FALSE(server.try_receive());
    loan.publish(700);
    CHECK(server.receive(soon).text() == pattern(1, 700));
    CHECK(error_of([&] { loan.publish(); }) == EINVAL);

    struct sample {
        std::uint64_t a;
        std::uint32_t b;
    };
    loaned_message typed = client.loan(sizeof(sample), {.priority = 2}, soon);
    auto& object = typed.emplace<sample>();
    CHECK(object.a == 0);
    object = {5, 6};
    typed.publish();
    const message received = server.receive(soon);
    CHECK(received.as<sample>().b == 6);
    CHECK(received.priority() == 2);
    loaned_message none = client.loan(0, soon);
    none.publish();
    CHECK(server.receive(soon).empty());
}

TEST_CASE("a loan that is not published was never there", "[message][loan]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    {
        loaned_message dropped = client.loan(100, soon);
        fill(dropped, "never");
        loaned_message moved = std::move(dropped);
        CHECK(error_of([&] { dropped.publish(); }) == EINVAL);  // NOLINT: moved from
    }
    client.send("sent", soon);
    CHECK(server.receive(soon).text() == "sent");
    CHECK_FALSE(server.try_receive());
    CHECK(error_of([&] { (void)client.loan(client.max_record_bytes() + 1, soon); }) == EMSGSIZE);
    loaned_message loan = client.loan(10, soon);
    CHECK(error_of([&] { loan.publish(11); }) == EINVAL);
    struct large {
        char bytes[11];
    };
    CHECK(error_of([&] { loan.emplace<large>(); }) == EMSGSIZE);
    loan.publish(10);
    CHECK(server.receive(soon).size() == 10);
}

TEST_CASE("while a loan is open others wait for its priority, up to their deadline",
          "[message][loan]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    loaned_message loan = client.loan(10, soon);
    CHECK_FALSE(client.try_send("x"));
    CHECK(error_of([&] { client.send("x", 20ms); }) == ETIMEDOUT);
    client.send("urgent", {.priority = 1}, soon);
    std::thread sender([&, &to = client] { to.send("after", soon); });
    std::this_thread::sleep_for(20ms);
    fill(loan, "0123456789");
    loan.publish();
    sender.join();
    CHECK(server.receive(soon).text() == "urgent");
    CHECK(server.receive(soon).text() == "0123456789");
    CHECK(server.receive(soon).text() == "after");
}

TEST_CASE("requests and replies are loaned, too", "[call][loan]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        held_message request = from.receive_in_place(soon);
        CHECK_IN_THREAD(request.is_in_place());
        CHECK_IN_THREAD(request.is_request());
        loaned_message reply = from.loan_reply(request, request.size(), soon);
        std::memcpy(reply.bytes().data(), request.bytes().data(), request.size());
        request.release();
        reply.publish();
    });
    loaned_message request = client.loan_request(500, {}, soon);
    fill(request, pattern(3, 500));
    message reply;
    client.call(std::move(request), reply, soon);
    service_thread.join();
    CHECK(reply.text() == pattern(3, 500));
    loaned_message no_request = client.loan(10, soon);
    CHECK(error_of([&] { client.call(std::move(no_request), reply, soon); }) == EINVAL);
    message one_way;
    CHECK(error_of([&] { (void)client.loan_reply(one_way, 10, soon); }) == EINVAL);
}

TEST_CASE("a message held in place keeps its memory until it is released", "[message][in-place]") {
    auto ends = channel_pair(1024);
    auto& server = ends.first;
    auto& client = ends.second;
    client.send(pattern(1, 1000), soon);
    held_message held = server.receive_in_place(soon);
    REQUIRE(held.is_in_place());
    std::uint64_t sent = 0;
    while (client.try_send(pattern(9, 1000))) ++sent;
    CHECK(held.text() == pattern(1, 1000));
    // Nobody else receives meanwhile.
    CHECK_FALSE(server.try_receive());
    CHECK(error_of([&] { server.receive(20ms); }) == ETIMEDOUT);
    std::thread receiver(
        [&, &from = server] { CHECK_IN_THREAD(from.receive(soon).text() == pattern(9, 1000)); });
    std::this_thread::sleep_for(20ms);
    held_message moved = std::move(held);
    CHECK(moved.text() == pattern(1, 1000));
    moved.release();
    CHECK(moved.bytes().empty());
    receiver.join();
    for (std::uint64_t i = 1; i < sent; ++i)
        CHECK(server.try_receive_in_place().value().text() == pattern(9, 1000));
    CHECK_FALSE(server.try_receive_in_place());
    CHECK(client.try_send("room again"));
}

TEST_CASE("what comes in parts or was set aside is read in place all the same",
          "[message][in-place]") {
    auto ends = channel_pair(1024);
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread sender([&, &to = client] { to.send(pattern(1, 20'000), soon); });
    const held_message parts = server.receive_in_place(soon);
    sender.join();
    CHECK_FALSE(parts.is_in_place());
    CHECK(parts.text() == pattern(1, 20'000));
    std::thread service_thread([&, &from = server] {
        const message request = from.receive(soon);
        from.send("aside", {.priority = 1}, soon);
        from.reply(request, "reply", soon);
    });
    CHECK(client.call("question", soon).text() == "reply");
    service_thread.join();
    const held_message aside = client.receive_in_place(soon);
    CHECK_FALSE(aside.is_in_place());
    CHECK(aside.text() == "aside");
    CHECK(aside.priority() == 1);
    // A request that was put together can be answered as well.
    std::thread caller([&, &to = client] {
        CHECK_IN_THREAD(to.call(pattern(2, 20'000), soon).text() == "long enough");
    });
    held_message request = server.receive_in_place(soon);
    CHECK(request.is_request());
    server.reply(request, "long enough", soon);
    caller.join();
}

TEST_CASE("a message held in place outlives its sender", "[death][in-place][fork]") {
    service local;
    child peer([&] {
        channel to(local.connect());
        to.send(pattern(4, 3000), soon);
        return 0;
    });
    channel from(local.accept());
    held_message held = from.receive_in_place(soon);
    CHECK(peer.wait().exited());
    CHECK(held.text() == pattern(4, 3000));
    held.release();
    CHECK(error_of([&] { from.receive_in_place(soon); }) == EPIPE);
}
