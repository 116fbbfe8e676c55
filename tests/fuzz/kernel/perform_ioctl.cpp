// SPDX-License-Identifier: MIT
// The calls on doors, listeners and endpoints.
#include <linux/ipcdoor.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fuzz/kernel/actor.hpp"

namespace kfuzz {

namespace {

std::uint32_t word(const operation& op, const char* field_name) {
    return static_cast<std::uint32_t>(op.get(field_name));
}

template <std::size_t N>
void set_name(char (&field)[N], const operation& op) {
    const auto all = names();
    const std::string& text = all[std::min<std::size_t>(op.get("name"), all.size() - 1)];
    std::memcpy(field, text.data(), std::min(N, text.size()));
}

std::uint64_t absolute_ns(std::uint64_t deadline) {
    if (deadline < 2 || deadline >> 32 != 0) return deadline;
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec) + deadline * 1'000;
}

std::uintptr_t mapping_address(const actor& by, std::uint64_t kind) {
    const std::uint64_t index = kind - at_mapping;
    return index < map_registers ? by.regs->maps[index].load() >> 20 << 12 : 0;
}

std::uintptr_t place(actor& by, std::uint64_t kind, const void* content, std::size_t bytes,
                     std::size_t dirty_size) {
    if (kind < at_mapping)
        return by.around->memory[by.index].place(kind, content, bytes, dirty_size);
    const std::uintptr_t at = mapping_address(by, kind);
    // where it cannot be written the kernel gets to see what is there
    if (at != 0) by.guard([&] { std::memcpy(reinterpret_cast<void*>(at), content, bytes); });
    return at;
}

std::uint64_t seen_address(const actor& by, const operation& op) {
    const std::uint64_t kind = op.get("seen");
    if (kind == 0) return 0;
    if (kind - 1 < at_mapping) return by.around->memory[by.index].place_seen(kind - 1);
    return mapping_address(by, kind - 1);
}

std::int64_t issue(actor& by, const operation& op, unsigned long command, const void* argument,
                   std::size_t bytes) {
    const std::uint64_t size = op.get("size");
    std::size_t told = bytes;
    if (size != 0) {
        told = size & _IOC_SIZEMASK;
        command &= ~(static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT);
        command |= static_cast<unsigned long>(told) << _IOC_SIZESHIFT;
    }
    const std::size_t dirty_size = (size & (1u << 16)) != 0 ? told : 0;
    const std::uintptr_t at = place(by, op.get("at"), argument, bytes, dirty_size);
    const int fd = by.regs->fd(op.get("fd"));
    const std::uint64_t failure = op.get("fail");
    if (failure != 0) set_failure(by, failure);
    const std::int64_t result = outcome(::syscall(SYS_ioctl, fd, command, at));
    if (failure != 0) set_failure(by, 0);
    return result;
}

// For races: what takes long elsewhere meets one of many short calls.
std::uint64_t repetitions(const operation& op) {
    return std::min<std::uint64_t>(op.get("times"), 200);
}

// A call that makes a descriptor; of several the last one is kept.
template <typename T>
std::int64_t issue_maker(actor& by, const operation& op, unsigned long command, const T& argument,
                         std::uint64_t again = 0) {
    std::int64_t result = issue(by, op, command, &argument, sizeof(argument));
    for (std::uint64_t i = 0; i < again; ++i) {
        if (result >= 0) ::syscall(SYS_close, result);
        result = issue(by, op, command, &argument, sizeof(argument));
    }
    by.regs->keep(op.get("to"), result);
    return result;
}

template <typename T>
std::int64_t issue_plain(actor& by, const operation& op, unsigned long command, const T& argument) {
    return issue(by, op, command, &argument, sizeof(argument));
}

std::int64_t create(actor& by, const operation& op) {
    ipcdoor_create args{};
    args.data_bytes = op.get("data");
    args.max_data_bytes = op.get("max_data");
    args.slot_bytes = op.get("slot_bytes");
    args.slots = word(op, "slots");
    args.source = word(op, "source");
    args.flags = word(op, "flags");
    args.mode = word(op, "mode");
    args.uid = word(op, "uid");
    args.gid = word(op, "gid");
    set_name(args.name, op);
    return issue_maker(by, op, IPCDOOR_IOC_CREATE, args, repetitions(op));
}

std::int64_t attach(actor& by, const operation& op) {
    ipcdoor_attach args{};
    set_name(args.name, op);
    args.fd = by.regs->fd(op.get("from"));
    args.flags = word(op, "flags");
    args.rights = word(op, "rights");
    args.slot = word(op, "slot");
    return issue_maker(by, op, IPCDOOR_IOC_ATTACH, args, repetitions(op));
}

std::int64_t listen(actor& by, const operation& op) {
    ipcdoor_listen args{};
    set_name(args.name, op);
    args.slot_bytes = op.get("slot_bytes");
    args.data_bytes = op.get("data");
    args.source = word(op, "source");
    args.flags = word(op, "flags");
    args.mode = word(op, "mode");
    args.uid = word(op, "uid");
    args.gid = word(op, "gid");
    args.backlog = word(op, "backlog");
    return issue_maker(by, op, IPCDOOR_IOC_LISTEN, args);
}

std::int64_t connect(actor& by, const operation& op) {
    ipcdoor_connect args{};
    set_name(args.name, op);
    args.deadline_ns = absolute_ns(op.get("deadline"));
    args.max_bytes = op.get("max");
    args.flags = word(op, "flags");
    args.server_uid = word(op, "uid");
    return issue_maker(by, op, IPCDOOR_IOC_CONNECT, args, repetitions(op));
}

std::int64_t accept(actor& by, const operation& op) {
    ipcdoor_accept args{};
    args.deadline_ns = absolute_ns(op.get("deadline"));
    args.flags = word(op, "flags");
    args.pad = word(op, "pad");
    return issue_maker(by, op, IPCDOOR_IOC_ACCEPT, args);
}

ipcdoor_ring ring_arguments(const operation& op, const char* flags_name) {
    ipcdoor_ring args{};
    args.slot = word(op, "slot");
    args.vector = word(op, "vector");
    args.generation = word(op, "generation");
    args.flags = word(op, flags_name);
    args.value = op.get("value");
    return args;
}

ipcdoor_wait wait_arguments(const actor& by, const operation& op) {
    ipcdoor_wait args{};
    args.mask = op.get("mask");
    args.deadline_ns = absolute_ns(op.get("deadline"));
    args.seen = seen_address(by, op);
    args.flags = word(op, "flags");
    args.pad = word(op, "pad");
    return args;
}

std::int64_t ring(actor& by, const operation& op) {
    const ipcdoor_ring args = ring_arguments(op, "flags");
    std::int64_t result = 0;
    for (std::uint64_t i = 0; i <= repetitions(op); ++i)
        result = issue_plain(by, op, IPCDOOR_IOC_RING, args);
    return result;
}

std::int64_t ring_wait(actor& by, const operation& op) {
    const ipcdoor_ring_wait args{ring_arguments(op, "ring_flags"), wait_arguments(by, op)};
    return issue_plain(by, op, IPCDOOR_IOC_RING_WAIT, args);
}

std::int64_t bind_eventfd(actor& by, const operation& op) {
    ipcdoor_bind_eventfd args{};
    args.mask = op.get("mask");
    args.fd = by.regs->fd(op.get("event"));
    args.flags = word(op, "flags");
    std::int64_t result = 0;
    for (std::uint64_t i = 0; i <= repetitions(op); ++i)
        result = issue_plain(by, op, IPCDOOR_IOC_BIND_EVENTFD, args);
    return result;
}

std::int64_t bind_signal(actor& by, const operation& op) {
    ipcdoor_bind_signal args{};
    args.mask = op.get("mask");
    args.signo = word(op, "signo");
    args.flags = word(op, "flags");
    std::int64_t result = 0;
    for (std::uint64_t i = 0; i <= repetitions(op); ++i)
        result = issue_plain(by, op, IPCDOOR_IOC_BIND_SIGNAL, args);
    return result;
}

std::int64_t peer_info(actor& by, const operation& op) {
    ipcdoor_peer_info args{};
    args.slot = word(op, "slot");
    args.flags = word(op, "flags");
    return issue_plain(by, op, IPCDOOR_IOC_PEER_INFO, args);
}

std::int64_t seal(actor& by, const operation& op) {
    ipcdoor_seal args{};
    args.add = word(op, "add");
    args.flags = word(op, "flags");
    args.pad = word(op, "pad");
    return issue_plain(by, op, IPCDOOR_IOC_SEAL, args);
}

std::int64_t grow(actor& by, const operation& op) {
    ipcdoor_grow args{};
    args.data_bytes = op.get("data");
    args.flags = word(op, "flags");
    args.pad = word(op, "pad");
    return issue_plain(by, op, IPCDOOR_IOC_GROW, args);
}

// So many names that some share a bucket of the table. The segments live as long as
// their descriptors, which are in no register.
std::int64_t crowd(const actor& by, const operation& op) {
    ipcdoor_create args{};
    args.slots = 2;
    args.uid = args.gid = ~std::uint32_t{0};
    std::int64_t made = 0;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(op.get("count"), 63); ++i) {
        std::memcpy(args.name, "crowd-", 6);
        args.name[6] = static_cast<char>('0' + i / 8);
        args.name[7] = static_cast<char>('0' + i % 8);
        if (::syscall(SYS_ioctl, by.regs->fd(op.get("fd")), IPCDOOR_IOC_CREATE, &args) >= 0) ++made;
    }
    return made;
}

