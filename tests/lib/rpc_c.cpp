// SPDX-License-Identifier: MIT
// The C interface of remote calls: C to C, C to C++ and back, errors, deadlines, bytes that
// nobody should trust.
#include <poll.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <ipcdoor_rpc.h>

#include <ipcdoor/rpc.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

struct buffer : ipcdoor_rpc_buffer {
    buffer() : ipcdoor_rpc_buffer{} {}
    buffer(const buffer&) = delete;
    buffer& operator=(const buffer&) = delete;
    ~buffer() { ipcdoor_rpc_buffer_free(this); }

    std::string_view text() const { return {reinterpret_cast<const char*>(bytes), size}; }
    ipcdoor_rpc_reader reader() const { return ipcdoor_rpc_reader_of(bytes, size); }
};

template <class Handle, void (*Destroy)(Handle*)>
struct destroyer {
    void operator()(Handle* handle) const { Destroy(handle); }
};
using client_handle =
    std::unique_ptr<ipcdoor_rpc_client, destroyer<ipcdoor_rpc_client, ipcdoor_rpc_client_destroy>>;
using pending_handle = std::unique_ptr<ipcdoor_rpc_pending,
                                       destroyer<ipcdoor_rpc_pending, ipcdoor_rpc_pending_destroy>>;

std::uint64_t soon_ns() { return deadline(soon).ns(); }

// ---- handlers, as C has them ----

int add(void*, ipcdoor_rpc_call*, const void* arguments, std::size_t bytes,
        ipcdoor_rpc_buffer* result) {
    ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of(arguments, bytes);
    std::int32_t a = 0;
    std::int32_t b = 0;
    ipcdoor_rpc_get_i32(&from, &a);
    ipcdoor_rpc_get_i32(&from, &b);
    if (const int rc = ipcdoor_rpc_finish(&from); rc < 0) return rc;
    return ipcdoor_rpc_put_i32(result, a + b);
}

int same(void*, ipcdoor_rpc_call*, const void* arguments, std::size_t bytes,
         ipcdoor_rpc_buffer* result) {
    if (reinterpret_cast<std::uintptr_t>(arguments) % 8 != 0) return -EFAULT;
    return ipcdoor_rpc_put(result, arguments, bytes);
}

