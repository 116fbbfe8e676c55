// SPDX-License-Identifier: MIT
//
// Owns: what a measurement ran on, as far as it changes what the figures mean, and when.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/text_writer.hpp"

namespace report {

enum class environment { bare_metal, virtualised, emulated, unknown };

std::string_view to_string(environment e);

struct machine {
    std::string kernel;        // uname -r
    std::string kernel_build;  // uname -v
    std::string architecture;  // uname -m
    std::string cpu_model;
    int cpus_online = 0;
    std::vector<int> cpus_allowed;
    std::string clock_source;
    std::string clock_sources_available;
    environment where = environment::unknown;
    std::string hypervisor;  // its name or signature, "" on bare metal
    std::string preemption;
    bool realtime_kernel = false;
    std::string isolated_cpus;  // as the kernel prints them, "" for none
    std::string governor;       // of the first CPU's frequency, "" where it is not known
};

machine describe_machine();

// From CPUID leaf 0x40000000's signature; "" where the CPU claims no hypervisor.
struct hypervisor_verdict {
    environment where;
    std::string name;
};
hypervisor_verdict classify_hypervisor(std::string_view signature);

// From uname -v and the text of /sys/kernel/debug/sched/preempt ("" where it cannot be read).
std::string preemption_model(std::string_view kernel_build, std::string_view sched_preempt);

// "none" instead of an empty list, and so on: one line on the environment for people.
std::string environment_line(const machine& m);

// The fields that every report has: for terminals, and by name.
void write_machine(text_writer& to, const machine& m);
std::vector<std::pair<std::string, std::string>> facts_of(const machine& m);

// Now, as ISO 8601 has it.
std::string utc_now();

// The whole text of a small file without trailing white space, "" where it cannot be read.
std::string read_small_file(const char* path);

}  // namespace report
