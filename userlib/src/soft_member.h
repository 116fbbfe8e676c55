// SPDX-License-Identifier: MIT
/*
 * Named segments of the software back end: any number of endpoints that find
 * each other in a directory, without a server, and without waiting for anybody.
 *
 *	LABEL.seg/		sticky; only those that the mode lets in
 *	    about		the sizes (segment_file)
 *	    data		DATA, with the segment's mode: the file system decides
 *				who may write it
 *	    lock		flock()ed while members come and go; its content are
 *				the slots' latest generations
 *	    slot.N.G		the pages of slot N in generation G, its member's file
 *	    slot.N.G.sock	where that member listens
 *
 * A newcomer connects to every member's socket, which works while the member
 * does something else, and thereby learns who lives: the kernel refuses for the
 * dead, and names the process of the living. It maps their pages, makes its own
 * files, and introduces itself over the sockets, with its pages' descriptor;
 * each member takes it up when it next waits, rings or asks, even if the
 * newcomer has rung and gone by then. Every pair shares one socket: doorbell, identity
 * and notice of death both ways (soft_link.h).
 *
 * What a dead member leaves behind is removed by the next one; what a dead
 * segment leaves, by the last to close, or the next to use the name.
 */
#ifndef IPCDOOR_SRC_SOFT_MEMBER_H
#define IPCDOOR_SRC_SOFT_MEMBER_H

#include <list>
#include <memory>
#include <string>

#include "soft_endpoint.h"
#include "soft_runtime.h"
#include "soft_slot.h"

namespace ipcdoor::backend::soft {

// How a member came in, and what it needs to get out again.
struct membership {
    std::shared_ptr<const runtime> home;
    soft::name name;
    user_dir dir;      // the user's directory that has the segment
    owned_fd segment;  // LABEL.seg
    owned_fd listening;
    std::string slot_file;
    std::string socket_file;
};

class member : public endpoint {
public:
    // Takes `where` where it succeeds.
    member(plan made, membership&& where);
    ~member() override;

protected:
    bool admit_newcomers() noexcept override;
    void check_seal(uint32_t add) const override;

private:
    bool admit(owned_fd& socket);
    void take_up(const introduction& newcomer, int file, owned_fd socket);
    bool is_entered(const seat& where) const;
    void leave();

    membership membership_;
    std::list<owned_fd> silent_;  // connected, but not introduced yet
};

std::unique_ptr<ipcdoor_endpoint> create_segment(const std::shared_ptr<const runtime>& home,
                                                 const char* name, const shape& shape,
                                                 std::uint32_t mode);

std::unique_ptr<ipcdoor_endpoint> attach_segment(const std::shared_ptr<const runtime>& home,
                                                 const ipcdoor_attach_options& options);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_MEMBER_H
