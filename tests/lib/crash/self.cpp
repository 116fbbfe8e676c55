// SPDX-License-Identifier: MIT
// The harness itself: it kills at each step, once, and sees what is left.
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <ipcdoor/detail/step.hpp>

#include "lib/crash/crash.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor::test;

namespace {

struct two_words {
    struct words {
        std::atomic<std::uint32_t> entered{0};
        std::atomic<std::uint32_t> first{0};
        std::atomic<std::uint32_t> second{0};
    };
    void enter() {
        IPCDOOR_STEP("two_words:enter");  // does not count
        shared_words->entered = static_cast<std::uint32_t>(::getpid());
    }
    shared<words> shared_words;
    std::uint32_t seen_while_stopped = 0;
};

void change_both(two_words& world) {
    IPCDOOR_STEP("two_words:begin");
    world.shared_words->first = 1;
    IPCDOOR_STEP("two_words:between");
    world.shared_words->second = 1;
    IPCDOOR_STEP("two_words:end");
}

}  // namespace

TEST_CASE("a victim dies at each step, and what it did before is there", "[crash][self]") {
    static std::vector<std::string> deaths;
    deaths.clear();
    const crash_case<two_words> both{
        "both words", change_both,
        [](two_words& world, const crash_point& at) {
            CHECK(world.shared_words->entered.load() != 0);
            CHECK(world.shared_words->entered.load() != static_cast<std::uint32_t>(::getpid()));
            CHECK(world.shared_words->first.load() == (at.number >= 2 ? 1U : 0U));
            CHECK(world.shared_words->second.load() == (at.number >= 3 ? 1U : 0U));
            CHECK(at.killed == (at.number <= 3));
            CHECK(world.seen_while_stopped ==
                  (at.killed ? world.shared_words->entered.load() : 0U));
            deaths.push_back(at.label);
        },
        [](two_words& world, const crash_point& at) {
            // Alive, and standing at the step.
            CHECK(world.shared_words->first.load() == (at.number >= 2 ? 1U : 0U));
            const auto pid = static_cast<pid_t>(world.shared_words->entered.load());
            if (::kill(pid, 0) == 0) world.seen_while_stopped = static_cast<std::uint32_t>(pid);
        }};
    const std::vector<std::string> labels = crash_at_every_step(both);
    CHECK(labels ==
          std::vector<std::string>{"two_words:begin", "two_words:between", "two_words:end"});
    CHECK(deaths ==
          std::vector<std::string>{"two_words:begin", "two_words:between", "two_words:end", ""});
}

TEST_CASE("a victim that goes on comes to its end", "[crash][self]") {
    const crash_case<two_words> both{
        "both words", change_both,
        [](two_words& world, const crash_point& at) {
            CHECK_FALSE(at.killed);
            CHECK(world.shared_words->second.load() == 1);
            // What was done between its steps is not undone, but for what it does itself.
            CHECK(world.shared_words->first.load() == (at.number == 2 || at.number == 3 ? 5U : 1U));
        },
        [](two_words& world, const crash_point&) { world.shared_words->first = 5; }, true};
    CHECK(crash_at_every_step(both).size() == 3);
}

namespace {

// The second victim does not come to the first step.
struct fickle {
    fickle() { ++made; }
    void enter() {}
    static inline unsigned made = 0;
};

}  // namespace

TEST_CASE("a step that has another number each time is not missed", "[crash][self]") {
    fickle::made = 0;
    const crash_case<fickle> one{"fickle",
                                 [](fickle&) {
                                     if (fickle::made != 2) IPCDOOR_STEP("fickle:first");
                                     IPCDOOR_STEP("fickle:second");
                                 },
                                 [](fickle&, const crash_point&) {}};
    CHECK(crash_at_every_step(one) == std::vector<std::string>{"fickle:first", "fickle:second"});
    CHECK(fickle::made == 3);
}
