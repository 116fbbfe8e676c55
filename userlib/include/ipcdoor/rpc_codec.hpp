// SPDX-License-Identifier: MIT
//
// How arguments and results of remote calls become bytes, and what a method's
// signature is. Both sides run on one machine, so numbers are as they lie in memory,
// without padding between them:
//
//   bool, integers, enumerations, float, double   their bytes
//   std::string, std::string_view                 length (32 bits), bytes
//   std::vector, std::span<const T>               count (32 bits), elements
//   std::map, std::unordered_map                  count (32 bits), pairs
//   std::optional                                 0, or 1 and the value (8 bits)
//   std::array, std::pair, std::tuple             their elements
//   aggregates of up to 16 of all these           their members
//
// Decoding trusts nothing: a length is compared with what is left before anything is
// allocated, values are nested at most 64 deep, a bool or an optional's tag is 0 or 1,
// and nothing may be left over. What is wrong throws EBADMSG.
//
// std::string_view and std::span<const std::byte>, and spans of other bytes, are
// decoded as views of the message. Other spans cannot be: their elements would not be
// aligned; take a std::vector.
#ifndef IPCDOOR_RPC_CODEC_HPP
#define IPCDOOR_RPC_CODEC_HPP

#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ipcdoor/error.hpp>
#include <ipcdoor/type_hash.hpp>

namespace ipcdoor::rpc {

// 64-bit FNV-1a (Fowler, Noll, Vo), of names and signatures.
constexpr std::uint64_t hash(std::string_view text) noexcept {
    return ipcdoor::detail::fnv1a(text);
}

inline constexpr unsigned max_depth = 64;

namespace detail {

// ---- members of aggregates --------------------------------------------------

struct anything {
    template <class T>
    operator T() const noexcept;  // never defined: only asked for
};

template <class T, std::size_t... I>
constexpr bool braces(std::index_sequence<I...>) {
    return requires { T{(static_cast<void>(I), anything{})...}; };
}

// The largest number of values that T{...} takes.
template <class T, std::size_t N = 17>
constexpr std::size_t member_count() {
    if constexpr (N == 0)
        return 0;
    else if constexpr (braces<T>(std::make_index_sequence<N>{}))
        return N;
    else
        return member_count<T, N - 1>();
}

// The members as a tuple of references.
template <class T>
constexpr auto members(T& object) {
    constexpr std::size_t n = member_count<std::remove_cv_t<T>>();
    static_assert(n <= 16, "an aggregate of more than 16 members: nest some of them");
    if constexpr (n == 0) {
        return std::tuple<>();
    } else if constexpr (n == 1) {
        auto& [a] = object;
        return std::tie(a);
    } else if constexpr (n == 2) {
        auto& [a, b] = object;
        return std::tie(a, b);
    } else if constexpr (n == 3) {
        auto& [a, b, c] = object;
        return std::tie(a, b, c);
    } else if constexpr (n == 4) {
        auto& [a, b, c, d] = object;
        return std::tie(a, b, c, d);
    } else if constexpr (n == 5) {
        auto& [a, b, c, d, e] = object;
        return std::tie(a, b, c, d, e);
    } else if constexpr (n == 6) {
        auto& [a, b, c, d, e, f] = object;
        return std::tie(a, b, c, d, e, f);
    } else if constexpr (n == 7) {
        auto& [a, b, c, d, e, f, g] = object;
        return std::tie(a, b, c, d, e, f, g);
    } else if constexpr (n == 8) {
        auto& [a, b, c, d, e, f, g, h] = object;
        return std::tie(a, b, c, d, e, f, g, h);
    } else if constexpr (n == 9) {
        auto& [a, b, c, d, e, f, g, h, i] = object;
        return std::tie(a, b, c, d, e, f, g, h, i);
    } else if constexpr (n == 10) {
        auto& [a, b, c, d, e, f, g, h, i, j] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j);
    } else if constexpr (n == 11) {
        auto& [a, b, c, d, e, f, g, h, i, j, k] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k);
    } else if constexpr (n == 12) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l);
    } else if constexpr (n == 13) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m);
    } else if constexpr (n == 14) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o);
    } else if constexpr (n == 15) {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p);
    } else {
        auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q] = object;
        return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q);
    }
}

// ---- kinds of types ---------------------------------------------------------

template <class T, template <class...> class Template>
inline constexpr bool is_a = false;
template <template <class...> class Template, class... Args>
inline constexpr bool is_a<Template<Args...>, Template> = true;

template <class T>
inline constexpr bool is_array = false;
template <class T, std::size_t N>
inline constexpr bool is_array<std::array<T, N>> = true;

