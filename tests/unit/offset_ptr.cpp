// SPDX-License-Identifier: MIT
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <type_traits>
#include <unordered_set>

#include <ipcdoor/offset_ptr.hpp>

#include "support/catch.hpp"
#include "support/process.hpp"

using ipcdoor::offset_ptr;

namespace {

struct base {
    int number = 0;
};
struct derived : base {
    int more = 0;
};

struct node {
    int value;
    offset_ptr<node> next;
};

static_assert(std::random_access_iterator<offset_ptr<int>>);
static_assert(std::random_access_iterator<offset_ptr<const int>>);
static_assert(std::is_convertible_v<offset_ptr<int>, offset_ptr<const int>>);
static_assert(!std::is_convertible_v<offset_ptr<const int>, offset_ptr<int>>);
static_assert(!std::is_constructible_v<offset_ptr<int>, offset_ptr<const int>>);
static_assert(std::is_convertible_v<offset_ptr<derived>, offset_ptr<base>>);
static_assert(!std::is_convertible_v<offset_ptr<base>, offset_ptr<derived>>);
static_assert(std::is_convertible_v<offset_ptr<int>, offset_ptr<void>>);
static_assert(!std::is_convertible_v<offset_ptr<void>, offset_ptr<int>>);
static_assert(!std::is_convertible_v<offset_ptr<int>, bool>);
static_assert(std::is_same_v<std::pointer_traits<offset_ptr<int>>::rebind<char>, offset_ptr<char>>);
static_assert(sizeof(offset_ptr<void>) == 8 && alignof(offset_ptr<void>) == 8);

}  // namespace

TEST_CASE("an offset_ptr points where it was set to, also to itself and its neighbours",
          "[offset_ptr]") {
    alignas(8) char bytes[24];
    auto& pointer = *new (bytes) offset_ptr<char>;
    CHECK(pointer == nullptr);
    CHECK_FALSE(static_cast<bool>(pointer));
    for (const int i : {0, 1, 8, 23}) {
        pointer = bytes + i;
        CHECK(pointer.get() == bytes + i);
        CHECK(pointer != nullptr);
        CHECK(static_cast<bool>(pointer));
    }
    pointer = nullptr;
    CHECK(pointer.get() == nullptr);
    pointer = bytes;
    pointer = 0;
    CHECK(pointer == nullptr);
    const offset_ptr<char> zero = 0;
    CHECK(zero == nullptr);
}

TEST_CASE("zero bits are a null pointer, and null stays null in copies", "[offset_ptr]") {
    alignas(8) unsigned char zeros[8] = {};
    offset_ptr<int> pointer;
    std::memcpy(static_cast<void*>(&pointer), zeros, sizeof zeros);
    CHECK(pointer == nullptr);
    const offset_ptr<const int> copy = pointer;
    CHECK(copy == nullptr);
    CHECK(copy.get() == nullptr);
    CHECK(std::to_address(copy) == nullptr);
}

TEST_CASE("an offset_ptr in a second mapping of the same pages leads there", "[offset_ptr]") {
    const int file = ::memfd_create("offset_ptr", MFD_CLOEXEC);
    REQUIRE(file >= 0);
    const ipcdoor::test::unique_fd closing(file);
    REQUIRE(::ftruncate(file, 8192) == 0);
    void* const one = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    void* const two = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REQUIRE(one != MAP_FAILED);
    REQUIRE(two != MAP_FAILED);
    auto* const first = new (one) node{1, nullptr};
    auto* const second = new (static_cast<char*>(one) + 4096) node{2, nullptr};
    first->next = second;
    second->next = first;
    auto* const seen = static_cast<node*>(two);
    CHECK(seen->next->value == 2);
    CHECK(static_cast<void*>(seen->next.get()) == static_cast<char*>(two) + 4096);
    CHECK(seen->next->next.get() == seen);
    ::munmap(one, 8192);
    ::munmap(two, 8192);
}

TEST_CASE("an offset_ptr is a random access iterator", "[offset_ptr]") {
    int numbers[] = {5, 3, 9, 1, 7};
    const offset_ptr<int> begin = numbers;
    const offset_ptr<int> end = begin + 5;
    CHECK(end - begin == 5);
    CHECK(begin[2] == 9);
    CHECK(*(1 + begin) == 3);
    std::sort(begin, end);
    CHECK(std::is_sorted(numbers, numbers + 5));
    CHECK(*std::lower_bound(begin, end, 7) == 7);
    offset_ptr<int> at = begin;
    CHECK(*at++ == 1);
    CHECK(*at == 3);
    CHECK(*--at == 1);
    at += 4;
    CHECK(*at-- == 9);
    CHECK(*(at - 1) == 5);
    CHECK(begin < end);
    CHECK(end >= offset_ptr<const int>(begin));
    CHECK(begin == numbers);
    CHECK(numbers + 5 == end);
    CHECK(begin < numbers + 1);
    CHECK(std::pointer_traits<offset_ptr<int>>::pointer_to(numbers[3]) == begin + 3);
}

TEST_CASE("an offset_ptr converts as a pointer does", "[offset_ptr]") {
    derived object;
    object.more = 4;
    const offset_ptr<derived> whole = &object;
    const offset_ptr<base> part = whole;
    const offset_ptr<void> nothing_known = part;
    CHECK(part == whole);
    CHECK(static_cast<offset_ptr<derived>>(part)->more == 4);
    CHECK(ipcdoor::static_pointer_cast<derived>(nothing_known)->more == 4);
    const offset_ptr<const derived> read_only = whole;
    ipcdoor::const_pointer_cast<derived>(read_only)->more = 6;
    CHECK(object.more == 6);
    const std::unordered_set<offset_ptr<derived>> known{whole};
    CHECK(known.count(&object) == 1);
    CHECK(known.count(nullptr) == 0);
}
