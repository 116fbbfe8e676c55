// co_await in a loop on io_uring(7) by liburing: one thread, any number of clients. Answers
// what ./message asks (message.cpp):  ./async_io_uring &  then  ./message hello
#include <liburing.h>
#include <poll.h>

#include <functional>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <unordered_map>

namespace {

using ipcdoor::detached_task;

class uring_loop {
public:
    uring_loop() {
        if (const int made = ::io_uring_queue_init(256, &ring_, 0); made < 0)
            throw std::system_error(-made, std::generic_category(), "io_uring_queue_init");
    }
    ~uring_loop() { ::io_uring_queue_exit(&ring_); }
    uring_loop(const uring_loop&) = delete;
    uring_loop& operator=(const uring_loop&) = delete;

    void when_readable(int fd, std::function<void()> ready) {
        // A number for each wait: the descriptor may be another file by the time that a
        // cancelled one comes back.
        io_uring_sqe* const entry = next_entry();
        ::io_uring_prep_poll_add(entry, fd, POLLIN);
        ::io_uring_sqe_set_data64(entry, ++last_);
        waiting_[last_] = {fd, std::move(ready)};
    }
    void forget(int fd) {
        for (auto at = waiting_.begin(); at != waiting_.end(); ++at) {
            if (at->second.fd != fd) continue;
            io_uring_sqe* const entry = next_entry();
            ::io_uring_prep_cancel64(entry, at->first, 0);
            ::io_uring_sqe_set_data64(entry, 0);
            waiting_.erase(at);
            return;
        }
    }
    void run() {
        for (;;) {
            ::io_uring_submit_and_wait(&ring_, 1);
            io_uring_cqe* done = nullptr;
            while (::io_uring_peek_cqe(&ring_, &done) == 0) {
                const auto found = waiting_.find(::io_uring_cqe_get_data64(done));
                ::io_uring_cqe_seen(&ring_, done);
                if (found == waiting_.end()) continue;
                const std::function<void()> ready = std::move(found->second.ready);
                waiting_.erase(found);
                ready();
            }
        }
    }

private:
    struct wait {
        int fd;
        std::function<void()> ready;
    };

    io_uring_sqe* next_entry() {
        for (;;) {
            if (io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_)) return entry;
            ::io_uring_submit(&ring_);
        }
    }

    io_uring ring_{};
    std::uint64_t last_ = 0;
    std::unordered_map<std::uint64_t, wait> waiting_;
};

// One client, for as long as it stays. What it sends lies in its own memory, and a client
// that breaks the rules, or dies, ends this coroutine alone. (One that never pauses keeps
// the thread: a server for strangers counts.)
detached_task serve(uring_loop& loop, ipcdoor::endpoint accepted) {
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

detached_task accept_all(uring_loop& loop, ipcdoor::listener& names) {
    for (;;) serve(loop, co_await ipcdoor::async_accept(loop, names));
}

}  // namespace

int main() try {
    ipcdoor::door door;
    ipcdoor::listener names =
        door.listen("echo", {.slot_bytes = ipcdoor::channel_slot_bytes(4096)});
    uring_loop loop;
    accept_all(loop, names);
    loop.run();
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
