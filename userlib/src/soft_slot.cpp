// SPDX-License-Identifier: MIT
#include "soft_slot.h"

#include <fcntl.h>
#include <linux/magic.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "failure.h"

namespace ipcdoor::backend::soft {

namespace {

// Real pages now and ENOMEM here, instead of a SIGBUS in a peer later.
void fill(int fd, std::uint64_t bytes) {
    int rc = sys::truncate_file(fd, bytes);
    if (rc == 0 && bytes > 0) rc = sys::allocate_file(fd, 0, bytes);
    if (rc < 0)
        throw failure(sys::storage_error(rc), "no room for %" PRIu64 " bytes of shared memory: %s",
                      bytes, std::strerror(-rc));
}

// A peer's memory file: of the size that we map, and of a kind whose pages
// cannot be taken from under us.
void check_memory_file(int fd, std::uint64_t bytes, int required, int forbidden, const char* what) {
    struct stat about {};
    if (sys::status(fd, about) < 0 || !S_ISREG(about.st_mode))
        throw failure(EPROTO, "the peer's %s is not a file", what);
    if (static_cast<std::uint64_t>(about.st_size) != bytes)
        throw failure(EPROTO, "the peer's %s has %" PRIu64 " bytes, not %" PRIu64, what,
                      static_cast<std::uint64_t>(about.st_size), bytes);
    const int seals = sys::seals(fd);
    if (seals < 0 || (seals & required) != required || (seals & forbidden) != 0)
        throw failure(EPROTO, "the peer's %s has seals %#x: %#x must and %#x must not be set", what,
                      seals < 0 ? 0U : static_cast<unsigned>(seals),
                      static_cast<unsigned>(required), static_cast<unsigned>(forbidden));
    // Files of huge pages carry seals too, but touching them may fail.
    std::uint64_t type = 0;
    if (sys::file_system_type(fd, type) < 0 || type != TMPFS_MAGIC)
        throw failure(EPROTO, "the peer's %s is not ordinary shared memory", what);
    if (static_cast<std::uint64_t>(about.st_blocks) * 512 < bytes)
        throw failure(EPROTO, "the peer's %s has no pages", what);
}

}  // namespace

std::uint64_t shape::control_bytes() const { return soft::control_bytes(slots, sys::page_bytes()); }

void shape::check(int error) const {
    const std::uint64_t page = sys::page_bytes();
    if (slots < 2 || slots > IPCDOOR_MAX_SLOTS)
        throw failure(error, "%u slots: 2 to %u are possible", slots, IPCDOOR_MAX_SLOTS);
    if (slot_bytes == 0 || slot_bytes % page || data_bytes % page || max_data_bytes % page)
        throw failure(error, "slot_bytes and data_bytes must be multiples of %" PRIu64, page);
    if (data_bytes > max_data_bytes)
        throw failure(error, "data_bytes %" PRIu64 " is beyond max_data_bytes %" PRIu64, data_bytes,
                      max_data_bytes);
    // Each is bounded first, so that the sum cannot overflow.
    if (slot_bytes > max_segment_bytes || max_data_bytes > max_segment_bytes ||
        slots * slot_bytes + max_data_bytes > max_segment_bytes)
        throw failure(error, "a segment may have %" PRIu64 " bytes, not more", max_segment_bytes);
}

slot_pages make_slot(int fd, const shape& shape, const seat& seat) {
    fill(fd, shape.slot_file_bytes());
    slot_pages made;
    made.pages = sys::mapping(fd, 0, shape.slot_file_bytes(), sys::access::read_write);
    made.control_bytes = shape.control_bytes();
    // The pages are zeros, which is what every counter starts from.
    control& head = made.own_head();
    head.version = layout_version;
    head.slots = shape.slots;
    head.slot = seat.slot;
    head.generation = seat.generation;
    head.rights = seat.rights;
    head.magic = control_magic;
    return made;
}

slot_pages make_sealed_slot(const shape& shape, const seat& seat, owned_fd& fd) {
    const int made = sys::memory_file("ipcdoor-slot");
    if (made < 0) throw failure(-made, "memfd_create: %s", std::strerror(-made));
    fd = owned_fd(made);
    slot_pages pages = make_slot(fd.get(), shape, seat);
    const int rc =
        sys::add_seals(fd.get(), F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    if (rc < 0)
        throw failure(-rc, "sealing a slot needs Linux 5.1 or later: %s", std::strerror(-rc));
    return pages;
}

slot_pages open_slot(int fd, const shape& shape, const seat& expected, bool sealed) {
    if (sealed) {
        check_memory_file(fd, shape.slot_file_bytes(),
                          F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW, 0, "slot");
    } else {
        struct stat about {};
        if (sys::status(fd, about) < 0 || !S_ISREG(about.st_mode) ||
            static_cast<std::uint64_t>(about.st_size) != shape.slot_file_bytes())
            throw failure(EPROTO, "slot %u's file is not of its segment's size", expected.slot);
    }
    slot_pages seen;
    seen.pages = sys::mapping(fd, 0, shape.slot_file_bytes(), sys::access::read);
    seen.control_bytes = shape.control_bytes();
    const control& head = seen.head();
    if (head.magic != control_magic || head.version != layout_version)
        throw failure(EPROTO, "slot %u speaks another version of libipcdoor", expected.slot);
    if (head.slots != shape.slots || head.slot != expected.slot ||
        head.generation != expected.generation)
        throw failure(EPROTO, "slot %u's file belongs to another slot", expected.slot);
    return seen;
}

owned_fd make_data(std::uint64_t data_bytes, std::uint64_t max_data_bytes) {
    const int made = sys::memory_file("ipcdoor-data");
    if (made < 0) throw failure(-made, "memfd_create: %s", std::strerror(-made));
    owned_fd fd(made);
    fill(fd.get(), data_bytes);
    const int seals = F_SEAL_SHRINK | (data_bytes == max_data_bytes ? F_SEAL_GROW : 0);
    const int rc = sys::add_seals(fd.get(), seals);
    if (rc < 0) throw failure(-rc, "sealing DATA: %s", std::strerror(-rc));
    return fd;
}

void check_sealed_data(int fd, std::uint64_t data_bytes) {
    check_memory_file(fd, data_bytes, F_SEAL_SHRINK | F_SEAL_GROW,
                      F_SEAL_WRITE | F_SEAL_FUTURE_WRITE, "DATA");
}

}  // namespace ipcdoor::backend::soft
