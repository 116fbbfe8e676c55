// SPDX-License-Identifier: MIT
// Threads and processes: signals, names of their own, ends; and the device's driver.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "fuzz/kernel/actor.hpp"

namespace kfuzz {

namespace {

std::uint64_t kernel_mask(std::uint64_t signo) {
    return signo == 0 || signo > 64 ? 0 : std::uint64_t{1} << (signo - 1);
}

timespec interval(std::uint64_t us) { return {0, static_cast<long>(us * 1'000)}; }

std::int64_t execute_program() {
    char name[] = "kfuzz";
    char nothing[] = "--nothing";
    char* const arguments[] = {name, nothing, nullptr};
    char* const environment[] = {nullptr};
    return outcome(::syscall(SYS_execve, "/proc/self/exe", arguments, environment));
}

std::int64_t kill(const actor& by, const operation& op) {
    const std::uint64_t who = std::min<std::uint64_t>(op.get("who"), actors - 1);
    const pid_t process = by.board->pids[who];
    const pid_t thread = by.board->tids[who];
    // 0 would be the caller's whole group
    if (process <= 0 || thread <= 0) return -ESRCH;
    return outcome(::syscall(SYS_tgkill, process, thread, op.get("signo")));
}

std::int64_t set_mask(const operation& op) {
    const std::uint64_t mask = kernel_mask(op.get("signo"));
    return outcome(::syscall(SYS_rt_sigprocmask, op.get("block") != 0 ? SIG_BLOCK : SIG_UNBLOCK,
                             &mask, nullptr, sizeof(mask)));
}

std::int64_t wait_for_signal(const operation& op) {
    const std::uint64_t mask = kernel_mask(SIGUSR1) | kernel_mask(SIGUSR2) | kernel_mask(36);
    const timespec limit = interval(std::min<std::uint64_t>(op.get("timeout"), 10) * 1'000);
    return outcome(::syscall(SYS_rt_sigtimedwait, &mask, nullptr, &limit, sizeof(mask)));
}

std::int64_t unshare(const operation& op) {
    static constexpr int what[] = {CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET};
    return outcome(::syscall(SYS_unshare, what[op.get("what") % 3]));
}

// Below what is open already no descriptor can be made; signals that are not queued; and
// memory that is not locked.
std::int64_t limit_something(const operation& op) {
    const auto what = limits[op.get("what") % limits.size()];
    rlimit limit{};
    ::getrlimit(what, &limit);
    const std::uint64_t wanted = op.get("limit");
    limit.rlim_cur = wanted < 8 ? wanted : limit.rlim_max;
    return outcome(::setrlimit(what, &limit));
}

std::int64_t tell_driver(actor& by, const char* what, std::uint64_t failure) {
    const surroundings& around = *by.around;
    if (around.edu_address.empty()) return -ENODEV;
    char path[96];
    std::snprintf(path, sizeof(path), "%s/%s", around.edu_driver.c_str(), what);
    const std::int64_t fd = outcome(::syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0));
    if (fd < 0) return fd;
    if (failure != 0) {
        let_pages_fail(false);
        set_failure(by, failure);
    }
    const std::int64_t result =
        outcome(::syscall(SYS_write, fd, around.edu_address.data(), around.edu_address.size()));
    if (failure != 0) {
        set_failure(by, 0);
        let_pages_fail(true);
    }
    ::syscall(SYS_close, fd);
    return result;
}

// For everybody, and put back when the program has run.
std::int64_t change_setting(const operation& op) {
    const setting& which = settings()[op.get("what") % settings_count];
    const std::int64_t fd =
        outcome(::syscall(SYS_openat, AT_FDCWD, which.path, O_WRONLY | O_CLOEXEC, 0));
    if (fd < 0) return fd;
    char text[24];
    const int length =
        std::snprintf(text, sizeof(text), "%llu",
                      static_cast<unsigned long long>(op.get("value") % (which.most + 1)));
    const std::int64_t result = outcome(::syscall(SYS_write, fd, text, length));
    ::syscall(SYS_close, fd);
    return result;
}

std::int64_t pause_a_little(const operation& op) {
    const timespec time = interval(std::min<std::uint64_t>(op.get("us"), 10'000));
    return outcome(::syscall(SYS_nanosleep, &time, nullptr));
}

}  // namespace

std::int64_t perform_process(actor& by, const operation& op) {
    switch (op.kind) {
        case op_kind::exec: return execute_program();
        case op_kind::exit: return ::syscall(SYS_exit_group, 0);
        case op_kind::kill: return kill(by, op);
        case op_kind::sigmask: return set_mask(op);
        case op_kind::sigwait: return wait_for_signal(op);
        case op_kind::unshare: return unshare(op);
        case op_kind::nofile: return limit_something(op);
        case op_kind::unplug: return tell_driver(by, "unbind", 0);
        case op_kind::plug: return tell_driver(by, "bind", op.get("fail"));
        case op_kind::setting: return change_setting(op);
        default: return pause_a_little(op);
    }
}

}  // namespace kfuzz
