// SPDX-License-Identifier: MIT
#include "failure.h"

#include <cstdarg>
#include <cstdio>

namespace ipcdoor::backend {

namespace {

struct thread_error {
    const char* text = "";
    char copy[400] = {};
};

thread_local thread_error latest;

}  // namespace

failure::failure(int error, const char* format, ...) : error_(error) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text_, sizeof(text_), format, arguments);
    va_end(arguments);
}

int fail(int error, const char* text) noexcept {
    latest.text = text;
    return -error;
}

int fail_with_copy(int error, const char* text) noexcept {
    std::snprintf(latest.copy, sizeof(latest.copy), "%s", text);
    latest.text = latest.copy;
    return -error;
}

const char* error_text() noexcept { return latest.text; }

}  // namespace ipcdoor::backend
