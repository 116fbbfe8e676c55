// SPDX-License-Identifier: MIT
// What every test of the library needs: a door on the back end and source under
// test, names of one's own, connections, and amounts that suit the machine.
#ifndef IPCDOOR_TESTS_LIB_LIB_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_LIB_SUPPORT_HPP

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <ipcdoor.h>

#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/message.hpp>

#include "support/door_under_test.hpp"
#include "support/error_of.hpp"
#include "support/scaled.hpp"
#include "support/temporary_directory.hpp"
#include "support/threads.hpp"

namespace ipcdoor::test {

// Long enough for any slow guest, for waits that must succeed.
inline constexpr std::chrono::seconds soon{60};

std::string unique_name();
// Of the back end under test, in any process.
door test_door();

// Options with the source under test.
template <class Options>
requires requires(Options& options) { options.source; }
Options with_source(Options options) {
    options.source = source();
    return options;
}

// Doors of the back end under test that other users open, too: on soft: in a directory that
// is everybody's.
class public_doors {
public:
    public_doors() {
        if (on_soft()) directory_.emplace(01777);
    }
    door open() const { return directory_ ? door("soft:" + directory_->path()) : test_door(); }

private:
    std::optional<temporary_directory> directory_;
};

// A listening name, and connections to it. Made before fork(), the child
// connects by connect().
class service {
public:
    explicit service(std::uint64_t slot_bytes = channel_slot_bytes(8192));
    ~service();
    service(const service&) = delete;
    service& operator=(const service&) = delete;

    const std::string& name() const { return name_; }
    endpoint accept();
    // In any process.
    endpoint connect() const;
    // Both ends in this process: {accepted, connected}.
    std::pair<endpoint, endpoint> pair();

private:
    std::string name_;
    ipcdoor_door* door_ = nullptr;
    ipcdoor_listener* listener_ = nullptr;
};

// Both ends of a fresh connection in this process.
std::pair<endpoint, endpoint> connected_pair(std::uint64_t slot_bytes = channel_slot_bytes(8192));
std::pair<channel, channel> channel_pair(std::uint64_t message_bytes = 8192,
                                         const channel_options& options = {});

// A payload whose every byte follows from its number and length.
std::string pattern(std::uint64_t number, std::size_t bytes);

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_LIB_SUPPORT_HPP
