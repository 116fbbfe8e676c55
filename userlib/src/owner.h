// SPDX-License-Identifier: MIT
/*
 * Tells a handle's maker from its fork()ed children, without a system call: a
 * page that the kernel wipes in children (MADV_WIPEONFORK). The pages are one
 * for each handle because the library keeps no global state.
 */
#ifndef IPCDOOR_SRC_OWNER_H
#define IPCDOOR_SRC_OWNER_H

#include <sys/types.h>

#include <atomic>

#include "sys.h"

namespace ipcdoor::backend {

class owner_mark {
public:
    owner_mark();

    bool is_mine() const noexcept {
        if (word_ == nullptr) return sys::process_id() == maker_;
        return word_->load(std::memory_order_relaxed) != 0;
    }

private:
    sys::mapping page_;
    std::atomic<unsigned>* word_ = nullptr;  // null where the kernel cannot wipe
    pid_t maker_ = 0;
};

}  // namespace ipcdoor::backend

#endif  // IPCDOOR_SRC_OWNER_H
