// SPDX-License-Identifier: MIT
// What every call has in common: sizes, unknown flags, padding, pointers, and
// which descriptor it is for. One table, each rule applied to each of its rows.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <vector>

#include "support/catch.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

enum class target { door, endpoint, listener };

// Everything that a valid call of each kind needs.
struct scene {
    unique_fd door = open_door();
    std::string segment_name = fresh_name();
    std::string listener_name = fresh_name();
    endpoint a = create(door, named(segment_name));
    unique_fd listener = listen(door, roomy(listener_name));
    std::vector<endpoint> clients;

    static ipcdoor_create named(const std::string& name) {
        auto args = create_args(name);
        args.slots = 64;
        return args;
    }
    static ipcdoor_listen roomy(const std::string& name) {
        auto args = listen_args(name);
        args.backlog = 4096;
        return args;
    }
    int fd(target which) const {
        if (which == target::door) return door.get();
        return which == target::endpoint ? a.get() : listener.get();
    }
};

using bytes = std::vector<unsigned char>;

template <typename T>
bytes bytes_of(const T& value) {
    bytes out(sizeof value);
    std::memcpy(out.data(), &value, sizeof value);
    return out;
}

// A 32-bit field of which only the bits of `allowed` may be set.
struct strict_field {
    const char* name;
    std::size_t offset;
    std::uint32_t allowed;
};

struct call_row {
    const char* name;
    unsigned long command;
    target on;
    bool gives_fd;
    bool reads;                          // the kernel looks at the structure's content
    bool writes;                         // and writes into it
    std::function<bytes(scene&)> valid;  // arguments of a call that succeeds
    std::vector<strict_field> strict;
};

