// SPDX-License-Identifier: MIT
// Heaps whose user dies at any step: the others find it whole, and lose nothing.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/heap.hpp>

#include "lib/crash/crash.hpp"
#include "lib/lib_support.hpp"
#include "support/catch.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;

namespace {

constexpr std::uint64_t page = 4096;

// An object whose constructor allocates, and whose destructor frees that.
struct holder_of_memory {
    explicit holder_of_memory(heap& of, std::size_t wanted = 500)
        : local(of.allocator<char>()), bytes(wanted), memory(local.allocate(bytes)) {
        std::memset(memory.get(), 'm', bytes);
    }
    ~holder_of_memory() { local.deallocate(memory, bytes); }
    heap_allocator<char> local;
    std::size_t bytes;
    offset_ptr<char> memory;
};

struct heap_world {
    explicit heap_world(std::uint64_t bytes = 64 * page, std::uint64_t most = 0)
        : name(unique_name()),
          at(test_door()),
          end(at.create(
              name, {.data_bytes = bytes, .max_data_bytes = most, .slots = 4, .source = source()})),
          mine(std::in_place, end) {
        // Neighbours that must not change.
        for (int i = 0; i < 4; ++i) {
            kept.push_back(static_cast<char*>(mine->allocate(200)));
            std::memset(kept.back(), 'a' + i, 200);
        }
        // For the victim to free, between two of them.
        *victims_piece = mine->offset_of(mine->allocate(70 * heap_granule));
        kept.push_back(static_cast<char*>(mine->allocate(200)));
        std::memset(kept.back(), 'a' + 4, 200);
        (void)mine->find_or_construct<std::uint64_t>("kept", 77U);
    }
    heap_world(const heap_world&) = delete;
    heap_world& operator=(const heap_world&) = delete;

    void enter() {
        victims_door.emplace(test_door());
        victims_end.emplace(victims_door->attach(name));
        victims.emplace(*victims_end);
    }

    // Whole, with so many blocks besides the kept ones; everybody goes on.
    void check_whole(std::uint64_t others_least, std::uint64_t others_most) {
        const std::uint64_t ours = kept.size() + 1;
        heap_report found = mine->check(soon);
        CHECK(found.blocks >= ours + others_least);
        CHECK(found.blocks <= ours + others_most);
        for (std::size_t i = 0; i < kept.size(); ++i)
            CHECK(std::string(kept[i], 200) == std::string(200, static_cast<char>('a' + i)));
        CHECK(*mine->find<std::uint64_t>("kept") == 77);
        void* const more = mine->allocate(3000, 64, soon);
        std::memset(more, 'x', 3000);
        endpoint newcomer = at.attach(name);
        heap third(newcomer);
        third.deallocate(third.at(mine->offset_of(more)), soon);
        CHECK(third.check(soon).blocks == found.blocks);
    }

    std::string name;
    door at;
    endpoint end;
    std::optional<heap> mine;
    std::vector<char*> kept;
    shared<std::atomic<std::uint64_t>> victims_piece;
    std::optional<door> victims_door;
    std::optional<endpoint> victims_end;
    std::optional<heap> victims;
    std::optional<blocking_thread> waiter;
};

struct small_world : heap_world {
    small_world() : heap_world(8 * page, 128 * page) {}
};

// Before anybody has made the heap.
struct empty_world {
    empty_world()
        : name(unique_name()),
          at(test_door()),
          end(at.create(name, {.max_data_bytes = 16 * page, .slots = 4, .source = source()})) {}
    void enter() {
        victims_door.emplace(test_door());
        victims_end.emplace(victims_door->attach(name));
    }

    std::string name;
    door at;
    endpoint end;
    std::optional<door> victims_door;
    std::optional<endpoint> victims_end;
};

// A thread that needs the heap while the victim stands at its step, and has to get it when
// that is dead.
void start_waiter(heap_world& world, const crash_point&) {
    world.waiter.emplace(
        [&world] { world.mine->deallocate(world.mine->allocate(10, 8, soon), soon); });
    world.waiter->wait_asleep_or_ended();
}

}  // namespace

