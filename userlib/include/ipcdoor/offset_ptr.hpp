// SPDX-License-Identifier: MIT
//
// offset_ptr: a pointer for shared memory, which holds the distance from itself to what
// it points to. It means the same in every process that maps the pages, wherever they
// lie there, and has the same 8 bytes in 32-bit and in 64-bit programs.
//
//     struct node {
//         int value;
//         ipcdoor::offset_ptr<node> next;
//     };
//
// It is a random access iterator and a pointer to std::pointer_traits and to Boost's
// containers. Null is distinct from every address, its own included, and is all zero
// bits: fresh pages are full of null pointers.
//
// Pointer and target have to lie in one mapping, or the pointer has to be the process's
// own (on the stack, say). What it points to is computed from what lies there: who may
// write it decides where it points. Threads: as a plain pointer.
#ifndef IPCDOOR_OFFSET_PTR_HPP
#define IPCDOOR_OFFSET_PTR_HPP

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <type_traits>

namespace ipcdoor {

template <class T>
class offset_ptr {
    template <class From>
    static constexpr bool converts = std::is_convertible_v<From*, T*>;
    template <class From>
    static constexpr bool casts = !std::is_convertible_v<From*, T*> && requires(From * from) {
        static_cast<T*>(from);
    };

public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = offset_ptr;
    using reference = std::add_lvalue_reference_t<T>;
    using iterator_category = std::random_access_iterator_tag;
    template <class U>
    using rebind = offset_ptr<U>;

    constexpr offset_ptr() noexcept = default;
    // Also from nullptr, and from 0, which some containers say.
    offset_ptr(T* to) noexcept { set(to); }
    offset_ptr(const offset_ptr& other) noexcept { set(other.get()); }
    template <class U>
    requires(converts<U>) offset_ptr(const offset_ptr<U>& other)
    noexcept { set(other.get()); }
    // As static_cast, to a derived class or from void.
    template <class U>
    requires(casts<U>) explicit offset_ptr(const offset_ptr<U>& other) noexcept {
        set(static_cast<T*>(other.get()));
    }

    offset_ptr& operator=(const offset_ptr& other) noexcept {
        set(other.get());
        return *this;
    }
    offset_ptr& operator=(T* to) noexcept {
        set(to);
        return *this;
    }

    T* get() const noexcept {
        if (biased_ == 0) return nullptr;
        // As integers: the two lie in no common array that a compiler could reason about.
        return reinterpret_cast<T*>(own_address() + static_cast<std::uintptr_t>(biased_ - bias));
    }

    explicit operator bool() const noexcept { return biased_ != 0; }
    T* operator->() const noexcept { return get(); }
    reference operator*() const noexcept requires(!std::is_void_v<T>) { return *get(); }
    reference operator[](difference_type index) const noexcept requires(!std::is_void_v<T>) {
        return get()[index];
    }

    // For std::pointer_traits.
    template <class U = T>
    requires(!std::is_void_v<U>) static offset_ptr pointer_to(U& target) noexcept {
        return offset_ptr(std::addressof(target));
    }

    offset_ptr& operator+=(difference_type count) noexcept {
        set(get() + count);
        return *this;
    }
    offset_ptr& operator-=(difference_type count) noexcept {
        set(get() - count);
        return *this;
    }
    offset_ptr& operator++() noexcept { return *this += 1; }
    offset_ptr& operator--() noexcept { return *this -= 1; }
    offset_ptr operator++(int) noexcept {
        const offset_ptr before(*this);
        *this += 1;
        return before;
    }
    offset_ptr operator--(int) noexcept {
        const offset_ptr before(*this);
        *this -= 1;
        return before;
    }
    friend offset_ptr operator+(const offset_ptr& from, difference_type count) noexcept {
        return offset_ptr(from.get() + count);
    }
    friend offset_ptr operator+(difference_type count, const offset_ptr& from) noexcept {
        return offset_ptr(from.get() + count);
    }
    friend offset_ptr operator-(const offset_ptr& from, difference_type count) noexcept {
        return offset_ptr(from.get() - count);
    }
    friend difference_type operator-(const offset_ptr& left, const offset_ptr& right) noexcept {
        return left.get() - right.get();
    }

private:
    // Added to the distance, so that null can be 0: the distance -2^63 leads nowhere.
    static constexpr std::uint64_t bias = std::uint64_t{1} << 63;

    std::uintptr_t own_address() const noexcept { return reinterpret_cast<std::uintptr_t>(this); }
    void set(T* to) noexcept {
        // Widened before they are subtracted: a distance may not fit 32 bits with its sign.
        biased_ = to == nullptr ? 0
                                : std::uint64_t{reinterpret_cast<std::uintptr_t>(to)} -
                                      std::uint64_t{own_address()} + bias;
    }

    // Aligned so in 32-bit programs, too.
    alignas(8) std::uint64_t biased_ = 0;
};

static_assert(sizeof(offset_ptr<int>) == 8);

template <class T, class U>
bool operator==(const offset_ptr<T>& left, const offset_ptr<U>& right) noexcept {
    return left.get() == right.get();
}
template <class T>
bool operator==(const offset_ptr<T>& left, std::nullptr_t) noexcept {
    return !left;
}
template <class T, class U>
bool operator==(const offset_ptr<T>& left, U* right) noexcept {
    return left.get() == right;
}
template <class T, class U>
std::strong_ordering operator<=>(const offset_ptr<T>& left, const offset_ptr<U>& right) noexcept {
    return std::compare_three_way{}(static_cast<const volatile void*>(left.get()),
                                    static_cast<const volatile void*>(right.get()));
}
template <class T, class U>
std::strong_ordering operator<=>(const offset_ptr<T>& left, U* right) noexcept {
    return std::compare_three_way{}(static_cast<const volatile void*>(left.get()),
                                    static_cast<const volatile void*>(right));
}

template <class To, class From>
offset_ptr<To> static_pointer_cast(const offset_ptr<From>& from) noexcept {
    return offset_ptr<To>(static_cast<To*>(from.get()));
}
template <class To, class From>
offset_ptr<To> const_pointer_cast(const offset_ptr<From>& from) noexcept {
    return offset_ptr<To>(const_cast<To*>(from.get()));
}

}  // namespace ipcdoor

template <class T>
struct std::hash<ipcdoor::offset_ptr<T>> {
    std::size_t operator()(const ipcdoor::offset_ptr<T>& of) const noexcept {
        return std::hash<T*>{}(of.get());
    }
};

#endif  // IPCDOOR_OFFSET_PTR_HPP
