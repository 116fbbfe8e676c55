// SPDX-License-Identifier: MIT
#include "fuzz/kernel/kcov.hpp"

#include <fcntl.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace kfuzz {

namespace {

constexpr std::size_t buffer_words = 16'384;
constexpr std::size_t buffer_bytes = buffer_words * sizeof(std::uint64_t);
constexpr const char* path = "/sys/kernel/debug/kcov";

std::atomic_ref<std::uint64_t> count_of(std::uint64_t* words) {
    return std::atomic_ref<std::uint64_t>(words[0]);
}

}  // namespace

kcov_buffers::kcov_buffers(bool wanted) {
    if (!wanted) return;
    for (buffer& one : buffers_) {
        one.fd = ::open(path, O_RDWR | O_CLOEXEC);
        if (one.fd < 0)
            throw std::runtime_error(std::string(path) + ": " + std::strerror(errno) +
                                     " (needs a kernel with CONFIG_KCOV; or --without-coverage)");
        if (::ioctl(one.fd, KCOV_INIT_TRACE, buffer_words) != 0)
            throw std::runtime_error(std::string("KCOV_INIT_TRACE: ") + std::strerror(errno));
        void* memory = ::mmap(nullptr, buffer_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, one.fd, 0);
        if (memory == MAP_FAILED)
            throw std::runtime_error(std::string("mmap of kcov: ") + std::strerror(errno));
        one.words = static_cast<std::uint64_t*>(memory);
    }
}

kcov_buffers::~kcov_buffers() {
    for (const buffer& one : buffers_) {
        if (one.words != nullptr) ::munmap(one.words, buffer_bytes);
        if (one.fd >= 0) ::close(one.fd);
    }
}

void kcov_buffers::enable(unsigned actor) const {
    if (buffers_[actor].fd >= 0) ::ioctl(buffers_[actor].fd, KCOV_ENABLE, KCOV_TRACE_PC);
}

void kcov_buffers::disable(unsigned actor) const {
    if (buffers_[actor].fd >= 0) ::ioctl(buffers_[actor].fd, KCOV_DISABLE, 0);
}

void kcov_buffers::mark(unsigned actor) const {
    std::uint64_t* words = buffers_[actor].words;
    if (words == nullptr) return;
    const std::uint64_t count = count_of(words).load(std::memory_order_relaxed);
    if (count + 1 >= buffer_words) return;
    words[count + 1] = 0;
    count_of(words).store(count + 1, std::memory_order_relaxed);
}

void kcov_buffers::clear(unsigned actor) const {
    if (buffers_[actor].words != nullptr)
        count_of(buffers_[actor].words).store(0, std::memory_order_relaxed);
}

std::span<const std::uint64_t> kcov_buffers::trace(unsigned actor) const {
    std::uint64_t* words = buffers_[actor].words;
    if (words == nullptr) return {};
    const std::uint64_t count = count_of(words).load(std::memory_order_acquire);
    return {words + 1, std::min<std::uint64_t>(count, buffer_words - 1)};
}

}  // namespace kfuzz
