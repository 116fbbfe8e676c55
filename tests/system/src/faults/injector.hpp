// SPDX-License-Identifier: MIT
// The kernel's fault injection for one thread: the n-th fault point that the thread
// passes fails, be it an allocation of an object (failslab), of pages
// (fail_page_alloc) or a copy from or to user space (fail_usercopy). See
// Documentation/fault-injection/fault-injection.rst, "fail-nth".
#ifndef IPCDOOR_TESTS_SYSTEM_FAULTS_INJECTOR_HPP
#define IPCDOOR_TESTS_SYSTEM_FAULTS_INJECTOR_HPP

#include <string>

#include "support/process.hpp"

namespace ipcdoor::test {

// What this kernel lacks to inject faults; "" where it has everything.
std::string injection_lacks();

// For the whole guest, by root: allocations that may wait fail too, single pages
// too, files of /proc do not, and nothing is written to the console for it.
// Throws std::runtime_error.
void configure_injection();

class injector {
public:
    // Of the calling thread, for which alone the object is good. Open it as root.
    injector();

    // The nth (from 1) fault point from now on fails.
    void arm(unsigned nth) const;
    // Ends it; true where the fault point was reached, so that it failed.
    bool disarm() const;

private:
    unique_fd file_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_FAULTS_INJECTOR_HPP
