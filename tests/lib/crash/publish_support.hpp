// SPDX-License-Identifier: MIT
// What the cases of publishers and of subscribers that die share.
#ifndef IPCDOOR_TESTS_LIB_CRASH_PUBLISH_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_CRASH_PUBLISH_SUPPORT_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/detail/step.hpp>
#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/lib_support.hpp"
#include "lib/publish_support.hpp"
#include "support/catch.hpp"

namespace ipcdoor::test {

// ---- samples that cannot be mistaken ----

inline std::size_t size_of(std::uint64_t number) { return 64 + number * 1031 % 4000; }

inline void fill(loan& into, std::uint64_t number) {
    const std::string content = pattern(number, size_of(number));
    const std::size_t half = content.size() / 2;
    std::memcpy(into.bytes().data(), content.data(), half);
    IPCDOOR_STEP("fill:half");
    std::memcpy(into.bytes().data() + half, content.data() + half, content.size() - half);
    IPCDOOR_STEP("fill:whole");
    into.resize(content.size());
}

inline std::uint64_t publish_next(publisher& paper, deadline until = soon) {
    loan next = paper.lend(until);
    // Nobody else publishes meanwhile.
    fill(next, paper.stats().published + 1);
    return paper.publish(std::move(next), until);
}

inline bool is_whole(const sample& got) {
    const std::string content = pattern(got.sequence(), size_of(got.sequence()));
    return got.size() == content.size() &&
           std::memcmp(got.bytes().data(), content.data(), got.size()) == 0;
}

// All numbers that are there; throws where one is not whole, or they are not in order.
struct takings {
    std::vector<std::uint64_t> numbers;
    int ended_with = 0;  // the errno value of the end, 0: nothing more for now

    void take(subscriber& from) {
        take_while([&] { return from.try_take(); });
    }
    // Sleeps until the publisher is gone.
    void take_to_the_end(subscriber& from) {
        take_while([&] { return std::optional<sample>(from.take(forever)); });
    }
    std::uint64_t last() const { return numbers.empty() ? 0 : numbers.back(); }
    bool is(std::uint64_t first, std::uint64_t end) const {
        if (numbers.size() != end - first) return false;
        for (std::size_t i = 0; i < numbers.size(); ++i)
            if (numbers[i] != first + i) return false;
        return true;
    }

private:
    template <class Next>
    void take_while(Next next) {
        try {
            while (const std::optional<sample> got = next()) {
                if (!is_whole(*got)) throw std::runtime_error("a sample is torn");
                if (got->sequence() <= last()) throw std::runtime_error("out of order");
                numbers.push_back(got->sequence());
            }
        } catch (const error& wrong) {
            ended_with = wrong.error_number();
        }
    }
};

// ---- what both kinds of worlds have ----

// Between the processes.
struct news {
    std::atomic<bool> begun{false};           // the victim has something to connect to
    std::atomic<bool> joined{false};          // the survivor's subscribers
    std::atomic<bool> done{false};            // what was waited for has come
    std::atomic<bool> over{false};            // nothing is to be done for the victim any more
    std::atomic<std::uint64_t> published{0};  // by the victim, at least
    std::atomic<std::uint64_t> asked{0};      // of the survivor, by the victim
};

// All that are not history can be lent at once.
inline publisher_options with_chunks(std::uint32_t chunks, publisher_options options) {
    options.source = source();
    options.max_held = 2;
    options.chunks = chunks;
    options.max_loans = chunks - options.history;
    return options;
}

inline subscriber subscribe(door& at, const std::string& name, publisher& paper) {
    return let_in(paper, [&] { return subscriber(at, name, {}, soon); });
}

// Nobody has any but those that are history.
inline void lend_all(publisher& paper, const publisher_options& options, deadline until = soon) {
    std::vector<loan> all;
    while (all.size() < options.max_loans) all.push_back(paper.lend(until));
}

// A newcomer is let in and gets the history; all get what is published, and no chunk is lost.
inline void check_goes_on(door& at, const std::string& name, const publisher_options& options,
                          publisher& paper, const std::vector<subscriber*>& left) {
    const std::uint64_t last = paper.stats().published;
    subscriber late = subscribe(at, name, paper);
    takings history;
    history.take(late);
    const std::uint64_t had = std::min<std::uint64_t>(options.history, last);
    CHECK(history.is(last + 1 - had, last + 1));
    for (std::uint64_t i = 1; i <= 3 * options.queue; ++i) {
        REQUIRE(publish_next(paper) == last + i);
        for (subscriber* reader : left) {
            takings got;
            got.take(*reader);
            REQUIRE(got.is(last + i, last + i + 1));
        }
        takings got;
        got.take(late);
        REQUIRE(got.is(last + i, last + i + 1));
    }
    lend_all(paper, options);
    CHECK(paper.stats().broken == 0);
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_CRASH_PUBLISH_SUPPORT_HPP
