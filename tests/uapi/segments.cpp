// SPDX-License-Identifier: MIT
// CREATE, ATTACH, ENDPOINT_INFO, PEER_INFO and mmap: what is accepted, what is
// refused, and what one gets.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "support/catch.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

int try_create(const unique_fd& door, ipcdoor_create args) {
    const int result = call(door, IPCDOOR_IOC_CREATE, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

int try_attach(const unique_fd& door, ipcdoor_attach args) {
    const int result = call(door, IPCDOOR_IOC_ATTACH, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

template <typename Change>
int create_with(const unique_fd& door, Change change) {
    auto args = create_args();
    change(args);
    return try_create(door, args);
}

}  // namespace

TEST_CASE("CREATE refuses sizes and counts out of range with EINVAL", "[uapi][create]") {
    const auto door = open_door();
    const std::uint64_t huge = ~std::uint64_t{4095};
    CHECK(create_with(door, [](auto& a) { a.slots = 0; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.slots = 1; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.slots = 257; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.slots = ~0u; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.slots = 256; }) == 0);
    CHECK(create_with(door, [](auto& a) { a.data_bytes = 1; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.data_bytes = 4097; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.data_bytes = 0; }) == 0);
    CHECK(create_with(door, [](auto& a) { a.max_data_bytes = 4095; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.max_data_bytes = 8191; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.data_bytes = 8192, a.max_data_bytes = 4096; }) ==
          -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.slot_bytes = 100; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.slot_bytes = 8192; }) == 0);
    for (const std::uint64_t size :
         {huge, huge / 2 + 1, std::uint64_t{1} << 63, std::uint64_t{1} << 62,
          std::uint64_t{get_info(door).max_bytes} + 4096}) {
        INFO("size " << size);
        CHECK(create_with(door, [=](auto& a) { a.data_bytes = size & ~4095ull; }) == -EINVAL);
        CHECK(create_with(door, [=](auto& a) { a.max_data_bytes = size & ~4095ull; }) == -EINVAL);
        CHECK(create_with(door, [=](auto& a) { a.slot_bytes = size & ~4095ull; }) == -EINVAL);
        CHECK(create_with(door, [=](auto& a) {
                  a.slots = 256;
                  a.slot_bytes = size & ~4095ull;
                  a.data_bytes = 4096;
              }) == -EINVAL);
    }
    // each part fits, all together do not
    CHECK(create_with(door, [&](auto& a) {
              a.max_data_bytes = get_info(door).max_bytes & ~4095ull;
          }) == -EINVAL);
    // 256 slots of 2^56 bytes are 2^64: must not wrap to nothing
    CHECK(create_with(door, [](auto& a) {
              a.slots = 256;
              a.slot_bytes = std::uint64_t{1} << 56;
          }) == -EINVAL);
}

TEST_CASE("CREATE refuses an unknown source with EINVAL and an absent one with ENODEV",
          "[uapi][create]") {
    const auto door = open_door();
    const auto info = get_info(door);
    CHECK(create_with(door, [](auto& a) { a.source = IPCDOOR_SOURCE_COUNT; }) == -EINVAL);
    CHECK(create_with(door, [](auto& a) { a.source = ~0u; }) == -EINVAL);
    for (std::uint32_t source = 1; source < IPCDOOR_SOURCE_COUNT; ++source) {
        INFO("source " << source);
        const bool present = (info.sources >> source) & 1;
        CHECK(create_with(door, [=](auto& a) { a.source = source; }) == (present ? 0 : -ENODEV));
        auto listening = listen_args(fresh_name());
        listening.source = source;
        const unique_fd listener(call(door, IPCDOOR_IOC_LISTEN, &listening));
        CHECK(static_cast<bool>(listener) == present);
    }
}

TEST_CASE("CREATE tells layout, slot, generation, source and rights", "[uapi][create]") {
    const auto door = open_door();
    auto args = create_args("", 8192);
    args.max_data_bytes = 16384;
    args.slot_bytes = 8192;
    args.slots = 5;
    const auto made = create(door, args);
    CHECK(made.info.data_bytes == 8192);
    CHECK(made.info.max_data_bytes == 16384);
    CHECK(made.info.slot_bytes == 8192);
    CHECK(made.info.slots == 5);
    CHECK(made.info.slot == 0);
    CHECK(made.info.generation == 1);
    CHECK(made.info.source == actual_source(door));
    CHECK(made.info.rights == (IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE | IPCDOOR_RIGHT_SEAL));
    CHECK(made.info.flags == 0);
    CHECK(made.info.state_bytes >=
          sizeof(ipcdoor_state) + std::uint64_t{5} * sizeof(ipcdoor_slot_state));
    CHECK(made.info.state_bytes % 4096 == 0);

    ipcdoor_endpoint_info again{};
    REQUIRE(call(made.fd, IPCDOOR_IOC_ENDPOINT_INFO, &again) == 0);
    CHECK(std::memcmp(&again, &made.info, sizeof again) == 0);

    auto stamped = create_args();
    stamped.flags = IPCDOOR_CREATE_STAMPS;
    stamped.max_data_bytes = 0;
    stamped.slot_bytes = 0;
    const auto defaults = create(door, stamped);
    CHECK(defaults.info.flags == IPCDOOR_ENDPOINT_STAMPS);
    CHECK(defaults.info.max_data_bytes == 4096);
    CHECK(defaults.info.slot_bytes == 4096);
}

TEST_CASE("descriptors are close-on-exec, and non-blocking only on request", "[uapi][create]") {
    const auto door = open_door();
    auto args = create_args();
    const auto blocking = create(door, args);
    args.flags = IPCDOOR_CREATE_NONBLOCK;
    const auto nonblocking = create(door, args);
    auto attaching = attach_args_fd(blocking.get());
    attaching.flags = IPCDOOR_ATTACH_NONBLOCK;
    const auto attached = attach(door, attaching);
    auto listening = listen_args(fresh_name());
    listening.flags = IPCDOOR_LISTEN_NONBLOCK;
    const auto listener = listen(door, listening);
    auto connecting = connect_args(listening.name);
    connecting.flags = IPCDOOR_CONNECT_NONBLOCK;
    const auto client = connect(door, connecting);
    ipcdoor_accept accepting{};
    accepting.flags = IPCDOOR_ACCEPT_NONBLOCK;
    const unique_fd server(call(listener, IPCDOOR_IOC_ACCEPT, &accepting));
    REQUIRE(server);
    for (const int fd : {blocking.get(), nonblocking.get(), attached.get(), listener.get(),
                         client.get(), server.get()})
        CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(blocking.get(), F_GETFL) & O_NONBLOCK) == 0);
    for (const int fd :
         {nonblocking.get(), attached.get(), listener.get(), client.get(), server.get()})
        CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
}

