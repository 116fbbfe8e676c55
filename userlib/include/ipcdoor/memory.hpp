// SPDX-License-Identifier: MIT
//
// memory and memory_view: shared memory of one writer. Whoever makes it is the only one
// that can ever write it; everybody else gets its descriptor and maps it for reading. The
// kernel enforces that, also against processes of the same user: the file behind it is
// sealed against new writable mappings, write(2), shrinking and growing, so nobody's pages
// go away under a reader.
//
//     ipcdoor::memory mine(1 << 20);                       // write mine.bytes()
//     ...pass mine.fd() to another process...
//     ipcdoor::memory_view theirs(std::move(fd), 1 << 20); // read theirs.bytes()
//
// The pages are there when the constructor returns, charged to the caller's control group:
// running out of memory is an ENOMEM there and not a SIGBUS elsewhere. They live until the
// last mapping and the last descriptor are gone. What a writer writes changes while it is
// read: copy what has to be checked, then check the copy.
//
// A forked child has no copy of the mapping.
//
// Threads: all members but the move operations may be called by several at once.
#ifndef IPCDOOR_MEMORY_HPP
#define IPCDOOR_MEMORY_HPP

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <ipcdoor/error.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/page_options.hpp>

namespace ipcdoor {

namespace detail {

// Since Linux 5.1.
inline constexpr int seal_future_write = 0x0010;

[[noreturn]] inline void throw_memory_error(const char* call, int error_number,
                                            const char* remedy = "") {
    throw_page_error("memory", call, error_number, remedy);
}

// A range of pages, unmapped at its end.
class mapping {
public:
    mapping() noexcept = default;
    mapping(int fd, std::size_t bytes, int protection) : bytes_(bytes) {
        void* const at = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) throw_memory_error("mmap", errno);
        at_ = at;
        if (::madvise(at, bytes, MADV_DONTFORK) != 0) {
            const int error_number = errno;
            ::munmap(std::exchange(at_, nullptr), bytes);
            throw_memory_error("madvise", error_number);
        }
    }
    mapping(mapping&& other) noexcept
        : at_(std::exchange(other.at_, nullptr)),
          bytes_(std::exchange(other.bytes_, 0)),
          owner_(other.owner_) {}
    mapping& operator=(mapping&& other) noexcept {
        std::swap(at_, other.at_);
        std::swap(bytes_, other.bytes_);
        std::swap(owner_, other.owner_);
        return *this;
    }
    // In a forked child something else may be there.
    ~mapping() {
        if (at_ != nullptr && owner_ == ::getpid()) ::munmap(at_, bytes_);
    }

    std::byte* data() const noexcept { return static_cast<std::byte*>(at_); }
    std::size_t size() const noexcept { return bytes_; }

private:
    void* at_ = nullptr;
    std::size_t bytes_ = 0;
    pid_t owner_ = ::getpid();
};

}  // namespace detail

