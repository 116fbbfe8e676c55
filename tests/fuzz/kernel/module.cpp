// SPDX-License-Identifier: MIT
#include "fuzz/kernel/module.hpp"

#include <fcntl.h>
#include <linux/ipcdoor.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <vector>

#include "fuzz/kernel/actor.hpp"

namespace kfuzz {

namespace {

constexpr unsigned self = 0;
constexpr unsigned failing_loads = 60;

[[noreturn]] void refuse(const std::string& what, int error) {
    throw std::runtime_error(what + ": " + std::strerror(error));
}

// The failures of this thread, where the kernel injects any.
class failures {
public:
    failures() : fd_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
        if (fd_ >= 0) prepare_failures();
    }
    failures(const failures&) = delete;
    failures& operator=(const failures&) = delete;
    ~failures() {
        if (fd_ >= 0) ::close(fd_);
    }

    bool possible() const { return fd_ >= 0; }
    void set(std::uint64_t n) const {
        const std::string text = std::to_string(n);
        // the failure may still be to come, and hit this call
        while (::pwrite(fd_, text.data(), text.size(), 0) < 0)
            if (errno != EFAULT && errno != ENOMEM) refuse("fail-nth", errno);
    }
    // What is left of the last set(): 0 where something has failed.
    std::uint64_t left() const {
        char text[24]{};
        return ::pread(fd_, text, sizeof(text) - 1, 0) < 0 ? 0 : std::strtoull(text, nullptr, 10);
    }

private:
    int fd_;
};

// None where it is loaded and has no sections to show, for want of memory.
std::optional<module_image> image_now() {
    try {
        return module_image();
    } catch (const std::runtime_error&) {
        return {};
    }
}

class loader {
public:
    loader(const std::string& file, const kcov_buffers& buffers, coverage_map& coverage)
        : file_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)),
          buffers_(buffers),
          coverage_(coverage) {
        if (file_ < 0) refuse(file, errno);
    }
    loader(const loader&) = delete;
    loader& operator=(const loader&) = delete;
    ~loader() { ::close(file_); }

    void unload() {
        const auto before = image_now();
        covered([] {
            // its objects are still being freed while the module goes
            leave_an_endpoint();
            return ::syscall(SYS_delete_module, "ipcdoor", O_NONBLOCK);
        });
        if (error_ != 0) refuse("rmmod ipcdoor", error_);
        if (before) coverage_.add(buffers_.trace(self), *before);
    }

    // Whether it is loaded then.
    bool load(const std::string& parameters, const failures* failing = nullptr,
              std::uint64_t n = 0) {
        std::uint64_t left = 0;
        covered([&] {
            if (failing != nullptr) failing->set(n);
            const long result = ::syscall(SYS_finit_module, file_, parameters.c_str(), 0);
            const int error = errno;
            if (failing != nullptr) {
                left = failing->left();
                failing->set(0);
            }
            errno = error;
            return result;
        });
        met_ = n - left;
        const auto trace = buffers_.trace(self);
        if (const auto now = error_ == 0 ? image_now() : std::nullopt; now) {
            image_ = now;
            like_.assign(trace.begin(), trace.end());
        }
        // one that is gone again began like one that stayed, elsewhere
        if (image_) coverage_.add(trace, image_->moved(like_, trace));
        return error_ == 0;
    }

    int error() const { return error_; }
    // How many points of failure the last load met.
    std::uint64_t met() const { return met_; }

    // A door's call, for what depends on the parameters.
    void ask() {
        const int door = ::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC);
        if (door < 0) refuse("/dev/ipcdoor0", errno);
        covered([&] {
            ipcdoor_info info{};
            return ::ioctl(door, IPCDOOR_IOC_GET_INFO, &info);
        });
        coverage_.add(buffers_.trace(self), module_image());
        ::close(door);
    }

private:
    // Runs a call with the coverage of this thread on.
    template <typename Call>
    void covered(Call call) {
        buffers_.clear(self);
        buffers_.enable(self);
        const long result = call();
        error_ = result == 0 ? 0 : errno;
        buffers_.disable(self);
    }

    static void leave_an_endpoint() {
        const int door = ::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC);
        ipcdoor_create args{};
        args.slots = 2;
        args.uid = args.gid = ~std::uint32_t{0};
        ::close(::ioctl(door, IPCDOOR_IOC_CREATE, &args));
        ::close(door);
    }

    int file_;
    const kcov_buffers& buffers_;
    coverage_map& coverage_;
    std::optional<module_image> image_;  // of the last load that went well
    std::vector<std::uint64_t> like_;    // and its trace
    int error_ = 0;
    std::uint64_t met_ = 0;
};

void load_with_failures(loader& of, const std::string& parameters, random_numbers& random) {
    const failures failing;
    if (!failing.possible()) return;
    let_pages_fail(false);
    if (!of.load(parameters, &failing, 1'000'000)) refuse("insmod ipcdoor", of.error());
    const std::uint64_t all = std::max<std::uint64_t>(of.met(), 1);
    of.unload();
    for (unsigned i = 0; i < failing_loads; ++i) {
        // the module's own begin late: it has been read and linked by then
        const std::uint64_t n = all - random.below(random.one_in(4) ? all : all / 2 + 1);
        const char* backend = random.one_in(2) ? " backend=msi" : "";
        if (of.load(parameters + backend, &failing, n)) of.unload();
    }
    let_pages_fail(true);
}

}  // namespace

void reload_module(const std::string& file, const std::string& parameters,
                   const kcov_buffers& buffers, coverage_map& coverage, random_numbers& random) {
    loader module(file, buffers, coverage);
    module.unload();
    if (!module.load(parameters + " backend=timer")) refuse("insmod backend=timer", module.error());
    module.ask();
    module.unload();
    if (module.load(parameters + " backend=nonsense"))
        throw std::runtime_error("backend=nonsense?");
    load_with_failures(module, parameters, random);
    if (!module.load(parameters)) refuse("insmod ipcdoor", module.error());
    buffers.clear(self);
}

}  // namespace kfuzz
