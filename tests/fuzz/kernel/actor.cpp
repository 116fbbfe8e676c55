// SPDX-License-Identifier: MIT
#include "fuzz/kernel/actor.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace kfuzz {

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;

std::byte* map_pages(std::size_t pages, int protection, int flags, int fd) {
    void* memory = ::mmap(nullptr, pages * page_bytes, protection, flags, fd, 0);
    if (memory == MAP_FAILED)
        throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
    return static_cast<std::byte*>(memory);
}

std::byte* map_before_a_hole(std::size_t pages) {
    std::byte* memory = map_pages(pages + 1, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (::mprotect(memory + pages * page_bytes, page_bytes, PROT_NONE) != 0)
        throw std::runtime_error(std::string("mprotect: ") + std::strerror(errno));
    return memory;
}

constexpr const char* edu_directory = "/sys/bus/pci/drivers/ipcdoor-edu";

// The name of the driver's device, "" where it has none.
std::string find_edu() {
    std::string found;
    DIR* directory = ::opendir(edu_directory);
    if (directory == nullptr) return found;
    while (const dirent* entry = ::readdir(directory))
        if (std::strchr(entry->d_name, ':') != nullptr) found = entry->d_name;
    ::closedir(directory);
    return found;
}

constexpr std::uintptr_t kernel_address = 0xffffffff81000000;
constexpr std::uintptr_t non_canonical_address = 0x8000000000000000;

}  // namespace

std::span<const setting, settings_count> settings() {
    static constexpr std::array<setting, settings_count> all{{
        // beyond what is allowed by one
        {"/sys/module/ipcdoor/parameters/user_max_interrupt_percent", 101},
        {"/sys/module/ipcdoor/parameters/user_max_endpoints", 64},
        {"/sys/module/ipcdoor/parameters/user_max_bytes", 1 << 20},
        {"/sys/module/ipcdoor/parameters/max_bytes", 4 << 20},
        {"/sys/kernel/tracing/events/mmap_lock/enable", 1},
    }};
    return all;
}

void scoreboard::load(const program& what) {
    length = static_cast<std::uint32_t>(std::min(what.size(), max_operations));
    std::copy_n(what.begin(), length, operations_of_program.begin());
    for (auto& pid : pids) pid = 0;
    for (auto& tid : tids) tid = 0;
    for (auto& result : results) result = not_run;
    operations = 0;
}

registers::registers() { forget(); }

void registers::forget() {
    for (auto& fd : fds) fd = -1;
    for (auto& map : maps) map = 0;
}

int registers::fd(std::uint64_t index) const {
    return index < fd_registers ? fds[index].load() : -1;
}

void registers::keep(std::uint64_t index, std::int64_t descriptor) {
    if (index < fd_registers && descriptor >= 0) fds[index] = static_cast<int>(descriptor);
}

argument_memory::argument_memory() : pages_(map_before_a_hole(2)), seen_(map_before_a_hole(2)) {
    const int fd = ::memfd_create("read-only", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, page_bytes) != 0)
        throw std::runtime_error(std::string("memfd_create: ") + std::strerror(errno));
    read_only_ = map_pages(1, PROT_READ, MAP_SHARED, fd);
    read_only_alias_ = map_pages(1, rw, MAP_SHARED, fd);
    ::close(fd);
}

std::uintptr_t argument_memory::place(std::uint64_t kind, const void* content, std::size_t bytes,
                                      std::size_t dirty_size) const {
    std::byte* const end = pages_ + 2 * page_bytes;
    std::byte* at = pages_;
    switch (kind) {
        case at_buffer: break;
        case at_unaligned: at += 1; break;
        case at_null: return 0;
        case at_unmapped: return reinterpret_cast<std::uintptr_t>(end) + 64;
        case at_kernel: return kernel_address;
        case at_non_canonical: return non_canonical_address;
        case at_page_end: {
            const std::size_t there = bytes / 2 / 8 * 8;
            std::memcpy(end - there, content, there);
            return reinterpret_cast<std::uintptr_t>(end - there);
        }
        case at_read_only:
            std::memcpy(read_only_alias_, content, bytes);
            return reinterpret_cast<std::uintptr_t>(read_only_);
        default: return 0;
    }
    // a tail of zeros, whatever the last call left there
    std::memset(at, 0, page_bytes);
    std::memcpy(at, content, bytes);
    if (dirty_size > bytes && dirty_size < page_bytes) at[dirty_size - 1] = std::byte{1};
    return reinterpret_cast<std::uintptr_t>(at);
}

std::uintptr_t argument_memory::place_seen(std::uint64_t kind) const {
    constexpr std::size_t bytes = 64 * sizeof(std::uint64_t);
    std::byte* const end = seen_ + 2 * page_bytes;
    switch (kind) {
        case at_unmapped: return reinterpret_cast<std::uintptr_t>(end) + 64;
        case at_kernel: return kernel_address;
        case at_non_canonical: return non_canonical_address;
        case at_page_end: return reinterpret_cast<std::uintptr_t>(end - bytes / 2);
        case at_read_only: return reinterpret_cast<std::uintptr_t>(read_only_) + page_bytes / 2;
        case at_unaligned: return reinterpret_cast<std::uintptr_t>(seen_) + 3;
        default: return reinterpret_cast<std::uintptr_t>(seen_);
    }
}

surroundings::surroundings()
    : can_fail(::access("/proc/thread-self/fail-nth", W_OK) == 0),
      edu_driver(edu_directory),
      edu_address(find_edu()),
      arena(map_pages(map_arena_pages * map_registers, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)) {
    if (can_fail) prepare_failures();
}

void let_pages_fail(bool may) {
    const auto fd = static_cast<int>(::syscall(
        SYS_openat, AT_FDCWD, "/sys/kernel/debug/fail_page_alloc/min-order", O_WRONLY | O_CLOEXEC));
    [[maybe_unused]] const auto written = ::syscall(SYS_write, fd, may ? "0\n" : "9\n", 2);
    ::syscall(SYS_close, fd);
}

void prepare_failures() {
    const std::string failures = "/sys/kernel/debug/";
    for (const char* kind : {"failslab", "fail_page_alloc", "fail_usercopy"}) {
        std::ofstream(failures + kind + "/verbose") << 0 << std::flush;
        std::ofstream(failures + kind + "/ignore-gfp-wait") << 'N' << std::flush;
    }
    // which caches may fail is said at boot
    std::ofstream(failures + "failslab/cache-filter") << 'Y' << std::flush;
    let_pages_fail(true);
}

void set_failure(actor& by, std::uint64_t n) {
    if (!by.around->can_fail) return;
    if (by.fail_file < 0) by.fail_file = ::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
    char text[24];
    const int length =
        std::snprintf(text, sizeof(text), "%llu", static_cast<unsigned long long>(n));
    // it fails where the thread has become somebody else: then nothing is injected
    [[maybe_unused]] const auto written =
        ::pwrite(by.fail_file, text, static_cast<std::size_t>(length), 0);
}

std::int64_t outcome(std::int64_t result) { return result < 0 ? -errno : result; }

}  // namespace kfuzz
