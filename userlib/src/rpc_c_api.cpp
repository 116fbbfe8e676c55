// SPDX-License-Identifier: MIT
/*
 * The border of ipcdoor_rpc.h: the handles are rpc::server, rpc::client and
 * rpc::pending_raw, and what lies between them is bytes.
 */
#pragma GCC visibility push(default)
#include <ipcdoor_rpc.h>
#pragma GCC visibility pop

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <ipcdoor/detail/fork_mark.hpp>
#include <ipcdoor/rpc.hpp>

#include "border.h"
#include "failure.h"

using namespace ipcdoor::backend;
namespace rpc = ipcdoor::rpc;

struct ipcdoor_rpc_server {
    ipcdoor_rpc_server(ipcdoor::door& at, const char* name, const ipcdoor::mailbox_options& options)
        : served(at, name, options) {}

    const ipcdoor::detail::fork_mark owner;
    rpc::server served;
};

struct ipcdoor_rpc_client {
    ipcdoor_rpc_client(ipcdoor::door& at, const char* name, ipcdoor::deadline until,
                       const rpc::client_options& options)
        : calls(at, name, until, options) {}

    const ipcdoor::detail::fork_mark owner;
    rpc::client calls;
};

struct ipcdoor_rpc_pending {
    explicit ipcdoor_rpc_pending(rpc::pending_raw started) : reply(std::move(started)) {}

    const ipcdoor::detail::fork_mark owner;
    rpc::pending_raw reply;
};

struct ipcdoor_rpc_call {
    const rpc::context& about;
    std::int32_t code = 0;  // of the failure
    std::string text;
    bool failed = false;  // code and text are set
};

namespace {

// What a handler returns for a failure of its own.
constexpr int failed_as_said = 1;

constexpr std::uint64_t most_record_bytes = std::uint64_t{1} << 40;

// A door that stays the caller's.
class borrowed_door {
public:
    explicit borrowed_door(ipcdoor_door* whose) noexcept : door_(whose) {}
    ~borrowed_door() { door_.release(); }
    borrowed_door(const borrowed_door&) = delete;
    borrowed_door& operator=(const borrowed_door&) = delete;
    ipcdoor::door& get() noexcept { return door_; }

private:
    ipcdoor::door door_;
};

// A result while it is made and sent.
class result_buffer {
public:
    result_buffer() = default;
    result_buffer(result_buffer&& other) noexcept
        : buffer_(std::exchange(other.buffer_, ipcdoor_rpc_buffer{})) {}
    ~result_buffer() { ipcdoor_rpc_buffer_free(&buffer_); }

