// SPDX-License-Identifier: MIT
#include "fuzz/library/window.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#if defined(__SANITIZE_ADDRESS__)
#define IPCDOOR_FUZZ_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IPCDOOR_FUZZ_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define IPCDOOR_FUZZ_TSAN 1
#endif
#ifdef IPCDOOR_FUZZ_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace ipcdoor::fuzz {

namespace {

std::byte* mapped(void* address, const char* what) {
    if (address == MAP_FAILED) throw std::system_error(errno, std::generic_category(), what);
    return static_cast<std::byte*>(address);
}

}  // namespace

window::window(std::size_t bytes, owner whose) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    page_bytes_ = (bytes + page - 1) / page * page;
    const int fd = ::memfd_create("fuzz-window", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(page_bytes_)) != 0)
        throw std::system_error(errno, std::generic_category(), "memfd_create");
    guarded_ = mapped(::mmap(nullptr, page_bytes_ + 2 * page, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                      "guard pages");
#ifdef IPCDOOR_FUZZ_TSAN
    const int protection = PROT_READ | PROT_WRITE;
    static_cast<void>(whose);
#else
    const int protection = whose == owner::peer ? PROT_READ : PROT_READ | PROT_WRITE;
#endif
    mapped(::mmap(guarded_ + page, page_bytes_, protection, MAP_SHARED | MAP_FIXED, fd, 0),
           "the library's view");
    pages_ = mapped(::mmap(nullptr, page_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
                    "the peer's view");
    ::close(fd);
    seen_ = guarded_ + page + (page_bytes_ - bytes);
    written_ = pages_ + (page_bytes_ - bytes);
#ifdef IPCDOOR_FUZZ_TSAN
    written_ = seen_;
#endif
#ifdef IPCDOOR_FUZZ_ASAN
    ASAN_POISON_MEMORY_REGION(guarded_ + page, page_bytes_ - bytes);
#endif
}

window::~window() {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
#ifdef IPCDOOR_FUZZ_ASAN
    ASAN_UNPOISON_MEMORY_REGION(guarded_ + page, page_bytes_);
#endif
    ::munmap(guarded_, page_bytes_ + 2 * page);
    ::munmap(pages_, page_bytes_);
}

void window::forbid([[maybe_unused]] std::size_t from, [[maybe_unused]] std::size_t to) const {
#ifdef IPCDOOR_FUZZ_ASAN
    ASAN_POISON_MEMORY_REGION(seen_ + from, to - from);
#endif
}

}  // namespace ipcdoor::fuzz
