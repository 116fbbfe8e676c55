// SPDX-License-Identifier: MIT
// What the versions in a header have to be for each layout that has a range of them.
#include <cerrno>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include <ipcdoor/detail/versions.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/latest_layout.hpp>
#include <ipcdoor/message_layout.hpp>
#include <ipcdoor/publish_layout.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"

using namespace ipcdoor;
using test::error_of;

namespace {

constexpr std::uint32_t most = std::numeric_limits<std::uint32_t>::max();

// `verify` reads what is in `head`, whose magic is written.
template <class Header>
void check_range_of(Header& head, std::uint32_t ours, const std::function<void()>& verify) {
    const auto with = [&](std::uint32_t oldest, std::uint32_t newest) {
        head.version_min = oldest;
        head.version_max = newest;
        return error_of(verify);
    };
    CHECK(with(0, 0) == EPROTO);
    CHECK(with(0, ours) == EPROTO);
    CHECK(with(ours + 1, ours) == EPROTO);
    CHECK(with(ours + 1, ours + 1) == EPROTONOSUPPORT);
    CHECK(with(ours + 1, most) == EPROTONOSUPPORT);
    CHECK(with(ours, ours) == 0);
    CHECK(with(1, most) == 0);  // a newer program that speaks ours too
}

}  // namespace

TEST_CASE("versions fit where one is in both ranges", "[versions]") {
    const auto check = [](detail::version_range theirs, detail::version_range ours) {
        return error_of([&] { detail::check_versions("a test: it has", theirs, ours); });
    };
    CHECK(check({2, 4}, {4, 6}) == 0);
    CHECK(check({6, 9}, {4, 6}) == 0);
    CHECK(check({5, 5}, {4, 6}) == 0);
    CHECK(check({1, 9}, {4, 6}) == 0);
    CHECK(check({1, 3}, {4, 6}) == EPROTONOSUPPORT);
    CHECK(check({7, 9}, {4, 6}) == EPROTONOSUPPORT);
    CHECK(check({6, 5}, {4, 6}) == EPROTO);
    CHECK(check({0, 5}, {4, 6}) == EPROTO);
}

TEST_CASE("the error says who speaks which versions", "[versions]") {
    std::string text;
    try {
        detail::check_versions("a test: it has", {7, 9}, {4, 6});
    } catch (const error& wrong) {
        text = wrong.what();
    }
    CHECK(text ==
          "a test: it has layouts 7 to 9, this library speaks 4 to 6; update the older program");
}

TEST_CASE("each layout asks for its own versions", "[versions][hostile]") {
    SECTION("messages") {
        const auto slot = std::make_unique<message_slot>();
        slot->magic = message_magic;
        check_range_of(*slot, message_version_max, [&] { (void)verify_message_slot(slot.get()); });
    }
    SECTION("a latest value") {
        const auto head = std::make_unique<latest_header>();
        head->magic = latest_magic;
        head->type = 7;
        head->value_bytes = 8;
        head->align = 8;
        check_range_of(*head, latest_version_max, [&] { (void)verify_latest(*head, 7, 8, 8); });
    }
    SECTION("a subscriber") {
        const auto slot = std::make_unique<subscriber_slot>();
        slot->magic = subscribe_magic;
        check_range_of(*slot, publish_version_max,
                       [&] { (void)detail::verify_publish_header(*slot, subscribe_magic); });
    }
}
