// Echoes what clients send, all of them in one thread:  ./stream &  then
// echo hello | ./stream send
#include <poll.h>

#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <list>
#include <thread>
#include <vector>

namespace {

using ipcdoor::stream_socket;

// Until nothing comes, or false at the client's end. The answer to a client that does
// not read it blocks here: a server for strangers uses try_write() as well.
bool echo(stream_socket& client) try {
    std::byte bytes[4096];
    while (const auto got = client.try_read(bytes)) {
        if (*got == 0) return false;
        client.write(std::span(bytes, *got), std::chrono::seconds(1));
    }
    return true;
} catch (const ipcdoor::error& error) {
    std::cerr << error.what() << '\n';  // that client's trouble alone
    return false;
}

void serve(ipcdoor::door& door) {
    ipcdoor::stream_listener names(door, "echo");
    std::list<stream_socket> clients;
    for (;;) {
        std::vector<pollfd> fds{{names.fd(), POLLIN, 0}};
        for (const stream_socket& client : clients) fds.push_back({client.fd(), POLLIN, 0});
        if (::poll(fds.data(), fds.size(), -1) < 0) continue;
        while (auto client = names.try_accept()) clients.push_back(std::move(*client));
        clients.remove_if([](stream_socket& client) { return !echo(client); });
    }
}

void send(ipcdoor::door& door) {
    stream_socket server = ipcdoor::connect_stream(door, "echo", {}, std::chrono::seconds(5));
    // Both directions at once, or two full rings would wait for each other.
    std::jthread sending([&] {
        try {
            ipcdoor::copy_from_fd(STDIN_FILENO, server);
            server.shutdown_write();
        } catch (const ipcdoor::error& error) {
            std::cerr << error.what() << '\n';
        }
    });
    ipcdoor::copy_to_fd(server, STDOUT_FILENO);
}

}  // namespace

int main(int argc, char**) try {
    ipcdoor::door door;
    if (argc > 1)
        send(door);
    else
        serve(door);
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
