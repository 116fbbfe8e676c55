// SPDX-License-Identifier: MIT
// The bytes of remote calls: round trips, signatures, and malformed input.
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include <ipcdoor/rpc_codec.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"

using namespace ipcdoor;

namespace {

enum class colour : std::uint16_t { red = 3 };

struct point {
    int x;
    double y;
    bool operator==(const point&) const = default;
};

struct drawing {
    std::string name;
    std::vector<point> points;
    std::optional<std::vector<std::string>> notes;
    std::map<std::string, std::vector<bool>> flags;
    std::pair<colour, std::tuple<>> rest;
    bool operator==(const drawing&) const = default;
};

struct tree {
    std::vector<tree> children;
};

template <class T>
std::vector<std::byte> encoded(const T& value) {
    std::vector<std::byte> bytes(rpc::encoded_bytes(value));
    rpc::writer to(bytes);
    rpc::encode(to, value);
    CHECK(to.left() == 0);
    return bytes;
}

template <class T>
T back(const std::vector<std::byte>& bytes) {
    rpc::reader from(bytes);
    T value = rpc::decode<T>(from);
    from.finish();
    return value;
}

template <class T>
int error_of_decoding(const std::vector<std::byte>& bytes) {
    return test::error_of([&] { (void)back<T>(bytes); });
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
    std::vector<std::byte> bytes;
    for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}

const drawing picture{"house",
                      {{1, 0.5}, {-2, 1e300}},
                      {{"a", "", std::string("\0b", 2)}},
                      {{"x", {true, false}}, {"y", {}}},
                      {colour::red, {}}};

}  // namespace

TEST_CASE("what is encoded comes back", "[rpc]") {
    CHECK(back<int>(encoded(-7)) == -7);
    CHECK(back<bool>(encoded(true)));
    CHECK(back<std::string>(encoded(std::string_view("text"))) == "text");
    CHECK(back<drawing>(encoded(picture)) == picture);
    CHECK(back<std::vector<std::uint32_t>>(encoded(std::vector<std::uint32_t>{1, 2})) ==
          std::vector<std::uint32_t>{1, 2});
    const std::unordered_map<int, std::string> map{{1, "a"}, {2, "b"}};
    CHECK(back<std::unordered_map<int, std::string>>(encoded(map)) == map);
    CHECK(back<std::optional<int>>(encoded(std::optional<int>())) == std::nullopt);
    CHECK(back<std::tuple<>>(encoded(std::tuple<>())) == std::tuple<>());
    // As views of the bytes.
    const auto bytes = encoded(std::string("view"));
    rpc::reader from(bytes);
    const auto view = rpc::decode<std::string_view>(from);
    CHECK(view == "view");
    CHECK(static_cast<const void*>(view.data()) == bytes.data() + 4);
}

TEST_CASE("signatures follow the types, not their names", "[rpc]") {
    CHECK(rpc::signature<void>() == "->void");
    CHECK(rpc::signature<int, const int&, long, char>() == "i32,i64,i8->i32");
    CHECK(rpc::signature<drawing, std::string_view>() ==
          "str->{str,vec<{i32,f64}>,opt<vec<str>>,map<str,vec<bool>>,{u16,{}}}");
    CHECK(rpc::signature<void, std::span<const float>>() ==
          rpc::signature<void, std::vector<float>>());
    CHECK(rpc::signature<void, std::array<std::byte, 4>>() == "arr<u8,4>->void");
    // FNV-1a's published values.
    CHECK(rpc::hash("") == 0xcbf29ce484222325ULL);
    CHECK(rpc::hash("a") == 0xaf63dc4c8601ec8cULL);
    CHECK(rpc::hash("foobar") == 0x85944171f73967e8ULL);
}

TEST_CASE("bytes that are cut off anywhere are refused", "[rpc][hostile]") {
    const auto whole = encoded(picture);
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
        CAPTURE(bytes);
        CHECK(error_of_decoding<drawing>(
                  {whole.begin(), whole.begin() + static_cast<long>(bytes)}) == EBADMSG);
    }
    auto longer = whole;
    longer.push_back({});
    CHECK(error_of_decoding<drawing>(longer) == EBADMSG);
}

TEST_CASE("values that cannot be are refused", "[rpc][hostile]") {
    CHECK(error_of_decoding<bool>(bytes_of({2})) == EBADMSG);
    CHECK(error_of_decoding<std::optional<int>>(bytes_of({2, 0, 0, 0, 0})) == EBADMSG);
    CHECK(error_of_decoding<std::vector<bool>>(bytes_of({1, 0, 0, 0, 9})) == EBADMSG);
    // A count that the rest cannot hold, before anything is allocated for it.
    CHECK(error_of_decoding<std::vector<int>>(bytes_of({0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})) ==
          EBADMSG);
    CHECK(error_of_decoding<std::string>(bytes_of({0xff, 0xff, 0xff, 0xff})) == EBADMSG);
    CHECK(error_of_decoding<std::vector<std::string>>(bytes_of({2, 0, 0, 0, 0, 0, 0, 0})) ==
          EBADMSG);
    CHECK(error_of_decoding<std::vector<point>>(bytes_of({0xff, 0xff, 0, 0})) == EBADMSG);
    CHECK(error_of_decoding<std::map<std::uint8_t, std::uint8_t>>(
              bytes_of({2, 0, 0, 0, 7, 1, 7, 2})) == EBADMSG);
}

TEST_CASE("values that contain themselves may not be nested without end", "[rpc][hostile]") {
    std::vector<std::byte> bytes;
    for (int depth = 0; depth < 100'000; ++depth) {
        const std::uint32_t one = 1;
        bytes.resize(bytes.size() + sizeof one);
        std::memcpy(bytes.data() + bytes.size() - sizeof one, &one, sizeof one);
    }
    CHECK(error_of_decoding<tree>(bytes) == EBADMSG);
    const auto flat = encoded(tree{{tree{}, tree{{tree{}}}}});
    CHECK(back<tree>(flat).children.size() == 2);
}
