// co_await in Boost.Asio, or Asio: one thread, any number of clients. Answers what
// ./message asks (message.cpp):  ./async_asio &  then  ./message hello
#include <functional>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <unordered_map>
#include <utility>

#if __has_include(<boost/asio.hpp>)
#include <boost/asio.hpp>
namespace asio = boost::asio;
#else
#include <asio.hpp>
#endif

namespace {

using ipcdoor::detached_task;

// Asio owns what it waits for, and the descriptors are ipcdoor's: it gets them for the
// time of a wait.
class asio_loop {
public:
    explicit asio_loop(asio::io_context& context) : context_(context) {}

    void when_readable(int fd, std::function<void()> ready) {
        const auto [at, added] = waiting_.try_emplace(fd, context_, fd);
        at->second.async_wait(asio::posix::descriptor_base::wait_read,
                              [this, fd, ready = std::move(ready)](const auto& failed) {
                                  if (failed) return;  // forgotten
                                  forget(fd);
                                  ready();
                              });
    }
    void forget(int fd) {
        const auto found = waiting_.find(fd);
        if (found == waiting_.end()) return;
        found->second.release();
        waiting_.erase(found);
    }

private:
    asio::io_context& context_;
    std::unordered_map<int, asio::posix::stream_descriptor> waiting_;
};

// One client, for as long as it stays. A client that is slow, hostile or dies concerns
// nobody else: what it sends lies in its own memory.
detached_task serve(asio_loop& loop, ipcdoor::endpoint accepted) {
    ipcdoor::channel client(std::move(accepted));
    try {
        for (;;) {
            const ipcdoor::message got = co_await ipcdoor::async_receive(loop, client);
            const std::string answer = "you said: " + std::string(got.text());
            if (got.is_request()) client.reply(got, answer, std::chrono::seconds(1));
        }
    } catch (const ipcdoor::error& error) {
        if (!error.is_peer_death()) std::cerr << error.what() << '\n';
    }
}

detached_task accept_all(asio_loop& loop, ipcdoor::listener& names) {
    for (;;) serve(loop, co_await ipcdoor::async_accept(loop, names));
}

}  // namespace

int main() try {
    ipcdoor::door door;
    ipcdoor::listener names =
        door.listen("echo", {.slot_bytes = ipcdoor::channel_slot_bytes(4096)});
    asio::io_context context;
    asio_loop loop(context);
    accept_all(loop, names);
    context.run();
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
