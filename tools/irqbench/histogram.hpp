// SPDX-License-Identifier: MIT
//
// Owns: the latency histogram, the one form in which samples are kept.
//
// Log-linear buckets after Gil Tene's HdrHistogram (hdrhistogram.org): every power of two is cut
// into 2^sub_bucket_bits equal buckets, so a bucket is never wider than 1/128 (0.79 %) of its
// value, whatever the range, and memory does not grow with the number of samples. Values below 256
// are exact; minimum, maximum, sum and count are always exact.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace irqbench {

class histogram {
public:
    static constexpr unsigned sub_bucket_bits = 7;
    static constexpr double relative_error = 1.0 / (1U << sub_bucket_bits);

    struct bucket {
        std::uint64_t low;   // smallest value of the bucket
        std::uint64_t high;  // largest value of the bucket
        std::uint64_t count;
    };

    void record(std::uint64_t value, std::uint64_t count = 1);
    void merge(const histogram& other);

    std::uint64_t count() const { return count_; }
    std::uint64_t sum() const { return sum_; }
    std::uint64_t min() const { return count_ == 0 ? 0 : min_; }
    std::uint64_t max() const { return max_; }
    double mean() const;

    // The smallest value that at least `percent` of the samples do not exceed, rounded up to its
    // bucket's end: never less than the true sample, at most relative_error above it. 0 if empty.
    std::uint64_t percentile(double percent) const;

    // The buckets that hold samples, in ascending order.
    std::vector<bucket> buckets() const;

    // Rebuilds what buckets(), min(), max() and sum() gave, as read back from a report. Throws
    // std::invalid_argument where they contradict each other.
    static histogram restore(const std::vector<bucket>& buckets, std::uint64_t min,
                             std::uint64_t max, std::uint64_t sum);

    static std::size_t index_of(std::uint64_t value);
    static bucket bounds_of(std::size_t index);

private:
    std::vector<std::uint64_t> counts_;  // by index_of(), grown to the largest index seen
    std::uint64_t count_ = 0;
    std::uint64_t sum_ = 0;
    std::uint64_t min_ = UINT64_MAX;
    std::uint64_t max_ = 0;
};

}  // namespace irqbench
