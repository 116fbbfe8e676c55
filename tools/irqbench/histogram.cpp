// SPDX-License-Identifier: MIT
#include "irqbench/histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

namespace irqbench {

namespace {

constexpr std::uint64_t sub_buckets = std::uint64_t{1} << histogram::sub_bucket_bits;

}  // namespace

std::size_t histogram::index_of(std::uint64_t value) {
    if (value < 2 * sub_buckets) return value;
    // The top sub_bucket_bits + 1 bits select the bucket; what is shifted out is its width.
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - (sub_bucket_bits + 1);
    return (std::size_t{shift} << sub_bucket_bits) + (value >> shift);
}

histogram::bucket histogram::bounds_of(std::size_t index) {
    if (index < 2 * sub_buckets) return {index, index, 0};
    const unsigned shift = static_cast<unsigned>(index >> sub_bucket_bits) - 1;
    const std::uint64_t top = index - (std::size_t{shift} << sub_bucket_bits);
    const std::uint64_t low = top << shift;
    return {low, low + ((std::uint64_t{1} << shift) - 1), 0};
}

void histogram::record(std::uint64_t value, std::uint64_t count) {
    if (count == 0) return;
    const std::size_t index = index_of(value);
    if (index >= counts_.size()) counts_.resize(index + 1);
    counts_[index] += count;
    count_ += count;
    sum_ += value * count;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
}

void histogram::merge(const histogram& other) {
    if (counts_.size() < other.counts_.size()) counts_.resize(other.counts_.size());
    for (std::size_t i = 0; i < other.counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
}

double histogram::mean() const {
    return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_);
}

std::uint64_t histogram::percentile(double percent) const {
    if (count_ == 0) return 0;
    // 99.9 % of 1000 is 999; the product alone is a hair more, and the next sample with it.
    const double wanted = std::ceil(percent / 100.0 * static_cast<double>(count_) - 1e-6);
    const auto rank =
        std::clamp<std::uint64_t>(wanted < 1.0 ? 1 : static_cast<std::uint64_t>(wanted), 1, count_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        seen += counts_[i];
        if (seen >= rank) return std::clamp(bounds_of(i).high, min_, max_);
    }
    return max_;
}

std::vector<histogram::bucket> histogram::buckets() const {
    std::vector<bucket> filled;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        if (counts_[i] == 0) continue;
        bucket b = bounds_of(i);
        b.count = counts_[i];
        filled.push_back(b);
    }
    return filled;
}

histogram histogram::restore(const std::vector<bucket>& buckets, std::uint64_t min,
                             std::uint64_t max, std::uint64_t sum) {
    histogram restored;
    for (const bucket& b : buckets) {
        const bucket bounds = bounds_of(index_of(b.low));
        if (bounds.low != b.low || bounds.high != b.high || b.count == 0)
            throw std::invalid_argument("not a bucket of this histogram's form");
        restored.record(b.low, b.count);
    }
    if (restored.count_ == 0) return restored;
    if (index_of(min) != index_of(restored.min_) || index_of(max) != index_of(restored.max_))
        throw std::invalid_argument("minimum or maximum lies outside the filled buckets");
    restored.min_ = min;
    restored.max_ = max;
    restored.sum_ = sum;
    return restored;
}

}  // namespace irqbench
