// SPDX-License-Identifier: MIT
//
// Synchronisation that nobody contends for, beside POSIX's between processes.
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#include <cerrno>
#include <ipcdoor/door.hpp>
#include <ipcdoor/mutex.hpp>
#include <ipcdoor/semaphore.hpp>
#include <new>
#include <string>
#include <system_error>

#include "bench/groups/names.hpp"
#include "bench/groups/shared.hpp"
#include "bench/registry.hpp"
#include "common/throw_errno.hpp"

namespace {

class door_semaphore {
public:
    void operator()() {
        semaphore_.post();
        semaphore_.acquire();
    }

private:
    ipcdoor::door door_{bench::door_uri};
    ipcdoor::semaphore semaphore_{door_, bench::fresh_name("semaphore")};
};

class door_resource {
public:
    void operator()() {
        semaphore_.acquire();
        semaphore_.release();
    }

private:
    ipcdoor::door door_{bench::door_uri};
    ipcdoor::resource_semaphore semaphore_{door_, bench::fresh_name("resource"), {.units = 4}};
};

class posix_semaphore {
public:
    posix_semaphore() {
        if (::sem_init(&*semaphore_, 1, 0) != 0) common::throw_errno("sem_init");
    }
    ~posix_semaphore() { ::sem_destroy(&*semaphore_); }

    void operator()() {
        ::sem_post(&*semaphore_);
        bench::require(::sem_wait(&*semaphore_) == 0, "sem_wait failed");
    }

private:
    bench::shared<sem_t> semaphore_;
};

class door_mutex {
public:
    void operator()() {
        bench::require(mutex_.lock() == ipcdoor::lock_result::acquired, "mutex: not acquired");
        mutex_.unlock();
    }

private:
    ipcdoor::door door_{bench::door_uri};
    ipcdoor::mutex mutex_{door_, bench::fresh_name("mutex")};
};

class posix_mutex {
public:
    explicit posix_mutex(bool robust_pi) {
        pthread_mutexattr_t how;
        check(::pthread_mutexattr_init(&how));
        check(::pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED));
        if (robust_pi) {
            check(::pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST));
            check(::pthread_mutexattr_setprotocol(&how, PTHREAD_PRIO_INHERIT));
        }
        check(::pthread_mutex_init(&*mutex_, &how));
        ::pthread_mutexattr_destroy(&how);
    }
    ~posix_mutex() { ::pthread_mutex_destroy(&*mutex_); }

    void operator()() {
        bench::require(::pthread_mutex_lock(&*mutex_) == 0, "pthread_mutex_lock failed");
        ::pthread_mutex_unlock(&*mutex_);
    }

private:
    static void check(int why) {
        if (why != 0) throw std::system_error(why, std::generic_category(), "pthread_mutex");
    }

    bench::shared<pthread_mutex_t> mutex_;
};

const bench::part semaphores("semaphore", [](bench::group& g) {
    g.title = "Semaphores that nobody waits for";
    g.operation = "a unit given and taken: post and wait, or acquire and release";
    const auto own = [&](const char* name, std::function<std::unique_ptr<bench::work>()> make) {
        g.add({name, 0, true, std::move(make)});
        g.compare({std::string(name) + " : sem_t", {name}, {"sem_t"}, 1.0});
        g.limit_calls({std::string(name) + ", calls", {name}, 0});
    };
    own("ipcdoor::semaphore", [] { return bench::make_work<door_semaphore>(); });
    own("ipcdoor::resource_semaphore", [] { return bench::make_work<door_resource>(); });
    g.add({"sem_t", 0, false, [] { return bench::make_work<posix_semaphore>(); }});
});

const bench::part mutexes("mutex", [](bench::group& g) {
    g.title = "A mutex that nobody contends for";
    g.operation = "lock and unlock";
    const char *own = "ipcdoor::mutex", *robust = "pthread, robust, PI", *plain = "pthread, plain";
    g.add({own, 0, true, [] { return bench::make_work<door_mutex>(); }});
    g.add({robust, 0, false, [] { return bench::make_work<posix_mutex>(true); }});
    g.add({plain, 0, false, [] { return bench::make_work<posix_mutex>(false); }});
    g.compare({std::string(own) + " : " + robust, {own}, {robust}, 1.0});
    g.compare({std::string(own) + " : " + plain, {own}, {plain}});
    g.limit_calls({std::string(own) + ", calls", {own}, 0});
});

}  // namespace
