// SPDX-License-Identifier: MIT
// The build says so for all of this folder; this is for tools that read the file alone.
#ifndef IPCDOOR_STEPS
#define IPCDOOR_STEPS
#endif
#include "lib/crash/crash.hpp"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <ipcdoor/detail/step.hpp>

#include "support/catch.hpp"
#include "support/process.hpp"

namespace {

// Of this process, where it is a victim.
std::atomic<unsigned> steps_left{0};  // 0: it is none
const char* stop_at = nullptr;        // a label, in place of a number
int news = -1;
int leave = -1;
std::function<void(const char*)> at_step;
std::atomic<std::function<void(const std::string&)>*> observer{nullptr};

// Of all cases so far.
struct {
    std::size_t cases = 0;
    std::size_t deaths = 0;
    std::size_t stops = 0;
    std::set<std::string> labels;
} all;

// Of the enter() of self.cpp, and of what a publisher may come to without a newcomer's death.
constexpr const char* never_counted[] = {"two_words:enter", "greet:done"};

// Those that the victims of a case came to, in memory that they share.
struct label_set {
    void add(const char* label) noexcept {
        for (auto& one : all) {
            const char* there = nullptr;
            if (one.compare_exchange_strong(there, label) || there == label) return;
        }
        ::_exit(97);
    }
    std::array<std::atomic<const char*>, 256> all;
};
label_set* passed = nullptr;

// Until it is killed or given leave.
void stand_still(const char* name) noexcept {
    const std::size_t bytes = std::strlen(name) + 1;
    if (::write(news, name, bytes) != static_cast<ssize_t>(bytes)) ::_exit(97);
    char given = 0;
    if (::read(leave, &given, 1) != 1) ::_exit(97);
}

}  // namespace

void ipcdoor::detail::step(const char* name) noexcept {
    if (auto* const each = observer.load()) (*each)(name);
    if (steps_left.load(std::memory_order_relaxed) == 0) return;
    passed->add(name);
    if (at_step) at_step(name);
    if (stop_at == nullptr) {
        if (steps_left.fetch_sub(1, std::memory_order_relaxed) == 1) stand_still(name);
    } else if (std::strcmp(stop_at, name) == 0) {
        steps_left = 0;
        stand_still(name);
    }
}

// The labels that are compiled into the program; the linker has these names for the section.
extern "C" const char __start_ipcdoor_steps[];  // NOLINT(bugprone-reserved-identifier)
extern "C" const char __stop_ipcdoor_steps[];   // NOLINT(bugprone-reserved-identifier)

namespace ipcdoor::test {

bool judge_run(bool all_cases);  // called by support/main.cpp

step_observer::step_observer(std::function<void(const std::string&)> each)
    : each_(std::move(each)) {
    observer = &each_;
}
step_observer::~step_observer() { observer = nullptr; }

}  // namespace ipcdoor::test

namespace ipcdoor::test::detail {

namespace {

// More than this, and the operation does not end.
constexpr unsigned most_steps = 10'000;

// What the victim says next: that it has entered (""), or the label at which it stands; nothing
// once it has ended. Calls `if_asleep` when it has slept for a while instead.
class victim_news {
public:
    explicit victim_news(int from) : from_(from) {}

    std::optional<std::string> next(const std::function<void()>& if_asleep = {},
                                    const child* victim = nullptr) {
        const auto deadline = std::chrono::steady_clock::now() + partner_deadline;
        int naps = 0;
        for (;;) {
            if (const auto end = text_.find('\0'); end != text_.npos) {
                const std::string label = text_.substr(0, end);
                text_.erase(0, end + 1);
                return label;
            }
            pollfd waiter{from_, POLLIN, 0};
            const int ready = ::poll(&waiter, 1, 50);
            if (ready < 0 && errno != EINTR)
                throw std::system_error(errno, std::generic_category(), "poll");
            if (ready > 0) {
                char some[256];
                const ssize_t got = ::read(from_, some, sizeof some);
                if (got < 0) throw std::system_error(errno, std::generic_category(), "read");
                if (got == 0) return std::nullopt;
                text_.append(some, static_cast<std::size_t>(got));
                continue;
            }
            if (std::chrono::steady_clock::now() >= deadline)
                throw std::runtime_error("crash: the victim neither stopped nor ended");
            if (!if_asleep) continue;
            naps = is_asleep(victim->pid()) ? naps + 1 : 0;
            if (naps == 4) if_asleep();
        }
    }

private:
    static bool is_asleep(pid_t pid) {
        std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
        std::string line;
        std::getline(file, line);
        const auto name_end = line.rfind(')');
        return name_end != line.npos && line.compare(name_end, 3, ") S") == 0;
    }

