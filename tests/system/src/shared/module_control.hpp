// SPDX-License-Identifier: MIT
// What root can do to the module in a guest: load and unload it, plug its edu
// device out and in, and ask how many descriptors hold it. Functions that return
// an int return 0 or -errno; the others throw std::runtime_error.
#ifndef IPCDOOR_TESTS_SYSTEM_MODULE_CONTROL_HPP
#define IPCDOOR_TESTS_SYSTEM_MODULE_CONTROL_HPP

#include <string>

#include "support/process.hpp"

namespace ipcdoor::test {

inline constexpr const char* guest_module_path = "/ipcdoor.ko";

// The module's file; throws where the guest has none.
unique_fd open_module_file();

// finit_module(2) with the file, delete_module(2) without waiting.
int load_module(const unique_fd& file);
int unload_module();
bool module_loaded();

// Repeats what is needed until it is as wanted; throws after 20 seconds.
void ensure_loaded(const unique_fd& file);
void ensure_unloaded();

// Descriptors (and whatever else) that hold the module; -1: it is not loaded.
long module_references();

// The node, also where the kernel had no memory to make one: then it is made from
// the numbers in sysfs.
unique_fd open_door_or_make_node();

// The PCI address of the edu device, "" where the machine has none.
std::string edu_address();
bool edu_bound();
// Enables the device, which no driver may have, until the end of the guest, so that a
// driver finds it so. Throws std::system_error; nothing where there is none.
void keep_edu_enabled();
void ensure_edu_bound();
void ensure_edu_unbound();

// The driver's bind or unbind file, open.
class edu_attribute {
public:
    explicit edu_attribute(const char* name);
    // Binds or unbinds the device.
    int write() const;

private:
    unique_fd file_;
    std::string address_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_MODULE_CONTROL_HPP
