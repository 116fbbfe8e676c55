// SPDX-License-Identifier: MIT
// What the attack tests share: a victim whose pages carry a pattern, and ways to
// touch memory that may not be there.
#ifndef IPCDOOR_TESTS_UAPI_ATTACK_HPP
#define IPCDOOR_TESTS_UAPI_ATTACK_HPP

#include <cstdint>
#include <optional>

#include "uapi/uapi.hpp"

namespace ipcdoor::test {

// One page of each kind is enough to aim at; DATA has two for attacks on ranges.
class victim {
public:
    explicit victim(std::uint32_t mode = 0666);

    const unique_fd& door() const { return door_; }
    const endpoint& end() const { return end_; }
    const std::string& name() const { return name_; }

    // Whether all of slot 0, all of DATA, and what must be constant in STATE are
    // as they were written.
    bool unchanged() const;

    std::uint64_t state_offset() const { return end_.info.state_offset; }
    std::uint64_t slot_offset(std::uint32_t slot) const {
        return end_.info.slot_offset + slot * end_.info.slot_bytes;
    }
    std::uint64_t data_offset() const { return end_.info.data_offset; }

private:
    unique_fd door_;
    std::string name_;
    endpoint end_;
    mapping state_;
    mapping slot_;
    mapping data_;
};

// An attacker's endpoint, slot 1; by default it may read DATA and not write it.
endpoint attach_attacker(const victim& of, std::uint32_t rights = IPCDOOR_RIGHT_READ);

// Touch memory; a SIGSEGV or SIGBUS there is an answer and not the end.
bool try_write(volatile void* where, std::uint64_t value);
std::optional<std::uint64_t> try_read(const volatile void* where);

// Runs the attack as an ordinary user and checks that it was refused and the
// victim's memory unchanged.
void check_attack(const victim& on, const std::function<void()>& attack);

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UAPI_ATTACK_HPP
