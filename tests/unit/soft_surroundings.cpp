// SPDX-License-Identifier: MIT
// What the software back end does where the process or the system around it lacks something:
// descriptors, room, /proc, system calls of newer kernels, processes that it can see.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "support/blocked_signal.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"
#include "unit/soft_room.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

using namespace ipcdoor::test;
using ipcdoor::vectors;

namespace {

constexpr uid_t alice = 12001;
constexpr int not_here = 77;  // how a child says that it may not do what it has to

// True, and said, where the child was not allowed to.
bool skipped(const child_status& ended, const char* what) {
    if (!ended.exited(not_here)) return false;
    std::printf("skipped: %s is not allowed here\n", what);
    return true;
}

// From now on this process's mounts are nobody else's; then one more.
bool mount_for_itself(const std::string& path, const char* options) {
    return ::unshare(CLONE_NEWNS) == 0 &&
           ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("none", path.c_str(), "tmpfs", 0, options) == 0;
}

// Everything under a directory, drafts too, but the locks that stay there.
std::size_t files_in(const std::string& path) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
        count += entry.path().filename() != ".lock";
    return count;
}

// At most so many descriptors more than are open.
class few_descriptors {
public:
    few_descriptors() { ::getrlimit(RLIMIT_NOFILE, &usual_); }
    few_descriptors(const few_descriptors&) = delete;
    few_descriptors& operator=(const few_descriptors&) = delete;
    ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &usual_); }

    void leave(rlim_t count) const {
        const unique_fd next(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
        const rlimit few{static_cast<rlim_t>(next.get()) + count, usual_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &few);
    }

private:
    rlimit usual_{};
};

// What the system calls that came with Linux 5.11, 6.3 and 6.5 say on older kernels.
bool be_an_older_kernel() {
    const auto fail_with = [](int error) {
        return sock_filter{BPF_RET | BPF_K, 0, 0,
                           SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)};
    };
    const auto load = [](std::size_t from) {
        return sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(from)};
    };
    const auto unless = [](std::uint32_t value, std::uint8_t skip) {
        return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, skip, value};
    };
    std::array filter{
        load(offsetof(seccomp_data, nr)),
        unless(SYS_epoll_pwait2, 1),
        fail_with(ENOSYS),
        unless(SYS_memfd_create, 4),
        load(offsetof(seccomp_data, args[1])),
        sock_filter{BPF_JMP | BPF_JSET | BPF_K, 0, 1, MFD_NOEXEC_SEAL},
        fail_with(EINVAL),
        sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
        unless(SYS_getsockopt, 3),
        load(offsetof(seccomp_data, args[2])),
        unless(SO_PEERPIDFD, 1),
        fail_with(ENOPROTOOPT),
        sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// A process that `start` makes rings this one, which has bound a signal, and is told why none
// was sent.
void check_ring_without_signal(const soft_room& room, const char* reason,
                               const std::function<child(const child::body&)>& start) {
    const int signo = SIGRTMIN + 3;
    blocked_signal signals(signo);
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("signals", {.mode = 0666});
    child stranger = start([&] {
        ipcdoor::door own = room.door();
        ipcdoor::endpoint end = own.connect("signals", 60s);
        EXPECT_CHILD(end.wait(vectors(1), 60s));
        EXPECT_CHILD(ipcdoor_ring(end.get(), 0, 0, 4, 7) == -EOPNOTSUPP);
        EXPECT_CHILD(said(reason));
        return 0;
    });
    ipcdoor::endpoint end = listener.accept(60s);
    REQUIRE(ipcdoor_bind_signal(end.get(), signo, vectors(4)) == 0);
    end.ring(1, 1);
    const auto rung = end.wait(vectors(4), 60s);
    REQUIRE(rung);
    CHECK(rung->value == 7);
    CHECK(stranger.wait().exited());
    CHECK(signals.take(0ms).si_signo == 0);
}

}  // namespace

TEST_CASE("Calls without descriptors fail with EMFILE, and leave nothing", "[soft][descriptors]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    const ipcdoor::listener listener = door.listen("listener");
    const ipcdoor::endpoint segment = door.create("segment", {.data_bytes = 4096, .slots = 4});
    const auto sweep = [&](const char* what, int success, const std::function<void()>& call) {
        INFO(what);
        const std::size_t files = files_in(room.path());
        const std::size_t open = open_fd_count();
        const few_descriptors limit;
        bool enough = false;
        for (rlim_t count = 0; !enough && count < 40; ++count) {
            limit.leave(count);
            const int error = error_of(call);
            limit.leave(40);
            INFO(count << " descriptors");
            enough = error == success;
            // Who closes without descriptors leaves its names to the next one.
            if (enough) break;
            CHECK(error == EMFILE);
            CHECK(files_in(room.path()) == files);
            CHECK(open_fd_count() == open);
        }
        CHECK(enough);
    };
    sweep("listen", 0, [&] { const ipcdoor::listener made = door.listen("new"); });
    sweep("create", 0, [&] { const ipcdoor::endpoint made = door.create("new"); });
    sweep("create without a name", 0, [&] { const ipcdoor::endpoint made = door.create(""); });
    sweep("attach", 0, [&] { const ipcdoor::endpoint made = door.attach("segment"); });
    // It needs all of its own before it waits for what nobody will do.
    sweep("connect", ETIMEDOUT, [&] { (void)door.connect("listener", 0s); });
    sweep("poll", 0, [&] {
        const ipcdoor::endpoint made = door.create("");
        (void)made.fd();
    });
}

