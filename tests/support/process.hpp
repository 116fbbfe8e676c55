// SPDX-License-Identifier: MIT
// Processes for tests: owned descriptors, children that run a lambda, gates and
// values shared with them, descriptors passed between them. Every wait has a
// deadline, so a test with a dead partner fails instead of hanging.
//
// A child dies with the thread that started it. In a child use EXPECT_CHILD
// instead of Catch2's assertions, whose results would be lost with it.
#ifndef IPCDOOR_TESTS_SUPPORT_PROCESS_HPP
#define IPCDOOR_TESTS_SUPPORT_PROCESS_HPP

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace ipcdoor::test {

inline constexpr std::chrono::milliseconds partner_deadline{60'000};

// A descriptor that closes itself.
class unique_fd {
public:
    unique_fd() = default;
    explicit unique_fd(int fd) : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~unique_fd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1);

private:
    int fd_ = -1;
};

// A pipe of the kernel's. Throws std::system_error.
struct kernel_pipe {
    // O_NONBLOCK or nothing; both ends close on exec.
    explicit kernel_pipe(int flags = 0);
    unique_fd read;
    unique_fd write;
};

// Whether an event loop that waits for POLLIN is woken, at once or until the timeout; by a hang-up,
// too.
bool is_readable(int fd);
bool becomes_readable(int fd, std::chrono::milliseconds timeout = partner_deadline);

// Anonymous memory shared with later children; zeroed.
void* map_shared(std::size_t bytes);
void unmap_shared(void* memory, std::size_t bytes);

// One T shared with later children.
template <typename T>
class shared {
    static_assert(std::is_trivially_destructible_v<T>);

public:
    shared() : value_(new (map_shared(sizeof(T))) T{}) {}
    shared(const shared&) = delete;
    shared& operator=(const shared&) = delete;
    ~shared() { unmap_shared(value_, sizeof(T)); }

    T& operator*() const { return *value_; }
    T* operator->() const { return value_; }

private:
    T* value_;
};

// A gate between processes: wait() returns once open() was called, by anybody.
// Throws std::runtime_error at the deadline.
class gate {
public:
    void open();
    void wait(std::chrono::milliseconds timeout = partner_deadline) const;
    bool is_open() const;

private:
    shared<std::atomic<std::uint32_t>> word_;
};

// How a child ended.
struct child_status {
    int raw = 0;

    bool exited(int code = 0) const;
    bool signaled(int signo) const;
    bool operator==(const child_status&) const = default;
};
std::ostream& operator<<(std::ostream& out, const child_status& status);

// A forked child. Killed and reaped by the destructor if it was not waited for.
class child {
public:
    using body = std::function<int()>;

    child() = default;
    // The body's return value is the exit code; an exception is reported on
    // stderr and becomes 99.
    explicit child(const body& run);
    // The same as another user, without capabilities and supplementary groups;
    // needs root. `gid` ~0 means a group of the same number.
    static child as_user(uid_t uid, const body& run, gid_t gid = ~gid_t{0});

    child(child&& other) noexcept;
    child& operator=(child&& other) noexcept;
    ~child();

    pid_t pid() const { return pid_; }
    void kill(int signo = 9) const;
    // Waits for its end; kills it and throws std::runtime_error at the deadline.
    child_status wait(std::chrono::milliseconds timeout = partner_deadline);
    // Waits until it sleeps in the kernel or is stopped (/proc state S, D or T).
    void wait_asleep(std::chrono::milliseconds timeout = partner_deadline) const;

private:
    pid_t pid_ = -1;
};

// Waits until the thread `tid` of process `pid` sleeps in the kernel.
void wait_thread_asleep(pid_t pid, pid_t tid, std::chrono::milliseconds timeout = partner_deadline);

// Looks again and again until the condition holds, which another thread or process makes true.
// Throws std::runtime_error at the deadline.
template <class Condition>
void spin_until(Condition condition, std::chrono::milliseconds timeout = partner_deadline) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= deadline)
            throw std::runtime_error("the partner did not do its part");
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
}

// Becomes another user for good; true where it worked.
bool become_user(uid_t uid, gid_t gid);
// True, and said on the test's output, where the test cannot become others.
bool skipped_without_root();

// A UNIX socket pair to pass descriptors over. Throws std::system_error.
class fd_channel {
public:
    fd_channel();
    void send(int fd) const;
    unique_fd receive() const;

private:
    unique_fd in_;
    unique_fd out_;
};

// Number of this process's open descriptors.
std::size_t open_fd_count();

// CLOCK_MONOTONIC, nanoseconds.
std::uint64_t now_ns();

// For who has called fork() itself: _exit(), with its output and what coverage has counted.
[[noreturn]] void end_child(int code);

[[noreturn]] void child_failed(const char* file, int line, const char* what);

}  // namespace ipcdoor::test

// In a child: reports the failed condition with errno, and exits with 1.
#define EXPECT_CHILD(condition)                                                          \
    do {                                                                                 \
        if (!(condition)) ::ipcdoor::test::child_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#endif  // IPCDOOR_TESTS_SUPPORT_PROCESS_HPP
