// SPDX-License-Identifier: MIT
// Hostile publishers and subscribers that do the worst thing at the worst moment.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/crash/crash.hpp"
#include "lib/false_publisher.hpp"
#include "lib/lib_support.hpp"
#include "lib/publish_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

TEST_CASE("a subscriber that rings without end does not keep its publisher",
          "[crash][publish][hostile]") {
    door at = test_door();
    const std::string name = unique_name();
    publisher_options options;
    options.source = source();
    publisher paper(at, name, options);
    endpoint liar = let_in(paper, [&] { return at.connect(name, soon); });
    std::atomic<unsigned> rung{0};
    const step_observer each([&](const std::string& label) {
        if (label != "look:event") return;
        ++rung;
        liar.ring(1 - liar.slot(), 5);
    });
    liar.ring(1 - liar.slot(), 5);
    // A slow machine's interrupt comes late.
    spin_until([&] {
        paper.poll();
        return rung != 0;
    });
    CHECK(paper.publish(std::string("x")) == 1);
}

TEST_CASE("a publisher that is always ahead does not keep its subscriber",
          "[crash][publish][hostile]") {
    false_publisher liar;
    liar.serve([](publisher_slot&) {});
    subscriber reader(liar.at, liar.name, {}, soon);
    liar.serving.join();
    // Whenever the subscriber is about to sleep there is something, which is then taken back.
    const step_observer each([&](const std::string& label) {
        const std::uint64_t tail = liar.mine->tail.load();
        if (label == "take:armed") liar.mine->tail.store(tail + 1);
        if (label == "take:hold") liar.mine->floor.store(tail);
    });
    CHECK(error_of([&] { static_cast<void>(reader.try_take()); }) == EPROTO);
    CHECK(error_of([&] { static_cast<void>(reader.take(10ms)); }) == EPROTO);
}
