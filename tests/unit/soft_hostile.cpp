// SPDX-License-Identifier: MIT
// Peers that speak the software back end's handshake and lie in it. They are
// made of the library's own parts; the layouts are in soft_layout.h.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <ipcdoor/message.hpp>

#include "../userlib/src/soft_layout.h"
#include "../userlib/src/soft_slot.h"
#include "../userlib/src/sys.h"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "unit/soft_room.hpp"

using namespace ipcdoor::test;
using ipcdoor::vectors;
namespace soft = ipcdoor::backend::soft;
namespace sys = ipcdoor::backend::sys;

namespace {

constexpr std::uint64_t page = 4096;
constexpr soft::shape shape{2, page, page, page};
constexpr std::uint32_t rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE;
constexpr int slot_seals = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;

soft::introduction honest(std::uint32_t slot) {
    return {soft::message_magic, soft::layout_version, slot, 1, rights, page, page};
}

int memory_file(std::uint64_t bytes, int seals) {
    const int fd = sys::memory_file("hostile");
    if (sys::truncate_file(fd, bytes) < 0 || (bytes > 0 && sys::allocate_file(fd, 0, bytes) < 0) ||
        sys::add_seals(fd, seals) < 0)
        throw std::runtime_error("no memory file");
    return fd;
}

// What a peer sends; honest until a test changes it.
struct offer {
    explicit offer(std::uint32_t slot) : hello(honest(slot)) {
        pages = soft::make_sealed_slot(shape, {slot, 1, rights}, slot_file);
        data_file = ipcdoor::owned_fd(memory_file(page, F_SEAL_SHRINK | F_SEAL_GROW));
    }
    void send(int socket) const {
        std::vector<int> fds;
        if (slot_file) fds.push_back(slot_file.get());
        if (data_file) fds.push_back(data_file.get());
        for (int i = 0; i < extra_files; ++i) fds.push_back(slot_file.get());
        sys::socket_send(socket, &hello, bytes, fds);
    }