template <class T>
inline constexpr bool is_span = false;
template <class T>
inline constexpr bool is_span<std::span<T>> = true;

template <class T>
concept number = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::same_as<T, std::byte>;
template <class T>
concept text = std::same_as<T, std::string> || std::same_as<T, std::string_view>;
template <class T>
concept sequence = is_a<T, std::vector> || is_span<T>;
template <class T>
concept dictionary = is_a<T, std::map> || is_a<T, std::unordered_map>;
template <class T>
concept product = is_array<T> || is_a<T, std::pair> || is_a<T, std::tuple>;
template <class T>
concept aggregate = std::is_aggregate_v<T> && !is_array<T> && !std::is_array_v<T>;

template <class T>
inline constexpr bool is_bool_enum = false;
template <class T>
requires std::is_enum_v<T>
inline constexpr bool is_bool_enum<T> = std::same_as<std::underlying_type_t<T>, bool>;

// Elements that are copied all at once: no bool, whose bytes have to be looked at.
template <class T>
concept bulk = number<T> && !std::same_as<T, bool> && !is_bool_enum<T>;

// Whether a decoded T refers to the message, in itself or in what it is made of, four
// levels deep.
template <class T, unsigned Levels = 4>
constexpr bool is_view() {
    if constexpr (std::same_as<T, std::string_view> || is_span<T>) {
        return true;
    } else if constexpr (Levels == 0 || number<T> || text<T> || std::is_void_v<T>) {
        return false;
    } else if constexpr (sequence<T> || is_a<T, std::optional> || is_array<T>) {
        return is_view<typename T::value_type, Levels - 1>();
    } else if constexpr (dictionary<T>) {
        return is_view<typename T::key_type, Levels - 1>() ||
               is_view<typename T::mapped_type, Levels - 1>();
    } else {
        const auto any = []<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
            return (false || ... || is_view<std::remove_cvref_t<Ts>, Levels - 1>());
        };
        if constexpr (is_a<T, std::pair>)
            return is_view<typename T::first_type, Levels - 1>() ||
                   is_view<typename T::second_type, Levels - 1>();
        else if constexpr (is_a<T, std::tuple>)
            return any(std::type_identity<T>{});
        else
            return any(std::type_identity<decltype(members(std::declval<T&>()))>{});
    }
}

template <class T>
inline constexpr bool unsupported = false;

}  // namespace detail

// ---- signatures -------------------------------------------------------------

// A type's name in signatures, the same whatever it is called in the program:
// "i32", "str", "vec<f64>", "{i32,str}".
template <class Qualified>
std::string type_name() {
    using T = std::remove_cvref_t<Qualified>;
    const auto list = []<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
        std::string names;
        ((names += (names.empty() ? "" : ",") + type_name<Ts>()), ...);
        return names;
    };
    if constexpr (std::is_void_v<T>) {
        return "void";
    } else if constexpr (std::same_as<T, bool>) {
        return "bool";
    } else if constexpr (std::same_as<T, std::byte>) {
        return "u8";
    } else if constexpr (std::is_enum_v<T>) {
        return type_name<std::underlying_type_t<T>>();
    } else if constexpr (std::is_floating_point_v<T>) {
        static_assert(sizeof(T) <= 8, "long double differs between compilers: use double");
        return "f" + std::to_string(sizeof(T) * 8);
    } else if constexpr (std::is_integral_v<T>) {
        return (std::is_signed_v<T> ? "i" : "u") + std::to_string(sizeof(T) * 8);
    } else if constexpr (detail::text<T>) {
        return "str";
    } else if constexpr (detail::is_span<T> || detail::sequence<T>) {
        return "vec<" + type_name<typename T::value_type>() + ">";
    } else if constexpr (detail::dictionary<T>) {
        return "map<" + type_name<typename T::key_type>() + "," +
               type_name<typename T::mapped_type>() + ">";
    } else if constexpr (detail::is_a<T, std::optional>) {
        return "opt<" + type_name<typename T::value_type>() + ">";
    } else if constexpr (detail::is_array<T>) {
        return "arr<" + type_name<typename T::value_type>() + "," +
               std::to_string(std::tuple_size_v<T>) + ">";
    } else if constexpr (detail::is_a<T, std::pair>) {
        return "{" + type_name<typename T::first_type>() + "," +
               type_name<typename T::second_type>() + "}";
    } else if constexpr (detail::is_a<T, std::tuple>) {
        return "{" + list(std::type_identity<T>{}) + "}";
    } else if constexpr (detail::aggregate<T>) {
        using all = decltype(detail::members(std::declval<T&>()));
        return "{" + list(std::type_identity<all>{}) + "}";
    } else {
        static_assert(detail::unsupported<T>, "a type that remote calls cannot carry");
    }
}

