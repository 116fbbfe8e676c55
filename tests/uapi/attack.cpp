// SPDX-License-Identifier: MIT
#include "uapi/attack.hpp"

#include <setjmp.h>
#include <signal.h>

#include "support/catch.hpp"

namespace ipcdoor::test {

namespace {

constexpr std::uint64_t pattern = 0x5ec2e75ec2e75ec2;
constexpr int rw = PROT_READ | PROT_WRITE;

void fill(const mapping& pages) {
    for (std::size_t i = 0; i < pages.size() / 8; ++i) pages.word(i) = pattern + i;
}

bool intact(const mapping& pages) {
    for (std::size_t i = 0; i < pages.size() / 8; ++i)
        if (pages.word(i) != pattern + i) return false;
    return true;
}

sigjmp_buf fault_jump;

void on_fault(int signo) { siglongjmp(fault_jump, signo); }

// Catches faults while it lives.
class fault_guard {
public:
    fault_guard() {
        struct sigaction action {};
        action.sa_handler = on_fault;
        ::sigaction(SIGSEGV, &action, &segv_);
        ::sigaction(SIGBUS, &action, &bus_);
    }
    ~fault_guard() {
        ::sigaction(SIGSEGV, &segv_, nullptr);
        ::sigaction(SIGBUS, &bus_, nullptr);
    }

private:
    struct sigaction segv_;
    struct sigaction bus_;
};

ipcdoor_create victim_args(const std::string& name, std::uint32_t mode) {
    auto args = create_args(name, 8192);
    args.slots = 4;
    args.mode = mode;
    return args;
}

}  // namespace

victim::victim(std::uint32_t mode)
    : door_(open_door()),
      name_(fresh_name()),
      end_(create(door_, victim_args(name_, mode))),
      state_(map_state(end_)),
      slot_(map_slot(end_, 0, rw)),
      data_(map_data(end_, rw)) {
    fill(slot_);
    fill(data_);
}

bool victim::unchanged() const {
    const auto& head = state_of(state_);
    const auto& own = slot_state(state_, 0);
    return intact(slot_) && intact(data_) && head.magic == IPCDOOR_STATE_MAGIC && head.slots == 4 &&
           head.seals == 0 && head.data_bytes == 8192 && own.state == IPCDOOR_SLOT_ALIVE &&
           own.generation == 1 && own.rung[63] == 0;
}

endpoint attach_attacker(const victim& of, std::uint32_t rights) {
    auto args = attach_args("0/" + of.name());
    args.rights = rights;
    args.slot = 1;
    return attach(of.door(), args);
}

bool try_write(volatile void* where, std::uint64_t value) {
    const fault_guard guard;
    if (sigsetjmp(fault_jump, 1) != 0) return false;
    *static_cast<volatile std::uint64_t*>(where) = value;
    return true;
}

std::optional<std::uint64_t> try_read(const volatile void* where) {
    const fault_guard guard;
    if (sigsetjmp(fault_jump, 1) != 0) return std::nullopt;
    return *static_cast<const volatile std::uint64_t*>(where);
}

void check_attack(const victim& on, const std::function<void()>& attack) {
    auto attacker = child::as_user(user_uid, [&] {
        attack();
        return 0;
    });
    CHECK(attacker.wait().exited());
    CHECK(on.unchanged());
}

}  // namespace ipcdoor::test
