// SPDX-License-Identifier: MIT
/*
 * The door of the software back end: endpoints without the module, made of
 * memory files and UNIX sockets. What each file owns: soft_runtime the names,
 * soft_slot the pages, soft_link one peer, soft_endpoint and soft_wait an
 * endpoint, soft_connection and soft_member how endpoints meet.
 */
#include <cerrno>
#include <cstring>

#include "backend.h"
#include "failure.h"
#include "soft_connection.h"
#include "soft_endpoint.h"
#include "soft_member.h"
#include "soft_runtime.h"

namespace ipcdoor::backend {

namespace soft {

namespace {

void check_source(std::uint32_t source, std::uint32_t stamps) {
    if (source != IPCDOOR_SOURCE_AUTO && source != IPCDOOR_SOURCE_DIRECT)
        throw failure(ENODEV,
                      "the software back end has no interrupts, only "
                      "IPCDOOR_SOURCE_DIRECT: load ipcdoor.ko and use local:");
    if (stamps != 0)
        throw failure(EOPNOTSUPP,
                      "the software back end takes no stamps: load ipcdoor.ko and use "
                      "local: or door:/dev/ipcdoor0");
}

// Nobody can attach to it: descriptors name no segments here.
std::unique_ptr<ipcdoor_endpoint> create_anonymous(const shape& shape) {
    const seat creator{0, 1, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE | IPCDOOR_RIGHT_SEAL};
    endpoint::plan plan{shape, creator, 0, {}, {}};
    owned_fd file;
    plan.own = make_sealed_slot(shape, creator, file);
    if (shape.max_data_bytes > 0) plan.data = make_data(shape.data_bytes, shape.max_data_bytes);
    return std::make_unique<endpoint>(std::move(plan));
}

class door : public ipcdoor_door {
public:
    explicit door(const char* path) : runtime_(std::make_shared<const runtime>(path)) {}

    const char* backend() const noexcept override { return "soft"; }

    void info(struct ipcdoor_info& info) override {
        info = {};
        info.abi_version = IPCDOOR_ABI_VERSION;
        info.features = IPCDOOR_FEATURE_SIGNAL | IPCDOOR_FEATURE_GROW | IPCDOOR_FEATURE_LISTEN;
        info.sources = 1U << IPCDOOR_SOURCE_DIRECT;
        info.default_source = IPCDOOR_SOURCE_DIRECT;
        info.page_bytes = static_cast<std::uint32_t>(sys::page_bytes());
        info.max_slots = IPCDOOR_MAX_SLOTS;
        info.max_bytes = max_segment_bytes;
        std::strncpy(info.version, IPCDOOR_LIBRARY_VERSION, sizeof(info.version) - 1);
    }

    std::unique_ptr<ipcdoor_endpoint> create(const ipcdoor_create_options& options) override {
        check_source(options.source, options.stamps);
        const shape shape{options.slots, options.slot_bytes, options.data_bytes,
                          options.max_data_bytes};
        shape.check(EINVAL);
        if (options.name == nullptr) return create_anonymous(shape);
        return create_segment(runtime_, options.name, shape, options.mode);
    }

    std::unique_ptr<ipcdoor_endpoint> attach(const ipcdoor_attach_options& options) override {
        return attach_segment(runtime_, options);
    }

    std::unique_ptr<ipcdoor_endpoint> attach_fd(int, bool) override {
        throw failure(EOPNOTSUPP,
                      "without the module a descriptor names no segment: attach by "
                      "name, or load ipcdoor.ko and use local:");
    }

    std::unique_ptr<ipcdoor_listener> listen(const ipcdoor_listen_options& options) override {
        check_source(options.source, options.stamps);
        return std::make_unique<listener>(runtime_, options);
    }

    std::unique_ptr<ipcdoor_endpoint> connect(const char* name, uint64_t deadline_ns) override {
        return soft::connect(*runtime_, name, deadline_ns);
    }

private:
    const std::shared_ptr<const runtime> runtime_;
};

}  // namespace

}  // namespace soft

std::unique_ptr<ipcdoor_door> open_soft_door(const char* path) {
    return std::make_unique<soft::door>(path);
}

}  // namespace ipcdoor::backend
