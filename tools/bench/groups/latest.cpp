// SPDX-License-Identifier: MIT
//
// A value that is written and read: latest_writer and latest_reader beside a copy under a
// pthread_rwlock.
#include <pthread.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ipcdoor/door.hpp>
#include <ipcdoor/latest.hpp>
#include <string>
#include <system_error>

#include "bench/groups/names.hpp"
#include "bench/groups/shared.hpp"
#include "bench/registry.hpp"

namespace {

// The number stands at both ends.
template <std::size_t Bytes>
struct value {
    std::array<std::uint64_t, Bytes / 8> words{};

    void set(std::uint64_t number) { words.front() = words.back() = number; }
    bool is(std::uint64_t number) const {
        return words.front() == number && words.back() == number;
    }
};

template <std::size_t Bytes>
class door_latest {
public:
    door_latest() { write(); }
    void write() {
        value_.set(++number_);
        writer_.write(value_);
    }
    void read() {
        const auto got = reader_.read();
        bench::require(got.value.is(number_), "latest: another value");
    }

private:
    ipcdoor::door door_{bench::door_uri};
    const std::string name_ = bench::fresh_name("latest");
    ipcdoor::latest_writer<value<Bytes>> writer_{door_, name_};
    ipcdoor::latest_reader<value<Bytes>> reader_{door_, name_};
    value<Bytes> value_;
    std::uint64_t number_ = 0;
};

template <std::size_t Bytes>
class locked_value {
public:
    locked_value() {
        pthread_rwlockattr_t how;
        check(::pthread_rwlockattr_init(&how));
        check(::pthread_rwlockattr_setpshared(&how, PTHREAD_PROCESS_SHARED));
        check(::pthread_rwlock_init(&there_->lock, &how));
        ::pthread_rwlockattr_destroy(&how);
        write();
    }
    ~locked_value() { ::pthread_rwlock_destroy(&there_->lock); }
    void write() {
        value_.set(++number_);
        check(::pthread_rwlock_wrlock(&there_->lock));
        std::memcpy(&there_->last, &value_, sizeof value_);
        ::pthread_rwlock_unlock(&there_->lock);
    }
    void read() {
        value<Bytes> got;
        check(::pthread_rwlock_rdlock(&there_->lock));
        std::memcpy(&got, &there_->last, sizeof got);
        ::pthread_rwlock_unlock(&there_->lock);
        benchmark::DoNotOptimize(got);
        bench::require(got.is(number_), "rwlock: another value");
    }

private:
    static void check(int why) {
        if (why != 0) throw std::system_error(why, std::generic_category(), "pthread_rwlock");
    }

    struct cell {
        pthread_rwlock_t lock;
        value<Bytes> last;
    };
    bench::shared<cell> there_;
    value<Bytes> value_;
    std::uint64_t number_ = 0;
};

template <class Value>
struct writing {
    Value of;
    void operator()() { of.write(); }
};
template <class Value>
struct reading {
    Value of;
    void operator()() { of.read(); }
};

template <std::size_t Bytes>
void add(bench::group& g) {
    constexpr auto x = static_cast<double>(Bytes);
    const char *own_store = "latest, write", *own_load = "latest, read";
    const char *store = "rwlock, write", *load = "rwlock, read";
    g.add({own_store, x, true, [] { return bench::make_work<writing<door_latest<Bytes>>>(); }});
    g.add({store, x, false, [] { return bench::make_work<writing<locked_value<Bytes>>>(); }});
    g.add({own_load, x, true, [] { return bench::make_work<reading<door_latest<Bytes>>>(); }});
    g.add({load, x, false, [] { return bench::make_work<reading<locked_value<Bytes>>>(); }});
    g.compare({"write, latest : rwlock, " + g.label(x), {own_store, x}, {store, x}, 1.0});
    g.compare({"read, latest : rwlock, " + g.label(x), {own_load, x}, {load, x}, 1.0});
}

const bench::part latest("latest", [](bench::group& g) {
    g.title = "A latest value, stored and loaded";
    g.operation = "one value written, or one read, with nobody else at it";
    g.axis = bench::axis_kind::bytes;
    g.axis_title = "size of the value";
    // The writer looks for newcomers every ten milliseconds.
    g.limit_calls({"latest, write, calls", {"latest, write", 64}, 0.1});
    g.limit_calls({"latest, read, calls", {"latest, read", 64}, 0});
    add<64>(g);
    add<4096>(g);
});

}  // namespace
