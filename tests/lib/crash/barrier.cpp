// SPDX-License-Identifier: MIT
// A party that dies at the worst moment for those who wait.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include <ipcdoor/barrier.hpp>

#include "lib/crash/crash.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

thread_local bool looks_late = false;

}  // namespace

TEST_CASE("a death that was looked at for a phase that is over breaks the next one",
          "[crash][barrier][death]") {
    barrier_options wanted;
    wanted.parties = 3;
    wanted.source = source();
    const std::string name = unique_name();
    gate open;
    gate opened;
    gate arrive;
    // The last one to arrive, which dies before it can say so.
    child last([&] {
        open.wait();
        door at = test_door();
        barrier mine(at, name, wanted);
        const step_observer each([](const std::string& label) {
            if (label == "arrive:finished") ::kill(::getpid(), SIGKILL);
        });
        opened.open();
        arrive.wait();
        mine.arrive_and_wait(soon);
        return 1;
    });
    door at = test_door();
    barrier all(at, name, wanted);

    std::atomic<bool> told{false};
    std::atomic<bool> looked{false};
    std::atomic<bool> dead{false};
    const step_observer each([&](const std::string& label) {
        if (label == "wait:news") told = true;
        if (label != "await:looking" || !looks_late || looked.exchange(true)) return;
        // The phase is still the present one in this thread's eyes. Now it ends, and whoever
        // ended it dies, of which the other thread is told first.
        told = false;
        arrive.open();
        while (!told || !dead) std::this_thread::sleep_for(1ms);
    });
    const auto twice = [&](std::atomic<int>& result) {
        CHECK_IN_THREAD(error_of([&] { all.arrive_and_wait(soon); }) == 0);
        looks_late = false;
        result = error_of([&] { all.arrive_and_wait(soon); });
    };
    std::atomic<int> first{-1};
    std::atomic<int> second{-1};
    std::atomic<pid_t> leader{0};
    std::thread leading([&] {
        leader = static_cast<pid_t>(::syscall(SYS_gettid));
        twice(first);
    });
    while (leader == 0) std::this_thread::sleep_for(1ms);
    wait_thread_asleep(::getpid(), leader);
    open.open();
    // That it is there is news as well.
    opened.wait();
    while (!told) std::this_thread::sleep_for(1ms);
    wait_thread_asleep(::getpid(), leader);
    std::thread following([&] {
        looks_late = true;
        twice(second);
    });
    CHECK(last.wait().signaled(SIGKILL));
    dead = true;
    leading.join();
    following.join();
    CHECK(first == EPIPE);
    CHECK(second == EPIPE);
}
