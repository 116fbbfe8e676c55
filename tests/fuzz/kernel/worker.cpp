// SPDX-License-Identifier: MIT
#include "fuzz/kernel/worker.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ipcdoor.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "fuzz/kernel/play.hpp"

namespace kfuzz {

namespace {

// A program whose worker has used no processor time for so long is killed: it may wait
// without a deadline. More than an emulated processor waits for a shared host's.
constexpr int patience_ms = 200;
// Taking the device from its driver waits for grace periods.
constexpr int driver_patience_ms = 1'000;
// And one that is busy for so long all the same.
constexpr int busy_limit_ms = 20'000;
// One that cannot be killed is a finding. Generous: hosts are shared and emulated.
constexpr int kill_limit_s = 60;
// What adds up in a process shall not go on for ever.
constexpr unsigned oldest_worker = 200;

std::int64_t now_ms() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::int64_t>(time.tv_sec) * 1'000 + time.tv_nsec / 1'000'000;
}

// Processor time of a process, all threads together; 0 where it is gone.
std::int64_t busy_ns(pid_t process) {
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

void wait_for_change(std::atomic<std::uint32_t>& word, std::uint32_t from, std::int64_t limit_ms) {
    const timespec limit{limit_ms / 1'000, limit_ms % 1'000 * 1'000'000};
    ::syscall(SYS_futex, &word, FUTEX_WAIT, from, &limit, nullptr, 0);
}

void on_signal(int) {}

void install_handlers() {
    struct sigaction action {};
    action.sa_handler = on_fault;
    for (const int signo : {SIGSEGV, SIGBUS}) ::sigaction(signo, &action, nullptr);
    action.sa_handler = on_signal;
    // SIGCHLD interrupts the fuzzer, who waits for its worker
    for (const int signo : {SIGUSR1, SIGCHLD}) ::sigaction(signo, &action, nullptr);
    action.sa_flags = SA_RESTART;
    for (const int signo : {SIGUSR2, 36}) ::sigaction(signo, &action, nullptr);
}

// What everybody of a process group is doing in the kernel.
std::string stacks_of_group(pid_t group) {
    std::ostringstream text;
    DIR* processes = ::opendir("/proc");
    while (const dirent* entry = processes == nullptr ? nullptr : ::readdir(processes)) {
        const pid_t pid = std::atoi(entry->d_name);
        if (pid <= 0 || ::getpgid(pid) != group) continue;
        const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
        DIR* directory = ::opendir(tasks.c_str());
        while (const dirent* task = directory == nullptr ? nullptr : ::readdir(directory)) {
            if (task->d_name[0] == '.') continue;
            std::ifstream stack(tasks + '/' + task->d_name + "/stack");
            text << "task " << task->d_name << " of " << pid << '\n' << stack.rdbuf() << '\n';
        }
        if (directory != nullptr) ::closedir(directory);
    }
    if (processes != nullptr) ::closedir(processes);
    return text.str();
}

bool holds_something(int door, uid_t uid) {
    ipcdoor_info info{};
    if (uid != 0 && ::setresuid(-1, uid, -1) != 0) return false;
    const int result = ::ioctl(door, IPCDOOR_IOC_GET_INFO, &info);
    if (uid != 0 && ::setresuid(-1, 0, -1) != 0) ::abort();
    if (result != 0) throw std::runtime_error(std::string("GET_INFO: ") + std::strerror(errno));
    return info.user_endpoints != 0 || info.user_bytes != 0;
}

}  // namespace

runner::runner(const kcov_buffers& coverage)
    : coverage_(coverage), door_(::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC)) {
    if (door_ < 0) throw std::runtime_error(std::string("/dev/ipcdoor0: ") + std::strerror(errno));
    void* memory = ::mmap(nullptr, sizeof(scoreboard), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
    board_ = new (memory) scoreboard;
    for (std::size_t i = 0; i < settings_count; ++i)
        std::getline(std::ifstream(settings()[i].path), usual_settings_[i]);
    // whatever a worker leaves behind is ours to reap
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    install_handlers();
}

runner::~runner() {
    if (worker_ > 0) ::kill(-worker_, SIGKILL);
    ::munmap(board_, sizeof(scoreboard));
    ::close(door_);
}

void runner::start_worker() {
    const std::uint32_t done = board_->done;
    worker_ = ::fork();
    if (worker_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (worker_ == 0) play_programs(coverage_, around_, *board_, done);
    ::setpgid(worker_, worker_);
    age_ = 0;
}

bool runner::wait_for_worker(int limit_ms) {
    const std::int64_t start = now_ms();
    std::int64_t last_busy = start;
    std::int64_t busy = 0;
    for (;;) {
        const std::uint32_t done = board_->done;
        if (done == board_->wanted) return true;
        // in slices, for a SIGCHLD that came before
        wait_for_change(board_->done, done, 5);
        if (::waitpid(worker_, nullptr, WNOHANG) == worker_) return false;
        const std::int64_t now = now_ms();
        const std::int64_t before = std::exchange(busy, busy_ns(worker_));
        if (busy != before) last_busy = now;
        if (now - last_busy >= limit_ms || now - start >= busy_limit_ms) return false;
    }
}

void runner::end_worker() {
    ::kill(-worker_, SIGKILL);
    const std::int64_t end = now_ms() + kill_limit_s * 1'000;
    for (;;) {
        pid_t pid = 0;
        while ((pid = ::waitpid(-1, nullptr, WNOHANG)) > 0) continue;
        if (pid < 0) break;
        if (now_ms() >= end)
            throw program_failed("hung: it could not be killed within " +
                                 std::to_string(kill_limit_s) + " s\n" + stacks_of_group(worker_));
        ::usleep(100);
    }
    worker_ = -1;
}

void runner::check_nothing_left(bool of_others) const {
    // what is closed by a kernel thread (rings, passed descriptors) takes a moment
    for (int tries = 0; tries < 5'000; ++tries) {
        if (!holds_something(door_, 0) &&
            !(of_others && (holds_something(door_, 1000) || holds_something(door_, 1001))))
            return;
        ::usleep(1'000);
    }
    throw program_failed("left behind: endpoints or bytes that nobody holds");
}

void runner::plug() const {
    if (around_.edu_address.empty()) return;
    if (::access((around_.edu_driver + '/' + around_.edu_address).c_str(), F_OK) == 0) return;
    std::ofstream(around_.edu_driver + "/bind") << around_.edu_address << std::flush;
}

void runner::put_settings_back() const {
    for (std::size_t i = 0; i < settings_count; ++i)
        std::ofstream(settings()[i].path) << usual_settings_[i] << std::flush;
}

void runner::run(const program& what) {
    if (worker_ < 0) start_worker();
    for (unsigned i = 0; i < actors; ++i) coverage_.clear(i);
    board_->load(what);
    board_->wanted++;
    ::syscall(SYS_futex, &board_->wanted, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    const bool unplugs = has(what, op_kind::unplug);
    const bool goes_on = wait_for_worker(unplugs ? driver_patience_ms : patience_ms);
    if (!goes_on || ++age_ >= oldest_worker) end_worker();
    board_->done = board_->wanted.load();
    if (unplugs) plug();
    if (has(what, op_kind::setting)) put_settings_back();
    check_nothing_left(has(what, op_kind::fork));
}

}  // namespace kfuzz
