// SPDX-License-Identifier: MIT
// What the tests of pipes and of stream sockets share.
#ifndef IPCDOOR_TESTS_LIB_STREAM_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_STREAM_SUPPORT_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <ipcdoor/pipe.hpp>
#include <ipcdoor/stream.hpp>

#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

namespace ipcdoor::test {

// Both ends in this process, of `capacity` bytes exactly.
inline std::pair<pipe_writer, pipe_reader> pipe_pair(std::uint64_t capacity = 4096) {
    auto ends = connected_pair(stream_slot_bytes(capacity));
    stream_options limited;
    limited.limit_bytes = capacity;
    return {pipe_writer(std::move(ends.first), limited), pipe_reader(std::move(ends.second))};
}

inline std::pair<stream_socket, stream_socket> socket_pair(std::uint64_t capacity = 4096) {
    auto ends = connected_pair(stream_slot_bytes(capacity));
    stream_options limited;
    limited.limit_bytes = capacity;
    return {stream_socket(std::move(ends.first), limited),
            stream_socket(std::move(ends.second), limited)};
}

inline std::span<std::byte> room_of(std::string& text) {
    return std::as_writable_bytes(std::span(text));
}

// One read.
template <class Reader>
std::string read_once(Reader& from, std::size_t most = 1 << 16) {
    std::string text(most, '\0');
    text.resize(from.read(room_of(text), soon));
    return text;
}

// Until the end of the stream.
template <class Reader>
std::string read_all(Reader& from) {
    std::string all;
    for (;;) {
        const std::string some = read_once(from);
        if (some.empty()) return all;
        all += some;
    }
}

// Reads until it fails: what came before, and the errno value (0: the end).
template <class Reader>
std::pair<std::string, int> read_until_error(Reader& from) {
    std::string all;
    const int error = error_of([&] {
        for (;;) {
            const std::string some = read_once(from);
            if (some.empty()) return;
            all += some;
        }
    });
    return {all, error};
}

// The other end of a stream, played by hand.
struct stream_puppet {
    explicit stream_puppet(endpoint from) : end(std::move(from)) {
        memory = ipcdoor_slot_memory(end.get(), end.slot());
        REQUIRE(memory != nullptr);
        slot_bytes = end.info().slot_bytes;
    }
    stream_slot& slot() { return *static_cast<stream_slot*>(memory); }
    void ring(std::uint32_t vector) { end.ring(1 - end.slot(), vector); }
    // A well-formed slot.
    void open(std::uint32_t roles) {
        capacity = init_stream_slot(memory, slot_bytes, roles);
        ring(detail::stream_link::reader_vector);
    }

    endpoint end;
    void* memory = nullptr;
    std::uint64_t slot_bytes = 0;
    std::uint64_t capacity = 0;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_STREAM_SUPPORT_HPP
