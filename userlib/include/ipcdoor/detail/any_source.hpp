// SPDX-License-Identifier: MIT
//
// What a wait_set sees of a source of whatever type (wait_source.hpp).
#ifndef IPCDOOR_DETAIL_ANY_SOURCE_HPP
#define IPCDOOR_DETAIL_ANY_SOURCE_HPP

#include <concepts>
#include <type_traits>
#include <utility>

namespace ipcdoor::detail {

class any_source {
public:
    any_source() = default;
    any_source(const any_source&) = delete;
    any_source& operator=(const any_source&) = delete;
    virtual ~any_source() = default;

    virtual bool try_take() = 0;
    virtual bool gives_back() const noexcept = 0;
    virtual void give_back() = 0;
    virtual void confirm() = 0;
    virtual bool looks() const noexcept = 0;
    virtual bool ready() = 0;
    virtual bool any_only() const noexcept = 0;
    virtual bool level_triggered() const noexcept = 0;
};

// Source is a type, or a reference to an object that the user keeps.
template <class Source>
class some_source final : public any_source {
    using plain = std::remove_reference_t<Source>;
    static constexpr bool can_give_back = requires(plain & source) { source.give_back(); };
    static constexpr bool can_confirm = requires(plain & source) { source.confirm(); };
    static constexpr bool can_look = requires(plain & source) {
        { source.ready() } -> std::convertible_to<bool>;
    };

public:
    explicit some_source(Source&& source) : source_(std::forward<Source>(source)) {}

    bool try_take() override { return static_cast<bool>(source_.try_take()); }
    bool gives_back() const noexcept override { return can_give_back; }
    void give_back() override {
        if constexpr (can_give_back) source_.give_back();
    }
    void confirm() override {
        if constexpr (can_confirm) source_.confirm();
    }
    bool looks() const noexcept override { return can_look && !can_give_back; }
    bool ready() override {
        if constexpr (can_look) return static_cast<bool>(source_.ready());
        return true;
    }
    bool any_only() const noexcept override {
        if constexpr (requires { plain::any_only; }) return plain::any_only;
        return false;
    }
    bool level_triggered() const noexcept override {
        if constexpr (requires { plain::level_triggered; }) return plain::level_triggered;
        return false;
    }

private:
    Source source_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_ANY_SOURCE_HPP
