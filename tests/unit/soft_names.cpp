// SPDX-License-Identifier: MIT
// Names of the software back end: who may make, find and take them.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/catch.hpp"
#include "support/process.hpp"
#include "unit/soft_room.hpp"

using namespace ipcdoor::test;

namespace {

constexpr uid_t alice = 12001;
constexpr uid_t bob = 12002;

}  // namespace

TEST_CASE("URIs that make no sense are refused, each with its error", "[soft][uri]") {
    const auto open = [](const char* uri) {
        return error_of([&] { const ipcdoor::door door(uri); });
    };
    CHECK(open("nonsense") == EINVAL);
    CHECK(open("soft:relative") == EINVAL);
    CHECK(open("local:/dev/ipcdoor0") == EINVAL);
    CHECK(open("door:") == EINVAL);
    CHECK(open("ivshmem:/run/x.sock") == EPROTONOSUPPORT);
    CHECK(open("door:/dev/ipcdoor-that-is-not") == ENODEV);
    CHECK(open("door:/dev/null") == ENODEV);
    CHECK(open("soft:/nonexistent/directory") == ENOENT);
    CHECK(std::string(ipcdoor_error()).find("/nonexistent/directory") != std::string::npos);
}

TEST_CASE("The environment chooses the door and the runtime directory", "[soft][uri]") {
    const soft_room room;
    child other([&] {
        ::setenv("IPCDOOR_URI", "soft:", 1);
        ::setenv("IPCDOOR_RUNTIME_DIR", room.path().c_str(), 1);
        ipcdoor::door door;
        EXPECT_CHILD(door.backend() == "soft");
        const ipcdoor::listener listener = door.listen("name");
        EXPECT_CHILD(room.names(::geteuid()) == 2);
        return 0;
    });
    CHECK(other.wait().exited());
}

TEST_CASE("local: is the module where it is loaded, and the software back end elsewhere",
          "[soft][uri]") {
    const soft_room room;
    child other([&] {
        ::unsetenv("IPCDOOR_URI");
        ::setenv("IPCDOOR_RUNTIME_DIR", room.path().c_str(), 1);
        const ipcdoor::door door;
        const bool loaded = ::access("/dev/ipcdoor0", F_OK) == 0;
        EXPECT_CHILD(door.backend() == (loaded ? "kernel" : "soft"));
        return 0;
    });
    CHECK(other.wait().exited());
}

