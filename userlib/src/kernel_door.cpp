// SPDX-License-Identifier: MIT
// A door of ipcdoor.ko: a device node, and the calls that make endpoints.
#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "backend.h"
#include "failure.h"
#include "kernel_endpoint.h"

namespace ipcdoor::backend {

namespace kernel {

namespace {

constexpr std::uint32_t callers_own = ~std::uint32_t{0};

void put_name(char (&to)[IPCDOOR_NAME_MAX], const char* name) {
    if (name != nullptr) std::memcpy(to, name, std::strlen(name) + 1);
}

class door : public ipcdoor_door {
public:
    explicit door(const char* path) : fd_(sys::open_at(AT_FDCWD, path, O_RDWR)) {
        switch (-fd_.get()) {
            case ENOENT:
            case ENXIO:
            case ENODEV:
                throw failure(ENODEV,
                              "%s is missing: load the module with insmod ipcdoor.ko, or "
                              "use soft:",
                              path);
            case EACCES:
            case EPERM:
                throw failure(-fd_.get(),
                              "%s may not be opened by this user: the module's "
                              "parameters set the node's mode and group",
                              path);
            default: break;
        }
        if (!fd_) throw failure(-fd_.get(), "%s: %s", path, std::strerror(-fd_.get()));
        struct ipcdoor_info about {};
        const int rc = sys::device_control(fd_.get(), IPCDOOR_IOC_GET_INFO, &about);
        if (rc == -ENOTTY || rc == -EINVAL)
            throw failure(ENODEV, "%s is no door of ipcdoor.ko", path);
        if (rc < 0) throw failure(-rc, "asking %s what it is: %s", path, std::strerror(-rc));
        if (about.abi_version != IPCDOOR_ABI_VERSION)
            throw failure(EPROTONOSUPPORT,
                          "%s speaks ABI version %u, this library %u: update the older one", path,
                          about.abi_version, IPCDOOR_ABI_VERSION);
    }

    const char* backend() const noexcept override { return "kernel"; }

    void info(struct ipcdoor_info& info) override {
        info = {};
        const int rc = sys::device_control(fd_.get(), IPCDOOR_IOC_GET_INFO, &info);
        if (rc < 0) throw_error(-rc, "asking the door");
    }

    std::unique_ptr<ipcdoor_endpoint> create(const ipcdoor_create_options& options) override {
        struct ipcdoor_create create {};
        create.data_bytes = options.data_bytes;
        create.max_data_bytes = options.max_data_bytes;
        create.slot_bytes = options.slot_bytes;
        create.slots = options.slots;
        create.source = options.source;
        create.flags = options.stamps != 0 ? IPCDOOR_CREATE_STAMPS : 0;
        create.mode = options.mode;
        create.uid = callers_own;
        create.gid = callers_own;
        put_name(create.name, options.name);
        return make(IPCDOOR_IOC_CREATE, create, "creating a segment");
    }

    std::unique_ptr<ipcdoor_endpoint> attach(const ipcdoor_attach_options& options) override {
        struct ipcdoor_attach attach {};
        put_name(attach.name, options.name);
        attach.fd = -1;
        attach.rights = rights(options.read_only != 0);
        attach.slot = options.fixed_slot != 0 ? options.slot : IPCDOOR_ANY_SLOT;
        return make(IPCDOOR_IOC_ATTACH, attach, "attaching");
    }

    std::unique_ptr<ipcdoor_endpoint> attach_fd(int fd, bool read_only) override {
        struct ipcdoor_attach attach {};
        attach.fd = fd;
        attach.rights = rights(read_only);
        attach.slot = IPCDOOR_ANY_SLOT;
        return make(IPCDOOR_IOC_ATTACH, attach, "attaching by descriptor");
    }

    std::unique_ptr<ipcdoor_listener> listen(const ipcdoor_listen_options& options) override {
        struct ipcdoor_listen listen {};
        put_name(listen.name, options.name);
        listen.slot_bytes = options.slot_bytes;
        listen.data_bytes = options.data_bytes;
        listen.source = options.source;
        listen.flags = options.stamps != 0 ? IPCDOOR_LISTEN_STAMPS : 0;
        listen.mode = options.mode;
        listen.uid = callers_own;
        listen.gid = callers_own;
        listen.backlog = options.backlog;
        owned_fd fd(sys::device_control(fd_.get(), IPCDOOR_IOC_LISTEN, &listen));
        // To a listener the name is an address.
        if (fd.get() == -EEXIST) throw_error(EADDRINUSE, options.name);
        if (!fd) throw_error(-fd.get(), "listening");
        return std::make_unique<listener>(std::move(fd));
    }

    std::unique_ptr<ipcdoor_endpoint> connect(const char* name, uint64_t deadline_ns) override {
        struct ipcdoor_connect connect {};
        put_name(connect.name, name);
        connect.deadline_ns = deadline_ns;
        std::unique_ptr<endpoint> made = make(IPCDOOR_IOC_CONNECT, connect, "connecting");
        made->await_acceptance(deadline_ns);
        return made;
    }

private:
    static std::uint32_t rights(bool read_only) {
        return IPCDOOR_RIGHT_READ | (read_only ? 0 : IPCDOOR_RIGHT_WRITE);
    }

    template <class Request>
    std::unique_ptr<endpoint> make(unsigned long number, Request& request, const char* what) {
        owned_fd fd(sys::device_control(fd_.get(), number, &request));
        if (!fd) throw_error(-fd.get(), what);
        return std::make_unique<endpoint>(std::move(fd), request.info);
    }

    const owned_fd fd_;
};

}  // namespace

}  // namespace kernel

std::unique_ptr<ipcdoor_door> open_kernel_door(const char* path) {
    return std::make_unique<kernel::door>(path);
}

}  // namespace ipcdoor::backend
