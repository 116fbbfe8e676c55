// SPDX-License-Identifier: MIT
//
// How pages lie in the machine's memory: what memory (memory.hpp) is made with, and what
// endpoint::prepare_pages() does with the pages of a segment.
#ifndef IPCDOOR_PAGE_OPTIONS_HPP
#define IPCDOOR_PAGE_OPTIONS_HPP

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include <ipcdoor.h>

#include <ipcdoor/error.hpp>

namespace ipcdoor {

enum class huge_pages {
    none,
    // Where the system gives some (transparent_hugepage/shmem_enabled is "advise" or more).
    advise,
    // Of those set aside by vm.nr_hugepages, of 2 MiB, or ENOMEM.
    reserved,
};

struct page_options {
    huge_pages pages = huge_pages::none;
    int numa_node = -1;     // where the pages have to lie; -1: wherever
    bool lock = false;      // never swapped
    bool prefault = false;  // mapped here at once: the first use of a page is no fault
};

namespace detail {

inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

inline std::size_t page_bytes() noexcept {
    static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

// `what`: whose pages. Throws; the remedy begins with "; ".
[[noreturn]] inline void throw_page_error(const char* what, const char* call, int error_number,
                                          const char* remedy = "") {
    throw_error(error_number,
                std::string(what) + ": " + call + ": " + std::strerror(error_number) + remedy);
}

// Pages of [at, at + bytes) lie on this node from now on; those that are there move, where
// `flags` say so.
inline void bind_pages(const char* what, void* at, std::size_t bytes, int node, unsigned flags) {
    constexpr unsigned long bits = std::numeric_limits<unsigned long>::digits;
    std::array<unsigned long, 1024 / bits> nodes{};
    const auto number = static_cast<unsigned long>(node);
    if (number >= 1024) {
        throw_error(EINVAL, std::string(what) + ": NUMA node " + std::to_string(node) +
                                ": there are at most 1024");
    }
    nodes[number / bits] = 1UL << number % bits;
    if (::syscall(SYS_mbind, at, bytes, MPOL_BIND, nodes.data(), nodes.size() * bits, flags) == 0)
        return;
    if (errno == ENOSYS) {
        throw_page_error(what, "mbind", EOPNOTSUPP,
                         "; this kernel was built without NUMA: leave numa_node alone");
    }
    throw_page_error(what, "mbind", errno, "; numactl --hardware lists the nodes with memory");
}

// Enters the pages into this process's page tables.
inline void populate_pages(const char* what, void* at, std::size_t bytes) {
    constexpr int populate_read = 22;  // MADV_POPULATE_READ and WRITE, of Linux 5.14
    constexpr int populate_write = 23;
    // Where it may not be written, EINVAL.
    if (::madvise(at, bytes, populate_write) == 0 || ::madvise(at, bytes, populate_read) == 0)
        return;
    if (errno != EINVAL) throw_page_error(what, "madvise(MADV_POPULATE_READ)", errno);
    for (std::size_t i = 0; i < bytes; i += page_bytes())
        static_cast<void>(*(static_cast<const volatile std::byte*>(at) + i));
}

inline void lock_pages(const char* what, void* at, std::size_t bytes) {
    if (::mlock(at, bytes) == 0) return;
    throw_page_error(what, "mlock", errno, "; raise the limit of locked memory (ulimit -l)");
}

// ---- of a segment, whose pages are there already ----

inline constexpr const char* segment_pages = "prepare_pages";

inline void move_pages_to(void* at, std::size_t bytes, int node) {
    bind_pages(segment_pages, at, bytes, node, MPOL_MF_MOVE);
    // It says nothing of pages that could not be moved.
    std::array<void*, 256> some{};
    std::array<int, some.size()> where{};
    for (std::size_t done = 0; done < bytes;) {
        std::size_t count = 0;
        for (; count < some.size() && done < bytes; ++count, done += page_bytes())
            some[count] = static_cast<std::byte*>(at) + done;
        if (::syscall(SYS_move_pages, 0, count, some.data(), nullptr, where.data(), 0) < 0)
            throw_page_error(segment_pages, "move_pages", errno);
        if (std::all_of(where.begin(), where.begin() + static_cast<std::ptrdiff_t>(count),
                        [node](int one) { return one == node; }))
            continue;
        throw_error(EBUSY,
                    "prepare_pages: there are pages that do not move to NUMA node " +
                        std::to_string(node) +
                        ", because another endpoint has mapped them or the node is full; move "
                        "them before others have come, or use ipcdoor::memory, whose pages are "
                        "made there");
    }
}

[[noreturn]] inline void throw_no_huge_pages_of_segment(const std::string& why) {
    throw_error(EOPNOTSUPP, "prepare_pages: no huge pages: " + why +
                                "; ipcdoor::memory is made of huge pages from the start");
}

// Puts the whole huge pages in there together.
inline void collapse_pages(void* at, std::size_t bytes) {
    constexpr int collapse = 25;  // MADV_COLLAPSE, of Linux 6.1
    const std::uintptr_t from = reinterpret_cast<std::uintptr_t>(at);
    const std::uintptr_t first = (from + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
    const std::uintptr_t end = (from + bytes) / huge_page_bytes * huge_page_bytes;
    if (first >= end) throw_no_huge_pages_of_segment("no whole one of 2 MiB lies in this part");
    auto* const whole = static_cast<std::byte*>(at) + (first - from);
    if (::madvise(whole, end - first, MADV_HUGEPAGE) == 0 &&
        ::madvise(whole, end - first, collapse) == 0)
        return;
    if (errno == EINVAL) {
        throw_no_huge_pages_of_segment(
            "it takes Linux 6.1, and shmem_enabled in /sys/kernel/mm/transparent_hugepage");
    }
    throw_page_error(segment_pages, "madvise(MADV_COLLAPSE)", errno,
                     "; try again, or use ipcdoor::memory");
}

// Of ipcdoor.ko: ordinary pages of a file, which the kernel knows as such, but each by itself,
// and never swapped. mlock(2) would say 0 and do nothing but map them.
inline void prepare_segment_pages(bool of_module, std::span<const std::byte> part,
                                  const page_options& wanted) {
    if (part.empty()) throw_error(EINVAL, "prepare_pages: there are no bytes");
    const std::size_t inside = reinterpret_cast<std::uintptr_t>(part.data()) % page_bytes();
    auto* const at = const_cast<std::byte*>(part.data()) - inside;
    const std::size_t bytes =
        (inside + part.size() + page_bytes() - 1) / page_bytes() * page_bytes();
    if (wanted.pages == huge_pages::reserved)
        throw_no_huge_pages_of_segment("a segment's pages are not of those set aside");
    if (wanted.pages == huge_pages::advise && of_module)
        throw_no_huge_pages_of_segment("the module's segments are of small pages");
    // Only what is mapped here can be moved.
    if (wanted.prefault || wanted.lock || wanted.numa_node >= 0)
        populate_pages(segment_pages, at, bytes);
    if (wanted.numa_node >= 0) move_pages_to(at, bytes, wanted.numa_node);
    if (wanted.pages == huge_pages::advise) collapse_pages(at, bytes);
    if (wanted.lock && !of_module) lock_pages(segment_pages, at, bytes);
    if (wanted.prefault) populate_pages(segment_pages, at, bytes);
}

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_PAGE_OPTIONS_HPP
