// SPDX-License-Identifier: MIT
// How a fuzz target says that the library broke its word: it names the condition
// and aborts, which is a finding to libFuzzer and a lost run to the test suite.
#ifndef IPCDOOR_TESTS_FUZZ_CHECK_HPP
#define IPCDOOR_TESTS_FUZZ_CHECK_HPP

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <type_traits>
#include <utility>

#include <ipcdoor/error.hpp>

namespace ipcdoor::fuzz {

[[noreturn]] inline void broken(const char* file, int line, const char* what, long found) {
    std::fprintf(stderr, "%s:%d: broken: %s (%ld)\n", file, line, what, found);
    std::fflush(nullptr);
    std::abort();
}

inline int number_of(const error& failure) {
    // Each failure has its sentence.
    if (*failure.what() == '\0') broken(__FILE__, __LINE__, "an error without a text", 0);
    return failure.error_number();
}

// The errno value that `call` throws, 0 where it does not. Another exception than
// ipcdoor::error goes on and ends the process: tests/support's error_of() takes more,
// and does not look at the text.
template <class Call>
int error_of(Call&& call) {
    try {
        call();
        return 0;
    } catch (const error& failure) {
        return number_of(failure);
    }
}

// The same for a call with an answer, which is the second of the two; nothing
// where it has failed.
template <class Call>
auto attempt(Call&& call) -> std::pair<int, std::decay_t<decltype(call())>> {
    try {
        return {0, call()};
    } catch (const error& failure) {
        return {number_of(failure), {}};
    }
}

// Reads every byte, as a user of a record would.
inline void touch(std::span<const std::byte> bytes) {
    unsigned sum = 0;
    // Atomic, because a hostile peer may write there meanwhile.
    for (const std::byte& byte : bytes)
        sum += __atomic_load_n(reinterpret_cast<const unsigned char*>(&byte), __ATOMIC_RELAXED);
    asm volatile("" : : "r"(sum));
}

inline bool is_one_of(int found, std::initializer_list<int> allowed) {
    return std::find(allowed.begin(), allowed.end(), found) != allowed.end();
}

}  // namespace ipcdoor::fuzz

#define FUZZ_CHECK(condition)                                                         \
    do {                                                                              \
        if (!(condition)) ::ipcdoor::fuzz::broken(__FILE__, __LINE__, #condition, 0); \
    } while (0)

// `error` is 0 or one of the errno values that follow.
#define FUZZ_CHECK_ERROR(error, ...)                                               \
    do {                                                                           \
        if ((error) != 0 && !::ipcdoor::fuzz::is_one_of((error), {__VA_ARGS__}))   \
            ::ipcdoor::fuzz::broken(__FILE__, __LINE__,                            \
                                    "an error that is not documented: ", (error)); \
    } while (0)

#endif  // IPCDOOR_TESTS_FUZZ_CHECK_HPP
