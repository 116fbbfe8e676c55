// SPDX-License-Identifier: MIT
// What the tests of mailboxes and signal boxes share.
#ifndef IPCDOOR_TESTS_LIB_BOX_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_BOX_SUPPORT_HPP

#include <sys/resource.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/door.hpp>
#include <ipcdoor/error.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

namespace ipcdoor::test {

// A box of the back end and source under test, to which many send and from which this process
// receives.
template <class Box, class Options>
struct box_under_test {
    explicit box_under_test(Options options = {}, door on = test_door())
        : name(unique_name()), at(std::move(on)), box(at, name, with_source(std::move(options))) {}

    // What connecting() returns. Letting it in is the receiver's business, which is this thread's.
    template <class Connecting>
    auto let_in(Connecting connecting) {
        const auto before = box.stats().connected;
        std::optional<std::invoke_result_t<Connecting>> made;
        int failed = 0;
        blocking_thread coming([&] { failed = error_of([&] { made.emplace(connecting()); }); });
        serve_until([&] { return coming.ended(); });
        coming.join();
        if (failed != 0) throw error(failed, "connect");
        // A connection may be made before it is accepted.
        serve_until([&] { return box.stats().connected > before; });
        return std::move(*made);
    }

    // Nothing comes until the condition holds.
    template <class Condition>
    void serve_until(const Condition& so) {
        spin_until([&] {
            if (so()) return true;
            if (receives()) throw std::logic_error("something unexpected came");
            return false;
        });
    }

    // Runs act() while this process lacks descriptors for all the Senders that another one makes
    // of connections, and from whom nothing comes.
    template <class Sender, class Act>
    void short_of_descriptors(Act act) {
        rlimit usual{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
        gate full;
        gate over;
        child crowd([&] {
            door own = test_door();
            std::vector<Sender> all;
            for (int i = 0; i < 50; ++i) {
                // those that are not let in time out
                try {
                    all.emplace_back(own.connect(name, std::chrono::milliseconds(20)));
                } catch (const error&) {
                    break;
                }
            }
            full.open();
            over.wait();
            return 0;
        });
        const rlimit few{60, usual.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
        serve_until([&] { return full.is_open(); });
        act();
        over.open();
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &usual) == 0);
        CHECK(crowd.wait().exited());
    }

    std::string name;
    door at;
    Box box;

protected:
    virtual ~box_under_test() = default;
    // Whether something has come; does not block.
    virtual bool receives() = 0;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_BOX_SUPPORT_HPP
