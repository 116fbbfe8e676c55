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
        // A number for each wait: one that is forgotten may be on its way here already.
        const std::uint64_t number = ++last_;
        auto& here = waiting_.try_emplace(fd, wait{{context_, fd}, number}).first->second;
        here.descriptor.async_wait(
            asio::posix::descriptor_base::wait_read,
            [this, fd, number, ready = std::move(ready)](const auto& failed) {
                const auto found = waiting_.find(fd);
                if (failed || found == waiting_.end() || found->second.number != number) return;
                forget(fd);
                ready();
            });
    }
    void forget(int fd) {
        const auto found = waiting_.find(fd);
        if (found == waiting_.end()) return;
        found->second.descriptor.release();
        waiting_.erase(found);
    }

private:
    struct wait {
        asio::posix::stream_descriptor descriptor;
        std::uint64_t number;
    };

    asio::io_context& context_;
    std::uint64_t last_ = 0;
    std::unordered_map<int, wait> waiting_;
};

// One client, for as long as it stays. What it sends lies in its own memory, and a client
// that breaks the rules, or dies, ends this coroutine alone. (One that never pauses keeps
// the thread: a server for strangers counts.)
detached_task serve(asio_loop& loop, ipcdoor::endpoint accepted) {
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
