// SPDX-License-Identifier: MIT
#include "lib/crash/crash.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include <ipcdoor/detail/step.hpp>

#include "support/catch.hpp"
#include "support/process.hpp"

namespace {

// Of this process, where it is a victim.
std::atomic<unsigned> steps_left{0};  // 0: it is none
int news = -1;

[[noreturn]] void stand_still(const char* name) noexcept {
    const std::size_t bytes = std::strlen(name) + 1;
    if (::write(news, name, bytes) != static_cast<ssize_t>(bytes)) ::_exit(97);
    for (;;) ::pause();
}

}  // namespace

void ipcdoor::detail::step(const char* name) noexcept {
    if (steps_left.load(std::memory_order_relaxed) == 0) return;
    if (steps_left.fetch_sub(1, std::memory_order_relaxed) == 1) stand_still(name);
}

namespace ipcdoor::test::detail {

namespace {

// More than this, and the operation does not end.
constexpr unsigned most_steps = 10'000;

struct news_pipe {
    news_pipe() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0)
            throw std::system_error(errno, std::generic_category(), "pipe2");
        in.reset(ends[1]);
        out.reset(ends[0]);
    }
    unique_fd in;
    unique_fd out;
};

// The label at which the victim stands, "" once it has ended.
std::string await_news(int from) {
    std::string label;
    for (;;) {
        pollfd waiter{from, POLLIN, 0};
        const int ready = ::poll(&waiter, 1, static_cast<int>(partner_deadline.count()));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) throw std::runtime_error("crash: the victim neither stopped nor ended");
        char text[128];
        const ssize_t got = ::read(from, text, sizeof text);
        if (got < 0) throw std::system_error(errno, std::generic_category(), "read");
        if (got == 0) return "";
        label.append(text, static_cast<std::size_t>(got));
        if (label.back() == '\0') {
            label.pop_back();
            return label;
        }
    }
}

}  // namespace

std::vector<std::string> crash_at_every_step(const char* name,
                                             const std::function<crash_run()>& make) {
    std::vector<std::string> labels;
    for (unsigned number = 1;; ++number) {
        const crash_run run = make();
        news_pipe pipe;
        child victim([&] {
            pipe.out.reset();
            news = pipe.in.get();
            run.enter();
            steps_left = number;
            run.operate();
            steps_left = 0;
            return 0;
        });
        pipe.in.reset();
        crash_point at{number, await_news(pipe.out.get()), false};
        at.killed = !at.label.empty();
        INFO("case \"" << name << "\", "
                       << (at.killed ? "killed at step " : "not killed: it has no step ") << number
                       << (at.killed ? ", " : "") << at.label);
        if (at.killed) {
            if (run.while_stopped) run.while_stopped(at);
            victim.kill(SIGKILL);
            REQUIRE(victim.wait().signaled(SIGKILL));
        } else {
            REQUIRE(victim.wait().exited());
        }
        run.check(at);
        if (!at.killed) break;
        labels.push_back(at.label);
        REQUIRE(number < most_steps);
    }
    INFO("case \"" << name << "\" has no IPCDOOR_STEP: is it compiled with IPCDOOR_STEPS?");
    REQUIRE_FALSE(labels.empty());
    return labels;
}

}  // namespace ipcdoor::test::detail
