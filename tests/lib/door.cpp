// SPDX-License-Identifier: MIT
// Doors, and what endpoints can but for ringing: the same on both back ends where both can it.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

const std::uint64_t page = static_cast<std::uint64_t>(::getpagesize());

}  // namespace

TEST_CASE("a door says what it is", "[door]") {
    const door at = test_door();
    const struct ipcdoor_info about = at.info();
    CHECK(at.backend() == (on_soft() ? "soft" : "kernel"));
    CHECK(about.abi_version == IPCDOOR_ABI_VERSION);
    CHECK(about.page_bytes == page);
    CHECK((about.sources >> IPCDOOR_SOURCE_DIRECT & 1) == 1);
    CHECK((about.sources >> about.default_source & 1) == 1);
    if (source() != IPCDOOR_SOURCE_AUTO) CHECK((about.sources >> source() & 1) == 1);
    CHECK(std::string(about.version) != "");
    CHECK(std::string(ipcdoor_version()) != "");
    CHECK(ipcdoor_door_info(at.get(), nullptr) == -EINVAL);
}

TEST_CASE("local: is the module's door where that is", "[door]") {
    if (on_soft()) return;
    CHECK(door("local:").backend() == "kernel");
}

TEST_CASE("what a door cannot make is refused", "[door]") {
    door at = test_door();
    const auto create = [&](create_options options) {
        return error_of([&] { (void)at.create("", options); });
    };
    CHECK(create({.data_bytes = 2 * page, .max_data_bytes = page, .source = source()}) == EINVAL);
    CHECK(create({.slots = 1, .source = source()}) == EINVAL);
    CHECK(create({.slots = IPCDOOR_MAX_SLOTS + 1, .source = source()}) == EINVAL);
    for (std::uint32_t other = IPCDOOR_SOURCE_AUTO + 1; other < IPCDOOR_SOURCE_COUNT; ++other)
        if ((at.info().sources >> other & 1) == 0) CHECK(create({.source = other}) == ENODEV);
    CHECK(error_of([&] { (void)at.listen(unique_name(), {.backlog = IPCDOOR_MAX_BACKLOG + 1}); }) ==
          EINVAL);
}

TEST_CASE("a descriptor names its segment, where there is the module", "[door][descriptor]") {
    door at = test_door();
    endpoint own = at.create("", {.data_bytes = page, .slots = 3, .source = source()});
    own.data()[0] = std::byte{1};
    CHECK(error_of([&] { (void)at.attach(-1); }) == EBADF);
    if (on_soft()) {
        CHECK(error_of([&] { (void)at.attach(own.fd()); }) == EOPNOTSUPP);
        return;
    }
    CHECK(error_of([&] { (void)at.attach(STDERR_FILENO); }) != 0);
    endpoint second = at.attach(own.fd());
    CHECK(second.slot() == 1);
    second.data()[0] = std::byte{2};
    endpoint reader = at.attach(own.fd(), true);
    CHECK(reader.info().rights == IPCDOOR_RIGHT_READ);
    CHECK(reader.data()[0] == std::byte{2});
    CHECK(error_of([&] { (void)at.attach(own.fd()); }) == ENOSPC);
    second.ring(0, 5, 7);
    const auto rung = own.wait(vectors(5), soon);
    REQUIRE(rung);
    CHECK(rung->value == 7);
}

TEST_CASE("an eventfd is told of rings, where there is the module", "[door][eventfd]") {
    auto ends = connected_pair();
    endpoint& own = ends.first;
    endpoint& peer = ends.second;
    const unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    CHECK(error_of([&] { own.bind_eventfd(-2, vectors(5)); }) == EBADF);
    CHECK(error_of([&] { own.bind_eventfd(event.get(), 0); }) == EINVAL);
    if (on_soft()) {
        CHECK(error_of([&] { own.bind_eventfd(event.get(), vectors(5)); }) == EOPNOTSUPP);
        return;
    }
    own.bind_eventfd(event.get(), vectors(5));
    peer.ring(own.slot(), 6);
    peer.ring(own.slot(), 5);
    CHECK(becomes_readable(event.get()));
    own.bind_eventfd(-1, 0);
    std::uint64_t count = 0;
    CHECK(::read(event.get(), &count, sizeof(count)) == sizeof(count));
    CHECK(own.wait(vectors(5), soon));
    peer.ring(own.slot(), 5);
    CHECK(own.wait(vectors(5), soon));
    CHECK_FALSE(is_readable(event.get()));
}

TEST_CASE("data grows as far as was said, by who may write it, until it is sealed",
          "[door][grow][seal]") {
    door at = test_door();
    const std::string name = unique_name();
    endpoint own = at.create(
        name, {.data_bytes = page, .max_data_bytes = 3 * page, .slots = 3, .source = source()});
    endpoint reader = at.attach(name, {.read_only = true});
    CHECK(error_of([&] { reader.grow(2 * page); }) == EACCES);
    CHECK(error_of([&] { own.grow(4 * page); }) == EFBIG);
    CHECK(error_of([&] { own.grow(0); }) == EINVAL);
    own.grow(2 * page);
    CHECK(reader.data().size() == 2 * page);
    CHECK(own.seal() == 0);
    if (on_soft()) {
        CHECK(error_of([&] { own.seal(IPCDOOR_SEAL_GROW); }) == EOPNOTSUPP);
        return;
    }
    CHECK(error_of([&] { reader.seal(IPCDOOR_SEAL_GROW); }) == EPERM);
    CHECK(own.seal(IPCDOOR_SEAL_GROW) == IPCDOOR_SEAL_GROW);
    CHECK(error_of([&] { own.grow(3 * page); }) == EPERM);
    CHECK(reader.seal() == IPCDOOR_SEAL_GROW);
}

TEST_CASE("slots that a segment has not are refused", "[door]") {
    auto ends = connected_pair();
    CHECK(error_of([&] { (void)ends.first.memory(2); }) == EINVAL);
    CHECK(error_of([&] { (void)ends.first.slot_state(2); }) == EINVAL);
    CHECK(error_of([&] { (void)ends.first.peer_info(2); }) == EINVAL);
}

TEST_CASE("a listener that closes refuses those who wait for it", "[door]") {
    door at = test_door();
    const std::string name = unique_name();
    // Forked before there is a listener, of which it would have a copy.
    gate listening;
    child client([&] {
        listening.wait();
        door own = test_door();
        return error_of([&] { (void)own.connect(name, soon); });
    });
    listener here = at.listen(name, {.source = source()});
    listening.open();
    CHECK(becomes_readable(here.fd()));
    client.wait_asleep();
    here.close();
    // On soft it may be about to read what is listened for.
    const child_status ended = client.wait();
    INFO(ended);
    CHECK((ended.exited(ECONNREFUSED) || (on_soft() && ended.exited(ENOENT))));
}
