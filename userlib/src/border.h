// SPDX-License-Identifier: MIT
/*
 * What every function of the C interface needs: its arguments' checks, and the
 * way from whatever is thrown inside to a negative errno and a text.
 */
#ifndef IPCDOOR_SRC_BORDER_H
#define IPCDOOR_SRC_BORDER_H

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>

#include "failure.h"

namespace ipcdoor::backend {

template <class Call>
int guarded(Call&& call) noexcept {
    try {
        return call();
    } catch (const failure& problem) {
        return fail_with_copy(problem.error(), problem.what());
    } catch (const std::bad_alloc&) {
        return fail(ENOMEM, "out of memory");
    } catch (const std::system_error& problem) {
        return fail_with_copy(problem.code().value() > 0 ? problem.code().value() : EIO,
                              problem.what());
    } catch (const std::exception& problem) {
        return fail_with_copy(EIO, problem.what());
    }
}

template <class Handle>
void check_mine(const Handle* handle) {
    if (handle == nullptr) throw failure(EINVAL, "the handle is null");
    if (!handle->owner.is_mine())
        throw failure(EPERM, "the handle belongs to the parent process: open one in this process");
}

template <class T>
void check_not_null(const T* pointer, const char* what) {
    if (pointer == nullptr) throw failure(EINVAL, "%s is null", what);
}

// A caller's options of any version: shorter ones end in zeros, longer ones
// must do so beyond what this library knows.
template <class Options>
Options read_options(const Options* from) {
    check_not_null(from, "options");
    Options options{};
    std::size_t size;
    std::memcpy(&size, from, sizeof(size));
    if (size < sizeof(size))
        throw failure(EINVAL, "options->size is %zu: set it to sizeof(*options)", size);
    const auto* bytes = reinterpret_cast<const unsigned char*>(from);
    for (std::size_t i = sizeof(options); i < size; ++i)
        if (bytes[i] != 0)
            throw failure(E2BIG, "options ask for what this version of libipcdoor does not know");
    std::memcpy(&options, from, size < sizeof(options) ? size : sizeof(options));
    return options;
}

}  // namespace ipcdoor::backend

#endif  // IPCDOOR_SRC_BORDER_H
