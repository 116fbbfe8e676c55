// SPDX-License-Identifier: MIT
#include "bench/system_calls.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <set>

#include "common/throw_errno.hpp"

namespace bench {

namespace {

// Options of prctl(2) that there are not: EINVAL, and seen by the tracer.
constexpr std::uint64_t begin_mark = 0x69706362;
constexpr std::uint64_t end_mark = 0x69706365;

constexpr unsigned patience_s = 120;
constexpr std::uint64_t warm_up = 1000;

enum exit_status : int { done = 0, refused = 3, failed = 4, not_here = 5 };

std::string call_name(std::uint64_t number) {
    switch (number) {
        case SYS_read: return "read";
        case SYS_write: return "write";
        case SYS_poll: return "poll";
        case SYS_ppoll: return "ppoll";
        case SYS_ioctl: return "ioctl";
        case SYS_readv: return "readv";
        case SYS_writev: return "writev";
        case SYS_sendto: return "sendto";
        case SYS_recvfrom: return "recvfrom";
        case SYS_sendmsg: return "sendmsg";
        case SYS_recvmsg: return "recvmsg";
        case SYS_futex: return "futex";
        case SYS_epoll_wait: return "epoll_wait";
        case SYS_epoll_pwait: return "epoll_pwait";
        case SYS_epoll_ctl: return "epoll_ctl";
        case SYS_sched_yield: return "sched_yield";
        case SYS_clock_nanosleep: return "clock_nanosleep";
        case SYS_timerfd_settime: return "timerfd_settime";
        case SYS_getpid: return "getpid";
        case SYS_mmap: return "mmap";
        case SYS_munmap: return "munmap";
        case SYS_madvise: return "madvise";
        case SYS_brk: return "brk";
        case SYS_mq_timedsend: return "mq_timedsend";
        case SYS_mq_timedreceive: return "mq_timedreceive";
        default: return fmt::format("call {}", number);
    }
}

void say(int to, const std::string& what) {
    [[maybe_unused]] const ssize_t written = ::write(to, what.data(), what.size());
}

[[noreturn]] void be_counted(const std::function<std::unique_ptr<work>()>& make,
                             std::uint64_t operations, int to_tracer) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(patience_s);
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
        say(to_tracer, std::string("ptrace: ") + std::strerror(errno));
        ::_exit(refused);
    }
    ::raise(SIGSTOP);
    int status = done;
    try {
        const std::unique_ptr<work> made = make();
        made->repeat(warm_up);
        ::prctl(begin_mark);
        made->repeat(operations);
        ::prctl(end_mark);
    } catch (const absent& e) {
        say(to_tracer, e.what());
        status = not_here;
    } catch (const std::exception& e) {
        say(to_tracer, e.what());
        status = failed;
    }
    ::_exit(status);
}

class tracer {
public:
    explicit tracer(pid_t first) : first_(first) {}

    // The exit status of the first process, or the signal that ended it as a negative number.
    // Its children end with it.
    int run(call_count& into) {
        int ended = 0;
        for (;;) {
            int status = 0;
            const pid_t who = ::waitpid(-1, &status, __WALL);
            if (who < 0) {
                if (errno == EINTR) continue;
                if (errno == ECHILD) return ended;
                common::throw_errno("waitpid");
            }
            if (!WIFEXITED(status) && !WIFSIGNALED(status)) {
                go_on(who, status, into);
                continue;
            }
            known_.erase(who);
            if (who != first_) continue;
            ended = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
            for (const pid_t other : known_) ::kill(other, SIGKILL);
        }
    }

private:
    void go_on(pid_t who, int status, call_count& into) {
        const int signal = WSTOPSIG(status);
        long pass_on = 0;
        if (signal == (SIGTRAP | 0x80)) {
            look(who, into);
        } else if (known_.insert(who).second) {
            // The first stop of each: its options are to be set, or were inherited.
            if (who == first_)
                ::ptrace(PTRACE_SETOPTIONS, who, nullptr,
                         PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE |
                             PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK);
        } else if (status >> 16 == 0) {
            pass_on = signal;
        }
        ::ptrace(PTRACE_SYSCALL, who, nullptr, pass_on);
    }

    void look(pid_t who, call_count& into) {
        struct __ptrace_syscall_info info {};
        if (::ptrace(PTRACE_GET_SYSCALL_INFO, who, sizeof info, &info) <= 0 ||
            info.op != PTRACE_SYSCALL_INFO_ENTRY)
            return;
        const bool marks = info.entry.nr == SYS_prctl;
        if (marks && info.entry.args[0] == begin_mark)
            counting_ = true;
        else if (marks && info.entry.args[0] == end_mark)
            counting_ = false;
        else if (counting_)
            ++into.by_name[call_name(info.entry.nr)];
    }

    const pid_t first_;
    bool counting_ = false;
    std::set<pid_t> known_;
};

}  // namespace

double call_count::per_operation() const {
    std::uint64_t all = 0;
    for (const auto& [name, count] : by_name) all += count;
    return operations == 0 ? 0 : static_cast<double>(all) / static_cast<double>(operations);
}

call_count count_calls(const std::function<std::unique_ptr<work>()>& make,
                       std::uint64_t operations) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) common::throw_errno("pipe2");
    const pid_t child = ::fork();
    if (child < 0) common::throw_errno("fork");
    if (child == 0) {
        ::close(ends[0]);
        be_counted(make, operations, ends[1]);
    }
    ::close(ends[1]);
    call_count found;
    found.operations = operations;
    const int status = tracer(child).run(found);
    char words[512];
    const ssize_t got = ::read(ends[0], words, sizeof words);
    ::close(ends[0]);
    found.counted = status == done;
    if (!found.counted) {
        found.by_name.clear();
        found.why_not = got > 0              ? std::string(words, static_cast<std::size_t>(got))
                        : status == -SIGALRM ? fmt::format("not done within {} seconds", patience_s)
                        : status < 0         ? fmt::format("it was ended by signal {}", -status)
                                             : fmt::format("it ended with {}", status);
    }
    return found;
}

}  // namespace bench
