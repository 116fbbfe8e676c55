// SPDX-License-Identifier: MIT
//
// How two processes meet at a name, whichever comes first, as at a FIFO: who finds
// nobody listens, takes one connection and gives the name back.
#ifndef IPCDOOR_DETAIL_RENDEZVOUS_HPP
#define IPCDOOR_DETAIL_RENDEZVOUS_HPP

#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/listener.hpp>

namespace ipcdoor::detail {

// connect(), going on after signal handlers ran.
inline endpoint connect_through_signals(door& from, const std::string& name, deadline until) {
    for (;;) {
        try {
            return from.connect(name, until);
        } catch (const error& wrong) {
            if (!wrong.is_interrupt()) throw;
        }
    }
}

// An end of a fresh connection with whoever comes to this name. The options are of
// use to who comes first.
inline endpoint meet(door& from, const std::string& name, const listen_options& options,
                     deadline until) {
    for (;;) {
        try {
            return connect_through_signals(from, name, until);
        } catch (const error& wrong) {
            switch (wrong.error_number()) {
                case ENOENT:
                case ECONNREFUSED: break;  // it took somebody else, or gave up
                case ETIMEDOUT:
                    throw_error(ETIMEDOUT, "'" + name +
                                               "' is there, but did not take the connection "
                                               "before the deadline");
                default: throw;
            }
        }
        try {
            listener here = from.listen(name, options);
            return here.accept(until);
        } catch (const error& wrong) {
            switch (wrong.error_number()) {
                case EADDRINUSE: break;
                case ETIMEDOUT:
                    throw_error(ETIMEDOUT, "nobody opened the other end of '" + name +
                                               "' before the deadline");
                default: throw;
            }
        }
        // The other side was faster, and listens.
        if (until.is_past()) {
            throw_error(ETIMEDOUT,
                        "the other end of '" + name + "' was not found before the deadline");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

// Meets a peer and makes of it an End, once the peer has opened its own. One that
// died before, having been too late or killed, does not count.
template <class End, class EndOptions>
End open_at(door& from, const std::string& name, const listen_options& listening,
            const EndOptions& options, deadline until) {
    for (;;) {
        End opened(meet(from, name, listening, until), options);
        try {
            opened.await_peer(until);
            return opened;
        } catch (const error& wrong) {
            if (!wrong.is_peer_death()) throw;
        }
        if (until.is_past()) {
            throw_error(ETIMEDOUT, "'" + name + "': the other end died while it was opened");
        }
    }
}

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_RENDEZVOUS_HPP
