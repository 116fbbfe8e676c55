// SPDX-License-Identifier: MIT
// co_await on everything that has a descriptor, in one thread.
#include <array>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <exception>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/async.hpp>

#include "lib/event_loop.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("one thread serves and uses everything by co_await", "[async]") {
    service local;
    door at = test_door();
    coroutine_loop loop;
    listener names =
        at.listen(unique_name(), {.slot_bytes = channel_slot_bytes(4096), .source = source()});
    auto ends = local.pair();
    channel server(std::move(ends.first));
    channel client(std::move(ends.second));
    std::vector<std::string> said;
    bool served = false;
    bool used = false;
    [](coroutine_loop& on, channel& from, bool& done) -> detached_task {
        for (;;) {
            const message got = co_await async_receive(on, from);
            if (got.text() == "stop") break;
            if (got.is_request())
                from.reply(got, "reply to " + std::string(got.text()), soon);
            else
                co_await async_send(on, from, "heard " + std::string(got.text()));
        }
        done = true;
    }(loop, server, served);
    [](coroutine_loop& on, channel& to, std::vector<std::string>& log,
       bool& done) -> detached_task {
        co_await async_send(on, to, "one");
        log.emplace_back((co_await async_receive(on, to)).text());
        // What comes ahead of a reply is not lost by the call.
        to.send("two", soon);
        log.emplace_back((co_await async_call(on, to, "a question")).text());
        log.emplace_back((co_await async_receive(on, to)).text());
        co_await async_send(on, to, "stop");
        done = true;
    }(loop, client, said, used);
    CHECK(loop.run_until([&] { return served && used; }));
    CHECK(said == std::vector<std::string>{"heard one", "reply to a question", "heard two"});
    CHECK(loop.waiting() == 0);
}

TEST_CASE("connections, streams and mailboxes are awaited as well", "[async][fork]") {
    door at = test_door();
    coroutine_loop loop;
    const std::string stream_name = unique_name();
    const std::string box_name = unique_name();
    const std::string plain_name = unique_name();
    stream_listener streams(at, stream_name, {.source = source()});
    mailbox box(at, box_name, {.source = source()});
    listener plain = at.listen(plain_name, {.source = source()});
    std::string text;
    std::string delivered;
    std::uint64_t rung = 0;
    int done = 0;
    [](coroutine_loop& on, stream_listener& from, std::string& into, int& ended) -> detached_task {
        stream_socket client = co_await async_accept(on, from);
        std::array<std::byte, 64> bytes{};
        while (const std::size_t got = co_await async_read(on, client, bytes)) {
            into.append(reinterpret_cast<const char*>(bytes.data()), got);
            co_await async_write_some(on, client, std::span(bytes).first(got));
        }
        ++ended;
    }(loop, streams, text, done);
    [](coroutine_loop& on, mailbox& from, std::string& into, int& ended) -> detached_task {
        const delivery got = co_await async_receive(on, from);
        into = got.content.text();
        ++ended;
    }(loop, box, delivered, done);
    [](coroutine_loop& on, listener& from, std::uint64_t& into, int& ended) -> detached_task {
        endpoint client = co_await async_accept(on, from);
        const event got = co_await async_wait(on, client, vectors(9));
        into = got.value;
        ++ended;
    }(loop, plain, rung, done);
    CHECK(loop.waiting() == 3);
    child peer([&] {
        door own = test_door();
        stream_socket socket = connect_stream(own, stream_name, {}, soon);
        socket.write("through a coroutine", soon);
        std::string back(19, '\0');
        if (!socket.read_exact(std::as_writable_bytes(std::span(back)), soon)) return 1;
        socket.close();
        channel to(own.connect(box_name, soon));
        to.send("letter", soon);
        endpoint bell = own.connect(plain_name, soon);
        bell.ring(1 - bell.slot(), 9, 4711);
        while (error_of([&] { (void)bell.wait(all_vectors, soon); }) != EPIPE) {
        }
        return back == "through a coroutine" ? 0 : 2;
    });
    CHECK(loop.run_until([&] { return done == 3; }));
    CHECK(text == "through a coroutine");
    CHECK(delivered == "letter");
    CHECK(rung == 4711);
    peer.kill();
    peer.wait();
}

TEST_CASE("a coroutine learns of its peer's death and of its loop's refusal", "[async]") {
    auto [one, other] = channel_pair();
    coroutine_loop loop;
    int code = 0;
    const auto receive = [](coroutine_loop& on, channel& from, int& result) -> detached_task {
        try {
            (void)co_await async_receive(on, from);
        } catch (const error& wrong) {
            result = wrong.error_number();
        }
    };
    loop.refuses = true;
    receive(loop, one, code);
    CHECK(code == ENOSPC);
    loop.refuses = false;
    receive(loop, one, code = 0);
    CHECK(code == 0);
    CHECK(loop.waiting() == 1);
    { const channel gone(std::move(other)); }
    CHECK(loop.run_until([&] { return code != 0; }));
    CHECK(code == EPIPE);
    // Now it fails without waiting.
    receive(loop, one, code = 0);
    CHECK(code == EPIPE);
}

