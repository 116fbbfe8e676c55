// co_await in sd-event(3), the loop of systemd's services: one thread, any number of
// clients. Answers what ./message asks (message.cpp):
// ./async_sd_event &  then  ./message hello
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include <functional>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <memory>
#include <unordered_map>

namespace {

using ipcdoor::detached_task;

class sd_loop {
public:
    explicit sd_loop(sd_event* event) : event_(event) {}

    void when_readable(int fd, std::function<void()> ready) {
        auto made = std::make_unique<wait>(wait{this, fd, std::move(ready), nullptr});
        const int added = ::sd_event_add_io(event_, &made->source, fd, EPOLLIN, &woken, made.get());
        if (added < 0) throw std::system_error(-added, std::generic_category(), "sd_event_add_io");
        waiting_[fd] = std::move(made);
    }
    void forget(int fd) {
        const auto found = waiting_.find(fd);
        if (found == waiting_.end()) return;
        ::sd_event_source_disable_unref(found->second->source);
        waiting_.erase(found);
    }

private:
    struct wait {
        sd_loop* loop;
        int fd;
        std::function<void()> ready;
        sd_event_source* source;
    };

    static int woken(sd_event_source*, int fd, std::uint32_t, void* data) {
        wait& here = *static_cast<wait*>(data);
        sd_loop& loop = *here.loop;
        const std::function<void()> ready = std::move(here.ready);
        loop.forget(fd);
        ready();
        return 0;
    }

    sd_event* event_;
    std::unordered_map<int, std::unique_ptr<wait>> waiting_;
};

// One client, for as long as it stays. What it sends lies in its own memory, and a client
// that breaks the rules, or dies, ends this coroutine alone. (One that never pauses keeps
// the thread: a server for strangers counts.)
detached_task serve(sd_loop& loop, ipcdoor::endpoint accepted) {
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

detached_task accept_all(sd_loop& loop, ipcdoor::listener& names) {
    for (;;) serve(loop, co_await ipcdoor::async_accept(loop, names));
}

}  // namespace

int main() try {
    ipcdoor::door door;
    ipcdoor::listener names =
        door.listen("echo", {.slot_bytes = ipcdoor::channel_slot_bytes(4096)});
    sd_event* event = nullptr;
    if (const int made = ::sd_event_default(&event); made < 0)
        throw std::system_error(-made, std::generic_category(), "sd_event_default");
    sd_loop loop(event);
    accept_all(loop, names);
    if (const int ended = ::sd_event_loop(event); ended < 0)
        throw std::system_error(-ended, std::generic_category(), "sd_event_loop");
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
