// SPDX-License-Identifier: MIT
#include "lib/lib_support.hpp"

#include <unistd.h>

#include <atomic>
#include <future>

namespace ipcdoor::test {

namespace {

void check(int result, const char* what) {
    if (result < 0)
        throw std::system_error(-result, std::generic_category(),
                                std::string(what) + ": " + ipcdoor_error());
}

ipcdoor_door* open_door() {
    ipcdoor_door* door = nullptr;
    check(ipcdoor_door_open(door_uri().c_str(), &door), "ipcdoor_door_open");
    return door;
}

}  // namespace

std::string unique_name() {
    static std::atomic<unsigned> number{0};
    return "test-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
}

door test_door() { return door(door_uri()); }

service::service(std::uint64_t slot_bytes) : name_(unique_name()), door_(open_door()) {
    ipcdoor_listen_options options{};
    options.size = sizeof options;
    options.name = name_.c_str();
    options.slot_bytes = slot_bytes;
    options.source = source();
    const int listening = ipcdoor_listen(door_, &options, &listener_);
    if (listening < 0) {
        const std::string why = ipcdoor_error();
        ipcdoor_door_close(door_);
        throw std::system_error(-listening, std::generic_category(), "ipcdoor_listen: " + why);
    }
}

service::~service() {
    ipcdoor_listener_close(listener_);
    ipcdoor_door_close(door_);
}

endpoint service::accept() {
    ipcdoor_endpoint* accepted = nullptr;
    check(ipcdoor_accept(listener_, deadline(soon).ns(), &accepted), "ipcdoor_accept");
    return endpoint(accepted);
}

endpoint service::connect() const {
    ipcdoor_door* door = open_door();
    ipcdoor_endpoint* connected = nullptr;
    const int result = ipcdoor_connect(door, name_.c_str(), deadline(soon).ns(), &connected);
    const std::string why = ipcdoor_error();
    ipcdoor_door_close(door);
    if (result < 0)
        throw std::system_error(-result, std::generic_category(), "ipcdoor_connect: " + why);
    return endpoint(connected);
}

std::pair<endpoint, endpoint> service::pair() {
    auto connecting = std::async(std::launch::async, [this] { return connect(); });
    endpoint accepted = accept();
    return {std::move(accepted), connecting.get()};
}

std::pair<endpoint, endpoint> connected_pair(std::uint64_t slot_bytes) {
    service local(slot_bytes);
    return local.pair();
}

std::pair<channel, channel> channel_pair(std::uint64_t message_bytes,
                                         const channel_options& options) {
    auto ends = connected_pair(channel_slot_bytes(message_bytes));
    return {channel(std::move(ends.first), options), channel(std::move(ends.second), options)};
}

std::string pattern(std::uint64_t number, std::size_t bytes) {
    std::string text(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i)
        text[i] = static_cast<char>(number * 131 + i * 7 + bytes);
    return text;
}

}  // namespace ipcdoor::test
