// SPDX-License-Identifier: MIT
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <ipcdoor/detail/wait_until.hpp>

#include "failure.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace ipcdoor::backend::sys {

namespace {

int result(long value) noexcept { return value < 0 ? -errno : static_cast<int>(value); }

// What is left until a deadline as a timeout; null means without end.
const timespec* remaining(std::uint64_t deadline_ns, timespec& storage) noexcept {
    if (deadline_ns == IPCDOOR_NO_DEADLINE) return nullptr;
    const std::uint64_t now = now_ns();
    storage = detail::to_timespec(deadline_ns > now ? deadline_ns - now : 0);
    return &storage;
}

int protection(access how) noexcept {
    return how == access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
}

void* map(void* at, std::size_t bytes, int prot, int flags, int fd, std::uint64_t offset) noexcept {
    return ::mmap(at, bytes, prot, flags, fd, static_cast<off_t>(offset));
}

}  // namespace

mapping::mapping(int fd, std::uint64_t offset, std::size_t bytes, access how) {
    void* address = map(nullptr, bytes, protection(how), MAP_SHARED, fd, offset);
    if (address == MAP_FAILED) {
        const int error = errno;
        throw failure(error, "mapping %zu bytes %s failed: %s", bytes,
                      how == access::read_write ? "writable" : "read-only", std::strerror(error));
    }
    address_ = address;
    bytes_ = bytes;
    keep_from_children();
}

void mapping::keep_from_children() {
    maker_ = ::getpid();
    if (::madvise(address_, bytes_, MADV_DONTFORK) == 0) return;
    const int error = errno;
    ::munmap(std::exchange(address_, nullptr), bytes_);
    throw failure(error, "madvise(MADV_DONTFORK): %s", std::strerror(error));
}

mapping mapping::reserved(std::size_t bytes) {
    void* address =
        map(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) throw failure(errno, "no address space for %zu bytes", bytes);
    mapping made;
    made.address_ = address;
    made.bytes_ = bytes;
    made.keep_from_children();
    return made;
}

mapping::~mapping() {
    // In a child something else may be there.
    if (address_ == nullptr || maker_ != ::getpid()) return;
    ::munmap(address_, bytes_);
}

int mapping::place(std::size_t at, int fd, std::uint64_t offset, std::size_t bytes, access how) {
    if (at > bytes_ || bytes > bytes_ - at) return -EINVAL;
    void* address = map(static_cast<char*>(address_) + at, bytes, protection(how),
                        MAP_SHARED | MAP_FIXED, fd, offset);
    if (address == MAP_FAILED) return -errno;
    return result(::madvise(address, bytes, MADV_DONTFORK));
}

// ---- time and process ----

std::uint64_t now_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return detail::to_ns(now);
}

pid_t process_id() noexcept { return ::getpid(); }
pid_t thread_id() noexcept { return static_cast<pid_t>(::syscall(SYS_gettid)); }
uid_t effective_uid() noexcept { return ::geteuid(); }
gid_t effective_gid() noexcept { return ::getegid(); }
std::size_t page_bytes() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

const char* environment(const char* name) noexcept { return ::secure_getenv(name); }

// ---- descriptors ----

int open_at(int dir, const char* path, int flags, mode_t mode) noexcept {
    return result(::openat(dir, path, flags | O_CLOEXEC, mode));
}

int status(int fd, struct stat& out) noexcept { return result(::fstat(fd, &out)); }

int status_at(int dir, const char* name, struct stat& out) noexcept {
    return result(::fstatat(dir, name, &out, AT_SYMLINK_NOFOLLOW));
}

int change_mode(int fd, mode_t mode) noexcept { return result(::fchmod(fd, mode)); }

int change_mode_at(int dir, const char* name, mode_t mode) noexcept {
    return result(::fchmodat(dir, name, mode, 0));
}

int make_dir_at(int dir, const char* name, mode_t mode) noexcept {
    return result(::mkdirat(dir, name, mode));
}

int remove_at(int dir, const char* name) noexcept { return result(::unlinkat(dir, name, 0)); }

int remove_dir_at(int dir, const char* name) noexcept {
    return result(::unlinkat(dir, name, AT_REMOVEDIR));
}

int rename_at(int dir, const char* from, int to_dir, const char* to) noexcept {
    return result(::renameat(dir, from, to_dir, to));
}

int rename_new_at(int dir, const char* from, const char* to) noexcept {
    return result(::syscall(SYS_renameat2, dir, from, dir, to, 1U /* RENAME_NOREPLACE */));
}

int list_dir(int dir, std::vector<std::string>& names) {
    // A fresh description: reading a directory moves its offset.
    owned_fd copy(result(::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
    if (!copy) return copy.get();
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy.get()), ::closedir);
    if (!stream) return -errno;
    static_cast<void>(copy.release());  // closedir() closes it
    names.clear();
    for (;;) {
        errno = 0;
        const dirent* entry = ::readdir(stream.get());
        if (entry == nullptr) return -errno;
        names.emplace_back(entry->d_name);
    }
}

int lock_file(int fd) noexcept { return result(::flock(fd, LOCK_EX | LOCK_NB)); }
int unlock_file(int fd) noexcept { return result(::flock(fd, LOCK_UN)); }

