// SPDX-License-Identifier: MIT
//
// The one way in which ipcdoor's C++ layer fails: it throws ipcdoor::error.
//
// code() is the errno value of the C call that failed, in the generic category,
// so it compares with std::errc; what() is the library's sentence with what was
// wrong and how to go on.
#ifndef IPCDOOR_ERROR_HPP
#define IPCDOOR_ERROR_HPP

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include <ipcdoor.h>

namespace ipcdoor {

class error : public std::system_error {
public:
    // `error_number` is a positive errno value; `text` a sentence for people.
    error(int error_number, const std::string& text)
        : std::system_error(error_number, std::generic_category(), text), text_(text) {}

    // Without the category's own words for the number, which the text has better.
    const char* what() const noexcept override { return text_.what(); }

    int error_number() const noexcept { return code().value(); }

    // The deadline passed; nothing is broken.
    bool is_timeout() const noexcept { return error_number() == ETIMEDOUT; }
    // The other side is gone for good.
    bool is_peer_death() const noexcept { return error_number() == EPIPE; }
    // A signal handler ran; the call may be repeated.
    bool is_interrupt() const noexcept { return error_number() == EINTR; }

private:
    std::runtime_error text_;  // a string whose copies cannot throw
};

namespace detail {

[[noreturn]] inline void throw_error(int error_number, const std::string& text) {
    throw error(error_number, text);
}

// Throws the failure that a call of the C interface returned; passes successes on.
inline int throw_if(int result) {
    if (result < 0) [[unlikely]]
        throw_error(-result, ipcdoor_error());
    return result;
}

}  // namespace detail

}  // namespace ipcdoor

#endif  // IPCDOOR_ERROR_HPP
