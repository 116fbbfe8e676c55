// SPDX-License-Identifier: MIT
#include "fuzz/kernel/module.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace kfuzz {

namespace {

constexpr unsigned self = 0;

// Runs a call with the coverage of this thread on. Throws where the call fails.
template <typename Call>
void covered(const kcov_buffers& buffers, const char* what, Call call) {
    buffers.clear(self);
    buffers.enable(self);
    const long result = call();
    const int error = errno;
    buffers.disable(self);
    if (result != 0) throw std::runtime_error(std::string(what) + ": " + std::strerror(error));
}

}  // namespace

void reload_module(const std::string& file, const std::string& parameters,
                   const kcov_buffers& buffers, coverage_map& coverage) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw std::runtime_error(file + ": " + std::strerror(errno));
    const module_image before;
    covered(buffers, "rmmod ipcdoor",
            [] { return ::syscall(SYS_delete_module, "ipcdoor", O_NONBLOCK); });
    coverage.add(buffers.trace(self), before);
    covered(buffers, "insmod ipcdoor",
            [&] { return ::syscall(SYS_finit_module, fd, parameters.c_str(), 0); });
    coverage.add(buffers.trace(self), module_image());
    buffers.clear(self);
    ::close(fd);
}

}  // namespace kfuzz
