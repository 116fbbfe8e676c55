// SPDX-License-Identifier: MIT
// What hostile peers of the software back end hold in their hands: slot and data
// files, right and wrong ones, made once and offered again and again, and the words
// of a control area.
#ifndef IPCDOOR_TESTS_FUZZ_SOFT_PROPS_HPP
#define IPCDOOR_TESTS_FUZZ_SOFT_PROPS_HPP

#include <cstdint>
#include <vector>

#include "../userlib/src/soft_layout.h"
#include "../userlib/src/soft_slot.h"
#include "../userlib/src/sys.h"
#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"

namespace ipcdoor::fuzz {

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint32_t all_rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE;

// A sealed slot file as an honest peer makes it, writable for its maker.
struct honest_slot {
    honest_slot(const backend::soft::shape& shape, const backend::soft::seat& seat);
    // As it was when it was made.
    void reset() const;

    const backend::soft::shape shape;
    const backend::soft::seat seat;
    ipcdoor::owned_fd file;
    backend::soft::slot_pages pages;

private:
    std::vector<unsigned char> fresh_;
};

// Descriptors of everything that is not an honest slot or DATA file.
class wrong_files {
public:
    explicit wrong_files(const backend::soft::shape& shape);
    int choose(input& in) const { return files_[in.byte() % files_.size()].get(); }

private:
    void add(int fd) { files_.emplace_back(fd); }
    void add_memory(std::uint64_t bytes, bool with_pages, int seals);

    std::vector<ipcdoor::owned_fd> files_;
};

// A memory file with real pages and seals.
ipcdoor::owned_fd memory_file(std::uint64_t bytes, bool with_pages, int seals);

// An introduction, honest or with words that the input changes.
backend::soft::introduction introduce(input& in, const backend::soft::introduction& honest,
                                      bool& is_honest);

// One hostile word in a control area of `slots` outboxes, of those that are read
// at any time.
void spoil_control(input& in, backend::soft::control& head, std::uint32_t slots);
// The same for the words that tell whose slot it is.
void spoil_header(input& in, backend::soft::control& head);

int lowest_free_descriptor();

// Runs one input's story: the lowest free descriptor is the same before and after, or
// something leaked.
template <typename Story>
void keeps_descriptors(Story story) {
    const int before = lowest_free_descriptor();
    story();
    FUZZ_CHECK(lowest_free_descriptor() == before);
}

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_SOFT_PROPS_HPP