TEST_CASE("a heap survives a death at each step of its making", "[crash][heap]") {
    const crash_case<empty_world> cases[] = {{"create",
                                              [](empty_world& world) {
                                                  heap made(*world.victims_end);
                                                  made.deallocate(made.allocate(10));
                                              },
                                              [](empty_world& world, const crash_point&) {
                                                  heap mine(world.end);
                                                  CHECK(mine.check(soon).blocks <= 1);
                                                  mine.deallocate(mine.allocate(100, 8, soon),
                                                                  soon);
                                                  (void)mine.check(soon);
                                              }}};
    crash_at_every_step(cases);
}

TEST_CASE("a heap survives a death at each step of allocate and deallocate", "[crash][heap]") {
    // One block more than what is kept: the piece that the victim may free.
    const crash_case<heap_world> cases[] = {
        {"allocate", [](heap_world& world) { (void)world.victims->allocate(130); },
         [](heap_world& world, const crash_point& at) { world.check_whole(at.killed ? 1 : 2, 2); }},
        // Over several words of the bitmaps.
        {"allocate much", [](heap_world& world) { (void)world.victims->allocate(150 * 64, 512); },
         [](heap_world& world, const crash_point& at) { world.check_whole(at.killed ? 1 : 2, 2); }},
        {"deallocate",
         [](heap_world& world) {
             world.victims->deallocate(world.victims->at(*world.victims_piece));
         },
         [](heap_world& world, const crash_point& at) { world.check_whole(0, at.killed ? 1 : 0); }},
    };
    crash_at_every_step(cases);
}

TEST_CASE("a heap survives a death at each step of what has owners", "[crash][heap]") {
    const crash_case<heap_world> cases[] = {
        {"allocate_owned", [](heap_world& world) { (void)world.victims->allocate_owned(200, 128); },
         [](heap_world& world, const crash_point&) {
             // Nothing of the dead stays, at whatever step it died.
             (void)world.mine->reclaim(soon);
             world.check_whole(1, 1);
             CHECK(world.mine->check(soon).owned == 0);
         }},
        {"share",
         [](heap_world& world) {
             void* const given = world.victims->allocate_owned(200);
             world.victims->share(given);
         },
         [](heap_world& world, const crash_point& at) {
             (void)world.mine->reclaim(soon);
             world.check_whole(at.killed ? 1 : 2, 2);
         }},
        {"reclaim",
         [](heap_world& world) {
             {
                 endpoint another = world.victims_door->attach(world.name);
                 heap dying(another);
                 for (int i = 0; i < 3; ++i) (void)dying.allocate_owned(100);
             }
             (void)world.victims->reclaim();
         },
         [](heap_world& world, const crash_point&) {
             (void)world.mine->reclaim(soon);
             world.check_whole(1, 1);
         }},
    };
    crash_at_every_step(cases);
}

TEST_CASE("a heap survives a death at each step of growing", "[crash][heap]") {
    const crash_case<small_world> cases[] = {
        {"grow", [](small_world& world) { (void)world.victims->allocate(20 * page); },
         [](small_world& world, const crash_point& at) {
             world.check_whole(at.killed ? 1 : 2, 2);
             // All that was declared can still be had.
             void* const large = world.mine->allocate(60 * page, 64, soon);
             std::memset(large, 'y', 60 * page);
             world.mine->deallocate(large, soon);
         }}};
    crash_at_every_step(cases);
}

TEST_CASE("a heap survives a death at each step of constructing", "[crash][heap]") {
    const crash_case<heap_world> cases[] = {
        {"find_or_construct",
         [](heap_world& world) {
             (void)world.victims->find_or_construct<holder_of_memory>("object", *world.victims);
         },
         [](heap_world& world, const crash_point&) {
             auto* const object =
                 world.mine->find_or_construct<holder_of_memory>("object", *world.mine);
             CHECK(std::string(object->memory.get(), 500) == std::string(500, 'm'));
             (void)world.mine->reclaim(soon);
             // The victim's piece, the object and its memory.
             world.check_whole(3, 3);
             CHECK(world.mine->check(soon).roots == 2);
             CHECK(world.mine->destroy<holder_of_memory>("object"));
             world.check_whole(1, 1);
         }},
        {"find_or_construct, reclaimed",
         [](heap_world& world) {
             (void)world.victims->find_or_construct<holder_of_memory>("object", *world.victims);
         },
         [](heap_world& world, const crash_point& at) {
             (void)world.mine->reclaim(soon);
             const bool there = world.mine->find<holder_of_memory>("object") != nullptr;
             CHECK((there || at.killed));
             world.check_whole(there ? 3 : 1, there ? 3 : 1);
         }},
    };
    crash_at_every_step(cases);
}

