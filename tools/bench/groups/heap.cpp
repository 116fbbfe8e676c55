// SPDX-License-Identifier: MIT
//
// Allocating in shared memory, and freeing again.
#include <array>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <cstddef>
#include <cstdlib>
#include <ipcdoor/door.hpp>
#include <ipcdoor/heap.hpp>
#include <ipcdoor/heap_layout.hpp>
#include <string>

#include "bench/groups/names.hpp"
#include "bench/registry.hpp"

namespace {

// What is in the heap besides, as there mostly is: the oldest of so many allocations is freed, a
// new one made.
constexpr std::size_t others = 64;
constexpr std::size_t room = std::size_t{32} << 20;

template <class Heap>
class allocate_and_free {
public:
    explicit allocate_and_free(std::size_t bytes) : bytes_(bytes) {
        for (void*& one : all_) one = heap_.allocate(bytes_);
    }
    ~allocate_and_free() {
        for (void* one : all_) heap_.free(one);
    }
    void operator()() {
        void*& oldest = all_[next_++ % others];
        heap_.free(oldest);
        oldest = heap_.allocate(bytes_);
        *static_cast<char*>(oldest) = 1;
    }

private:
    Heap heap_;
    const std::size_t bytes_;
    std::array<void*, others> all_{};
    std::size_t next_ = 0;
};

class door_heap {
public:
    void* allocate(std::size_t bytes) { return heap_.allocate(bytes); }
    void free(void* what) { heap_.deallocate(what); }

private:
    ipcdoor::door door_{bench::door_uri};
    ipcdoor::endpoint end_ =
        door_.create(bench::fresh_name("heap"), {.data_bytes = ipcdoor::heap_data_bytes(room)});
    ipcdoor::heap heap_{end_};
};

class boost_heap {
public:
    // It needs no name any more.
    boost_heap() { boost::interprocess::shared_memory_object::remove(name_.c_str()); }
    void* allocate(std::size_t bytes) { return heap_.allocate(bytes); }
    void free(void* what) { heap_.deallocate(what); }

private:
    const std::string name_ = bench::fresh_name("heap");
    boost::interprocess::managed_shared_memory heap_{boost::interprocess::create_only,
                                                     name_.c_str(), room};
};

class own_memory {
public:
    void* allocate(std::size_t bytes) {
        void* const got = std::malloc(bytes);
        benchmark::DoNotOptimize(got);
        return got;
    }
    void free(void* what) { std::free(what); }
};

const bench::part heaps("heap", [](bench::group& g) {
    g.title = "Allocations in shared memory";
    g.operation = "the oldest of 64 allocations freed, a new one of the same size made";
    g.axis = bench::axis_kind::bytes;
    g.axis_title = "size of the allocation";
    const char *own = "ipcdoor::heap", *boost = "boost::interprocess", *libc = "malloc (private)";
    g.limit_calls({std::string(own) + ", calls", {own, 64}, 0});
    for (const std::size_t bytes : {std::size_t{64}, std::size_t{1} << 10, std::size_t{64} << 10}) {
        const auto x = static_cast<double>(bytes);
        g.add({own, x, true,
               [bytes] { return bench::make_work<allocate_and_free<door_heap>>(bytes); }});
        g.add({boost, x, false,
               [bytes] { return bench::make_work<allocate_and_free<boost_heap>>(bytes); }});
        g.add({libc, x, false,
               [bytes] { return bench::make_work<allocate_and_free<own_memory>>(bytes); }});
        g.compare({"heap : boost, " + g.label(x), {own, x}, {boost, x}, 1.0});
        g.compare({"heap : malloc, " + g.label(x), {own, x}, {libc, x}});
    }
});

}  // namespace
