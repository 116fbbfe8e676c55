// SPDX-License-Identifier: MIT
// Calls that nobody waits for: many under way, then(), coroutines, abandoned ones.
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/async.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// Answers `count` requests with their content, of each `at_once` the last one first.
void answer(channel& from, std::uint64_t count, std::uint64_t at_once) {
    for (std::uint64_t done = 0; done < count;) {
        std::vector<message> requests;
        while (requests.size() < at_once && done + requests.size() < count)
            requests.push_back(from.receive(soon));
        done += requests.size();
        for (auto request = requests.rbegin(); request != requests.rend(); ++request)
            from.reply(*request, request->bytes(), soon);
    }
}

detached_task ask(channel& to, std::uint64_t first, std::uint64_t count, std::uint64_t& right,
                  int& error) {
    try {
        for (std::uint64_t i = first; i < first + count; ++i) {
            const message reply = co_await to.start_call(i, soon);
            if (reply.as<std::uint64_t>() == i) ++right;
        }
    } catch (const ipcdoor::error& wrong) {
        error = wrong.error_number();
    }
}

}  // namespace

TEST_CASE("many calls are under way at once, and each gets its reply", "[call][pending]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    constexpr std::uint64_t count = 100;
    std::thread service_thread([&, &from = server] { answer(from, count, 10); });
    std::vector<pending_reply> replies;
    for (std::uint64_t i = 0; i < count; ++i) replies.push_back(client.start_call(i, soon));
    // In an order of one's own.
    for (std::uint64_t i = count; i-- > 0;) {
        CHECK(replies[i].get(soon).as<std::uint64_t>() == i);
        CHECK(replies[i].ready());
    }
    service_thread.join();
    CHECK(client.stats().late_replies == 0);
}

TEST_CASE("a reply that is late can be waited for again, or dropped", "[call][pending]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    pending_reply kept = client.start_call("kept", soon);
    {
        const pending_reply dropped = client.start_call("dropped", soon);
        CHECK_FALSE(dropped.ready());
    }
    CHECK(error_of([&] { (void)kept.get(20ms); }) == ETIMEDOUT);
    std::thread service_thread([&, &from = server] { answer(from, 3, 1); });
    CHECK(kept.get(soon).text() == "kept");
    CHECK(client.call("last", soon).text() == "last");
    service_thread.join();
    CHECK(client.stats().late_replies == 1);
}

TEST_CASE("what follows a reply is done by who receives it", "[call][pending]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    std::thread service_thread([&, &from = server] {
        answer(from, 2, 2);
        from.send("stop", soon);
    });
    std::vector<std::string> seen;
    pending_reply one = client.start_call("one", soon);
    pending_reply two = client.start_call("two", soon);
    one.then([&] { seen.push_back(std::string(one.get(0s).text())); });
    two.then([&] { seen.push_back(std::string(two.get(0s).text())); });
    CHECK(client.receive(soon).text() == "stop");
    service_thread.join();
    CHECK(seen == std::vector<std::string>{"two", "one"});
    bool at_once = false;
    one.then([&] { at_once = true; });
    CHECK(at_once);
}

TEST_CASE("coroutines wait for replies while one thread receives", "[call][pending][coroutine]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    constexpr std::uint64_t coroutines = 8;
    const std::uint64_t each = 1 + scaled(500);
    std::thread service_thread([&, &from = server] {
        answer(from, coroutines * each, 3);
        from.send("stop", soon);
    });
    std::uint64_t right = 0;
    int error = 0;
    for (std::uint64_t i = 0; i < coroutines; ++i) ask(client, i * each, each, right, error);
    // Replies go to the coroutines; only what is left comes out here.
    CHECK(client.receive(soon).text() == "stop");
    service_thread.join();
    CHECK(right == coroutines * each);
    CHECK(error == 0);
}

TEST_CASE("the peer's death fails all calls that are under way", "[death][pending][fork]") {
    service local;
    child peer([&] {
        channel from(local.connect());
        from.send("ready", soon);
        const message first = from.receive(soon);
        from.reply(first, "only one", soon);
        for (;;) (void)from.receive(soon);
        return 0;
    });
    channel client(local.accept());
    CHECK(client.receive(soon).text() == "ready");
    pending_reply first = client.start_call("first", soon);
    pending_reply second = client.start_call("second", soon);
    std::uint64_t right = 0;
    int error = 0;
    ask(client, 1, 1, right, error);
    CHECK(first.get(soon).text() == "only one");
    peer.kill();
    CHECK(error_of([&] { (void)second.get(soon); }) == EPIPE);
    CHECK(peer.wait().signaled(9));
    CHECK(error == EPIPE);
    CHECK(error_of([&] { (void)client.start_call("third", soon); }) == EPIPE);
}

TEST_CASE("a channel that closes ends the calls that are under way", "[call][pending]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    std::optional<channel> client(std::move(ends.second));
    pending_reply reply = client->start_call("anybody?", soon);
    std::uint64_t right = 0;
    int error = 0;
    ask(*client, 1, 1, right, error);
    CHECK(server.receive(soon).is_request());
    client.reset();
    CHECK(error == ECANCELED);
    CHECK(reply.ready());
    CHECK(error_of([&] { (void)reply.get(soon); }) == ECANCELED);
    bool told = false;
    reply.then([&] { told = true; });
    CHECK(told);
}

TEST_CASE("threads wait for their replies beside receivers and callers", "[call][pending]") {
    auto ends = channel_pair();
    auto& server = ends.first;
    auto& client = ends.second;
    constexpr std::uint64_t threads = 4;
    const std::uint64_t each = 1 + scaled(2000);
    std::thread service_thread([&, &from = server] { answer(from, 2 * threads * each, 1); });
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> callers;
    for (std::uint64_t t = 0; t < threads; ++t) {
        callers.emplace_back([&, &to = client, t] {
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::uint64_t number = t << 32 | i;
                pending_reply pending = to.start_call(number, soon);
                if (to.call(~number, soon).as<std::uint64_t>() != ~number) ++wrong;
                if (pending.get(soon).as<std::uint64_t>() != number) ++wrong;
            }
        });
    }
    for (auto& caller : callers) caller.join();
    service_thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("a reply can be looked for without waiting", "[call][pending]") {
    auto [client, server] = channel_pair();
    pending_reply reply = client.start_call("x", soon);
    CHECK_FALSE(reply.try_get().has_value());
    server.send("first", soon);
    CHECK_FALSE(reply.try_get().has_value());
    server.reply(server.receive(soon), "y", soon);
    const auto got = reply.try_get();
    REQUIRE(got.has_value());
    CHECK(got->text() == "y");
    CHECK(client.receive(soon).text() == "first");
    pending_reply lost = client.start_call("x", soon);
    { const channel gone(std::move(server)); }
    CHECK(error_of([&] { (void)lost.try_get(); }) == EPIPE);
}

TEST_CASE("a continuation may end what another one that is due belongs to", "[call][pending]") {
    auto ends = connected_pair(channel_slot_bytes(1000));
    auto server = std::make_unique<channel>(std::move(ends.first));
    channel client(std::move(ends.second));
    // Whichever comes first takes the other away.
    std::array<std::optional<pending_reply>, 2> replies;
    int ran = 0;
    for (std::size_t i = 0; i < 2; ++i) {
        replies[i].emplace(client.start_call("x", soon));
        replies[i]->then([&, i] {
            ++ran;
            replies[1 - i].reset();
        });
    }
    server.reset();
    CHECK(error_of([&] { client.receive(soon); }) == EPIPE);
    CHECK(ran == 1);
}
