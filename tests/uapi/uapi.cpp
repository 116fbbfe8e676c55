// SPDX-License-Identifier: MIT
#include "uapi/uapi.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace ipcdoor::test {

namespace {

int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(-result, std::generic_category(), what);
    return result;
}

template <typename Args>
endpoint make_endpoint(int result, const char* what, const Args& args) {
    endpoint made;
    made.fd.reset(checked(result, what));
    made.info = args.info;
    return made;
}

}  // namespace

int call(int fd, unsigned long command, void* argument) {
    const int result = ::ioctl(fd, command, argument);
    return result < 0 ? -errno : result;
}

unique_fd open_door(int extra_flags) {
    const int fd = ::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC | extra_flags);
    return unique_fd(checked(fd < 0 ? -errno : fd, "/dev/ipcdoor0"));
}

std::uint32_t test_source() {
    const char* text = std::getenv("IPCDOOR_TEST_SOURCE");
    const std::string source = text != nullptr ? text : "";
    if (source.empty()) return IPCDOOR_SOURCE_AUTO;
    if (source == "msi") return IPCDOOR_SOURCE_MSI;
    if (source == "ipi") return IPCDOOR_SOURCE_IPI;
    if (source == "timer") return IPCDOOR_SOURCE_TIMER;
    if (source == "direct") return IPCDOOR_SOURCE_DIRECT;
    throw std::runtime_error("IPCDOOR_TEST_SOURCE=" + source +
                             ": expected msi, ipi, timer or direct");
}

std::uint32_t actual_source(const unique_fd& door) {
    const auto source = test_source();
    return source != IPCDOOR_SOURCE_AUTO ? source : get_info(door).default_source;
}

ipcdoor_info get_info(const unique_fd& door) {
    ipcdoor_info info{};
    checked(call(door, IPCDOOR_IOC_GET_INFO, &info), "GET_INFO");
    return info;
}

std::string fresh_name() {
    static std::atomic<unsigned> counter{0};
    return "test-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
}

ipcdoor_create create_args(const std::string& name, std::uint64_t data_bytes) {
    ipcdoor_create args{};
    args.data_bytes = data_bytes;
    args.slots = 2;
    args.source = test_source();
    args.mode = 0600;
    args.uid = caller_id;
    args.gid = caller_id;
    set_name(args.name, name);
    return args;
}

ipcdoor_attach attach_args(const std::string& name) {
    ipcdoor_attach args{};
    set_name(args.name, name);
    args.fd = -1;
    args.rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE;
    args.slot = IPCDOOR_ANY_SLOT;
    return args;
}

ipcdoor_attach attach_args_fd(int fd) {
    auto args = attach_args("");
    args.fd = fd;
    return args;
}

ipcdoor_listen listen_args(const std::string& name) {
    ipcdoor_listen args{};
    set_name(args.name, name);
    args.data_bytes = 4096;
    args.source = test_source();
    args.mode = 0600;
    args.uid = caller_id;
    args.gid = caller_id;
    args.backlog = 16;
    return args;
}

ipcdoor_connect connect_args(const std::string& name) {
    ipcdoor_connect args{};
    set_name(args.name, name);
    args.deadline_ns = deadline_in(partner_deadline);
    return args;
}

endpoint create(const unique_fd& door, ipcdoor_create args) {
    return make_endpoint(call(door, IPCDOOR_IOC_CREATE, &args), "CREATE", args);
}

endpoint attach(const unique_fd& door, ipcdoor_attach args) {
    return make_endpoint(call(door, IPCDOOR_IOC_ATTACH, &args), "ATTACH", args);
}

endpoint attach_to(const unique_fd& door, const endpoint& peer) {
    return attach(door, attach_args_fd(peer.get()));
}

unique_fd listen(const unique_fd& door, ipcdoor_listen args) {
    return unique_fd(checked(call(door, IPCDOOR_IOC_LISTEN, &args), "LISTEN"));
}

endpoint connect(const unique_fd& door, ipcdoor_connect args) {
    return make_endpoint(call(door, IPCDOOR_IOC_CONNECT, &args), "CONNECT", args);
}

endpoint accept(const unique_fd& listener) {
    ipcdoor_accept args{};
    args.deadline_ns = deadline_in(partner_deadline);
    return make_endpoint(call(listener, IPCDOOR_IOC_ACCEPT, &args), "ACCEPT", args);
}

pair attached_pair(const unique_fd& door, ipcdoor_create args) {
    pair both;
    both.a = create(door, args);
    both.b = attach_to(door, both.a);
    return both;
}

pair connected_pair(const unique_fd& door, ipcdoor_listen args) {
    pair both;
    const auto listener = listen(door, args);
    both.b = connect(door, connect_args(args.name));
    both.a = accept(listener);
    return both;
}

