// co_await in a loop on epoll(7): one thread, any number of clients. Answers what
// ./message asks (message.cpp):  ./async_epoll &  then  ./message hello
#include <sys/epoll.h>

#include <functional>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <unordered_map>

namespace {

using ipcdoor::detached_task;

class epoll_loop {
public:
    void when_readable(int fd, std::function<void()> ready) {
        epoll_event wanted{.events = EPOLLIN, .data = {.fd = fd}};
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &wanted) != 0)
            throw std::system_error(errno, std::generic_category(), "epoll_ctl");
        ready_[fd] = std::move(ready);
    }
    void forget(int fd) {
        ready_.erase(fd);
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    }
    void run() {
        for (;;) {
            epoll_event event{};
            if (::epoll_wait(epoll_.get(), &event, 1, -1) != 1) continue;  // a signal handler ran
            const std::function<void()> ready = std::move(ready_[event.data.fd]);
            forget(event.data.fd);
            ready();
        }
    }

private:
    ipcdoor::owned_fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
    std::unordered_map<int, std::function<void()>> ready_;
};

// One client, for as long as it stays. What it sends lies in its own memory, and a client
// that breaks the rules, or dies, ends this coroutine alone. (One that never pauses keeps
// the thread: a server for strangers counts.)
detached_task serve(epoll_loop& loop, ipcdoor::endpoint accepted) {
    try {
        ipcdoor::channel client(std::move(accepted));
        for (;;) {
            const ipcdoor::message got = co_await ipcdoor::async_receive(loop, client);
            const std::string answer = "you said: " + std::string(got.text());
            if (got.is_request()) client.reply(got, answer, std::chrono::seconds(1));
        }
    } catch (const ipcdoor::error& error) {
        if (!error.is_peer_death()) std::cerr << error.what() << '\n';
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
    }
}

detached_task accept_all(epoll_loop& loop, ipcdoor::listener& names) {
    for (;;) serve(loop, co_await ipcdoor::async_accept(loop, names));
}

}  // namespace

int main() try {
    ipcdoor::door door;
    ipcdoor::listener names =
        door.listen("echo", {.slot_bytes = ipcdoor::channel_slot_bytes(4096)});
    epoll_loop loop;
    accept_all(loop, names);
    loop.run();
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
