// SPDX-License-Identifier: MIT
// What an actor needs to perform operations. Everything is prepared before the worker
// is forked; nothing here allocates, because actors run in children of threads and in
// children that share memory.
#ifndef IPCDOOR_TESTS_FUZZ_KERNEL_ACTOR_HPP
#define IPCDOOR_TESTS_FUZZ_KERNEL_ACTOR_HPP

#include <setjmp.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "fuzz/kernel/kcov.hpp"
#include "fuzz/kernel/program.hpp"

namespace kfuzz {

inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::int64_t not_run = INT64_MIN;

// Shared by the fuzzer and all processes of a worker: the program, and how it goes.
struct scoreboard {
    std::array<operation, max_operations> operations_of_program{};
    std::uint32_t length = 0;
    // Futexes: the number of the program to run, and of the last one that is done with
    // nothing left of it.
    std::atomic<std::uint32_t> wanted{0};
    std::atomic<std::uint32_t> done{0};

    std::array<std::atomic<pid_t>, actors> pids{};
    std::array<std::atomic<pid_t>, actors> tids{};
    std::array<std::atomic<std::int64_t>, max_operations> results{};
    std::atomic<std::uint32_t> operations{0};

    std::span<const operation> running() const { return {operations_of_program.data(), length}; }
    // Another program; nobody runs one.
    void load(const program& what);
};

// The registers of one process. A mapping is its first page's number << 20 | pages, in
// one word, because threads change it without a lock.
struct registers {
    std::array<std::atomic<int>, fd_registers> fds{};
    std::array<std::atomic<std::uint64_t>, map_registers> maps{};
    std::array<int, 2> sockets{-1, -1};

    registers();
    void forget();
    int fd(std::uint64_t index) const;
    // Keeps a descriptor; an error leaves the register alone.
    void keep(std::uint64_t index, std::int64_t descriptor);
};

// Memory that an actor's arguments lie in, see pointer_kind.
class argument_memory {
public:
    argument_memory();  // throws std::runtime_error

    // Where `bytes` of `content` are for the kernel to read, those of kind at_mapping
    // excepted. `dirty_size` not 0: the last byte of a structure of so many bytes is
    // not zero.
    std::uintptr_t place(std::uint64_t kind, const void* content, std::size_t bytes,
                         std::size_t dirty_size) const;
    // Another place for seen[] of 64 words of zero.
    std::uintptr_t place_seen(std::uint64_t kind) const;

private:
    std::byte* pages_ = nullptr;            // two pages, then one without access
    std::byte* seen_ = nullptr;             // likewise
    std::byte* read_only_ = nullptr;        // one page,
    std::byte* read_only_alias_ = nullptr;  // the same, writable
};

// What root may change while programs run, and up to where: the guest's memory is small.
struct setting {
    const char* path;
    std::uint64_t most;
};
std::span<const setting, settings_count> settings();

// Those of a process that the operation `nofile` lowers.
inline constexpr std::array limits{RLIMIT_NOFILE, RLIMIT_SIGPENDING, RLIMIT_MEMLOCK};

// What does not change from program to program.
struct surroundings {
    bool can_fail = false;       // the kernel injects failures (fail-nth)
    std::string edu_driver;      // the driver's directory in sysfs, "" without
    std::string edu_address;     // the device's name there
    std::byte* arena = nullptr;  // map_arena_pages for each mapping register
    std::array<argument_memory, actors> memory;

    surroundings();  // throws std::runtime_error
};
inline constexpr std::size_t map_arena_pages = 64;

struct actor {
    unsigned index;
    const surroundings* around;
    const kcov_buffers* coverage;
    scoreboard* board;
    registers* regs;
    sigjmp_buf jump;
    volatile bool guarded;
    int fail_file;  // of this thread, -1 until it is needed

    // Runs `access`; false where it ended with SIGSEGV or SIGBUS. `access` owns nothing.
    template <typename Access>
    bool guard(Access access) {
        if (sigsetjmp(jump, 1) != 0) {
            guarded = false;
            return false;
        }
        guarded = true;
        access();
        guarded = false;
        return true;
    }
};

// Every failure counts, those of calls that might sleep and of small blocks included, and
// none is worth a line in the kernel's log.
void prepare_failures();

// The interpreter of ACPI uses objects that it has freed when it runs out of memory (seen
// with Linux 6.1), and the device's driver asks it. So its caches never fail, and no page
// does, which they are made of, while that may happen.
void let_pages_fail(bool may);

// The next system call of this thread meets its n-th failure; 0: none any more.
void set_failure(actor& by, std::uint64_t n);

// The result of a system call: not negative, or -errno.
std::int64_t outcome(std::int64_t result);

// The operations on the module, and all others but fork. What the kernel said.
std::int64_t perform_ioctl(actor& by, const operation& op);
std::int64_t perform_memory(actor& by, const operation& op);
std::int64_t perform_file(actor& by, const operation& op);
std::int64_t perform_process(actor& by, const operation& op);

}  // namespace kfuzz

#endif  // IPCDOOR_TESTS_FUZZ_KERNEL_ACTOR_HPP
