// SPDX-License-Identifier: MIT
#include "system/src/races/actions.hpp"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "support/descriptor_message.hpp"
#include "system/src/races/poll_ring.hpp"
#include "system/src/shared/module_control.hpp"

namespace ipcdoor::test {

namespace {

int result_of(long result) { return result < 0 ? -errno : static_cast<int>(result); }

std::uint64_t soon_ns(race_side& side) { return now_ns() + side.random() % 500'000; }

// poll(2) without waiting; what it says does not matter here.
void look_at(int fd) {
    pollfd one{fd, POLLIN | POLLPRI, 0};
    (void)::poll(&one, 1, 0);
}

// ---- descriptors ----

void run_close(race_side& side) {
    if (side.on->focus < 0) return;
    if (side.note("close", result_of(::close(side.on->focus)), {EBADF})) ++side.on->closed;
}

void run_dup(race_side& side) {
    if (side.on->focus < 0) return;
    const unique_fd copy(result_of(::dup(side.on->focus)));
    if (side.note("dup", copy.get(), {EBADF})) look_at(copy.get());
}

// What a child may do with the descriptors that it inherited: nothing, ATTACH by
// one, or hold them to its end.
void run_fork(race_side& side) {
    const stage& on = *side.on;
    const bool attach = side.one_in(2);
    const pid_t child = ::fork();
    if (child == 0) {
        ipcdoor_ring ring{};
        ring.slot = on.b_slot;
        ring.vector = 1;
        int result = call(on.a, IPCDOOR_IOC_RING, &ring);
        if (result != -EPERM && result != -EBADF) ::_exit(1);
        if (on.mapped) {
            // The mapping stayed with the parent.
            unsigned char resident = 0;
            if (::mincore(on.memory, race_page, &resident) == 0) ::_exit(2);
        }
        if (attach && on.door >= 0) {
            auto args = attach_args_fd(on.a);
            result = on.a < 0 ? -EBADF : call(on.door, IPCDOOR_IOC_ATTACH, &args);
            if (result < 0 && result != -EBADF && result != -EPIPE && result != -ENODEV &&
                result != -ENOSPC)
                ::_exit(3);
        }
        ::_exit(0);
    }
    if (!side.note("fork", result_of(child), {})) return;
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        side.results.fail("the child of fork, raw status", status);
}

// Through a socket to ourselves; some stay in it.
void run_pass(race_side& side) {
    const stage& on = *side.on;
    if (on.focus < 0) return;
    descriptor_message out(on.focus);
    if (!side.note("sendmsg", result_of(::sendmsg(on.sockets[0], out.get(), 0)), {EBADF})) return;
    if (side.one_in(4)) return;
    descriptor_message in;
    if (!side.note("recvmsg", result_of(::recvmsg(on.sockets[1], in.get(), MSG_CMSG_CLOEXEC)),
                   {EAGAIN}))
        return;
    const unique_fd received(in.received());
    if (!received) {
        side.results.fail("recvmsg brought no descriptor", 0);
        return;
    }
    look_at(received.get());
}

void run_epoll(race_side& side) {
    const stage& on = *side.on;
    if (on.focus < 0) return;
    epoll_event event{EPOLLIN | EPOLLPRI | (side.one_in(2) ? EPOLLET : 0U), {}};
    side.note("epoll add", result_of(::epoll_ctl(on.epoll, EPOLL_CTL_ADD, on.focus, &event)),
              {EBADF, EEXIST});
    side.note("epoll_wait", result_of(::epoll_wait(on.epoll, &event, 1, side.one_in(4) ? 1 : 0)),
              {EINTR});
    if (side.one_in(2)) return;  // the last close takes it out
    side.note("epoll del", result_of(::epoll_ctl(on.epoll, EPOLL_CTL_DEL, on.focus, nullptr)),
              {EBADF, ENOENT});
}

void prepare_io_uring(race_side& side) { side.ring = std::make_unique<poll_ring>(); }

void run_io_uring(race_side& side) {
    if (side.on->focus < 0) return;
    if (!side.note("io_uring add", side.ring->add(side.on->focus), {EINTR})) return;
    switch (side.random() % 4) {
        case 0: side.ring.reset(); return;  // with the poll under way
        case 1: side.note("io_uring remove", side.ring->remove(), {EINTR}); break;
        default: break;
    }
    int result = 0;
    while ((result = side.ring->completion()) != poll_ring::none)
        side.note("io_uring poll", result, {EBADF, ECANCELED, ENOENT, EALREADY});
}

// ---- mappings ----

void run_munmap(race_side& side) {
    const stage& on = *side.on;
    if (!on.mapped) return;
    int result = 0;
    switch (side.random() % 3) {
        case 0: result = ::munmap(on.memory, on.memory_bytes); break;
        case 1: result = ::munmap(on.memory + on.data_offset + race_page, race_page); break;
        default: result = ::munmap(on.memory, on.data_offset); break;
    }
    side.note("munmap", result_of(result), {});
}

void run_mremap(race_side& side) {
    const stage& on = *side.on;
    if (!on.mapped) return;
    char* const data = on.memory + on.data_offset;
    const std::size_t bytes = race_max_data_pages * race_page;
    void* moved = nullptr;
    switch (side.random() % 3) {
        case 0:
            moved = ::mremap(data, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                             on.memory + on.memory_bytes + on.data_offset);
            break;
        case 1: moved = ::mremap(data, bytes, race_page, 0); break;
        default:
            // beyond its end, which must never be
            moved = ::mremap(data, race_page, 16 * race_page, MREMAP_MAYMOVE);
            if (moved != MAP_FAILED) side.results.fail("mremap enlarged a mapping", 0);
            break;
    }
    side.note("mremap", moved == MAP_FAILED ? -errno : 0, {EFAULT});
}

thread_local sigjmp_buf touch_end;
thread_local volatile sig_atomic_t touching = 0;

void run_touch(race_side& side) {
    const stage& on = *side.on;
    if (!on.mapped) return;
    const int signo = sigsetjmp(touch_end, 1);
    if (signo == 0) {
        touching = 1;
        auto* const words = reinterpret_cast<volatile std::uint64_t*>(on.memory);
        const std::size_t data = on.data_offset / sizeof *words;
        // STATE and its SLOT, then DATA, with what GROW has yet to make
        for (std::size_t i = 0; i < 3; ++i) (void)words[i * 64];
        words[on.state_bytes / sizeof *words] = 1;
        const std::size_t pages = side.pages_may_appear ? race_max_data_pages : race_data_pages;
        for (std::size_t page = 0; page < pages; ++page) words[data + page * 512] = page;
    }
    touching = 0;
    const int end = signo == 0 ? 0 : signo == SIGBUS ? got_sigbus : got_sigsegv;
    const int no_page = side.pages_may_appear || side.device_may_be_gone ? got_sigbus : 0;
    const int no_mapping = side.mappings_may_be_gone ? got_sigsegv : 0;
    side.note("touch", -end, {no_page, no_mapping});
}

// ---- an endpoint's calls ----

void run_wait(race_side& side) {
    const stage& on = *side.on;
    std::uint64_t seen[IPCDOOR_VECTORS] = {};
    ipcdoor_wait args{};
    args.mask = side.one_in(2) ? ~std::uint64_t{0} : bit(1);
    args.deadline_ns = soon_ns(side);
    if (side.one_in(3)) {
        args.seen = reinterpret_cast<std::uintptr_t>(seen);
    } else {
        args.flags = IPCDOOR_WAIT_ACK;
    }
    side.note("WAIT", call(on.a, IPCDOOR_IOC_WAIT, &args), {ETIMEDOUT, EBADF, EINTR, ESHUTDOWN});
}

// How often in this round: a few times, or now and then so often that what is used and
// given up in a few instructions meets.
unsigned some_or_many(race_side& side) {
    return 1 + static_cast<unsigned>(side.random() % (side.one_in(8) ? 256 : 4));
}

void run_ring(race_side& side) {
    const stage& on = *side.on;
    const bool to_a = side.one_in(2);
    const int from = to_a ? on.b : on.a;
    ipcdoor_ring_wait both{};
    both.ring.slot = to_a ? on.a_slot : on.b_slot;
    both.ring.vector = 1;
    both.wait.mask = bit(1);
    both.wait.flags = IPCDOOR_WAIT_ACK;
    for (unsigned rings = some_or_many(side); rings > 0; --rings) {
        side.note("RING", call(from, IPCDOOR_IOC_RING, &both.ring), {EBADF, EPIPE, ESHUTDOWN});
    }
    both.wait.deadline_ns = soon_ns(side);
    side.note("RING_WAIT", call(from, IPCDOOR_IOC_RING_WAIT, &both),
              {EBADF, EPIPE, ESHUTDOWN, ETIMEDOUT, EINTR});
}

void run_change(race_side& side) {
    const stage& on = *side.on;
    if (side.one_in(2)) {
        ipcdoor_seal args{};
        args.add = static_cast<std::uint32_t>(side.random() % 16);
        side.note("SEAL", call(on.a, IPCDOOR_IOC_SEAL, &args), {EBADF, EPERM, EBUSY, ESHUTDOWN});
    } else {
        ipcdoor_grow args{};
        args.data_bytes = (race_data_pages + side.random() % 3) * race_page;
        side.note("GROW", call(on.a, IPCDOOR_IOC_GROW, &args),
                  {EBADF, EPERM, EINVAL, EPIPE, ESHUTDOWN});
    }
}

// More than once: only a binding that takes another's place ends one.
void run_bind(race_side& side) {
    const stage& on = *side.on;
    const std::uint64_t mask = bit(0) | bit(1);
    for (unsigned binds = some_or_many(side); binds > 0; --binds) {
        if (side.one_in(2)) {
            ipcdoor_bind_eventfd args{mask, side.one_in(3) ? -1 : on.event, 0};
            side.note("BIND_EVENTFD", call(on.a, IPCDOOR_IOC_BIND_EVENTFD, &args),
                      {EBADF, ESHUTDOWN});
        } else {
            const auto signo = static_cast<std::uint32_t>(side.one_in(3) ? 0 : SIGRTMIN);
            ipcdoor_bind_signal args{mask, signo, 0};
            side.note("BIND_SIGNAL", call(on.a, IPCDOOR_IOC_BIND_SIGNAL, &args),
                      {EBADF, ESHUTDOWN});
        }
    }
}

// ---- a door's calls ----

// The stage's door, or one of this side's own in `own`.
int door_of(race_side& side, unique_fd& own) {
    if (side.on->door >= 0) return side.on->door;
    own.reset(result_of(::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC)));
    if (side.door_may_be_gone) {
        side.note("open", own.get(), {ENOENT, ENODEV, ENXIO});
    } else {
        side.note("open", own.get(), {});
    }
    return own.get();
}

void run_connect(race_side& side) {
    const stage& on = *side.on;
    unique_fd own;
    const int door = door_of(side, own);
    if (door < 0) return;
    unique_fd client;
    unique_fd server;
    const auto connect = [&] {
        auto args = connect_args(on.name + "-l");
        args.deadline_ns = soon_ns(side);
        client.reset(call(door, IPCDOOR_IOC_CONNECT, &args));
        side.note("CONNECT", client.get(), {ENOENT, ECONNREFUSED, ETIMEDOUT, EINTR, ENODEV});
    };
    const auto accept = [&] {
        ipcdoor_accept args{};
        args.deadline_ns = soon_ns(side);
        server.reset(call(on.listener, IPCDOOR_IOC_ACCEPT, &args));
        // what the other side closed may be another descriptor by now
        side.note("ACCEPT", server.get(), {EBADF, ENOTTY, ETIMEDOUT, EINTR});
    };
    if (side.one_in(2)) connect();
    if (on.listener >= 0) accept();
    if (!client) connect();
    if (!client) return;
    ipcdoor_ring ring{};
    ring.vector = 1;
    side.note("RING of a connection", call(client, IPCDOOR_IOC_RING, &ring), {EPIPE, ESHUTDOWN});
    if (side.one_in(2)) client.reset();
}

// A new endpoint of the segment, or of a new segment, for a moment.
void run_attach(race_side& side) {
    const stage& on = *side.on;
    unique_fd own;
    const int door = door_of(side, own);
    if (door < 0) return;
    unique_fd made;
    switch (on.a < 0 ? 2 : side.random() % 3) {
        case 0: {
            auto args = attach_args(on.name);
            made.reset(call(door, IPCDOOR_IOC_ATTACH, &args));
            // in the rounds of a dying process the host's segment has no name
            side.note("ATTACH by name", made.get(), {ENOENT, EPIPE, ENOSPC, ENODEV});
            break;
        }
        case 1: {
            auto args = attach_args_fd(on.a);
            made.reset(call(door, IPCDOOR_IOC_ATTACH, &args));
            side.note("ATTACH by descriptor", made.get(), {EBADF, EPIPE, ENOSPC, ENODEV});
            break;
        }
        default: {
            auto args = create_args(on.name + (side.index == 0 ? "-0" : "-1"));
            args.slots = 40;  // two pages of STATE
            made.reset(call(door, IPCDOOR_IOC_CREATE, &args));
            side.note("CREATE", made.get(), {ENODEV});
            break;
        }
    }
}

// ---- the end of things ----

void run_death(race_side& side) {
    switch (side.random() % 3) {
        case 0: ::kill(::getpid(), SIGKILL); break;
        case 1: ::_exit(0);
        default: {
            char program[] = "races";
            char option[] = "--nothing";
            char* const arguments[] = {program, option, nullptr};
            ::execv("/proc/self/exe", arguments);
            side.note("execve", -errno, {});
        }
    }
}

void run_unplug(race_side& side) {
    const auto write = [&](const char* attribute, std::initializer_list<int> allowed) {
        int result = 0;
        try {
            result = edu_attribute(attribute).write();
        } catch (const std::system_error& error) {
            result = -error.code().value();
        }
        if (side.door_may_be_gone && result == -ENOENT) return;  // the driver went
        side.note(attribute, result, allowed);
    };
    write("unbind", {ENODEV});
    if (side.one_in(2)) random_skew(side.random, 16);
    write("bind", {ENODEV, EBUSY});
}

// With a descriptor open it must fail; where it worked the module comes back.
void run_rmmod(race_side& side) {
    const bool must_fail = !side.on->may_unload;
    const int result = unload_module();
    side.note("delete_module", result, {EAGAIN, EBUSY, ENOENT});
    if (result != 0) return;
    if (must_fail) side.results.fail("the module was unloaded while descriptors were open", 0);
    const unique_fd file = open_module_file();
    side.note("finit_module", load_module(file), {EEXIST, EBUSY});
}

extern "C" void end_touch(int signo) {
    if (touching != 0) {
        touching = 0;
        siglongjmp(touch_end, signo);
    }
    ::signal(signo, SIG_DFL);  // not ours: let it end the process
}

extern "C" void ignore_signal(int) {}

}  // namespace

const std::vector<race_action>& race_actions() {
    static const std::vector<race_action> actions{
        {.name = "close", .run = run_close, .releases = true},
        {.name = "munmap",
         .run = run_munmap,
         .on_mappings = true,
         .takes_mappings = true,
         .releases = true},
        {.name = "fork", .run = run_fork},
        {.name = "dup", .run = run_dup, .releases = true},
        {.name = "pass", .run = run_pass, .releases = true},
        {.name = "mremap", .run = run_mremap, .on_mappings = true, .takes_mappings = true},
        {.name = "epoll", .run = run_epoll},
        {.name = "io_uring",
         .run = run_io_uring,
         .prepare = prepare_io_uring,
         .releases = true,
         .uses_io_uring = true},
        {.name = "wait", .run = run_wait},
        {.name = "ring", .run = run_ring},
        {.name = "change", .run = run_change, .on_mappings = true, .grows = true},
        {.name = "bind", .run = run_bind},
        {.name = "touch", .run = run_touch, .on_mappings = true},
        {.name = "attach", .run = run_attach, .releases = true},
        {.name = "connect", .run = run_connect, .on_listener = true, .releases = true},
        {.name = "death", .run = run_death, .releases = true, .dies = true},
        {.name = "unplug", .run = run_unplug, .releases = true, .unplugs = true},
        {.name = "rmmod", .run = run_rmmod, .releases = true, .unloads = true},
    };
    return actions;
}

void prepare_race_signals() {
    struct sigaction action {};
    action.sa_handler = end_touch;
    action.sa_flags = SA_NODEFER;
    ::sigaction(SIGSEGV, &action, nullptr);
    ::sigaction(SIGBUS, &action, nullptr);
    action.sa_handler = ignore_signal;
    action.sa_flags = 0;
    ::sigaction(SIGRTMIN, &action, nullptr);
}

}  // namespace ipcdoor::test
