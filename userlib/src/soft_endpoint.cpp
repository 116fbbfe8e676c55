// SPDX-License-Identifier: MIT
// Links, memory and what is known of slots; waiting is in soft_wait.cpp.
#include "soft_endpoint.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "failure.h"

namespace ipcdoor::backend::soft {

namespace {

owned_fd opened(int fd, const char* what) {
    if (fd < 0) throw failure(-fd, "%s: %s", what, std::strerror(-fd));
    return owned_fd(fd);
}

// Makes the outbox count for the slot's new occupant. Readers take counts for
// theirs only while `generation` says so.
void reset_outbox(outbox& box, std::uint32_t generation) {
    box.generation.store(0, std::memory_order_seq_cst);
    box.total.store(0, std::memory_order_relaxed);
    for (auto& count : box.count) count.store(0, std::memory_order_relaxed);
    box.generation.store(generation, std::memory_order_release);
}

struct seal_pair {
    std::uint32_t door;
    int file;
};
constexpr seal_pair seal_pairs[] = {
    {IPCDOOR_SEAL_SEAL, F_SEAL_SEAL},
    {IPCDOOR_SEAL_GROW, F_SEAL_GROW},
    {IPCDOOR_SEAL_WRITE, F_SEAL_WRITE},
    {IPCDOOR_SEAL_FUTURE_WRITE, F_SEAL_FUTURE_WRITE},
};

}  // namespace

endpoint::endpoint(plan made)
    : shape_(made.shape),
      seat_(made.seat),
      flags_(made.flags),
      own_(std::make_shared<slot_pages>(std::move(made.own))),
      data_file_(std::move(made.data)),
      kick_(opened(sys::event_counter(), "eventfd")),
      inner_(opened(sys::epoll_new(), "epoll_create1")),
      links_(made.shape.slots) {
    watch(kick_.get(), EPOLLIN, tag(event_kind::kick, 0, 0));
    reset_outbox(own_control().out[seat_.slot], seat_.generation);
    links_[seat_.slot] = std::make_shared<link>(seat_, own_, kick_.get());
}

endpoint::~endpoint() {
    // A child's copy of the handle goes silently: the socket is the parent's too.
    if (!owner.is_mine()) return;
    own_control().closed.store(1, std::memory_order_release);
    for (const auto& peer : links_)
        if (peer && peer->socket) sys::socket_shutdown(peer->socket.get());
}

std::uint64_t endpoint::tag(event_kind kind, std::uint32_t slot, std::uint32_t serial) {
    return std::uint64_t{static_cast<std::uint32_t>(kind)} << 56 | std::uint64_t{slot} << 32 |
           serial;
}

void endpoint::watch(int fd, std::uint32_t events, std::uint64_t event_tag) {
    const int rc = sys::epoll_watch(inner_.get(), fd, events, event_tag);
    if (rc < 0) throw failure(-rc, "epoll_ctl: %s", std::strerror(-rc));
}

// ---- links ----

void endpoint::add_link(std::shared_ptr<link> peer, bool announce) {
    const std::lock_guard lock(mutex_);
    add_link_locked(std::move(peer), announce);
}

void endpoint::add_link_locked(std::shared_ptr<link> peer, bool announce) {
    std::shared_ptr<link>& place = links_[peer->where.slot];
    if (place && place->memory_given) kept_.push_back(place->pages);

    peer->serial = next_serial_++;
    watch(peer->socket.get(), EPOLLIN | EPOLLRDHUP,
          tag(event_kind::socket, peer->where.slot, peer->serial));
    if (peer->process)
        watch(peer->process.get(), EPOLLIN,
              tag(event_kind::process, peer->where.slot, peer->serial));

    if (place) {
        if (place->alive) bury(*place);
        for (unsigned vector = 0; vector < IPCDOOR_VECTORS; ++vector)
            rung_before_[vector] += place->seen[vector];
    }
    reset_outbox(own_control().out[peer->where.slot], peer->where.generation);
    place = std::move(peer);
    if (announce) lifecycle();
    // Whoever came and went in the meantime has rung all the same.
    bury_if_gone(place);
}

void endpoint::lifecycle() {
    pending_ |= 1;
    ++count_[0];
    value_[0] = 0;
    // Whoever sleeps has to look again.
    if (leading_) sys::event_add(kick_.get());
}

void endpoint::bury(link& peer) {
    harvest(peer);
    peer.alive = false;
    sys::epoll_forget(inner_.get(), peer.socket.get());
    if (peer.process) sys::epoll_forget(inner_.get(), peer.process.get());
    lifecycle();
}

void endpoint::bury_if_gone(const std::shared_ptr<link>& peer) {
    if (peer->alive && !peer->peer_lives()) bury(*peer);
}

bool endpoint::any_peer_alive_locked() {
    bool any = false;
    for (const auto& peer : links_) {
        if (!peer || peer->is_self()) continue;
        bury_if_gone(peer);
        any = any || peer->alive;
    }
    return any;
}

void endpoint::check_slot(std::uint32_t slot) const {
    if (slot >= shape_.slots)
        throw failure(EINVAL, "slot %u: the segment has slots 0 to %u", slot, shape_.slots - 1);
}

// The slot's occupant as of now, newcomers included. Takes the mutex.
std::shared_ptr<link> endpoint::find(std::uint32_t slot) {
    check_slot(slot);
    const std::lock_guard lock(mutex_);
    const bool lived = links_[slot] && links_[slot]->alive;
    if (lived) bury_if_gone(links_[slot]);
    const bool died = lived && !links_[slot]->alive;
    const bool came = admit_newcomers();
    if (died || came) settle();
    return links_[slot];
}

// ---- memory ----

void* endpoint::slot_memory(uint32_t slot) {
    const std::shared_ptr<link> peer = find(slot);
    if (!peer) throw failure(ENOTCONN, "nobody was ever attached to slot %u", slot);
    const std::lock_guard lock(mutex_);
    peer->memory_given = true;
    // Replaced between the two locks: then nothing else would keep it.
    if (links_[slot] != peer) kept_.push_back(peer->pages);
    return peer->pages->memory();
}

std::uint64_t endpoint::data_bytes_now() const {
    if (!data_file_) return 0;
    struct stat about {};
    const int rc = sys::status(data_file_.get(), about);
    if (rc < 0) throw failure(-rc, "fstat of DATA: %s", std::strerror(-rc));
    return std::min<std::uint64_t>(static_cast<std::uint64_t>(about.st_size),
                                   shape_.max_data_bytes);
}

void* endpoint::data_memory(size_t* bytes) {
    if (!data_file_) throw failure(ENODATA, "the segment was made without data_bytes");
    const std::lock_guard lock(mutex_);
    const std::uint64_t now = data_bytes_now();
    if (now == 0) throw failure(ENODATA, "the segment has no DATA yet: ipcdoor_grow() gives it");
    // The whole range at once: pages that do not exist yet come into being
    // under the same address when the file grows.
    if (!data_)
        data_ = sys::mapping(data_file_.get(), 0, shape_.max_data_bytes,
                             (seat_.rights & IPCDOOR_RIGHT_WRITE) != 0 ? sys::access::read_write
                                                                       : sys::access::read);
    *bytes = static_cast<size_t>(now);
    return data_.address();
}

void endpoint::grow(uint64_t data_bytes) {
    if ((seat_.rights & IPCDOOR_RIGHT_WRITE) == 0)
        throw failure(EACCES, "growing needs the right to write, which this endpoint has not");
    const std::uint64_t now = data_bytes_now();
    if (data_bytes < now) throw failure(EINVAL, "DATA has %" PRIu64 " bytes; it only grows", now);
    if (data_bytes > shape_.max_data_bytes)
        throw failure(EFBIG, "max_data_bytes is %" PRIu64, shape_.max_data_bytes);
    if (data_bytes == now) return;
    check_grow();
    const int seals = sys::seals(data_file_.get());
    if (seals > 0 && (seals & F_SEAL_GROW) != 0)
        throw failure(EPERM, "DATA was sealed against growing");
    // Grows the file only by what it allocates, and never cuts what another
    // endpoint adds at the same time.
    const int rc = sys::allocate_file(data_file_.get(), now, data_bytes - now);
    if (rc < 0)
        throw failure(sys::storage_error(rc), "growing DATA to %" PRIu64 " bytes: %s", data_bytes,
                      std::strerror(-rc));
    ring_lifecycle_of_peers();
}

void endpoint::check_seal(uint32_t add) const {
    if (add != 0 && (seat_.rights & IPCDOOR_RIGHT_SEAL) == 0)
        throw failure(EPERM, "sealing is the creator's right");
}

uint32_t endpoint::seal(uint32_t add) {
    check_seal(add);
    if (!data_file_) throw failure(ENODATA, "the segment has no DATA to seal");
    int wanted = 0;
    for (const auto& pair : seal_pairs)
        if ((add & pair.door) != 0) wanted |= pair.file;
    if (wanted != 0) {
        const int rc = sys::add_seals(data_file_.get(), wanted);
        if (rc == -EBUSY)
            throw failure(EBUSY, "DATA is mapped writable: seal it before ipcdoor_data_memory()");
        if (rc == -EPERM) throw failure(EPERM, "DATA was sealed against further seals");
        if (rc < 0) throw failure(-rc, "sealing DATA: %s", std::strerror(-rc));
        ring_lifecycle_of_peers();
    }
    const int file_seals = sys::seals(data_file_.get());
    if (file_seals < 0) return 0;  // a named file never has seals
    std::uint32_t all = 0;
    for (const auto& pair : seal_pairs)
        if ((file_seals & pair.file) != 0) all |= pair.door;
    return all;
}

// ---- what is known ----

void endpoint::info(struct ipcdoor_endpoint_info& info) {
    info = {};
    info.slot_bytes = shape_.slot_bytes;
    info.data_bytes = data_bytes_now();
    info.max_data_bytes = shape_.max_data_bytes;
    info.slots = shape_.slots;
    info.slot = seat_.slot;
    info.generation = seat_.generation;
    info.source = IPCDOOR_SOURCE_DIRECT;
    info.rights = seat_.rights;
    info.flags = flags_;
}

void endpoint::peer_info(struct ipcdoor_peer_info& info) {
    const std::shared_ptr<link> peer = find(info.slot);
    struct ipcdoor_peer_info known {};
    known.slot = info.slot;
    if (peer) {
        const std::lock_guard lock(mutex_);
        known.state = peer->alive ? IPCDOOR_SLOT_ALIVE : IPCDOOR_SLOT_DEAD;
        known.generation = peer->where.generation + (peer->alive ? 0 : 1);
        known.pid = peer->peer.pid;
        known.uid = peer->peer.uid;
        known.gid = peer->peer.gid;
        known.rights = peer->where.rights;
    }
    info = known;
}

void endpoint::slot_state(uint32_t slot, struct ipcdoor_slot_state& state) {
    const std::shared_ptr<link> occupant = find(slot);
    state = {};
    if (!occupant) return;
    const std::lock_guard lock(mutex_);
    state.state = occupant->alive ? IPCDOOR_SLOT_ALIVE : IPCDOOR_SLOT_DEAD;
    state.generation = occupant->where.generation + (occupant->alive ? 0 : 1);
    for (const auto& ringer : links_) {
        if (!ringer) continue;
        const outbox& box = ringer->pages->head().out[slot];
        if (box.generation.load(std::memory_order_acquire) != occupant->where.generation) continue;
        for (unsigned vector = 0; vector < IPCDOOR_VECTORS; ++vector)
            state.rung[vector] += box.count[vector].load(std::memory_order_relaxed);
    }
    for (unsigned vector = 0; vector < IPCDOOR_VECTORS; ++vector) {
        if (slot == seat_.slot) state.rung[vector] += rung_before_[vector];
        state.rings += state.rung[vector];
    }
}

void endpoint::bind_eventfd(int, uint64_t) {
    throw failure(EOPNOTSUPP,
                  "the software back end signals no eventfd: use ipcdoor_endpoint_fd()");
}

void endpoint::bind_signal(int signo, uint64_t mask) {
    const std::lock_guard lock(mutex_);
    control& own = own_control();
    own.signal_mask.store(0, std::memory_order_seq_cst);
    if (signo == 0) return;
    own.signal_number.store(static_cast<std::uint32_t>(signo), std::memory_order_relaxed);
    own.signal_thread.store(static_cast<std::uint32_t>(sys::thread_id()),
                            std::memory_order_relaxed);
    own.signal_mask.store(mask, std::memory_order_release);
}

}  // namespace ipcdoor::backend::soft
