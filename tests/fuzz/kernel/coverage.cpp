// SPDX-License-Identifier: MIT
#include "fuzz/kernel/coverage.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace kfuzz {

namespace {

// A section's number is its place here, from 1.
constexpr std::array<const char*, 6> section_names{".text",      ".text.unlikely", ".text.hot",
                                                   ".init.text", ".exit.text",     ".text.startup"};
constexpr std::uint32_t offset_mask = 0xffffff;

constexpr unsigned edge_bits = 18;

using step = std::pair<point, point>;

std::uint32_t number_of(const step& edge) {
    const std::uint64_t pair = std::uint64_t{edge.first} << 32 | edge.second;
    const std::uint64_t mixed = pair * 0x9e3779b97f4a7c15;
    return static_cast<std::uint32_t>(mixed >> (64 - edge_bits));
}

// Calls visit(point, edge) for each step of a trace. A zero starts anew, and so does an entry:
// from 0. No edge leads from there to another point, with which a trace begins where the rest
// of it belongs to the program before.
template <typename Visit>
void walk(std::span<const std::uint64_t> trace, const module_image& image,
          const std::set<point>& entries, Visit visit) {
    point before = 0;
    for (const std::uint64_t address : trace) {
        const auto here = address == 0 ? std::optional<point>() : image.locate(address);
        const bool entered = here && entries.contains(*here);
        if (entered) before = 0;
        if (here)
            visit(*here, before != 0 || entered ? step{before, *here} : std::optional<step>());
        if (here || address == 0) before = here.value_or(0);
    }
}

// False where it was set.
bool set_bit(std::vector<std::uint64_t>& words, std::uint32_t index) {
    std::uint64_t& word = words[index / 64];
    const std::uint64_t bit = std::uint64_t{1} << index % 64;
    if ((word & bit) != 0) return false;
    word |= bit;
    return true;
}

}  // namespace

std::string point_text(point of) {
    if (of == 0) return "the kernel";
    std::ostringstream text;
    text << section_names[(of >> 24) - 1] << ' ' << std::hex << std::showbase << (of & offset_mask);
    return text.str();
}

point parse_point(const std::string& text) {
    std::istringstream words(text);
    std::string section;
    std::uint32_t offset = 0;
    words >> section >> std::hex >> offset;
    const auto found = std::find(section_names.begin(), section_names.end(), section);
    if (!words || found == section_names.end() || offset > offset_mask)
        throw std::runtime_error("no point of the module: '" + text + "'");
    return static_cast<point>((found - section_names.begin() + 1) << 24) | offset;
}

module_image::module_image() {
    for (std::uint32_t i = 0; i < section_names.size(); ++i) {
        std::ifstream file(std::string("/sys/module/ipcdoor/sections/") + section_names[i]);
        std::uint64_t base = 0;
        if (file >> std::hex >> base) sections_.push_back({base, i + 1});
    }
    if (sections_.empty())
        throw std::runtime_error("/sys/module/ipcdoor/sections: the module is not loaded");
    std::sort(sections_.begin(), sections_.end(),
              [](const section& a, const section& b) { return a.base < b.base; });
}

std::optional<point> module_image::locate(std::uint64_t address) const {
    const auto above =
        std::upper_bound(sections_.begin(), sections_.end(), address,
                         [](std::uint64_t value, const section& one) { return value < one.base; });
    if (above == sections_.begin()) return {};
    const section& in = *(above - 1);
    const std::uint64_t offset = address - in.base;
    if (offset > offset_mask) return {};
    return in.index << 24 | static_cast<point>(offset);
}

module_image module_image::moved(std::span<const std::uint64_t> like,
                                 std::span<const std::uint64_t> trace) const {
    // what is needed only for loading is a block of its own
    constexpr std::uint32_t init_text = 4;
    module_image there = *this;
    std::array<bool, 2> done{};
    for (std::size_t i = 0; i < std::min(like.size(), trace.size()); ++i) {
        const auto here = locate(like[i]);
        if (!here) continue;
        const bool init = *here >> 24 == init_text;
        if (std::exchange(done[init ? 1 : 0], true)) continue;
        for (section& one : there.sections_)
            if ((one.index == init_text) == init) one.base += trace[i] - like[i];
    }
    std::sort(there.sections_.begin(), there.sections_.end(),
              [](const section& a, const section& b) { return a.base < b.base; });
    return there;
}

coverage_map::coverage_map(const std::string& entries_file) : known_(edge_count / 64) {
    if (entries_file.empty()) return;
    std::ifstream file(entries_file);
    if (!file) throw std::runtime_error(entries_file + ": cannot be read");
    for (std::string line; std::getline(file, line);) entries_.insert(parse_point(line));
}

std::vector<std::uint32_t> coverage_map::add(std::span<const std::uint64_t> trace,
                                             const module_image& image) {
    std::vector<std::uint32_t> fresh;
    walk(trace, image, entries_, [&](point here, const std::optional<step>& edge) {
        // by itself: its edge may look like another one that was seen already
        if (points_.insert(here).second) fresh_.push_back(here);
        if (!edge || !set_bit(known_, number_of(*edge))) return;
        fresh.push_back(number_of(*edge));
        fresh_edges_.push_back(*edge);
        ++edges_;
    });
    std::sort(fresh.begin(), fresh.end());
    return fresh;
}

std::vector<std::uint32_t> coverage_map::edges_of(std::span<const std::uint64_t> trace,
                                                  const module_image& image) const {
    std::vector<std::uint32_t> all;
    walk(trace, image, entries_, [&](point, const std::optional<step>& edge) {
        if (edge) all.push_back(number_of(*edge));
    });
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
}

std::vector<std::uint32_t> coverage_map::common(const std::vector<std::uint32_t>& wanted,
                                                std::span<const std::uint64_t> trace,
                                                const module_image& image) const {
    const auto all = edges_of(trace, image);
    std::vector<std::uint32_t> both;
    std::set_intersection(wanted.begin(), wanted.end(), all.begin(), all.end(),
                          std::back_inserter(both));
    return both;
}

std::vector<std::pair<point, point>> coverage_map::fresh_edges() {
    return std::exchange(fresh_edges_, {});
}

std::vector<point> coverage_map::fresh_points() { return std::exchange(fresh_, {}); }

void coverage_map::load(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return;
    const auto bytes = static_cast<std::streamsize>(known_.size() * sizeof(known_[0]));
    file.read(reinterpret_cast<char*>(known_.data()), bytes);
    if (file.gcount() != bytes) throw std::runtime_error(path + ": not a file of edges");
    edges_ = 0;
    for (const std::uint64_t word : known_) edges_ += static_cast<std::size_t>(std::popcount(word));
}

void coverage_map::save(const std::string& path) const {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(known_.data()),
               static_cast<std::streamsize>(known_.size() * sizeof(known_[0])));
    if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

}  // namespace kfuzz
