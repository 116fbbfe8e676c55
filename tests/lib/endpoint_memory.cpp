// SPDX-License-Identifier: MIT
// The pages of an endpoint: what a forked child has of them, and where they lie.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/message.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

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

TEST_CASE("what a forked child has of a channel is its parent's", "[message][fork]") {
    auto ends = channel_pair();
    channel& server = ends.first;
    channel& client = ends.second;
    client.send(pattern(1, 100));
    std::optional<held_message> held(server.receive_in_place(soon));
    std::optional<loaned_message> lent(server.loan(100, soon));
    std::optional<pending_reply> asked(client.start_call("a"));
    message got;
    child heir([&] {
        EXPECT_CHILD(error_of([&] { client.send("b"); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)client.try_send("b"); }) == EPERM);
        EXPECT_CHILD(error_of([&] { client.receive(got); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)client.try_receive(got); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)client.call("b"); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)client.start_call("b"); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)client.loan(10); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)client.receive_in_place(); }) == EPERM);
        EXPECT_CHILD(error_of([&] { (void)asked->get(); }) == EPERM);
        held.reset();
        lent.reset();
        asked.reset();
        return 0;
    });
    CHECK(heir.wait().exited());
    CHECK(held->text() == pattern(1, 100));
    held.reset();
    lent.reset();
    const message request = server.receive(soon);
    CHECK(request.text() == "a");
    server.reply(request, pattern(2, 100));
    CHECK(asked->get(soon).text() == pattern(2, 100));
}

// ---- where the pages lie ----

namespace {

// A slot and DATA that are large enough to be huge pages.
struct large {
    explicit large(std::uint64_t bytes = 256 * page)
        : at(test_door()),
          name(unique_name()),
          first(at.create(name, {.data_bytes = bytes, .slot_bytes = bytes, .source = source()})) {}
    door at;
    std::string name;
    endpoint first;
};

// How many page faults it takes to read it. The kernel may map up to 16 pages with one, which
// are 16 faults for all that a `large` has; a few are the process's own, whatever is prepared,
// some of a sanitizer's shadow among them.
__attribute__((no_sanitize_address, no_sanitize_thread)) std::uint64_t faults(
    std::span<const std::byte> part) {
    rusage before{};
    rusage after{};
    ::getrusage(RUSAGE_THREAD, &before);
    for (std::size_t i = 0; i < part.size(); i += page)
        static_cast<void>(*static_cast<const volatile std::byte*>(part.data() + i));
    ::getrusage(RUSAGE_THREAD, &after);
    return static_cast<std::uint64_t>(after.ru_minflt - before.ru_minflt);
}
constexpr std::uint64_t few = 8;

// A number of /proc/self/status, in bytes; or the sum of all such in smaps.
std::uint64_t kib_of(const char* file, const std::string& key) {
    std::ifstream lines(file);
    std::uint64_t sum = 0;
    for (std::string line; std::getline(lines, line);)
        if (line.rfind(key + ":", 0) == 0) sum += std::stoull(line.substr(key.size() + 1)) * 1024;
    return sum;
}

// The error of preparing, which has to name what can be used instead where it is EOPNOTSUPP.
int prepared(const endpoint& end, std::span<const std::byte> part, const page_options& wanted) {
    try {
        end.prepare_pages(part, wanted);
        return 0;
    } catch (const error& wrong) {
        if (wrong.error_number() == EOPNOTSUPP && wanted.pages != huge_pages::none)
            CHECK(std::string(wrong.what()).find("ipcdoor::memory") != std::string::npos);
        return wrong.error_number();
    }
}

// The nodes that have memory, none on a kernel without NUMA.
std::vector<int> nodes_with_memory() {
    std::vector<int> found;
    for (int node = 0; node < 64; ++node) {
        const std::string about = "/sys/devices/system/node/node" + std::to_string(node);
        if (kib_of((about + "/meminfo").c_str(), "Node " + std::to_string(node) + " MemTotal") > 0)
            found.push_back(node);
    }
    return found;
}

}  // namespace

