// SPDX-License-Identifier: MIT
#include "fuzz/kernel/play.hpp"

#include <grp.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>

namespace kfuzz {

namespace {

// Of this process; a child of fork gets a copy.
struct process_state {
    const kcov_buffers* coverage = nullptr;
    const surroundings* around = nullptr;
    scoreboard* board = nullptr;
    registers regs;
    std::array<actor, actors> cast{};
    std::array<bool, children> born{};

    // of the threads t1 and t2, once there are any
    bool has_threads = false;
    std::atomic<std::uint32_t> starts{0};  // futex
    std::size_t from = 0;                  // where they begin
    unsigned started = 0;                  // how many threads take part, t0 included
    std::atomic<std::uint32_t> ready{0};   // futex
    std::atomic<unsigned> finished{0};
};
process_state self;

// Descriptors from here on are the programs'.
constexpr unsigned first_fd = 32;

alignas(16) std::array<std::array<std::byte, 65'536>, children> child_stacks;

pid_t thread_id() { return static_cast<pid_t>(::syscall(SYS_gettid)); }
pid_t process_id() { return static_cast<pid_t>(::syscall(SYS_getpid)); }

void nap_us(long us) {
    const timespec time{0, us * 1'000};
    ::syscall(SYS_nanosleep, &time, nullptr);
}

void wait_for_change(std::atomic<std::uint32_t>& word, std::uint32_t from) {
    for (int i = 0; i < 3 && word == from; ++i) ::sched_yield();
    while (word == from) ::syscall(SYS_futex, &word, FUTEX_WAIT, from, nullptr, nullptr, 0);
}

void wake(std::atomic<std::uint32_t>& word) {
    ::syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

void unblock_signals() {
    const std::uint64_t none_blocked = 0;
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none_blocked, nullptr, sizeof(none_blocked));
}

// ---- actors ----

void announce(unsigned index) {
    self.board->pids[index] = process_id();
    self.board->tids[index] = thread_id();
}

void enter(unsigned index) {
    actor& me = self.cast[index];
    me.index = index;
    me.around = self.around;
    me.coverage = self.coverage;
    me.board = self.board;
    me.regs = &self.regs;
    me.guarded = false;
    me.fail_file = -1;
    announce(index);
    self.coverage->enable(index);
}

std::int64_t fork_child(actor& by, const operation& op, std::size_t position);

std::int64_t perform(actor& by, const operation& op, std::size_t position) {
    using kind = op_kind;
    if (op.kind == kind::fork) return fork_child(by, op, position);
    if (op.kind == kind::open) return perform_file(by, op);
    if (op.kind <= kind::ioctl) return perform_ioctl(by, op);
    if (op.kind <= kind::copy) return perform_memory(by, op);
    if (op.kind <= kind::steal) return perform_file(by, op);
    return perform_process(by, op);
}

void run_operation(actor& by, std::size_t position) {
    self.coverage->mark(by.index);
    self.board->results[position] = perform(by, self.board->running()[position], position);
    self.board->operations++;
}

void run_actor(unsigned index, std::size_t from) {
    const auto program = self.board->running();
    for (std::size_t i = from; i < program.size(); ++i)
        if (program[i].actor == index) run_operation(self.cast[index], i);
}

// ---- children ----

void become(std::uint64_t uid) {
    if (uid == 0 || uid == ~std::uint32_t{0}) return;
    ::setgroups(0, nullptr);
    const auto id = static_cast<uid_t>(uid);
    if (::setresgid(id, id, id) != 0 || ::setresuid(id, id, id) != 0) ::_exit(1);
    // so that its /proc files are its own, fail-nth among them
    ::prctl(PR_SET_DUMPABLE, 1);
}

struct birth {
    unsigned child;
    std::uint64_t uid;
    std::size_t position;
};
std::array<birth, children> births;

[[noreturn]] void live(const birth& of) {
    become(of.uid);
    enter(threads + of.child);
    run_actor(threads + of.child, of.position + 1);
    ::syscall(SYS_exit_group, 0);
    __builtin_unreachable();
}

int live_with_shared_memory(void* of) { live(*static_cast<const birth*>(of)); }

std::int64_t fork_child(actor& by, const operation& op, std::size_t position) {
    const auto child = static_cast<unsigned>(op.get("child") % children);
    if (by.index >= threads || self.born[child]) return -EBUSY;
    self.born[child] = true;
    births[child] = {child, op.get("uid"), position};
    const std::uint64_t share = op.get("share");
    if (share != 0) {
        // an owner's address space in another process, as after vfork; its credentials
        // stay, because the C library would change those of all threads
        births[child].uid = 0;
        std::byte* top = child_stacks[child].data() + child_stacks[child].size();
        const int flags = CLONE_VM | SIGCHLD | (share == 2 ? CLONE_FILES : 0);
        return outcome(::clone(live_with_shared_memory, top, flags, &births[child]));
    }
    const pid_t pid = ::fork();
    if (pid == 0) live(births[child]);
    return outcome(pid);
}

// ---- threads ----

// All begin at the same time.
void meet() {
    const std::uint32_t all = self.started;
    for (std::uint32_t ready = ++self.ready; ready < all; ready = self.ready)
        wait_for_change(self.ready, ready);
    wake(self.ready);
}

void be_thread(unsigned index) {
    enter(index);
    for (std::uint32_t seen = 0;;) {
        wait_for_change(self.starts, seen);
        seen = self.starts;
        // Also where it has nothing to do: a thread that is late would not know any more
        // which program it was asked for.
        announce(index);
        meet();
        run_actor(index, self.from);
        if (has(self.board->running(), op_kind::sigmask)) unblock_signals();
        self.finished++;
    }
}

void start_threads(std::size_t from) {
    if (!self.has_threads) {
        for (unsigned index = 1; index < threads; ++index) std::thread(be_thread, index).detach();
        self.has_threads = true;
    }
    self.from = from;
    self.started = threads;
    self.ready = 0;
    self.finished = 0;
    self.starts++;
    wake(self.starts);
    meet();
}

// ---- programs ----

// What may be left behind that nothing but the end of the process takes away.
bool needs_an_end(std::span<const operation> program) {
    return has(program, op_kind::exec) || has(program, op_kind::exit) ||
           has(program, op_kind::unshare);
}

bool threads_are_done() {
    if (self.started == 0) return true;
    for (int i = 0; i < 5 && self.finished + 1 < self.started; ++i) ::sched_yield();
    for (int i = 0; i < 40 && self.finished + 1 < self.started; ++i) nap_us(200);
    return self.finished + 1 == self.started;
}

// A moment for those who are not done; then their deaths are the test.
bool children_are_done() {
    for (int i = 0; i < 40; ++i) {
        if (::waitpid(-1, nullptr, WNOHANG) < 0) return true;
        nap_us(200);
    }
    return false;
}

void lift_limits() {
    for (const auto what : limits) {
        rlimit limit{};
        ::getrlimit(what, &limit);
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(what, &limit);
    }
}

void clean_up() {
    const auto program = self.board->running();
    self.coverage->mark(0);
    ::syscall(SYS_close_range, first_fd, ~0u, 0);
    for (actor& one : self.cast) one.fail_file = -1;
    if (has(program, op_kind::mmap) &&
        ::mmap(self.around->arena, map_arena_pages * map_registers * page_bytes, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        std::abort();
    self.regs.forget();
    self.born.fill(false);
    if (has(program, op_kind::nofile)) lift_limits();
    if (has(program, op_kind::sigmask)) unblock_signals();
}

// Whether nothing is left of it but what clean_up() takes away.
bool run_program() {
    const auto program = self.board->running();
    if (has(program, op_kind::send) || has(program, op_kind::receive))
        ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, self.regs.sockets.data());
    self.started = 0;
    announce(0);
    for (std::size_t i = 0; i < program.size(); ++i) {
        const unsigned by = program[i].actor;
        if (self.started == 0 && (by == 1 || by == 2)) start_threads(i);
        if (by == 0) run_operation(self.cast[0], i);
    }
    const bool done = threads_are_done();
    return (!has(program, op_kind::fork) || children_are_done()) && done && !needs_an_end(program);
}

}  // namespace

// A touch that met no page ends there; whoever else gets the signal dies of it.
void on_fault(int signo) {
    const pid_t tid = thread_id();
    for (actor& one : self.cast)
        if (one.guarded && self.board->tids[one.index] == tid) siglongjmp(one.jump, 1);
    ::signal(signo, SIG_DFL);
}

void play_programs(const kcov_buffers& coverage, const surroundings& around, scoreboard& board,
                   std::uint32_t done) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGCHLD, SIG_DFL);
    self.coverage = &coverage;
    self.around = &around;
    self.board = &board;
    while (::dup(0) + 1 < static_cast<int>(first_fd)) continue;
    enter(0);
    for (;;) {
        wait_for_change(board.wanted, done);
        if (!run_program()) ::_exit(0);
        clean_up();
        done = board.wanted;
        board.done = done;
        wake(board.done);
    }
}

}  // namespace kfuzz
