// SPDX-License-Identifier: MIT
/*
 * A link is what one endpoint of the software back end knows of one peer: its
 * pages, a socket to wake it and to learn of its end, and who it is.
 *
 * The socket is both ways the doorbell: sends never block (a full queue means
 * that a wake-up is under way), never raise SIGPIPE, and cannot be drained or
 * blocked by the other side, as a shared eventfd or pipe could. Its hang-up is
 * the peer's death; a process that a fork()ed child outlives with the socket in
 * its hands is found out by its pidfd.
 */
#ifndef IPCDOOR_SRC_SOFT_LINK_H
#define IPCDOOR_SRC_SOFT_LINK_H

#include <atomic>
#include <cstdint>
#include <memory>

#include "soft_slot.h"
#include "sys.h"

namespace ipcdoor::backend::soft {

struct link {
    // Of a peer, whose process may have ended already. Takes the credentials
    // from the socket.
    link(const seat& seat, std::shared_ptr<slot_pages> pages, owned_fd socket);
    // Of an endpoint to itself: rung through its own `kick` eventfd.
    link(const seat& seat, std::shared_ptr<slot_pages> pages, int kick);

    bool is_self() const { return kick_ >= 0; }
    // Asks the kernel; false once the peer has closed or ended.
    bool peer_lives() const;
    // Wakes the peer unless it was woken since it went to sleep.
    void wake();

    const seat where;
    const std::shared_ptr<slot_pages> pages;
    owned_fd socket;
    owned_fd process;    // pidfd, or none where the kernel has no telling
    bool ended = false;  // the process, before there could be a pidfd
    sys::credentials peer;

    // Under the endpoint's mutex from here on.
    bool alive = true;
    bool memory_given = false;  // to the caller: stays until the endpoint closes
    std::uint32_t serial = 0;   // tells this link's events from its predecessor's
    std::uint64_t seen_total = 0;
    std::uint64_t seen[IPCDOOR_VECTORS] = {};

private:
    int kick_ = -1;
    std::atomic<std::uint64_t> woken_{0};  // the latest epoch that was woken
};

// Credentials and process of a socket's other end; the pidfd may be none. False
// where that process has ended, though its child may hold the socket still.
bool identify_peer(int socket, sys::credentials& peer, owned_fd& process);

// As sys::socket_bind() and socket_connect(), but they throw where /proc is missing, by which
// names are reached: whoever is not found is taken for dead.
int bind_name(int socket, int dir, const char* file);
int connect_name(int socket, int dir, const char* file, std::uint64_t deadline_ns);

// Is somebody listening at this socket file? A process that died leaves its
// file behind, and a child of its may even hold the socket still.
bool is_living_socket(int dir, const char* file);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_LINK_H