TEST_CASE("a heap survives a death at each step of destroying", "[crash][heap]") {
    const crash_case<heap_world> cases[] = {
        {"destroy",
         [](heap_world& world) {
             (void)world.victims->find_or_construct<holder_of_memory>("object", *world.victims);
             world.victims->destroy<holder_of_memory>("object");
         },
         [](heap_world& world, const crash_point& at) {
             (void)world.mine->reclaim(soon);
             const bool there = world.mine->find<holder_of_memory>("object") != nullptr;
             if (!at.killed) CHECK_FALSE(there);
             // Between the two, a destructor that did not come to its end keeps its memory.
             world.check_whole(there ? 3 : 1, there ? 3 : 2);
         }},
    };
    crash_at_every_step(cases);
}

TEST_CASE("who waits for a heap gets it when its user dies at any step", "[crash][heap]") {
    const auto check = [](heap_world& world, const crash_point&) {
        world.waiter.reset();
        world.check_whole(0, 2);
    };
    const crash_case<heap_world> cases[] = {
        {"allocate, waited for", [](heap_world& world) { (void)world.victims->allocate(130); },
         check, start_waiter},
        {"deallocate, waited for",
         [](heap_world& world) {
             world.victims->deallocate(world.victims->at(*world.victims_piece));
         },
         check, start_waiter},
    };
    crash_at_every_step(cases);
}

TEST_CASE("who waits for an object makes it when its maker dies at any step", "[crash][heap]") {
    const crash_case<heap_world> cases[] = {
        {"find_or_construct, waited for",
         [](heap_world& world) {
             (void)world.victims->find_or_construct<holder_of_memory>("object", *world.victims);
         },
         [](heap_world& world, const crash_point&) {
             world.waiter.reset();
             world.check_whole(3, 3);
         },
         [](heap_world& world, const crash_point&) {
             world.waiter.emplace([&world] {
                 auto* const made =
                     world.mine->find_or_construct<holder_of_memory>("object", *world.mine);
                 CHECK_IN_THREAD(made->memory[499] == 'm');
             });
             world.waiter->wait_asleep_or_ended();
         }}};
    crash_at_every_step(cases);
}

namespace {

// What takes as long to make as its maker likes.
struct slow_object {
    explicit slow_object(const std::function<void()>& meanwhile = {}) {
        if (meanwhile) meanwhile();
    }
    std::uint64_t value = 77;
};

// Another process stands amid its work with the heap, and goes on, or dies, when the victim
// is about to sleep for it.
template <bool Dies>
struct contended_world : heap_world {
    contended_world() {
        other = child([this] {
            door mine_door = test_door();
            endpoint mine_end = mine_door.attach(name);
            heap its(mine_end);
            const auto stand = [this] {
                say->stands = true;
                spin_until([this] { return say->leave.load(); });
                if (Dies) ::kill(::getpid(), SIGKILL);
            };
            spin_until([this] { return say->wanted != 0; });
            if (say->wanted == 2) {
                (void)its.find_or_construct<slow_object>("slow", stand);
                return 0;
            }
            const step_observer each([&](const std::string& label) {
                if (label == "heap.lock:taken" && !say->stands) stand();
            });
            its.deallocate(its.allocate(10));
            return 0;
        });
    }
    void at_step(const char* label) {
        if (label == std::string("heap.lock:sleep") || label == std::string("heap.construct:sleep"))
            say->leave = true;
    }
    // In the victim: the other one has the lock (1), or makes an object (2).
    void begin(int wanted) {
        say->wanted = wanted;
        spin_until([this] { return say->stands.load(); });
    }
    void await_other() {
        say->leave = true;
        const child_status ended = other.wait();
        CHECK((Dies ? ended.signaled(SIGKILL) : ended.exited(0)));
    }

