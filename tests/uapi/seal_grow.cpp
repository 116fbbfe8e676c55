// SPDX-License-Identifier: MIT
// SEAL and GROW, and what they do to mappings.
#include <signal.h>
#include <sys/mman.h>

#include <cerrno>

#include "support/catch.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;

ipcdoor_create growable() {
    auto args = create_args("", 4096);
    args.max_data_bytes = 16384;
    return args;
}

}  // namespace

TEST_CASE("only the creator seals; everybody may ask and is told", "[uapi][seal]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    take(a, lifecycle_bit);
    std::uint32_t seals = 99;
    CHECK(seal(a, 0, &seals) == 0);
    CHECK(seals == 0);
    CHECK(seal(b, IPCDOOR_SEAL_GROW) == -EPERM);
    CHECK(seal(a, IPCDOOR_SEAL_GROW | 16) == -EINVAL);
    CHECK(seal(a, 0, &seals) == 0);
    CHECK(seals == 0);
    CHECK(seal(a, IPCDOOR_SEAL_GROW, &seals) == 0);
    CHECK(seals == IPCDOOR_SEAL_GROW);
    CHECK(take(b, lifecycle_bit).error == 0);
    CHECK(seal(b, 0, &seals) == 0);
    CHECK(seals == IPCDOOR_SEAL_GROW);
    CHECK(state_of(map_state(b)).seals == IPCDOOR_SEAL_GROW);
    CHECK(seal(a, IPCDOOR_SEAL_FUTURE_WRITE, &seals) == 0);
    CHECK(seals == (IPCDOOR_SEAL_GROW | IPCDOOR_SEAL_FUTURE_WRITE));
}

TEST_CASE("sealed seals take no further ones", "[uapi][seal]") {
    const auto door = open_door();
    const auto a = create(door);
    std::uint32_t seals = 0;
    CHECK(seal(a, IPCDOOR_SEAL_SEAL | IPCDOOR_SEAL_GROW, &seals) == 0);
    CHECK(seal(a, IPCDOOR_SEAL_WRITE) == -EPERM);
    CHECK(seal(a, IPCDOOR_SEAL_GROW) == -EPERM);
    CHECK(seal(a, 0, &seals) == 0);
    CHECK(seals == (IPCDOOR_SEAL_SEAL | IPCDOOR_SEAL_GROW));
}

TEST_CASE("SEAL_WRITE waits for writable mappings to go, then nobody writes DATA", "[uapi][seal]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    {
        const auto writable = map_data(b, rw);
        writable.word() = 7;
        CHECK(seal(a, IPCDOOR_SEAL_WRITE) == -EBUSY);
    }
    {
        // read-only, but mprotect could make it writable
        const auto upgradable = map_data(b, PROT_READ);
        CHECK(seal(a, IPCDOOR_SEAL_WRITE) == -EBUSY);
    }
    const auto own_slot = map_slot(a, 0, rw);  // SLOTs do not count
    CHECK(seal(a, IPCDOOR_SEAL_WRITE) == 0);
    CHECK(mmap_error(a.get(), a.info.data_offset, 4096, rw) == EACCES);
    CHECK(mmap_error(b.get(), b.info.data_offset, 4096, PROT_WRITE) == EACCES);
    const auto sealed = map_data(b, PROT_READ);
    CHECK(sealed.word() == 7);
    CHECK(::mprotect(sealed.get(), 4096, rw) == -1);
    CHECK(errno == EACCES);
    own_slot.word() = 1;  // still writable
}

TEST_CASE("a split writable mapping counts until its last part is gone", "[uapi][seal]") {
    const auto door = open_door();
    const auto a = create(door, create_args("", 3 * 4096));
    auto whole = map_data(a, rw);
    auto* memory = static_cast<char*>(whole.get());
    REQUIRE(::munmap(memory + 4096, 4096) == 0);
    CHECK(seal(a, IPCDOOR_SEAL_WRITE) == -EBUSY);
    REQUIRE(::munmap(memory, 4096) == 0);
    CHECK(seal(a, IPCDOOR_SEAL_WRITE) == -EBUSY);
    REQUIRE(::munmap(memory + 8192, 4096) == 0);
    whole.release();
    CHECK(seal(a, IPCDOOR_SEAL_WRITE) == 0);
}

