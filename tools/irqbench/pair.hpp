// SPDX-License-Identifier: MIT
//
// Owns: the two measured processes. The coordinator orders batches; ringer and waiter carry them
// out, one method at a time, and leave their samples in shared memory. Two processes and not two
// threads, because that is what IPC is, and because an endpoint belongs to an address space.
#pragma once

#include <sys/resource.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "irqbench/method.hpp"
#include "irqbench/process.hpp"
#include "irqbench/shared.hpp"

namespace irqbench {

struct batch_order {
    std::uint32_t method = 0;
    measure what = measure::one_way;
    std::uint32_t samples = 0;      // at most pair::max_batch
    std::uint64_t interval_ns = 0;  // one way: pause before each ring, the receiver asleep
    std::uint64_t limit_ns = 0;     // ends the batch early; 0: none
    int ringer_cpu = 0;
    int waiter_cpu = 0;
    bool counted = false;           // as pair::run_counted()
    std::uint64_t handicap_ns = 0;  // the waiter runs that long while the ringer sleeps
    bool streamed = false;          // as pair::run_streamed()
};

class pair {
public:
    static constexpr std::uint32_t max_batch = 8192;

    // Prepares, forks and connects; methods that do not exist here go to absent() with the reason.
    // The priorities are SCHED_FIFO's, 0: normal.
    pair(method_list methods, int waiter_priority, int ringer_priority);
    // Lets the two processes end by themselves, so that methods can clean up; kills them if they
    // do not.
    ~pair();
    pair(const pair&) = delete;
    pair& operator=(const pair&) = delete;

    const method& method_at(std::size_t i) const { return *methods_[i]; }
    std::size_t method_count() const { return methods_.size(); }
    bool is_present(std::size_t i) const;
    std::vector<absence> absent() const;

    // Blocks until the batch is done. Throws std::runtime_error where a process failed or nothing
    // moved for stall_s seconds; the pair is of no use then.
    std::span<const sample> run(const batch_order& order);

    // The same with nothing between the round trips: cycle_counter() around `round_trips` of them.
    struct counted {
        std::uint64_t cycles;
        // Of each side: it slept; it was pushed off its CPU by the one it woke.
        std::uint64_t slept[2];
        std::uint64_t preempted[2];
    };
    counted run_counted(std::uint32_t method, std::uint32_t round_trips, int cpu,
                        std::uint64_t handicap_ns);

    // method::send_many() of `messages`: the time until the word came back that all have arrived.
    std::uint64_t run_streamed(std::uint32_t method, std::uint32_t messages, int waiter_cpu,
                               int ringer_cpu);

    static constexpr int stall_s = 20;

private:
    static constexpr std::size_t max_methods = 32;
    static constexpr std::size_t text_bytes = 240;
    enum class order_kind : std::uint32_t { batch, quit };

    struct side_status {
        std::atomic<std::uint32_t> finished{0};  // number of the last order carried out
        std::atomic<std::uint32_t> failed{0};
        char error[text_bytes] = {};
        struct {
            bool present = false;
            char reason[text_bytes] = {};
        } methods[max_methods];
    };

    struct area {
        std::atomic<std::uint32_t> order{0};  // number of the newest order
        order_kind kind = order_kind::batch;
        batch_order batch;
        rendezvous meeting;
        side_status of_side[2];
        std::atomic<std::uint32_t> armed{0};  // waiter: about to wait for this sample + 1
        std::atomic<std::uint32_t> last{0};   // ringer: the ring to come is the last
        std::atomic<std::uint32_t> done{0};   // samples finished
        counted count{};
        std::uint64_t streamed_ns = 0;
        sample samples[max_batch];
    };

    int serve(side s);
    void join_methods(side s);
    void carry_out(side s, const batch_order& order);
    void ring_batch(method& m, const batch_order& order);
    void wait_batch(method& m);
    void call_batch(method& m, const batch_order& order);
    void count_batch(method& m, const batch_order& order);
    void answer_batch(side s, method& m);
    void stream_batch(side s, method& m, const batch_order& order);
    void count_switches(side s, const rusage& before);
    void await_armed(std::uint32_t index, std::uint64_t interval_ns);

    method_list methods_;
    int priorities_[2];  // by side
    shared<area> area_;
    child processes_[2];
};

}  // namespace irqbench
