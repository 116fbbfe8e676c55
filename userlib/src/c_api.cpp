// SPDX-License-Identifier: MIT
/*
 * The border: every argument that comes from outside is checked here and
 * nowhere behind (but for slots, which only the back end can judge), and every
 * failure from inside becomes a negative errno and a text here.
 */
// What this header declares is all that the shared object shows.
#pragma GCC visibility push(default)
#include <ipcdoor.h>
#pragma GCC visibility pop

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "backend.h"
#include "border.h"
#include "failure.h"
#include "sys.h"

using namespace ipcdoor::backend;

namespace {

// For the calls that hand out memory: null and errno.
template <class Call>
void* guarded_memory(Call&& call) noexcept {
    void* memory = nullptr;
    const int rc = guarded([&] {
        memory = call();
        return 0;
    });
    if (rc < 0) errno = -rc;
    return memory;
}

bool is_label(const char* text) {
    if (*text == '\0' || *text == '.') return false;
    for (; *text != '\0'; ++text) {
        const char c = *text;
        const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!fine) return false;
    }
    return true;
}

void check_name(const char* name) {
    check_not_null(name, "name");
    const char* label = name;
    if (const char* slash = std::strchr(name, '/')) {
        char* end = nullptr;
        const unsigned long long uid = std::strtoull(name, &end, 10);
        if (*name < '0' || *name > '9' || end != slash || uid >= 0xffffffffULL)
            throw failure(EINVAL, "name %.80s: what precedes the slash must be a uid", name);
        label = slash + 1;
    }
    if (!is_label(label) || ::strnlen(name, IPCDOOR_NAME_MAX) >= IPCDOOR_NAME_MAX)
        throw failure(EINVAL,
                      "name %.80s: must be LABEL or UID/LABEL, LABEL of A-Z a-z 0-9 . _ -, not "
                      "starting with a dot, %d characters at most in all",
                      name, IPCDOOR_NAME_MAX - 1);
}

void check_mode(std::uint32_t mode) {
    if ((mode & ~0666U) != 0) throw failure(EINVAL, "mode %o: only 0666 may be set", mode);
}

void check_source(std::uint32_t source) {
    if (source >= IPCDOOR_SOURCE_COUNT)
        throw failure(EINVAL, "source %u: none of IPCDOOR_SOURCE_*", source);
}

void check_flag(std::uint32_t value, const char* what) {
    if (value > 1) throw failure(EINVAL, "%s is %u: must be 0 or 1", what, value);
}

std::uint64_t whole_pages(std::uint64_t bytes, const char* what) {
    const std::uint64_t page = sys::page_bytes();
    if (bytes > ~std::uint64_t{0} - page) throw failure(EINVAL, "%s is too large", what);
    return (bytes + page - 1) / page * page;
}

bool ring_is_valid(std::uint32_t vector) { return vector >= 1 && vector < IPCDOOR_VECTORS; }

int bad_vector() { return fail(EINVAL, "vectors 1 to 63 can be rung; 0 is the kernel's own"); }
int bad_mask() { return fail(EINVAL, "the mask is empty: nothing could end the wait"); }
int bad_handle(const ipcdoor_endpoint* endpoint) {
    return endpoint == nullptr ? fail(EINVAL, "the handle is null")
                               : fail(EPERM,
                                      "the endpoint belongs to the parent process: open "
                                      "one in this process");
}

bool usable(const ipcdoor_endpoint* endpoint) {
    return endpoint != nullptr && endpoint->owner.is_mine();
}

// ---- URIs ----

constexpr const char* local_node = "/dev/ipcdoor0";

// The rest of `uri` after `scheme`, or null.
const char* after(const char* uri, const char* scheme) {
    const std::size_t length = std::strlen(scheme);
    return std::strncmp(uri, scheme, length) == 0 ? uri + length : nullptr;
}