TEST_CASE("A door that a user may not open is not a missing one", "[soft][uri][users]") {
    if (skipped_without_root()) return;
    const soft_room room(01777);
    const std::string node = room.path() + "/node";
    std::ofstream(node).put('x');
    REQUIRE(::chmod(node.c_str(), 0600) == 0);
    child user = child::as_user(alice, [&] {
        EXPECT_CHILD(error_of([&] { const ipcdoor::door door("door:" + node); }) == EACCES);
        EXPECT_CHILD(said("mode and group"));
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("Malformed names are refused", "[soft][names]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    for (const char* name : {"", ".hidden", "a b", "a/b", "../x", "1/../x", "-1/x", "1/", "/x",
                             "4294967295/x", "99999999999/x", "x\n",
                             "0123456789012345678901234567890123456789012345678901234567890123"}) {
        INFO(name);
        CHECK(error_of([&] { (void)door.listen(name); }) == EINVAL);
        CHECK(error_of([&] { (void)door.connect(name, 0s); }) == EINVAL);
        CHECK(error_of([&] { (void)door.attach(name); }) == EINVAL);
    }
    CHECK(room.names(::geteuid()) == 0);
}

TEST_CASE("A name has one owner at a time, and is free after it", "[soft][names]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener first = door.listen("taken");
    CHECK(error_of([&] { (void)door.listen("taken"); }) == EADDRINUSE);
    CHECK(error_of([&] { (void)door.create("taken"); }) == EEXIST);
    CHECK(error_of([&] { (void)door.attach("taken"); }) == EPROTOTYPE);
    first.close();
    CHECK(room.names(::geteuid()) == 0);
    CHECK(error_of([&] { (void)door.connect("taken", 0s); }) == ENOENT);

    ipcdoor::endpoint segment = door.create("taken");
    CHECK(error_of([&] { (void)door.create("taken"); }) == EEXIST);
    CHECK(error_of([&] { (void)door.listen("taken"); }) == EADDRINUSE);
    CHECK(error_of([&] { (void)door.connect("taken", 0s); }) == EPROTOTYPE);
    segment.close();
    CHECK(room.names(::geteuid()) == 0);
    CHECK(error_of([&] { (void)door.attach("taken"); }) == ENOENT);

    const std::string anothers = std::to_string(::geteuid() + 1) + "/taken";
    CHECK(error_of([&] { (void)door.listen(anothers); }) == EPERM);
    CHECK(error_of([&] { (void)door.create(anothers); }) == EPERM);
}

TEST_CASE("What a killed process leaves behind is in nobody's way", "[soft][names][death]") {
    const soft_room room;
    gate ready;
    child victim([&] {
        ipcdoor::door door = room.door();
        const ipcdoor::listener listener = door.listen("listener");
        const ipcdoor::endpoint segment = door.create("segment", {.slots = 4});
        ready.open();
        ::pause();
        return 0;
    });
    ready.wait();
    ipcdoor::door door = room.door();
    CHECK(error_of([&] { (void)door.listen("listener"); }) == EADDRINUSE);
    CHECK(error_of([&] { (void)door.create("segment"); }) == EEXIST);
    victim.kill();
    victim.wait();
    CHECK(room.names(::geteuid()) == 3);

    CHECK(error_of([&] { (void)door.connect("listener", 0s); }) == ENOENT);
    CHECK(error_of([&] { (void)door.attach("segment"); }) == ENOENT);
    const ipcdoor::listener listener = door.listen("listener");
    const ipcdoor::endpoint segment = door.create("segment");
    CHECK(segment.info().slots == 2);
}

TEST_CASE("What a process left that died while it made its user's directory is in nobody's way",
          "[soft][names][death]") {
    const soft_room room;
    // Its number is this one's by now.
    const std::string draft = room.path() + "/" + std::to_string(::geteuid()) + "." +
                              std::to_string(::getpid()) + "." + std::to_string(::gettid());
    REQUIRE(::mkdir(draft.c_str(), 0700) == 0);
    REQUIRE(::mkdir((draft + ".0").c_str(), 0700) == 0);
    ipcdoor::door door = room.door();
    CHECK(error_of([&] { const ipcdoor::listener listener = door.listen("name"); }) == 0);
}

TEST_CASE("What a killed process has half removed or half made is in nobody's way",
          "[soft][names][death]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    const std::filesystem::path dir = room.path() + "/" + std::to_string(::geteuid());
    const std::filesystem::path segment = dir / "segment.seg";
    child victim([&] {
        const ipcdoor::endpoint end = room.door().create("segment", {.slots = 4});
        ::kill(::getpid(), SIGKILL);
        return 0;
    });
    CHECK(victim.wait().signaled(SIGKILL));
    SECTION("a segment without its lock") {
        REQUIRE(std::filesystem::remove(segment / "lock"));
        CHECK(error_of([&] { (void)door.attach("segment"); }) == ENOENT);
        CHECK(error_of([&] { (void)door.create("segment"); }) == 0);
    }
    SECTION("a segment without its sizes") {
        REQUIRE(std::filesystem::remove(segment / "about"));
        CHECK(error_of([&] { (void)door.attach("segment"); }) == ENOENT);
        CHECK(error_of([&] { (void)door.listen("segment"); }) == 0);
    }
    SECTION("drafts") {
        std::filesystem::rename(segment, dir / ".segment.seg");
        std::ofstream(dir / ".segment.sock").put('x');
        std::ofstream(dir / ".segment.door").put('x');
        CHECK(error_of([&] { (void)door.create("segment"); }) == 0);
        CHECK(error_of([&] { (void)door.listen("segment"); }) == 0);
    }
    CHECK(room.names(::geteuid()) == 0);
}

TEST_CASE("What cannot be removed is said to be in the way", "[soft][names]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    door.create("segment").close();
    const std::filesystem::path segment =
        room.path() + "/" + std::to_string(::geteuid()) + "/segment.seg";
    SECTION("a directory that has more in it") {
        std::filesystem::create_directories(segment / "more");
        std::ofstream(segment / "more" / "kept").put('x');
        CHECK(error_of([&] { (void)door.create("segment"); }) == EACCES);
        CHECK(said("by hand"));
        CHECK(std::filesystem::exists(segment / "more" / "kept"));
    }
    SECTION("a link") {
        const soft_room elsewhere;
        std::ofstream(elsewhere.path() + "/kept").put('x');
        REQUIRE(::symlink(elsewhere.path().c_str(), segment.c_str()) == 0);
        CHECK(error_of([&] { (void)door.create("segment"); }) != 0);
        CHECK(error_of([&] { (void)door.listen("segment"); }) != 0);
        CHECK(error_of([&] { (void)door.attach("segment"); }) != 0);
        CHECK(std::filesystem::exists(elsewhere.path() + "/kept"));
    }
}

TEST_CASE("Who keeps the lock on the names holds up others for seconds, not for ever",
          "[soft][names]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    const ipcdoor::endpoint segment = door.create("segment");
    const std::string lock = room.path() + "/" + std::to_string(::geteuid()) + "/.lock";
    const unique_fd held(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(::flock(held.get(), LOCK_EX) == 0);
    CHECK(error_of([&] { (void)door.listen("name"); }) == EBUSY);
    CHECK(said(".lock"));
    REQUIRE(::flock(held.get(), LOCK_UN) == 0);
    CHECK(error_of([&] { (void)door.listen("name"); }) == 0);
}

TEST_CASE("A name that its own user may not use is found dead or alive too",
          "[soft][names][death][users]") {
    if (skipped_without_root()) return;
    const soft_room room(01777);
    child user = child::as_user(alice, [&] {
        ipcdoor::door door = room.door();
        // _exit() closes nothing in order.
        const pid_t pid = ::fork();
        if (pid == 0) {
            const ipcdoor::listener listener = room.door().listen("group", {.mode = 0060});
            ::_exit(error_of([&] { (void)room.door().listen("group"); }) == EADDRINUSE ? 0 : 1);
        }
        int status = 0;
        EXPECT_CHILD(::waitpid(pid, &status, 0) == pid && status == 0);
        EXPECT_CHILD(room.names(alice) == 2);
        EXPECT_CHILD(error_of([&] { (void)door.listen("group"); }) == 0);
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("A fork()ed child that outlives its parent does not keep the parent's names",
          "[soft][names][death][fork]") {
    const soft_room room;
    gate ready;
    gate done;
    shared<std::atomic<pid_t>> orphan;
    child parent([&] {
        ipcdoor::door door = room.door();
        const ipcdoor::listener listener = door.listen("listener");
        const ipcdoor::endpoint segment = door.create("segment");
        const pid_t pid = ::fork();
        if (pid == 0) {
            ready.open();
            done.wait();
            ::_exit(0);
        }
        *orphan = pid;
        ::pause();
        return 0;
    });
    ready.wait();
    parent.kill();
    parent.wait();
    ipcdoor::door door = room.door();
    CHECK(error_of([&] { (void)door.connect("listener", 0s); }) == ENOENT);
    CHECK(error_of([&] { (void)door.listen("listener"); }) == 0);
    CHECK(error_of([&] { (void)door.attach("segment"); }) == ENOENT);
    CHECK(error_of([&] { (void)door.create("segment"); }) == 0);
    done.open();
}

TEST_CASE("A closed listener refuses those who wait, whoever has copies of its sockets",
          "[soft][names][fork]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    gate over;
    ipcdoor::listener listener = door.listen("here");
    child copy([&] {
        over.wait();
        return 0;
    });
    child client([&] {
        ipcdoor::door mine = room.door();
        return error_of([&] { (void)mine.connect("here", 60s); });
    });
    pollfd waiting{listener.fd(), POLLIN, 0};
    CHECK(::poll(&waiting, 1, 60'000) == 1);
    client.wait_asleep();
    listener.close();
    // Whichever it was about to do: to read what is listened for, or to wait.
    const child_status ended = client.wait();
    CHECK((ended.exited(ECONNREFUSED) || ended.exited(ENOENT)));
    over.open();
    CHECK(copy.wait().exited());
}

TEST_CASE("Users have names of their own, and root serves those who have none",
          "[soft][names][users]") {
    if (skipped_without_root()) return;
    const soft_room room(01777);
    ipcdoor::door door = room.door();
    ipcdoor::listener roots = door.listen("service", {.mode = 0666});
    gate ready;
    gate done;
    child owner = child::as_user(alice, [&] {
        ipcdoor::door own = room.door();
        EXPECT_CHILD(error_of([&] { (void)own.listen("0/service"); }) == EPERM);
        const ipcdoor::listener listener = own.listen("service", {.mode = 0600});
        ready.open();
        done.wait();
        return 0;
    });
    ready.wait();
    child visitor = child::as_user(bob, [&] {
        ipcdoor::door own = room.door();
        // Alice's is hers alone; a bare label is root's.
        EXPECT_CHILD(error_of([&] { (void)own.connect("12001/service", 1s); }) == EACCES);
        const ipcdoor::endpoint end = own.connect("service", 60s);
        EXPECT_CHILD(end.peer_info(0).uid == 0);
        EXPECT_CHILD(error_of([&] { (void)own.connect("12002/service", 0s); }) == ENOENT);
        return 0;
    });
    const ipcdoor::endpoint served = roots.accept(60s);
    CHECK(served.peer_info(1).uid == bob);
    CHECK(served.peer_info(1).gid == bob);
    CHECK(served.peer_info(1).pid == visitor.pid());
    CHECK(visitor.wait().exited());
    done.open();
    CHECK(owner.wait().exited());
}

TEST_CASE("What a user's dead listener leaves does not hide root's living one",
          "[soft][names][users][death]") {
    if (skipped_without_root()) return;
    const soft_room room(01777);
    child victim = child::as_user(alice, [&] {
        const ipcdoor::listener listener = room.door().listen("service");
        ::kill(::getpid(), SIGKILL);
        return 0;
    });
    CHECK(victim.wait().signaled(SIGKILL));
    CHECK(room.names(alice) == 2);
    ipcdoor::door door = room.door();
    ipcdoor::listener roots = door.listen("service", {.mode = 0666});
    child user = child::as_user(alice, [&] {
        const ipcdoor::endpoint end = room.door().connect("service", 60s);
        EXPECT_CHILD(end.peer_info(0).uid == 0);
        return 0;
    });
    const ipcdoor::endpoint served = roots.accept(60s);
    CHECK(served.peer_info(1).uid == alice);
    CHECK(user.wait().exited());
}

TEST_CASE("A runtime directory where a user may make nothing is said to be that",
          "[soft][names][users]") {
    if (skipped_without_root()) return;
    const soft_room room(0755);
    child user = child::as_user(alice, [&] {
        ipcdoor::door own = room.door();
        EXPECT_CHILD(error_of([&] { (void)own.connect("name", 0s); }) == ENOENT);
        EXPECT_CHILD(error_of([&] { (void)own.listen("name"); }) == EACCES);
        EXPECT_CHILD(said("1777"));
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("A segment's mode decides who attaches, and who may write", "[soft][names][users]") {
    if (skipped_without_root()) return;
    const soft_room room(01777);
    ipcdoor::door door = room.door();
    const ipcdoor::endpoint closed = door.create("closed", {.data_bytes = 4096, .mode = 0600});
    const ipcdoor::endpoint readable =
        door.create("readable", {.data_bytes = 4096, .slots = 3, .mode = 0644});
    readable.data()[0] = std::byte{42};
    child visitor = child::as_user(bob, [&] {
        ipcdoor::door own = room.door();
        EXPECT_CHILD(error_of([&] { (void)own.attach("closed"); }) == EACCES);
        EXPECT_CHILD(error_of([&] { (void)own.attach("closed", {.read_only = true}); }) == EACCES);
        EXPECT_CHILD(error_of([&] { (void)own.attach("readable"); }) == EACCES);
        ipcdoor::endpoint end = own.attach("readable", {.read_only = true});
        EXPECT_CHILD(end.info().rights == IPCDOOR_RIGHT_READ);
        EXPECT_CHILD(end.data()[0] == std::byte{42});
        EXPECT_CHILD(error_of([&] { end.grow(4096); }) == EACCES);
        end.ring(0, 1, 7);
        return 0;
    });
    CHECK(visitor.wait().exited());
    ipcdoor::endpoint& ringed = const_cast<ipcdoor::endpoint&>(readable);
    const auto event = ringed.wait(ipcdoor::vectors(1), 0s);
    REQUIRE(event);
    CHECK(event->value == 7);
    CHECK(readable.peer_info(1).uid == bob);
}

TEST_CASE("Directories that others could tamper with are not trusted", "[soft][names]") {
    SECTION("a runtime directory that others may write and that is not sticky") {
        const soft_room room(0777);
        CHECK(error_of([&] { (void)room.door(); }) == EACCES);
    }
    SECTION("a user's directory that is a link") {
        const soft_room room;
        const soft_room elsewhere;
        const std::string entry = room.path() + "/" + std::to_string(::geteuid());
        REQUIRE(::symlink(elsewhere.path().c_str(), entry.c_str()) == 0);
        ipcdoor::door door = room.door();
        CHECK(error_of([&] { (void)door.listen("name"); }) != 0);
        CHECK(std::filesystem::is_empty(elsewhere.path()));
    }
    SECTION("a user's directory that others may write") {
        const soft_room room;
        const std::string entry = room.path() + "/" + std::to_string(::geteuid());
        std::filesystem::create_directory(entry);
        ::chmod(entry.c_str(), 0777);
        ipcdoor::door door = room.door();
        CHECK(error_of([&] { (void)door.listen("name"); }) == EACCES);
    }
    SECTION("a user's directory that another user made") {
        if (skipped_without_root()) return;
        const soft_room room(01777);
        const std::string entry = room.path() + "/" + std::to_string(alice);
        std::filesystem::create_directory(entry);
        REQUIRE(::chown(entry.c_str(), bob, bob) == 0);
        child visitor = child::as_user(alice, [&] {
            ipcdoor::door own = room.door();
            EXPECT_CHILD(error_of([&] { (void)own.listen("name"); }) == EACCES);
            return 0;
        });
        CHECK(visitor.wait().exited());
    }
}
