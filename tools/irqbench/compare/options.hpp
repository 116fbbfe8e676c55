// SPDX-License-Identifier: MIT
//
// Owns: the command line of `irqbench compare`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "irqbench/compare/run.hpp"

namespace irqbench::compare {

class command_line {
public:
    // Adds the subcommand to irqbench's.
    explicit command_line(CLI::App& app);

    bool chosen() const { return command_->parsed(); }
    // After parsing; throws CLI::ValidationError.
    compare_options resolve() const;

private:
    const CLI::App& app_;
    CLI::App* command_;
    compare_options given_;
    std::vector<std::string> methods_{"all"};
    std::vector<std::string> sizes_{"8", "64", "1K", "4K", "64K", "1M"};
    bool quick_ = false;
};

}  // namespace irqbench::compare
