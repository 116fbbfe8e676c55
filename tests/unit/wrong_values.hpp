// SPDX-License-Identifier: MIT
#ifndef IPCDOOR_TESTS_UNIT_WRONG_VALUES_HPP
#define IPCDOOR_TESTS_UNIT_WRONG_VALUES_HPP

#include <cstdint>
#include <random>
#include <vector>

namespace ipcdoor::test {

// What a hostile peer may write over a cursor or a header that holds `now`, in a ring of
// `capacity` bytes. Some of it may be right by chance.
inline std::vector<std::uint64_t> wrong_values(std::uint64_t now, std::uint64_t capacity) {
    std::vector<std::uint64_t> values{0,
                                      ~std::uint64_t{0},
                                      now + 1,
                                      now - 1,
                                      now + 8,
                                      now - 8,
                                      now + capacity,
                                      now + capacity + 1,
                                      now + capacity + 8,
                                      now - capacity,
                                      now - capacity - 1,
                                      now - capacity - 8,
                                      now ^ (std::uint64_t{1} << 63),
                                      std::uint64_t{1} << 32,
                                      std::uint64_t{0xffff} << 32};
    std::mt19937_64 random(now + 3);
    for (int i = 0; i < 20; ++i) values.push_back(random());
    return values;
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_UNIT_WRONG_VALUES_HPP
