// SPDX-License-Identifier: MIT
// What the tests of publishers and subscribers share.
#ifndef IPCDOOR_TESTS_LIB_PUBLISH_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_PUBLISH_SUPPORT_HPP

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/lib_support.hpp"
#include "support/process.hpp"
#include "support/threads.hpp"

namespace ipcdoor::test {

// What `connect` returns, while the publisher lets in whoever comes: that is its own business,
// which may be this thread's.
template <class Connect>
auto let_in(publisher& paper, Connect connect) {
    std::atomic<bool> done{false};
    blocking_thread letting_in([&] {
        while (!done) {
            paper.poll();
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    struct at_end {
        std::atomic<bool>& flag;
        ~at_end() { flag = true; }
    } const ends{done};
    return connect();
}

// A publisher of the back end and source under test.
struct newspaper {
    explicit newspaper(publisher_options options = {})
        : name(unique_name()), at(test_door()), paper(at, name, with_source(options)) {}

    subscriber subscribe(const subscriber_options& options = {}) {
        return let_in(paper, [&] { return subscriber(at, name, options, soon); });
    }
    // Until the condition holds, for which the publisher has to do its part.
    template <class Condition>
    void poll_until(Condition condition) {
        spin_until([&] {
            paper.poll();
            return condition();
        });
    }

    std::string name;
    door at;
    publisher paper;
};

inline std::string text(const sample& what) {
    return {reinterpret_cast<const char*>(what.bytes().data()), what.size()};
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_PUBLISH_SUPPORT_HPP
