// SPDX-License-Identifier: MIT
//
// What a sample costs to publish and to take, by its size and by the number of subscribers. A
// publish that copied anything would show it.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <ipcdoor/door.hpp>
#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/groups/names.hpp"
#include "bench/registry.hpp"

namespace {

// One sample lent, its first line written, published; taken, looked at and released by each of the
// subscribers, in the same thread.
class publish_cycle {
public:
    publish_cycle(std::size_t bytes, unsigned subscribers)
        : door_(bench::door_uri),
          name_(bench::fresh_name("publish")),
          publisher_(door_, name_,
                     {.chunk_bytes = bytes,
                      .queue = 2,
                      .max_held = 1,
                      .max_loans = 1,
                      .max_subscribers = subscribers,
                      .chunks = chunks}) {
        subscribers_.reserve(subscribers);
        std::exception_ptr wrong;
        std::thread joining([&] {
            try {
                for (unsigned i = 0; i < subscribers; ++i)
                    subscribers_.emplace_back(door_, name_, ipcdoor::subscriber_options{},
                                              std::chrono::seconds(60));
            } catch (...) {
                wrong = std::current_exception();
                failed_ = true;
            }
        });
        while (publisher_.subscribers() < subscribers && !failed_) {
            publisher_.poll();
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        joining.join();
        if (wrong) std::rethrow_exception(wrong);
    }

    void operator()() {
        ipcdoor::loan next = publisher_.lend();
        std::memcpy(next.bytes().data(), &++written_, sizeof written_);
        publisher_.publish(std::move(next));
        for (ipcdoor::subscriber& each : subscribers_) {
            const ipcdoor::sample got = each.take();
            std::uint64_t read = 0;
            std::memcpy(&read, got.bytes().data(), sizeof read);
            bench::require(read == written_, "publish: another sample came");
        }
    }

private:
    // The same of all sizes: eight of 16 MiB are what a small machine can spare.
    static constexpr std::uint32_t chunks = 8;

    ipcdoor::door door_;
    const std::string name_;
    ipcdoor::publisher publisher_;
    std::vector<ipcdoor::subscriber> subscribers_;
    std::atomic<bool> failed_{false};
    std::uint64_t written_ = 0;
};

constexpr std::size_t kib = 1024, mib = 1024 * kib;

const bench::part by_size("publish", [](bench::group& g) {
    g.title = "Publishing, by the size of the sample";
    g.operation =
        "lend a chunk, write its first line, publish it; one subscriber in the same thread takes "
        "it, reads that line and releases it";
    g.axis = bench::axis_kind::bytes;
    g.axis_title = "size of the sample";
    const std::string name = "publish and take";
    // The publisher looks for newcomers once a millisecond.
    g.limit_calls({name + ", calls", {name, 64}, 0.1});
    for (const std::size_t bytes : {std::size_t{64}, kib, 16 * kib, 256 * kib, mib, 16 * mib}) {
        const auto x = static_cast<double>(bytes);
        g.add({name, x, true, [bytes] { return bench::make_work<publish_cycle>(bytes, 1U); }});
        if (bytes != 64) g.compare({g.label(x) + " : 64 B", {name, x}, {name, 64}, 1.25});
    }
});

const bench::part by_subscribers("publish to many", [](bench::group& g) {
    g.title = "Publishing, by the number of subscribers";
    g.operation = "as above, with each of so many subscribers in the same thread";
    g.axis = bench::axis_kind::number;
    g.axis_title = "subscribers";
    for (const unsigned subscribers : {1U, 8U, 64U}) {
        const auto x = static_cast<double>(subscribers);
        for (const std::size_t bytes : {std::size_t{64}, mib}) {
            g.add({bytes == 64 ? "64 B" : "1 MiB", x, true, [bytes, subscribers] {
                       return bench::make_work<publish_cycle>(bytes, subscribers);
                   }});
        }
        g.compare(
            {g.label(x) + (subscribers == 1 ? " subscriber" : " subscribers") + ", 1 MiB : 64 B",
             {"1 MiB", x},
             {"64 B", x},
             1.25});
    }
});

}  // namespace
