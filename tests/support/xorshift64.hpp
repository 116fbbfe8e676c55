// SPDX-License-Identifier: MIT
// Cheap random numbers.
#ifndef IPCDOOR_TESTS_SUPPORT_XORSHIFT64_HPP
#define IPCDOOR_TESTS_SUPPORT_XORSHIFT64_HPP

#include <cstdint>

namespace ipcdoor::test {

// Marsaglia's xorshift64: cheap, so that it does not slow a hostile writer.
class xorshift64 {
public:
    // Not 0.
    explicit xorshift64(std::uint64_t seed) : state_(seed) {}
    std::uint64_t operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }
    // [0, limit), of the better bits.
    std::uint64_t below(std::uint64_t limit) { return ((*this)() >> 16) % limit; }

private:
    std::uint64_t state_;  // never 0
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_XORSHIFT64_HPP