TEST_CASE("SEAL_FUTURE_WRITE keeps the mappings that are there", "[uapi][seal]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door);
    const auto before = map_data(b, rw);
    CHECK(seal(a, IPCDOOR_SEAL_FUTURE_WRITE) == 0);
    before.word() = 3;
    CHECK(map_data(a, PROT_READ).word() == 3);
    CHECK(mmap_error(a.get(), a.info.data_offset, 4096, rw) == EACCES);
    const auto after = map_data(b, PROT_READ);
    CHECK(::mprotect(after.get(), 4096, rw) == -1);
    CHECK(errno == EACCES);
}

TEST_CASE("GROW adds zeroed pages, moves nothing and tells everybody", "[uapi][grow]") {
    const auto door = open_door();
    const auto [a, b] = attached_pair(door, growable());
    take(a, lifecycle_bit);
    const auto before = get_info(door).user_bytes;
    // the whole maximum may be mapped beforehand
    const mapping all(b.get(), b.info.data_offset, 16384, rw);
    REQUIRE(all);
    all.word(0) = 5;
    CHECK(grow(b, 12288) == 0);
    CHECK(take(a, lifecycle_bit).error == 0);
    CHECK(take(b, lifecycle_bit).error == 0);
    CHECK(get_info(door).user_bytes == before + 8192);
    ipcdoor_endpoint_info info{};
    REQUIRE(call(a.fd, IPCDOOR_IOC_ENDPOINT_INFO, &info) == 0);
    CHECK(info.data_bytes == 12288);
    CHECK(info.data_offset == a.info.data_offset);
    CHECK(state_of(map_state(a)).data_bytes == 12288);
    CHECK(all.word(0) == 5);
    CHECK(all.word(1535) == 0);
    all.word(1535) = 6;
    CHECK(mapping(a.get(), a.info.data_offset, 12288, PROT_READ).word(1535) == 6);
    // the size it has is allowed
    CHECK(grow(a, 12288) == 0);
    CHECK(take(b, lifecycle_bit).error == -ETIMEDOUT);
}

TEST_CASE("touching DATA that GROW has not made yet is SIGBUS", "[uapi][grow]") {
    const auto door = open_door();
    const auto a = create(door, growable());
    child toucher([&] {
        const auto own = attach_to(door, a);
        const mapping all(own.get(), own.info.data_offset, 16384, rw);
        EXPECT_CHILD(all.word(0) == 0);
        all.word(512) = 1;
        return 0;
    });
    CHECK(toucher.wait().signaled(SIGBUS));
}

TEST_CASE("GROW refuses sizes, rights and seals", "[uapi][grow]") {
    const auto door = open_door();
    auto args = growable();
    args.slots = 3;
    const auto a = create(door, args);
    auto reading = attach_args_fd(a.get());
    reading.rights = IPCDOOR_RIGHT_READ;
    const auto reader = attach(door, reading);
    CHECK(grow(a, 0) == -EINVAL);
    CHECK(grow(a, 8191) == -EINVAL);
    CHECK(grow(a, 16384 + 4096) == -EFBIG);
    CHECK(grow(a, ~std::uint64_t{4095}) == -EFBIG);
    CHECK(grow(a, 8192) == 0);
    CHECK(grow(a, 4096) == -EINVAL);
    CHECK(grow(reader, 12288) == -EACCES);
    CHECK(seal(a, IPCDOOR_SEAL_GROW) == 0);
    CHECK(grow(a, 12288) == -EPERM);
    CHECK(grow(a, 8192) == 0);
    const auto [server, client] = connected_pair(door);
    CHECK(grow(client, 8192) == -EFBIG);
    CHECK(grow(client, 4096) == 0);
}
