// SPDX-License-Identifier: MIT
#include "soft_member.h"

#include <cerrno>

#include "failure.h"

namespace ipcdoor::backend::soft {

std::unique_ptr<ipcdoor_endpoint> create_segment(const std::shared_ptr<const runtime>&,
                                                 const char*, const shape&, std::uint32_t) {
    throw failure(EOPNOTSUPP, "named segments need the module");
}

std::unique_ptr<ipcdoor_endpoint> attach_segment(const std::shared_ptr<const runtime>&,
                                                 const ipcdoor_attach_options&) {
    throw failure(EOPNOTSUPP, "named segments need the module");
}

}  // namespace ipcdoor::backend::soft
