// SPDX-License-Identifier: MIT
#include <numeric>
#include <string>

#include "irqbench/clock.hpp"
#include "irqbench/cyclictest.hpp"
#include "irqbench/instructions.hpp"
#include "irqbench/options.hpp"
#include "irqbench/run.hpp"
#include "irqbench/statistics.hpp"
#include "irqbench/validate.hpp"
#include "report/machine.hpp"
#include "report/units.hpp"
#include "support/catch.hpp"

using namespace irqbench;

TEST_CASE("median and spread of a few repetitions are exact", "[irqbench][statistics]") {
    const spread odd = spread_of({9, 1, 5});
    CHECK(odd.repetitions == 3);
    CHECK(odd.median == 5);
    CHECK(odd.min == 1);
    CHECK(odd.max == 9);
    CHECK(spread_of({4, 1, 3, 2}).median == 2.5);
    CHECK(spread_of({}).repetitions == 0);
}

TEST_CASE("the stages around a percentile add up to its total", "[irqbench][statistics]") {
    std::vector<stage_sample> samples;
    for (std::uint32_t i = 0; i < 1000; ++i)
        samples.push_back({10, 2 * i, 1000 - i, 5});  // total: 1015 + i
    const stage_split median = split_at(samples, 50);
    CHECK(median.samples == 11);
    const double total = std::accumulate(median.mean_ns.begin(), median.mean_ns.end(), 0.0);
    CHECK(total == Approx(1015 + 499).margin(1.0));
    CHECK(median.mean_ns[0] == 10);
    CHECK(median.mean_ns[1] == Approx(2 * 499).margin(2.0));
}

TEST_CASE("the split at a percentile copes with one sample and with none",
          "[irqbench][statistics]") {
    std::vector<stage_sample> none;
    CHECK(split_at(none, 99).samples == 0);
    std::vector<stage_sample> one{{1, 2, 3, 4}};
    const stage_split s = split_at(one, 99);
    CHECK(s.samples == 1);
    CHECK(s.mean_ns[3] == 4);
}

