// SPDX-License-Identifier: MIT
// What the tests of signal boxes share.
#ifndef IPCDOOR_TESTS_LIB_SIGNAL_BOX_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_SIGNAL_BOX_SUPPORT_HPP

#include <ipcdoor/signal_box.hpp>

#include "lib/box_support.hpp"
#include "lib/lib_support.hpp"

namespace ipcdoor::test {

// A signal box, and senders to it.
struct watch_post : box_under_test<signal_box, signal_box_options> {
    using box_under_test::box_under_test;

    signal_sender connect() {
        return let_in([this] { return signal_sender(at, name, soon); });
    }

protected:
    bool receives() override { return box.try_receive().has_value(); }
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_SIGNAL_BOX_SUPPORT_HPP
