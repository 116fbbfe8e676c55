// SPDX-License-Identifier: MIT
#include "system/src/races/stage.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace ipcdoor::test {

namespace {

int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

// A source that is there, a different one each time, unless the test names one.
std::uint32_t any_source(const unique_fd& door, random_engine& random) {
    if (test_source() != IPCDOOR_SOURCE_AUTO) return test_source();
    const auto present = get_info(door).sources;
    for (;;) {
        const auto source = static_cast<std::uint32_t>(1 + random() % (IPCDOOR_SOURCE_COUNT - 1));
        if ((present & (1U << source)) != 0) return source;
    }
}

}  // namespace

void race_results::fail(const char* what, int value) {
    if (failures++ == 0) std::snprintf(first_failure, sizeof first_failure, "%s: %d", what, value);
}

stage::stage(const stage_needs& needs, int host, random_engine& random) {
    event = checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    epoll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets),
            "socketpair");
    // The whole room at once, so that nobody else's mapping lands in a hole of it.
    memory_bytes = (8 + race_max_data_pages) * race_page;
    memory = static_cast<char*>(
        ::mmap(nullptr, 2 * memory_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    name = fresh_name();
    open_endpoints(needs, host, random);
}

void stage::open_endpoints(const stage_needs& needs, int host, random_engine& random) {
    const bool lonely = needs.few_holders && host < 0;
    may_unload = lonely;
    // of the rounds with few holders some have none at all
    const bool empty = lonely && !needs.mappings && random() % 4 == 0;
    if (empty) return;
    auto opened = open_door();
    if (needs.listener) {
        auto args = listen_args(name + "-l");
        args.source = needs.msi ? IPCDOOR_SOURCE_MSI : any_source(opened, random);
        args.backlog = 2;
        if (!lonely || random() % 2 == 0) listener = listen(opened, args).release();
    }
    endpoint first;
    if (host >= 0) {
        first = attach(opened, attach_args_fd(host));
    } else {
        auto args = create_args(name, race_data_pages * race_page);
        args.max_data_bytes = race_max_data_pages * race_page;
        args.slots = 6;
        args.source = needs.msi ? IPCDOOR_SOURCE_MSI : any_source(opened, random);
        if (random() % 4 == 0) args.flags = IPCDOOR_CREATE_STAMPS;
        first = create(opened, args);
    }
    a_slot = first.info.slot;
    b_slot = a_slot;
    if (!lonely) {
        auto second = attach_to(opened, first);
        b_slot = second.info.slot;
        b = second.fd.release();
    }
    if (needs.mappings || (!lonely && random() % 2 == 0)) {
        state_bytes = first.info.state_bytes;
        data_offset = state_bytes + race_page;
        const auto map = [&](std::size_t at, std::uint64_t offset, std::size_t bytes, int how) {
            if (::mmap(memory + at, bytes, how, MAP_SHARED | MAP_FIXED, first.get(),
                       static_cast<off_t>(offset)) == MAP_FAILED)
                throw std::system_error(errno, std::generic_category(), "mmap");
        };
        const int rw = PROT_READ | PROT_WRITE;
        map(0, first.info.state_offset, state_bytes, PROT_READ);
        map(state_bytes, first.info.slot_offset + a_slot * first.info.slot_bytes, race_page, rw);
        map(data_offset, first.info.data_offset, race_max_data_pages * race_page, rw);
        mapped = true;
    }
    a = first.fd.release();
    focus = listener >= 0 && random() % 2 == 0 ? listener : a;
    // With few holders a mapping alone may be what is left of an endpoint.
    if (lonely && mapped && random() % 2 == 0) {
        ::close(a);
        a = -1;
        focus = listener;
    }
    if (!lonely) door = opened.release();
}

stage::~stage() {
    for (const int fd : {listener, a, b, door, event, epoll, sockets[0], sockets[1]})
        if (fd >= 0 && (fd != focus || closed == 0)) ::close(fd);
    ::munmap(memory, 2 * memory_bytes);
}

bool race_side::note(const char* call, int result, std::initializer_list<int> allowed) {
    const int error = result < 0 ? -result : 0;
    ++results.ends[index][static_cast<std::size_t>(error) < ends_count ? error : EINVAL];
    if (error == 0) return true;
    for (const int each : allowed)
        if (each == error) return false;
    results.fail(call, result);
    return false;
}

void random_skew(random_engine& random, unsigned max_log2_ns) {
    const auto end = now_ns() + random() % (1U << (1 + random() % max_log2_ns));
    while (now_ns() < end) continue;
}

}  // namespace ipcdoor::test