    soft::introduction hello;
    std::size_t bytes = sizeof(hello);
    soft::slot_pages pages;
    ipcdoor::owned_fd slot_file;
    ipcdoor::owned_fd data_file;
    int extra_files = 0;
};

ipcdoor::owned_fd names_dir(const soft_room& room) {
    const std::string path = room.path() + "/" + std::to_string(::geteuid());
    return ipcdoor::owned_fd(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
}

ipcdoor::owned_fd raw_connect(const soft_room& room, const char* name) {
    ipcdoor::owned_fd socket(sys::socket_new(true));
    REQUIRE(sys::socket_connect(socket.get(), names_dir(room).get(), name, ~0ULL) == 0);
    return socket;
}

struct lie {
    const char* what;
    std::function<void(offer&)> tell;
};

void replace_slot(offer& told, std::uint64_t bytes, int seals) {
    told.slot_file = ipcdoor::owned_fd(memory_file(bytes, seals));
}

const lie lies[] = {
    {"no files",
     [](offer& o) {
         o.slot_file.reset();
         o.data_file.reset();
     }},
    {"a file too few", [](offer& o) { o.data_file.reset(); }},
    {"a file too many", [](offer& o) { o.extra_files = 1; }},
    {"a slot without seals", [](offer& o) { replace_slot(o, shape.slot_file_bytes(), 0); }},
    {"a slot that can shrink",
     [](offer& o) { replace_slot(o, shape.slot_file_bytes(), slot_seals & ~F_SEAL_SHRINK); }},
    {"a slot that others may write",
     [](offer& o) { replace_slot(o, shape.slot_file_bytes(), F_SEAL_SHRINK | F_SEAL_GROW); }},
    {"a slot too small",
     [](offer& o) { replace_slot(o, shape.slot_file_bytes() - page, slot_seals); }},
    {"a slot without content",
     [](offer& o) { replace_slot(o, shape.slot_file_bytes(), slot_seals); }},
    {"a slot without pages",
     [](offer& o) {
         o.slot_file = ipcdoor::owned_fd(sys::memory_file("hole"));
         sys::truncate_file(o.slot_file.get(), shape.slot_file_bytes());
         sys::add_seals(o.slot_file.get(), slot_seals);
     }},
    {"a device for a slot",
     [](offer& o) {
         o.slot_file = ipcdoor::owned_fd(sys::open_at(AT_FDCWD, "/dev/zero", O_RDWR));
     }},
    {"another slot's file",
     [](offer& o) {
         const std::uint32_t other = o.hello.slot == 0 ? 1 : 0;
         o.pages = soft::make_sealed_slot(shape, {other, 1, rights}, o.slot_file);
     }},
    {"the file of an earlier generation",
     [](offer& o) {
         o.pages = soft::make_sealed_slot(shape, {o.hello.slot, 0, rights}, o.slot_file);
     }},
    {"data without seals", [](offer& o) { o.data_file = ipcdoor::owned_fd(memory_file(page, 0)); }},
    {"data too small",
     [](offer& o) {
         o.data_file = ipcdoor::owned_fd(memory_file(0, F_SEAL_SHRINK | F_SEAL_GROW));
     }},
    {"data that cannot be written",
     [](offer& o) {
         o.data_file =
             ipcdoor::owned_fd(memory_file(page, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
     }},
    {"another magic", [](offer& o) { o.hello.magic ^= 1; }},
    {"another version", [](offer& o) { o.hello.version = 2; }},
    {"another slot", [](offer& o) { o.hello.slot = 200; }},
    {"another generation", [](offer& o) { o.hello.generation = 3; }},
    {"another size", [](offer& o) { o.hello.slot_bytes = 1ULL << 40; }},
    {"half an introduction", [](offer& o) { o.bytes = 16; }},
    {"nothing at all", [](offer& o) { o.bytes = 0; }},
};

// A client that told the truth so far, its pages writable for what comes.
struct raw_client {
    explicit raw_client(const soft_room& room) : told(1), socket(raw_connect(room, "victim.sock")) {
        told.send(socket.get());
    }
    offer told;
    ipcdoor::owned_fd socket;
};

}  // namespace

TEST_CASE("A listener turns away clients that lie, and serves the next one", "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("victim", {.slot_bytes = page, .data_bytes = page});
    for (const lie& each : lies) {
        INFO(each.what);
        offer told(1);
        each.tell(told);
        const ipcdoor::owned_fd socket = raw_connect(room, "victim.sock");
        told.send(socket.get());
        CHECK_FALSE(listener.try_accept(0s));
        pollfd hung{socket.get(), 0, 0};
        CHECK(::poll(&hung, 1, 0) == 1);
    }
    const raw_client good(room);
    CHECK(listener.try_accept(0s));
}

TEST_CASE("What is longer than an introduction, or has too many files, is none",
          "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("victim", {.slot_bytes = page, .data_bytes = page});
    const std::size_t before = open_fd_count();
    const offer told(1);
    const auto is_turned_away = [&](std::size_t bytes, std::size_t count) {
        std::vector<char> words(sizeof(told.hello) + bytes);
        std::memcpy(words.data(), &told.hello, sizeof(told.hello));
        std::vector<int> files(count, told.data_file.get());
        files[0] = told.slot_file.get();
        iovec part{words.data(), words.size()};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)] = {};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        std::memcpy(CMSG_DATA(header), files.data(), sizeof(int) * count);
        const ipcdoor::owned_fd socket = raw_connect(room, "victim.sock");
        REQUIRE(::sendmsg(socket.get(), &message, MSG_NOSIGNAL) > 0);
        return !listener.try_accept(0s);
    };
    CHECK(is_turned_away(1, 2));
    CHECK(is_turned_away(1 << 16, 2));
    CHECK(is_turned_away(0, 8));
    CHECK(open_fd_count() == before + 2);  // of the offer
    CHECK_FALSE(is_turned_away(0, 2));
}

TEST_CASE("Memory that is not ordinary is not taken from a peer", "[soft][hostile]") {
    const ipcdoor::owned_fd file(
        ::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
    if (!file) {
        std::printf("skipped: no files of huge pages here\n");
        return;
    }
    struct stat about {};
    REQUIRE(sys::status(file.get(), about) == 0);
    const auto huge = static_cast<std::uint64_t>(about.st_blksize);
    REQUIRE(sys::truncate_file(file.get(), huge) == 0);
    REQUIRE(sys::add_seals(file.get(), F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    CHECK_THROWS_WITH(soft::check_sealed_data(file.get(), huge), contains("ordinary"));
}

TEST_CASE("Clients that say nothing hold up nobody", "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("victim", {.slot_bytes = page, .data_bytes = page});
    const std::size_t before = open_fd_count();
    {
        std::vector<ipcdoor::owned_fd> silent;
        for (int i = 0; i < 100; ++i) {
            silent.push_back(raw_connect(room, "victim.sock"));
            CHECK_FALSE(listener.try_accept(0s));
        }
        const raw_client good(room);
        CHECK(listener.try_accept(0s));
    }
    CHECK_FALSE(listener.try_accept(0s));
    CHECK(open_fd_count() == before);
}

TEST_CASE("A client turns away servers that lie", "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    door.listen("gone").close();  // makes the user's directory
    const ipcdoor::owned_fd dir = names_dir(room);
    const ipcdoor::owned_fd listening(sys::socket_new(false));
    REQUIRE(sys::socket_bind(listening.get(), dir.get(), "evil.sock") == 0);
    REQUIRE(sys::socket_listen(listening.get(), 8) == 0);
    const auto publish = [&](const soft::listener_file& about) {
        const ipcdoor::owned_fd file(
            sys::open_at(dir.get(), "evil.door", O_RDWR | O_CREAT | O_TRUNC, 0600));
        REQUIRE(sys::write_at(file.get(), &about, sizeof(about), 0) == sizeof(about));
    };
    const soft::listener_file truth{soft::listener_magic, soft::layout_version, 0, page, page};

    SECTION("about sizes") {
        for (const std::uint64_t bytes : {0ULL, 1ULL, 1ULL << 40, ~0ULL, ~0ULL - 4095}) {
            soft::listener_file about = truth;
            about.slot_bytes = bytes;
            publish(about);
            CHECK(error_of([&] { (void)door.connect("evil", 60s); }) == EPROTO);
            about = truth;
            about.data_bytes = bytes;
            publish(about);
            if (bytes != 0) CHECK(error_of([&] { (void)door.connect("evil", 60s); }) == EPROTO);
        }
    }
    SECTION("about versions") {
        soft::listener_file about = truth;
        about.version = 2;
        publish(about);
        CHECK(error_of([&] { (void)door.connect("evil", 60s); }) == EPROTO);
        about = truth;
        about.magic ^= 1;
        publish(about);
        CHECK(error_of([&] { (void)door.connect("evil", 60s); }) == EPROTO);
        publish(truth);
        REQUIRE(::truncate((room.path() + "/" + std::to_string(::geteuid()) + "/evil.door").c_str(),
                           8) == 0);
        CHECK(error_of([&] { (void)door.connect("evil", 60s); }) == EPROTO);
    }
    SECTION("about slots") {
        publish(truth);
        for (const lie& each : lies) {
            // A server sends no DATA, so lies about that are none of its.
            if (std::strstr(each.what, "data") || std::strstr(each.what, "few")) continue;
            INFO(each.what);
            offer told(0);
            told.data_file.reset();
            each.tell(told);
            std::thread answering([&] {
                pollfd waiting{listening.get(), POLLIN, 0};
                ::poll(&waiting, 1, 60'000);
                const ipcdoor::owned_fd client(sys::socket_accept(listening.get()));
                told.send(client.get());
                pollfd gone{client.get(), 0, 0};
                ::poll(&gone, 1, 60'000);
            });
            const int error = error_of([&] { (void)door.connect("evil", 60s); });
            answering.join();
            CHECK((error == EPROTO || error == ECONNREFUSED));
        }
    }
}

TEST_CASE("A peer that writes nonsense into its pages harms its own rings only",
          "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("victim", {.slot_bytes = page, .data_bytes = page});
    raw_client client(room);
    ipcdoor::endpoint own = listener.accept(60s);
    (void)own.wait(ipcdoor::lifecycle_vector, 0s);
    soft::control& head = client.told.pages.own_head();
    soft::outbox& box = head.out[0];
    box.generation = 1;

    SECTION("counts that jump") {
        for (const std::uint64_t count : {5ULL, ~0ULL, 0ULL, 1ULL << 63}) {
            box.count[3] = count;
            box.total.fetch_add(1);
            const auto event = own.wait(vectors(3), 0s);
            CHECK(event);
        }
        own.ring(0, 4, 9);
        const auto mine = own.wait(vectors(4), 0s);
        REQUIRE(mine);
        CHECK(mine->count == 1);
        CHECK(mine->value == 9);
    }
    SECTION("a total that moves without counts") {
        for (int i = 0; i < 100; ++i) {
            box.total.fetch_add(1);
            CHECK_FALSE(own.wait(vectors(1), 0s));
        }
    }
    SECTION("a flood on the socket") {
        const char noise[64] = {};
        while (sys::socket_send(client.socket.get(), noise, sizeof(noise)) > 0) {
        }
        CHECK_FALSE(own.wait(vectors(1), 10ms));
        own.ring(0, 1);
        CHECK(own.wait(vectors(1), 0s));
    }
    SECTION("descriptors on the socket") {
        const std::size_t before = open_fd_count();
        const int fd = client.socket.get();
        for (int i = 0; i < 10; ++i) sys::socket_send(fd, "x", 1, {&fd, 1});
        CHECK_FALSE(own.wait(vectors(1), 10ms));
        CHECK(open_fd_count() == before);
    }
    SECTION("a socket that is never read") {
        for (std::uint64_t epoch = 1; epoch < 2000; ++epoch) {
            head.armed = epoch;
            own.ring(1, 1);
        }
        CHECK(own.slot_state(1).rung[1] == 1999);
    }
    SECTION("signals that cannot be bound, and threads that are not its own") {
        const std::uint32_t thread = static_cast<std::uint32_t>(::gettid());
        for (const auto& [signo, target] :
             {std::pair<std::uint32_t, std::uint32_t>{SIGKILL, thread},
              {SIGSTOP, thread},
              {0, thread},
              {65, thread},
              {~0U, thread},
              {SIGTERM, 0},
              {SIGTERM, ~0U},
              {SIGTERM, 1}}) {
            head.signal_number = signo;
            head.signal_thread = target;
            head.signal_mask = ~0ULL;
            own.ring(1, 5);
        }
    }
    SECTION("a size that it cuts") {
        CHECK(::ftruncate(client.told.slot_file.get(), 0) == -1);
        CHECK(::ftruncate(client.told.data_file.get(), 0) == -1);
        CHECK(own.memory(1)[page - 1] == std::byte{0});
        CHECK(own.data()[page - 1] == std::byte{0});
    }
    CHECK(own.peer_info(1).state == IPCDOOR_SLOT_ALIVE);
}

TEST_CASE("A signal that a peer wants with a message and cannot get is not the sender's trouble",
          "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("victim", {.slot_bytes = page, .data_bytes = page});
    raw_client client(room);
    ipcdoor::endpoint own = listener.accept(60s);
    // All rings of the victim's are to queue a signal here, where none can be queued.
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    REQUIRE(::pthread_sigmask(SIG_BLOCK, &blocked, &before) == 0);
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    const rlimit none{0, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_SIGPENDING, &none) == 0);
    soft::control& head = client.told.pages.own_head();
    head.signal_number = static_cast<std::uint32_t>(SIGRTMIN);
    head.signal_thread = static_cast<std::uint32_t>(::gettid());
    head.signal_mask = ~0ULL;
    // Its slot as a ring with one message, and it sleeps for the answers.
    auto* const slot = static_cast<std::byte*>(client.told.pages.memory());
    const auto layout = ipcdoor::init_message_slot(slot, page, {1000});
    ipcdoor::message_lane& peer = ipcdoor::message_lane_of(static_cast<void*>(slot), 0);
    ipcdoor::detail::header_word(slot + layout.offset[0]) = ipcdoor::detail::pack_record(8, 1, 0);
    peer.output.tail = 16;
    peer.output.armed = 8;
    peer.input.armed = 1;

    CHECK(error_of([&] { own.ring(1, 5); }) == EAGAIN);  // there it is the ringer's to know
    std::optional<ipcdoor::channel> channel;
    CHECK(error_of([&] { channel.emplace(std::move(own)); }) == 0);
    if (channel) {
        CHECK(error_of([&] { channel->send("hello", 60s); }) == 0);
        CHECK(error_of([&] { CHECK(channel->receive(60s).size() == 8); }) == 0);
        peer.input.armed = peer.input.armed + 1;
        CHECK(error_of([&] { (void)channel->call("question", 0s); }) == ETIMEDOUT);
        CHECK(channel->stats().doorbells == 4);  // hello, data, space, data
    }
    CHECK(::setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    CHECK(::pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
}

TEST_CASE("A segment's members take no newcomer's word for what it is", "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::endpoint own = door.create("members", {.slots = 4});
    const ipcdoor::endpoint other = door.attach("members");
    (void)own.wait(ipcdoor::lifecycle_vector, 0s);
    const std::string path = room.path() + "/" + std::to_string(::geteuid()) + "/members.seg";
    const ipcdoor::owned_fd dir(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
    const ipcdoor::owned_fd empty(memory_file(page, 0));
    const ipcdoor::owned_fd zero(sys::open_at(AT_FDCWD, "/dev/zero", O_RDONLY));
    // As if another user's slot were its own; where only root may give files away, it is empty.
    const ipcdoor::owned_fd anothers(memory_file(page, 0));
    CHECK((::fchown(anothers.get(), ::geteuid() + 1, ~gid_t{0}) == 0 || ::geteuid() != 0));
    for (const std::uint32_t slot : {0U, 1U, 2U, 4U, ~0U})
        for (const int fd : {-1, empty.get(), zero.get(), dir.get(), anothers.get()}) {
            INFO("slot " << slot << ", descriptor " << fd);
            const ipcdoor::owned_fd socket(sys::socket_new(true));
            REQUIRE(sys::socket_connect(socket.get(), dir.get(), "slot.0.1.sock", ~0ULL) == 0);
            const soft::introduction hello = honest(slot);
            sys::socket_send(socket.get(), &hello, sizeof(hello),
                             fd < 0 ? std::span<const int>() : std::span<const int>(&fd, 1));
            CHECK_FALSE(own.wait(ipcdoor::all_vectors, 0s));
        }
    CHECK(own.peer_info(1).state == IPCDOOR_SLOT_ALIVE);
    CHECK(own.peer_info(2).state == IPCDOOR_SLOT_EMPTY);
}

TEST_CASE("A newcomer leaves a living member's place alone, whatever its files are",
          "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    const ipcdoor::endpoint own = door.create("members", {.slots = 4});
    const std::filesystem::path path =
        room.path() + "/" + std::to_string(::geteuid()) + "/members.seg";
    const ipcdoor::owned_fd dir(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
    const ipcdoor::owned_fd listening(sys::socket_new(false));
    REQUIRE(sys::socket_bind(listening.get(), dir.get(), "slot.1.1.sock") == 0);
    REQUIRE(sys::socket_listen(listening.get(), 8) == 0);
    SECTION("none") {}
    SECTION("of another size") { std::ofstream(path / "slot.1.1").put('x'); }
    SECTION("of another slot") { std::filesystem::copy_file(path / "slot.0.1", path / "slot.1.1"); }
    const ipcdoor::endpoint next = door.attach("members");
    CHECK(next.slot() == 2);
    CHECK(error_of([&] { (void)door.attach("members", {.slot = 1}); }) == EBUSY);
    CHECK(std::filesystem::exists(path / "slot.1.1.sock"));
}

TEST_CASE("A segment whose files are not what they have to be is refused", "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    const ipcdoor::endpoint own = door.create("members", {.data_bytes = page, .slots = 4});
    const std::filesystem::path path =
        room.path() + "/" + std::to_string(::geteuid()) + "/members.seg";
    const auto attach = [&] { return error_of([&] { (void)door.attach("members"); }); };
    const auto about = [&](const soft::segment_file& content, std::size_t bytes) {
        std::filesystem::remove(path / "about");
        std::ofstream(path / "about")
            .write(reinterpret_cast<const char*>(&content), static_cast<std::streamsize>(bytes));
    };
    const soft::segment_file truth{soft::segment_magic, soft::layout_version, 4, page, page};
    about(truth, sizeof(truth));
    CHECK(attach() == 0);
    soft::segment_file lie = truth;
    lie.version = 2;
    about(lie, sizeof(lie));
    CHECK(attach() == EPROTO);
    lie = truth;
    lie.slots = IPCDOOR_MAX_SLOTS + 1;
    about(lie, sizeof(lie));
    CHECK(attach() == EPROTO);
    about(truth, 8);
    CHECK(attach() == EPROTO);
    about(truth, sizeof(truth));
    std::filesystem::remove(path / "data");
    REQUIRE(::mkfifo((path / "data").c_str(), 0600) == 0);
    CHECK(attach() == EPROTO);
}

TEST_CASE("Whoever waits for who takes up nobody is told what it waits for", "[soft][hostile]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    SECTION("a listener with a full backlog") {
        ipcdoor::listener listener = door.listen("busy", {.backlog = 1});
        std::vector<ipcdoor::owned_fd> crowd;
        for (int i = 0; i < 2; ++i) crowd.push_back(raw_connect(room, "busy.sock"));
        CHECK(error_of([&] { (void)door.connect("busy", 20ms); }) == ETIMEDOUT);
        CHECK(said("backlog"));

        struct sigaction action {};
        action.sa_handler = [](int) {};
        struct sigaction before {};
        REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
        std::atomic<int> result{0};
        std::atomic<bool> done{false};
        std::thread waiting([&] {
            ipcdoor_endpoint* made = nullptr;
            result = ipcdoor_connect(door.get(), "busy", IPCDOOR_NO_DEADLINE, &made);
            done = true;
        });
        while (!done) {
            ::pthread_kill(waiting.native_handle(), SIGUSR1);
            std::this_thread::sleep_for(1ms);
        }
        waiting.join();
        CHECK(result == -EINTR);
        ::sigaction(SIGUSR1, &before, nullptr);
    }
    SECTION("a member that never calls in") {
        ipcdoor::endpoint own = door.create("busy", {.slots = 4});
        const std::string path = room.path() + "/" + std::to_string(::geteuid()) + "/busy.seg";
        const ipcdoor::owned_fd dir(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
        int rc = 0;
        for (int i = 0; rc == 0 && i < 10'000; ++i) {
            const ipcdoor::owned_fd socket(sys::socket_new(true));
            rc = sys::socket_connect(socket.get(), dir.get(), "slot.0.1.sock", 0);
        }
        REQUIRE(rc == -EAGAIN);
        CHECK(error_of([&] { (void)door.attach("busy"); }) == EAGAIN);
        CHECK(said("ipcdoor_wait()"));
        CHECK_FALSE(own.wait(ipcdoor::all_vectors, 0s));
        CHECK(error_of([&] { (void)door.attach("busy"); }) == 0);
    }
}