int read_at(int fd, void* to, std::size_t bytes, std::uint64_t offset) noexcept {
    return result(::pread(fd, to, bytes, static_cast<off_t>(offset)));
}

int write_at(int fd, const void* from, std::size_t bytes, std::uint64_t offset) noexcept {
    return result(::pwrite(fd, from, bytes, static_cast<off_t>(offset)));
}

int truncate_file(int fd, std::uint64_t bytes) noexcept {
    return result(::ftruncate(fd, static_cast<off_t>(bytes)));
}

int allocate_file(int fd, std::uint64_t from, std::uint64_t bytes) noexcept {
    int rc;
    do {
        rc = result(::fallocate(fd, 0, static_cast<off_t>(from), static_cast<off_t>(bytes)));
    } while (rc == -EINTR);
    return rc;
}

int file_system_type(int fd, std::uint64_t& type) noexcept {
    struct statfs about {};
    const int rc = result(::fstatfs(fd, &about));
    if (rc == 0) type = static_cast<std::uint64_t>(about.f_type);
    return rc;
}

int make_blocking(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    return result(flags < 0 ? flags : ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
}

int device_control(int fd, unsigned long request, void* argument) noexcept {
    return result(::ioctl(fd, request, argument));
}

int memory_file(const char* name) noexcept {
    // Kernels that know MFD_NOEXEC_SEAL complain in their log where it is missing.
    const int fd = result(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
    if (fd != -EINVAL) return fd;
    return result(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

int seals(int fd) noexcept { return result(::fcntl(fd, F_GET_SEALS)); }
int add_seals(int fd, int seals) noexcept { return result(::fcntl(fd, F_ADD_SEALS, seals)); }

int event_counter() noexcept { return result(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int event_add(int fd) noexcept {
    const std::uint64_t one = 1;
    return result(::write(fd, &one, sizeof(one)));
}

int event_clear(int fd) noexcept {
    std::uint64_t count;
    return result(::read(fd, &count, sizeof(count)));
}

// ---- waiting ----

int epoll_new() noexcept { return result(::epoll_create1(EPOLL_CLOEXEC)); }

int epoll_watch(int epoll, int fd, std::uint32_t events, std::uint64_t tag) noexcept {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    return result(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int epoll_forget(int epoll, int fd) noexcept {
    epoll_event event{};
    return result(::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event));
}

int poll_until(std::span<pollfd> fds, std::uint64_t deadline_ns) noexcept {
    timespec storage;
    return result(::ppoll(fds.data(), fds.size(), remaining(deadline_ns, storage), nullptr));
}

int epoll_until(int epoll, std::span<epoll_event> events, std::uint64_t deadline_ns) noexcept {
    const int room = static_cast<int>(events.size());
    if (deadline_ns == 0) return result(::epoll_wait(epoll, events.data(), room, 0));
    if (deadline_ns == IPCDOOR_NO_DEADLINE)
        return result(::epoll_wait(epoll, events.data(), room, -1));
#ifdef SYS_epoll_pwait2
    timespec storage;
    const int rc = result(::syscall(SYS_epoll_pwait2, epoll, events.data(), room,
                                    remaining(deadline_ns, storage), nullptr, size_t{8}));
    if (rc != -ENOSYS && rc != -EPERM) return rc;
#endif
    // Before Linux 5.11 epoll has only milliseconds: let ppoll do the waiting.
    pollfd whole{epoll, POLLIN, 0};
    const int ready = poll_until({&whole, 1}, deadline_ns);
    if (ready <= 0) return ready;
    return result(::epoll_wait(epoll, events.data(), room, 0));
}

int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
               std::uint64_t deadline_ns) noexcept {
    static_assert(sizeof(word) == 4);
    const timespec deadline = detail::to_timespec(deadline_ns);
    return result(::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                            deadline_ns == IPCDOOR_NO_DEADLINE ? nullptr : &deadline, nullptr,
                            FUTEX_BITSET_MATCH_ANY));
}

void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0x7fffffff, nullptr, nullptr, 0);
}

void sleep_ns(std::uint64_t ns) noexcept {
    const timespec span = detail::to_timespec(ns);
    ::nanosleep(&span, nullptr);
}

// ---- signals ----

int queue_signal(pid_t process, pid_t thread, int signo, std::uint64_t value) noexcept {
    siginfo_t about{};
    about.si_signo = signo;
    about.si_code = SI_QUEUE;
    about.si_pid = ::getpid();
    about.si_uid = ::getuid();
    static_assert(sizeof(about.si_value.sival_ptr) <= sizeof(value));
    std::memcpy(&about.si_value, &value, sizeof(about.si_value.sival_ptr));
    return result(::syscall(SYS_rt_tgsigqueueinfo, process, thread, signo, &about));
}

bool signal_is_usable(int signo) noexcept {
    // Signals between SIGSYS and SIGRTMIN are the C library's own.
    return signo >= 1 && signo <= SIGRTMAX && signo != SIGKILL && signo != SIGSTOP &&
           (signo <= SIGSYS || signo >= SIGRTMIN);
}

}  // namespace ipcdoor::backend::sys
