// SPDX-License-Identifier: MIT
//
// Owns: the command line of ipcdoor-proxy.
#pragma once

#include <cstdint>
#include <string>

#include "ipcdoor-proxy/address.hpp"

namespace ipcdoor_proxy {

struct options {
    address from;  // is listened on
    address to;    // a connection is made to, for each that comes
    std::string uri;
    std::uint64_t capacity_bytes = std::uint64_t{1} << 18;
    std::uint32_t mode = 0600;
    std::uint64_t max_connections = 4096;
    double timeout_s = 10;  // for connecting
    bool verbose = false;
    std::string json;
};

// False: the program is over with `status`.
bool parse_command_line(int argc, char** argv, options& o, int& status);

}  // namespace ipcdoor_proxy
