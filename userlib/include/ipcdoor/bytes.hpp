// SPDX-License-Identifier: MIT
//
// What a message carries: bytes_view, the argument of everything that sends,
// and message, the result of everything that receives.
#ifndef IPCDOOR_BYTES_HPP
#define IPCDOOR_BYTES_HPP

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <ipcdoor/error.hpp>
#include <ipcdoor/owned_fd.hpp>
#include <ipcdoor/scheduling.hpp>

namespace ipcdoor {

namespace detail {
template <class T>
concept text_like = std::convertible_to<const T&, std::string_view>;
template <class T>
concept span_like = requires(const T& range) {
    std::span(range);
}
&&std::is_trivially_copyable_v<typename decltype(std::span(
    std::declval<const T&>()))::element_type>;
}  // namespace detail

// Bytes that somebody else owns: made from text (without a terminating NUL),
// from a contiguous range of trivially copyable elements, or from one trivially
// copyable object. Pointers are refused: an address means nothing to a peer.
class bytes_view {
public:
    constexpr bytes_view() noexcept = default;

    template <detail::text_like T>
    bytes_view(const T& text) noexcept {
        const std::string_view view(text);
        bytes_ = std::as_bytes(std::span(view.data(), view.size()));
    }

    template <class T>
    requires(!detail::text_like<T> && detail::span_like<T>) bytes_view(const T& range)
    noexcept : bytes_(std::as_bytes(std::span(range))) {}

    template <class T>
    requires(!detail::text_like<T> && !detail::span_like<T> && std::is_trivially_copyable_v<T> &&
             !std::is_pointer_v<T>) bytes_view(const T& object)
    noexcept : bytes_(std::as_bytes(std::span(&object, 1))) {}

    std::span<const std::byte> bytes() const noexcept { return bytes_; }
    std::size_t size() const noexcept { return bytes_.size(); }

private:
    std::span<const std::byte> bytes_;
};

namespace detail {
class channel_receiver;

// What may come along with a message.
struct message_extras {
    message_extras() noexcept = default;
    // Descriptors have one owner.
    message_extras(message_extras&&) noexcept = default;
    message_extras& operator=(message_extras&&) noexcept = default;

    std::optional<scheduling> sender{};
    std::vector<owned_fd> descriptors{};

    bool any() const noexcept { return sender.has_value() || !descriptors.empty(); }
};
}  // namespace detail

// A received message, copied out of shared memory: nobody can change it now.
// One object passed to receive() again and again reuses its memory. It can be moved, not
// copied: descriptors that came along have one owner.
class message {
public:
    std::span<const std::byte> bytes() const noexcept { return bytes_; }
    std::size_t size() const noexcept { return bytes_.size(); }
    bool empty() const noexcept { return bytes_.empty(); }

    // The same bytes as text, valid as long as the message.
    std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
    }

    // The same bytes as an object. Throws EMSGSIZE where the sizes differ. Every
    // bit pattern is possible here: check what comes from a peer.
    template <class T>
    requires(std::is_trivially_copyable_v<T>&& std::is_default_constructible_v<T>) T as()
    const {
        if (bytes_.size() != sizeof(T)) {
            detail::throw_error(EMSGSIZE, "message: " + std::to_string(bytes_.size()) +
                                              " bytes came where an object of " +
                                              std::to_string(sizeof(T)) + " was expected");
        }
        T object;
        std::memcpy(&object, bytes_.data(), sizeof(T));
        return object;
    }

    // True where the sender waits in call() for channel::reply() to this.
    bool is_request() const noexcept { return request_ != 0; }

    // Of a request: its number on its channel, 0 for what is none.
    std::uint64_t request_id() const noexcept { return request_; }

    // What the sender gave it, 0 to 3; a reply has its request's.
    unsigned priority() const noexcept { return priority_; }

    // ---- what came along ----

    std::size_t descriptor_count() const noexcept { return extras_.descriptors.size(); }

    // The file descriptors, close-on-exec, in the sender's order, once. Throws EMFILE where
    // this process had no room for all of them; those that it had are closed then.
    std::vector<owned_fd> take_descriptors() {
        std::vector<owned_fd> taken = std::exchange(extras_.descriptors, {});
        for (const owned_fd& fd : taken) {
            if (fd) continue;
            detail::throw_error(EMFILE,
                                "message: this process has no room for the descriptors that came "
                                "along; raise its limit of open files");
        }
        return taken;
    }

    // How the sending thread was scheduled, as it says itself, where this side's channel
    // asked for it (channel_options::ask_scheduling).
    const std::optional<scheduling>& sender_scheduling() const noexcept { return extras_.sender; }

private:
    friend class detail::channel_receiver;
    friend class channel;
    friend class held_message;

    void assign(std::span<const std::byte> bytes, std::uint64_t request, unsigned priority) {
        bytes_.assign(bytes.begin(), bytes.end());
        request_ = request;
        priority_ = priority;
    }

    std::vector<std::byte> bytes_;
    std::uint64_t request_ = 0;  // correlation id, 0: wants no reply
    unsigned priority_ = 0;
    detail::message_extras extras_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_BYTES_HPP
