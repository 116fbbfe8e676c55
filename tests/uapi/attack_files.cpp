// SPDX-License-Identifier: MIT
// Attacks through the descriptor: every file operation that might reach the
// pages past mmap's checks, and descriptors in the wrong hands.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "support/catch.hpp"
#include "uapi/attack.hpp"

using namespace ipcdoor::test;

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;
constexpr std::uint64_t poison = 0xbadbadbadbadbad;

struct pipe_ends {
    unique_fd in;
    unique_fd out;
    pipe_ends() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
            out.reset(ends[0]);
            in.reset(ends[1]);
        }
    }
};

void expect_no_file_operation(int fd, std::uint64_t offset) {
    std::uint64_t value = poison;
    iovec vector{&value, sizeof value};
    const auto at = static_cast<off_t>(offset);
    EXPECT_CHILD(::read(fd, &value, sizeof value) == -1);
    EXPECT_CHILD(::write(fd, &value, sizeof value) == -1);
    EXPECT_CHILD(::pread(fd, &value, sizeof value, at) == -1);
    EXPECT_CHILD(::pwrite(fd, &value, sizeof value, at) == -1);
    EXPECT_CHILD(::preadv2(fd, &vector, 1, at, 0) == -1);
    EXPECT_CHILD(::pwritev2(fd, &vector, 1, at, 0) == -1);

    const pipe_ends pipe;
    EXPECT_CHILD(::write(pipe.in.get(), &value, sizeof value) == sizeof value);
    loff_t position = static_cast<loff_t>(offset);
    EXPECT_CHILD(::splice(pipe.out.get(), nullptr, fd, &position, 8, SPLICE_F_NONBLOCK) == -1);
    EXPECT_CHILD(::splice(fd, &position, pipe.in.get(), nullptr, 8, SPLICE_F_NONBLOCK) == -1);
    const unique_fd file(::memfd_create("target", MFD_CLOEXEC));
    EXPECT_CHILD(::write(file.get(), &value, sizeof value) == sizeof value);
    off_t from = at;
    EXPECT_CHILD(::sendfile(pipe.in.get(), fd, &from, 8) == -1);
    EXPECT_CHILD(::sendfile(file.get(), fd, &from, 8) == -1);
    off_t start = 0;
    EXPECT_CHILD(::sendfile(fd, file.get(), &start, 8) == -1);
    loff_t zero = 0;
    EXPECT_CHILD(::copy_file_range(fd, &position, file.get(), &zero, 8, 0) == -1);
    EXPECT_CHILD(::copy_file_range(file.get(), &zero, fd, &position, 8, 0) == -1);

    EXPECT_CHILD(::ftruncate(fd, 0) == -1);
    EXPECT_CHILD(::ftruncate(fd, static_cast<off_t>(offset + 4096)) == -1);
    for (const int mode : {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                           FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE})
        EXPECT_CHILD(::fallocate(fd, mode, at, 4096) == -1);
    // The file's mapping is shmem's: whoever takes it for a memfd must find seals
    // that are sealed, not the memory beside another inode.
    const int seals = ::fcntl(fd, F_GET_SEALS);
    EXPECT_CHILD((seals == -1 && errno == EINVAL) || (seals & F_SEAL_SEAL) != 0);
    for (const int one :
         {F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE}) {
        EXPECT_CHILD(::fcntl(fd, F_ADD_SEALS, one) == -1);
        EXPECT_CHILD(errno == (seals == -1 ? EINVAL : EPERM));
    }
    EXPECT_CHILD(::fcntl(fd, F_GET_SEALS) == seals);
    EXPECT_CHILD(::fchmod(fd, 0777) == -1);
}

}  // namespace

TEST_CASE("attack: no file operation reads or writes the pages", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        for (const auto offset : {v.state_offset(), v.slot_offset(0), v.data_offset()})
            expect_no_file_operation(own.get(), offset);
    });
    // not as root either, whose own descriptor it is
    child root([&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        expect_no_file_operation(own.get(), v.data_offset());
        return 0;
    });
    CHECK(root.wait().exited());
    CHECK(v.unchanged());
}

TEST_CASE("attack: advice on the file drops no page", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        {
            // a page that nobody maps any more
            const auto slot = map_slot(own, 1, rw);
            slot.word() = 55;
        }
        for (const int advice : {POSIX_FADV_DONTNEED, POSIX_FADV_WILLNEED, POSIX_FADV_NOREUSE,
                                 POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL, POSIX_FADV_NORMAL})
            ::posix_fadvise(own.get(), 0, 0, advice);
        ::readahead(own.get(), 0, 1 << 20);
        ::fsync(own.get());
        ::fdatasync(own.get());
        ::sync_file_range(own.get(), 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        ::posix_fadvise(own.get(), 0, 0, POSIX_FADV_DONTNEED);
        EXPECT_CHILD(map_slot(own, 1, PROT_READ).word() == 55);
        {
            const auto data = map_data(own, rw);
            EXPECT_CHILD(::msync(data.get(), data.size(), MS_SYNC | MS_INVALIDATE) == 0 ||
                         errno != 0);
        }
    });
}

