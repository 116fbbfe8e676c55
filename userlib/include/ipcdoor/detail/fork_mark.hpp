// SPDX-License-Identifier: MIT
//
// Tells an object's maker from its fork()ed children, without a system call: a page that
// the kernel wipes in children (MADV_WIPEONFORK). One for each object, because the library
// keeps no global state.
#ifndef IPCDOOR_DETAIL_FORK_MARK_HPP
#define IPCDOOR_DETAIL_FORK_MARK_HPP

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <new>

#include <ipcdoor/error.hpp>

namespace ipcdoor::detail {

class fork_mark {
public:
    fork_mark() : maker_(::getpid()), bytes_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
        page_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page_ == MAP_FAILED)
            throw_error(errno, "no memory for the page that tells a process from its children");
        // Where the kernel cannot wipe, each use asks for the process's number.
        if (::madvise(page_, bytes_, MADV_WIPEONFORK) == 0)
            word_ = new (page_) std::atomic<unsigned>(1);
    }
    fork_mark(const fork_mark&) = delete;
    fork_mark& operator=(const fork_mark&) = delete;
    ~fork_mark() { ::munmap(page_, bytes_); }

    pid_t maker() const noexcept { return maker_; }
    // Throws EPERM in a child; `refusal` says what to do there.
    void check(const char* refusal) const {
        if (!is_mine()) [[unlikely]]
            throw_error(EPERM, refusal);
    }
    bool is_mine() const noexcept {
        if (word_ == nullptr) return ::getpid() == maker_;
        return word_->load(std::memory_order_relaxed) != 0;
    }

private:
    const pid_t maker_;
    const std::size_t bytes_;
    void* page_ = nullptr;
    std::atomic<unsigned>* word_ = nullptr;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_FORK_MARK_HPP
