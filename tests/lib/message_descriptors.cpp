// SPDX-License-Identifier: MIT
// File descriptors that go along with a message.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/message.hpp>
#include <ipcdoor/owned_fd.hpp>

#include "lib/lib_support.hpp"
#include "lib/puppet.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"
#include "support/threads.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

channel_options takes(std::size_t descriptors) {
    channel_options options;
    options.max_descriptors = descriptors;
    return options;
}

std::string read_from(int fd) {
    std::array<char, 64> text{};
    const ssize_t got = ::read(fd, text.data(), text.size());
    return got < 0 ? "error" : std::string(text.data(), static_cast<std::size_t>(got));
}

bool write_to(int fd, const std::string& text) {
    return ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool same_file(int one, int other) {
    struct stat a {};
    struct stat b {};
    return ::fstat(one, &a) == 0 && ::fstat(other, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

// An abstract socket with a name of the kernel's, as channels have them.
struct stranger_socket {
    owned_fd fd{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    std::uint64_t number = 0;

    stranger_socket() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        socklen_t length = sizeof address;
        if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sa_family_t)) !=
                0 ||
            ::listen(fd.get(), 4) != 0 ||
            ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
            throw std::runtime_error("no abstract socket");
        number = std::strtoull(std::string(address.sun_path + 1, 5).c_str(), nullptr, 16);
    }
};

// Connects to the abstract socket of that number; -1 where it may not.
int connect_to(std::uint64_t number) {
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::array<char, 8> digits{};
    std::snprintf(digits.data(), digits.size(), "%05x", static_cast<unsigned>(number));
    std::memcpy(address.sun_path + 1, digits.data(), 5);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address),
                  offsetof(sockaddr_un, sun_path) + 6) == 0)
        return fd;
    ::close(fd);
    return -1;
}

// While it lives this process gets no more memory than a few small pieces.
class memory_shortage {
public:
    memory_shortage() {
        ::getrlimit(RLIMIT_AS, &before_);
        taken_.reserve(most_pieces);
        auto left = std::make_unique<char[]>(4 * piece);
        rlimit none = before_;
        none.rlim_cur = 0;
        ::setrlimit(RLIMIT_AS, &none);
        try {
            while (taken_.size() < most_pieces) taken_.push_back(std::make_unique<char[]>(piece));
        } catch (const std::bad_alloc&) {
        }
    }
    memory_shortage(const memory_shortage&) = delete;
    memory_shortage& operator=(const memory_shortage&) = delete;
    ~memory_shortage() { ::setrlimit(RLIMIT_AS, &before_); }

private:
    static constexpr std::size_t piece = 16384;
    static constexpr std::size_t most_pieces = 16384;

    rlimit before_{};
    std::vector<std::unique_ptr<char[]>> taken_;
};

template <class Call>
bool lacks_memory(Call call) {
    const memory_shortage shortage;
    try {
        call();
    } catch (const std::bad_alloc&) {
        return true;
    }
    return false;
}

}  // namespace

