// SPDX-License-Identifier: MIT
// main() of every Catch2 binary, and its watchdog: a test case that runs longer
// than IPCDOOR_TEST_TIMEOUT_S seconds (120 unless set, 0: no limit) is named on
// stderr and the binary aborted, so that a hang is a failure and not a lost run.
// A binary may define judge_run().
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace ipcdoor::test {
// Called after the last test case; false: the run has failed, whatever they said.
// `all_cases`: the command line has not chosen among them.
[[gnu::weak]] bool judge_run(bool all_cases);
}  // namespace ipcdoor::test

namespace {

std::chrono::seconds test_timeout() {
    const char* text = std::getenv("IPCDOOR_TEST_TIMEOUT_S");
    if (text == nullptr || *text == '\0') return std::chrono::seconds(120);
    char* end = nullptr;
    const long seconds = std::strtol(text, &end, 10);
    if (*end != '\0' || seconds < 0) {
        std::fprintf(stderr, "IPCDOOR_TEST_TIMEOUT_S=%s: expected seconds, 0 for no limit\n", text);
        std::exit(2);
    }
    return std::chrono::seconds(seconds);
}

class watchdog {
public:
    explicit watchdog(std::chrono::seconds limit) : limit_(limit) {
        // The watchdog's thread takes no signal: tests send and count their own.
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        thread_ = std::thread([this] { watch(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    ~watchdog() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }

    void start(std::string name) {
        {
            const std::lock_guard lock(mutex_);
            name_ = std::move(name);
            running_ = true;
            deadline_ = std::chrono::steady_clock::now() + limit_;
        }
        changed_.notify_all();
    }

    void finish() {
        const std::lock_guard lock(mutex_);
        running_ = false;
    }

private:
    void watch() {
        std::unique_lock lock(mutex_);
        while (!stop_) {
            if (!running_) {
                changed_.wait(lock);
            } else if (std::chrono::steady_clock::now() >= deadline_) {
                bark();
            } else {
                changed_.wait_until(lock, deadline_);
            }
        }
    }

    [[noreturn]] void bark() {
        std::fprintf(stderr, "\nwatchdog: test case \"%s\" did not end within %lld s\n",
                     name_.c_str(), static_cast<long long>(limit_.count()));
        std::fflush(nullptr);
        // Not abort(): Catch2's handler for SIGABRT reports from whatever state
        // the hung thread left it in.
        ::signal(SIGABRT, SIG_DFL);
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, SIGABRT);
        pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
        ::raise(SIGABRT);
        ::_exit(134);
    }

    const std::chrono::seconds limit_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string name_;
    std::chrono::steady_clock::time_point deadline_;
    bool running_ = false;
    bool stop_ = false;
    std::thread thread_;
};

std::unique_ptr<watchdog>& the_watchdog() {
    static std::unique_ptr<watchdog> instance;
    return instance;
}

#if IPCDOOR_CATCH_VERSION >= 3
using listener_base = Catch::EventListenerBase;
#else
using listener_base = Catch::TestEventListenerBase;
#endif

struct watchdog_listener : listener_base {
    using listener_base::listener_base;

    void testCaseStarting(const Catch::TestCaseInfo& info) override {
        if (the_watchdog()) the_watchdog()->start(info.name);
    }
    void testCaseEnded(const Catch::TestCaseStats&) override {
        if (the_watchdog()) the_watchdog()->finish();
    }
};

}  // namespace

CATCH_REGISTER_LISTENER(watchdog_listener)

int main(int argc, char** argv) {
    const auto limit = test_timeout();
    if (limit.count() > 0) the_watchdog() = std::make_unique<watchdog>(limit);
    const int status = Catch::Session().run(argc, argv);
    the_watchdog().reset();
    if (ipcdoor::test::judge_run != nullptr && !ipcdoor::test::judge_run(argc == 1) && status == 0)
        return 1;
    return status;
}