TEST_CASE("times are written with as many digits as are worth reading", "[irqbench][units]") {
    CHECK(microseconds(0) == "0.000");
    CHECK(microseconds(143) == "0.143");
    CHECK(microseconds(12'305) == "12.30");
    CHECK(microseconds(4'096'500) == "4096.5");
    CHECK(microseconds(123'456'789) == "123457");
    CHECK(with_unit(999) == "999 ns");
    CHECK(with_unit(1000) == "1 us");
    CHECK(with_unit(2.5e6) == "2.5 ms");
    CHECK(with_unit(50'000, "µs") == "50 µs");
    CHECK(grouped(0) == "0");
    CHECK(grouped(999) == "999");
    CHECK(grouped(1000) == "1,000");
    CHECK(grouped(12'345'678) == "12,345,678");
}

TEST_CASE("CPUID's signature tells emulated from virtualised", "[irqbench][machine]") {
    CHECK(classify_hypervisor("").where == environment::bare_metal);
    CHECK(classify_hypervisor("TCGTCGTCGTCG").where == environment::emulated);
    CHECK(classify_hypervisor("KVMKVMKVM").where == environment::virtualised);
    CHECK(classify_hypervisor("KVMKVMKVM").name == "KVM");
    CHECK(classify_hypervisor("SomethingNew").name == "SomethingNew");
}

TEST_CASE("the preemption model is read from the build and the scheduler's choice",
          "[irqbench][machine]") {
    const char* dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.1-1 (2023-01-01)";
    CHECK(preemption_model(dynamic, "none (voluntary) full") == "voluntary (PREEMPT_DYNAMIC)");
    CHECK(preemption_model(dynamic, "") == "chosen at boot (PREEMPT_DYNAMIC)");
    CHECK(preemption_model("#1 SMP PREEMPT_RT Debian", "") == "full, real-time (PREEMPT_RT)");
    CHECK(preemption_model("#1 SMP PREEMPT Debian", "") == "full (PREEMPT)");
    CHECK(preemption_model("#1 SMP Debian", "") == "none or voluntary");
}

TEST_CASE("an emulated machine says what its latencies are worth", "[irqbench][machine]") {
    machine m;
    m.where = environment::emulated;
    m.hypervisor = "QEMU TCG";
    CHECK(environment_line(m).find("comparison only") != std::string::npos);
    m.where = environment::bare_metal;
    CHECK(environment_line(m).find("comparison only") == std::string::npos);
}

TEST_CASE("the receiver gets the second CPU unless it is told", "[irqbench][run]") {
    CHECK(choose_cpus({}, {2, 5}).waiter_cpu == 5);
    CHECK(choose_cpus({}, {2, 5}).ringer_cpu == 2);
    CHECK(choose_cpus({}, {3}).ringer_cpu == 3);
    CHECK(choose_cpus({2}, {2, 5}).waiter_cpu == 2);
    CHECK(choose_cpus({2}, {2, 5}).ringer_cpu == 5);
    CHECK(choose_cpus({2, 2}, {2, 5}).ringer_cpu == 2);
    CHECK_THROWS_WITH(choose_cpus({7}, {2, 5}), ipcdoor::test::contains("CPU 7"));
}

TEST_CASE("samples beyond the microsecond histogram are counted as overflows", "[irqbench][run]") {
    microsecond_histogram h;
    h.counts.resize(10);
    h.record(999);
    h.record(9'999);
    h.record(10'000);
    CHECK(h.counts[0] == 1);
    CHECK(h.counts[9] == 1);
    CHECK(h.overflows == 1);
    CHECK(h.min_us == 0);
    CHECK(h.max_us == 10);
}

TEST_CASE("durations take cyclictest's suffixes", "[irqbench][options]") {
    CHECK(parse_duration("90") == 90);
    CHECK(parse_duration("90s") == 90);
    CHECK(parse_duration("2m") == 120);
    CHECK(parse_duration("1.5h") == 5400);
    CHECK(parse_duration("1d") == 86400);
    for (const char* bad : {"", "m", "5x", "-3", "0", "nan"}) {
        CAPTURE(bad);
        CHECK_THROWS_AS(parse_duration(bad), std::invalid_argument);
    }
}

TEST_CASE("cyclictest's histogram is read and its median interpolated", "[irqbench][validate]") {
    const std::string text =
        "WARN: not setting cpu_dma_latency from cyclictest\n"
        "# /dev/cpu_dma_latency set to 0us\n# Histogram\n"
        "000000 000000\n000001 000002\n000002 000004\n000003 000002\n"
        "# Total: 000000008\n# Min Latencies: 00001\n"
        "# Histogram Overflows: 00001\n";
    cyclictest_histogram h = parse_cyclictest(text);
    CHECK(h.count() == 9);
    CHECK(h.overflows == 1);
    CHECK(h.percentile_ns(50) == Approx(2625));  // 4.5 of 9, 2.5 of the 4 within [2, 3) us
    CHECK_THROWS_AS(h.percentile_ns(100), std::runtime_error);
    h.merge(h);
    CHECK(h.count() == 18);
    CHECK_THROWS_WITH(parse_cyclictest("Unable to open /dev/cpu_dma_latency\n"),
                      ipcdoor::test::contains("no histogram"));
}

TEST_CASE("the validation agrees within a factor of two, either way", "[irqbench][validate]") {
    validation v;
    v.handler_to_user_ns.p50 = 10'000;
    for (const auto& [theirs, agrees] :
         {std::pair{4'900.0, false}, {5'100.0, true}, {19'900.0, true}, {20'100.0, false}}) {
        v.cyclictest_p50_ns = theirs;
        CAPTURE(theirs);
        CHECK(v.agrees() == agrees);
    }
    v.handler_to_user_ns.p50 = 0;
    CHECK_FALSE(v.agrees());
}

TEST_CASE("a counter counts instructions only within a hundredth", "[irqbench][instructions]") {
    CHECK(counts_instructions(400'000, 400'000));
    CHECK(counts_instructions(403'900, 400'000));
    CHECK_FALSE(counts_instructions(405'000, 400'000));
    CHECK_FALSE(counts_instructions(200'000, 400'000));
    CHECK_FALSE(counts_instructions(0, 400'000));
}

TEST_CASE("reading the clock costs something and never goes back", "[irqbench][clock]") {
    CHECK(measure_timestamp_cost().ns > 0);
    const std::uint64_t start = now_ns();
    sleep_until(start + 2'000'000);
    CHECK(now_ns() - start >= 2'000'000);
}
