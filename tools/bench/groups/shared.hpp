// SPDX-License-Identifier: MIT
//
// Owns: the memory that POSIX's contestants lie in, as it would be between processes.
#pragma once

#include <sys/mman.h>

#include <new>

#include "common/throw_errno.hpp"

namespace bench {

// One T in shared memory, never destroyed by itself.
template <class T>
class shared {
public:
    shared() {
        void* const at =
            ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) common::throw_errno("mmap");
        value_ = ::new (at) T();
    }
    shared(const shared&) = delete;
    shared& operator=(const shared&) = delete;
    ~shared() { ::munmap(value_, sizeof(T)); }

    T& operator*() const noexcept { return *value_; }
    T* operator->() const noexcept { return value_; }

private:
    T* value_;
};

}  // namespace bench