// "i32,i32->i32"
template <class Result, class... Args>
std::string signature() {
    std::string text;
    ((text += (text.empty() ? "" : ",") + type_name<Args>()), ...);
    return text + "->" + type_name<Result>();
}

// ---- sizes and writing ------------------------------------------------------

// Where values are written to: the caller has asked encoded_bytes() before.
class writer {
public:
    explicit writer(std::span<std::byte> to) noexcept : to_(to) {}
    void raw(const void* from, std::size_t bytes) noexcept {
        if (bytes != 0) std::memcpy(to_.data(), from, bytes);
        to_ = to_.subspan(bytes);
    }
    std::size_t left() const noexcept { return to_.size(); }

private:
    std::span<std::byte> to_;
};

namespace detail {

inline std::uint32_t count_of(std::size_t count) {
    if (count > std::numeric_limits<std::uint32_t>::max())
        ipcdoor::detail::throw_error(EMSGSIZE, "rpc: more than 2^32 elements in one argument");
    return static_cast<std::uint32_t>(count);
}

}  // namespace detail

template <class T>
std::size_t encoded_bytes(const T& value) {
    constexpr std::size_t count_bytes = sizeof(std::uint32_t);
    if constexpr (detail::number<T>) {
        return sizeof(T);
    } else if constexpr (detail::text<T>) {
        return count_bytes + value.size();
    } else if constexpr (detail::sequence<T>) {
        if constexpr (detail::bulk<std::remove_cv_t<typename T::value_type>>) {
            return count_bytes + value.size() * sizeof(typename T::value_type);
        } else {
            std::size_t bytes = count_bytes;
            for (const typename T::value_type& element : value) bytes += encoded_bytes(element);
            return bytes;
        }
    } else if constexpr (detail::dictionary<T>) {
        std::size_t bytes = count_bytes;
        for (const auto& [key, mapped] : value) bytes += encoded_bytes(key) + encoded_bytes(mapped);
        return bytes;
    } else if constexpr (detail::is_a<T, std::optional>) {
        return 1 + (value ? encoded_bytes(*value) : 0);
    } else if constexpr (detail::product<T>) {
        return std::apply(
            [](const auto&... elements) {
                return (std::size_t{0} + ... + encoded_bytes(elements));
            },
            value);
    } else {
        static_assert(detail::aggregate<T>, "a type that remote calls cannot carry");
        return encoded_bytes(detail::members(value));
    }
}

template <class T>
void encode(writer& to, const T& value) {
    const auto count = [&](std::size_t elements) {
        const std::uint32_t written = detail::count_of(elements);
        to.raw(&written, sizeof written);
    };
    if constexpr (detail::number<T>) {
        to.raw(&value, sizeof value);
    } else if constexpr (detail::text<T>) {
        count(value.size());
        to.raw(value.data(), value.size());
    } else if constexpr (detail::sequence<T>) {
        count(value.size());
        if constexpr (detail::bulk<std::remove_cv_t<typename T::value_type>>)
            to.raw(value.data(), value.size() * sizeof(typename T::value_type));
        else
            for (const typename T::value_type& element : value) encode(to, element);
    } else if constexpr (detail::dictionary<T>) {
        count(value.size());
        for (const auto& [key, mapped] : value) {
            encode(to, key);
            encode(to, mapped);
        }
    } else if constexpr (detail::is_a<T, std::optional>) {
        encode(to, static_cast<std::uint8_t>(value.has_value()));
        if (value) encode(to, *value);
    } else if constexpr (detail::product<T>) {
        std::apply([&](const auto&... elements) { (encode(to, elements), ...); }, value);
    } else {
        encode(to, detail::members(value));
    }
}

// ---- reading ----------------------------------------------------------------

// Bytes that come from a peer, and do not change any more.
class reader {
public:
    explicit reader(std::span<const std::byte> from) noexcept : from_(from) {}

    std::size_t left() const noexcept { return from_.size(); }

    std::span<const std::byte> take(std::size_t bytes) {
        if (bytes > from_.size()) wrong("it ends too early");
        const auto taken = from_.first(bytes);
        from_ = from_.subspan(bytes);
        return taken;
    }

    // A count of elements, none of which is smaller than `least` bytes.
    std::size_t count(std::size_t least) {
        std::uint32_t elements = 0;
        std::memcpy(&elements, take(sizeof elements).data(), sizeof elements);
        // Elements without any bytes are counted all the same.
        if (elements > from_.size() / (least == 0 ? 1 : least)) wrong("a count is too large");
        return elements;
    }