TEST_CASE("ATTACH takes a name or a descriptor, not both and not neither", "[uapi][attach]") {
    const auto door = open_door();
    auto created = create_args(fresh_name());
    created.slots = 3;
    const auto made = create(door, created);
    auto both = attach_args(created.name);
    both.fd = made.get();
    CHECK(try_attach(door, both) == -EINVAL);
    CHECK(try_attach(door, attach_args_fd(-1)) == -EINVAL);
    CHECK(try_attach(door, attach_args_fd(-2)) == -EINVAL);
    CHECK(try_attach(door, attach_args_fd(999)) == -EBADF);
    CHECK(try_attach(door, attach_args_fd(door.get())) == -EINVAL);
    CHECK(try_attach(door, attach_args_fd(0)) == -EINVAL);
    CHECK(try_attach(door, attach_args_fd(made.get())) == 0);
    CHECK(try_attach(door, attach_args(created.name)) == 0);
}

TEST_CASE("ATTACH gives the slot asked for, or a free one, or says why not", "[uapi][attach]") {
    const auto door = open_door();
    auto created = create_args();
    created.slots = 4;
    const auto made = create(door, created);
    auto args = attach_args_fd(made.get());
    args.slot = 4;
    CHECK(try_attach(door, args) == -EINVAL);
    args.slot = IPCDOOR_ANY_SLOT - 1;
    CHECK(try_attach(door, args) == -EINVAL);
    args.slot = 0;
    CHECK(try_attach(door, args) == -EBUSY);
    args.slot = 2;
    const auto second = attach(door, args);
    CHECK(second.info.slot == 2);
    CHECK(try_attach(door, args) == -EBUSY);
    const auto third = attach_to(door, made);
    const auto fourth = attach_to(door, made);
    CHECK(third.info.slot + fourth.info.slot == 1 + 3);
    CHECK(try_attach(door, attach_args_fd(made.get())) == -ENOSPC);
}