TEST_CASE("the pages of slots and DATA are mapped at once where that is wanted",
          "[memory][pages]") {
    large here;
    endpoint second = here.at.attach(here.name);
    std::memset(here.first.memory().data(), 0x5a, page);
    std::memset(here.first.data().data(), 0x5a, page);
    for (const std::span<const std::byte> part :
         {std::span<const std::byte>(second.memory()), second.memory(0),
          std::span<const std::byte>(second.data())}) {
        CHECK(prepared(second, part, {.prefault = true}) == 0);
        CHECK(faults(part) < few);
    }
    CHECK(second.memory(0)[page - 1] == std::byte{0x5a});
    CHECK(second.data()[page - 1] == std::byte{0x5a});
    CHECK(second.data()[page] == std::byte{0});
}

TEST_CASE("a part that begins and ends amid a page is prepared with these", "[memory][pages]") {
    large here;
    const auto data = here.first.data();
    CHECK(prepared(here.first, data.subspan(64 * page + 1, 96 * page), {.prefault = true}) == 0);
    CHECK(faults(data.subspan(64 * page, 97 * page)) < few);
}

TEST_CASE("the pages of slots and DATA stay in memory where that is wanted", "[memory][pages]") {
    large here;
    for (const std::span<std::byte> part : {here.first.memory(), here.first.data()}) {
        const std::uint64_t before = kib_of("/proc/self/status", "VmLck");
        REQUIRE(prepared(here.first, part, {.lock = true}) == 0);
        if (on_soft() && !has_mlock) continue;
        CHECK(faults(part) < few);
        // The module's are never swapped: none of the caller's limit is taken.
        CHECK(kib_of("/proc/self/status", "VmLck") - before == (on_soft() ? part.size() : 0));
    }
}

TEST_CASE("the pages of slots and DATA move to a NUMA node", "[memory][pages]") {
    const std::vector<int> nodes = nodes_with_memory();
    large here;
    const auto slot = here.first.memory();
    const auto data = here.first.data();
    std::memset(data.data(), 0x5a, data.size());
    for (const int node : nodes) {
        for (const auto& part : {slot, data}) {
            REQUIRE(prepared(here.first, part, {.numa_node = node}) == 0);
            for (std::size_t i = 0; i < part.size(); i += page) {
                void* one = part.data() + i;
                int where = -1;
                REQUIRE(::syscall(SYS_move_pages, 0, 1UL, &one, nullptr, &where, 0) == 0);
                REQUIRE(where == node);
            }
        }
    }
    CHECK(data.back() == std::byte{0x5a});
    const int none = nodes.empty() ? EOPNOTSUPP : EINVAL;
    CHECK(prepared(here.first, slot, {.numa_node = 1000}) == none);
    CHECK(prepared(here.first, slot, {.numa_node = 5000}) == EINVAL);
    if (nodes.size() < 2) return;
    // What another one uses stays where it is, and that is said.
    endpoint second = here.at.attach(here.name);
    CHECK(second.data().back() == std::byte{0x5a});
    CHECK(prepared(here.first, data, {.numa_node = nodes.front()}) == EBUSY);
}

TEST_CASE("huge pages for a segment come, or are refused", "[memory][pages]") {
    large here(8 << 20);
    const auto data = here.first.data();
    std::memset(data.data(), 0x5a, data.size());
    CHECK(prepared(here.first, data, {.pages = huge_pages::reserved}) == EOPNOTSUPP);
    CHECK(prepared(here.first, data.first(page), {.pages = huge_pages::advise}) == EOPNOTSUPP);
    const int got = prepared(here.first, data, {.pages = huge_pages::advise});
    if (got == 0) {
        CHECK(on_soft());
        CHECK(kib_of("/proc/self/smaps", "ShmemPmdMapped") >= 4 << 20);
    } else {
        CHECK(got == EOPNOTSUPP);
    }
    CHECK(data.back() == std::byte{0x5a});
}

TEST_CASE("what has no pages is not prepared", "[memory][pages][fork]") {
    large here;
    CHECK(prepared(here.first, {}, {.prefault = true}) == EINVAL);
    const auto slot = here.first.memory();
    child heir([&] { return prepared(here.first, slot, {.prefault = true}) == EPERM ? 0 : 1; });
    CHECK(heir.wait().exited());
}
