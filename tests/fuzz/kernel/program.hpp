// SPDX-License-Identifier: MIT
// A fuzzing program: operations on the module by several actors, and its text form.
//
// Actors are the threads t0, t1, t2 of one process, and its children c0, c1, which
// the operation `fork` starts. t0 runs its operations alone until the first one of
// t1 or t2; then all go on at the same time, each in its own order.
//
// Descriptors live in registers f0 to f11 and mappings in m0 to m5, so that a
// program means the same whatever numbers the kernel gives out. A child gets a copy
// of the registers. What is in no register is `none`, as a descriptor -1.
//
// The text form has one operation a line (or separated by ';'), a field that has its
// usual value is left out, '#' begins a comment, an empty line ends a program:
//
//     t0 open to=f0
//     t0 create fd=f0 to=f1 slots=3 source=4 name="a"
//     t1 wait fd=f1 mask=0x2 deadline=500 flags=1
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_PROGRAM_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_PROGRAM_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kfuzz {

inline constexpr unsigned threads = 3;
inline constexpr unsigned children = 2;
inline constexpr unsigned actors = threads + children;
inline constexpr unsigned fd_registers = 12;
inline constexpr unsigned map_registers = 6;
inline constexpr std::uint64_t none = 255;

inline constexpr std::size_t min_operations = 5;
inline constexpr std::size_t max_operations = 28;
inline constexpr std::size_t max_fields = 16;
// see settings() in actor.hpp
inline constexpr std::size_t settings_count = 5;

// What a field holds; says how it is made up, mutated and written.
enum class field_type : std::uint8_t {
    // registers that are read, by what should be in them
    door,
    endpoint,
    listener,
    eventfd,
    epoll,
    any_fd,
    mapping,
    // registers that are written
    to_fd,
    to_mapping,
    // the structures' fields
    flags,  // usual: a subset of `parameter`
    number,
    pad,
    data_bytes,
    slots,
    source,
    mode,
    user,
    name,  // an index into names()
    rights,
    slot,
    backlog,
    deadline,  // 0; below 2^32: so many microseconds from now; other: as it is
    vector,
    mask,
    generation,
    value,
    signo,
    seals,
    seen,  // where seen[] is: 0 none, else as `pointer` less 1
    // how a call is made
    size,     // of the structure, 0: the usual one; with bit 16 the tail is not zero
    pointer,  // see pointer_kind
    fail,     // the n-th allocation or copy of the call fails, 0: none; `parameter`: most often
              // up to that one
    // the memory system
    map_kind,
    page,
    pages,
    protection,
    map_flags,
    advice,
    // others
    events,
    timeout,
    choice,  // 0 up to `parameter`
    actor,
};

// Where an argument lies in memory.
enum pointer_kind : std::uint64_t {
    at_buffer,
    at_null,
    at_unmapped,
    at_page_end,   // its second half is not mapped
    at_read_only,  // it cannot be written back
    at_kernel,
    at_unaligned,
    at_non_canonical,
    at_kinds,
    at_mapping = 16,  // + register: in a mapping
};

enum class op_kind : std::uint8_t {
    open,
    get_info,
    create,
    attach,
    listen,
    connect,
    accept,
    endpoint_info,
    ring,
    wait,
    ring_wait,
    bind_eventfd,
    bind_signal,
    peer_info,
    seal,
    grow,
    crowd,
    ioctl,
    mmap,
    munmap,
    mprotect,
    mremap,
    madvise,
    remap,
    touch,
    refault,
    copy,
    poll,
    epoll_create,
    epoll_ctl,
    epoll_wait,
    uring_poll,
    eventfd,
    read,
    write,
    file,
    nonblock,
    close,
    dup,
    send,
    receive,
    steal,
    fork,
    exec,
    exit,
    kill,
    sigmask,
    sigwait,
    unshare,
    nofile,
    unplug,
    plug,
    setting,
    pause,
    count,
};
inline constexpr std::size_t op_kinds = static_cast<std::size_t>(op_kind::count);

struct field {
    const char* name;
    field_type type;
    std::uint64_t usual = 0;
    std::uint64_t parameter = 0;
};

struct op_spec {
    const char* name;
    unsigned weight;  // how often it is chosen, relative to the others
    std::vector<field> fields;

    // The index of a field; throws std::out_of_range.
    std::size_t index_of(const char* field_name) const;
};

const op_spec& spec(op_kind kind);

// The texts that a field of type `name` can hold; the last ones are malformed. One
// may be longer than the structure's field: it is cut, without a terminator.
std::span<const std::string> names();
inline constexpr std::size_t good_names = 6;

struct operation {
    op_kind kind{};
    std::uint8_t actor = 0;
    std::array<std::uint64_t, max_fields> values{};

    // The usual value of every field.
    static operation usual(op_kind kind, unsigned actor);

    std::uint64_t get(const char* field_name) const;
    operation& set(const char* field_name, std::uint64_t value);
    bool operator==(const operation&) const = default;
};

using program = std::vector<operation>;

bool has(std::span<const operation> operations, op_kind kind);

// One operation a line, or with `separator` between them.
std::string to_text(const program& what, const char* separator = "\n");
std::string actor_name(unsigned actor);

// All programs of a text. Throws std::runtime_error naming the line.
std::vector<program> parse_programs(const std::string& text);

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_PROGRAM_HPP