TEST_CASE("ATTACH gives no more rights than the passed endpoint has, and never SEAL",
          "[uapi][attach]") {
    const auto door = open_door();
    auto created = create_args();
    created.slots = 8;
    const auto made = create(door, created);
    auto args = attach_args_fd(made.get());
    args.rights = 0;
    CHECK(try_attach(door, args) == -EINVAL);
    args.rights = IPCDOOR_RIGHT_WRITE;
    CHECK(try_attach(door, args) == -EINVAL);
    args.rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_SEAL;
    CHECK(try_attach(door, args) == -EINVAL);
    args.rights = IPCDOOR_RIGHT_READ;
    const auto reader = attach(door, args);
    CHECK(reader.info.rights == IPCDOOR_RIGHT_READ);
    auto more = attach_args_fd(reader.get());
    CHECK(try_attach(door, more) == -EACCES);
    more.rights = IPCDOOR_RIGHT_READ;
    CHECK(try_attach(door, more) == 0);
}

TEST_CASE("a connection cannot be attached to", "[uapi][attach]") {
    const auto door = open_door();
    const auto both = connected_pair(door);
    CHECK(try_attach(door, attach_args_fd(both.a.get())) == -EPERM);
    CHECK(try_attach(door, attach_args_fd(both.b.get())) == -EPERM);
}

TEST_CASE("PEER_INFO tells who the kernel saw", "[uapi][peer]") {
    const auto door = open_door();
    auto created = create_args();
    created.slots = 3;
    const auto made = create(door, created);
    const auto mine = peer_info(made, 0);
    CHECK(mine.state == IPCDOOR_SLOT_ALIVE);
    CHECK(mine.generation == 1);
    CHECK(mine.pid == ::getpid());
    CHECK(mine.uid == ::geteuid());
    CHECK(mine.gid == ::getegid());
    CHECK(mine.rights == made.info.rights);
    const auto nobody = peer_info(made, 2);
    CHECK(nobody.state == IPCDOOR_SLOT_EMPTY);
    CHECK(nobody.generation == 0);
    CHECK(nobody.pid == 0);
    ipcdoor_peer_info outside{};
    outside.slot = 3;
    CHECK(call(made.fd, IPCDOOR_IOC_PEER_INFO, &outside) == -EINVAL);

    gate in;
    gate out;
    auto other = child::as_user(user_uid, [&] {
        auto args = attach_args_fd(made.get());
        args.slot = 1;
        const auto theirs = attach(door, args);
        in.open();
        out.wait();
        return 0;
    });
    in.wait();
    const auto theirs = peer_info(made, 1);
    CHECK(theirs.state == IPCDOOR_SLOT_ALIVE);
    CHECK(theirs.pid == other.pid());
    CHECK(theirs.uid == user_uid);
    CHECK(theirs.gid == user_uid);
    CHECK(theirs.rights == (IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE));
    out.open();
    CHECK(other.wait().exited());
}

TEST_CASE("pages start zeroed and are shared between endpoints", "[uapi][mmap]") {
    const auto door = open_door();
    const auto both = attached_pair(door);
    const auto data_a = map_data(both.a, PROT_READ | PROT_WRITE);
    const auto data_b = map_data(both.b, PROT_READ | PROT_WRITE);
    const auto slot_a = map_slot(both.a, 0, PROT_READ | PROT_WRITE);
    const auto slot_a_seen = map_slot(both.b, 0, PROT_READ);
    for (std::size_t i = 0; i < 512; ++i) {
        REQUIRE(data_a.word(i) == 0);
        REQUIRE(slot_a.word(i) == 0);
    }
    data_a.word(3) = 42;
    CHECK(data_b.word(3) == 42);
    data_b.word(3) = 43;
    CHECK(data_a.word(3) == 43);
    slot_a.word(7) = 44;
    CHECK(slot_a_seen.word(7) == 44);
    const auto state = map_state(both.b);
    CHECK(state_of(state).magic == IPCDOOR_STATE_MAGIC);
    CHECK(state_of(state).abi_version == IPCDOOR_ABI_VERSION);
    CHECK(state_of(state).slots == 2);
    CHECK(state_of(state).data_bytes == 4096);
    CHECK(state_of(state).source == actual_source(door));
    CHECK(slot_state(state, 0).state == IPCDOOR_SLOT_ALIVE);
    CHECK(slot_state(state, 1).generation == 1);
}