    void finish() const {
        if (!from_.empty()) wrong("something is left over");
    }

    [[noreturn]] static void wrong(const char* what) {
        ipcdoor::detail::throw_error(EBADMSG,
                                     std::string("rpc: malformed arguments or results: ") + what);
    }

    class nesting {
    public:
        explicit nesting(reader& from) : from_(from) {
            if (++from_.depth_ > max_depth) wrong("it is nested too deep");
        }
        ~nesting() { --from_.depth_; }
        nesting(const nesting&) = delete;
        nesting& operator=(const nesting&) = delete;

    private:
        reader& from_;
    };

private:
    std::span<const std::byte> from_;
    unsigned depth_ = 0;
};

namespace detail {

// What one of them takes at least, encoded.
template <class T>
constexpr std::size_t least_bytes() {
    if constexpr (number<T>)
        return sizeof(T);
    else if constexpr (is_a<T, std::optional>)
        return 1;
    else if constexpr (text<T> || sequence<T> || dictionary<T>)
        return sizeof(std::uint32_t);
    else
        return 0;
}

}  // namespace detail

template <class T>
T decode(reader& from) {
    const reader::nesting deeper(from);
    if constexpr (detail::is_bool_enum<T>) {
        return static_cast<T>(decode<bool>(from));
    } else if constexpr (std::same_as<T, bool>) {
        const auto byte = static_cast<std::uint8_t>(from.take(1)[0]);
        if (byte > 1) reader::wrong("a bool that is neither 0 nor 1");
        return byte != 0;
    } else if constexpr (detail::number<T>) {
        T value;
        std::memcpy(&value, from.take(sizeof value).data(), sizeof value);
        return value;
    } else if constexpr (detail::text<T>) {
        const auto bytes = from.take(from.count(1));
        return T(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    } else if constexpr (detail::is_span<T>) {
        using element = typename T::element_type;
        static_assert(std::is_const_v<element> && sizeof(element) == 1 &&
                          detail::bulk<std::remove_cv_t<element>>,
                      "only a span of constant bytes can be a view of the message: take a vector");
        const auto bytes = from.take(from.count(1));
        return T(reinterpret_cast<element*>(bytes.data()), bytes.size());
    } else if constexpr (detail::sequence<T>) {
        using element = typename T::value_type;
        T values;
        const std::size_t count = from.count(detail::least_bytes<element>());
        if constexpr (detail::bulk<element>) {
            const auto bytes = from.take(count * sizeof(element));
            if constexpr (sizeof(element) == 1) {
                // without clearing it first
                const auto* const first = reinterpret_cast<const element*>(bytes.data());
                values.assign(first, first + count);
            } else {
                values.resize(count);
                if (count != 0) std::memcpy(values.data(), bytes.data(), bytes.size());
            }
        } else {
            for (std::size_t i = 0; i < count; ++i) values.push_back(decode<element>(from));
        }
        return values;
    } else if constexpr (detail::dictionary<T>) {
        T values;
        const std::size_t count = from.count(detail::least_bytes<typename T::key_type>());
        for (std::size_t i = 0; i < count; ++i) {
            auto key = decode<typename T::key_type>(from);
            if (!values.emplace(std::move(key), decode<typename T::mapped_type>(from)).second)
                reader::wrong("a key comes twice");
        }
        return values;
    } else if constexpr (detail::is_a<T, std::optional>) {
        if (!decode<bool>(from)) return std::nullopt;
        return decode<typename T::value_type>(from);
    } else if constexpr (detail::is_a<T, std::pair>) {
        auto first = decode<typename T::first_type>(from);
        return T(std::move(first), decode<typename T::second_type>(from));
    } else if constexpr (detail::is_array<T>) {
        T values;
        for (auto& value : values) value = decode<typename T::value_type>(from);
        return values;
    } else if constexpr (detail::is_a<T, std::tuple>) {
        return [&]<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
            // in the order of the braces
            return T{decode<Ts>(from)...};
        }(std::type_identity<T>{});
    } else {
        static_assert(detail::aggregate<T>, "a type that remote calls cannot carry");
        return [&]<class... Ms>(std::type_identity<std::tuple<Ms&...>>) {
            return T{decode<std::remove_cv_t<Ms>>(from)...};
        }(std::type_identity<decltype(detail::members(std::declval<T&>()))>{});
    }
}

}  // namespace ipcdoor::rpc

#endif  // IPCDOOR_RPC_CODEC_HPP
