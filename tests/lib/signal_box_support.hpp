// SPDX-License-Identifier: MIT
// What the tests of signal boxes share.
#ifndef IPCDOOR_TESTS_LIB_SIGNAL_BOX_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_SIGNAL_BOX_SUPPORT_HPP

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <ipcdoor/signal_box.hpp>

#include "lib/lib_support.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

namespace ipcdoor::test {

// A box of the back end and source under test, and senders to it.
struct watch_post {
    explicit watch_post(signal_box_options options = {}, door on = test_door())
        : name(unique_name()), at(std::move(on)), box(at, name, with_source(std::move(options))) {}

    signal_sender connect() {
        // Letting it in is the receiver's business, which is this thread's.
        const signal_box_stats before = box.stats();
        std::optional<signal_sender> made;
        int failed = 0;
        blocking_thread connecting(
            [&] { failed = error_of([&] { made.emplace(at, name, soon); }); });
        serve_until([&] {
            return box.stats().connected + box.stats().refused > before.connected + before.refused;
        });
        connecting.join();
        if (failed != 0) throw error(failed, "connect");
        return std::move(*made);
    }

    // No signal comes until the condition holds.
    template <class Condition>
    void serve_until(const Condition& so) {
        spin_until([&] {
            if (so()) return true;
            if (box.try_receive()) throw std::logic_error("an unexpected signal");
            return false;
        });
    }

    std::string name;
    door at;
    signal_box box;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_SIGNAL_BOX_SUPPORT_HPP
