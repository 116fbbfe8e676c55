// SPDX-License-Identifier: MIT
// The files of a named segment (see soft_member.h): making, listing, removing.
#ifndef IPCDOOR_SRC_SOFT_SEGMENT_DIR_H
#define IPCDOOR_SRC_SOFT_SEGMENT_DIR_H

#include <string>
#include <vector>

#include "soft_runtime.h"
#include "soft_slot.h"

namespace ipcdoor::backend::soft {

// A member that is or was, by its socket's name.
struct occupant {
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;

    std::string slot_file() const;
    std::string socket_file() const { return slot_file() + ".sock"; }
};

std::vector<occupant> list_occupants(int segment);

// Best effort: in a sticky directory, others' files are theirs to remove.
void remove_occupant(int segment, const occupant& gone);

// The files of a new segment in an empty directory.
void make_segment_files(int segment, const shape& shape, mode_t mode);

// Removes them again with their directory, without a descriptor to spare.
void remove_segment_files(int dir, const std::string& entry);

// The sizes of a segment that `owner` made, checked.
shape read_segment_file(int segment, uid_t owner);

// DATA, opened with the caller's rights; EACCES where it has not got them.
owned_fd open_data(int segment, bool read_only);

// The lock of a segment, held; ENOENT where the segment was removed meanwhile.
file_lock lock_segment(int segment);

// The next occupant's generation, under the segment's lock.
std::uint32_t take_generation(const file_lock& lock, std::uint32_t slot, std::uint32_t at_least);

// Removes a directory with its files; false where something resisted.
bool remove_segment_dir(int dir, const std::string& entry);

// For the user's own names, under their lock: removes a segment without living
// members; false where there are some.
bool remove_dead_segment(int dir, const std::string& entry);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_SEGMENT_DIR_H
