// SPDX-License-Identifier: MIT
// Memory of one writer: nobody else can write it, shrink it, or take its pages away.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/memory.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

using namespace ipcdoor;

namespace {

// What somebody else does while memory is being made.
void (*while_filled)(int fd) = nullptr;
// What making it fails with first, the last one first.
std::vector<int> failures;

}  // namespace

// In place of the C library's, for this program.
extern "C" int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    if (while_filled != nullptr) while_filled(fd);
    if (!failures.empty()) {
        errno = failures.back();
        failures.pop_back();
        return -1;
    }
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, bytes));
}

namespace {

owned_fd duplicate(int fd) { return owned_fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

int error_of_view(owned_fd fd, std::size_t bytes) {
    return test::error_of([&] { const memory_view view(std::move(fd), bytes); });
}

}  // namespace

TEST_CASE("a reader sees what the writer writes", "[memory]") {
    const memory mine(5000);
    const std::size_t bytes = mine.bytes().size();
    CHECK(bytes == 8192);
    std::memset(mine.bytes().data(), 0x5a, bytes);
    const memory_view theirs(duplicate(mine.fd()), bytes);
    REQUIRE(theirs.bytes().size() == bytes);
    CHECK(theirs.bytes()[bytes - 1] == std::byte{0x5a});
    mine.bytes()[17] = std::byte{1};
    CHECK(theirs.bytes()[17] == std::byte{1});
}

TEST_CASE("nobody gets to write another's memory", "[memory]") {
    const memory mine(4096);
    char byte = 'x';
    CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mine.fd(), 0) == MAP_FAILED);
    CHECK(errno == EPERM);
    CHECK(::pwrite(mine.fd(), &byte, 1, 0) == -1);
    CHECK(errno == EPERM);
    CHECK(::ftruncate(mine.fd(), 0) == -1);
    CHECK(errno == EPERM);
    CHECK(::ftruncate(mine.fd(), 1 << 20) == -1);
    CHECK(errno == EPERM);
    CHECK(::fallocate(mine.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1);
    CHECK(errno == EPERM);
    CHECK(::fcntl(mine.fd(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
    CHECK(errno == EPERM);

    // Opened anew, by the way that any process of this user has.
    const std::string path = "/proc/self/fd/" + std::to_string(mine.fd());
    const owned_fd again(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(again);
    CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again.get(), 0) == MAP_FAILED);
    CHECK(errno == EPERM);

    const memory_view theirs(duplicate(mine.fd()), 4096);
    void* const pages = const_cast<std::byte*>(theirs.bytes().data());
    CHECK(::mprotect(pages, 4096, PROT_READ | PROT_WRITE) == -1);
    CHECK(errno == EACCES);
}

TEST_CASE("nobody gets to write another's memory while it is made", "[memory]") {
    static void* pages;
    pages = nullptr;
    while_filled = [](int fd) {
        const std::string path = "/proc/self/fd/" + std::to_string(fd);
        const owned_fd again(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        pages = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again.get(), 0);
    };
    const memory mine(4096);
    while_filled = nullptr;
    CHECK(pages == MAP_FAILED);
    if (pages != MAP_FAILED) ::munmap(pages, 4096);
}

TEST_CASE("what could harm its reader is not mapped", "[memory]") {
    const memory mine(4096);
    CHECK(error_of_view(duplicate(mine.fd()), 4096) == 0);
    CHECK(error_of_view(duplicate(mine.fd()), 8192) == EPROTO);
    CHECK(error_of_view(duplicate(mine.fd()), 0) == EPROTO);

    owned_fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(unsealed.get(), 4096) == 0);
    REQUIRE(::fallocate(unsealed.get(), 0, 0, 4096) == 0);
    CHECK(error_of_view(duplicate(unsealed.get()), 4096) == EPROTO);
    REQUIRE(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    CHECK(error_of_view(duplicate(unsealed.get()), 4096) == EPROTO);
    REQUIRE(::fcntl(unsealed.get(), F_ADD_SEALS, detail::seal_future_write) == 0);
    CHECK(error_of_view(duplicate(unsealed.get()), 4096) == 0);

    owned_fd empty(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(empty.get(), 4096) == 0);
    REQUIRE(::fcntl(empty.get(), F_ADD_SEALS,
                    F_SEAL_SHRINK | F_SEAL_GROW | detail::seal_future_write) == 0);
    CHECK(error_of_view(std::move(empty), 4096) == EPROTO);

    // As many pages as it should have, but behind its end.
    owned_fd hollow(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(hollow.get(), 65536) == 0);
    REQUIRE(::fallocate(hollow.get(), FALLOC_FL_KEEP_SIZE, 65536, 65536) == 0);
    REQUIRE(::fcntl(hollow.get(), F_ADD_SEALS,
                    F_SEAL_SHRINK | F_SEAL_GROW | detail::seal_future_write) == 0);
    CHECK(error_of_view(duplicate(hollow.get()), 65536) == EPROTO);
    const std::string path = "/proc/self/fd/" + std::to_string(hollow.get());
    CHECK(error_of_view(owned_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), 65536) == EPROTO);

    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const owned_fd other_end(ends[1]);
    CHECK(error_of_view(owned_fd(ends[0]), 4096) == EPROTO);
    CHECK(error_of_view(owned_fd(), 4096) == EBADF);
}

TEST_CASE("memory of impossible sizes and places is refused", "[memory]") {
    const auto refused = [](std::size_t bytes, const page_options& wanted = {}) {
        return test::error_of([&] { const memory made(bytes, wanted); });
    };
    CHECK(refused(0) == EINVAL);
    CHECK(refused(~std::size_t{0}) == EINVAL);
    CHECK(refused(4096, {.numa_node = 5000}) == EINVAL);
    // Before anything was allocated: the system would rather end programs than say no.
    CHECK(refused(std::size_t{1} << 45) == ENOMEM);
}

TEST_CASE("signal handlers run while memory is made, and it is made", "[memory]") {
    failures = {EINTR, EINTR, EINTR};
    const std::size_t bytes = 5 << 20;
    const memory mine(bytes);
    CHECK(failures.empty());
    // All of its pages are there.
    CHECK(error_of_view(duplicate(mine.fd()), bytes) == 0);
    while_filled = [](int) {
        static int pieces = 0;
        if (pieces++ == 1) failures = {EINTR};
    };
    const memory interrupted_later(bytes);
    while_filled = nullptr;
    CHECK(failures.empty());
    CHECK(error_of_view(duplicate(interrupted_later.fd()), bytes) == 0);
}

TEST_CASE("memory that there is too little of is refused", "[memory]") {
    const auto refused = [](std::size_t bytes, const page_options& wanted = {}) {
        return test::error_of([&] { const memory made(bytes, wanted); });
    };
    failures = {ENOSPC};
    CHECK(refused(4096) == ENOMEM);
    failures = {EIO};
    CHECK(refused(4096) == EIO);
    CHECK(failures.empty());
    // Half of the machine in huge pages is reserved nowhere. ENOSYS, EINVAL: no such file system.
    const auto half = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) / 2 * 4096;
    const int reserved = refused(half, {.pages = huge_pages::reserved});
    CHECK((reserved == ENOMEM || reserved == ENOSYS || reserved == EINVAL));
    // Transparent ones are asked for and may come; EINVAL: a kernel without.
    const int advised = refused(4 << 20, {.pages = huge_pages::advise});
    CHECK((advised == 0 || advised == EINVAL));
}

