// SPDX-License-Identifier: MIT
#include "soft_member.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "failure.h"
#include "soft_segment_dir.h"

namespace ipcdoor::backend::soft {

namespace {

constexpr std::uint32_t all_rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE | IPCDOOR_RIGHT_SEAL;
// Of newcomers that connected and said nothing, kept before the oldest goes.
constexpr std::size_t most_silent = 64;
// Newcomers that a member which never calls in can leave waiting.
constexpr int backlog = 4096;

owned_fd open_member_file(int segment, const std::string& file) {
    return owned_fd(sys::open_at(segment, file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
}

// A member's pages, in the file that it made itself: the kernel names the
// process at the socket's other end, and the file system the file's owner.
std::shared_ptr<slot_pages> map_member(int fd, const seat& seat, const shape& shape, uid_t uid) {
    struct stat about {};
    if (sys::status(fd, about) < 0 || about.st_uid != uid)
        throw failure(EPROTO, "slot %u's file is not that of its member", seat.slot);
    return std::make_shared<slot_pages>(open_slot(fd, shape, seat, false));
}

// Those who live, as a newcomer finds them, and the places that are left.
struct survey {
    std::vector<std::shared_ptr<link>> links;
    std::array<bool, IPCDOOR_MAX_SLOTS> taken{};
    std::array<std::uint32_t, IPCDOOR_MAX_SLOTS> latest{};  // generations that have files
};

enum class meeting { dead, met, unusable };

meeting meet(int segment, const occupant& who, const shape& shape, survey& found) {
    owned_fd socket(sys::socket_new(true));
    if (!socket) throw failure(-socket.get(), "socket: %s", std::strerror(-socket.get()));
    const int rc = connect_name(socket.get(), segment, who.socket_file().c_str(), 0);
    if (rc == -ECONNREFUSED || rc == -ENOENT) return meeting::dead;
    if (rc == -EAGAIN)
        throw failure(EAGAIN,
                      "slot %u's member has not taken up %d newcomers: it has to call "
                      "ipcdoor_wait(), or end",
                      who.slot, backlog);
    if (rc < 0) return meeting::unusable;
    try {
        sys::credentials peer;
        owned_fd process;
        if (!identify_peer(socket.get(), peer, process)) return meeting::dead;
        const owned_fd file = open_member_file(segment, who.slot_file());
        if (!file) return meeting::unusable;
        seat seat{who.slot, who.generation, 0};
        auto pages = map_member(file.get(), seat, shape, peer.uid);
        seat.rights = pages->head().rights & all_rights;
        found.links.push_back(std::make_shared<link>(seat, std::move(pages), std::move(socket)));
        return meeting::met;
    } catch (const failure& problem) {
        if (problem.error() == EPROTO) return meeting::unusable;
        throw;
    }
}

survey look_around(int segment, const shape& shape) {
    survey found;
    for (const occupant& who : list_occupants(segment)) {
        if (who.slot >= shape.slots) continue;
        found.latest[who.slot] = std::max(found.latest[who.slot], who.generation);
        switch (meet(segment, who, shape, found)) {
            case meeting::dead: remove_occupant(segment, who); break;
            case meeting::met:
            case meeting::unusable: found.taken[who.slot] = true; break;
        }
    }
    return found;
}

std::uint32_t choose_slot(const survey& found, const shape& shape, std::uint32_t wanted) {
    if (wanted != IPCDOOR_ANY_SLOT) {
        if (wanted >= shape.slots)
            throw failure(EINVAL, "slot %u: the segment has slots 0 to %u", wanted,
                          shape.slots - 1);
        if (found.taken[wanted]) throw failure(EBUSY, "slot %u is taken", wanted);
        return wanted;
    }
    const auto* free = std::find(found.taken.begin(), found.taken.begin() + shape.slots, false);
    if (free == found.taken.begin() + shape.slots)
        throw failure(ENOSPC, "all %u slots are taken", shape.slots);
    return static_cast<std::uint32_t>(free - found.taken.begin());
}

slot_pages make_member_slot(const membership& where, const shape& shape, const seat& seat) {
    const int segment = where.segment.get();
    const owned_fd fd(sys::open_at(segment, where.slot_file.c_str(),
                                   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    if (!fd)
        throw failure(sys::storage_error(fd.get()), "making %s: %s", where.slot_file.c_str(),
                      std::strerror(-fd.get()));
    slot_pages pages = make_slot(fd.get(), shape, seat);
    // To read for all whom the directory lets in.
    const int rc = sys::change_mode(fd.get(), 0644);
    if (rc < 0) throw failure(-rc, "fchmod: %s", std::strerror(-rc));
    return pages;
}

owned_fd listen_as_member(const membership& where) {
    const int segment = where.segment.get();
    owned_fd socket(sys::socket_new(false));
    int rc = socket ? bind_name(socket.get(), segment, where.socket_file.c_str()) : socket.get();
    if (rc == 0) rc = sys::change_mode_at(segment, where.socket_file.c_str(), 0666);
    if (rc == 0) rc = sys::socket_listen(socket.get(), backlog);
    if (rc < 0)
        throw failure(sys::storage_error(rc), "listening at %s: %s", where.socket_file.c_str(),
                      std::strerror(-rc));
    return socket;
}

// Under the segment's lock. Takes `where` where it succeeds.
std::unique_ptr<member> take_seat(membership&& where, const shape& shape, const file_lock& lock,
                                  survey found, std::uint32_t wanted, std::uint32_t rights,
                                  owned_fd data) {
    const std::uint32_t slot = choose_slot(found, shape, wanted);
    const occupant self{slot, take_generation(lock, slot, found.latest[slot])};
    const seat seat{slot, self.generation, rights};
    where.slot_file = self.slot_file();
    where.socket_file = self.socket_file();

    endpoint::plan plan{shape, seat, 0, {}, {}};
    if (shape.max_data_bytes > 0) plan.data = std::move(data);
    owned_fd file;
    std::unique_ptr<member> made;
    try {
        plan.own = make_member_slot(where, shape, seat);
        where.listening = listen_as_member(where);
        file = open_member_file(where.segment.get(), where.slot_file);
        if (!file) throw failure(-file.get(), "opening a slot: %s", std::strerror(-file.get()));
        made = std::make_unique<member>(std::move(plan), std::move(where));
    } catch (...) {
        remove_occupant(where.segment.get(), self);
        throw;
    }
    const introduction hello{message_magic, layout_version,   slot, self.generation,
                             rights,        shape.slot_bytes, 0};
    for (std::shared_ptr<link>& peer : found.links) {
        const int sent = file.get();
        const int rc = sys::socket_send(peer->socket.get(), &hello, sizeof(hello), {&sent, 1});
        if (rc == sizeof(hello)) made->add_link(std::move(peer), false);
    }
    return made;
}

}  // namespace

// ---- creating and attaching ----

std::unique_ptr<ipcdoor_endpoint> create_segment(const std::shared_ptr<const runtime>& home,
                                                 const char* text, const shape& shape,
                                                 std::uint32_t mode) {
    std::unique_ptr<member> creator;  // gone, where this fails, after the locks that its end takes
    membership where{home, name::parse(text), {}, {}, {}, {}, {}};
    where.dir = home->own(where.name);
    const int dir = where.dir.fd.get();
    const char* label = where.name.label.c_str();
    const file_lock names(home->lock_file(where.dir));
    if (is_living_socket(dir, where.name.socket_file().c_str()))
        throw failure(EEXIST, "%s is the name of a listener", label);
    const std::string entry = where.name.segment_dir();
    if (!remove_dead_segment(dir, entry))
        throw failure(EEXIST, "%s is the name of a segment with living endpoints", label);

    // Complete before anybody sees it.
    const std::string draft = "." + entry;
    remove_segment_dir(dir, draft);
    int rc = sys::make_dir_at(dir, draft.c_str(), 0700);
    if (rc < 0) throw failure(sys::storage_error(rc), "making %s: %s", label, std::strerror(-rc));
    try {
        where.segment =
            owned_fd(sys::open_at(dir, draft.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        const int segment = where.segment.get();
        if (segment < 0) throw failure(-segment, "making %s: %s", label, std::strerror(-segment));
        make_segment_files(segment, shape, mode);
        owned_fd data = open_data(segment, false);
        const file_lock lock = lock_segment(segment);
        creator = take_seat(std::move(where), shape, lock, {}, 0, all_rights & ~IPCDOOR_RIGHT_SEAL,
                            std::move(data));

        // Whoever has any right has to make files of its own in there.
        mode_t doors = S_ISVTX;
        for (const mode_t group : {0700, 0070, 0007})
            if ((mode & group) != 0) doors |= group;
        rc = sys::change_mode(segment, doors);
        if (rc == 0) rc = sys::rename_at(dir, draft.c_str(), dir, entry.c_str());
        if (rc < 0) throw failure(-rc, "naming %s: %s", entry.c_str(), std::strerror(-rc));
    } catch (...) {
        if (!remove_segment_dir(dir, draft)) remove_segment_files(dir, draft);
        throw;
    }
    return creator;
}

namespace {

// Null where the segment is dead, and has been removed if that is ours to do.
std::unique_ptr<ipcdoor_endpoint> try_attach(const std::shared_ptr<const runtime>& home,
                                             const ipcdoor_attach_options& options,
                                             const name& name) {
    membership where{home, name, {}, {}, {}, {}, {}};
    const std::string entry = name.segment_dir();
    where.dir = home->find(name, entry, name.socket_file());
    const int dir = where.dir.fd.get();
    where.segment = owned_fd(sys::open_at(dir, entry.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const int segment = where.segment.get();
    if (segment == -ENOENT) return nullptr;
    if (segment == -EACCES)
        throw failure(EACCES, "%s's mode does not let you attach", name.label.c_str());
    if (segment < 0) throw failure(-segment, "%s: %s", name.label.c_str(), std::strerror(-segment));

    std::optional<file_lock> lock;
    survey found;
    shape shape;
    try {
        shape = read_segment_file(segment, where.dir.uid);
        lock.emplace(lock_segment(segment));
        found = look_around(segment, shape);
    } catch (const failure& problem) {
        if (problem.error() != ENOENT) throw;  // being removed
        return nullptr;
    }
    if (found.links.empty()) {
        lock.reset();
        if (where.dir.uid == sys::effective_uid()) {
            const file_lock names(home->lock_file(where.dir));
            remove_dead_segment(dir, entry);
        }
        return nullptr;
    }
    owned_fd data = open_data(segment, options.read_only != 0);
    const std::uint32_t rights =
        IPCDOOR_RIGHT_READ | (options.read_only != 0 ? 0 : IPCDOOR_RIGHT_WRITE);
    return take_seat(std::move(where), shape, *lock, std::move(found),
                     options.fixed_slot != 0 ? options.slot : IPCDOOR_ANY_SLOT, rights,
                     std::move(data));
}

}  // namespace

std::unique_ptr<ipcdoor_endpoint> attach_segment(const std::shared_ptr<const runtime>& home,
                                                 const ipcdoor_attach_options& options) {
    const name name = name::parse(options.name);
    // A second time: the name may have passed to somebody else, or be root's.
    for (int attempt = 0; attempt < 2; ++attempt)
        if (auto made = try_attach(home, options, name)) return made;
    throw failure(ENOENT, "%s's endpoints are all dead", name.label.c_str());
}

// ---- being a member ----

member::member(plan made, membership&& where) : endpoint(std::move(made)) {
    watch(where.listening.get(), EPOLLIN, tag(event_kind::join, 0, 0));
    membership_ = std::move(where);
}

member::~member() {
    if (!owner.is_mine()) return;
    // Before its place can be another one's.
    own_control().closed.store(1, std::memory_order_seq_cst);
    sys::socket_shutdown(membership_.listening.get());
    try {
        leave();
    } catch (const std::exception&) {
        // What stays behind is stale now, and the next member removes it.
    }
}

void member::leave() {
    const int dir = membership_.dir.fd.get();
    const int segment = membership_.segment.get();
    // Names first, then the segment: the order of everybody who takes both.
    const bool ours = membership_.dir.uid == sys::effective_uid();
    std::optional<file_lock> names;
    if (ours) names.emplace(membership_.home->lock_file(membership_.dir));
    {
        const file_lock lock = lock_segment(segment);
        sys::remove_at(segment, membership_.socket_file.c_str());
        sys::remove_at(segment, membership_.slot_file.c_str());
    }
    const std::lock_guard lock(mutex_);
    admit_newcomers();
    if (!ours || any_peer_alive_locked()) return;
    // The name may have passed to a new segment since all of us were gone.
    struct stat named {};
    struct stat mine {};
    const std::string entry = membership_.name.segment_dir();
    if (sys::status_at(dir, entry.c_str(), named) == 0 && sys::status(segment, mine) == 0 &&
        named.st_ino == mine.st_ino && named.st_dev == mine.st_dev)
        remove_dead_segment(dir, entry);
}

void member::check_seal(uint32_t add) const {
    if (add != 0)
        throw failure(EOPNOTSUPP,
                      "without the module a named segment cannot be sealed: use a "
                      "connection, or load ipcdoor.ko");
}

bool member::admit_newcomers() noexcept {
    bool any = false;
    try {
        for (auto waiting = silent_.begin(); waiting != silent_.end();) {
            any = admit(*waiting) || any;
            waiting = *waiting ? std::next(waiting) : silent_.erase(waiting);
        }
        // Bounded, as a listener's: the endpoint's mutex is held.
        for (int i = 0; i < backlog; ++i) {
            owned_fd socket(sys::socket_accept(membership_.listening.get()));
            if (socket.get() == -EINTR || socket.get() == -ECONNABORTED) continue;
            if (!socket) break;
            any = admit(socket) || any;
            if (!socket) continue;
            if (silent_.size() >= most_silent) silent_.pop_front();
            watch(socket.get(), EPOLLIN, tag(event_kind::join, 0, 0));
            silent_.push_back(std::move(socket));
        }
    } catch (const std::exception&) {
        // No memory or descriptors: its socket is closed, so the newcomer takes
        // us for dead. There is nobody here to be told.
    }
    return any;
}

// Whether the occupant's file is still there. Who finds a member dead, by a socket that
// nobody listens at, removes it before it takes the slot, and others may hear of the new
// member before they see the old one's connection close. Only the file's user can, and the
// segment's.
bool member::is_entered(const seat& where) const {
    struct stat about {};
    const occupant who{where.slot, where.generation};
    return sys::status_at(membership_.segment.get(), who.slot_file().c_str(), about) == 0;
}

// True if a peer came of it. Leaves `socket` open while it has said nothing.
bool member::admit(owned_fd& socket) {
    introduction newcomer{};
    std::vector<owned_fd> files;
    const int bytes = sys::socket_receive_fds(socket.get(), &newcomer, sizeof(newcomer), files);
    if (bytes == -EAGAIN || bytes == -EINTR) return false;
    owned_fd connected;
    std::swap(connected, socket);
    forget(connected.get());
    if (bytes != sizeof(newcomer) || files.size() != 1) return false;
    try {
        take_up(newcomer, files[0].get(), std::move(connected));
        return true;
    } catch (const failure&) {
        return false;  // not what it says, or gone again
    }
}

void member::take_up(const introduction& newcomer, int file, owned_fd socket) {
    if (newcomer.magic != message_magic || newcomer.version != layout_version ||
        newcomer.slot >= layout().slots || newcomer.slot == own_seat().slot)
        throw failure(EPROTO, "not an introduction");
    std::shared_ptr<link>& place = link_at(newcomer.slot);
    if (place) {
        bury_if_gone(place);
        if (place->alive && is_entered(place->where))
            throw failure(EPROTO, "slot %u is taken", newcomer.slot);
    }
    sys::credentials peer;
    const int rc = sys::socket_credentials(socket.get(), peer);
    if (rc < 0) throw failure(-rc, "SO_PEERCRED: %s", std::strerror(-rc));
    const seat seat{newcomer.slot, newcomer.generation,
                    newcomer.rights & (IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE)};
    auto pages = map_member(file, seat, layout(), peer.uid);
    add_link_locked(std::make_shared<link>(seat, std::move(pages), std::move(socket)), true);
}

}  // namespace ipcdoor::backend::soft
