// SPDX-License-Identifier: MIT
#include "support/process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <ostream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "support/descriptor_message.hpp"

#ifdef IPCDOOR_COVERAGE
extern "C" {  // GCC 12's header says nothing of the language
#include <gcov.h>
}
#endif

namespace ipcdoor::test {

namespace {

[[noreturn]] void throw_errno(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

// The child's side of fork(): runs the body and never returns.
[[noreturn]] void run_child(pid_t parent, const child::body& run) {
    // Restored defaults: Catch2's handlers would report the child's end as a
    // failure of the parent's test case.
    for (const int signo : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTERM, SIGINT})
        ::signal(signo, SIG_DFL);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(98);
    int code = 99;
    try {
        code = run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "child %d: %s\n", ::getpid(), error.what());
    }
    end_child(code);
}

pid_t fork_child(const child::body& run) {
    std::fflush(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) throw_errno("fork");
    if (pid == 0) run_child(parent, run);
    return pid;
}

}  // namespace

void unique_fd::reset(int fd) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

kernel_pipe::kernel_pipe(int flags) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | flags) != 0) throw_errno("pipe2");
    read.reset(ends[0]);
    write.reset(ends[1]);
}

bool is_readable(int fd) { return becomes_readable(fd, std::chrono::milliseconds(0)); }

bool becomes_readable(int fd, std::chrono::milliseconds timeout) {
    pollfd waiter{fd, POLLIN, 0};
    return ::poll(&waiter, 1, static_cast<int>(timeout.count())) == 1;
}

void* map_shared(std::size_t bytes) {
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw_errno("mmap");
    return memory;
}

void unmap_shared(void* memory, std::size_t bytes) { ::munmap(memory, bytes); }

void gate::open() {
    word_->store(1, std::memory_order_release);
    ::syscall(SYS_futex, &*word_, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

bool gate::is_open() const { return word_->load(std::memory_order_acquire) != 0; }

void gate::wait(std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (!is_open()) {
        const auto left = deadline - std::chrono::steady_clock::now();
        if (left <= left.zero()) throw std::runtime_error("gate: nobody opened it in time");
        const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
        const timespec relative{static_cast<time_t>(ns / 1'000'000'000),
                                static_cast<long>(ns % 1'000'000'000)};
        ::syscall(SYS_futex, &*word_, FUTEX_WAIT, 0, &relative, nullptr, 0);
    }
}

bool child_status::exited(int code) const { return WIFEXITED(raw) && WEXITSTATUS(raw) == code; }

bool child_status::signaled(int signo) const { return WIFSIGNALED(raw) && WTERMSIG(raw) == signo; }

std::ostream& operator<<(std::ostream& out, const child_status& status) {
    if (WIFEXITED(status.raw)) return out << "exited with " << WEXITSTATUS(status.raw);
    return out << "killed by signal " << WTERMSIG(status.raw);
}

child::child(const body& run) : pid_(fork_child(run)) {}

child child::as_user(uid_t uid, const body& run, gid_t gid) {
    return child([&] {
        const pid_t parent = ::getppid();
        EXPECT_CHILD(become_user(uid, gid == ~gid_t{0} ? uid : gid));
        // A change of credentials clears both.
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::prctl(PR_SET_DUMPABLE, 1);
        EXPECT_CHILD(::getppid() == parent);
        return run();
    });
}

child::child(child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

child& child::operator=(child&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
}

child::~child() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void child::kill(int signo) const {
    if (::kill(pid_, signo) != 0) throw_errno("kill");
}

child_status child::wait(std::chrono::milliseconds timeout) {
    const unique_fd end(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!end) throw_errno("pidfd_open");
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd waiter{end.get(), POLLIN, 0};
        const int ready = ::poll(&waiter, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
        if (ready > 0) break;
        if (ready < 0 && errno != EINTR) throw_errno("poll");
        if (ready == 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(std::exchange(pid_, -1), nullptr, 0);
            throw std::runtime_error("child did not end in time and was killed");
        }
    }
    child_status status;
    if (::waitpid(pid_, &status.raw, 0) != pid_) throw_errno("waitpid");
    pid_ = -1;
    return status;
}

void wait_thread_asleep(pid_t pid, pid_t tid, std::chrono::milliseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    const std::string path =
        "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/stat";
    for (;;) {
        std::ifstream file(path);
        std::string line;
        if (!std::getline(file, line)) throw std::runtime_error(path + ": cannot be read");
        const auto name_end = line.rfind(')');
        const char state =
            name_end != line.npos && name_end + 2 < line.size() ? line[name_end + 2] : '?';
        if (std::strchr("SDTt", state) != nullptr) return;
        if (std::chrono::steady_clock::now() >= deadline)
            throw std::runtime_error(path + ": not asleep in time, state " + state);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

void child::wait_asleep(std::chrono::milliseconds timeout) const {
    wait_thread_asleep(pid_, pid_, timeout);
}

bool become_user(uid_t uid, gid_t gid) {
    // The bare calls: only this thread exists after fork(), and glibc's
    // wrappers would look for the others.
    return ::syscall(SYS_setgroups, 0, nullptr) == 0 &&
           ::syscall(SYS_setresgid, gid, gid, gid) == 0 &&
           ::syscall(SYS_setresuid, uid, uid, uid) == 0;
}

bool skipped_without_root() {
    if (::geteuid() == 0) return false;
    std::printf("skipped: only root can become other users\n");
    return true;
}

fd_channel::fd_channel() {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        throw_errno("socketpair");
    in_.reset(pair[0]);
    out_.reset(pair[1]);
    const timeval timeout{std::chrono::seconds(60).count(), 0};
    ::setsockopt(out_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
}

void fd_channel::send(int fd) const {
    descriptor_message message(fd);
    if (::sendmsg(in_.get(), message.get(), 0) != 1) throw_errno("sendmsg of a descriptor");
}

unique_fd fd_channel::receive() const {
    descriptor_message message;
    if (::recvmsg(out_.get(), message.get(), MSG_CMSG_CLOEXEC) != 1)
        throw_errno("recvmsg of a descriptor");
    const int fd = message.received();
    if (fd < 0) throw std::runtime_error("recvmsg: no descriptor came with the message");
    return unique_fd(fd);
}

std::size_t open_fd_count() {
    DIR* directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) throw_errno("/proc/self/fd");
    std::size_t count = 0;
    while (const dirent* entry = ::readdir(directory))
        if (entry->d_name[0] != '.') ++count;
    ::closedir(directory);
    return count - 1;  // the directory's own
}

std::uint64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

void end_child(int code) {
    std::fflush(nullptr);
#ifdef IPCDOOR_COVERAGE
    __gcov_dump();
#endif
    ::_exit(code);
}

void child_failed(const char* file, int line, const char* what) {
    const int error = errno;
    std::fprintf(stderr, "%s:%d: child %d failed: %s (errno %d, %s)\n", file, line, ::getpid(),
                 what, error, std::strerror(error));
    std::fflush(nullptr);
    ::_exit(1);
}

}  // namespace ipcdoor::test
