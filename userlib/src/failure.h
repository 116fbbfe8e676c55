// SPDX-License-Identifier: MIT
/*
 * How the library fails inside: slow calls throw `failure`, hot calls (ring,
 * wait) return fail(), and the C border (border.h) turns both into a negative
 * errno and the text behind ipcdoor_error(), the library's only global state.
 */
#ifndef IPCDOOR_SRC_FAILURE_H
#define IPCDOOR_SRC_FAILURE_H

#include <exception>

namespace ipcdoor::backend {

class failure : public std::exception {
public:
    // `error` is a positive errno value; the text is a whole sentence.
    failure(int error, const char* format, ...) __attribute__((format(printf, 3, 4)));

    int error() const noexcept { return error_; }
    const char* what() const noexcept override { return text_; }

private:
    int error_;
    char text_[400];
};

// Sets the thread's error text; `text` must be a literal. Returns -error.
int fail(int error, const char* text) noexcept;

// The same for a text that has to be copied.
int fail_with_copy(int error, const char* text) noexcept;

const char* error_text() noexcept;

}  // namespace ipcdoor::backend

#endif  // IPCDOOR_SRC_FAILURE_H
