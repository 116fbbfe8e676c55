// SPDX-License-Identifier: MIT
//
// A number for a type, so that two programs which share objects notice that they mean
// different ones by the same name: type_hash<T>() is that of the type's name, size and
// alignment. The name is the ABI's, the same for g++ and clang++.
//
// It does not see that a type's members have changed while name and size stayed. Who
// wants that, or builds without RTTI, gives the type a number of its own and changes it with
// each layout:
//
//     template <>
//     struct ipcdoor::type_identity<reading> {
//         static constexpr std::uint64_t value = 2;
//     };
#ifndef IPCDOOR_TYPE_HASH_HPP
#define IPCDOOR_TYPE_HASH_HPP

#include <cstdint>
#include <string_view>
#include <typeinfo>

namespace ipcdoor {

template <class T>
struct type_identity {};

namespace detail {

// 64-bit FNV-1a (Fowler, Noll, Vo).
constexpr std::uint64_t fnv1a(std::string_view text,
                              std::uint64_t value = 0xcbf29ce484222325ULL) noexcept {
    for (const char c : text) {
        value ^= static_cast<unsigned char>(c);
        value *= 0x100000001b3ULL;
    }
    return value;
}

constexpr std::uint64_t fnv1a(std::uint64_t number, std::uint64_t value) noexcept {
    for (int i = 0; i < 8; ++i, number >>= 8) {
        value ^= number & 0xff;
        value *= 0x100000001b3ULL;
    }
    return value;
}

}  // namespace detail

// Never 0.
template <class T>
std::uint64_t type_hash() noexcept {
    std::uint64_t value;
    if constexpr (requires { type_identity<T>::value; }) {
        value = detail::fnv1a(std::uint64_t{type_identity<T>::value}, detail::fnv1a("identity"));
    } else {
        value = detail::fnv1a(typeid(T).name());
    }
    value = detail::fnv1a(alignof(T), detail::fnv1a(sizeof(T), value));
    return value == 0 ? 1 : value;
}

}  // namespace ipcdoor

#endif  // IPCDOOR_TYPE_HASH_HPP
