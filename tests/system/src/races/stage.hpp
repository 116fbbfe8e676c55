// SPDX-License-Identifier: MIT
// What the two sides of a race act on, and where they write down what they were
// told.
#ifndef IPCDOOR_TESTS_SYSTEM_RACES_STAGE_HPP
#define IPCDOOR_TESTS_SYSTEM_RACES_STAGE_HPP

#include <array>
#include <atomic>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>

#include "support/process.hpp"
#include "system/src/races/poll_ring.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

using random_engine = std::minstd_rand;

// Ends of a call besides 0 and errno values.
inline constexpr int got_sigbus = 140;
inline constexpr int got_sigsegv = 141;
inline constexpr std::size_t ends_count = 142;

// The results of one pair, shared with the processes that make the rounds.
struct race_results {
    std::array<std::array<std::atomic<std::uint32_t>, ends_count>, 2> ends;
    std::atomic<std::uint32_t> rounds;
    std::atomic<std::uint32_t> failures;
    char first_failure[160];

    void fail(const char* what, int value);
};

// What a pair of actions needs to meet on.
struct stage_needs {
    bool listener = false;
    bool mappings = false;
    bool msi = false;          // segments on the edu device, which one side unplugs
    bool few_holders = false;  // as little as possible holds the module
};

// Made anew for each round; all of one process.
class stage {
public:
    // `host`: the segment that the endpoints attach to, of another process; -1: one
    // of their own.
    stage(const stage_needs& needs, int host, random_engine& random);
    stage(const stage&) = delete;
    stage& operator=(const stage&) = delete;
    ~stage();

    int door = -1;  // -1: each side opens its own
    int listener = -1;
    int a = -1;  // the endpoint that both sides act on; -1: not in this round
    int b = -1;  // its peer
    std::uint32_t a_slot = 0;
    std::uint32_t b_slot = 0;
    int event = -1;
    int epoll = -1;
    int sockets[2] = {-1, -1};
    int focus = -1;  // the descriptor that is closed, dup'ed, passed, polled
    std::string name;

    // The mappings of `a`, one behind the other: STATE, its SLOT, DATA with room to
    // grow; and as much empty space behind, to move them to.
    char* memory = nullptr;
    std::size_t state_bytes = 0;
    std::size_t data_offset = 0;
    std::size_t memory_bytes = 0;
    bool mapped = false;

    // Nothing holds the module all through the round.
    bool may_unload = false;

    // Successful closes of the focus.
    std::atomic<int> closed{0};

private:
    void open_endpoints(const stage_needs& needs, int host, random_engine& random);
};

inline constexpr std::size_t race_page = 4096;
inline constexpr std::size_t race_data_pages = 2;
inline constexpr std::size_t race_max_data_pages = 4;

// One of the two; its thread's own.
struct race_side {
    unsigned index;
    random_engine& random;
    race_results& results;
    stage* on = nullptr;
    std::unique_ptr<poll_ring> ring{};
    // What the other side may do.
    bool door_may_be_gone = false;
    bool device_may_be_gone = false;
    bool mappings_may_be_gone = false;
    bool pages_may_appear = false;

    // Writes down the end of a call, `result` or -errno; one that is neither
    // success nor in `allowed` is a failure. True for success.
    bool note(const char* call, int result, std::initializer_list<int> allowed);
    bool one_in(unsigned n) { return random() % n == 0; }
};

// Fewer than `max_ns` nanoseconds of waiting in user space, most often far fewer.
void random_skew(random_engine& random, unsigned max_log2_ns);

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_RACES_STAGE_HPP
