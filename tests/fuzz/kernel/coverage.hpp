// SPDX-License-Identifier: MIT
// What of the module has been reached: points, and edges between two points that
// follow each other without a way through the kernel's own code between them, where
// anything may follow anything. Both are numbered by section and offset, so that they
// mean the same in every guest that runs the same module.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_COVERAGE_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_COVERAGE_HPP

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kfuzz {

// A place in the module: the index of its section << 24 | the offset there. Never 0.
using point = std::uint32_t;

std::string point_text(point of);  // "SECTION OFFSET", "the kernel" for 0
// Throws std::runtime_error.
point parse_point(const std::string& text);

// The module where it is loaded now.
class module_image {
public:
    module_image();  // throws std::runtime_error where it is not loaded

    // The point of an address, none where that is not in the module.
    std::optional<point> locate(std::uint64_t address) const;

    // Where it was when `trace` came about, which began with the same points as `like`,
    // a trace of this image. A load that fails leaves nobody who could tell.
    module_image moved(std::span<const std::uint64_t> like,
                       std::span<const std::uint64_t> trace) const;

private:
    struct section {
        std::uint64_t base;
        std::uint32_t index;
    };
    std::vector<section> sections_;  // from the lowest
};

class coverage_map {
public:
    // The file has the points that the kernel's calls begin with, one "SECTION OFFSET"
    // a line: what leads to them is no edge of the module. Throws std::runtime_error.
    explicit coverage_map(const std::string& entries_file);

    // The edges of a trace that are new and not of the file, each once, in order. They
    // and its points count as reached from now on. Two edges may share a number; points
    // do not.
    std::vector<std::uint32_t> add(std::span<const std::uint64_t> trace, const module_image& image);

    // Those of `wanted` that a trace has, in order.
    std::vector<std::uint32_t> common(const std::vector<std::uint32_t>& wanted,
                                      std::span<const std::uint64_t> trace,
                                      const module_image& image) const;

    // All edges of a trace, each once, in order.
    std::vector<std::uint32_t> edges_of(std::span<const std::uint64_t> trace,
                                        const module_image& image) const;

    std::size_t edges() const { return edges_; }
    std::size_t points() const { return points_.size(); }
    // What no earlier call has returned; an edge from 0 is a call of the kernel.
    std::vector<std::pair<point, point>> fresh_edges();
    std::vector<point> fresh_points();

    // The edges as a file, to be known from the start; one that does not exist is empty.
    // Throw std::runtime_error.
    void load(const std::string& path);
    void save(const std::string& path) const;

private:
    static constexpr std::size_t edge_count = 1 << 18;

    std::set<point> entries_;
    std::vector<std::uint64_t> known_;  // of this run and of those before it
    std::size_t edges_ = 0;
    std::vector<std::pair<point, point>> fresh_edges_;
    std::set<point> points_;  // of this run
    std::vector<point> fresh_;
};

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_COVERAGE_HPP