    ipcdoor_rpc_buffer* get() noexcept { return &buffer_; }
    const unsigned char* data() const noexcept { return buffer_.bytes; }
    std::size_t size() const noexcept { return buffer_.size; }

private:
    ipcdoor_rpc_buffer buffer_{};
};

// ---- buffers ----

int put_failed(ipcdoor_rpc_buffer* to, int error, const char* why) noexcept {
    to->error = fail(error, why);
    return to->error;
}

int error_of(const ipcdoor_rpc_buffer* buffer) noexcept {
    return fail(-buffer->error, "a put into this buffer has failed before");
}

int put(ipcdoor_rpc_buffer* to, const void* bytes, std::size_t size) noexcept {
    if (to->error != 0) return error_of(to);
    if (to->room == 0 && to->bytes != nullptr)
        return put_failed(to, EINVAL, "the buffer's bytes are somebody else's: clear it first");
    if (size > to->room - to->size) {
        constexpr std::size_t least = 64;
        if (size > std::numeric_limits<std::size_t>::max() / 4 - to->size)
            return put_failed(to, ENOMEM, "out of memory");
        const std::size_t room = std::max({to->size + size, 2 * to->room, least});
        void* const more = std::realloc(to->bytes, room);
        if (more == nullptr) return put_failed(to, ENOMEM, "out of memory");
        to->bytes = static_cast<unsigned char*>(more);
        to->room = room;
    }
    if (size != 0) std::memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
    return 0;
}

int put_count(ipcdoor_rpc_buffer* to, std::size_t count) noexcept {
    if (count > std::numeric_limits<std::uint32_t>::max()) {
        return to->error != 0
                   ? error_of(to)
                   : put_failed(to, EMSGSIZE, "rpc: more than 2^32 elements in one argument");
    }
    const auto written = static_cast<std::uint32_t>(count);
    return put(to, &written, sizeof written);
}

// Replaces what is in there.
void assign(ipcdoor_rpc_buffer* to, std::span<const std::byte> bytes) {
    ipcdoor_rpc_buffer_clear(to);
    if (put(to, bytes.data(), bytes.size()) < 0) throw std::bad_alloc();
}

// ---- readers ----

int get_failed(ipcdoor_rpc_reader* from, int error, const char* why) noexcept {
    from->error = fail(error, why);
    return from->error;
}

int malformed(ipcdoor_rpc_reader* from) noexcept {
    return get_failed(from, EBADMSG, "rpc: malformed arguments or results");
}

int ends_too_early(ipcdoor_rpc_reader* from) noexcept {
    return get_failed(from, EBADMSG, "rpc: malformed arguments or results: it ends too early");
}

int error_of(const ipcdoor_rpc_reader* reader) noexcept {
    return fail(-reader->error, "a get from these bytes has failed before");
}

const unsigned char* take(ipcdoor_rpc_reader* from, std::size_t bytes) noexcept {
    const unsigned char* const taken = from->bytes;
    from->bytes += bytes;
    from->left -= bytes;
    return taken;
}

int get(ipcdoor_rpc_reader* from, void* into, std::size_t size) noexcept {
    if (from->error != 0) return error_of(from);
    if (size > from->left) return ends_too_early(from);
    if (size != 0) std::memcpy(into, take(from, size), size);
    return 0;
}

int get_count(ipcdoor_rpc_reader* from, std::size_t least_bytes, std::size_t& count) noexcept {
    std::uint32_t read = 0;
    if (const int rc = get(from, &read, sizeof read); rc < 0) return rc;
    if (read > from->left / std::max<std::size_t>(least_bytes, 1)) {
        return get_failed(from, EBADMSG,
                          "rpc: malformed arguments or results: a count is too large");
    }
    count = read;
    return 0;
}

// ---- servers and clients ----

// The result of a C handler, or what it failed with thrown.
result_buffer handled(ipcdoor_rpc_handler handler, void* context, const rpc::context& about,
                      std::span<const std::byte> arguments) {
    ipcdoor_rpc_call call{about, 0, {}, false};
    result_buffer result;
    int rc = handler(context, &call, arguments.data(), arguments.size(), result.get());
    if (rc == 0) rc = result.get()->error;
    if (rc == 0) return result;
    if (rc > 0) throw rpc::failure(call.failed ? call.code : rc, call.text);
    if (rc == INT_MIN) rc = -EIO;
    throw ipcdoor::error(-rc, call.text.empty() ? std::generic_category().message(-rc) : call.text);
}

int failed_there(std::int32_t number, const char* text, ipcdoor_rpc_buffer* result,
                 std::int32_t* code) {
    if (result != nullptr) {
        assign(result, std::as_bytes(std::span(text, std::strlen(text) + 1)));
        --result->size;  // the 0
    }
    if (code != nullptr) *code = number;
    return fail_with_copy(EREMOTEIO, text);
}

// Hands over the result that `get` returns, or the failure that it throws.
template <class Get>
int hand_over(Get get_result, ipcdoor_rpc_buffer* result, std::int32_t* code) {
    try {
        const rpc::raw_result came = get_result();
        if (result != nullptr) assign(result, came.bytes());
        return 0;
    } catch (const rpc::failure& wrong) {
        return failed_there(wrong.code(), wrong.what(), result, code);
    } catch (const ipcdoor::error& wrong) {
        if (wrong.error_number() != EREMOTEIO) throw;
        return failed_there(0, wrong.what(), result, code);
    }
}

struct checked_request {
    explicit checked_request(const ipcdoor_rpc_request* given) {
        const ipcdoor_rpc_request request = read_options(given);
        check_not_null(request.method, "method");
        check_not_null(request.signature, "signature");
        method = request.method;
        signature = request.signature;
        if (request.arguments == nullptr) return;
        if (request.arguments->error != 0)
            throw failure(-request.arguments->error, "%s: a put into its arguments has failed",
                          request.method);
        if (request.arguments->size != 0) check_not_null(request.arguments->bytes, "bytes");
        arguments = std::as_bytes(std::span(request.arguments->bytes, request.arguments->size));
    }

