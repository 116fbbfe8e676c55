// SPDX-License-Identifier: MIT
// What may meet what: each action is one side of a race.
#ifndef IPCDOOR_TESTS_SYSTEM_RACES_ACTIONS_HPP
#define IPCDOOR_TESTS_SYSTEM_RACES_ACTIONS_HPP

#include <vector>

#include "system/src/races/stage.hpp"

namespace ipcdoor::test {

struct race_action {
    const char* name;
    void (*run)(race_side& side);
    // Before the two meet.
    void (*prepare)(race_side& side) = nullptr;
    bool on_listener = false;     // meets on a listener as well
    bool on_mappings = false;     // meets on mappings
    bool takes_mappings = false;  // after which touching them is a signal
    bool grows = false;           // before which touching what is to come is one, too
    bool releases = false;        // may take the last reference away, or a new one
    bool dies = false;            // takes the whole process with it
    bool unplugs = false;         // the edu device, as root
    bool unloads = false;         // the module, as root
    bool uses_io_uring = false;
};

// In the order of the table of pairs.
const std::vector<race_action>& race_actions();

// For a thread that races: what its signals and faults do.
void prepare_race_signals();

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_RACES_ACTIONS_HPP
