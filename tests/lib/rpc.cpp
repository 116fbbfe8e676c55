// SPDX-License-Identifier: MIT
// Remote calls: types, errors, deadlines, cancelling, pools, and servers that die.
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <vector>

#include <ipcdoor/rpc.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/counted_signal.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

mailbox_options here() {
    mailbox_options options;
    options.source = source();
    return options;
}

// A server of the back end under test, served by `threads`.
struct office {
    explicit office(unsigned workers = 1)
        : name(unique_name()), at(test_door()), served(at, name, here()), threads(workers) {}
    ~office() {
        served.stop();
        for (auto& thread : pool) thread.join();
    }
    void open() {
        for (unsigned i = 0; i < threads; ++i) pool.emplace_back([this] { served.serve(); });
    }
    rpc::client client(const rpc::client_options& options = {}) {
        return rpc::client(at, name, soon, options);
    }

    std::string name;
    door at;
    rpc::server served;
    unsigned threads;
    std::vector<std::thread> pool;
};

struct position {
    int x;
    double y;
};
struct order {
    std::string what;
    std::vector<position> where;
    std::optional<std::map<std::string, std::uint64_t>> prices;
    std::tuple<bool, std::array<short, 3>> rest;
};

// The code and text of an rpc::failure.
std::pair<int, std::string> failure_of(const std::function<void()>& operation) {
    try {
        operation();
    } catch (const rpc::failure& wrong) {
        return {wrong.code(), wrong.what()};
    }
    return {0, ""};
}

std::string text_of(const std::function<void()>& operation) {
    try {
        operation();
    } catch (const error& wrong) {
        return wrong.what();
    }
    return "";
}

}  // namespace

