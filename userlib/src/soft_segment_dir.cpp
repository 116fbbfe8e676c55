// SPDX-License-Identifier: MIT
#include "soft_segment_dir.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "failure.h"
#include "soft_link.h"

namespace ipcdoor::backend::soft {

namespace {

owned_fd make_file(int dir, const char* file) {
    owned_fd fd(sys::open_at(dir, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    if (!fd)
        throw failure(sys::storage_error(fd.get()), "making %s: %s", file,
                      std::strerror(-fd.get()));
    return fd;
}

void check(int rc, const char* file) {
    if (rc < 0) throw failure(sys::storage_error(rc), "writing %s: %s", file, std::strerror(-rc));
}

}  // namespace

std::string occupant::slot_file() const {
    return "slot." + std::to_string(slot) + "." + std::to_string(generation);
}

std::vector<occupant> list_occupants(int segment) {
    std::vector<std::string> files;
    const int rc = sys::list_dir(segment, files);
    if (rc < 0) throw failure(-rc, "reading a segment's directory: %s", std::strerror(-rc));
    std::vector<occupant> found;
    for (const std::string& file : files) {
        occupant candidate;
        if (std::sscanf(file.c_str(), "slot.%u.%u", &candidate.slot, &candidate.generation) != 2)
            continue;
        // Written as we write it, and no more digits than that.
        if (file == candidate.socket_file() && candidate.slot < IPCDOOR_MAX_SLOTS)
            found.push_back(candidate);
    }
    return found;
}

void remove_occupant(int segment, const occupant& gone) {
    sys::remove_at(segment, gone.socket_file().c_str());
    sys::remove_at(segment, gone.slot_file().c_str());
}

void make_segment_files(int segment, const shape& shape, mode_t mode) {
    const owned_fd about = make_file(segment, "about");
    const segment_file content{segment_magic, layout_version, shape.slots, shape.slot_bytes,
                               shape.max_data_bytes};
    check(sys::write_at(about.get(), &content, sizeof(content), 0), "about");
    check(sys::change_mode(about.get(), 0444), "about");

    const owned_fd data = make_file(segment, "data");
    if (shape.data_bytes > 0) check(sys::allocate_file(data.get(), 0, shape.data_bytes), "data");
    check(sys::change_mode(data.get(), mode), "data");

    const owned_fd lock = make_file(segment, "lock");
    check(sys::truncate_file(lock.get(), shape.slots * sizeof(std::uint32_t)), "lock");
    check(sys::change_mode(lock.get(), 0666), "lock");
}

void remove_segment_files(int dir, const std::string& entry) {
    for (const char* file : {"about", "data", "lock"})
        sys::remove_at(dir, (entry + "/" + file).c_str());
    sys::remove_dir_at(dir, entry.c_str());
}

shape read_segment_file(int segment, uid_t owner) {
    const owned_fd fd(sys::open_at(segment, "about", O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    if (!fd) throw failure(-fd.get(), "the segment's sizes: %s", std::strerror(-fd.get()));
    struct stat status {};
    segment_file about{};
    if (sys::status(fd.get(), status) < 0 || status.st_uid != owner || !S_ISREG(status.st_mode) ||
        sys::read_at(fd.get(), &about, sizeof(about), 0) != sizeof(about) ||
        about.magic != segment_magic || about.version != layout_version)
        throw failure(EPROTO, "the name is not a segment of this version of libipcdoor");
    const shape found{about.slots, about.slot_bytes, 0, about.max_data_bytes};
    found.check(EPROTO);
    return found;
}

owned_fd open_data(int segment, bool read_only) {
    owned_fd fd(
        sys::open_at(segment, "data", (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK));
    if (fd.get() == -EACCES)
        throw failure(EACCES, "the segment's mode does not let you %s it%s",
                      read_only ? "read" : "write",
                      read_only ? "" : "; with read_only = 1 it may let you in");
    if (!fd) throw failure(-fd.get(), "the segment's data: %s", std::strerror(-fd.get()));
    struct stat about {};
    if (sys::status(fd.get(), about) < 0 || !S_ISREG(about.st_mode))
        throw failure(EPROTO, "the segment's data is not a file");
    return fd;
}

file_lock lock_segment(int segment) {
    owned_fd fd(sys::open_at(segment, "lock", O_RDWR | O_NOFOLLOW | O_NONBLOCK));
    if (!fd) throw failure(-fd.get(), "the segment's lock: %s", std::strerror(-fd.get()));
    return file_lock(std::move(fd));
}

std::uint32_t take_generation(const file_lock& lock, std::uint32_t slot, std::uint32_t at_least) {
    // Any member may write this file: a wrong number in it can only make
    // generations jump, and new pages have to be made under a new name anyway.
    std::uint32_t latest = 0;
    const std::uint64_t offset = slot * sizeof(latest);
    sys::read_at(lock.fd(), &latest, sizeof(latest), offset);
    // The living have odd generations, their deaths the even ones after them.
    const std::uint32_t next = (std::max(latest, at_least) + 1) | 1;
    sys::write_at(lock.fd(), &next, sizeof(next), offset);
    return next;
}

bool remove_segment_dir(int dir, const std::string& entry) {
    const owned_fd segment(sys::open_at(dir, entry.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (!segment) return segment.get() == -ENOENT;
    std::vector<std::string> files;
    if (sys::list_dir(segment.get(), files) < 0) return false;
    for (const std::string& file : files)
        if (file != "." && file != "..") sys::remove_at(segment.get(), file.c_str());
    return sys::remove_dir_at(dir, entry.c_str()) == 0;
}

bool remove_dead_segment(int dir, const std::string& entry) {
    const owned_fd segment(sys::open_at(dir, entry.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (segment.get() == -ENOENT) return true;
    if (!segment)
        throw failure(-segment.get(), "%s: %s", entry.c_str(), std::strerror(-segment.get()));
    // Nobody comes in while we look. A segment without a lock is half removed.
    std::optional<file_lock> lock;
    try {
        lock.emplace(lock_segment(segment.get()));
    } catch (const failure& problem) {
        if (problem.error() != ENOENT) throw;
    }
    for (const occupant& each : list_occupants(segment.get()))
        if (is_living_socket(segment.get(), each.socket_file().c_str())) return false;
    if (!remove_segment_dir(dir, entry))
        throw failure(EACCES, "the dead segment %s resists removal: remove it by hand",
                      entry.c_str());
    return true;
}

}  // namespace ipcdoor::backend::soft