    std::string_view method;
    std::string_view signature;
    std::span<const std::byte> arguments;
};

}  // namespace

extern "C" {

// ---- bytes to send ----

void ipcdoor_rpc_buffer_free(ipcdoor_rpc_buffer* buffer) {
    if (buffer == nullptr) return;
    if (buffer->room != 0) std::free(buffer->bytes);
    *buffer = {};
}

void ipcdoor_rpc_buffer_clear(ipcdoor_rpc_buffer* buffer) {
    if (buffer->room == 0) buffer->bytes = nullptr;
    buffer->size = 0;
    buffer->error = 0;
}

int ipcdoor_rpc_put(ipcdoor_rpc_buffer* to, const void* bytes, size_t size) {
    return put(to, bytes, size);
}

int ipcdoor_rpc_put_bytes(ipcdoor_rpc_buffer* to, const void* bytes, size_t size) {
    const int rc = put_count(to, size);
    return rc < 0 ? rc : put(to, bytes, size);
}

int ipcdoor_rpc_put_text(ipcdoor_rpc_buffer* to, const char* text) {
    if (text == nullptr && to->error == 0) return put_failed(to, EINVAL, "the text is null");
    return ipcdoor_rpc_put_bytes(to, text, text == nullptr ? 0 : std::strlen(text));
}

int ipcdoor_rpc_put_count(ipcdoor_rpc_buffer* to, size_t elements) {
    return put_count(to, elements);
}

int ipcdoor_rpc_put_bool(ipcdoor_rpc_buffer* to, int value) {
    const std::uint8_t byte = value != 0 ? 1 : 0;
    return put(to, &byte, sizeof byte);
}

// ---- bytes that came ----

int ipcdoor_rpc_get(ipcdoor_rpc_reader* from, void* into, size_t size) {
    return get(from, into, size);
}

int ipcdoor_rpc_get_bytes(ipcdoor_rpc_reader* from, const void** bytes, size_t* size) {
    std::size_t count = 0;
    if (const int rc = get_count(from, 1, count); rc < 0) return rc;
    *bytes = take(from, count);
    *size = count;
    return 0;
}

int ipcdoor_rpc_get_text(ipcdoor_rpc_reader* from, char* into, size_t room) {
    std::size_t count = 0;
    if (const int rc = get_count(from, 1, count); rc < 0) return rc;
    const unsigned char* const text = take(from, count);
    if (count >= room)
        return get_failed(from, EMSGSIZE, "rpc: a text is longer than there is room for");
    if (count != 0 && std::memchr(text, 0, count) != nullptr) return malformed(from);
    if (count != 0) std::memcpy(into, text, count);
    into[count] = '\0';
    return 0;
}

int ipcdoor_rpc_get_count(ipcdoor_rpc_reader* from, size_t least_bytes, size_t* elements) {
    std::size_t count = 0;
    const int rc = get_count(from, least_bytes, count);
    if (rc == 0) *elements = count;
    return rc;
}

int ipcdoor_rpc_get_bool(ipcdoor_rpc_reader* from, int* value) {
    std::uint8_t byte = 0;
    if (const int rc = get(from, &byte, sizeof byte); rc < 0) return rc;
    if (byte > 1) return malformed(from);
    *value = byte;
    return 0;
}

int ipcdoor_rpc_finish(ipcdoor_rpc_reader* from) {
    if (from->error != 0) return error_of(from);
    if (from->left == 0) return 0;
    return get_failed(from, EBADMSG, "rpc: malformed arguments or results: something is left over");
}

// ---- servers ----

int ipcdoor_rpc_server_create(ipcdoor_door* door, const ipcdoor_rpc_server_options* given,
                              ipcdoor_rpc_server** server) {
    return guarded([&] {
        check_not_null(door, "door");
        check_not_null(server, "server");
        const ipcdoor_rpc_server_options wanted = read_options(given);
        check_not_null(wanted.name, "name");
        if (wanted.record_bytes > most_record_bytes)
            throw failure(EINVAL, "record_bytes is too large");
        ipcdoor::mailbox_options options;
        if (wanted.record_bytes != 0) options.record_bytes = wanted.record_bytes;
        if (wanted.max_message_bytes != 0)
            options.channel.max_message_bytes = wanted.max_message_bytes;
        options.source = wanted.source;
        if (wanted.mode != 0) options.mode = wanted.mode;
        if (wanted.backlog != 0) options.backlog = wanted.backlog;
        if (wanted.max_clients != 0) options.max_senders = wanted.max_clients;
        borrowed_door at(door);
        *server = std::make_unique<ipcdoor_rpc_server>(at.get(), wanted.name, options).release();
        return 0;
    });
}

void ipcdoor_rpc_server_destroy(ipcdoor_rpc_server* server) { delete server; }

int ipcdoor_rpc_bind(ipcdoor_rpc_server* server, const char* name, const char* signature,
                     ipcdoor_rpc_handler handler, void* context) {
    return guarded([&] {
        check_mine(server);
        check_not_null(name, "name");
        check_not_null(signature, "signature");
        if (handler == nullptr) throw failure(EINVAL, "handler is null");
        server->served.bind_raw(
            name, signature,
            [handler, context](const rpc::context& about, std::span<const std::byte> arguments) {
                return handled(handler, context, about, arguments);
            });
        return 0;
    });
}

int ipcdoor_rpc_serve(ipcdoor_rpc_server* server) {
    return guarded([&] {
        check_mine(server);
        server->served.serve();
        return 0;
    });
}

int ipcdoor_rpc_serve_one(ipcdoor_rpc_server* server, uint64_t deadline_ns) {
    return guarded([&] {
        check_mine(server);
        if (server->served.serve_one(ipcdoor::deadline::at_ns(deadline_ns))) return 0;
        return server->served.stopped() ? fail(ECANCELED, "the server was stopped")
                                        : fail(ETIMEDOUT, "the deadline passed without a call");
    });
}

int ipcdoor_rpc_server_poll(ipcdoor_rpc_server* server) {
    return guarded([&] {
        check_mine(server);
        server->served.poll();
        return server->served.stopped() ? fail(ECANCELED, "the server was stopped") : 0;
    });
}

int ipcdoor_rpc_server_fd(ipcdoor_rpc_server* server) {
    return guarded([&] {
        check_mine(server);
        return server->served.fd();
    });
}

int ipcdoor_rpc_stop(ipcdoor_rpc_server* server) {
    return guarded([&] {
        check_mine(server);
        server->served.stop();
        return 0;
    });
}

// ---- in a handler ----

int ipcdoor_rpc_fail(ipcdoor_rpc_call* call, int32_t code, const char* text) {
    return guarded([&] {
        check_not_null(call, "call");
        call->text = text != nullptr ? text : "";
        call->code = code;
        call->failed = true;
        return failed_as_said;
    });
}

int ipcdoor_rpc_fail_errno(ipcdoor_rpc_call* call, int error, const char* text) {
    return guarded([&] {
        check_not_null(call, "call");
        call->text = text != nullptr ? text : "";
        if (error == 0 || error == INT_MIN) return -EIO;
        return error < 0 ? error : -error;
    });
}

uint64_t ipcdoor_rpc_call_deadline_ns(const ipcdoor_rpc_call* call) {
    return call->about.until().ns();
}

int ipcdoor_rpc_call_cancelled(const ipcdoor_rpc_call* call) {
    return call->about.cancelled() ? 1 : 0;
}

void ipcdoor_rpc_call_peer(const ipcdoor_rpc_call* call, struct ipcdoor_peer_info* info) {
    *info = call->about.caller();
}

// ---- clients ----

int ipcdoor_rpc_connect(ipcdoor_door* door, const ipcdoor_rpc_client_options* given,
                        uint64_t deadline_ns, ipcdoor_rpc_client** client) {
    return guarded([&] {
        check_not_null(door, "door");
        check_not_null(client, "client");
        const ipcdoor_rpc_client_options wanted = read_options(given);
        check_not_null(wanted.name, "name");
        if (wanted.pad != 0) throw failure(EINVAL, "options->pad must be 0");
        rpc::client_options options;
        options.priority = wanted.priority;
        if (wanted.max_message_bytes != 0)
            options.channel.max_message_bytes = wanted.max_message_bytes;
        borrowed_door at(door);
        auto made = std::make_unique<ipcdoor_rpc_client>(
            at.get(), wanted.name, ipcdoor::deadline::at_ns(deadline_ns), options);
        // Whether it is a priority is found out at once.
        static_cast<void>(made->calls.end().max_record_bytes(wanted.priority));
        *client = made.release();
        return 0;
    });
}

void ipcdoor_rpc_client_destroy(ipcdoor_rpc_client* client) { delete client; }

int ipcdoor_rpc_invoke(ipcdoor_rpc_client* client, const ipcdoor_rpc_request* given,
                       uint64_t deadline_ns, ipcdoor_rpc_buffer* result, int32_t* code) {
    return guarded([&] {
        check_mine(client);
        const checked_request request(given);
        return hand_over(
            [&] {
                return client->calls.call_raw(ipcdoor::deadline::at_ns(deadline_ns), request.method,
                                              request.signature, request.arguments);
            },
            result, code);
    });
}

int ipcdoor_rpc_start(ipcdoor_rpc_client* client, const ipcdoor_rpc_request* given,
                      uint64_t deadline_ns, ipcdoor_rpc_pending** pending) {
    return guarded([&] {
        check_mine(client);
        check_not_null(pending, "pending");
        const checked_request request(given);
        *pending =
            std::make_unique<ipcdoor_rpc_pending>(
                client->calls.start_raw(ipcdoor::deadline::at_ns(deadline_ns), request.method,
                                        request.signature, request.arguments))
                .release();
        return 0;
    });
}

int ipcdoor_rpc_ready(const ipcdoor_rpc_pending* pending) {
    return guarded([&] {
        check_mine(pending);
        return pending->reply.ready() ? 1 : 0;
    });
}

int ipcdoor_rpc_get_result(ipcdoor_rpc_pending* pending, uint64_t deadline_ns,
                           ipcdoor_rpc_buffer* result, int32_t* code) {
    return guarded([&] {
        check_mine(pending);
        return hand_over([&] { return pending->reply.get(ipcdoor::deadline::at_ns(deadline_ns)); },
                         result, code);
    });
}

int ipcdoor_rpc_cancel(ipcdoor_rpc_client* client, const ipcdoor_rpc_pending* pending) {
    return guarded([&] {
        check_mine(client);
        check_mine(pending);
        return client->calls.cancel(pending->reply) ? 0 : fail(EAGAIN, "the ring is full");
    });
}

void ipcdoor_rpc_pending_destroy(ipcdoor_rpc_pending* pending) {
    if (pending == nullptr) return;
    // In a forked child the locks in there are the parent's.
    if (!pending->owner.is_mine())
        static_cast<void>(new (std::nothrow) rpc::pending_raw(std::move(pending->reply)));
    delete pending;
}

int ipcdoor_rpc_client_poll(ipcdoor_rpc_client* client) {
    return guarded([&] {
        check_mine(client);
        client->calls.poll();
        return 0;
    });
}

int ipcdoor_rpc_client_fd(ipcdoor_rpc_client* client) {
    return guarded([&] {
        check_mine(client);
        return client->calls.end().fd();
    });
}

}  // extern "C"
