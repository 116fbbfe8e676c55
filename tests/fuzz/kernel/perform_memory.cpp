// SPDX-License-Identifier: MIT
// Mappings. Each register has a range of addresses of its own, so that a mapping that
// another thread has taken away is never mistaken for memory of the fuzzer.
#include <linux/ipcdoor.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "fuzz/kernel/actor.hpp"

namespace kfuzz {

namespace {

struct range {
    std::byte* at;
    std::size_t bytes;
};

std::uint64_t packed(std::uint64_t address, std::uint64_t pages) {
    return address >> 12 << 20 | pages;
}

// The part of a mapping that an operation names, cut to what the mapping has.
range part_of(const actor& by, const operation& op) {
    const std::uint64_t index = op.get("map");
    if (index >= map_registers) return {nullptr, 0};
    const std::uint64_t map = by.regs->maps[index].load();
    const std::uint64_t all = map & 0xfffff;
    const std::uint64_t first = std::min(op.get("page"), all);
    const std::uint64_t count = std::min(op.get("pages"), all - first);
    return {reinterpret_cast<std::byte*>((map >> 20 << 12) + first * page_bytes),
            count * page_bytes};
}

std::byte* arena_of(const actor& by, std::uint64_t index) {
    return by.around->arena + index % map_registers * map_arena_pages * page_bytes;
}

// From where the kind of pages begins; the layout as ENDPOINT_INFO tells it.
std::uint64_t offset_of(const operation& op, int fd) {
    ipcdoor_endpoint_info info{};
    ::syscall(SYS_ioctl, fd, IPCDOOR_IOC_ENDPOINT_INFO, &info);
    switch (op.get("kind")) {
        case 0: return info.state_offset;
        case 1: return info.slot_offset + op.get("slot") * info.slot_bytes;
        case 2: return info.data_offset;
        default: return 0;
    }
}

std::int64_t map(actor& by, const operation& op) {
    const int fd = by.regs->fd(op.get("fd"));
    const std::uint64_t offset = offset_of(op, fd) + op.get("page") * page_bytes;
    const std::uint64_t pages = op.get("pages");
    const std::uint64_t index = op.get("to");
    const bool fits = pages <= map_arena_pages && index < map_registers;
    const auto flags = static_cast<long>(op.get("flags")) | (fits ? MAP_FIXED : 0);
    const std::int64_t result =
        outcome(::syscall(SYS_mmap, fits ? arena_of(by, index) : nullptr, pages * page_bytes,
                          op.get("prot"), flags, fd, offset));
    if (result < 0) return result;
    if (fits)
        by.regs->maps[index] = packed(static_cast<std::uint64_t>(result), pages);
    else
        ::syscall(SYS_munmap, result, pages * page_bytes);
    return 0;
}

std::int64_t remap_elsewhere(actor& by, const operation& op) {
    const range part = part_of(by, op);
    const std::uint64_t index = op.get("map");
    const std::uint64_t pages = std::min<std::uint64_t>(op.get("new"), map_arena_pages);
    // never to where the kernel likes: nobody would take it away
    const auto flags = static_cast<long>(op.get("flags")) |
                       ((op.get("flags") & MREMAP_MAYMOVE) != 0 ? MREMAP_FIXED : 0);
    const std::int64_t result = outcome(::syscall(
        SYS_mremap, part.at, part.bytes, pages * page_bytes, flags, arena_of(by, index + 1)));
    if (result >= 0) by.regs->maps[index] = packed(static_cast<std::uint64_t>(result), pages);
    return result < 0 ? result : 0;
}

std::int64_t touch(actor& by, const operation& op) {
    const std::uint64_t index = op.get("map");
    if (index >= map_registers) return -EINVAL;
    const std::uint64_t map = by.regs->maps[index].load();
    const std::uint64_t pages = map & 0xfffff;
    if (pages == 0) return -EINVAL;
    auto* at = reinterpret_cast<volatile std::uint64_t*>((map >> 20 << 12) +
                                                         op.get("page") % pages * page_bytes);
    const bool write = op.get("write") != 0;
    const std::uint64_t failure = op.get("fail");
    if (failure != 0) set_failure(by, failure);
    const bool there = by.guard([&] {
        if (write)
            *at = 0x0123456789abcdef;
        else
            static_cast<void>(*at);
    });
    if (failure != 0) set_failure(by, 0);
    return there ? 0 : -EFAULT;
}

// Every page anew, as often as asked, against whoever takes the pages away meanwhile.
std::int64_t refault(actor& by, const operation& op) {
    const std::uint64_t index = op.get("map");
    if (index >= map_registers) return -EINVAL;
    const std::uint64_t map = by.regs->maps[index].load();
    const std::size_t bytes = (map & 0xfffff) * page_bytes;
    auto* const at = reinterpret_cast<std::byte*>(map >> 20 << 12);
    const bool write = op.get("write") != 0;
    const std::uint64_t failure = op.get("fail");
    bool there = true;
    for (std::uint64_t i = 0; there && i < std::min<std::uint64_t>(op.get("times"), 200); ++i) {
        ::syscall(SYS_madvise, at, bytes, MADV_DONTNEED);
        if (failure != 0) set_failure(by, failure);
        there = by.guard([&] {
            for (std::size_t from = 0; from < bytes; from += page_bytes) {
                auto* word = reinterpret_cast<volatile std::uint64_t*>(at + from);
                if (write)
                    *word = i;
                else
                    static_cast<void>(*word);
            }
        });
        if (failure != 0) set_failure(by, 0);
    }
    return there ? 0 : -EFAULT;
}

// The kernel's own way to the pages of a process, which pins them.
std::int64_t copy(actor& by, const operation& op) {
    static std::array<std::byte, 3 * page_bytes> buffer;
    const range part = part_of(by, op);
    iovec local{buffer.data(), std::min(part.bytes, buffer.size())};
    iovec remote{part.at, local.iov_len};
    const auto self = ::syscall(SYS_getpid);
    return outcome(op.get("write") != 0
                       ? ::syscall(SYS_process_vm_writev, self, &local, 1, &remote, 1, 0)
                       : ::syscall(SYS_process_vm_readv, self, &local, 1, &remote, 1, 0));
}

}  // namespace

std::int64_t perform_memory(actor& by, const operation& op) {
    switch (op.kind) {
        case op_kind::mmap: return map(by, op);
        case op_kind::mremap: return remap_elsewhere(by, op);
        case op_kind::touch: return touch(by, op);
        case op_kind::refault: return refault(by, op);
        case op_kind::copy: return copy(by, op);
        default: break;
    }
    const range part = part_of(by, op);
    switch (op.kind) {
        case op_kind::munmap: return outcome(::syscall(SYS_munmap, part.at, part.bytes));
        case op_kind::mprotect:
            return outcome(::syscall(SYS_mprotect, part.at, part.bytes, op.get("prot")));
        case op_kind::madvise:
            return outcome(::syscall(SYS_madvise, part.at, part.bytes, op.get("advice")));
        default:
            return outcome(
                ::syscall(SYS_remap_file_pages, part.at, part.bytes, 0, op.get("offset"), 0));
    }
}

}  // namespace kfuzz
