// SPDX-License-Identifier: MIT
#include "fuzz/kernel/corpus.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace kfuzz {

namespace {

namespace fs = std::filesystem;

std::vector<program> read_file(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file) throw std::runtime_error(path.string() + ": cannot be read");
    try {
        return parse_programs(text.str());
    } catch (const std::runtime_error& error) {
        throw std::runtime_error(path.string() + ": " + error.what());
    }
}

}  // namespace

std::vector<program> read_programs(const std::string& path) {
    if (!fs::is_directory(path)) return read_file(path);
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(path))
        if (entry.path().extension() == ".txt") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    std::vector<program> all;
    for (const fs::path& file : files) {
        auto some = read_file(file);
        std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    return all;
}

const program& corpus::pick(random_numbers& random) const {
    constexpr std::size_t latest = 64;
    const std::size_t all = programs_.size();
    if (all > latest && random.one_in(2)) return programs_[all - 1 - random.below(latest)];
    return programs_[random.below(all)];
}

}  // namespace kfuzz