TEST_CASE("a file descriptor goes along with a message", "[message][descriptors]") {
    auto [one, other] = channel_pair(8192, takes(4));
    const std::size_t before = open_fd_count();
    {
        kernel_pipe made;
        const std::array fds{made.write.get(), STDIN_FILENO};
        one.send("here it is", {.descriptors = fds}, soon);
        made.write.reset();
        message got = other.receive(soon);
        CHECK(got.text() == "here it is");
        CHECK(got.descriptor_count() == 2);
        const std::vector<owned_fd> taken = got.take_descriptors();
        REQUIRE(taken.size() == 2);
        CHECK(got.descriptor_count() == 0);
        CHECK((::fcntl(taken[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(write_to(taken[0].get(), "through it"));
        CHECK(read_from(made.read.get()) == "through it");
        CHECK(same_file(taken[1].get(), STDIN_FILENO));
    }
    // The lane's two ends of a socket stay.
    CHECK(open_fd_count() == before + 2);
    // A message that is dropped closes what it has; one without has none.
    one.send("", {.descriptors = std::array{STDIN_FILENO}}, soon);
    one.send("bare", soon);
    message got = other.receive(soon);
    CHECK(got.empty());
    CHECK(got.descriptor_count() == 1);
    other.receive(got, soon);
    CHECK(got.text() == "bare");
    CHECK(got.descriptor_count() == 0);
    CHECK(open_fd_count() == before + 2);
}

TEST_CASE("descriptors keep to their message, whatever its priority and size",
          "[message][descriptors]") {
    auto [one, other] = channel_pair(8192, takes(1));
    std::vector<kernel_pipe> pipes(4);
    const auto send = [&, &from = one](unsigned which, unsigned priority) {
        const std::array fds{pipes[which].read.get()};
        from.send(std::to_string(which), {.priority = priority, .descriptors = fds}, soon);
    };
    send(0, 0);
    send(1, 3);
    one.send("none", {.priority = 3}, soon);
    send(2, 0);
    send(3, 2);
    for (const char* const expected : {"1", "none", "3", "0", "2"}) {
        message got = other.receive(soon);
        REQUIRE(got.text() == expected);
        const auto taken = got.take_descriptors();
        if (got.text() == "none") {
            CHECK(taken.empty());
            continue;
        }
        REQUIRE(taken.size() == 1);
        CHECK(same_file(taken[0].get(),
                        pipes[static_cast<unsigned>(std::stoi(expected))].read.get()));
    }

    // In parts, and read in place.
    std::thread sender([&, &from = one] {
        const std::array fds{pipes[0].read.get()};
        from.send(pattern(7, 300'000), {.descriptors = fds}, soon);
        from.send("in place", {.descriptors = fds}, soon);
    });
    message large = other.receive(soon);
    CHECK(large.text() == pattern(7, 300'000));
    CHECK(large.descriptor_count() == 1);
    held_message held = other.receive_in_place(soon);
    sender.join();
    CHECK(held.is_in_place());
    CHECK(held.text() == "in place");
    CHECK(same_file(held.take_descriptors().at(0).get(), pipes[0].read.get()));
}

TEST_CASE("requests and replies carry descriptors, also what a call sets aside",
          "[call][descriptors]") {
    auto [client, server] = channel_pair(8192, takes(2));
    const kernel_pipe made;
    std::thread service_thread([&, &from = server] {
        for (int i = 0; i < 2; ++i) {
            message request = from.receive(soon);
            const auto taken = request.take_descriptors();
            CHECK_IN_THREAD(taken.size() == 1);
            // Messages ahead of the reply: more than fit the client's inbox by their cost.
            const std::array fds{taken[0].get()};
            for (int aside = 0; aside < 3; ++aside)
                from.send(std::to_string(aside), {.descriptors = fds}, soon);
            from.reply(request, "yours again", fds, soon);
        }
    });
    const std::array fds{made.read.get()};
    message reply = client.call("mine", {.descriptors = fds}, soon);
    CHECK(reply.text() == "yours again");
    CHECK(same_file(reply.take_descriptors().at(0).get(), made.read.get()));
    message later = client.start_call("mine", {.descriptors = fds}, soon).get(soon);
    CHECK(same_file(later.take_descriptors().at(0).get(), made.read.get()));
    service_thread.join();
    for (int i = 0; i < 6; ++i) {
        message aside = client.receive(soon);
        CHECK(aside.text() == std::to_string(i % 3));
        CHECK(same_file(aside.take_descriptors().at(0).get(), made.read.get()));
    }
}

TEST_CASE("a message whose descriptors cannot go along is not sent", "[message][descriptors]") {
    auto [one, other] = channel_pair(8192, takes(2));
    auto [closed, deaf] = channel_pair();
    const std::array some{0, 1};
    const std::array many{0, 1, 2};
    const std::array bad{0, 999'999};
    CHECK(error_of([&, &from = closed] { from.send("x", {.descriptors = some}, soon); }) ==
          EOPNOTSUPP);
    CHECK(error_of([&, &from = one] { from.send("x", {.descriptors = many}, soon); }) == EMSGSIZE);
    CHECK(error_of([&, &from = one] { from.send("x", {.descriptors = bad}, soon); }) == EBADF);
    CHECK(error_of([&, &from = one] { (void)from.try_send("x", {.descriptors = some}); }) ==
          EINVAL);
    CHECK(error_of([&, &from = one] { (void)from.loan(8, {.descriptors = some}, soon); }) ==
          EINVAL);
    CHECK_THROWS_AS(channel(connected_pair().first, takes(254)), error);
    // All of them go on.
    closed.send("fine", soon);
    CHECK(deaf.receive(soon).text() == "fine");
    one.send("fine", {.descriptors = some}, soon);
    CHECK(other.receive(soon).descriptor_count() == 2);
    CHECK_FALSE(other.try_receive().has_value());
}

TEST_CASE("a sender waits for room, also for its descriptors", "[message][descriptors]") {
    auto [one, other] = channel_pair(8192, takes(1));
    const std::array fds{STDIN_FILENO};
    std::uint64_t sent = 0;
    // Either the ring or the socket is full, in the end.
    const int error = error_of([&, &from = one] {
        for (;; ++sent) from.send("x", {.descriptors = fds}, 100ms);
    });
    CHECK((error == ETIMEDOUT || error == ETOOMANYREFS));
    CHECK(sent > 0);
    std::thread sender([&, &from = one] { from.send("last", {.descriptors = fds}, soon); });
    for (std::uint64_t i = 0; i < sent; ++i) {
        const message got = other.receive(soon);
        REQUIRE(got.text() == "x");
        REQUIRE(got.descriptor_count() == 1);
    }
    sender.join();
    const message got = other.receive(soon);
    CHECK(got.text() == "last");
    CHECK(got.descriptor_count() == 1);
}

TEST_CASE("a receiver without room for descriptors gets the message all the same",
          "[message][descriptors][fork]") {
    service local;
    child peer([&] {
        channel end(local.connect(), takes(3));
        end.send("ready", soon);
        message got = end.receive(soon);
        // The lane's socket is there: now there is room for one more.
        rlimit now{};
        ::getrlimit(RLIMIT_NOFILE, &now);
        const int next = ::dup(STDIN_FILENO);
        now.rlim_cur = static_cast<rlim_t>(next) + 1;
        ::close(next);
        ::setrlimit(RLIMIT_NOFILE, &now);
        end.receive(got, soon);
        const bool told = got.text() == "three" && got.descriptor_count() == 3 &&
                          error_of([&] { (void)got.take_descriptors(); }) == EMFILE;
        end.receive(got, soon);
        return told && got.take_descriptors().size() == 1 ? 0 : 1;
    });
    channel end(local.accept());
    end.receive(soon);
    const std::array fds{0, 1, 2};
    const std::span<const int> all(fds);
    end.send("one", {.descriptors = all.first(1)}, soon);
    end.send("three", {.descriptors = all}, soon);
    end.send("one", {.descriptors = all.first(1)}, soon);
    CHECK(peer.wait().exited());
}

TEST_CASE("a message that no memory was there for comes again, with its own descriptors",
          "[message][call][descriptors][fork]") {
    if (!has_bad_alloc) {
        std::printf("skipped: a sanitizer's program has no std::bad_alloc\n");
        return;
    }
    enum class how { received, set_aside, reply, pending_reply };
    const std::size_t bytes = 400'000;
    // In one record, and in parts.
    for (const std::size_t slot : {bytes, std::size_t{8192}}) {
        for (const how way : {how::received, how::set_aside, how::reply, how::pending_reply}) {
            CAPTURE(slot, static_cast<int>(way));
            service local(channel_slot_bytes(slot));
            const kernel_pipe first;
            const kernel_pipe second;
            child peer([&] {
                channel end(local.connect(), takes(1));
                end.send("ready", soon);
                message got;
                const auto brings = [&](message& what, const kernel_pipe& its) {
                    const auto taken = what.take_descriptors();
                    return taken.size() == 1 && same_file(taken[0].get(), its.read.get());
                };
                if (way == how::pending_reply) {
                    auto asked = end.start_call("?", soon);
                    EXPECT_CHILD(lacks_memory([&] { (void)asked.get(soon); }));
                    got = asked.get(soon);
                } else if (way == how::received) {
                    EXPECT_CHILD(lacks_memory([&] { end.receive(got, soon); }));
                    end.receive(got, soon);
                } else {
                    EXPECT_CHILD(lacks_memory([&] { (void)end.call("?", soon); }));
                    if (way == how::set_aside) end.receive(got, soon);
                }
                // The caller of a reply has gone, and nobody wants that.
                if (way != how::reply) {
                    EXPECT_CHILD(got.text() == pattern(7, bytes));
                    EXPECT_CHILD(brings(got, first));
                }
                end.receive(got, soon);
                EXPECT_CHILD(got.text() == "after");
                EXPECT_CHILD(brings(got, second));
                return 0;
            });
            channel end(local.accept());
            CHECK(end.receive(soon).text() == "ready");
            const std::array fds{first.read.get()};
            const std::string large = pattern(7, bytes);
            if (way == how::received) {
                end.send(large, {.descriptors = fds}, soon);
            } else {
                const message request = end.receive(soon);
                if (way == how::set_aside) {
                    end.send(large, {.descriptors = fds}, soon);
                    end.reply(request, "too late", soon);
                } else {
                    end.reply(request, large, fds, soon);
                }
            }
            end.send("after", {.descriptors = std::array{second.read.get()}}, soon);
            CHECK(peer.wait().exited());
        }
    }
}

TEST_CASE("descriptors arrive from a sender that is dead by then",
          "[message][descriptors][death][fork]") {
    service local;
    gate sent;
    child peer([&] {
        channel end(local.connect());
        end.send("first", soon);
        const kernel_pipe made;
        if (!write_to(made.write.get(), "left behind")) return 1;
        end.send("the last", {.descriptors = std::array{made.read.get()}}, soon);
        sent.open();
        std::this_thread::sleep_for(soon);  // to be killed
        return 0;
    });
    channel end(local.accept(), takes(1));
    CHECK(end.receive(soon).text() == "first");
    sent.wait();
    peer.kill();
    CHECK(peer.wait().signaled(9));
    message got = end.receive(soon);
    CHECK(got.text() == "the last");
    CHECK(read_from(got.take_descriptors().at(0).get()) == "left behind");
    CHECK(error_of([&] { end.receive(soon); }) == EPIPE);
}

TEST_CASE("strangers at the socket for descriptors keep nobody away",
          "[message][descriptors][fork]") {
    service local;
    auto ends = local.pair();
    channel taker(std::move(ends.first), takes(1));
    // As anybody can who looks through /proc/net/unix.
    const std::uint64_t word =
        static_cast<const message_slot*>(ipcdoor_slot_memory(taker.raw().get(), taker.raw().slot()))
            ->descriptor_socket;
    gate full;
    gate done;
    child stranger([&] {
        std::vector<owned_fd> all;
        for (;;) {
            owned_fd one(connect_to(word & 0xffffffff));
            if (!one) break;
            // A lane, and a descriptor.
            const std::uint64_t lane = 0;
            (void)::send(one.get(), &lane, sizeof lane, MSG_NOSIGNAL);
            all.push_back(std::move(one));
        }
        full.open();
        done.wait();
        return all.size() > 8 ? 0 : 1;
    });
    full.wait();
    channel giver(std::move(ends.second));
    std::thread sender([&] {
        for (int i = 0; i < 3; ++i)
            giver.send("mine", {.descriptors = std::array{STDIN_FILENO}}, soon);
    });
    for (int i = 0; i < 3; ++i) {
        message got = taker.receive(soon);
        CHECK(same_file(got.take_descriptors().at(0).get(), STDIN_FILENO));
    }
    sender.join();
    done.open();
    CHECK(stranger.wait().exited());
}

TEST_CASE("descriptors go to nobody but the peer", "[message][descriptors][hostile][fork]") {
    service local;
    auto ends = local.pair();
    puppet peer(std::move(ends.first));
    channel end(std::move(ends.second));
    gate named;
    gate tried;
    kernel_pipe number;
    child other([&] {
        const stranger_socket mine;
        if (!write_to(number.write.get(), std::to_string(mine.number))) return 1;
        tried.wait();
        const owned_fd came(::accept4(mine.fd.get(), nullptr, nullptr, SOCK_NONBLOCK));
        if (!came) return 2;
        std::array<char, 16> got{};
        // It was left before it got anything.
        return ::recv(came.get(), got.data(), got.size(), 0) == 0 ? 0 : 3;
    });
    const std::uint64_t theirs = std::stoull(read_from(number.read.get()));
    peer.open({1 << 20, 0, theirs | std::uint64_t{1} << 32});
    CHECK(error_of([&] { end.send("x", {.descriptors = std::array{STDIN_FILENO}}, soon); }) ==
          EPROTO);
    tried.open();
    CHECK(other.wait().exited());
}

TEST_CASE("descriptors for a peer that is gone, or names no socket, are an error",
          "[message][descriptors][death][fork]") {
    const std::array some{STDIN_FILENO};
    const auto error_after = [&](int sent) {
        service local;
        gate met;
        child peer([&] {
            channel end(local.connect(), takes(1));
            for (int i = 0; i <= sent; ++i) end.receive(soon);
            met.open();
            std::this_thread::sleep_for(soon);  // to be killed
            return 0;
        });
        channel end(local.accept());
        end.send("hello", soon);
        for (int i = 0; i < sent; ++i) end.send("x", {.descriptors = some}, soon);
        met.wait();
        peer.kill();
        CHECK(peer.wait().signaled(9));
        return error_of([&] { end.send("x", {.descriptors = some}, soon); });
    };
    SECTION("it died before the first") { CHECK(error_after(0) == EPIPE); }
    SECTION("it died after the first") { CHECK(error_after(1) == EPIPE); }
    SECTION("it names one that nobody has bound") {
        auto ends = connected_pair();
        puppet peer(std::move(ends.first));
        channel end(std::move(ends.second));
        std::uint64_t unbound = 0;
        { unbound = stranger_socket().number; }
        peer.open({1 << 20, 0, unbound | std::uint64_t{1} << 32});
        CHECK(error_of([&] { end.send("x", {.descriptors = some}, soon); }) == ENOTCONN);
        end.send("goes on", soon);
    }
}

TEST_CASE("descriptors that do not come as a record says end the channel",
          "[message][descriptors][hostile]") {
    // A record that says: `count` descriptors, in the packet `token`.
    const auto record_of = [](puppet& peer, std::uint64_t token, std::uint16_t count) {
        detail::record_extras extras;
        extras.token = token;
        extras.descriptors = count;
        std::memcpy(peer.data() + 8, &extras, sizeof extras);
        detail::header_word(peer.data()) = header(sizeof extras, 1, detail::record_has_extras);
        peer.slot().output.tail = 24;
        peer.ring(1);
    };
    const auto verdict = [&](std::uint64_t token, std::uint16_t count, int packets,
                             std::uint64_t lane = 0) {
        auto ends = connected_pair();
        puppet peer(std::move(ends.first));
        channel end(std::move(ends.second), takes(2));
        peer.open();
        const auto* const header = static_cast<const message_slot*>(
            ipcdoor_slot_memory(peer.end.get(), 1 - peer.end.slot()));
        const owned_fd socket(connect_to(header->descriptor_socket & 0xffffffff));
        REQUIRE(socket);
        if (packets > 0) REQUIRE(::send(socket.get(), &lane, sizeof lane, 0) == 8);
        const std::uint64_t first = 1;
        if (packets > 1) REQUIRE(::send(socket.get(), &first, sizeof first, 0) == 8);
        record_of(peer, token, count);
        const int error = error_of([&] { end.receive(soon); });
        CHECK(error_of([&] { end.receive(soon); }) == error);
        return error;
    };
    CHECK(verdict(1, 1, 0) == EPROTO);     // nothing was sent
    CHECK(verdict(1, 1, 1) == EPROTO);     // but for the lane
    CHECK(verdict(1, 1, 1, 3) == EPROTO);  // another lane
    CHECK(verdict(1, 1, 1, 4) == EPROTO);  // none
    CHECK(verdict(1, 1, 2) == EPROTO);     // a packet without descriptors
    CHECK(verdict(2, 1, 2) == EPROTO);     // another packet
    CHECK(verdict(1, 3, 2) == EPROTO);     // more than are taken
}

TEST_CASE("a forked child keeps none of a channel's sockets open", "[message][descriptors][fork]") {
    auto [one, other] = channel_pair(8192, takes(1));
    one.send("x", {.descriptors = std::array{STDIN_FILENO}}, soon);
    CHECK(other.receive(soon).descriptor_count() == 1);
    child peer([&, &a = one, &b = other] {
        const std::size_t before = open_fd_count();
        { const channel gone_one(std::move(a)), gone_other(std::move(b)); }
        // Two names, two ends of a lane; and what the endpoints have.
        return open_fd_count() + 4 <= before ? 0 : 1;
    });
    CHECK(peer.wait().exited());
    one.send("y", {.descriptors = std::array{STDIN_FILENO}}, soon);
    CHECK(other.receive(soon).descriptor_count() == 1);
}

TEST_CASE("a process without room for the socket of descriptors is told so, and goes on later",
          "[message][descriptors][fork]") {
    service local;
    child peer([&] {
        channel end(local.connect(), takes(1));
        end.send("ready", soon);
        rlimit now{};
        ::getrlimit(RLIMIT_NOFILE, &now);
        rlimit none = now;
        const int next = ::dup(STDIN_FILENO);
        none.rlim_cur = static_cast<rlim_t>(next);
        ::close(next);
        ::setrlimit(RLIMIT_NOFILE, &none);
        const int code = error_of([&] { end.receive(soon); });
        ::setrlimit(RLIMIT_NOFILE, &now);
        message got = end.receive(soon);
        return code == EMFILE && got.text() == "x" && got.take_descriptors().size() == 1 ? 0 : 1;
    });
    channel end(local.accept());
    end.receive(soon);
    end.send("x", {.descriptors = std::array{STDIN_FILENO}}, soon);
    CHECK(peer.wait().exited());
}
