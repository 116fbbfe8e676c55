// SPDX-License-Identifier: MIT
// Boost's containers in a heap, where Boost is installed.
#include <cstdio>

#include "support/catch.hpp"

#if __has_include(<boost/container/vector.hpp>) && __has_include(<boost/container/map.hpp>)

#include <boost/container/list.hpp>
#include <boost/container/map.hpp>
#include <boost/container/scoped_allocator.hpp>
#include <boost/container/string.hpp>
#include <boost/container/vector.hpp>
#include <functional>
#include <string>
#include <utility>

#include <ipcdoor/heap.hpp>

#include "lib/heap_support.hpp"
#include "lib/lib_support.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

namespace {

using shared_string =
    boost::container::basic_string<char, std::char_traits<char>, heap_allocator<char>>;
using shared_numbers = boost::container::vector<int, heap_allocator<int>>;
using entry = std::pair<const shared_string, shared_numbers>;
using shared_map =
    boost::container::map<shared_string, shared_numbers, std::less<shared_string>,
                          boost::container::scoped_allocator_adaptor<heap_allocator<entry>>>;
using shared_list = boost::container::list<shared_string, heap_allocator<shared_string>>;

}  // namespace

TEST_CASE("Boost's vector, string, list and map are used by two processes",
          "[heap][containers][fork]") {
    door at = test_door();
    const std::string name = unique_name();
    endpoint end = at.create(name, data_of(16 * page, 1024 * page));
    heap mine(end);
    auto* const map = mine.find_or_construct<shared_map>("map", std::less<shared_string>(),
                                                         heap_allocator<entry>(mine));
    auto* const list = mine.find_or_construct<shared_list>("list", mine.allocator<shared_string>());
    for (int i = 0; i < 100; ++i) {
        const shared_string key(("the key of number " + std::to_string(i)).c_str(),
                                mine.allocator<char>());
        shared_numbers& numbers = (*map)[key];
        for (int n = 0; n < i; ++n) numbers.push_back(n);
        list->push_front(key);
    }
    child other([&] {
        door own = test_door();
        endpoint theirs = own.attach(name);
        heap heap_there(theirs);
        auto* const seen = heap_there.find<shared_map>("map");
        auto* const keys = heap_there.find<shared_list>("list");
        EXPECT_CHILD(seen != nullptr && keys != nullptr);
        EXPECT_CHILD(seen->size() == 100 && keys->size() == 100);
        for (const auto& each : *seen)
            for (int n = 0; n < static_cast<int>(each.second.size()); ++n)
                EXPECT_CHILD(each.second[static_cast<std::size_t>(n)] == n);
        const shared_string fifty("the key of number 50", heap_there.allocator<char>());
        EXPECT_CHILD(seen->find(fifty)->second.size() == 50);
        // It grows what the parent has made, and frees some of it.
        for (int n = 50; n < 5000; ++n) (*seen)[fifty].push_back(n);
        for (int i = 0; i < 30; ++i) {
            seen->erase(keys->front());
            keys->pop_front();
        }
        return 0;
    });
    CHECK(other.wait().exited());
    CHECK(map->size() == 70);
    CHECK(list->size() == 70);
    const shared_string fifty("the key of number 50", mine.allocator<char>());
    REQUIRE(map->count(fifty) == 1);
    const shared_numbers& numbers = (*map)[fifty];
    CHECK(numbers.size() == 5000);
    CHECK(numbers.back() == 4999);
    CHECK(mine.statistics().bytes > 16 * page);
    (void)mine.check();
    CHECK(mine.destroy<shared_map>("map"));
    CHECK(mine.destroy<shared_list>("list"));
    CHECK(mine.check().blocks == (fifty.capacity() > 30 ? 1 : 0) + 0U);
}

#else

TEST_CASE("Boost's containers in a heap", "[heap][containers]") {
    std::puts("skipped: Boost's containers are not installed (libboost-dev)");
}

#endif
