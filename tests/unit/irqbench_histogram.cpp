// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "irqbench/histogram.hpp"
#include "support/catch.hpp"

using irqbench::histogram;

TEST_CASE("every value falls into a bucket that contains it", "[irqbench][histogram]") {
    std::vector<std::uint64_t> values{0, 1, 127, 128, 255, 256, 257, 511, 512, 65535, UINT64_MAX};
    std::mt19937_64 random(1);
    for (int i = 0; i < 10'000; ++i) values.push_back(random() >> (random() % 64));
    for (std::uint64_t v : values) {
        const auto b = histogram::bounds_of(histogram::index_of(v));
        CAPTURE(v, b.low, b.high);
        REQUIRE(b.low <= v);
        REQUIRE(v <= b.high);
        REQUIRE(static_cast<double>(b.high - b.low) <=
                histogram::relative_error * static_cast<double>(b.low));
    }
}

TEST_CASE("buckets follow each other without gap or overlap", "[irqbench][histogram]") {
    for (std::size_t i = 0; i + 1 < 5000; ++i) {
        CAPTURE(i);
        REQUIRE(histogram::bounds_of(i + 1).low == histogram::bounds_of(i).high + 1);
        REQUIRE(histogram::index_of(histogram::bounds_of(i).low) == i);
    }
}

TEST_CASE("an empty histogram is all zeroes", "[irqbench][histogram]") {
    const histogram h;
    CHECK(h.count() == 0);
    CHECK(h.min() == 0);
    CHECK(h.max() == 0);
    CHECK(h.mean() == 0.0);
    CHECK(h.percentile(50) == 0);
    CHECK(h.buckets().empty());
}

TEST_CASE("percentiles are exact for small values", "[irqbench][histogram]") {
    histogram h;
    for (std::uint64_t v = 1; v <= 100; ++v) h.record(v);
    CHECK(h.percentile(0) == 1);
    CHECK(h.percentile(1) == 1);
    CHECK(h.percentile(50) == 50);
    CHECK(h.percentile(50.5) == 51);
    CHECK(h.percentile(99) == 99);
    CHECK(h.percentile(100) == 100);
    CHECK(h.mean() == Approx(50.5));
}

TEST_CASE("p99.9 of a thousand samples is the last but one", "[irqbench][histogram]") {
    histogram h;
    h.record(10, 999);
    h.record(1'000'000);
    CHECK(h.percentile(99.9) == 10);
    CHECK(h.percentile(99.91) == 1'000'000);
    CHECK(h.max() == 1'000'000);
}

TEST_CASE("a percentile is never below the true sample and little above it",
          "[irqbench][histogram]") {
    std::mt19937_64 random(2);
    std::lognormal_distribution<double> latency(std::log(40'000.0), 0.8);
    histogram h;
    std::vector<std::uint64_t> samples;
    for (int i = 0; i < 20'000; ++i) {
        samples.push_back(static_cast<std::uint64_t>(latency(random)));
        h.record(samples.back());
    }
    std::sort(samples.begin(), samples.end());
    for (double p : {0.1, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99}) {
        const std::size_t rank = static_cast<std::size_t>(std::ceil(p / 100 * 20'000 - 1e-6)) - 1;
        CAPTURE(p);
        const auto truth = static_cast<double>(samples[rank]);
        CHECK(static_cast<double>(h.percentile(p)) >= truth);
        CHECK(static_cast<double>(h.percentile(p)) <= truth * (1 + histogram::relative_error) + 1);
    }
    CHECK(h.min() == samples.front());
    CHECK(h.max() == samples.back());
}

TEST_CASE("merging two histograms is recording both", "[irqbench][histogram]") {
    histogram a, b, both;
    for (std::uint64_t v : {5U, 700U, 90'000U}) {
        a.record(v);
        both.record(v);
    }
    for (std::uint64_t v : {1U, 3'000'000U}) {
        b.record(v, 2);
        both.record(v, 2);
    }
    a.merge(b);
    CHECK(a.count() == both.count());
    CHECK(a.sum() == both.sum());
    CHECK(a.min() == 1);
    CHECK(a.max() == 3'000'000);
    for (double p : {10.0, 50.0, 90.0}) CHECK(a.percentile(p) == both.percentile(p));
}

TEST_CASE("a histogram is restored from what it printed", "[irqbench][histogram]") {
    histogram h;
    for (std::uint64_t v : {0U, 9U, 300U, 301U, 40'000U, 40'001U, 7'000'003U})
        h.record(v, v % 3 + 1);
    const histogram r = histogram::restore(h.buckets(), h.min(), h.max(), h.sum());
    CHECK(r.count() == h.count());
    CHECK(r.min() == h.min());
    CHECK(r.max() == h.max());
    CHECK(r.mean() == h.mean());
    for (double p : {1.0, 50.0, 99.0, 100.0}) CHECK(r.percentile(p) == h.percentile(p));
}

TEST_CASE("contradictory buckets are refused", "[irqbench][histogram]") {
    CHECK_THROWS_AS(histogram::restore({{300, 302, 1}}, 300, 300, 300), std::invalid_argument);
    CHECK_THROWS_AS(histogram::restore({{5, 5, 0}}, 5, 5, 0), std::invalid_argument);
    CHECK_THROWS_AS(histogram::restore({{5, 5, 1}}, 4, 5, 5), std::invalid_argument);
    CHECK_THROWS_AS(histogram::restore({{5, 5, 1}}, 5, 600, 5), std::invalid_argument);
}