TEST_CASE("a coroutine learns of a loop that refuses while it runs", "[async]") {
    auto [one, other] = channel_pair();
    coroutine_loop loop;
    int code = 0;
    const auto receive = [](coroutine_loop& on, channel& from, int& result) -> detached_task {
        try {
            (void)co_await async_receive(on, from);
        } catch (const error& wrong) {
            result = wrong.error_number();
        }
    };
    receive(loop, one, code);
    CHECK(loop.waiting() == 1);
    loop.refuses = true;
    // Readable, but of no message.
    one.remind();
    CHECK(loop.run_until([&] { return code != 0; }));
    CHECK(code == ENOSPC);
    CHECK(loop.waiting() == 0);
    other.send("goes on", soon);
    CHECK(one.receive(soon).text() == "goes on");
}

TEST_CASE("a coroutine that is destroyed while it waits leaves the loop", "[async]") {
    auto [one, other] = channel_pair();
    coroutine_loop loop;
    // Not detached: its frame is destroyed by whoever made it.
    struct kept {
        struct promise_type {
            kept get_return_object() {
                return {std::coroutine_handle<promise_type>::from_promise(*this)};
            }
            std::suspend_never initial_suspend() noexcept { return {}; }
            std::suspend_always final_suspend() noexcept { return {}; }
            void return_void() {}
            void unhandled_exception() { std::terminate(); }
        };
        std::coroutine_handle<promise_type> frame;
    };
    const kept waiting = [](coroutine_loop& on, channel& from) -> kept {
        (void)co_await async_receive(on, from);
    }(loop, one);
    CHECK(loop.waiting() == 1);
    waiting.frame.destroy();
    CHECK(loop.waiting() == 0);
    other.send("nobody waits", soon);
    CHECK(one.receive(soon).text() == "nobody waits");
}

TEST_CASE("a wait for room in a loop ends when there is some, and not before", "[async]") {
    auto [one, other] = channel_pair(1000);
    coroutine_loop loop;
    const std::string block(900, 'x');
    int sent = 0;
    while (one.try_send(block)) ++sent;
    bool done = false;
    [](coroutine_loop& on, channel& to, const std::string& what, bool& ended) -> detached_task {
        co_await async_send(on, to, what);
        ended = true;
    }(loop, one, block, done);
    CHECK_FALSE(done);
    for (int i = 0; i < sent; ++i) CHECK(other.receive(soon).size() == block.size());
    CHECK(loop.run_until([&] { return done; }));
    CHECK(loop.wakes < 10);
    CHECK(other.receive(soon).size() == block.size());
}

TEST_CASE("a send that waits in a loop does not spin for messages that nobody takes", "[async]") {
    auto [one, other] = channel_pair(1000);
    coroutine_loop loop;
    const std::string block(900, 'x');
    while (one.try_send(block)) {
    }
    bool done = false;
    [](coroutine_loop& on, channel& to, const std::string& what, bool& ended) -> detached_task {
        co_await async_send(on, to, what);
        ended = true;
    }(loop, one, block, done);
    other.send("for nobody", soon);
    std::thread receiving([&, &from = other] {
        std::this_thread::sleep_for(50ms);
        while (from.try_receive()) {
        }
    });
    CHECK(loop.run_until([&] { return done; }));
    CHECK(loop.wakes < 20);
    receiving.join();
    CHECK(one.receive(soon).text() == "for nobody");
}

TEST_CASE("a reply that waits in a loop does not spin once the inbox is full", "[async]") {
    channel_options small;
    small.inbox_bytes = 1;
    auto [one, other] = channel_pair(1000, small);
    coroutine_loop loop;
    bool done = false;
    for (int i = 0; i < 4; ++i) other.send("first", soon);
    [](coroutine_loop& on, channel& to, bool& ended) -> detached_task {
        ended = (co_await async_call(on, to, "question")).text() == "answer";
    }(loop, one, done);
    std::thread answering([&, &a = one, &b = other] {
        b.reply(b.receive(soon), "answer", soon);
        std::this_thread::sleep_for(50ms);
        for (int i = 0; i < 4; ++i) CHECK_IN_THREAD(a.receive(soon).text() == "first");
    });
    CHECK(loop.run_until([&] { return done; }));
    CHECK(loop.wakes < 50);
    answering.join();
}