// What its argument says.
int fail(void*, ipcdoor_rpc_call* call, const void* arguments, std::size_t bytes,
         ipcdoor_rpc_buffer* result) {
    ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of(arguments, bytes);
    char how[32] = "";
    if (const int rc = ipcdoor_rpc_get_text(&from, how, sizeof how); rc < 0) return rc;
    const std::string_view wanted = how;
    if (wanted == "failure") return ipcdoor_rpc_fail(call, 42, "as you wish");
    if (wanted == "negative") return ipcdoor_rpc_fail(call, -7, nullptr);
    if (wanted == "positive") return 9;
    if (wanted == "errno") return -EACCES;
    if (wanted == "text") return ipcdoor_rpc_fail_errno(call, EACCES, "not for you");
    if (wanted == "remote") return -EREMOTEIO;
    if (wanted == "least") return std::numeric_limits<int>::min();
    if (wanted == "put") ipcdoor_rpc_put_text(result, nullptr);
    if (wanted == "long") return ipcdoor_rpc_fail(call, 1, std::string(10'000, 'x').c_str());
    return 0;
}

struct gate_context {
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
};

int until_cancelled(void* context, ipcdoor_rpc_call* call, const void*, std::size_t,
                    ipcdoor_rpc_buffer* result) {
    auto& here = *static_cast<gate_context*>(context);
    ++here.begun;
    while (ipcdoor_rpc_call_cancelled(call) == 0) std::this_thread::sleep_for(1ms);
    ++here.ended;
    return ipcdoor_rpc_put_u64(result, ipcdoor_rpc_call_deadline_ns(call));
}

int who(void*, ipcdoor_rpc_call* call, const void*, std::size_t, ipcdoor_rpc_buffer* result) {
    struct ipcdoor_peer_info peer {};
    ipcdoor_rpc_call_peer(call, &peer);
    return ipcdoor_rpc_put_i32(result, peer.pid);
}

int stop_it(void* context, ipcdoor_rpc_call*, const void*, std::size_t, ipcdoor_rpc_buffer*) {
    return ipcdoor_rpc_stop(*static_cast<ipcdoor_rpc_server**>(context));
}

// A C server, served by `threads`.
struct c_office {
    explicit c_office(unsigned workers = 1, std::uint64_t max_message_bytes = 0)
        : name(unique_name()), at(test_door()) {
        ipcdoor_rpc_server_options options{};
        options.max_message_bytes = max_message_bytes;
        options.size = sizeof options;
        options.name = name.c_str();
        options.source = source();
        REQUIRE(ipcdoor_rpc_server_create(at.get(), &options, &server) == 0);
        REQUIRE(ipcdoor_rpc_bind(server, "add", "i32,i32->i32", add, nullptr) == 0);
        REQUIRE(ipcdoor_rpc_bind(server, "same", "str->str", same, nullptr) == 0);
        REQUIRE(ipcdoor_rpc_bind(server, "fail", "str->void", fail, nullptr) == 0);
        REQUIRE(ipcdoor_rpc_bind(server, "wait", "->u64", until_cancelled, &waiting) == 0);
        REQUIRE(ipcdoor_rpc_bind(server, "who", "->i32", who, nullptr) == 0);
        threads = workers;
    }
    ~c_office() {
        ipcdoor_rpc_stop(server);
        for (auto& thread : pool) thread.join();
        ipcdoor_rpc_server_destroy(server);
    }
    void open() {
        for (unsigned i = 0; i < threads; ++i)
            pool.emplace_back([this] { CHECK_IN_THREAD(ipcdoor_rpc_serve(server) == 0); });
    }

    std::string name;
    door at;
    ipcdoor_rpc_server* server = nullptr;
    gate_context waiting;
    unsigned threads;
    std::vector<std::thread> pool;
};

client_handle connect(door& at, const std::string& name, std::uint64_t max_message_bytes = 0) {
    ipcdoor_rpc_client_options options{};
    options.max_message_bytes = max_message_bytes;
    options.size = sizeof options;
    options.name = name.c_str();
    ipcdoor_rpc_client* client = nullptr;
    REQUIRE(ipcdoor_rpc_connect(at.get(), &options, soon_ns(), &client) == 0);
    return client_handle(client);
}

ipcdoor_rpc_request request(const char* method, const char* signature,
                            const ipcdoor_rpc_buffer* arguments = nullptr) {
    return {sizeof(ipcdoor_rpc_request), method, signature, arguments};
}

int invoke(const client_handle& client, const ipcdoor_rpc_request& what,
           ipcdoor_rpc_buffer* result = nullptr, std::int32_t* code = nullptr) {
    return ipcdoor_rpc_invoke(client.get(), &what, soon_ns(), result, code);
}

int fail_like(const client_handle& client, const char* how, buffer& result,
              std::int32_t* code = nullptr) {
    buffer arguments;
    ipcdoor_rpc_put_text(&arguments, how);
    return invoke(client, request("fail", "str->void", &arguments), &result, code);
}

bool error_says(std::string_view what) {
    return std::string_view(ipcdoor_error()).find(what) != std::string_view::npos;
}

}  // namespace

TEST_CASE("C calls C", "[rpc][c]") {
    c_office calc;
    calc.open();
    const client_handle client = connect(calc.at, calc.name);
    buffer arguments;
    buffer result;
    ipcdoor_rpc_put_i32(&arguments, 2);
    REQUIRE(ipcdoor_rpc_put_i32(&arguments, -3) == 0);
    REQUIRE(invoke(client, request("add", "i32,i32->i32", &arguments), &result) == 0);
    std::int32_t sum = 0;
    ipcdoor_rpc_reader from = result.reader();
    CHECK(ipcdoor_rpc_get_i32(&from, &sum) == 0);
    CHECK(ipcdoor_rpc_finish(&from) == 0);
    CHECK(sum == -1);
    // Results that nobody wants; arguments that lie elsewhere; more than a record; nothing.
    CHECK(invoke(client, request("add", "i32,i32->i32", &arguments)) == 0);
    std::string text = pattern(5, 200'000);
    ipcdoor_rpc_buffer elsewhere{};
    elsewhere.bytes = reinterpret_cast<unsigned char*>(text.data());
    elsewhere.size = text.size();
    REQUIRE(invoke(client, request("same", "str->str", &elsewhere), &result) == 0);
    CHECK(result.text() == text);
    CHECK(ipcdoor_rpc_put_u8(&elsewhere, 1) == -EINVAL);
    REQUIRE(invoke(client, request("same", "str->str"), &result) == 0);
    CHECK(result.size == 0);
    // The same buffer both ways.
    REQUIRE(invoke(client, request("add", "i32,i32->i32", &arguments), &arguments) == 0);
    CHECK(arguments.size == 4);
}

TEST_CASE("C calls C++, in its types", "[rpc][c]") {
    const std::string name = unique_name();
    door at = test_door();
    mailbox_options options;
    options.source = source();
    rpc::server served(at, name, options);
    served.bind("add", [](int a, int b) { return a + b; });
    served.bind(
        "all", [](bool yes, std::uint8_t small, double real, const std::string& text,
                  const std::vector<std::byte>& bytes, const std::map<std::uint16_t, float>& prices,
                  const std::optional<std::int64_t>& maybe) {
            const bool right = yes && small == 200 && real == 0.25 && text == "tea" &&
                               bytes.size() == 2 && prices.at(7) == 1.5f && maybe == -1;
            return std::tuple(right, std::string("fine"), std::vector<std::uint16_t>{1, 2, 3});
        });
    served.bind("fail", [] { throw rpc::failure(77, "of C++"); });
    served.bind("throw", [] { throw std::runtime_error("uncaught"); });
    std::thread serving([&] { served.serve(); });
    const client_handle client = connect(at, name);
    buffer arguments;
    buffer result;
    ipcdoor_rpc_put_i32(&arguments, 2);
    ipcdoor_rpc_put_i32(&arguments, 3);
    CHECK(invoke(client, request("add", "i32,i32->i32", &arguments), &result) == 0);
    std::int32_t sum = 0;
    ipcdoor_rpc_reader from = result.reader();
    ipcdoor_rpc_get_i32(&from, &sum);
    CHECK(ipcdoor_rpc_finish(&from) == 0);
    CHECK(sum == 5);

    ipcdoor_rpc_buffer_clear(&arguments);
    ipcdoor_rpc_put_bool(&arguments, 4);
    ipcdoor_rpc_put_u8(&arguments, 200);
    ipcdoor_rpc_put_f64(&arguments, 0.25);
    ipcdoor_rpc_put_text(&arguments, "tea");
    ipcdoor_rpc_put_bytes(&arguments, "ab", 2);
    ipcdoor_rpc_put_count(&arguments, 1);
    ipcdoor_rpc_put_u16(&arguments, 7);
    ipcdoor_rpc_put_f32(&arguments, 1.5f);
    ipcdoor_rpc_put_u8(&arguments, 1);
    ipcdoor_rpc_put_i64(&arguments, -1);
    CHECK(
        invoke(client,
               request("all", "bool,u8,f64,str,vec<u8>,map<u16,f32>,opt<i64>->{bool,str,vec<u16>}",
                       &arguments),
               &result) == 0);
    from = result.reader();
    int right = 0;
    char text[16] = "";
    std::size_t count = 0;
    ipcdoor_rpc_get_bool(&from, &right);
    ipcdoor_rpc_get_text(&from, text, sizeof text);
    ipcdoor_rpc_get_count(&from, 2, &count);
    std::uint16_t numbers[3] = {};
    CHECK(ipcdoor_rpc_get(&from, numbers, sizeof numbers) == 0);
    CHECK(ipcdoor_rpc_finish(&from) == 0);
    CHECK(right == 1);
    CHECK(text == "fine"sv);
    CHECK(count == 3);
    CHECK(numbers[2] == 3);

    std::int32_t code = 0;
    CHECK(invoke(client, request("fail", "->void"), &result, &code) == -EREMOTEIO);
    CHECK(code == 77);
    CHECK(result.text() == "of C++");
    CHECK(invoke(client, request("throw", "->void"), &result, &code) == -EREMOTEIO);
    CHECK(code == rpc::failure::uncaught);
    CHECK(invoke(client, request("add", "i32->i32", &arguments), &result) == -EINVAL);
    CHECK(error_says("i32,i32->i32"));
    CHECK(error_says("called as i32->i32"));
    CHECK(invoke(client, request("add", "i32,i32->i32", &arguments), &result) == -EBADMSG);
    CHECK(invoke(client, request("none", "->void"), &result) == -ENOSYS);
    CHECK(result.text() == "uncaught");  // left alone
    served.stop();
    serving.join();
}

TEST_CASE("C++ calls C", "[rpc][c]") {
    c_office calc;
    calc.open();
    rpc::client client(calc.at, calc.name, soon);
    CHECK(client.call<int>("add", 2, 3) == 5);
    CHECK(client.call<std::string>("same", "text"sv) == "text");
    CHECK(error_of([&] { client.call<int>("add", 2); }) == EINVAL);
    CHECK(error_of([&] { client.call<void>("fail", "text"sv); }) == EACCES);
    try {
        client.call<void>("fail", "failure"sv);
        FAIL("it did not");
    } catch (const rpc::failure& wrong) {
        CHECK(wrong.code() == 42);
        CHECK(wrong.what() == "as you wish"sv);
    }
    CHECK(client.call<std::int32_t>("who") == ::getpid());
}

TEST_CASE("how a C handler fails is how its caller learns of it", "[rpc][c]") {
    c_office calc;
    calc.open();
    const client_handle client = connect(calc.at, calc.name);
    buffer result;
    std::int32_t code = 0;
    CHECK(fail_like(client, "failure", result, &code) == -EREMOTEIO);
    CHECK(code == 42);
    CHECK(result.text() == "as you wish");
    CHECK(result.bytes[result.size] == 0);
    CHECK(ipcdoor_error() == "as you wish"sv);
    CHECK(fail_like(client, "negative", result, &code) == -EREMOTEIO);
    CHECK(code == -7);
    CHECK(result.size == 0);
    CHECK(fail_like(client, "positive", result, &code) == -EREMOTEIO);
    CHECK(code == 9);
    CHECK(fail_like(client, "long", result) == -EREMOTEIO);
    CHECK(result.text() == std::string(10'000, 'x'));
    CHECK(fail_like(client, "errno", result) == -EACCES);
    CHECK(error_says("fail: "));
    CHECK(fail_like(client, "text", result) == -EACCES);
    CHECK(error_says("not for you"));
    CHECK(fail_like(client, "remote", result, &code) == -EREMOTEIO);
    CHECK(code == 0);
    CHECK(fail_like(client, "least", result) == -EIO);
    CHECK(fail_like(client, "put", result) == -EINVAL);
    CHECK(fail_like(client, "", result) == 0);
    CHECK(fail_like(client, "longer than there is room for in there", result) == -EMSGSIZE);
}

TEST_CASE("started calls, deadlines and cancelling in C", "[rpc][c]") {
    c_office calc(3);
    calc.open();
    const client_handle client = connect(calc.at, calc.name);
    const std::uint64_t until = soon_ns();
    const auto start = [&](const ipcdoor_rpc_request& what) {
        ipcdoor_rpc_pending* pending = nullptr;
        REQUIRE(ipcdoor_rpc_start(client.get(), &what, until, &pending) == 0);
        return pending_handle(pending);
    };
    const pending_handle waiting = start(request("wait", "->u64"));
    while (calc.waiting.begun == 0) std::this_thread::sleep_for(1ms);
    CHECK(ipcdoor_rpc_ready(waiting.get()) == 0);
    buffer result;
    CHECK(ipcdoor_rpc_get_result(waiting.get(), 0, &result, nullptr) == -ETIMEDOUT);
    CHECK(ipcdoor_rpc_get_result(waiting.get(), ipcdoor_deadline_ns(2'000'000), &result, nullptr) ==
          -ETIMEDOUT);
    CHECK(ipcdoor_rpc_cancel(client.get(), waiting.get()) == 0);
    REQUIRE(ipcdoor_rpc_get_result(waiting.get(), soon_ns(), &result, nullptr) == 0);
    ipcdoor_rpc_reader from = result.reader();
    std::uint64_t told = 0;
    CHECK(ipcdoor_rpc_get_u64(&from, &told) == 0);
    CHECK(told == until);
    CHECK(ipcdoor_rpc_ready(waiting.get()) == 1);
    CHECK(ipcdoor_rpc_get_result(waiting.get(), soon_ns(), &result, nullptr) == -EINVAL);

    // A deadline that passes while the handler runs; and one that has passed before.
    const ipcdoor_rpc_request wait = request("wait", "->u64");
    // (Where this thread is late, the handler's result is there first.)
    const int rc =
        ipcdoor_rpc_invoke(client.get(), &wait, ipcdoor_deadline_ns(20'000'000), &result, nullptr);
    CHECK((rc == 0 || rc == -ETIMEDOUT));
    CHECK(ipcdoor_rpc_invoke(client.get(), &wait, 0, &result, nullptr) == -ETIMEDOUT);
    ipcdoor_rpc_pending_destroy(nullptr);

    // An event loop.
    buffer arguments;
    ipcdoor_rpc_put_bytes(&arguments, "x", 1);
    const pending_handle polled = start(request("same", "str->str", &arguments));
    pollfd ready{ipcdoor_rpc_client_fd(client.get()), POLLIN, 0};
    for (;;) {
        CHECK(ipcdoor_rpc_client_poll(client.get()) == 0);
        if (ipcdoor_rpc_ready(polled.get()) != 0) break;
        REQUIRE(::poll(&ready, 1, 60'000) == 1);
    }
    CHECK(ipcdoor_rpc_get_result(polled.get(), 0, &result, nullptr) == 0);
    CHECK(result.text() == arguments.text());

    // Forgotten before the reply comes; and a client that is gone before its calls.
    start(request("wait", "->u64")).reset();
    client_handle other = connect(calc.at, calc.name);
    ipcdoor_rpc_pending* orphan = nullptr;
    REQUIRE(ipcdoor_rpc_start(other.get(), &wait, until, &orphan) == 0);
    const pending_handle orphaned(orphan);
    other.reset();
    CHECK(ipcdoor_rpc_get_result(orphan, soon_ns(), &result, nullptr) == -ECANCELED);
}

TEST_CASE("a C server in an event loop, and stopped from a handler", "[rpc][c]") {
    c_office calc;
    ipcdoor_rpc_server* const server = calc.server;
    REQUIRE(ipcdoor_rpc_bind(server, "stop", "->void", stop_it, &calc.server) == 0);
    CHECK(ipcdoor_rpc_bind(server, "add", "->void", add, nullptr) == -EEXIST);
    CHECK(ipcdoor_rpc_serve_one(server, 0) == -ETIMEDOUT);
    CHECK(ipcdoor_rpc_server_poll(server) == 0);
    std::atomic<int> sum{0};
    std::thread calling([&] {
        rpc::client client(calc.at, calc.name, soon);
        sum = client.call<int>("add", 2, 3);
        client.call<void>("stop");
    });
    pollfd ready{ipcdoor_rpc_server_fd(server), POLLIN, 0};
    int rc = 0;
    while (rc == 0) {
        rc = sum == 0 ? ipcdoor_rpc_server_poll(server) : ipcdoor_rpc_serve_one(server, soon_ns());
        if (rc == 0 && sum == 0) CHECK(::poll(&ready, 1, 60'000) == 1);
    }
    calling.join();
    CHECK(rc == -ECANCELED);
    CHECK(sum == 5);
    CHECK(ipcdoor_rpc_serve_one(server, soon_ns()) == -ECANCELED);
    CHECK(ipcdoor_rpc_serve(server) == 0);
}

TEST_CASE("bytes from anywhere are read as what they are, or refused", "[rpc][c][hostile]") {
    const auto refused = [](std::string_view bytes, auto get) {
        ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of(bytes.data(), bytes.size());
        const int rc = get(&from);
        // Every later one fails likewise.
        return rc < 0 && from.error == rc && ipcdoor_rpc_finish(&from) == rc ? -rc : 0;
    };
    std::uint32_t number = 7;
    int yes = 7;
    std::size_t size = 7;
    const void* bytes = nullptr;
    char text[4] = "abc";
    const auto u32 = [&](auto* from) { return ipcdoor_rpc_get_u32(from, &number); };
    const auto boolean = [&](auto* from) { return ipcdoor_rpc_get_bool(from, &yes); };
    const auto view = [&](auto* from) { return ipcdoor_rpc_get_bytes(from, &bytes, &size); };
    const auto copy = [&](auto* from) { return ipcdoor_rpc_get_text(from, text, sizeof text); };
    const auto count = [&](auto* from) { return ipcdoor_rpc_get_count(from, 8, &size); };
    CHECK(refused("", u32) == EBADMSG);
    CHECK(refused("abc", u32) == EBADMSG);
    CHECK(refused("", boolean) == EBADMSG);
    CHECK(refused("\2", boolean) == EBADMSG);
    CHECK(refused("\3\0\0"sv, view) == EBADMSG);
    CHECK(refused("\3\0\0\0ab"sv, view) == EBADMSG);
    CHECK(refused("\377\377\377\377ab"sv, view) == EBADMSG);
    CHECK(refused("\4\0\0\0wxyz"sv, copy) == EMSGSIZE);
    CHECK(refused("\3\0\0\0x\0y"sv, copy) == EBADMSG);
    CHECK(refused("\377\377\377\377wxyz"sv, copy) == EBADMSG);
    CHECK(refused("\2\0\0\0123456789abcdef"sv, count) == EBADMSG);
    CHECK(number == 7);
    CHECK(yes == 7);
    CHECK(size == 7);
    CHECK(bytes == nullptr);
    CHECK(text == "abc"sv);
    ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of("\2\0\0\0xyz", 7);
    CHECK(ipcdoor_rpc_get_bytes(&from, &bytes, &size) == 0);
    CHECK(std::string_view(static_cast<const char*>(bytes), size) == "xy");
    CHECK(ipcdoor_rpc_finish(&from) == -EBADMSG);
    from = ipcdoor_rpc_reader_of(nullptr, 0);
    CHECK(ipcdoor_rpc_get(&from, nullptr, 0) == 0);
    CHECK(ipcdoor_rpc_finish(&from) == 0);

    // A buffer's first error stays.
    buffer to;
    CHECK(ipcdoor_rpc_put_count(&to, std::size_t{1} << 32) == -EMSGSIZE);
    CHECK(ipcdoor_rpc_put_u8(&to, 1) == -EMSGSIZE);
    CHECK(to.size == 0);
    CHECK(ipcdoor_rpc_put_text(&to, nullptr) == -EMSGSIZE);
    c_office calc;
    calc.open();
    const client_handle client = connect(calc.at, calc.name);
    CHECK(invoke(client, request("same", "str->str", &to)) == -EMSGSIZE);
    ipcdoor_rpc_buffer_clear(&to);
    CHECK(ipcdoor_rpc_put(&to, nullptr, std::numeric_limits<std::size_t>::max()) == -ENOMEM);
    ipcdoor_rpc_buffer_clear(&to);
    CHECK(ipcdoor_rpc_put_u8(&to, 1) == 0);

    // Calls with arguments that are none.
    rpc::client raw(calc.at, calc.name, soon);
    for (std::size_t length = 0; length < 12; ++length) {
        const std::vector<std::byte> some(length, std::byte{0xff});
        CHECK(error_of([&] { raw.call_raw(soon, "add", "i32,i32->i32", some); }) ==
              (length == 8 ? 0 : EBADMSG));
        CHECK(error_of([&] { raw.call_raw(soon, "fail", "str->void", some); }) == EBADMSG);
    }
}

TEST_CASE("replies that are none are an error of the call in C", "[rpc][c][hostile]") {
    // A server whose replies are what its requests say, behind the call's header.
    const std::string name = unique_name();
    door at = test_door();
    mailbox_options options;
    options.source = source();
    mailbox liar(at, name, options);
    std::thread lying([&] {
        try {
            for (delivery got;;) {
                liar.receive(got);
                liar.reply(got, got.content.bytes().subspan(sizeof(rpc::call_header)), soon);
            }
        } catch (const error& wrong) {
            CHECK_IN_THREAD(wrong.error_number() == ECANCELED);
        }
    });
    const client_handle client = connect(at, name);
    buffer result;
    std::int32_t code = 0;
    const auto told = [&](std::uint32_t kind, std::int32_t number, std::string_view rest) {
        buffer reply;
        ipcdoor_rpc_put_u32(&reply, kind);
        ipcdoor_rpc_put_i32(&reply, number);
        ipcdoor_rpc_put(&reply, rest.data(), rest.size());
        return invoke(client, request("any", "->void", &reply), &result, &code);
    };
    CHECK(invoke(client, request("any", "->void"), &result, &code) == -EBADMSG);
    CHECK(told(0, 0, "abc") == 0);
    CHECK(result.text() == "abc");
    CHECK(told(3, 0, "") == -EBADMSG);
    CHECK(told(~0U, 0, "") == -EBADMSG);
    CHECK(told(1, EACCES, "") == -EBADMSG);
    CHECK(told(1, EACCES, "\1\0\0\0x"sv) == -EACCES);
    CHECK(told(1, 0, "\1\0\0\0x"sv) == -EBADMSG);
    CHECK(told(1, -5, "\1\0\0\0x"sv) == -EBADMSG);
    CHECK(told(1, std::numeric_limits<int>::max(), "\1\0\0\0x"sv) ==
          -std::numeric_limits<int>::max());
    CHECK(told(2, 5, "\377\377\377\377x"sv) == -EBADMSG);
    CHECK(code == 0);
    CHECK(result.text() == "abc");  // left alone
    CHECK(told(2, std::numeric_limits<int>::min(), "\3\0\0\0x\0y"sv) == -EREMOTEIO);
    CHECK(code == std::numeric_limits<int>::min());
    CHECK(result.text() == "x");
    liar.close();
    lying.join();
}

TEST_CASE("each side says in C how long a message it takes", "[rpc][c]") {
    const auto call = [](const client_handle& client, std::size_t bytes) {
        buffer arguments;
        buffer result;
        ipcdoor_rpc_put_text(&arguments, std::string(bytes, 'x').c_str());
        return invoke(client, request("same", "str->str", &arguments), &result);
    };
    c_office brief(1, 1000);
    brief.open();
    const client_handle client = connect(brief.at, brief.name);
    CHECK(call(client, 100) == 0);
    CHECK(call(client, 2000) == -EMSGSIZE);
    CHECK(call(client, 100) == 0);

    c_office office;
    office.open();
    const client_handle modest = connect(office.at, office.name, 1000);
    CHECK(call(modest, 2000) == -EMSGSIZE);
    CHECK(call(modest, 100) == 0);
}

TEST_CASE("what is not right is refused in C with words", "[rpc][c]") {
    door at = test_door();
    ipcdoor_rpc_server_options options{};
    ipcdoor_rpc_server* server = nullptr;
    CHECK(ipcdoor_rpc_server_create(at.get(), &options, &server) == -EINVAL);
    CHECK(error_says("size"));
    options.size = sizeof options;
    CHECK(ipcdoor_rpc_server_create(at.get(), &options, &server) == -EINVAL);
    CHECK(error_says("name"));
    options.name = "no/such name";
    CHECK(ipcdoor_rpc_server_create(at.get(), &options, &server) == -EINVAL);
    CHECK(ipcdoor_rpc_server_create(nullptr, &options, &server) == -EINVAL);
    options.name = "fine";
    options.record_bytes = ~std::uint64_t{0};
    CHECK(ipcdoor_rpc_server_create(at.get(), &options, &server) == -EINVAL);
    // Of a later version, asking for more.
    struct later {
        ipcdoor_rpc_server_options known;
        std::uint64_t more;
    } from_later{};
    from_later.known = {sizeof from_later, "fine", 0, 0, 0, 0, 0, 0};
    from_later.more = 1;
    CHECK(ipcdoor_rpc_server_create(at.get(), &from_later.known, &server) == -E2BIG);
    CHECK(server == nullptr);
    CHECK(ipcdoor_rpc_serve(nullptr) == -EINVAL);
    ipcdoor_rpc_server_destroy(nullptr);

    c_office calc;
    calc.open();
    CHECK(ipcdoor_rpc_bind(calc.server, "none", "->void", nullptr, nullptr) == -EINVAL);
    CHECK(ipcdoor_rpc_bind(calc.server, nullptr, "->void", add, nullptr) == -EINVAL);
    ipcdoor_rpc_client_options wanted{};
    wanted.size = sizeof wanted;
    ipcdoor_rpc_client* none = nullptr;
    CHECK(ipcdoor_rpc_connect(at.get(), &wanted, soon_ns(), &none) == -EINVAL);
    const std::string nobody = unique_name();
    wanted.name = nobody.c_str();
    CHECK(ipcdoor_rpc_connect(at.get(), &wanted, soon_ns(), &none) == -ENOENT);
    wanted.name = calc.name.c_str();
    wanted.priority = 4;
    CHECK(ipcdoor_rpc_connect(at.get(), &wanted, soon_ns(), &none) == -EINVAL);
    CHECK(none == nullptr);
    const client_handle client = connect(calc.at, calc.name);
    CHECK(invoke(client, request(nullptr, "->void")) == -EINVAL);
    CHECK(invoke(client, request("add", nullptr)) == -EINVAL);
    CHECK(ipcdoor_rpc_invoke(client.get(), nullptr, soon_ns(), nullptr, nullptr) == -EINVAL);
    ipcdoor_rpc_client_destroy(nullptr);
}

TEST_CASE("a server that dies, and a child that has its parent's client", "[rpc][c][death][fork]") {
    const std::string name = unique_name();
    gate listening;
    child process([&] {
        door own = test_door();
        ipcdoor_rpc_server_options options{};
        options.size = sizeof options;
        options.name = name.c_str();
        options.source = source();
        ipcdoor_rpc_server* server = nullptr;
        EXPECT_CHILD(ipcdoor_rpc_server_create(own.get(), &options, &server) == 0);
        gate_context waiting;
        EXPECT_CHILD(ipcdoor_rpc_bind(server, "wait", "->u64", until_cancelled, &waiting) == 0);
        EXPECT_CHILD(ipcdoor_rpc_bind(server, "who", "->i32", who, nullptr) == 0);
        listening.open();
        EXPECT_CHILD(ipcdoor_rpc_serve(server) == 0);
        return 0;
    });
    listening.wait();
    door at = test_door();
    client_handle client = connect(at, name);
    CHECK(invoke(client, request("who", "->i32")) == 0);
    const ipcdoor_rpc_request wait = request("wait", "->u64");
    ipcdoor_rpc_pending* pending = nullptr;
    REQUIRE(ipcdoor_rpc_start(client.get(), &wait, soon_ns(), &pending) == 0);
    child other([&] {
        const ipcdoor_rpc_request again = request("who", "->i32");
        EXPECT_CHILD(ipcdoor_rpc_invoke(client.get(), &again, soon_ns(), nullptr, nullptr) ==
                     -EPERM);
        EXPECT_CHILD(ipcdoor_rpc_get_result(pending, soon_ns(), nullptr, nullptr) == -EPERM);
        ipcdoor_rpc_pending_destroy(pending);
        client.reset();
        return 0;
    });
    CHECK(other.wait().exited());
    process.kill();
    CHECK(process.wait().signaled(9));
    CHECK(ipcdoor_rpc_get_result(pending, soon_ns(), nullptr, nullptr) == -EPIPE);
    CHECK(invoke(client, request("who", "->i32")) == -EPIPE);
    CHECK(ipcdoor_rpc_client_poll(client.get()) == -EPIPE);
    ipcdoor_rpc_pending_destroy(pending);
}