TEST_CASE("memory is mapped at once where that is wanted", "[memory]") {
    const auto mapped = [](const memory& of) {
        std::size_t count = 0;
        const owned_fd map(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
        for (std::size_t i = 0; i < of.bytes().size(); i += 4096) {
            std::uint64_t entry = 0;
            const auto page = reinterpret_cast<std::uintptr_t>(of.bytes().data() + i) / 4096;
            REQUIRE(::pread(map.get(), &entry, 8, static_cast<off_t>(page * 8)) == 8);
            count += entry >> 63;
        }
        return count;
    };
    CHECK(mapped(memory(16 * 4096)) == 0);
    CHECK(mapped(memory(16 * 4096, {.prefault = true})) == 16);
    if (test::has_mlock) CHECK(mapped(memory(16 * 4096, {.lock = true})) == 16);
}

TEST_CASE("memory that may not be locked is refused", "[memory]") {
    if (!test::has_mlock) return;
    const auto refused = [] {
        const rlimit none{0, 0};
        EXPECT_CHILD(::setrlimit(RLIMIT_MEMLOCK, &none) == 0);
        const int why = test::error_of([] { const memory made(4096, {.lock = true}); });
        return why == EPERM || why == ENOMEM || why == EAGAIN ? 0 : 1;
    };
    test::child other =
        ::geteuid() == 0 ? test::child::as_user(4321, refused) : test::child(refused);
    CHECK(other.wait().exited(0));
}

TEST_CASE("a forked child has no copy of it", "[memory]") {
    memory mine(4096);
    const memory_view theirs(duplicate(mine.fd()), 4096);
    const std::size_t before = test::open_fd_count();
    test::child copy([&] {
        // Something else takes the place; the copy's end must not unmap it.
        void* const at = ::mmap(mine.bytes().data(), 4096, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        EXPECT_CHILD(at == mine.bytes().data());
        { const memory gone = std::move(mine); }
        *static_cast<volatile char*>(at) = 1;
        return 0;
    });
    CHECK(copy.wait().exited(0));
    mine.bytes()[0] = std::byte{9};
    CHECK(theirs.bytes()[0] == std::byte{9});
    CHECK(test::open_fd_count() == before);
}
