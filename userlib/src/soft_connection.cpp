// SPDX-License-Identifier: MIT
#include "soft_connection.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "failure.h"
#include "soft_endpoint.h"
#include "soft_segment_dir.h"

namespace ipcdoor::backend::soft {

namespace {

constexpr std::uint32_t rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE;
constexpr seat server_seat{0, 1, rights};
constexpr seat client_seat{1, 1, rights};

// Of clients that connected and said nothing, kept before the oldest goes.
constexpr std::size_t most_silent = 64;

introduction introduce(const seat& seat, const shape& shape) {
    return {message_magic, layout_version,   seat.slot,       seat.generation,
            seat.rights,   shape.slot_bytes, shape.data_bytes};
}

void check_introduction(const introduction& peer, int bytes, const seat& expected,
                        const shape& shape) {
    if (bytes != sizeof(peer) || peer.magic != message_magic || peer.version != layout_version)
        throw failure(EPROTO, "the peer speaks another version of libipcdoor, or something else");
    if (peer.slot != expected.slot || peer.generation != expected.generation ||
        peer.slot_bytes != shape.slot_bytes || peer.data_bytes != shape.data_bytes)
        throw failure(EPROTO, "the peer means another connection than this");
}

void write_listener_file(int dir, const std::string& file, const shape& shape) {
    const std::string draft = "." + file;
    sys::remove_at(dir, draft.c_str());
    const owned_fd fd(
        sys::open_at(dir, draft.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    if (!fd) throw failure(-fd.get(), "making %s: %s", file.c_str(), std::strerror(-fd.get()));
    const listener_file about{listener_magic, layout_version, 0, shape.slot_bytes,
                              shape.data_bytes};
    int rc = sys::write_at(fd.get(), &about, sizeof(about), 0);
    if (rc >= 0 && rc != sizeof(about)) rc = -ENOSPC;
    if (rc >= 0) rc = sys::change_mode(fd.get(), 0444);  // the sizes are no secret
    if (rc >= 0) rc = sys::rename_at(dir, draft.c_str(), dir, file.c_str());
    if (rc < 0) {
        sys::remove_at(dir, draft.c_str());
        throw failure(sys::storage_error(rc), "writing %s: %s", file.c_str(), std::strerror(-rc));
    }
}

shape read_listener_file(const user_dir& dir, const std::string& file) {
    const owned_fd fd(sys::open_at(dir.fd.get(), file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    if (fd.get() == -ENOENT) throw failure(ENOENT, "the listener has just closed");
    if (!fd) throw failure(-fd.get(), "%s: %s", file.c_str(), std::strerror(-fd.get()));
    listener_file about{};
    if (sys::read_at(fd.get(), &about, sizeof(about), 0) != sizeof(about) ||
        about.magic != listener_magic || about.version != layout_version)
        throw failure(EPROTO, "%s is not a listener of this version of libipcdoor", file.c_str());
    const shape wanted{2, about.slot_bytes, about.data_bytes, about.data_bytes};
    wanted.check(EPROTO);
    return wanted;
}

}  // namespace

// ---- listening ----

listener::listener(std::shared_ptr<const runtime> runtime, const ipcdoor_listen_options& options)
    : runtime_(std::move(runtime)),
      name_(name::parse(options.name)),
      shape_{2, options.slot_bytes, options.data_bytes, options.data_bytes} {
    shape_.check(EINVAL);
    dir_ = runtime_->own(name_);
    socket_ = owned_fd(sys::socket_new(false));
    epoll_ = owned_fd(sys::epoll_new());
    if (!socket_ || !epoll_) throw failure(EMFILE, "no descriptors left for a listener");
    open_name(options.mode, static_cast<int>(options.backlog));
    const int rc = sys::epoll_watch(epoll_.get(), socket_.get(), EPOLLIN, 0);
    if (rc < 0) throw failure(-rc, "epoll_ctl: %s", std::strerror(-rc));
}

// Replaces a dead listener's leavings; whoever looks sees the old or the new.
void listener::open_name(mode_t mode, int backlog) {
    const int dir = dir_.fd.get();
    const file_lock lock(runtime_->lock_file(dir_));
    if (!remove_dead_segment(dir, name_.segment_dir()))
        throw failure(EADDRINUSE, "%s is the name of a segment", name_.label.c_str());
    const std::string file = name_.socket_file();
    if (is_living_socket(dir, file.c_str()))
        throw failure(EADDRINUSE, "%s has a living listener", name_.label.c_str());

    const std::string draft = "." + file;
    sys::remove_at(dir, draft.c_str());
    int rc = bind_name(socket_.get(), dir, draft.c_str());
    if (rc < 0)
        throw failure(sys::storage_error(rc), "binding %s: %s", file.c_str(), std::strerror(-rc));
    try {
        // Connecting needs the right to write.
        rc = sys::change_mode_at(dir, draft.c_str(), mode);
        if (rc >= 0) rc = sys::status_at(dir, draft.c_str(), socket_file_);
        if (rc >= 0) rc = sys::socket_listen(socket_.get(), backlog);
        if (rc < 0) throw failure(-rc, "listening at %s: %s", file.c_str(), std::strerror(-rc));
        write_listener_file(dir, name_.listener_file(), shape_);
        rc = sys::rename_at(dir, draft.c_str(), dir, file.c_str());
        if (rc < 0) throw failure(-rc, "naming %s: %s", file.c_str(), std::strerror(-rc));
    } catch (...) {
        sys::remove_at(dir, draft.c_str());
        throw;
    }
}

listener::~listener() {
    if (!owner.is_mine() || !dir_.fd) return;
    sys::socket_shutdown(socket_.get());
    refuse_waiting();
    try {
        const file_lock lock(runtime_->lock_file(dir_));
        struct stat now {};
        const std::string file = name_.socket_file();
        // Ours still? A new listener may have taken the place of a closed one.
        if (sys::status_at(dir_.fd.get(), file.c_str(), now) == 0 &&
            now.st_ino == socket_file_.st_ino && now.st_dev == socket_file_.st_dev) {
            sys::remove_at(dir_.fd.get(), file.c_str());
            sys::remove_at(dir_.fd.get(), name_.listener_file().c_str());
        }
    } catch (const std::exception&) {
        // The leavings are stale now, and the next listener removes them.
    }
}

// Closing the socket would do that, but a forked child may have a copy.
void listener::refuse_waiting() {
    for (const owned_fd& socket : silent_) sys::socket_shutdown(socket.get());
    for (;;) {
        const owned_fd socket(sys::socket_accept(socket_.get()));
        if (!socket && socket.get() != -EINTR && socket.get() != -ECONNABORTED) return;
    }
}

// ---- accepting ----

std::unique_ptr<ipcdoor_endpoint> listener::accept(uint64_t deadline_ns) {
    for (bool looked = false;; looked = true) {
        if (std::unique_ptr<ipcdoor_endpoint> accepted = accept_ready()) return accepted;
        if (looked && deadline_ns != IPCDOOR_NO_DEADLINE && sys::now_ns() >= deadline_ns)
            throw failure(ETIMEDOUT, "nobody connected before the deadline");
        pollfd whole{epoll_.get(), POLLIN, 0};
        const int rc = sys::poll_until({&whole, 1}, deadline_ns);
        if (rc == -EINTR) throw failure(EINTR, "a signal handler ran: call again");
        if (rc < 0) throw failure(-rc, "ppoll: %s", std::strerror(-rc));
    }
}

std::unique_ptr<ipcdoor_endpoint> listener::accept_ready() {
    const std::lock_guard lock(mutex_);
    for (auto waiting = silent_.begin(); waiting != silent_.end();) {
        const auto current = waiting++;
        std::list<owned_fd> taken;
        taken.splice(taken.begin(), silent_, current);
        if (auto accepted = welcome(taken.front())) return accepted;
        if (taken.front()) silent_.splice(waiting, taken);
    }
    // Whoever waits now is within a queue's length: those who come and go without end would
    // keep this thread, and the mutex, for good.
    for (int i = 0; i < IPCDOOR_MAX_BACKLOG; ++i) {
        owned_fd socket(sys::socket_accept(socket_.get()));
        if (socket.get() == -EAGAIN) return nullptr;
        if (socket.get() == -EINTR || socket.get() == -ECONNABORTED) continue;
        if (!socket) throw failure(-socket.get(), "accept4: %s", std::strerror(-socket.get()));
        if (auto accepted = welcome(socket)) return accepted;
        if (!socket) continue;
        // Its introduction is on the way.
        if (silent_.size() >= most_silent) silent_.pop_front();
        const int rc = sys::epoll_watch(epoll_.get(), socket.get(), EPOLLIN, 0);
        if (rc < 0) throw failure(-rc, "epoll_ctl: %s", std::strerror(-rc));
        silent_.push_back(std::move(socket));
    }
    return nullptr;
}

// The endpoint of a client that introduced itself; null with `socket` kept
// where it did not yet, null with `socket` closed where it never will.
std::unique_ptr<ipcdoor_endpoint> listener::welcome(owned_fd& socket) {
    introduction client{};
    std::vector<owned_fd> files;
    const int bytes = sys::socket_receive_fds(socket.get(), &client, sizeof(client), files);
    if (bytes == -EAGAIN || bytes == -EINTR) return nullptr;
    sys::epoll_forget(epoll_.get(), socket.get());
    owned_fd connected;
    std::swap(connected, socket);
    if (bytes == -EMFILE) throw failure(EMFILE, "no descriptors left for a client's files");
    if (bytes <= 0) return nullptr;
    try {
        check_introduction(client, bytes, client_seat, shape_);
        const bool with_data = shape_.data_bytes > 0;
        if (files.size() != (with_data ? 2U : 1U))
            throw failure(EPROTO, "the client sent %zu files", files.size());
        auto pages =
            std::make_shared<slot_pages>(open_slot(files[0].get(), shape_, client_seat, true));
        endpoint::plan plan{shape_, server_seat, IPCDOOR_ENDPOINT_CONNECTION, {}, {}};
        if (with_data) {
            check_sealed_data(files[1].get(), shape_.data_bytes);
            plan.data = std::move(files[1]);
        }
        owned_fd file;
        plan.own = make_sealed_slot(shape_, server_seat, file);
        const int connection = connected.get();
        auto peer = std::make_shared<link>(client_seat, std::move(pages), std::move(connected));
        auto server = std::make_unique<endpoint>(std::move(plan));
        server->add_link(std::move(peer), true);

        const introduction answer = introduce(server_seat, shape_);
        const int sent = file.get();
        const int rc = sys::socket_send(connection, &answer, sizeof(answer), {&sent, 1});
        if (rc < 0) return nullptr;  // it left
        return server;
    } catch (const failure& problem) {
        // The client's fault is the client's trouble; ours is the caller's.
        if (problem.error() == EPROTO) return nullptr;
        throw;
    }
}

// ---- connecting ----

namespace {

owned_fd connect_socket(const user_dir& dir, const name& name, std::uint64_t deadline_ns) {
    owned_fd socket(sys::socket_new(true));
    if (!socket) throw failure(-socket.get(), "socket: %s", std::strerror(-socket.get()));
    const int rc =
        connect_name(socket.get(), dir.fd.get(), name.socket_file().c_str(), deadline_ns);
    const char* label = name.label.c_str();
    switch (rc) {
        case 0: break;
        case -EAGAIN: throw failure(ETIMEDOUT, "%s's backlog stayed full", label);
        case -EINTR: throw failure(EINTR, "a signal handler ran: call again");
        case -ENOENT: throw failure(ENOENT, "no such name: %s", label);
        case -ECONNREFUSED: throw failure(ENOENT, "%s's listener is gone", label);
        case -EACCES: throw failure(EACCES, "%s's mode does not let you write to it", label);
        default: throw failure(-rc, "connecting to %s: %s", label, std::strerror(-rc));
    }
    return socket;
}

// The answer to an introduction, and the server's slot in it.
owned_fd await_answer(int socket, int process, const shape& shape, std::uint64_t deadline_ns) {
    pollfd fds[2] = {{socket, POLLIN, 0}, {process, POLLIN, 0}};
    for (;;) {
        const int ready = sys::poll_until(fds, deadline_ns);
        if (ready == -EINTR)
            throw failure(EINTR,
                          "a signal handler ran before the connection "
                          "was accepted: connect again");
        if (ready < 0) throw failure(-ready, "ppoll: %s", std::strerror(-ready));
        introduction server{};
        std::vector<owned_fd> files;
        const int bytes = sys::socket_receive_fds(socket, &server, sizeof(server), files);
        if (bytes == -EAGAIN) {
            if (ready == 0) throw failure(ETIMEDOUT, "not accepted before the deadline");
            if (fds[1].revents == 0) continue;
        }
        if (bytes == -EMFILE) throw failure(EMFILE, "no descriptors left for the server's files");
        if (bytes <= 0)
            throw failure(ECONNREFUSED, "the listener closed without accepting the connection");
        check_introduction(server, bytes, server_seat, shape);
        if (files.size() != 1) throw failure(EPROTO, "the server sent %zu files", files.size());
        return std::move(files[0]);
    }
}

std::unique_ptr<ipcdoor_endpoint> connect_in(const user_dir& dir, const name& name,
                                             std::uint64_t deadline_ns) {
    owned_fd socket = connect_socket(dir, name, deadline_ns);
    const shape shape = read_listener_file(dir, name.listener_file());

    sys::credentials server;
    owned_fd process;
    if (!identify_peer(socket.get(), server, process))
        throw failure(ENOENT, "%s's listener is gone", name.label.c_str());

    endpoint::plan plan{shape, client_seat, IPCDOOR_ENDPOINT_CONNECTION, {}, {}};
    owned_fd file;
    plan.own = make_sealed_slot(shape, client_seat, file);
    if (shape.data_bytes > 0) plan.data = make_data(shape.data_bytes, shape.data_bytes);

    const introduction hello = introduce(client_seat, shape);
    const int files[] = {file.get(), plan.data.get()};
    const int rc = sys::socket_send(socket.get(), &hello, sizeof(hello),
                                    {files, shape.data_bytes > 0 ? 2U : 1U});
    if (rc < 0) throw failure(ECONNREFUSED, "the listener closed");
    const owned_fd answer = await_answer(socket.get(), process.get(), shape, deadline_ns);

    auto pages = std::make_shared<slot_pages>(open_slot(answer.get(), shape, server_seat, true));
    auto peer = std::make_shared<link>(server_seat, std::move(pages), std::move(socket));
    auto client = std::make_unique<endpoint>(std::move(plan));
    client->add_link(std::move(peer), false);
    return client;
}

}  // namespace

std::unique_ptr<ipcdoor_endpoint> connect(const runtime& runtime, const char* text,
                                          std::uint64_t deadline_ns) {
    const name name = name::parse(text);
    try {
        const user_dir dir = runtime.find(name, name.socket_file(), name.segment_dir());
        return connect_in(dir, name, deadline_ns);
    } catch (const failure& problem) {
        // A dead listener's leavings must not hide root's living one.
        if (problem.error() != ENOENT || name.user || sys::effective_uid() == 0) throw;
    }
    const soft::name roots{uid_t{0}, name.label};
    const user_dir dir = runtime.find(roots, roots.socket_file(), roots.segment_dir());
    return connect_in(dir, roots, deadline_ns);
}

}  // namespace ipcdoor::backend::soft