std::unique_ptr<ipcdoor_door> open_local_door() {
    struct stat about {};
    if (sys::status_at(-1, local_node, about) == -ENOENT) return open_soft_door("");
    return open_kernel_door(local_node);
}

std::unique_ptr<ipcdoor_door> open_door(const char* uri) {
    if (uri == nullptr || *uri == '\0') uri = sys::environment("IPCDOOR_URI");
    if (uri == nullptr || *uri == '\0') uri = "local:";
    if (const char* rest = after(uri, "local:")) {
        if (*rest != '\0')
            throw failure(EINVAL, "%.200s: local: takes no path; door:PATH does", uri);
        return open_local_door();
    }
    if (const char* path = after(uri, "door:")) {
        if (*path != '/')
            throw failure(EINVAL, "%.200s: must be door: and a path, as door:/dev/ipcdoor0 is",
                          uri);
        return open_kernel_door(path);
    }
    if (const char* path = after(uri, "soft:")) {
        if (*path != '\0' && *path != '/')
            throw failure(EINVAL, "%.200s: must be soft: or soft: and an absolute path", uri);
        return open_soft_door(path);
    }
    if (std::strchr(uri, ':') == nullptr)
        throw failure(EINVAL, "%.200s: must be SCHEME:, one of local: door: soft:", uri);
    throw failure(EPROTONOSUPPORT, "%.200s: the schemes are local: door: soft:", uri);
}

}  // namespace

