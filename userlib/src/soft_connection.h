// SPDX-License-Identifier: MIT
/*
 * Connections of the software back end: private two-slot segments between the
 * processes on either side of a UNIX socket.
 *
 * A listener is a socket LABEL.sock, whose permissions decide who may connect,
 * and a file LABEL.door, which says how large a connection is. The client
 * connects and introduces itself with its slot's memory file and, because it
 * pays for it, DATA's; the server's ACCEPT answers with its own slot's. Both
 * files are sealed so that a peer can neither write ours nor cut its own under
 * our mapping. The kernel names the process on either side.
 */
#ifndef IPCDOOR_SRC_SOFT_CONNECTION_H
#define IPCDOOR_SRC_SOFT_CONNECTION_H

#include <list>
#include <memory>
#include <mutex>

#include "backend.h"
#include "soft_runtime.h"
#include "soft_slot.h"

namespace ipcdoor::backend::soft {

class listener : public ipcdoor_listener {
public:
    listener(std::shared_ptr<const runtime> runtime, const ipcdoor_listen_options& options);
    ~listener() override;

    int poll_fd() const noexcept override { return epoll_.get(); }
    std::unique_ptr<ipcdoor_endpoint> accept(uint64_t deadline_ns) override;

private:
    void open_name(mode_t mode, int backlog);
    void refuse_waiting();
    std::unique_ptr<ipcdoor_endpoint> accept_ready();
    std::unique_ptr<ipcdoor_endpoint> welcome(owned_fd& socket);

    const std::shared_ptr<const runtime> runtime_;
    const name name_;
    shape shape_;
    user_dir dir_;
    owned_fd socket_;
    struct stat socket_file_ {};
    owned_fd epoll_;

    std::mutex mutex_;
    std::list<owned_fd> silent_;  // connected, but not introduced yet
};

std::unique_ptr<ipcdoor_endpoint> connect(const runtime& runtime, const char* name,
                                          std::uint64_t deadline_ns);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_CONNECTION_H
