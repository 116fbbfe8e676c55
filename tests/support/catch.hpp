// SPDX-License-Identifier: MIT
// The one place that knows which Catch2 is installed: v2 (Debian 12) is a
// single header, v3 a library with several.
#ifndef IPCDOOR_TESTS_SUPPORT_CATCH_HPP
#define IPCDOOR_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#define IPCDOOR_CATCH_VERSION 3
using Catch::Approx;
#elif __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#define IPCDOOR_CATCH_VERSION 2
#else
#error "Catch2 is missing: install the package catch2 (Debian, Fedora: catch2-devel)"
#endif

#include <string>

namespace ipcdoor::test {

// Matches text that has this in it.
inline auto contains(const std::string& what) {
#if IPCDOOR_CATCH_VERSION == 3
    return Catch::Matchers::ContainsSubstring(what);
#else
    return Catch::Contains(what);
#endif
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_CATCH_HPP
