// SPDX-License-Identifier: MIT
//
// Allocators that take from a heap (heap.hpp, which includes this): heap_allocator for containers
// that lie in the heap, heap_resource for std::pmr containers of one process.
#ifndef IPCDOOR_HEAP_ALLOCATOR_HPP
#define IPCDOOR_HEAP_ALLOCATOR_HPP

#include <cerrno>
#include <cstddef>
#include <limits>
#include <memory_resource>
#include <new>

#include <ipcdoor/detail/heap_core.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/offset_ptr.hpp>

namespace ipcdoor {

// An allocator for containers that lie in the heap and take fancy pointers, as Boost's do:
//
//     template <class T>
//     using shared_vector = boost::container::vector<T, ipcdoor::heap_allocator<T>>;
//     auto* numbers = heap.find_or_construct<shared_vector<int>>("numbers",
//                                                                heap.allocator<int>());
//
// It means the heap of the process that it is used in, which must have one at that moment:
// EPERM. No room is std::bad_alloc; deallocate() does not throw: where it fails (DATA is
// damaged) the memory is lost, and counted.
template <class T>
class heap_allocator {
public:
    using value_type = T;
    using pointer = offset_ptr<T>;
    using const_pointer = offset_ptr<const T>;
    using void_pointer = offset_ptr<void>;
    using const_void_pointer = offset_ptr<const void>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    template <class U>
    struct rebind {
        using other = heap_allocator<U>;
    };

    // Of a heap.
    explicit heap_allocator(detail::heap_core& of) noexcept : local_(of.local_) {}
    template <class U>
    heap_allocator(const heap_allocator<U>& other) noexcept : local_(other.local_) {}

    pointer allocate(size_type count) {
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
        return static_cast<T*>(here().allocate_for_allocator(count * sizeof(T), alignof(T)));
    }
    void deallocate(const pointer& allocated, size_type) noexcept {
        detail::heap_core* const self = local_->self;
        if (self != nullptr) self->free_for_allocator(allocated.get());
    }

    template <class U>
    friend bool operator==(const heap_allocator& left, const heap_allocator<U>& right) noexcept {
        return left.is_same(right);
    }

private:
    template <class U>
    friend class heap_allocator;

    detail::heap_core& here() const {
        detail::heap_core* const self = local_->self;
        if (self == nullptr) {
            detail::throw_error(EPERM,
                                "heap_allocator: this process has no heap for this memory; make "
                                "one and keep it while its containers are in use");
        }
        return *self;
    }
    template <class U>
    bool is_same(const heap_allocator<U>& other) const noexcept {
        return local_ == other.local_;
    }

    offset_ptr<detail::heap_local> local_;
};

// The heap for std::pmr containers, whose pointers are good in this process alone: what they
// keep is shared by offset_of(). No room is std::bad_alloc.
class heap_resource : public std::pmr::memory_resource {
public:
    explicit heap_resource(detail::heap_core& of) noexcept : heap_(of) {}

private:
    void* do_allocate(std::size_t bytes, std::size_t align) override {
        return heap_.allocate_for_allocator(bytes, align);
    }
    void do_deallocate(void* allocated, std::size_t, std::size_t) override {
        heap_.free_for_allocator(allocated);
    }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        const auto* const same = dynamic_cast<const heap_resource*>(&other);
        return same != nullptr && &same->heap_ == &heap_;
    }

    detail::heap_core& heap_;
};

}  // namespace ipcdoor

#endif  // IPCDOOR_HEAP_ALLOCATOR_HPP