std::uint64_t deadline_in(std::chrono::milliseconds timeout) {
    return now_ns() + static_cast<std::uint64_t>(timeout.count()) * 1'000'000;
}

int ring(const endpoint& from, std::uint32_t slot, std::uint32_t vector, std::uint64_t value,
         std::uint32_t generation) {
    ipcdoor_ring args{};
    args.slot = slot;
    args.vector = vector;
    args.generation = generation;
    args.value = value;
    return call(from.fd, IPCDOOR_IOC_RING, &args);
}

wait_result wait(const endpoint& on, std::uint64_t mask, std::uint64_t deadline_ns,
                 std::uint32_t flags) {
    ipcdoor_wait args{};
    args.mask = mask;
    args.deadline_ns = deadline_ns;
    args.flags = flags;
    const int result = call(on.fd, IPCDOOR_IOC_WAIT, &args);
    return {result, args.fired, args.count, args.value};
}

wait_result take(const endpoint& on, std::uint64_t mask) { return wait(on, mask, 0); }

wait_result wait_long(const endpoint& on, std::uint64_t mask, std::uint32_t flags) {
    return wait(on, mask, deadline_in(partner_deadline), flags);
}

ipcdoor_peer_info peer_info(const endpoint& on, std::uint32_t slot) {
    ipcdoor_peer_info info{};
    info.slot = slot;
    checked(call(on.fd, IPCDOOR_IOC_PEER_INFO, &info), "PEER_INFO");
    return info;
}

int seal(const endpoint& on, std::uint32_t add, std::uint32_t* seals) {
    ipcdoor_seal args{};
    args.add = add;
    const int result = call(on.fd, IPCDOOR_IOC_SEAL, &args);
    if (seals != nullptr) *seals = args.seals;
    return result;
}

int grow(const endpoint& on, std::uint64_t bytes) {
    ipcdoor_grow args{};
    args.data_bytes = bytes;
    return call(on.fd, IPCDOOR_IOC_GROW, &args);
}

short poll_now(int fd, short events, int timeout_ms) {
    pollfd one{fd, events, 0};
    checked(::poll(&one, 1, timeout_ms) < 0 ? -errno : 0, "poll");
    return one.revents;
}

mapping::mapping(int fd, std::uint64_t offset, std::size_t bytes, int protection, int flags)
    : bytes_(bytes) {
    void* memory = ::mmap(nullptr, bytes, protection, flags, fd, static_cast<off_t>(offset));
    if (memory == MAP_FAILED) {
        error_ = errno;
    } else {
        memory_ = memory;
    }
}

mapping::mapping(mapping&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_), error_(other.error_) {}

mapping& mapping::operator=(mapping&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    std::swap(error_, other.error_);
    return *this;
}

mapping::~mapping() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

namespace {

mapping checked_mapping(mapping made, const char* what) {
    if (!made) throw std::system_error(made.error(), std::generic_category(), what);
    return made;
}

}  // namespace

mapping map_state(const endpoint& of) {
    return checked_mapping(mapping(of.get(), of.info.state_offset, of.info.state_bytes, PROT_READ),
                           "mmap of STATE");
}

mapping map_slot(const endpoint& of, std::uint32_t slot, int protection) {
    return checked_mapping(mapping(of.get(), of.info.slot_offset + slot * of.info.slot_bytes,
                                   of.info.slot_bytes, protection),
                           "mmap of a SLOT");
}

mapping map_data(const endpoint& of, int protection) {
    return checked_mapping(mapping(of.get(), of.info.data_offset, of.info.data_bytes, protection),
                           "mmap of DATA");
}

const volatile ipcdoor_state& state_of(const mapping& state) {
    return *static_cast<const volatile ipcdoor_state*>(state.get());
}

const volatile ipcdoor_slot_state& slot_state(const mapping& state, std::uint32_t slot) {
    const auto& head = state_of(state);
    const auto* first = static_cast<const char*>(state.get()) + head.slot_state_offset;
    return *reinterpret_cast<const volatile ipcdoor_slot_state*>(first + std::size_t{slot} *
                                                                             head.slot_state_bytes);
}

int mmap_error(int fd, std::uint64_t offset, std::size_t bytes, int protection, int flags) {
    return mapping(fd, offset, bytes, protection, flags).error();
}

bool run_on_cpu(unsigned cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

unsigned cpu_count() { return static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN)); }

module_parameter::module_parameter(const std::string& name, const std::string& value)
    : path_("/sys/module/ipcdoor/parameters/" + name) {
    std::ifstream(path_) >> before_;
    if (before_.empty()) throw std::runtime_error(path_ + ": cannot be read");
    if (!(std::ofstream(path_) << value << std::flush))
        throw std::runtime_error(path_ + ": cannot be set to " + value);
}

module_parameter::~module_parameter() { std::ofstream(path_) << before_ << std::flush; }

}  // namespace ipcdoor::test
