// SPDX-License-Identifier: MIT
// All of ipcdoor's C++ layer.
#ifndef IPCDOOR_IPCDOOR_HPP
#define IPCDOOR_IPCDOOR_HPP

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/ring.hpp>
#include <ipcdoor/rpc.hpp>
#include <ipcdoor/signal.hpp>

#endif  // IPCDOOR_IPCDOOR_HPP
