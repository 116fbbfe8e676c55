// SPDX-License-Identifier: MIT
//
// Owns: what a contestant does: one operation, again and again. It is either timed, by Google
// Benchmark, or just done, while its system calls are counted.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace bench {

class work {
public:
    work() = default;
    work(const work&) = delete;
    work& operator=(const work&) = delete;
    virtual ~work() = default;

    virtual void measure(benchmark::State& state) = 0;
    virtual void repeat(std::uint64_t times) = 0;
};

// Operation is made once, outside of what is measured, and called for each operation.
template <class Operation>
class work_of final : public work {
public:
    template <class... Arguments>
    explicit work_of(Arguments&&... arguments)
        : operation_(std::forward<Arguments>(arguments)...) {}

    void measure(benchmark::State& state) override {
        for (auto _ : state) operation_();
    }
    void repeat(std::uint64_t times) override {
        for (; times != 0; --times) operation_();
    }

private:
    Operation operation_;
};

template <class Operation, class... Arguments>
std::unique_ptr<work> make_work(Arguments&&... arguments) {
    return std::make_unique<work_of<Operation>>(std::forward<Arguments>(arguments)...);
}

// Thrown by what makes a contestant that this machine has not: reported, and no failure.
class absent : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// What was read has to be what was written: a contestant that does not work must not be fast.
inline void require(bool good, const char* what) {
    if (!good) [[unlikely]]
        throw std::runtime_error(what);
}

}  // namespace bench