TEST_CASE("mmap wants MAP_SHARED and a range inside one kind of pages", "[uapi][mmap]") {
    const auto door = open_door();
    auto args = create_args("", 8192);
    args.slots = 3;
    const auto made = create(door, args);
    const int fd = made.get();
    const auto& i = made.info;
    CHECK(mmap_error(fd, i.data_offset, 4096, PROT_READ, MAP_PRIVATE) == EINVAL);
    CHECK(mmap_error(fd, i.data_offset, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE) == EINVAL);
    CHECK(mmap_error(fd, i.state_offset, 4096, PROT_READ, MAP_PRIVATE) == EINVAL);
    // across the borders of STATE | SLOTs | DATA | end
    CHECK(mmap_error(fd, i.state_offset, i.state_bytes + 4096, PROT_READ) == EINVAL);
    CHECK(mmap_error(fd, i.slot_offset, 3 * i.slot_bytes + 4096, PROT_READ) == EINVAL);
    CHECK(mmap_error(fd, i.data_offset - 4096, 8192, PROT_READ) == EINVAL);
    CHECK(mmap_error(fd, i.data_offset, i.data_bytes + 4096, PROT_READ) == EINVAL);
    CHECK(mmap_error(fd, i.data_offset + i.data_bytes, 4096, PROT_READ) == EINVAL);
    CHECK(mmap_error(fd, 0, i.data_offset + i.data_bytes, PROT_READ) == EINVAL);
    CHECK(mmap_error(fd, std::uint64_t{1} << 62, 4096, PROT_READ) != 0);
    CHECK(mmap_error(fd, (std::uint64_t{1} << 63) - 4096, 4096, PROT_READ) != 0);
    // inside, in part or over several SLOTs
    CHECK(mmap_error(fd, i.slot_offset, 3 * i.slot_bytes, PROT_READ) == 0);
    CHECK(mmap_error(fd, i.data_offset + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
    CHECK(mmap_error(fd, i.state_offset, 4096, PROT_READ) == 0);
}

TEST_CASE("mmap refuses writing without the right, and executing always", "[uapi][mmap]") {
    const auto door = open_door();
    auto args = create_args();
    args.slots = 3;
    const auto made = create(door, args);
    auto reading = attach_args_fd(made.get());
    reading.rights = IPCDOOR_RIGHT_READ;
    reading.slot = 1;
    const auto reader = attach(door, reading);
    const int rw = PROT_READ | PROT_WRITE;
    const auto slot_at = [&](unsigned n) {
        return made.info.slot_offset + n * made.info.slot_bytes;
    };
    CHECK(mmap_error(made.get(), made.info.state_offset, 4096, rw) == EACCES);
    CHECK(mmap_error(made.get(), made.info.state_offset, 4096, PROT_WRITE) == EACCES);
    CHECK(mmap_error(made.get(), slot_at(0), 4096, rw) == 0);
    CHECK(mmap_error(made.get(), slot_at(1), 4096, rw) == EACCES);
    CHECK(mmap_error(made.get(), slot_at(2), 4096, rw) == EACCES);
    CHECK(mmap_error(made.get(), slot_at(0), 8192, rw) == EACCES);
    CHECK(mmap_error(reader.get(), slot_at(1), 4096, rw) == 0);
    CHECK(mmap_error(reader.get(), slot_at(0), 4096, rw) == EACCES);
    CHECK(mmap_error(reader.get(), slot_at(0), 8192, rw) == EACCES);
    CHECK(mmap_error(reader.get(), slot_at(0), 8192, PROT_READ) == 0);
    CHECK(mmap_error(reader.get(), made.info.data_offset, 4096, rw) == EACCES);
    CHECK(mmap_error(reader.get(), made.info.data_offset, 4096, PROT_READ) == 0);
    for (const auto offset : {made.info.state_offset, slot_at(0), made.info.data_offset}) {
        // Newer kernels forbid it for every anonymous inode, before asking us.
        const int error = mmap_error(made.get(), offset, 4096, PROT_READ | PROT_EXEC);
        CHECK((error == EACCES || error == EPERM));
    }
}

TEST_CASE("the door's node has the mode and owner of the module's parameters", "[uapi][open]") {
    struct stat node {};
    REQUIRE(::stat("/dev/ipcdoor0", &node) == 0);
    CHECK(S_ISCHR(node.st_mode));
    CHECK((node.st_mode & 0777) == 0660);
    CHECK(node.st_uid == 0);
    CHECK(node.st_gid == 0);
    auto stranger = child::as_user(user_uid, [] {
        EXPECT_CHILD(::open("/dev/ipcdoor0", O_RDWR) < 0);
        EXPECT_CHILD(errno == EACCES);
        return 0;
    });
    CHECK(stranger.wait().exited());
}