TEST_CASE("attack: the file cannot be opened again through /proc", "[uapi][attack]") {
    const victim v;
    check_attack(v, [&] {
        const auto own = attach_attacker(v);
        const auto path = "/proc/self/fd/" + std::to_string(own.get());
        for (const int flags : {O_RDWR, O_RDONLY, O_WRONLY}) {
            const unique_fd again(::open(path.c_str(), flags | O_CLOEXEC));
            EXPECT_CHILD(!again);
        }
        const auto page = map_slot(own, 0, PROT_READ);
        char range[64];
        std::snprintf(range, sizeof range, "/proc/self/map_files/%lx-%lx",
                      reinterpret_cast<unsigned long>(page.get()),
                      reinterpret_cast<unsigned long>(page.get()) + 4096);
        const unique_fd mapped(::open(range, O_RDWR | O_CLOEXEC));
        EXPECT_CHILD(!mapped);
    });
}

TEST_CASE("attack: an endpoint passed to another user gives them nothing", "[uapi][attack]") {
    const victim v(0600);  // the name is closed to them
    fd_channel channel;
    channel.send(v.end().get());
    auto thief = child::as_user(other_uid, [&] {
        const auto passed = channel.receive();
        EXPECT_CHILD(passed);
        endpoint stolen;
        stolen.info = v.end().info;
        stolen.fd.reset(::dup(passed.get()));
        EXPECT_CHILD(ring(stolen, 0, 63) == -EPERM);
        EXPECT_CHILD(take(stolen, ~std::uint64_t{0}).error == -EPERM);
        ipcdoor_ring_wait both{};
        EXPECT_CHILD(call(stolen.fd, IPCDOOR_IOC_RING_WAIT, &both) == -EPERM);
        ipcdoor_endpoint_info info{};
        EXPECT_CHILD(call(stolen.fd, IPCDOOR_IOC_ENDPOINT_INFO, &info) == -EPERM);
        ipcdoor_peer_info peer{};
        EXPECT_CHILD(call(stolen.fd, IPCDOOR_IOC_PEER_INFO, &peer) == -EPERM);
        ipcdoor_bind_eventfd event{};
        event.fd = -1;
        EXPECT_CHILD(call(stolen.fd, IPCDOOR_IOC_BIND_EVENTFD, &event) == -EPERM);
        ipcdoor_bind_signal signal{};
        signal.signo = 10;
        signal.mask = 2;
        EXPECT_CHILD(call(stolen.fd, IPCDOOR_IOC_BIND_SIGNAL, &signal) == -EPERM);
        EXPECT_CHILD(seal(stolen, IPCDOOR_SEAL_WRITE) == -EPERM);
        EXPECT_CHILD(grow(stolen, 8192) == -EPERM);
        EXPECT_CHILD(poll_now(stolen.get()) == POLLERR);
        for (const auto offset : {v.state_offset(), v.slot_offset(0), v.data_offset()})
            for (const int protection : {PROT_NONE, PROT_READ, rw})
                EXPECT_CHILD(mmap_error(stolen.get(), offset, 4096, protection) == EPERM);
        expect_no_file_operation(stolen.get(), v.data_offset());
        return 0;
    });
    CHECK(thief.wait().exited());
    CHECK(v.unchanged());
    CHECK(peer_info(v.end(), 0).state == IPCDOOR_SLOT_ALIVE);
}

TEST_CASE("attack: who attaches by a passed descriptor is seen as themselves", "[uapi][attack]") {
    const victim v(0600);
    fd_channel channel;
    channel.send(v.end().get());
    gate seated;
    gate done;
    auto guest = child::as_user(other_uid, [&] {
        const auto passed = channel.receive();
        auto args = attach_args_fd(passed.get());
        args.slot = 1;
        const auto own = attach(v.door(), args);
        EXPECT_CHILD((own.info.rights & IPCDOOR_RIGHT_SEAL) == 0);
        EXPECT_CHILD(mmap_error(own.get(), v.slot_offset(0), 4096, rw) == EACCES);
        seated.open();
        done.wait();
        return 0;
    });
    seated.wait();
    CHECK(peer_info(v.end(), 1).uid == other_uid);
    CHECK(peer_info(v.end(), 1).pid == guest.pid());
    done.open();
    CHECK(guest.wait().exited());
    CHECK(v.unchanged());
}
