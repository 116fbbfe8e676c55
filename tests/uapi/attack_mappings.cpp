// SPDX-License-Identifier: MIT
// Attacks on pages through their mappings, as an ordinary user who may attach.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "uapi/attack.hpp"

using namespace ipcdoor::test;

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;
constexpr std::uint64_t poison = 0xbadbadbadbadbad;

// What an attacker with READ must never write: STATE, another's SLOT, an empty
// SLOT, DATA.
std::vector<std::uint64_t> forbidden(const victim& v) {
    return {v.state_offset(), v.slot_offset(0), v.slot_offset(2), v.data_offset(),
            v.data_offset() + 4096};
}

}  // namespace

TEST_CASE("attack: mprotect makes nothing writable or executable", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v);
        for (const auto offset : forbidden(v)) {
            const mapping page(own.get(), offset, 4096, PROT_READ);
            EXPECT_CHILD(page);
            EXPECT_CHILD(try_read(page.get()));
            for (const int protection : {PROT_WRITE, rw, rw | PROT_EXEC, PROT_READ | PROT_EXEC}) {
                EXPECT_CHILD(::mprotect(page.get(), 4096, protection) == -1);
                EXPECT_CHILD(errno == EACCES);
            }
            EXPECT_CHILD(!try_write(page.get(), poison));
            // by way of no access at all
            EXPECT_CHILD(::mprotect(page.get(), 4096, PROT_NONE) == 0);
            EXPECT_CHILD(::mprotect(page.get(), 4096, rw) == -1);
        }
        const auto slot = map_slot(own, 1, rw);
        EXPECT_CHILD(::mprotect(slot.get(), 4096, PROT_READ | PROT_EXEC) == -1);
        EXPECT_CHILD(::mprotect(slot.get(), 4096, PROT_READ) == 0);
        EXPECT_CHILD(::mprotect(slot.get(), 4096, rw) == 0);  // one's own
        EXPECT_CHILD(try_write(slot.get(), 1));
    });
}

TEST_CASE("attack: remap_file_pages reaches no other pages", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v);
        for (const auto offset : forbidden(v)) {
            // from the page that may be written
            auto slot = map_slot(own, 1, rw);
            EXPECT_CHILD(try_write(slot.get(), 1));
            EXPECT_CHILD(::remap_file_pages(slot.get(), 4096, 0, offset / 4096, 0) == -1);
            // whatever became of the mapping, it does not lead there
            if (try_write(slot.get(), poison))
                EXPECT_CHILD(map_slot(own, 1, PROT_READ).word() == poison);
            // from a readable one, made writable afterwards
            const mapping state(own.get(), v.state_offset(), 4096, PROT_READ);
            ::remap_file_pages(state.get(), 4096, 0, offset / 4096, 0);
            EXPECT_CHILD(::mprotect(state.get(), 4096, rw) == -1);
            EXPECT_CHILD(!try_write(state.get(), poison));
        }
    });
}

TEST_CASE("attack: remap_file_pages from writable DATA does not leave it", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        for (const auto offset : {v.state_offset(), v.slot_offset(0), v.slot_offset(2)}) {
            const auto data = map_data(own, rw);
            EXPECT_CHILD(::remap_file_pages(data.get(), 4096, 0, offset / 4096, 0) == -1);
        }
        // over the end of DATA
        const auto data = map_data(own, rw);
        EXPECT_CHILD(::remap_file_pages(data.get(), 8192, 0, v.data_offset() / 4096 + 1, 0) == -1);
    });
}

TEST_CASE("attack: mremap neither grows past the range nor doubles a mapping", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v);
        const auto slot = map_slot(own, 1, rw);
        for (const std::size_t size :
             {std::size_t{8192}, std::size_t{3 * 4096}, std::size_t{1} << 30}) {
            EXPECT_CHILD(::mremap(slot.get(), 4096, size, 0) == MAP_FAILED);
            EXPECT_CHILD(::mremap(slot.get(), 4096, size, MREMAP_MAYMOVE) == MAP_FAILED);
        }
        // the old trick: size 0 copies a shared mapping, with a size of choice
        EXPECT_CHILD(::mremap(slot.get(), 0, 8192, MREMAP_MAYMOVE) == MAP_FAILED);
        EXPECT_CHILD(::mremap(slot.get(), 0, 4096, MREMAP_MAYMOVE) == MAP_FAILED);
        EXPECT_CHILD(::mremap(slot.get(), 4096, 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr) ==
                         MAP_FAILED ||
                     true);
        for (const auto offset : forbidden(v)) {
            mapping page(own.get(), offset, 4096, PROT_READ);
            EXPECT_CHILD(::mremap(page.get(), 0, 4096, MREMAP_MAYMOVE) == MAP_FAILED);
            EXPECT_CHILD(::mremap(page.get(), 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED);
            // moved, it is as read-only as before
            void* target = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            void* moved = ::mremap(page.get(), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, target);
            EXPECT_CHILD(moved == target);
            page.release();
            EXPECT_CHILD(try_read(moved));
            EXPECT_CHILD(::mprotect(moved, 4096, rw) == -1);
            EXPECT_CHILD(!try_write(moved, poison));
            ::munmap(moved, 4096);
        }
    });
}

TEST_CASE("attack: a private mapping is refused, whatever its protection", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        for (const auto offset :
             {v.state_offset(), v.slot_offset(0), v.slot_offset(1), v.data_offset()})
            for (const int protection : {PROT_NONE, PROT_READ, rw})
                EXPECT_CHILD(mmap_error(own.get(), offset, 4096, protection, MAP_PRIVATE) ==
                             EINVAL);
    });
}