TEST_CASE("functions are called with their types, as if they were local", "[rpc]") {
    office calc;
    int touched = 0;
    calc.served.bind("add", [](int a, int b) { return a + b; });
    calc.served.bind("touch", [&] { ++touched; });
    calc.served.bind("join",
                     [](std::string_view a, const std::string& b) { return std::string(a) + b; });
    calc.served.bind("sum", [](const std::vector<double>& all) {
        double sum = 0;
        for (const double one : all) sum += one;
        return sum;
    });
    calc.served.bind("echo", [](const order& one) { return one; });
    calc.served.bind("count", [](std::span<const std::byte> bytes) {
        return static_cast<std::uint64_t>(bytes.size());
    });
    calc.open();
    rpc::client client = calc.client();
    CHECK(client.call<int>("add", 2, 3) == 5);
    client.call<void>("touch");
    CHECK(touched == 1);
    CHECK(client.call<std::string>("join", std::string("a\0b", 3), std::string_view("c")) ==
          std::string("a\0bc", 4));
    CHECK(client.call<double>("sum", std::vector<double>{0.5, 1, 2}) == 3.5);
    CHECK(client.call<double>("sum", std::vector<double>{}) == 0);
    const order one{"tea", {{1, 2.5}, {3, 4}}, {{{"pot", 7}}}, {true, {1, 2, 3}}};
    const auto same = client.call<order>("echo", one);
    CHECK(same.what == "tea");
    CHECK(same.where[1].y == 4);
    CHECK(same.prices->at("pot") == 7);
    CHECK(std::get<1>(same.rest)[2] == 3);
    // Longer than a record, both ways.
    const std::string large = pattern(1, 300'000);
    CHECK(client.call<std::string>("join", large, large) == large + large);
    CHECK(client.call<std::uint64_t>("count", std::as_bytes(std::span(large))) == large.size());
    CHECK(calc.served.stats().failed == 0);
}

TEST_CASE("unknown methods and other signatures are refused with both", "[rpc]") {
    office calc;
    calc.served.bind("add", [](int a, int b) { return a + b; });
    CHECK(error_of([&] { calc.served.bind("add", [](int a) { return a; }); }) == EEXIST);
    calc.open();
    rpc::client client = calc.client();
    CHECK(error_of([&] { client.call<int>("subtract", 2, 3); }) == ENOSYS);
    CHECK(error_of([&] { client.call<int>("add", 2); }) == EINVAL);
    CHECK(error_of([&] { client.call<long>("add", 2, 3); }) == EINVAL);
    CHECK(error_of([&] { client.call<int>("add", 2, 3U); }) == EINVAL);
    const std::string text = text_of([&] { client.call<int>("add", 2, "x"sv); });
    CHECK(text.find("i32,i32->i32") != std::string::npos);
    CHECK(text.find("i32,str->i32") != std::string::npos);
    CHECK(client.call<int>("add", 2, 3) == 5);
    CHECK(calc.served.stats().failed == 5);
}

TEST_CASE("what a handler throws arrives at its caller", "[rpc]") {
    office calc;
    calc.served.bind("fail", [](int code) { throw rpc::failure(code, "as you wish"); });
    calc.served.bind("throw", [] { throw std::runtime_error("of the standard library"); });
    calc.served.bind("odd", [] { throw 7; });
    calc.served.bind("error", [] { throw error(EACCES, "not for you"); });
    calc.open();
    rpc::client client = calc.client();
    CHECK(failure_of([&] { client.call<void>("fail", 42); }) ==
          std::pair(42, std::string("as you wish")));
    CHECK(failure_of([&] { client.call<void>("throw"); }) ==
          std::pair(int{rpc::failure::uncaught}, std::string("of the standard library")));
    CHECK(failure_of([&] { client.call<void>("odd"); }).first == rpc::failure::uncaught);
    CHECK(error_of([&] { client.call<void>("error"); }) == EACCES);
    CHECK(failure_of([&] { client.call<void>("fail", 1); }).first == 1);
}

TEST_CASE("malformed calls are answered with an error", "[rpc][hostile]") {
    office calc;
    calc.served.bind("text", [](const std::string& text) { return text; });
    calc.open();
    channel raw(calc.at.connect(calc.name, soon));
    const auto answer_to = [&](std::span<const std::byte> request) {
        const message reply = raw.call(request, soon);
        rpc::reader from(reply.bytes());
        const auto kind = rpc::decode<std::uint32_t>(from);
        const auto code = rpc::decode<std::int32_t>(from);
        CHECK(kind == static_cast<std::uint32_t>(rpc::reply_kind::system));
        return code;
    };
    CHECK(answer_to({}) == EBADMSG);
    std::vector<std::byte> request(sizeof(rpc::call_header));
    CHECK(answer_to(std::span(request).first(23)) == EBADMSG);
    CHECK(answer_to(request) == ENOSYS);
    const rpc::call_header header{rpc::hash("text"), rpc::hash("str->str"), IPCDOOR_NO_DEADLINE};
    std::memcpy(request.data(), &header, sizeof header);
    CHECK(answer_to(request) == EBADMSG);
    request.resize(sizeof header + 4, std::byte{0xff});
    CHECK(answer_to(request) == EBADMSG);
    request.assign(sizeof header + 5, std::byte{0});
    std::memcpy(request.data(), &header, sizeof header);
    CHECK(answer_to(request) == EBADMSG);  // one byte is left over
    // What is neither a call nor a cancel ends the connection, and no other one.
    raw.send("nonsense!", soon);
    CHECK(error_of([&] { raw.receive(soon); }) == EPIPE);
    CHECK(calc.client().call<std::string>("text", "still there"sv) == "still there");
}

TEST_CASE("deadlines travel with the call", "[rpc]") {
    office calc;
    std::atomic<int> begun{0};
    std::atomic<bool> held{true};
    calc.served.bind("hold", [&] {
        ++begun;
        while (held) std::this_thread::sleep_for(1ms);
    });
    calc.served.bind("outlast", [](rpc::context& about) {
        while (!about.cancelled()) std::this_thread::sleep_for(1ms);
    });
    calc.served.bind("left", [](rpc::context& about) { return about.until().ns(); });
    calc.open();
    rpc::client client = calc.client();
    const std::uint64_t at = ipcdoor_deadline_ns(50'000'000'000);
    CHECK(client.call_until<std::uint64_t>(deadline::at_ns(at), "left") == at);

    // The one server thread is held: what waits behind it until its own deadline is over
    // fails at that time, and is not begun later.
    rpc::pending<void> first = client.start_until<void>(soon, "hold");
    while (begun == 0) std::this_thread::sleep_for(1ms);
    CHECK(error_of([&] { client.call_until<void>(30ms, "hold"); }) == ETIMEDOUT);
    const deadline short_one = 20ms;
    rpc::pending<void> second = client.start_until<void>(short_one, "hold");
    while (ipcdoor_now_ns() < short_one.ns()) std::this_thread::sleep_for(1ms);
    held = false;
    first.get(soon);
    CHECK(error_of([&] { second.get(soon); }) == ETIMEDOUT);
    CHECK(begun == 1);
    CHECK(calc.served.stats().expired == 2);

    // A handler sees that its call's time is over. (A late server never begins it.)
    const int code = error_of([&] { client.start_until<void>(100ms, "outlast").get(soon); });
    CHECK((code == 0 || code == ETIMEDOUT));
}

TEST_CASE("a call can be cancelled, and a client that leaves cancels all of its", "[rpc]") {
    office calc(2);
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
    calc.served.bind("sleep", [&](rpc::context& about) {
        ++begun;
        while (!about.cancelled()) std::this_thread::sleep_for(1ms);
        ++ended;
        return 7;
    });
    calc.open();
    {
        rpc::client client = calc.client();
        rpc::pending<int> call = client.start_until<int>(soon, "sleep");
        while (begun == 0) std::this_thread::sleep_for(1ms);
        CHECK(client.cancel(call));
        CHECK(call.get(soon) == 7);
        CHECK(client.cancel(call));  // it is over
        CHECK(calc.served.stats().cancelled == 1);
        (void)client.start_until<int>(soon, "sleep");
        while (begun == 1) std::this_thread::sleep_for(1ms);
    }
    while (ended != 2) std::this_thread::sleep_for(1ms);
}

TEST_CASE("a client that leaves while its call is being begun cancels it", "[rpc]") {
    // Somebody must be left to see them leave, whoever is held.
    constexpr unsigned rounds = 12;
    office calc(rounds + 1);
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
    calc.served.bind("sleep", [&](rpc::context& about) {
        ++begun;
        while (!about.cancelled()) std::this_thread::sleep_for(1ms);
        ++ended;
    });
    calc.open();
    // Nobody but who left can end them, not even their deadline.
    for (unsigned i = 0; i < rounds; ++i) {
        rpc::client client = calc.client();
        (void)client.start_until<void>(forever, "sleep");
    }
    const deadline until = soon;
    // None of the calls has anybody left to be answered.
    while (calc.served.stats().failed != rounds && !until.is_past())
        std::this_thread::sleep_for(1ms);
    const bool all = calc.served.stats().failed == rounds && begun == ended;
    CHECK(all);
    if (!all) std::abort();  // its threads never end
}

TEST_CASE("a server that is stopped cancels what it is doing, and still answers it", "[rpc]") {
    office calc(2);
    std::atomic<int> begun{0};
    calc.served.bind("sleep", [&](rpc::context& about) {
        ++begun;
        while (!about.cancelled()) std::this_thread::sleep_for(1ms);
        return 7;
    });
    calc.open();
    rpc::client client = calc.client();
    rpc::pending<int> first = client.start_until<int>(forever, "sleep");
    rpc::pending<int> second = client.start_until<int>(forever, "sleep");
    while (begun != 2) std::this_thread::sleep_for(1ms);
    calc.served.stop();
    CHECK(first.get(soon) == 7);
    CHECK(second.get(soon) == 7);
    CHECK(calc.served.stopped());
}

TEST_CASE("a handler knows who calls", "[rpc][fork]") {
    office calc;
    calc.served.bind("who", [](rpc::context& about) { return about.caller().pid; });
    calc.open();
    child peer([&] {
        door own = test_door();
        rpc::client client(own, calc.name, soon);
        return client.call<std::int32_t>("who") == ::getpid() ? 0 : 1;
    });
    CHECK(peer.wait().exited());
}

TEST_CASE("a pool of threads answers many clients with many calls under way", "[rpc]") {
    office calc(3);
    calc.served.bind("twice", [](std::uint64_t number) { return 2 * number; });
    calc.open();
    constexpr std::uint64_t clients = 4;
    const std::uint64_t each = 10 + scaled(2000);
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (std::uint64_t c = 0; c < clients; ++c) {
        threads.emplace_back([&, c] {
            door own = test_door();
            rpc::client client(own, calc.name, soon);
            std::vector<rpc::pending<std::uint64_t>> calls;
            for (std::uint64_t i = 0; i < each; ++i) {
                calls.push_back(client.start<std::uint64_t>("twice", c * each + i));
                if (calls.size() < 50 && i + 1 < each) continue;
                for (std::uint64_t at = 0; at < calls.size(); ++at)
                    if (calls[at].get() != 2 * (c * each + i + 1 - calls.size() + at)) ++wrong;
                calls.clear();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(calc.served.stats().calls == clients * each);
}

TEST_CASE("signal handlers run while a client connects, and it waits on", "[rpc]") {
    counted_signal signals;
    office calc;
    calc.served.bind("seven", [] { return 7; });
    int answer = 0;
    std::atomic<bool> failed{false};
    // Nobody lets it in yet.
    std::thread caller(
        [&] { failed = error_of([&] { answer = calc.client().call<int>("seven"); }) != 0; });
    for (int i = 0; i < 5; ++i) {
        std::this_thread::sleep_for(1ms);
        signals.interrupt(caller.native_handle(), [&] { return failed.load(); });
    }
    CHECK_FALSE(failed);
    calc.open();
    caller.join();
    CHECK(answer == 7);
}

TEST_CASE("bytes of another serialiser are carried as they are, and aligned", "[rpc]") {
    office calc;
    calc.served.bind_raw("same", "mine->mine", [](rpc::context&, std::span<const std::byte> all) {
        if (reinterpret_cast<std::uintptr_t>(all.data()) % 8 != 0)
            throw rpc::failure(1, "not aligned");
        return std::string(reinterpret_cast<const char*>(all.data()), all.size());
    });
    calc.served.bind("add", [](int a, int b) { return a + b; });
    calc.open();
    rpc::client client = calc.client();
    for (const std::size_t bytes : {0, 1, 1000, 100'000}) {
        const std::string sent = pattern(3, bytes);
        const auto carried = std::as_bytes(std::span(sent));
        const auto is_same = [&](const rpc::raw_result& came) {
            return std::string_view(reinterpret_cast<const char*>(came.bytes().data()),
                                    came.bytes().size()) == sent &&
                   reinterpret_cast<std::uintptr_t>(came.bytes().data()) % 8 == 0;
        };
        CHECK(is_same(client.call_raw(soon, "same", "mine->mine", carried)));
        rpc::pending_raw started = client.start_raw(soon, "same", "mine->mine", carried);
        CHECK(is_same(started.get()));
        CHECK(client.cancel(started));
    }
    // The other side's types, encoded by hand.
    const std::int32_t both[] = {2, 3};
    const rpc::raw_result sum =
        client.call_raw(soon, "add", "i32,i32->i32", std::as_bytes(std::span(both)));
    rpc::reader from(sum.bytes());
    CHECK(rpc::decode<int>(from) == 5);
    const auto other = [&] { client.call_raw(soon, "add", "i32->i32", {}); };
    CHECK(error_of(other) == EINVAL);
    CHECK(text_of(other).find("called as i32->i32") != std::string::npos);
    CHECK(error_of([&] { client.call_raw(soon, "add", "i32,i32->i32", {}); }) == EBADMSG);
    CHECK(error_of([&] {
              calc.served.bind_raw("add", "x->y", [](auto&, auto all) { return all; });
          }) == EEXIST);
}

TEST_CASE("what follows a result is done by who lets it come in", "[rpc]") {
    office calc;
    calc.served.bind("twice", [](int number) { return 2 * number; });
    calc.served.bind("fail", []() -> int { throw rpc::failure(3, "no"); });
    calc.open();
    rpc::client client = calc.client();
    rpc::pending<int> good = client.start_until<int>(soon, "twice", 4);
    rpc::pending<int> bad = client.start_until<int>(soon, "fail");
    int result = 0;
    int code = 0;
    good.then([&] { result = good.get(); });
    bad.then([&] { code = failure_of([&] { bad.get(); }).first; });
    while (result == 0 || code == 0) client.poll();
    CHECK(result == 8);
    CHECK(code == 3);
    bool at_once = false;
    good.then([&] { at_once = true; });
    CHECK(at_once);
}

TEST_CASE("a forked child cannot serve in its parent's place", "[rpc][fork]") {
    office local;
    child heir([&] {
        EXPECT_CHILD(error_of([&] { local.served.serve(); }) == EPERM);
        return 0;
    });
    CHECK(heir.wait().exited());
    local.open();
}

TEST_CASE("a server that dies fails its calls at once, and can come back", "[rpc][death][fork]") {
    const std::string name = unique_name();
    std::unique_ptr<child> process;
    const auto start = [&] {
        process = std::make_unique<child>([&] {
            door own = test_door();
            rpc::server served(own, name, here());
            served.bind("pid", [] { return static_cast<std::int32_t>(::getpid()); });
            served.bind("hang", [](rpc::context& about) {
                while (!about.cancelled()) std::this_thread::sleep_for(1ms);
            });
            served.serve();
            return 0;
        });
    };
    const auto connect = [&] {
        door own = test_door();
        for (int tries = 0;; ++tries) {
            try {
                return rpc::client(own, name, soon);
            } catch (const error& wrong) {
                if (tries > 5000) throw;
                std::this_thread::sleep_for(10ms);
            }
        }
    };
    start();
    rpc::client client = connect();
    CHECK(client.call<std::int32_t>("pid") == process->pid());
    rpc::pending<void> hanging = client.start_until<void>(soon, "hang");
    std::thread killer([&] {
        std::this_thread::sleep_for(30ms);
        process->kill();
    });
    CHECK(error_of([&] { client.call_until<void>(soon, "hang"); }) == EPIPE);
    killer.join();
    CHECK(error_of([&] { hanging.get(); }) == EPIPE);
    CHECK(process->wait().signaled(9));
    CHECK(error_of([&] { client.call<std::int32_t>("pid"); }) == EPIPE);
    start();
    rpc::client again = connect();
    CHECK(again.call<std::int32_t>("pid") == process->pid());
    process->kill();
    CHECK(process->wait().signaled(9));
}

TEST_CASE("a client in an event loop drops what is no reply, some at a time", "[rpc][hostile]") {
    door at = test_door();
    const std::string name = unique_name();
    mailbox server(at, name, here());
    std::optional<rpc::client> client;
    std::thread connecting([&] { client.emplace(at, name, soon); });
    delivery got;
    while (server.stats().connected == 0) {
        CHECK_FALSE(server.try_receive(got));
        std::this_thread::sleep_for(1ms);
    }
    connecting.join();
    rpc::pending<int> result = client->start<int>("answer");
    server.receive(got, soon);
    for (int i = 0; i < rpc::at_a_time + 1; ++i) server.send(got.from, "noise", {}, soon);
    client->poll();
    pollfd wanted{client->end().fd(), POLLIN, 0};
    CHECK(::poll(&wanted, 1, 60'000) == 1);
    client->poll();
    client->poll();
    CHECK(::poll(&wanted, 1, 0) == 0);
    CHECK_FALSE(result.ready());
}

TEST_CASE("an event loop has its turn, however much a peer sends", "[rpc]") {
    door at = test_door();
    const std::string name = unique_name();
    mailbox_options options;
    options.source = source();
    rpc::server served(at, name, options);
    std::atomic<int> calls{0};
    served.bind("count", [&] { ++calls; });
    std::optional<rpc::client> client;
    std::thread connecting([&] { client.emplace(at, name, soon); });
    while (served.clients().senders() == 0) {
        served.poll();
        std::this_thread::sleep_for(1ms);
    }
    connecting.join();
    std::vector<rpc::pending<void>> all;
    for (int i = 0; i < 3 * rpc::at_a_time / 2; ++i) all.push_back(client->start<void>("count"));
    served.poll();
    CHECK(calls <= rpc::at_a_time);
    // The rest is announced.
    while (calls < 3 * rpc::at_a_time / 2) {
        pollfd wanted{served.fd(), POLLIN, 0};
        REQUIRE(::poll(&wanted, 1, 60'000) == 1);
        served.poll();
    }
    for (rpc::pending<void>& one : all) one.get(soon);
}
