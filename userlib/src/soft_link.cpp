// SPDX-License-Identifier: MIT
#include "soft_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "failure.h"

namespace ipcdoor::backend::soft {

namespace {

int found_by_proc(int rc) {
    struct stat about {};
    if (rc == -ENOENT && sys::status_at(AT_FDCWD, "/proc/self/fd", about) < 0)
        throw failure(EOPNOTSUPP,
                      "without the module sockets are found by /proc/self/fd: mount /proc");
    return rc;
}

}  // namespace

int bind_name(int socket, int dir, const char* file) {
    return found_by_proc(sys::socket_bind(socket, dir, file));
}

int connect_name(int socket, int dir, const char* file, std::uint64_t deadline_ns) {
    return found_by_proc(sys::socket_connect(socket, dir, file, deadline_ns));
}

bool identify_peer(int socket, sys::credentials& peer, owned_fd& process) {
    const int rc = sys::socket_credentials(socket, peer);
    if (rc < 0) throw failure(-rc, "SO_PEERCRED: %s", std::strerror(-rc));
    const int fd = sys::peer_process(socket);
    if (fd == -ESRCH) return false;
    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
        throw failure(-fd, "no descriptor for the peer process: %s", std::strerror(-fd));
    if (fd >= 0) process = owned_fd(fd);
    pollfd ended{process.get(), POLLIN, 0};
    return !process || sys::poll_until({&ended, 1}, 0) <= 0;
}

bool is_living_socket(int dir, const char* file) {
    const owned_fd probe(sys::socket_new(true));
    if (!probe) throw failure(-probe.get(), "socket: %s", std::strerror(-probe.get()));
    int rc = connect_name(probe.get(), dir, file, 0);
    struct stat about {};
    if (rc == -EACCES && sys::status_at(dir, file, about) == 0 && S_ISSOCK(about.st_mode) &&
        sys::change_mode_at(dir, file, about.st_mode | S_IWUSR) == 0) {
        // Our own name, with a mode that is for others only.
        rc = connect_name(probe.get(), dir, file, 0);
        sys::change_mode_at(dir, file, about.st_mode & 0777);
    }
    if (rc == -ECONNREFUSED || rc == -ENOENT) return false;
    if (rc < 0) return true;  // a full backlog, or another user's
    sys::credentials peer;
    owned_fd process;
    return identify_peer(probe.get(), peer, process);
}

link::link(const seat& seat, std::shared_ptr<slot_pages> slot, owned_fd connected)
    : where(seat), pages(std::move(slot)), socket(std::move(connected)) {
    ended = !identify_peer(socket.get(), peer, process);
}

link::link(const seat& seat, std::shared_ptr<slot_pages> slot, int kick)
    : where(seat), pages(std::move(slot)), kick_(kick) {
    peer = {sys::process_id(), sys::effective_uid(), sys::effective_gid()};
}

bool link::peer_lives() const {
    if (is_self()) return true;
    if (ended || pages->head().closed.load(std::memory_order_acquire) != 0) return false;
    // Hang-ups are reported without being asked for.
    pollfd fds[2] = {{socket.get(), 0, 0}, {process.get(), POLLIN, 0}};
    return sys::poll_until(fds, 0) <= 0;
}

void link::wake() {
    const std::uint64_t epoch = pages->head().armed.load(std::memory_order_seq_cst);
    if (epoch == 0) return;
    if (woken_.exchange(epoch, std::memory_order_relaxed) == epoch) return;
    if (is_self()) {
        sys::event_add(kick_);
        return;
    }
    // EAGAIN: the queue is full of wake-ups. EPIPE: found out at the next look.
    const char bell = 1;
    sys::socket_send(socket.get(), &bell, sizeof(bell));
}

}  // namespace ipcdoor::backend::soft