    struct words {
        std::atomic<int> wanted{0};
        std::atomic<bool> stands{false};
        std::atomic<bool> leave{false};
    };
    shared<words> say;
    child other;
};

template <bool Dies>
struct locked_world : contended_world<Dies> {
    void enter() {
        heap_world::enter();
        this->begin(1);
    }
};
template <bool Dies>
struct made_world : contended_world<Dies> {
    void enter() {
        heap_world::enter();
        this->begin(2);
    }
};

}  // namespace

TEST_CASE("who waits for a heap may die at each step", "[crash][heap]") {
    const auto allocate = [](auto& world) { (void)world.victims->allocate(130); };
    const auto check = [](auto& world, const crash_point& at) {
        world.await_other();
        world.check_whole(at.killed ? 1 : 2, 2);
    };
    const crash_case<locked_world<false>> leaves[] = {
        {"allocate, until the lock is free", allocate, check}};
    const crash_case<locked_world<true>> dies[] = {
        {"allocate, until its owner is dead", allocate, check}};
    crash_at_every_step(leaves);
    crash_at_every_step(dies);
}

TEST_CASE("who waits for an object may die at each step", "[crash][heap]") {
    const auto make = [](auto& world) {
        (void)world.victims->template find_or_construct<slow_object>("slow");
    };
    const auto check = [](auto& world, const crash_point&) {
        world.await_other();
        CHECK(world.mine->template find_or_construct<slow_object>("slow")->value == 77);
        (void)world.mine->reclaim(soon);
        world.check_whole(2, 2);
    };
    const crash_case<made_world<false>> leaves[] = {
        {"find_or_construct, until it is made", make, check}};
    const crash_case<made_world<true>> dies[] = {
        {"find_or_construct, until its maker is dead", make, check}};
    crash_at_every_step(leaves);
    crash_at_every_step(dies);
}

TEST_CASE("an object whose maker is done and gone when it is looked for is there",
          "[crash][heap]") {
    const int how = GENERATE(0, 1, 2, 3);
    CAPTURE(how);
    heap_world world;
    gate within;
    gate go_on;
    child maker([&] {
        world.enter();
        (void)world.victims->find_or_construct<slow_object>("slow", [&] {
            (void)world.victims->allocate(500);
            within.open();
            go_on.wait();
        });
        return 0;
    });
    within.wait();
    bool looked = false;
    {
        const step_observer each([&](const std::string& label) {
            if (label != "heap.root:builder" || std::exchange(looked, true)) return;
            go_on.open();
            CHECK(maker.wait().exited());
        });
        switch (how) {
            case 0: CHECK(world.mine->find<slow_object>("slow") != nullptr); break;
            case 1:
                CHECK(world.mine->find_or_construct<slow_object>("slow", [] { std::abort(); })
                          ->value == 77);
                break;
            case 2: CHECK(world.mine->reclaim(soon) == 0); break;
            default: CHECK(world.mine->destroy<slow_object>("slow"));
        }
    }
    CHECK(looked);
    CHECK((world.mine->find<slow_object>("slow") != nullptr) == (how != 3));
    // The object, what its constructor has allocated, and the piece that nobody freed.
    const std::uint64_t left = how == 3 ? 2 : 3;
    world.check_whole(left, left);
}

TEST_CASE("who was thought dead does not give back a lock that is another one's",
          "[crash][heap][hostile]") {
    heap_world world;
    const endpoint other = world.at.attach(world.name);
    const auto info = other.info();
    const std::uint64_t taker = heap_identity(info.slot, info.generation);
    auto& lock = reinterpret_cast<heap_header*>(world.end.data().data())->lock;
    {
        const step_observer each([&](const std::string& label) {
            if (label == "heap.unlock:begin") lock = taker;
        });
        (void)world.mine->allocate(1, 1, soon);
    }
    CHECK(lock.load() == taker);
    CHECK(error_of([&] { (void)world.mine->allocate(1, 1, std::chrono::milliseconds(10)); }) ==
          ETIMEDOUT);
    lock = 0;
    (void)world.mine->check(soon);
}