// The writer's end.
class memory {
public:
    // `bytes` are rounded up to pages, huge ones where they are reserved. Throws EINVAL (no
    // bytes, an impossible node), ENOMEM, EPERM or EAGAIN (locking), EOPNOTSUPP (a node on a
    // kernel without NUMA), and what memfd_create(2) and mmap(2) fail with.
    explicit memory(std::size_t wanted_bytes, const page_options& wanted = {}) {
        const bool reserved = wanted.pages == huge_pages::reserved;
        const std::size_t unit = reserved ? detail::huge_page_bytes : detail::page_bytes();
        if (wanted_bytes == 0 || wanted_bytes > most) {
            detail::throw_error(EINVAL, "memory: " + std::to_string(wanted_bytes) +
                                            " bytes: 1 to 2^46 are possible");
        }
        const std::size_t bytes = (wanted_bytes + unit - 1) / unit * unit;
        check_machine(bytes);
        fd_ = owned_fd(::memfd_create(
            "ipcdoor-memory",
            MFD_CLOEXEC | MFD_ALLOW_SEALING | (reserved ? MFD_HUGETLB | MFD_HUGE_2MB : 0U)));
        if (!fd_) detail::throw_memory_error("memfd_create", errno);
        if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0)
            detail::throw_memory_error("ftruncate", errno);
        pages_ = map(bytes, reserved);
        // The mapping above stays writable. Sealed before there are pages, which take time to
        // make: meanwhile other processes of this user could open the file by way of /proc.
        if (::fcntl(fd_.get(), F_ADD_SEALS,
                    detail::seal_future_write | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
            detail::throw_memory_error("sealing (needs Linux 5.1)", errno);
        place(wanted);
        fill(bytes, reserved);
        if (wanted.prefault) detail::populate_pages("memory", pages_.data(), bytes);
        if (wanted.lock) detail::lock_pages("memory", pages_.data(), bytes);
    }

    std::span<std::byte> bytes() const noexcept { return {pages_.data(), pages_.size()}; }
    // For others, to read. Stays this one's.
    int fd() const noexcept { return fd_.get(); }

private:
    static constexpr std::size_t most = std::size_t{1} << 46;

    // What cannot be there at all is refused before it is tried, which would end other
    // programs on the way.
    static void check_machine(std::size_t bytes) {
        const long pages = ::sysconf(_SC_PHYS_PAGES);
        if (pages < 0 || bytes / detail::page_bytes() < static_cast<std::size_t>(pages)) return;
        detail::throw_error(
            ENOMEM, "memory: " + std::to_string(bytes) + " bytes are more than this machine has");
    }

    detail::mapping map(std::size_t bytes, bool reserved) const {
        try {
            return {fd_.get(), bytes, PROT_READ | PROT_WRITE};
        } catch (const error& wrong) {
            if (!reserved || wrong.error_number() != ENOMEM) throw;
            throw_no_huge_pages(bytes);
        }
    }

    // Before there are pages.
    void place(const page_options& wanted) const {
        if (wanted.pages == huge_pages::advise &&
            ::madvise(pages_.data(), pages_.size(), MADV_HUGEPAGE) != 0)
            detail::throw_memory_error("madvise(MADV_HUGEPAGE)", errno,
                                       "; this kernel has no transparent huge pages");
        if (wanted.numa_node >= 0)
            detail::bind_pages("memory", pages_.data(), pages_.size(), wanted.numa_node, 0);
    }

    // In pieces, because a signal handler makes the kernel undo the one that it is at.
    void fill(std::size_t bytes, bool reserved) const {
        for (std::size_t done = 0; done < bytes;) {
            const std::size_t piece = std::min(bytes - done, detail::huge_page_bytes);
            if (::fallocate(fd_.get(), 0, static_cast<off_t>(done), static_cast<off_t>(piece)) ==
                0) {
                done += piece;
                continue;
            }
            if (errno == EINTR) continue;
            if (errno != ENOSPC) detail::throw_memory_error("fallocate", errno);
            if (reserved) throw_no_huge_pages(bytes);
            detail::throw_memory_error("fallocate", ENOMEM);
        }
    }

    [[noreturn]] static void throw_no_huge_pages(std::size_t bytes) {
        const std::size_t pages = bytes / detail::huge_page_bytes;
        detail::throw_error(ENOMEM, "memory: there are not " + std::to_string(pages) +
                                        " free huge pages; raise vm.nr_hugepages");
    }

    owned_fd fd_;
    detail::mapping pages_;
};

// A reader's end.
class memory_view {
public:
    // Takes a descriptor that a writer's memory has, and believes nothing of it. Throws
    // EPROTO where it is of another size, or could take pages away under its readers. Files
    // of huge pages can (touching one that nobody had yet may fail), so they have to be
    // wanted.
    memory_view(owned_fd fd, std::size_t bytes, bool allow_huge = false) : fd_(std::move(fd)) {
        check(bytes, allow_huge);
        pages_ = detail::mapping(fd_.get(), bytes, PROT_READ);
    }

    std::span<const std::byte> bytes() const noexcept { return {pages_.data(), pages_.size()}; }
    int fd() const noexcept { return fd_.get(); }

private:
    void check(std::size_t bytes, bool allow_huge) const {
        struct stat about {};
        if (::fstat(fd_.get(), &about) != 0) detail::throw_memory_error("fstat", errno);
        if (!S_ISREG(about.st_mode) || static_cast<std::uint64_t>(about.st_size) != bytes ||
            bytes == 0) {
            detail::throw_error(EPROTO, "memory: the peer's has " + std::to_string(about.st_size) +
                                            " bytes, not " + std::to_string(bytes));
        }
        constexpr int required = detail::seal_future_write | F_SEAL_SHRINK | F_SEAL_GROW;
        const int seals = ::fcntl(fd_.get(), F_GET_SEALS);
        if (seals < 0 || (seals & required) != required)
            detail::throw_error(EPROTO, "memory: the peer's is not sealed");
        struct statfs where {};
        if (::fstatfs(fd_.get(), &where) != 0) detail::throw_memory_error("fstatfs", errno);
        const bool huge = static_cast<std::uint64_t>(where.f_type) == HUGETLBFS_MAGIC;
        if (huge && !allow_huge) {
            detail::throw_error(EPROTO,
                                "memory: the peer's is of huge pages, which it could leave away "
                                "under a reader; allow them for peers that you trust");
        }
        if (!huge && static_cast<std::uint64_t>(where.f_type) != TMPFS_MAGIC)
            detail::throw_error(EPROTO, "memory: the peer's is not shared memory");
        if (huge) return;
        // A sealed file cannot lose pages; one that never had them costs its reader memory.
        // Those behind its end, which count as well, go when it gets the size that it has.
        if (::ftruncate(fd_.get(), about.st_size) != 0) {
            if (errno != EINVAL) detail::throw_memory_error("ftruncate", errno);
            detail::throw_error(EPROTO, "memory: the peer's descriptor is not the writer's own");
        }
        if (::fstat(fd_.get(), &about) != 0) detail::throw_memory_error("fstat", errno);
        if (static_cast<std::uint64_t>(about.st_blocks) * 512 < bytes)
            detail::throw_error(EPROTO, "memory: the peer's has no pages");
    }

    owned_fd fd_;
    detail::mapping pages_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_MEMORY_HPP