std::int64_t any_ioctl(actor& by, const operation& op) {
    std::array<std::uint64_t, 8> args{};
    args.fill(op.get("value"));
    const auto command = _IOC(_IOC_READ | _IOC_WRITE, static_cast<unsigned>(op.get("type")),
                              static_cast<unsigned>(op.get("nr")), sizeof(args));
    return issue_plain(by, op, command, args);
}

std::int64_t get_info(actor& by, const operation& op) {
    ipcdoor_info args{};
    args.flags = word(op, "flags");
    return issue_plain(by, op, IPCDOOR_IOC_GET_INFO, args);
}

}  // namespace

std::int64_t perform_ioctl(actor& by, const operation& op) {
    switch (op.kind) {
        case op_kind::get_info: return get_info(by, op);
        case op_kind::create: return create(by, op);
        case op_kind::attach: return attach(by, op);
        case op_kind::listen: return listen(by, op);
        case op_kind::connect: return connect(by, op);
        case op_kind::accept: return accept(by, op);
        case op_kind::endpoint_info:
            return issue_plain(by, op, IPCDOOR_IOC_ENDPOINT_INFO, ipcdoor_endpoint_info{});
        case op_kind::ring: return ring(by, op);
        case op_kind::wait: return issue_plain(by, op, IPCDOOR_IOC_WAIT, wait_arguments(by, op));
        case op_kind::ring_wait: return ring_wait(by, op);
        case op_kind::bind_eventfd: return bind_eventfd(by, op);
        case op_kind::bind_signal: return bind_signal(by, op);
        case op_kind::peer_info: return peer_info(by, op);
        case op_kind::seal: return seal(by, op);
        case op_kind::grow: return grow(by, op);
        case op_kind::crowd: return crowd(by, op);
        default: return any_ioctl(by, op);
    }
}

}  // namespace kfuzz
