// SPDX-License-Identifier: MIT
// The programs that reached something new, from which others are made.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_CORPUS_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_CORPUS_HPP

#include <string>
#include <vector>

#include "fuzz/kernel/mutate.hpp"
#include "fuzz/kernel/program.hpp"

namespace kfuzz {

// All programs of a file, or of all files *.txt of a directory and those in it, in the
// order of their names. Throws std::runtime_error.
std::vector<program> read_programs(const std::string& path);

class corpus {
public:
    void add(program what) { programs_.push_back(std::move(what)); }
    std::size_t size() const { return programs_.size(); }
    bool empty() const { return programs_.empty(); }

    // One to change: half of the time of the latest.
    const program& pick(random_numbers& random) const;

private:
    std::vector<program> programs_;
};

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_CORPUS_HPP