TEST_CASE("attack: a mapping without access cannot be opened up later", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v);
        for (const auto offset : forbidden(v)) {
            const mapping page(own.get(), offset, 4096, PROT_NONE);
            EXPECT_CHILD(page);
            EXPECT_CHILD(::mprotect(page.get(), 4096, rw) == -1 && errno == EACCES);
            EXPECT_CHILD(!try_write(page.get(), poison));
        }
    });
}

TEST_CASE("attack: a mapping kept after close is not the next owner's", "[uapi][attack]") {
    const victim v;
    gate closed;
    gate looked;
    auto attacker = child::as_user(user_uid, [&] {
        auto own = attach_attacker(v);
        const auto slot = map_slot(own, 1, rw);
        own.fd.reset();
        closed.open();
        looked.wait();
        EXPECT_CHILD(try_write(slot.get(), poison));  // still its own slot
        return 0;
    });
    closed.wait();
    // while the mapping can be written nobody else gets the slot
    auto args = attach_args(v.name());
    args.slot = 1;
    CHECK(call(v.door(), IPCDOOR_IOC_ATTACH, &args) == -EBUSY);
    CHECK(peer_info(v.end(), 1).state == IPCDOOR_SLOT_ALIVE);
    looked.open();
    CHECK(attacker.wait().exited());
    CHECK(wait_long(v.end(), lifecycle_bit).error == 0);
    const auto next = attach(v.door(), args);
    CHECK(map_slot(next, 1, PROT_READ).word() == 0);
    CHECK(v.unchanged());
}

TEST_CASE("attack: writes around the page tables are refused", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v);
        const unique_fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
        EXPECT_CHILD(memory);
        for (const auto offset : forbidden(v)) {
            const mapping page(own.get(), offset, 4096, PROT_READ);
            const auto before = *try_read(page.get());
            std::uint64_t value = poison;
            iovec local{&value, sizeof value};
            iovec remote{page.get(), sizeof value};
            EXPECT_CHILD(::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0) == -1);
            EXPECT_CHILD(::pwrite(memory.get(), &value, sizeof value,
                                  reinterpret_cast<off_t>(page.get())) == -1);
            // the kernel as a proxy: read(2) into the page
            const unique_fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
            EXPECT_CHILD(::read(zero.get(), page.get(), sizeof value) == -1);
            EXPECT_CHILD(errno == EFAULT);
            // and our own calls
            ipcdoor_peer_info info{};
            EXPECT_CHILD(call(own.fd, IPCDOOR_IOC_PEER_INFO, page.get()) < 0 ||
                         *try_read(page.get()) == before);
            EXPECT_CHILD(call(own.fd, IPCDOOR_IOC_ENDPOINT_INFO, page.get()) == -EFAULT);
            EXPECT_CHILD(call(own.fd, IPCDOOR_IOC_PEER_INFO, &info) == 0);
            EXPECT_CHILD(*try_read(page.get()) == before);
        }
    });
}

TEST_CASE("attack: MADV_DOFORK gives a child SIGBUS and no data", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        const auto state = map_state(own);
        const auto foreign = map_slot(own, 0, PROT_READ);
        const auto slot = map_slot(own, 1, rw);
        const auto data = map_data(own, rw);
        EXPECT_CHILD(try_read(data.get()) && try_read(state.get()) && try_read(foreign.get()));
        EXPECT_CHILD(try_write(slot.get(), 1));
        // without it nothing is inherited
        for (const bool dofork : {false, true}) {
            for (const auto* pages : {&state, &foreign, &slot, &data})
                if (dofork) ::madvise(pages->get(), pages->size(), MADV_DOFORK);
            child heir([&] {
                for (const auto* pages : {&state, &foreign, &slot, &data}) {
                    EXPECT_CHILD(!try_read(pages->get()));
                    EXPECT_CHILD(!try_write(pages->get(), poison));
                    // nor through another's eyes
                    std::uint64_t value = poison;
                    iovec local{&value, sizeof value};
                    iovec remote{pages->get(), sizeof value};
                    EXPECT_CHILD(::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == -1);
                    EXPECT_CHILD(::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0) == -1);
                }
                return 0;
            });
            EXPECT_CHILD(heir.wait().exited());
        }
        EXPECT_CHILD(try_read(data.get()));  // the owner still may
    });
}

TEST_CASE("attack: madvise loses no data and opens nothing", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        const auto data = map_data(own, rw);
        const auto slot = map_slot(own, 1, rw);
        const auto foreign = map_slot(own, 0, PROT_READ);
        const auto state = map_state(own);
        const auto first = data.word();
        slot.word() = 77;
        const int remove = MADV_REMOVE;
        EXPECT_CHILD(::madvise(data.get(), data.size(), remove) == -1);
        EXPECT_CHILD(::madvise(slot.get(), slot.size(), remove) == -1);
        EXPECT_CHILD(::madvise(foreign.get(), 4096, remove) == -1);
        // Every advice that an ordinary user's kernel may know, hwpoison's aside.
        for (int advice = 0; advice < 30; ++advice) {
            if (advice == MADV_DOFORK) continue;
            for (const auto* pages : {&data, &slot, &foreign, &state})
                ::madvise(pages->get(), pages->size(), advice);
            EXPECT_CHILD(try_read(data.get()) == first);
            EXPECT_CHILD(try_read(slot.get()) == 77);
            EXPECT_CHILD(try_read(state.get()) == IPCDOOR_STATE_MAGIC);
            EXPECT_CHILD(!try_write(foreign.get(), poison));
            EXPECT_CHILD(!try_write(state.get(), poison));
        }
#ifdef MADV_POPULATE_WRITE
        EXPECT_CHILD(::madvise(foreign.get(), 4096, MADV_POPULATE_WRITE) == -1);
        EXPECT_CHILD(::madvise(state.get(), 4096, MADV_POPULATE_WRITE) == -1);
#endif
    });
}
