// SPDX-License-Identifier: MIT
#include "irqbench/compare/options.hpp"

#include <algorithm>

#include "irqbench/options.hpp"
#include "irqbench/sources.hpp"

namespace irqbench::compare {

namespace {

constexpr std::uint64_t quick_rounds = 3;
constexpr std::uint64_t quick_turn_ms = 3;

}  // namespace

command_line::command_line(CLI::App& app)
    : app_(app),
      command_(app.add_subcommand(
          "compare", "Each of ipcdoor's methods beside the kernel's own, by message size")) {
    // Its options are its own: most of irqbench's mean nothing here.
    command_->set_help_flag("--help", "Print this help and exit");
    const char* what = "What to compare";
    command_
        ->add_option("--methods", methods_,
                     "ipcdoor's methods: " + CLI::detail::join(compared_methods(), ",") +
                         ", or all (the default)")
        ->delimiter(',')
        ->group(what);
    command_
        ->add_option("--sizes", sizes_,
                     "Message sizes, multiples of 8 up to 4M (default 8,64,1K,4K,64K,1M)")
        ->delimiter(',')
        ->group(what);
    command_
        ->add_option("--door", given_.door,
                     "URI of the door (default: $IPCDOOR_URI, else local:, which is the module "
                     "where it is loaded and soft: elsewhere)")
        ->group(what);
    command_->add_option("--source", given_.source, "Interrupt source: auto,msi,ipi,timer,direct")
        ->take_last()
        ->group(what);

    const char* how = "How to measure";
    command_->add_option("--rounds", given_.rounds, "Rounds in which all take turns (default 15)")
        ->check(CLI::Range(1, 1000))
        ->group(how);
    command_->add_option("--turn", given_.turn_ms, "Milliseconds of a turn (default 25)")
        ->check(CLI::Range(1, 5000))
        ->group(how);
    command_
        ->add_flag("--quick", quick_,
                   "A few seconds instead of a hundred: says that it works, not how fast it is")
        ->group(how);
    command_
        ->add_option("-a,--affinity", given_.affinity,
                     "CPUs as RECEIVER[,RINGER] (default: the second and the first allowed; on an "
                     "emulated processor the second for both)")
        ->delimiter(',')
        ->expected(1, 2)
        ->check(CLI::Range(0, 1023))
        ->group(how);

    const char* output = "Output";
    command_->add_flag("--summary", given_.summary, "Print only how many times as fast")
        ->group(output);
    command_->add_option("--json", given_.json, "Write everything as JSON to this file")
        ->group(output);
    command_->add_option("--html", given_.html, "Write a self-contained HTML report to this file")
        ->group(output);
    command_->add_option("--svg", given_.svg, "Write the plot of round trips to this file")
        ->group(output);
    command_
        ->add_option("--svg-throughput", given_.svg_throughput,
                     "Write the plot of throughput to this file")
        ->group(output);
    command_->add_flag("-q,--quiet", given_.quiet, "Print nothing but errors")->group(output);
}

compare_options command_line::resolve() const {
    for (const CLI::Option* option : app_.get_options())
        if (option->count() != 0)
            throw CLI::ValidationError(option->get_name(),
                                       "stands before 'compare', whose options come after it");
    compare_options o = given_;
    o.methods = resolve_names(methods_, compared_methods(), "--methods");
    if (o.methods.empty()) throw CLI::ValidationError("--methods", "nothing is left to compare");
    for (const std::string& text : sizes_) try {
            o.sizes.push_back(parse_size(text));
        } catch (const std::invalid_argument& e) {
            throw CLI::ValidationError("--sizes", e.what());
        }
    std::sort(o.sizes.begin(), o.sizes.end());
    o.sizes.erase(std::unique(o.sizes.begin(), o.sizes.end()), o.sizes.end());
    if (o.source != "auto" && !source_number(o.source))
        throw CLI::ValidationError("--source", "unknown name '" + o.source + "'; known are auto, " +
                                                   CLI::detail::join(source_names(), ", "));
    if (quick_ && command_->count("--rounds") == 0) o.rounds = quick_rounds;
    if (quick_ && command_->count("--turn") == 0) o.turn_ms = quick_turn_ms;
    return o;
}

}  // namespace irqbench::compare