#define FIELD(type, member, allowed) \
    strict_field { #member, offsetof(type, member), allowed }

std::vector<call_row> rows() {
    std::vector<call_row> all;
    all.push_back({"GET_INFO",
                   IPCDOOR_IOC_GET_INFO,
                   target::door,
                   false,
                   true,
                   true,
                   [](scene&) { return bytes_of(ipcdoor_info{}); },
                   {FIELD(ipcdoor_info, flags, 0)}});
    all.push_back({"CREATE",
                   IPCDOOR_IOC_CREATE,
                   target::door,
                   true,
                   true,
                   true,
                   [](scene&) { return bytes_of(create_args(fresh_name())); },
                   {FIELD(ipcdoor_create, flags, IPCDOOR_CREATE_STAMPS | IPCDOOR_CREATE_NONBLOCK),
                    FIELD(ipcdoor_create, mode, 0666)}});
    all.push_back({"ATTACH",
                   IPCDOOR_IOC_ATTACH,
                   target::door,
                   true,
                   true,
                   true,
                   [](scene& s) { return bytes_of(attach_args(s.segment_name)); },
                   {FIELD(ipcdoor_attach, flags, IPCDOOR_ATTACH_NONBLOCK),
                    FIELD(ipcdoor_attach, rights, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE)}});
    all.push_back({"LISTEN",
                   IPCDOOR_IOC_LISTEN,
                   target::door,
                   true,
                   true,
                   false,
                   [](scene&) { return bytes_of(listen_args(fresh_name())); },
                   {FIELD(ipcdoor_listen, flags, IPCDOOR_LISTEN_STAMPS | IPCDOOR_LISTEN_NONBLOCK),
                    FIELD(ipcdoor_listen, mode, 0666)}});
    all.push_back(
        {"CONNECT",
         IPCDOOR_IOC_CONNECT,
         target::door,
         true,
         true,
         true,
         [](scene& s) { return bytes_of(connect_args(s.listener_name)); },
         {FIELD(ipcdoor_connect, flags, IPCDOOR_CONNECT_NONBLOCK | IPCDOOR_CONNECT_UID)}});
    all.push_back(
        {"ACCEPT",
         IPCDOOR_IOC_ACCEPT,
         target::listener,
         true,
         true,
         true,
         [](scene& s) {
             s.clients.push_back(connect(s.door, connect_args(s.listener_name)));
             return bytes_of(ipcdoor_accept{});
         },
         {FIELD(ipcdoor_accept, flags, IPCDOOR_ACCEPT_NONBLOCK), FIELD(ipcdoor_accept, pad, 0)}});
    all.push_back({"ENDPOINT_INFO",
                   IPCDOOR_IOC_ENDPOINT_INFO,
                   target::endpoint,
                   false,
                   false,
                   true,
                   [](scene&) { return bytes_of(ipcdoor_endpoint_info{}); },
                   {}});
    const auto self_ring = [](const scene& s) {
        ipcdoor_ring args{};
        args.slot = s.a.info.slot;
        args.vector = 5;
        return args;
    };
    const auto own_wait = [](const scene& s) {
        ring(s.a, s.a.info.slot, 5);
        ipcdoor_wait args{};
        args.mask = bit(5);
        args.flags = IPCDOOR_WAIT_ACK;
        return args;
    };
    all.push_back({"RING",
                   IPCDOOR_IOC_RING,
                   target::endpoint,
                   false,
                   true,
                   false,
                   [=](scene& s) { return bytes_of(self_ring(s)); },
                   {FIELD(ipcdoor_ring, flags, 0)}});
    all.push_back({"WAIT",
                   IPCDOOR_IOC_WAIT,
                   target::endpoint,
                   false,
                   true,
                   true,
                   [=](scene& s) { return bytes_of(own_wait(s)); },
                   {FIELD(ipcdoor_wait, flags, IPCDOOR_WAIT_ACK), FIELD(ipcdoor_wait, pad, 0)}});
    all.push_back({"RING_WAIT",
                   IPCDOOR_IOC_RING_WAIT,
                   target::endpoint,
                   false,
                   true,
                   true,
                   [=](scene& s) {
                       return bytes_of(ipcdoor_ring_wait{self_ring(s), own_wait(s)});
                   },
                   {FIELD(ipcdoor_ring_wait, ring.flags, 0),
                    FIELD(ipcdoor_ring_wait, wait.flags, IPCDOOR_WAIT_ACK),
                    FIELD(ipcdoor_ring_wait, wait.pad, 0)}});
    all.push_back({"BIND_EVENTFD",
                   IPCDOOR_IOC_BIND_EVENTFD,
                   target::endpoint,
                   false,
                   true,
                   false,
                   [](scene&) {
                       ipcdoor_bind_eventfd args{};
                       args.fd = -1;
                       return bytes_of(args);
                   },
                   {FIELD(ipcdoor_bind_eventfd, flags, 0)}});
    all.push_back({"BIND_SIGNAL",
                   IPCDOOR_IOC_BIND_SIGNAL,
                   target::endpoint,
                   false,
                   true,
                   false,
                   [](scene&) { return bytes_of(ipcdoor_bind_signal{}); },
                   {FIELD(ipcdoor_bind_signal, flags, 0)}});
    all.push_back({"PEER_INFO",
                   IPCDOOR_IOC_PEER_INFO,
                   target::endpoint,
                   false,
                   true,
                   true,
                   [](scene&) { return bytes_of(ipcdoor_peer_info{}); },
                   {FIELD(ipcdoor_peer_info, flags, 0)}});
    all.push_back({"SEAL",
                   IPCDOOR_IOC_SEAL,
                   target::endpoint,
                   false,
                   true,
                   true,
                   [](scene&) { return bytes_of(ipcdoor_seal{}); },
                   {FIELD(ipcdoor_seal, add, 0xf), FIELD(ipcdoor_seal, flags, 0),
                    FIELD(ipcdoor_seal, pad, 0)}});
    all.push_back({"GROW",
                   IPCDOOR_IOC_GROW,
                   target::endpoint,
                   false,
                   true,
                   true,
                   [](scene& s) {
                       ipcdoor_grow args{};
                       args.data_bytes = s.a.info.data_bytes;
                       return bytes_of(args);
                   },
                   {FIELD(ipcdoor_grow, flags, 0), FIELD(ipcdoor_grow, pad, 0)}});
    return all;
}

// The result of a call: 0 for any success (a descriptor is closed), or -errno.
int try_call(const scene& s, const call_row& row, unsigned long command, void* argument) {
    const int result = call(s.fd(row.on), command, argument);
    if (result < 0 || !row.gives_fd) return result;
    ::close(result);
    return 0;
}

// Two pages, the second of which cannot be touched (or not be written).
class guarded_pages {
public:
    explicit guarded_pages(int second_protection) {
        memory_ = static_cast<unsigned char*>(
            ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        REQUIRE(memory_ != MAP_FAILED);
        second_protection_ = second_protection;
    }
    ~guarded_pages() { ::munmap(memory_, 8192); }
    // Puts the content so that its last `behind` bytes lie in the second page.
    unsigned char* place(const bytes& content, std::size_t behind) {
        ::mprotect(memory_ + 4096, 4096, PROT_READ | PROT_WRITE);
        auto* start = memory_ + 4096 + behind - content.size();
        std::memcpy(start, content.data(), content.size());
        ::mprotect(memory_ + 4096, 4096, second_protection_);
        return start;
    }

private:
    unsigned char* memory_;
    int second_protection_;
};

}  // namespace

TEST_CASE("every call succeeds with valid arguments of the first release's size",
          "[uapi][arguments]") {
    scene s;
    for (const auto& row : rows()) {
        INFO(row.name);
        auto args = row.valid(s);
        REQUIRE(args.size() == _IOC_SIZE(row.command));
        CHECK(try_call(s, row, row.command, args.data()) == 0);
    }
}

TEST_CASE("a structure shorter than the first release's is refused with EINVAL",
          "[uapi][arguments]") {
    scene s;
    for (const auto& row : rows()) {
        for (const std::size_t size :
             {std::size_t{0}, std::size_t{4}, std::size_t{_IOC_SIZE(row.command)} - 8,
              std::size_t{_IOC_SIZE(row.command)} - 1}) {
            INFO(row.name << " with " << size << " bytes");
            auto args = row.valid(s);
            CHECK(try_call(s, row, with_size(row.command, size), args.data()) == -EINVAL);
        }
    }
}

TEST_CASE("a longer structure is taken if its unknown tail is zero, and E2BIG otherwise",
          "[uapi][arguments]") {
    scene s;
    for (const auto& row : rows()) {
        INFO(row.name);
        const std::size_t known = _IOC_SIZE(row.command);
        for (const std::size_t size : {known + 1, known + 64, std::size_t{4096}}) {
            INFO(size << " bytes");
            auto args = row.valid(s);
            args.resize(size, 0);
            CHECK(try_call(s, row, with_size(row.command, size), args.data()) == 0);
            if (!row.reads) continue;
            for (const std::size_t at : {known, size - 1}) {
                INFO("byte " << at << " set");
                args = row.valid(s);
                args.resize(size, 0);
                args[at] = 1;
                CHECK(try_call(s, row, with_size(row.command, size), args.data()) == -E2BIG);
            }
        }
    }
}

TEST_CASE("a structure longer than a page is refused with E2BIG", "[uapi][arguments]") {
    scene s;
    for (const auto& row : rows()) {
        if (!row.reads) continue;
        for (const std::size_t size : {std::size_t{4097}, std::size_t{_IOC_SIZEMASK}}) {
            INFO(row.name << " with " << size << " bytes");
            auto args = row.valid(s);
            args.resize(_IOC_SIZEMASK, 0);
            CHECK(try_call(s, row, with_size(row.command, size), args.data()) == -E2BIG);
        }
    }
}

TEST_CASE("each unknown flag bit and each bit of padding is refused with EINVAL",
          "[uapi][arguments]") {
    scene s;
    for (const auto& row : rows()) {
        for (const auto& field : row.strict) {
            for (unsigned b = 0; b < 32; ++b) {
                const std::uint32_t value = std::uint32_t{1} << b;
                if (field.allowed & value) continue;
                INFO(row.name << " " << field.name << " bit " << b);
                auto args = row.valid(s);
                std::uint32_t old = 0;
                std::memcpy(&old, args.data() + field.offset, sizeof old);
                const std::uint32_t bad = old | value;
                std::memcpy(args.data() + field.offset, &bad, sizeof bad);
                CHECK(try_call(s, row, row.command, args.data()) == -EINVAL);
            }
        }
        s.clients.clear();
    }
}

TEST_CASE("unreadable arguments are refused with EFAULT", "[uapi][arguments]") {
    scene s;
    guarded_pages pages(PROT_NONE);
    for (const auto& row : rows()) {
        INFO(row.name);
        CHECK(try_call(s, row, row.command, nullptr) == -EFAULT);
        CHECK(try_call(s, row, row.command, reinterpret_cast<void*>(~std::uintptr_t{0} - 7)) ==
              -EFAULT);
        const auto args = row.valid(s);
        for (const std::size_t behind : {std::size_t{1}, std::size_t{8}, args.size()}) {
            INFO(behind << " bytes behind the end");
            CHECK(try_call(s, row, row.command, pages.place(args, behind)) == -EFAULT);
        }
    }
}

TEST_CASE("results that cannot be written are EFAULT, and nothing stays behind",
          "[uapi][arguments]") {
    scene s;
    guarded_pages pages(PROT_READ);
    for (const auto& row : rows()) {
        if (!row.writes) continue;
        INFO(row.name);
        const auto args = row.valid(s);
        const auto fds = open_fd_count();
        CHECK(try_call(s, row, row.command, pages.place(args, args.size())) == -EFAULT);
        CHECK(open_fd_count() == fds);
    }
    s = scene();
    // Only the scene's own are left: its endpoint and its listener.
    CHECK(get_info(s.door).user_endpoints == 2);
}

TEST_CASE("an acknowledgement that could not be told is taken back", "[uapi][arguments]") {
    scene s;
    guarded_pages pages(PROT_READ);
    REQUIRE(ring(s.a, 0, 7, 70) == 0);
    REQUIRE(ring(s.a, 0, 7, 71) == 0);
    ipcdoor_wait args{};
    args.mask = bit(7);
    args.flags = IPCDOOR_WAIT_ACK;
    auto* unwritable = pages.place(bytes_of(args), sizeof args);
    CHECK(call(s.a.fd, IPCDOOR_IOC_WAIT, unwritable) == -EFAULT);
    const auto again = take(s.a, bit(7));
    CHECK(again.error == 0);
    CHECK(again.count == 2);
    CHECK(again.value == 71);
}

TEST_CASE("a call on the wrong kind of descriptor is ENOTTY", "[uapi][arguments]") {
    scene s;
    for (const auto& row : rows()) {
        for (const target on : {target::door, target::endpoint, target::listener}) {
            if (on == row.on) continue;
            INFO(row.name << " on " << static_cast<int>(on));
            auto args = row.valid(s);
            CHECK(call(s.fd(on), row.command, args.data()) == -ENOTTY);
        }
    }
}

TEST_CASE("an unknown command is ENOTTY, whatever its size and direction", "[uapi][arguments]") {
    scene s;
    unsigned char buffer[256] = {};
    for (const target on : {target::door, target::endpoint, target::listener}) {
        for (unsigned number = 0x0f; number < 0x20; ++number) {
            INFO("number " << number << " on " << static_cast<int>(on));
            CHECK(call(s.fd(on), _IOC(_IOC_READ | _IOC_WRITE, IPCDOOR_IOC_MAGIC, number, 64),
                       buffer) == -ENOTTY);
            CHECK(call(s.fd(on), _IO(IPCDOOR_IOC_MAGIC, number), nullptr) == -ENOTTY);
        }
        // a known number of another type, and with another direction
        CHECK(call(s.fd(on), _IOWR('d', 0, struct ipcdoor_info), buffer) == -ENOTTY);
        CHECK(call(s.fd(on), _IO(IPCDOOR_IOC_MAGIC, 0), nullptr) == -ENOTTY);
    }
}

TEST_CASE("fields marked out are ignored on input", "[uapi][arguments]") {
    scene s;
    ipcdoor_info info;
    std::memset(&info, 0xff, sizeof info);
    info.flags = 0;
    CHECK(call(s.door, IPCDOOR_IOC_GET_INFO, &info) == 0);
    CHECK(info.abi_version == IPCDOOR_ABI_VERSION);

    auto created = create_args();
    std::memset(&created.info, 0xff, sizeof created.info);
    const unique_fd fd(call(s.door, IPCDOOR_IOC_CREATE, &created));
    REQUIRE(fd);
    CHECK(created.info.slot == 0);
    CHECK(created.info.generation == 1);

    ipcdoor_peer_info peer;
    std::memset(&peer, 0xff, sizeof peer);
    peer.slot = 0;
    peer.flags = 0;
    CHECK(call(fd, IPCDOOR_IOC_PEER_INFO, &peer) == 0);
    CHECK(peer.state == IPCDOOR_SLOT_ALIVE);
    CHECK(peer.pid == ::getpid());
}

TEST_CASE("GET_INFO tells version, features, sources and limits", "[uapi][info]") {
    const auto door = open_door();
    const auto info = get_info(door);
    CHECK(info.abi_version == IPCDOOR_ABI_VERSION);
    CHECK(info.features ==
          (IPCDOOR_FEATURE_STAMPS | IPCDOOR_FEATURE_SIGNAL | IPCDOOR_FEATURE_EVENTFD |
           IPCDOOR_FEATURE_GROW | IPCDOOR_FEATURE_LISTEN));
    CHECK((info.sources & (1u << IPCDOOR_SOURCE_AUTO)) == 0);
    CHECK((info.sources & (1u << IPCDOOR_SOURCE_DIRECT)) != 0);
    CHECK((info.sources & (1u << IPCDOOR_SOURCE_IPI)) != 0);
    CHECK((info.sources & (1u << IPCDOOR_SOURCE_TIMER)) != 0);
    CHECK((info.sources & (1u << info.default_source)) != 0);
    CHECK(info.default_source != IPCDOOR_SOURCE_AUTO);
    CHECK(info.page_bytes == static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE)));
    CHECK(info.max_slots == IPCDOOR_MAX_SLOTS);
    CHECK(info.max_bytes > 0);
    CHECK(info.user_max_bytes > 0);
    CHECK(info.user_max_endpoints > 0);
    CHECK(::strnlen(info.version, sizeof info.version) < sizeof info.version);
    CHECK(info.version[0] != '\0');
}
