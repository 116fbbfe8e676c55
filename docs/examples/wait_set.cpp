// A server that waits for messages, new clients and time in one thread. Answers what
// ./message asks (message.cpp):  ./wait_set &  then  ./message hello
#include <chrono>
#include <cstdint>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace {

// Where the message goes, and whom it is from.
struct client {
    explicit client(ipcdoor::endpoint accepted) : channel(std::move(accepted)) {}
    ipcdoor::channel channel;
    ipcdoor::message got;
};

void answer(client& to) {
    if (to.got.is_request())
        to.channel.reply(to.got, "you said: " + std::string(to.got.text()),
                         std::chrono::seconds(1));
}

}  // namespace

int main() try {
    ipcdoor::door door;
    ipcdoor::listener names =
        door.listen("echo", {.slot_bytes = ipcdoor::channel_slot_bytes(4096)});
    ipcdoor::timer minute(std::chrono::minutes(1), std::chrono::minutes(1));
    ipcdoor::endpoint accepted;
    std::uint64_t expired = 0;
    std::uint64_t answered = 0;
    std::map<ipcdoor::source_id, std::unique_ptr<client>> clients;

    ipcdoor::wait_set set;
    const auto newcomer = set.add(ipcdoor::on_connection(names, accepted));
    const auto each_minute = set.add(ipcdoor::on_timer(minute, expired));
    for (;;) {
        const ipcdoor::wait_report now = set.wait_any();
        const auto from = clients.find(now.id);
        if (from == clients.end() && now.error_number != 0) {
            std::cerr << set.failure(now.id)->what() << '\n';
            return 1;
        }
        if (now.id == newcomer) {
            auto one = std::make_unique<client>(std::move(accepted));
            const auto id = set.add(ipcdoor::on_message(one->channel, one->got));
            clients.emplace(id, std::move(one));
        } else if (now.id == each_minute) {
            std::cout << answered << " answered, " << clients.size() << " clients" << std::endl;
        } else if (now.error_number != 0) {
            // It has left, or broken the rules: first the source goes, then what it is of.
            set.remove(now.id);
            clients.erase(from);
        } else {
            try {
                answer(*from->second);
                ++answered;
            } catch (const ipcdoor::error& error) {
                // The set is told as well.
                if (!error.is_peer_death()) std::cerr << error.what() << '\n';
            }
        }
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
