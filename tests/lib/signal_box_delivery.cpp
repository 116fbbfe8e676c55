// SPDX-License-Identifier: MIT
// A signal box: pulses that are delivered as POSIX signals.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "lib/signal_box_support.hpp"
#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

// As /proc says: "SigQ: PENDING/LIMIT".
rlim_t signals_pending_of_user() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word != "SigQ:") continue;
        rlim_t pending = 0;
        status >> pending;
        return pending;
    }
    throw std::runtime_error("/proc/self/status has no SigQ");
}

}  // namespace

TEST_CASE("a box delivers pulses as POSIX signals with value, code and sender",
          "[signal_box][signal][fork]") {
    const int signo = SIGRTMIN + 8;
    blocked_signal signals(signo);
    signal_box_options options;
    options.blocked = codes(9);
    options.allowed_codes = [](const peer_credentials&) { return ~codes(8); };
    watch_post post(options);
    CHECK(error_of([&] { post.box.deliver_as(SIGUSR1); }) == EINVAL);
    CHECK(error_of([&] { post.box.deliver_as(SIGKILL); }) == EINVAL);
    CHECK(error_of([&] { post.box.deliver_as(SIGRTMAX + 1); }) == EINVAL);
    CHECK(error_of([&] { post.box.deliver_as(signo, 10ms); }) == 0);
    std::thread delivering(
        [&] { CHECK_IN_THREAD(error_of([&] { post.box.deliver_as(signo); }) == 0); });
    gate done;
    child peer([&] {
        door own = test_door();
        signal_sender to(own, post.name, soon);
        EXPECT_CHILD(to.send({.code = 9, .value = 9}));
        EXPECT_CHILD(to.send({.code = 5, .value = 0x1234567890abcdef}));
        EXPECT_CHILD(error_of([&] { to.send({.code = 8}); }) == EACCES);
        done.wait();
        for (unsigned i = 0; i < 20; ++i) EXPECT_CHILD(to.send({.code = i % 8, .value = i}));
        return 0;
    });
    siginfo_t info = signals.take(60s);
    REQUIRE(info.si_signo == signo);
    CHECK(info.si_code == SI_QUEUE);
    CHECK(info.si_errno == 5);
    signal_event event = to_signal_event(info);
    CHECK(event.value == 0x1234567890abcdef);
    CHECK(event.pid == peer.pid());
    CHECK(event.uid == ::geteuid());
    post.box.unblock(codes(9));
    info = signals.take(60s);
    REQUIRE(info.si_signo == signo);
    CHECK(to_signal_event(info).value == 9);
    CHECK(info.si_errno == 9);
    done.open();
    for (unsigned i = 0; i < 20; ++i) {
        info = signals.take(60s);
        REQUIRE(info.si_signo == signo);
        CHECK(to_signal_event(info).value == i);
        CHECK(info.si_errno == static_cast<int>(i % 8));
        CHECK(info.si_pid == peer.pid());
    }
    CHECK(peer.wait().exited());
    post.box.close();
    delivering.join();
}

TEST_CASE("a full queue of POSIX signals delays delivery, and loses nothing",
          "[signal_box][signal]") {
    watch_post post;
    signal_sender to = post.connect();
    rlimit usual{};
    REQUIRE(::getrlimit(RLIMIT_SIGPENDING, &usual) == 0);
    const int signo = SIGRTMIN + 9;
    blocked_signal signals(signo);
    // Counted by user, so even none may be left for this process.
    const rlimit few{signals_pending_of_user() + 4, usual.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_SIGPENDING, &few) == 0);
    for (unsigned i = 0; i < 20; ++i) CHECK(to.send({.value = i}));
    std::thread delivering(
        [&] { CHECK_IN_THREAD(error_of([&] { post.box.deliver_as(signo); }) == 0); });
    std::this_thread::sleep_for(50ms);
    REQUIRE(::setrlimit(RLIMIT_SIGPENDING, &usual) == 0);
    std::uint64_t wrong = 0;
    for (unsigned i = 0; i < 20; ++i) {
        const siginfo_t info = signals.take(60s);
        if (info.si_signo != signo || to_signal_event(info).value != i) ++wrong;
    }
    CHECK(wrong == 0);
    post.box.close();
    delivering.join();
}
