// SPDX-License-Identifier: MIT
// Raw calls on the module, without the library: each returns what the kernel
// said, a negative errno value for an error, so that a test can name it.
#ifndef IPCDOOR_TESTS_UAPI_UAPI_HPP
#define IPCDOOR_TESTS_UAPI_UAPI_HPP

#include <linux/ipcdoor.h>
#include <poll.h>
#include <sys/mman.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "support/process.hpp"

namespace ipcdoor::test {

inline constexpr std::uint32_t caller_id = ~std::uint32_t{0};
inline constexpr uid_t user_uid = 1000;
inline constexpr uid_t other_uid = 1001;

// ioctl(2); the result or -errno.
int call(int fd, unsigned long command, void* argument);
inline int call(const unique_fd& fd, unsigned long command, void* argument) {
    return call(fd.get(), command, argument);
}

// The same command with another size of its structure.
constexpr unsigned long with_size(unsigned long command, std::size_t bytes) {
    return (command & ~(static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT)) |
           (static_cast<unsigned long>(bytes) << _IOC_SIZESHIFT);
}

// The local door. Throws std::system_error.
unique_fd open_door(int extra_flags = 0);

// IPCDOOR_SOURCE_* of the environment's IPCDOOR_TEST_SOURCE (msi, ipi, timer,
// direct; unset: AUTO). Throws std::runtime_error for another text.
std::uint32_t test_source();

// What test_source() is on this door, never AUTO.
std::uint32_t actual_source(const unique_fd& door);

ipcdoor_info get_info(const unique_fd& door);

// A name that no other test uses.
std::string fresh_name();

// Writes a NUL-padded name into a structure's field.
template <std::size_t N>
void set_name(char (&field)[N], const std::string& name) {
    for (std::size_t i = 0; i < N; ++i) field[i] = i < name.size() ? name[i] : '\0';
}

// Valid arguments: two slots, one page of DATA, mode 0600, the test's source.
ipcdoor_create create_args(const std::string& name = "", std::uint64_t data_bytes = 4096);
ipcdoor_attach attach_args(const std::string& name);
ipcdoor_attach attach_args_fd(int fd);
ipcdoor_listen listen_args(const std::string& name);
ipcdoor_connect connect_args(const std::string& name);

struct endpoint {
    unique_fd fd;
    ipcdoor_endpoint_info info{};

    int get() const { return fd.get(); }
};

// Throw std::system_error where the kernel refuses.
endpoint create(const unique_fd& door, ipcdoor_create args = create_args());
endpoint attach(const unique_fd& door, ipcdoor_attach args);
endpoint attach_to(const unique_fd& door, const endpoint& peer);
unique_fd listen(const unique_fd& door, ipcdoor_listen args);
endpoint connect(const unique_fd& door, ipcdoor_connect args);
endpoint accept(const unique_fd& listener);

// An endpoint in slot 0 and its peer in slot 1, both of this process.
struct pair {
    endpoint a;
    endpoint b;
};
pair attached_pair(const unique_fd& door, ipcdoor_create args = create_args());
// Client (slot 1) in `b`, server (slot 0) in `a`.
pair connected_pair(const unique_fd& door, ipcdoor_listen args = listen_args(fresh_name()));

std::uint64_t deadline_in(std::chrono::milliseconds timeout);

int ring(const endpoint& from, std::uint32_t slot, std::uint32_t vector, std::uint64_t value = 0,
         std::uint32_t generation = 0);

constexpr std::uint64_t bit(unsigned vector) { return std::uint64_t{1} << vector; }
inline constexpr std::uint64_t lifecycle_bit = 1;
inline constexpr std::uint64_t ringable_mask = ~lifecycle_bit;

struct wait_result {
    int error = 0;  // 0 or -errno
    std::uint64_t fired = 0;
    std::uint64_t count = 0;
    std::uint64_t value = 0;
};
wait_result wait(const endpoint& on, std::uint64_t mask, std::uint64_t deadline_ns,
                 std::uint32_t flags = IPCDOOR_WAIT_ACK);
// Does not block.
wait_result take(const endpoint& on, std::uint64_t mask);
// Blocks until the partner's deadline.
wait_result wait_long(const endpoint& on, std::uint64_t mask,
                      std::uint32_t flags = IPCDOOR_WAIT_ACK);

ipcdoor_peer_info peer_info(const endpoint& on, std::uint32_t slot);
int seal(const endpoint& on, std::uint32_t add, std::uint32_t* seals = nullptr);
int grow(const endpoint& on, std::uint64_t bytes);

// revents of poll(2), without waiting unless told.
short poll_now(int fd, short events = POLLIN | POLLPRI, int timeout_ms = 0);

// A mapping that unmaps itself; error() is errno of a failed mmap, else 0.
class mapping {
public:
    mapping() = default;
    mapping(int fd, std::uint64_t offset, std::size_t bytes, int protection,
            int flags = MAP_SHARED);
    mapping(mapping&& other) noexcept;
    mapping& operator=(mapping&& other) noexcept;
    ~mapping();

    explicit operator bool() const { return memory_ != nullptr; }
    int error() const { return error_; }
    std::size_t size() const { return bytes_; }
    void* get() const { return memory_; }
    volatile std::uint64_t& word(std::size_t index = 0) const {
        return static_cast<volatile std::uint64_t*>(memory_)[index];
    }
    // Forgets the mapping without unmapping it.
    void release() { memory_ = nullptr; }

private:
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
    int error_ = 0;
};

mapping map_state(const endpoint& of);
mapping map_slot(const endpoint& of, std::uint32_t slot, int protection);
mapping map_data(const endpoint& of, int protection);

const volatile ipcdoor_state& state_of(const mapping& state);
const volatile ipcdoor_slot_state& slot_state(const mapping& state, std::uint32_t slot);

// errno of mmap(2) with these arguments; 0 and unmapped again where it worked.
int mmap_error(int fd, std::uint64_t offset, std::size_t bytes, int protection,
               int flags = MAP_SHARED);

// Pins the calling thread. False where there is no such CPU.
bool run_on_cpu(unsigned cpu);
unsigned cpu_count();

// Sets a module parameter and puts the old value back at the end.
class module_parameter {
public:
    module_parameter(const std::string& name, const std::string& value);
    module_parameter(const module_parameter&) = delete;
    module_parameter& operator=(const module_parameter&) = delete;
    ~module_parameter();

private:
    std::string path_;
    std::string before_;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UAPI_UAPI_HPP
