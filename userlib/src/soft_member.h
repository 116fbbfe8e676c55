// SPDX-License-Identifier: MIT
/*
 * Named segments of the software back end: any number of endpoints that find
 * each other in a directory, without a server and without anybody's help.
 */
#ifndef IPCDOOR_SRC_SOFT_MEMBER_H
#define IPCDOOR_SRC_SOFT_MEMBER_H

#include <memory>

#include "backend.h"
#include "soft_runtime.h"
#include "soft_slot.h"

namespace ipcdoor::backend::soft {

std::unique_ptr<ipcdoor_endpoint> create_segment(const std::shared_ptr<const runtime>& runtime,
                                                 const char* name, const shape& shape,
                                                 std::uint32_t mode);

std::unique_ptr<ipcdoor_endpoint> attach_segment(const std::shared_ptr<const runtime>& runtime,
                                                 const ipcdoor_attach_options& options);

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_MEMBER_H