    int from_;
    std::string text_;
};

}  // namespace

std::vector<std::string> crash_at_every_step(const char* name,
                                             const std::function<crash_run()>& make) {
    std::vector<std::string> labels;
    const shared<label_set> came_to;
    // A step that has another number each time may be missed: then it is looked for by its
    // label, once.
    const char* wanted = nullptr;
    std::set<std::string> looked_for;
    for (unsigned number = 1;; ++number) {
        const crash_run run = make();
        kernel_pipe news_pipe;
        kernel_pipe leave_pipe;
        child victim([&] {
            news_pipe.read.reset();
            news = news_pipe.write.get();
            leave_pipe.write.reset();
            leave = leave_pipe.read.get();
            run.enter();
            if (::write(news, "", 1) != 1) return 97;
            at_step = run.at_step;
            passed = &*came_to;
            stop_at = wanted;
            steps_left = number;
            run.operate();
            steps_left = 0;
            return 0;
        });
        news_pipe.write.reset();
        victim_news told(news_pipe.read.get());
        crash_point at{number, {}, false};
        bool is_told = false;
        if (told.next()) {
            // One that waits for something, and has no more steps, is told there.
            const auto tell = [&] {
                run.while_stopped(at);
                is_told = true;
            };
            const auto label = told.next(
                run.goes_on ? std::function<void()>(tell) : std::function<void()>(), &victim);
            at.label = label.value_or("");
        }
        const bool stopped = !at.label.empty();
        at.killed = stopped && !run.goes_on;
        INFO("case \"" << name << "\", "
                       << (at.killed ? "killed at"
                           : stopped ? "stopped at"
                                     : "not stopped, since it has no")
                       << " step " << number << (stopped ? ", " : "") << at.label);
        if (stopped && run.while_stopped && !is_told) run.while_stopped(at);
        if (at.killed) {
            victim.kill(SIGKILL);
            REQUIRE(victim.wait().signaled(SIGKILL));
        } else {
            if (stopped) REQUIRE(::write(leave_pipe.write.get(), "", 1) == 1);
            REQUIRE(victim.wait().exited());
        }
        run.check(at);
        if (stopped) {
            labels.push_back(at.label);
            ++(at.killed ? all.deaths : all.stops);
            all.labels.insert(at.label);
            looked_for.insert(at.label);
        }
        if (number == run.at_most) break;
        if (!stopped || wanted != nullptr) {
            wanted = nullptr;
            for (const auto& one : came_to->all) {
                const char* const label = one.load();
                if (label != nullptr && looked_for.insert(label).second) {
                    wanted = label;
                    break;
                }
            }
            if (wanted == nullptr) break;
        }
        REQUIRE(number < most_steps);
    }
    INFO("case \"" << name << "\" has no IPCDOOR_STEP: is it compiled with IPCDOOR_STEPS?");
    REQUIRE_FALSE(labels.empty());
    ++all.cases;
    std::printf("steps: %zu of \"%s\"\n", labels.size(), name);
    return labels;
}

}  // namespace ipcdoor::test::detail

bool ipcdoor::test::judge_run(bool all_cases) {
    if (all.cases != 0) {
        std::printf("note: %zu deaths and %zu stops in %zu cases, at %zu labels\n", all.deaths,
                    all.stops, all.cases, all.labels.size());
    }
    if (!all_cases) return true;
    std::set<std::string> missed;
    for (const char* label = __start_ipcdoor_steps; label != __stop_ipcdoor_steps;
         label += std::strlen(label) + 1)
        if (!all.labels.contains(label)) missed.insert(label);
    for (const char* label : never_counted) missed.erase(label);
    for (const std::string& label : missed)
        std::printf("no victim was ever stopped at IPCDOOR_STEP(\"%s\")\n", label.c_str());
    return missed.empty();
}