TEST_CASE("Accepting without descriptors fails with EMFILE, and goes on when there are some",
          "[soft][descriptors][fork]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("listener", {.data_bytes = 4096});
    const few_descriptors limit;
    int error = EMFILE;
    // One is for the connection, two for the files that come along.
    for (rlim_t count = 1; error == EMFILE && count < 40; ++count) {
        INFO(count << " descriptors");
        child client([&] {
            ipcdoor::door own = room.door();
            (void)own.connect("listener", 60s);
            return 0;
        });
        client.wait_asleep();  // what it sends is there
        ipcdoor::endpoint accepted;
        limit.leave(count);
        error = error_of([&] { accepted = listener.accept(10s); });
        limit.leave(40);
        CHECK((error == EMFILE || (error == 0 && count > 3)));
        if (error == 0) CHECK(client.wait().exited());
    }
    CHECK(error == 0);
}

TEST_CASE("A full file system is no memory, and nothing stays on it", "[soft][room]") {
    if (skipped_without_root()) return;
    const soft_room room;
    child poor([&] {
        if (!mount_for_itself(room.path(), "size=128k,nr_inodes=60,mode=700")) return not_here;
        ipcdoor::door door = room.door();
        const std::size_t before = files_in(room.path());
        EXPECT_CHILD(error_of([&] { (void)door.create("x", {.data_bytes = 1 << 20}); }) == ENOMEM);
        EXPECT_CHILD(error_of([&] { (void)door.create("x", {.slot_bytes = 1 << 20}); }) == ENOMEM);
        EXPECT_CHILD(files_in(room.path()) <= before + 1);  // the user's directory

        ipcdoor::endpoint own =
            door.create("small", {.data_bytes = 4096, .max_data_bytes = 1 << 20, .slots = 4});
        own.data()[0] = std::byte{1};
        EXPECT_CHILD(error_of([&] { own.grow(1 << 20); }) == ENOMEM);
        EXPECT_CHILD(own.data().size() == 4096 && own.data()[0] == std::byte{1});

        // Until not one page is left.
        const std::string all = room.path() + "/all";
        const unique_fd hog(::open(all.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        for (off_t at = 0; ::fallocate(hog.get(), 0, at, 4096) == 0; at += 4096) {
        }
        const std::size_t full = files_in(room.path());
        EXPECT_CHILD(error_of([&] { (void)door.attach("small"); }) == ENOMEM);
        EXPECT_CHILD(error_of([&] { (void)door.create("x"); }) == ENOMEM);
        EXPECT_CHILD(error_of([&] { (void)door.listen("x"); }) == ENOMEM);
        EXPECT_CHILD(files_in(room.path()) == full);
        EXPECT_CHILD(::ftruncate(hog.get(), 0) == 0);
        EXPECT_CHILD(error_of([&] { (void)door.attach("small"); }) == 0);

        // Nor a place for one file, then for one, two …
        const std::vector<std::function<void()>> calls{
            [&] { const ipcdoor::endpoint made = door.attach("small"); },
            [&] { const ipcdoor::endpoint made = door.create("x"); },
            [&] { const ipcdoor::listener made = door.listen("x"); }};
        for (const auto& call : calls) {
            std::vector<std::string> taken;
            do {
                taken.push_back(room.path() + "/" + std::to_string(taken.size()));
            } while (unique_fd(::open(taken.back().c_str(), O_CREAT | O_CLOEXEC, 0600)));
            taken.pop_back();
            for (int error = 0; (error = error_of(call)) != 0; taken.pop_back()) {
                EXPECT_CHILD(error == ENOMEM);
                EXPECT_CHILD(files_in(room.path()) == full + taken.size());
                EXPECT_CHILD(!taken.empty() && ::unlink(taken.back().c_str()) == 0);
            }
            for (const std::string& each : taken) ::unlink(each.c_str());
        }
        return 0;
    });
    const child_status ended = poor.wait();
    if (skipped(ended, "mounting")) return;
    CHECK(ended.exited());
}

TEST_CASE("Nobody is taken for dead where /proc is missing", "[soft][names][death]") {
    if (skipped_without_root()) return;
    const soft_room room;
    ipcdoor::door door = room.door();
    const ipcdoor::listener listener = door.listen("listener");
    ipcdoor::endpoint segment = door.create("segment", {.slots = 4});
    const std::size_t before = files_in(room.path());
    child jailed([&] {
        if (!mount_for_itself("/proc", "")) return not_here;
        ipcdoor::door own = room.door();
        const auto refused = [&](const std::function<void()>& call) {
            return error_of(call) == EOPNOTSUPP && said("/proc");
        };
        EXPECT_CHILD(refused([&] { (void)own.attach("segment"); }));
        EXPECT_CHILD(refused([&] { (void)own.create("segment"); }));
        EXPECT_CHILD(refused([&] { (void)own.create("new"); }));
        EXPECT_CHILD(refused([&] { (void)own.connect("listener", 1s); }));
        EXPECT_CHILD(refused([&] { (void)own.listen("listener"); }));
        EXPECT_CHILD(refused([&] { (void)own.listen("new"); }));
        return 0;
    });
    const child_status ended = jailed.wait();
    if (skipped(ended, "mounting")) return;
    CHECK(ended.exited());
    CHECK(files_in(room.path()) == before);
    CHECK(error_of([&] { (void)door.attach("segment"); }) == 0);
    CHECK(error_of([&] { (void)door.connect("listener", 0s); }) == ETIMEDOUT);
}

TEST_CASE("The default runtime directory is everybody's, and no link", "[soft][names]") {
    if (skipped_without_root()) return;
    const soft_room elsewhere(01777);
    const std::string base = "/dev/shm/ipcdoor";
    child first([&] {
        if (!mount_for_itself("/dev/shm", "mode=1777")) return not_here;
        ::unsetenv("IPCDOOR_RUNTIME_DIR");
        ::umask(077);
        {
            ipcdoor::door door("soft:");
            const ipcdoor::listener listener = door.listen("name");
            struct stat about {};
            EXPECT_CHILD(::stat(base.c_str(), &about) == 0);
            EXPECT_CHILD((about.st_mode & 07777) == 01777);
        }
        std::filesystem::remove_all(base);
        EXPECT_CHILD(::symlink(elsewhere.path().c_str(), base.c_str()) == 0);
        EXPECT_CHILD(error_of([] { const ipcdoor::door door("soft:"); }) != 0);
        EXPECT_CHILD(::unlink(base.c_str()) == 0);
        EXPECT_CHILD(::mount(nullptr, "/dev/shm", nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0);
        EXPECT_CHILD(error_of([] { const ipcdoor::door door("soft:"); }) == EROFS);
        EXPECT_CHILD(said("IPCDOOR_RUNTIME_DIR"));
        return 0;
    });
    const child_status ended = first.wait();
    if (skipped(ended, "mounting")) return;
    CHECK(ended.exited());
    CHECK(files_in(elsewhere.path()) == 0);
}

TEST_CASE("A kernel without the newer system calls serves as well", "[soft][doorbell][death]") {
    const soft_room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener = door.listen("old", {.data_bytes = 4096});
    const ipcdoor::endpoint segment = door.create("old.segment");
    gate waited;
    child old([&] {
        EXPECT_CHILD(be_an_older_kernel());
        ipcdoor::door own = room.door();
        ipcdoor::endpoint end = own.connect("old", 60s);
        EXPECT_CHILD(end.peer_info(0).pid == ::getppid());
        const std::uint64_t start = now_ns();
        EXPECT_CHILD(!end.wait(vectors(1), 30ms));
        EXPECT_CHILD(now_ns() - start >= 30'000'000);
        end.ring(0, 2);
        const auto rung = end.wait(vectors(1), 60s);
        EXPECT_CHILD(rung && rung->value == 7);
        const ipcdoor::endpoint member = own.attach("old.segment");
        EXPECT_CHILD(error_of([&] { (void)own.listen("old"); }) == EADDRINUSE);
        waited.open();
        EXPECT_CHILD(error_of([&] { (void)end.wait(vectors(1), 60s); }) == EPIPE);
        return 0;
    });
    ipcdoor::endpoint end = listener.accept(60s);
    REQUIRE(end.wait(vectors(2), 60s));
    end.ring(1, 1, 7);
    waited.wait();
    end.close();
    CHECK(old.wait().exited());
}

TEST_CASE("A ring says so where the signal that it has to send is not allowed", "[soft][signal]") {
    if (skipped_without_root()) return;
    SECTION("to another user's process") {
        const soft_room room(01777);
        check_ring_without_signal(
            room, "kill(2)", [](const child::body& run) { return child::as_user(alice, run); });
    }
    SECTION("to a process of another PID namespace") {
        child probe([] { return ::unshare(CLONE_NEWPID) == 0 ? 0 : not_here; });
        if (skipped(probe.wait(), "a PID namespace")) return;
        const soft_room room;
        check_ring_without_signal(room, "PID namespace", [](const child::body& run) {
            return child([&run] {
                EXPECT_CHILD(::unshare(CLONE_NEWPID) == 0);
                // It sees no parent, so it cannot be a `child`.
                const pid_t inner = ::fork();
                if (inner == 0) {
                    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                    end_child(run());
                }
                int status = 0;
                EXPECT_CHILD(::waitpid(inner, &status, 0) == inner);
                return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            });
        });
    }
}
