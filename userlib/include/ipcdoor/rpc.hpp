// SPDX-License-Identifier: MIT
//
// Remote procedure calls: a function in another process, called as if it were local.
//
//     ipcdoor::rpc::server server(door, "calc");
//     server.bind("add", [](int a, int b) { return a + b; });
//     server.serve();
//
//     ipcdoor::rpc::client calc(door, "calc");
//     int sum = calc.call<int>("add", 2, 3);
//
// Arguments and results are what rpc_codec.hpp can carry: numbers, text, sequences,
// maps, optionals, tuples, and structures of these. Both sides compare signatures: a
// method of that name with other types is refused, and the error names both.
//
// Deadlines travel with the call: a server does not begin one that nobody waits for any
// more, and a handler that takes an rpc::context first can ask for what is left of its time
// and whether the caller has cancelled.
//
// Errors that a call throws, as ipcdoor::error with these codes, or as rpc::failure:
//
//   ENOSYS      the server has no method of that name
//   EINVAL      it has one with another signature
//   EBADMSG     what came is malformed
//   ECANCELED   the server or this client was closed
//   ETIMEDOUT   the deadline passed, here or there
//   EPIPE       the server died; whether it did what was asked is not known
//   any         the error_number() of an ipcdoor::error that the handler let go
//   failure     what a handler threw: an rpc::failure with its code and text, any other
//               exception with the code failure::uncaught and what() it said
//
// Who has another serialiser uses bind_raw(), call_raw() and start_raw(): the bytes are
// theirs, begin on a multiple of 8, and the signature is any text that both sides agree on.
// Who keeps to rpc_codec.hpp's format and signatures there can talk to bind() and call().
//
// Threads. A client and a server may be used by any number at once; serve() in several
// threads is a pool. bind() all methods before the first serve().
#ifndef IPCDOOR_RPC_HPP
#define IPCDOOR_RPC_HPP

#include <ipcdoor/rpc_client.hpp>
#include <ipcdoor/rpc_codec.hpp>
#include <ipcdoor/rpc_server.hpp>
#include <ipcdoor/rpc_wire.hpp>

#endif  // IPCDOOR_RPC_HPP
