// SPDX-License-Identifier: MIT
// usage: proxy_clients SERVER_PATH CLIENT_PATH CONNECTIONS BYTES
//
// Both ends of two proxies that stand between two UNIX sockets: echoes what comes at
// SERVER_PATH, and as many clients at CLIENT_PATH send BYTES each, in pieces of all sizes,
// end their direction, and compare what comes back. Then a server, and a client, vanish
// while the other side sends without end, which must notice.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "support/process.hpp"

using namespace ipcdoor::test;

namespace {

int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

sockaddr_un address(const std::string& path) {
    sockaddr_un made{};
    made.sun_family = AF_UNIX;
    if (path.size() >= sizeof made.sun_path) throw std::runtime_error("the path is too long");
    std::memcpy(made.sun_path, path.data(), path.size());
    return made;
}

unique_fd listen_at(const std::string& path) {
    unique_fd made(checked(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    const sockaddr_un at = address(path);
    checked(::bind(made.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "bind");
    checked(::listen(made.get(), 512), "listen");
    return made;
}

unique_fd connect_at(const std::string& path) {
    unique_fd made(checked(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    const sockaddr_un at = address(path);
    checked(::connect(made.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "connect");
    return made;
}

unique_fd accept_at(const unique_fd& listener) {
    return unique_fd(checked(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}

void send_all(const unique_fd& to, const std::uint8_t* bytes, std::size_t count) {
    while (count > 0) {
        const auto put = ::send(to.get(), bytes, count, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        checked(static_cast<int>(put), "send");
        bytes += put;
        count -= static_cast<std::size_t>(put);
    }
}

void echo(const unique_fd& from) {
    std::vector<std::uint8_t> buffer(65536);
    for (;;) {
        const auto got = ::read(from.get(), buffer.data(), buffer.size());
        checked(static_cast<int>(got), "the server's read");
        if (got == 0) break;
        send_all(from, buffer.data(), static_cast<std::size_t>(got));
    }
    checked(::shutdown(from.get(), SHUT_WR), "shutdown");
}

// A number for each place, so that nothing can be lost, doubled or swapped unseen.
std::uint8_t byte_at(unsigned client, std::uint64_t at) {
    return static_cast<std::uint8_t>((at * 2654435761U >> 13) + client);
}

void run_client(const std::string& path, unsigned client, std::uint64_t bytes) {
    const unique_fd end = connect_at(path);
    std::thread sender([&] {
        std::mt19937 random(client);
        std::vector<std::uint8_t> piece;
        for (std::uint64_t at = 0; at < bytes;) {
            const std::uint64_t most = random() % 4 == 0 ? 200'000 : 2'000;
            piece.resize(std::min<std::uint64_t>(bytes - at, 1 + random() % most));
            for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = byte_at(client, at + i);
            send_all(end, piece.data(), piece.size());
            at += piece.size();
        }
        checked(::shutdown(end.get(), SHUT_WR), "shutdown");
    });
    std::vector<std::uint8_t> buffer(50'000);
    std::uint64_t at = 0;
    bool right = true;
    for (;;) {
        const auto got = ::read(end.get(), buffer.data(), buffer.size());
        if (got <= 0) {
            right = right && got == 0;
            break;
        }
        for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i)
            right = right && buffer[i] == byte_at(client, at + i);
        at += static_cast<std::uint64_t>(got);
    }
    sender.join();
    if (!right || at != bytes)
        throw std::runtime_error("client " + std::to_string(client) + ": " + std::to_string(at) +
                                 " bytes came back, right: " + (right ? "yes" : "no"));
}

// Whether everything can be sent, whatever comes back.
bool takes_all(const unique_fd& end, const std::vector<std::uint8_t>& bytes) {
    try {
        send_all(end, bytes.data(), bytes.size());
    } catch (const std::system_error& wrong) {
        if (wrong.code().value() != EPIPE && wrong.code().value() != ECONNRESET) throw;
        return false;
    }
    return true;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr, "usage: proxy_clients SERVER_PATH CLIENT_PATH CONNECTIONS BYTES\n");
        return 2;
    }
    const unique_fd listener = listen_at(argv[1]);
    const std::string path = argv[2];
    const auto connections = static_cast<unsigned>(std::strtoul(argv[3], nullptr, 10));
    const std::uint64_t bytes = std::strtoull(argv[4], nullptr, 10);

    std::vector<std::thread> servers;
    std::thread accepting([&] {
        for (unsigned i = 0; i < connections; ++i)
            servers.emplace_back([end = accept_at(listener)] { echo(end); });
    });
    std::atomic<unsigned> failures{0};
    std::vector<std::thread> clients;
    for (unsigned i = 0; i < connections; ++i) {
        clients.emplace_back([&, i] {
            try {
                run_client(path, i, bytes);
            } catch (const std::exception& wrong) {
                std::fprintf(stderr, "%s\n", wrong.what());
                ++failures;
            }
        });
    }
    for (auto& client : clients) client.join();
    accepting.join();
    for (auto& server : servers) server.join();
    std::printf("note: %u connections at once, %llu bytes each way in each, %u failures\n",
                connections, static_cast<unsigned long long>(bytes), failures.load());
    if (failures != 0) return 1;

    // More than fits on the way, so that somebody is left with bytes that cannot go on.
    const std::vector<std::uint8_t> much(16 << 20);
    for (const char* const who : {"server", "client"}) {
        unique_fd client = connect_at(path);
        send_all(client, much.data(), 1);
        unique_fd server = accept_at(listener);
        std::uint8_t one = 0;
        checked(static_cast<int>(::read(server.get(), &one, 1)), "read");
        unique_fd& vanishes = who[0] == 's' ? server : client;
        const unique_fd& stays = who[0] == 's' ? client : server;
        std::thread vanishing([&] {
            // once it has something unread
            pollfd ready{vanishes.get(), POLLIN, 0};
            checked(::poll(&ready, 1, 60'000), "poll");
            vanishes.reset();
        });
        const bool all = takes_all(stays, much);
        vanishing.join();
        if (all) throw std::runtime_error(std::string("a lost ") + who + " took everything");
        std::printf("note: a %s that vanished was noticed\n", who);
    }
    return 0;
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "proxy_clients: %s\n", wrong.what());
    return 1;
}
