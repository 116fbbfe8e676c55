// SPDX-License-Identifier: MIT
#include "owner.h"

#include <sys/mman.h>

#include <new>

namespace ipcdoor::backend {

owner_mark::owner_mark()
    : page_(sys::mapping::anonymous(sys::page_bytes())), maker_(sys::process_id()) {
    if (!sys::wipe_on_fork(page_)) return;
    word_ = new (page_.address()) std::atomic<unsigned>(1);
}

}  // namespace ipcdoor::backend