extern "C" {

const char* ipcdoor_version(void) { return IPCDOOR_LIBRARY_VERSION; }

const char* ipcdoor_error(void) { return error_text(); }

uint64_t ipcdoor_now_ns(void) { return sys::now_ns(); }

uint64_t ipcdoor_deadline_ns(uint64_t timeout_ns) {
    const std::uint64_t now = sys::now_ns();
    return timeout_ns > IPCDOOR_NO_DEADLINE - now ? IPCDOOR_NO_DEADLINE : now + timeout_ns;
}

// ---- doors ----

int ipcdoor_door_open(const char* uri, ipcdoor_door** door) {
    return guarded([&] {
        check_not_null(door, "door");
        *door = open_door(uri).release();
        return 0;
    });
}

void ipcdoor_door_close(ipcdoor_door* door) { delete door; }

const char* ipcdoor_door_backend(const ipcdoor_door* door) { return door->backend(); }

int ipcdoor_door_info(ipcdoor_door* door, struct ipcdoor_info* info) {
    return guarded([&] {
        check_mine(door);
        check_not_null(info, "info");
        door->info(*info);
        return 0;
    });
}

// ---- endpoints ----

int ipcdoor_create(ipcdoor_door* door, const struct ipcdoor_create_options* given,
                   ipcdoor_endpoint** endpoint) {
    return guarded([&] {
        check_mine(door);
        check_not_null(endpoint, "endpoint");
        ipcdoor_create_options options = read_options(given);
        if (options.name != nullptr) check_name(options.name);
        check_mode(options.mode);
        check_source(options.source);
        check_flag(options.stamps, "stamps");
        options.data_bytes = whole_pages(options.data_bytes, "data_bytes");
        options.max_data_bytes = whole_pages(options.max_data_bytes, "max_data_bytes");
        options.slot_bytes = whole_pages(options.slot_bytes, "slot_bytes");
        if (options.max_data_bytes == 0) options.max_data_bytes = options.data_bytes;
        if (options.slot_bytes == 0) options.slot_bytes = sys::page_bytes();
        if (options.slots == 0) options.slots = 2;
        if (options.mode == 0) options.mode = 0600;
        *endpoint = door->create(options).release();
        return 0;
    });
}

int ipcdoor_attach(ipcdoor_door* door, const struct ipcdoor_attach_options* given,
                   ipcdoor_endpoint** endpoint) {
    return guarded([&] {
        check_mine(door);
        check_not_null(endpoint, "endpoint");
        const ipcdoor_attach_options options = read_options(given);
        check_name(options.name);
        check_flag(options.read_only, "read_only");
        check_flag(options.fixed_slot, "fixed_slot");
        if (options.pad != 0) throw failure(EINVAL, "options->pad must be 0");
        *endpoint = door->attach(options).release();
        return 0;
    });
}

int ipcdoor_attach_fd(ipcdoor_door* door, int fd, uint32_t read_only, ipcdoor_endpoint** endpoint) {
    return guarded([&] {
        check_mine(door);
        check_not_null(endpoint, "endpoint");
        check_flag(read_only, "read_only");
        if (fd < 0) throw failure(EBADF, "descriptor %d", fd);
        *endpoint = door->attach_fd(fd, read_only != 0).release();
        return 0;
    });
}

int ipcdoor_listen(ipcdoor_door* door, const struct ipcdoor_listen_options* given,
                   ipcdoor_listener** listener) {
    return guarded([&] {
        check_mine(door);
        check_not_null(listener, "listener");
        ipcdoor_listen_options options = read_options(given);
        check_name(options.name);
        check_mode(options.mode);
        check_source(options.source);
        check_flag(options.stamps, "stamps");
        if (options.backlog > IPCDOOR_MAX_BACKLOG)
            throw failure(EINVAL, "backlog %u: %d is the limit", options.backlog,
                          IPCDOOR_MAX_BACKLOG);
        options.slot_bytes = whole_pages(options.slot_bytes, "slot_bytes");
        options.data_bytes = whole_pages(options.data_bytes, "data_bytes");
        if (options.slot_bytes == 0) options.slot_bytes = sys::page_bytes();
        if (options.mode == 0) options.mode = 0600;
        if (options.backlog == 0) options.backlog = 128;
        *listener = door->listen(options).release();
        return 0;
    });
}

void ipcdoor_listener_close(ipcdoor_listener* listener) { delete listener; }

int ipcdoor_listener_fd(const ipcdoor_listener* listener) {
    return guarded([&] {
        check_mine(listener);
        return listener->poll_fd();
    });
}

int ipcdoor_accept(ipcdoor_listener* listener, uint64_t deadline_ns, ipcdoor_endpoint** endpoint) {
    return guarded([&] {
        check_mine(listener);
        check_not_null(endpoint, "endpoint");
        *endpoint = listener->accept(deadline_ns).release();
        return 0;
    });
}

int ipcdoor_connect(ipcdoor_door* door, const char* name, uint64_t deadline_ns,
                    ipcdoor_endpoint** endpoint) {
    return guarded([&] {
        check_mine(door);
        check_not_null(endpoint, "endpoint");
        check_name(name);
        *endpoint = door->connect(name, deadline_ns).release();
        return 0;
    });
}

void ipcdoor_endpoint_close(ipcdoor_endpoint* endpoint) { delete endpoint; }

int ipcdoor_endpoint_info(ipcdoor_endpoint* endpoint, struct ipcdoor_endpoint_info* info) {
    return guarded([&] {
        check_mine(endpoint);
        check_not_null(info, "info");
        struct ipcdoor_endpoint_info known {};
        endpoint->info(known);
        *info = known;
        return 0;
    });
}

const char* ipcdoor_endpoint_backend(const ipcdoor_endpoint* endpoint) {
    return endpoint->backend();
}

void* ipcdoor_slot_memory(ipcdoor_endpoint* endpoint, uint32_t slot) {
    return guarded_memory([&] {
        check_mine(endpoint);
        return endpoint->slot_memory(slot);
    });
}

void* ipcdoor_data_memory(ipcdoor_endpoint* endpoint, size_t* bytes) {
    return guarded_memory([&] {
        check_mine(endpoint);
        check_not_null(bytes, "bytes");
        return endpoint->data_memory(bytes);
    });
}

// ---- doorbells ----

int ipcdoor_ring(ipcdoor_endpoint* endpoint, uint32_t slot, uint32_t generation, uint32_t vector,
                 uint64_t value) {
    if (!usable(endpoint)) return bad_handle(endpoint);
    if (!ring_is_valid(vector)) return bad_vector();
    return guarded([&] { return endpoint->ring(slot, generation, vector, value); });
}

int ipcdoor_wait(ipcdoor_endpoint* endpoint, uint64_t mask, uint64_t deadline_ns,
                 struct ipcdoor_event* event) {
    if (!usable(endpoint)) return bad_handle(endpoint);
    if (mask == 0) return bad_mask();
    return guarded([&] { return endpoint->wait(mask, deadline_ns, event); });
}

int ipcdoor_ring_wait(ipcdoor_endpoint* endpoint, uint32_t slot, uint32_t generation,
                      uint32_t vector, uint64_t value, uint64_t mask, uint64_t deadline_ns,
                      struct ipcdoor_event* event) {
    if (!usable(endpoint)) return bad_handle(endpoint);
    if (!ring_is_valid(vector)) return bad_vector();
    if (mask == 0) return bad_mask();
    return guarded([&] {
        return endpoint->ring_wait(slot, generation, vector, value, mask, deadline_ns, event);
    });
}

int ipcdoor_endpoint_fd(ipcdoor_endpoint* endpoint) {
    return guarded([&] {
        check_mine(endpoint);
        return endpoint->poll_fd();
    });
}

int ipcdoor_bind_eventfd(ipcdoor_endpoint* endpoint, int fd, uint64_t mask) {
    return guarded([&] {
        check_mine(endpoint);
        if (fd < -1) throw failure(EBADF, "descriptor %d; -1 unbinds", fd);
        if (fd >= 0 && mask == 0) throw failure(EINVAL, "the mask is empty; fd -1 unbinds");
        endpoint->bind_eventfd(fd, mask);
        return 0;
    });
}

int ipcdoor_bind_signal(ipcdoor_endpoint* endpoint, int signo, uint64_t mask) {
    return guarded([&] {
        check_mine(endpoint);
        if (signo != 0 && !sys::signal_is_usable(signo))
            throw failure(EINVAL, "signal %d cannot be bound; 0 unbinds", signo);
        if (signo != 0 && mask == 0) throw failure(EINVAL, "the mask is empty; 0 unbinds");
        endpoint->bind_signal(signo, mask);
        return 0;
    });
}

int ipcdoor_peer_info(ipcdoor_endpoint* endpoint, struct ipcdoor_peer_info* info) {
    return guarded([&] {
        check_mine(endpoint);
        check_not_null(info, "info");
        struct ipcdoor_peer_info known {};
        known.slot = info->slot;
        endpoint->peer_info(known);
        *info = known;
        return 0;
    });
}

int ipcdoor_slot_state(ipcdoor_endpoint* endpoint, uint32_t slot,
                       struct ipcdoor_slot_state* state) {
    return guarded([&] {
        check_mine(endpoint);
        check_not_null(state, "state");
        struct ipcdoor_slot_state known {};
        endpoint->slot_state(slot, known);
        *state = known;
        return 0;
    });
}

int ipcdoor_seal(ipcdoor_endpoint* endpoint, uint32_t add, uint32_t* seals) {
    return guarded([&] {
        check_mine(endpoint);
        constexpr std::uint32_t all =
            IPCDOOR_SEAL_SEAL | IPCDOOR_SEAL_GROW | IPCDOOR_SEAL_WRITE | IPCDOOR_SEAL_FUTURE_WRITE;
        if ((add & ~all) != 0) throw failure(EINVAL, "seals %#x: none of IPCDOOR_SEAL_*", add);
        const std::uint32_t now = endpoint->seal(add);
        if (seals != nullptr) *seals = now;
        return 0;
    });
}

int ipcdoor_grow(ipcdoor_endpoint* endpoint, uint64_t data_bytes) {
    return guarded([&] {
        check_mine(endpoint);
        endpoint->grow(whole_pages(data_bytes, "data_bytes"));
        return 0;
    });
}

}  // extern "C"
