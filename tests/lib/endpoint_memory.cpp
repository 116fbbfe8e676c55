// SPDX-License-Identifier: MIT
// The pages of an endpoint: what a forked child has of them, and where they lie.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/message.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

const std::size_t page = static_cast<std::size_t>(::getpagesize());

// A segment with two endpoints in this process, and a connection with two.
struct memories {
    memories()
        : at(test_door()),
          name(unique_name()),
          first(at.create(name, {.data_bytes = 4 * page,
                                 .max_data_bytes = 16 * page,
                                 .slot_bytes = 2 * page,
                                 .source = source()})),
          second(at.attach(name)),
          connection(connected_pair(2 * page)) {}

    // The start of each mapping.
    std::vector<std::byte*> all() {
        std::vector<std::byte*> found{first.data().data(), second.data().data()};
        for (const endpoint* end : {&first, &second, &connection.first, &connection.second})
            for (std::uint32_t slot = 0; slot < 2; ++slot)
                found.push_back(const_cast<std::byte*>(end->memory(slot).data()));
        return found;
    }

    door at;
    std::string name;
    endpoint first;
    endpoint second;
    std::pair<endpoint, endpoint> connection;
};

bool is_mapped(const std::byte* at) {
    return ::msync(const_cast<std::byte*>(at), page, MS_ASYNC) == 0;
}

}  // namespace

TEST_CASE("a forked child has none of an endpoint's memory", "[memory][fork]") {
    memories here;
    const std::vector<std::byte*> all = here.all();
    for (const std::byte* at : all) CHECK(is_mapped(at));
    child heir([&] {
        for (const std::byte* at : all) EXPECT_CHILD(!is_mapped(at) && errno == ENOMEM);
        EXPECT_CHILD(error_of([&] { (void)here.first.data(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)here.first.memory(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { here.first.ring(1, 5); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)here.first.wait(all_vectors, 0s); }) == EPERM);
        return 0;
    });
    CHECK(heir.wait().exited());
}

TEST_CASE("a forked child's copy of an endpoint leaves the child's own memory alone",
          "[memory][fork]") {
    memories here;
    const std::vector<std::byte*> all = here.all();
    child heir([&] {
        // Something else has come where the parent's pages are.
        for (std::byte* at : all) {
            EXPECT_CHILD(::mmap(at, page, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
        }
        here.first.close();
        here.second.close();
        here.connection.first.close();
        here.connection.second.close();
        for (std::byte* at : all) *static_cast<volatile std::byte*>(at) = std::byte{1};
        return 0;
    });
    CHECK(heir.wait().exited());
    here.first.ring(1, 5);
    CHECK(here.second.wait(vectors(5), soon));
    here.connection.first.ring(1, 5);
    CHECK(here.connection.second.wait(vectors(5), soon));
}

TEST_CASE("what a forked child has of loans and of messages in place is its parent's",
          "[message][fork]") {
    auto [server, client] = channel_pair();
    client.send(pattern(1, 100));
    std::optional<held_message> held(server.receive_in_place(soon));
    std::optional<loaned_message> lent(server.loan(100, soon));
    child heir([&] {
        held.reset();
        lent.reset();
        return 0;
    });
    CHECK(heir.wait().exited());
    CHECK(held->text() == pattern(1, 100));
    held.reset();
    lent.reset();
    client.send(pattern(2, 100));
    CHECK(server.receive(soon).text() == pattern(2, 100));
}
