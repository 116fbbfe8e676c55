// SPDX-License-Identifier: MIT
// What the tests of mutexes share.
#ifndef IPCDOOR_TESTS_LIB_MUTEX_SUPPORT_HPP
#define IPCDOOR_TESTS_LIB_MUTEX_SUPPORT_HPP

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <thread>

#include <ipcdoor/mutex.hpp>

#include "lib/lib_support.hpp"

namespace ipcdoor::test {

inline mutex_options options(opening how = opening::open_or_create) {
    mutex_options made;
    made.how = how;
    made.source = source();
    return made;
}

inline std::uint32_t tid() { return static_cast<std::uint32_t>(::gettid()); }

// A mutex in DATA, and the same by other attachments, as other processes have it.
struct mutex_ground {
    mutex_ground()
        : name(unique_name()),
          at(test_door()),
          end(at.create(name, {.data_bytes = 8192, .slots = 8, .source = source()})),
          lock(end, {}, options()) {}
    mutex_layout& layout() { return *reinterpret_cast<mutex_layout*>(end.data().data()); }
    std::string name;
    door at;
    endpoint end;
    mutex lock;
};

// The same in another process.
struct mutex_visitor {
    explicit mutex_visitor(const mutex_ground& of)
        : at(test_door()), end(at.attach(of.name)), lock(end, {}, options()) {}
    door at;
    endpoint end;
    mutex lock;
};

// The number of a thread that was there, and is no more.
inline std::uint32_t dead_thread() {
    std::uint32_t number = 0;
    std::thread([&] { number = tid(); }).join();
    // join() returns when the kernel has cleared the number; the thread may still be going.
    while (::syscall(SYS_tkill, number, 0) == 0) std::this_thread::yield();
    return number;
}

// The record of an attachment that is dead, and was met by `here`.
inline std::uint32_t dead_record(mutex_ground& here) {
    endpoint gone = here.at.attach(here.name);
    const std::uint32_t record = mutex_record(gone.slot(), gone.info().generation);
    (void)here.end.slot_state(gone.slot());
    gone.close();
    return record;
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_MUTEX_SUPPORT_HPP
