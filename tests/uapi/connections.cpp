// SPDX-License-Identifier: MIT
// LISTEN, CONNECT, ACCEPT.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/threads.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

int try_connect(const unique_fd& door, const ipcdoor_connect& arguments) {
    auto args = arguments;
    const int result = call(door, IPCDOOR_IOC_CONNECT, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

int try_accept(const unique_fd& listener, std::uint64_t deadline_ns) {
    ipcdoor_accept args{};
    args.deadline_ns = deadline_ns;
    const int result = call(listener, IPCDOOR_IOC_ACCEPT, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

// Runs `act` once a thread that runs `body` sleeps in the kernel.
template <typename Body, typename Act>
int while_asleep(Body body, Act act) {
    int result = 0;
    blocking_thread sleeper([&] { result = body(); });
    sleeper.wait_asleep();
    act(sleeper.handle());
    sleeper.join();
    return result;
}

}  // namespace

TEST_CASE("LISTEN refuses backlogs and layouts out of range", "[uapi][listen]") {
    const auto door = open_door();
    const auto with = [&](auto change) {
        auto args = listen_args(fresh_name());
        change(args);
        const int result = call(door, IPCDOOR_IOC_LISTEN, &args);
        if (result >= 0) ::close(result);
        return result < 0 ? result : 0;
    };
    CHECK(with([](auto& a) { a.backlog = 0; }) == -EINVAL);
    CHECK(with([](auto& a) { a.backlog = IPCDOOR_MAX_BACKLOG + 1; }) == -EINVAL);
    CHECK(with([](auto& a) { a.backlog = IPCDOOR_MAX_BACKLOG; }) == 0);
    CHECK(with([](auto& a) { a.data_bytes = 100; }) == -EINVAL);
    CHECK(with([](auto& a) { a.slot_bytes = 100; }) == -EINVAL);
    CHECK(with([](auto& a) { a.data_bytes = std::uint64_t{1} << 63; }) == -EINVAL);
    CHECK(with([](auto& a) { a.slot_bytes = std::uint64_t{1} << 63; }) == -EINVAL);
    CHECK(with([](auto& a) { a.data_bytes = 0; }) == 0);
    CHECK(with([](auto& a) { a.source = IPCDOOR_SOURCE_COUNT; }) == -EINVAL);
}

TEST_CASE("a connection: the client has slot 1, the server slot 0", "[uapi][connect]") {
    const auto door = open_door();
    auto args = listen_args(fresh_name());
    args.data_bytes = 8192;
    args.slot_bytes = 8192;
    args.flags = IPCDOOR_LISTEN_STAMPS;
    const auto listener = listen(door, args);
    const auto client = connect(door, connect_args(args.name));
    CHECK(client.info.slot == 1);
    CHECK(client.info.slots == 2);
    CHECK(client.info.data_bytes == 8192);
    CHECK(client.info.slot_bytes == 8192);
    CHECK(client.info.source == actual_source(door));
    CHECK(client.info.rights == (IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE));
    CHECK(client.info.flags == (IPCDOOR_ENDPOINT_CONNECTION | IPCDOOR_ENDPOINT_STAMPS));
    CHECK(peer_info(client, 0).state == IPCDOOR_SLOT_PENDING);
    CHECK(take(client, lifecycle_bit).error == -ETIMEDOUT);
    CHECK((poll_now(client.get()) & POLLHUP) == 0);

    // rings and writes before ACCEPT are there afterwards
    CHECK(ring(client, 0, 7, 70) == 0);
    CHECK(ring(client, 0, 7, 71) == 0);
    const auto data = map_data(client, PROT_READ | PROT_WRITE);
    data.word() = 99;

    const auto server = accept(listener);
    CHECK(server.info.slot == 0);
    CHECK(server.info.generation == 1);
    CHECK(server.info.rights == (IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE));
    CHECK(take(client, lifecycle_bit).fired == lifecycle_bit);
    CHECK(peer_info(client, 0).state == IPCDOOR_SLOT_ALIVE);
    CHECK(peer_info(client, 0).pid == ::getpid());
    const auto early = take(server, bit(7));
    CHECK(early.count == 2);
    CHECK(early.value == 71);
    CHECK(map_data(server, PROT_READ).word() == 99);
    CHECK(seal(server, IPCDOOR_SEAL_GROW) == -EPERM);
    CHECK(seal(client, IPCDOOR_SEAL_GROW) == -EPERM);
}

TEST_CASE("connections are accepted in order, and are private to each pair", "[uapi][connect]") {
    const auto door = open_door();
    const auto args = listen_args(fresh_name());
    const auto listener = listen(door, args);
    std::vector<endpoint> clients;
    for (std::uint64_t i = 0; i < 5; ++i) {
        clients.push_back(connect(door, connect_args(args.name)));
        map_data(clients.back(), PROT_READ | PROT_WRITE).word() = 100 + i;
    }
    CHECK(poll_now(listener.get()) == POLLIN);
    std::vector<endpoint> servers;
    for (std::uint64_t i = 0; i < 5; ++i) {
        servers.push_back(accept(listener));
        CHECK(map_data(servers.back(), PROT_READ).word() == 100 + i);
    }
    CHECK(poll_now(listener.get()) == 0);
    REQUIRE(ring(clients[2], 0, 3) == 0);
    for (std::size_t i = 0; i < 5; ++i) CHECK((take(servers[i], bit(3)).error == 0) == (i == 2));
}

TEST_CASE("ACCEPT waits until its deadline, and not at all if it is past or non-blocking",
          "[uapi][accept]") {
    const auto door = open_door();
    auto args = listen_args(fresh_name());
    const auto listener = listen(door, args);
    CHECK(try_accept(listener, 0) == -ETIMEDOUT);
    CHECK(try_accept(listener, now_ns()) == -ETIMEDOUT);
    const auto deadline = deadline_in(std::chrono::milliseconds(30));
    CHECK(try_accept(listener, deadline) == -ETIMEDOUT);
    CHECK(now_ns() >= deadline);
    REQUIRE(::fcntl(listener.get(), F_SETFL, O_NONBLOCK) == 0);
    CHECK(try_accept(listener, IPCDOOR_NO_DEADLINE) == -EAGAIN);
    REQUIRE(::fcntl(listener.get(), F_SETFL, 0) == 0);
    endpoint client;
    const auto connect_now = [&](pthread_t) { client = connect(door, connect_args(args.name)); };
    for (const std::uint64_t far :
         {std::uint64_t{IPCDOOR_NO_DEADLINE}, deadline_in(partner_deadline)})
        CHECK(while_asleep([&] { return try_accept(listener, far); }, connect_now) == 0);
    CHECK(while_asleep([&] { return poll_now(listener.get(), POLLIN, 60'000); }, connect_now) ==
          POLLIN);
}

TEST_CASE("ACCEPT and CONNECT are EINTR without SA_RESTART, and go on with it", "[uapi][accept]") {
    const auto door = open_door();
    auto args = listen_args(fresh_name());
    args.backlog = 1;
    const auto listener = listen(door, args);
    const auto interrupt = [](pthread_t whom) { ::pthread_kill(whom, SIGUSR1); };
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    const auto blocked_accept = [&] { return try_accept(listener, IPCDOOR_NO_DEADLINE); };
    const auto blocked_connect = [&] { return try_connect(door, connect_args(args.name)); };
    CHECK(while_asleep(blocked_accept, interrupt) == -EINTR);
    const auto first = connect(door, connect_args(args.name));
    CHECK(while_asleep(blocked_connect, interrupt) == -EINTR);
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, nullptr);
    CHECK(while_asleep(blocked_connect, [&](pthread_t whom) {
              interrupt(whom);
              std::this_thread::sleep_for(std::chrono::milliseconds(10));
              const auto room = accept(listener);
          }) == 0);
    accept(listener);
    endpoint client;
    CHECK(while_asleep(blocked_accept, [&](pthread_t whom) {
              interrupt(whom);
              std::this_thread::sleep_for(std::chrono::milliseconds(10));
              client = connect(door, connect_args(args.name));
          }) == 0);
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("a full backlog makes CONNECT wait for room", "[uapi][connect]") {
    const auto door = open_door();
    auto args = listen_args(fresh_name());
    args.backlog = 2;
    auto listener = listen(door, args);
    const auto first = connect(door, connect_args(args.name));
    const auto second = connect(door, connect_args(args.name));
    auto connecting = connect_args(args.name);
    connecting.deadline_ns = 0;
    CHECK(try_connect(door, connecting) == -ETIMEDOUT);
    connecting.deadline_ns = deadline_in(std::chrono::milliseconds(30));
    CHECK(try_connect(door, connecting) == -ETIMEDOUT);
    CHECK(now_ns() >= connecting.deadline_ns);
    connecting.deadline_ns = IPCDOOR_NO_DEADLINE;
    const auto impatient = open_door(O_NONBLOCK);
    CHECK(try_connect(impatient, connecting) == -EAGAIN);
    CHECK(while_asleep([&] { return try_connect(door, connecting); },
                       [&](pthread_t) { accept(listener); }) == 0);
    CHECK(while_asleep([&] { return try_connect(door, connecting); },
                       [&](pthread_t) { listener.reset(); }) == -ECONNREFUSED);
}

TEST_CASE("a closing listener tells the clients that were not accepted", "[uapi][listen]") {
    const auto door = open_door();
    const auto args = listen_args(fresh_name());
    auto listener = listen(door, args);
    const auto waiting = connect(door, connect_args(args.name));
    const auto accepted_client = connect(door, connect_args(args.name));
    const auto server = accept(listener);  // that of `waiting`
    take(waiting, lifecycle_bit);
    listener.reset();
    // the accepted one lives on, the other is told
    CHECK(ring(waiting, 0, 3) == 0);
    CHECK(take(server, bit(3)).error == 0);
    CHECK(take(accepted_client, lifecycle_bit).error == 0);
    CHECK(take(accepted_client, bit(3)).error == -EPIPE);
    CHECK((poll_now(accepted_client.get()) & POLLHUP) != 0);
    CHECK(ring(accepted_client, 0, 3) == -EPIPE);
    CHECK(try_connect(door, connect_args(args.name)) == -ENOENT);
}

TEST_CASE("a client that died before ACCEPT leaves its last words", "[uapi][accept]") {
    const auto door = open_door();
    const auto args = listen_args(fresh_name());
    const auto listener = listen(door, args);
    child client([&] {
        const auto b = connect(door, connect_args(args.name));
        map_data(b, PROT_READ | PROT_WRITE).word() = 31;
        EXPECT_CHILD(ring(b, 0, 4, 41) == 0);
        return 0;
    });
    CHECK(client.wait().exited());
    const auto server = accept(listener);
    CHECK(map_data(server, PROT_READ).word() == 31);
    CHECK(take(server, bit(4)).value == 41);
    CHECK(take(server, bit(4)).error == -EPIPE);
    CHECK((poll_now(server.get()) & POLLHUP) != 0);
    CHECK(ring(server, 1, 4) == -EPIPE);
}

TEST_CASE("CONNECT refuses a listener that wants too much, or is somebody else's",
          "[uapi][connect]") {
    const auto door = open_door();
    auto listening = listen_args(fresh_name());
    listening.mode = 0666;
    listening.data_bytes = 1 << 20;
    const auto listener = listen(door, listening);
    auto args = connect_args(listening.name);
    args.max_bytes = 1 << 20;  // DATA alone would fit
    CHECK(try_connect(door, args) == -EMSGSIZE);
    args.max_bytes = 2 << 20;
    CHECK(try_connect(door, args) == 0);
    args.max_bytes = 0;
    args.flags = IPCDOOR_CONNECT_UID;
    args.server_uid = 0;
    CHECK(try_connect(door, args) == 0);
    args.server_uid = user_uid;
    CHECK(try_connect(door, args) == -EPERM);
    args.server_uid = caller_id;
    CHECK(try_connect(door, args) == -EINVAL);
    args.flags = 0;
    args.server_uid = user_uid;
    CHECK(try_connect(door, args) == -EINVAL);
    auto user = child::as_user(user_uid, [&] {
        auto own = connect_args(listening.name);
        own.flags = IPCDOOR_CONNECT_UID;
        own.server_uid = user_uid;
        EXPECT_CHILD(try_connect(door, own) == -EPERM);
        own.server_uid = 0;
        EXPECT_CHILD(try_connect(door, own) == 0);
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("whoever holds the listener may accept, and owns what it accepted", "[uapi][accept]") {
    const auto door = open_door();
    auto args = listen_args(fresh_name());
    args.mode = 0666;
    const auto listener = listen(door, args);
    gate accepted;
    gate done;
    auto worker = child::as_user(user_uid, [&] {
        const auto server = accept(listener);
        accepted.open();
        const auto got = wait_long(server, bit(2));
        EXPECT_CHILD(got.error == 0);
        EXPECT_CHILD(ring(server, 1, 3, got.value) == 0);
        done.wait();
        return 0;
    });
    const auto client = connect(door, connect_args(args.name));
    accepted.wait();
    const auto who = peer_info(client, 0);
    CHECK(who.uid == user_uid);
    CHECK(who.pid == worker.pid());
    CHECK(ring(client, 0, 2, 12) == 0);
    CHECK(wait_long(client, bit(3)).value == 12);
    done.open();
    CHECK(worker.wait().exited());
    CHECK(wait_long(client, bit(3)).error == -EPIPE);
}

TEST_CASE("clients from many processes are each served", "[uapi][connect][concurrency]") {
    const auto door = open_door();
    auto args = listen_args(fresh_name());
    args.backlog = 2;  // so that most must wait for room
    const auto listener = listen(door, args);
    constexpr unsigned clients = 12;
    std::vector<child> children;
    for (unsigned i = 0; i < clients; ++i)
        children.emplace_back([&, i] {
            for (unsigned n = 0; n < 5; ++n) {
                const auto own = connect(door, connect_args(args.name));
                EXPECT_CHILD(ring(own, 0, 1, 1000 * i + n) == 0);
                const auto reply = wait_long(own, bit(2));
                EXPECT_CHILD(reply.error == 0 && reply.value == 1000 * i + n + 1);
            }
            return 0;
        });
    std::uint64_t sum = 0;
    for (unsigned i = 0; i < 5 * clients; ++i) {
        const auto server = accept(listener);
        const auto request = wait_long(server, bit(1));
        REQUIRE(request.error == 0);
        sum += request.value;
        REQUIRE(ring(server, 1, 2, request.value + 1) == 0);
        while (wait_long(server, bit(3)).error == 0) continue;  // until it has gone
    }
    for (auto& one : children) CHECK(one.wait().exited());
    std::uint64_t expected = 0;
    for (unsigned i = 0; i < clients; ++i)
        for (unsigned n = 0; n < 5; ++n) expected += 1000 * i + n;
    CHECK(sum == expected);
}

TEST_CASE("ACCEPT without a free descriptor leaves the connection in the queue", "[uapi][accept]") {
    child server([] {
        const auto door = open_door();
        const auto args = listen_args(fresh_name());
        const auto listener = ipcdoor::test::listen(door, args);
        const auto client = ipcdoor::test::connect(door, connect_args(args.name));
        rlimit before{};
        EXPECT_CHILD(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        const int lowest_free = ::dup(listener.get());
        ::close(lowest_free);
        const rlimit full{static_cast<rlim_t>(lowest_free), before.rlim_max};
        EXPECT_CHILD(::setrlimit(RLIMIT_NOFILE, &full) == 0);
        EXPECT_CHILD(try_accept(listener, 0) == -EMFILE);
        EXPECT_CHILD(::setrlimit(RLIMIT_NOFILE, &before) == 0);
        EXPECT_CHILD((poll_now(client.get()) & POLLHUP) == 0);
        EXPECT_CHILD(try_accept(listener, 0) == 0);
        return 0;
    });
    CHECK(server.wait().exited());
}
