// SPDX-License-Identifier: MIT
//
// What a server and a client of remote calls send each other, and the failure that crosses
// with it; rpc_codec.hpp has the arguments and results. See rpc.hpp.
#ifndef IPCDOOR_RPC_WIRE_HPP
#define IPCDOOR_RPC_WIRE_HPP

#include <cstdint>
#include <stdexcept>
#include <string>

namespace ipcdoor::rpc {

// What a handler throws to its caller, and what arrives there.
class failure : public std::runtime_error {
public:
    static constexpr std::int32_t uncaught = -1;

    failure(std::int32_t code, const std::string& text) : std::runtime_error(text), code_(code) {}
    std::int32_t code() const noexcept { return code_; }

private:
    std::int32_t code_;
};

// Before the arguments.
struct call_header {
    std::uint64_t method;       // hash of its name
    std::uint64_t signature;    // hash of its signature
    std::uint64_t deadline_ns;  // CLOCK_MONOTONIC
};

// Before the result; an error has its text there.
struct reply_header {
    std::uint32_t kind;  // reply_kind
    std::int32_t code;
};

enum class reply_kind : std::uint32_t { result = 0, system = 1, failure = 2 };

// A message, not a call: the caller gives up the call with this id.
struct cancel_message {
    std::uint64_t id;
};

// Of what a peer may send without a pause, before an event loop has its turn.
inline constexpr int at_a_time = 64;

}  // namespace ipcdoor::rpc

#endif  // IPCDOOR_RPC_WIRE_HPP
