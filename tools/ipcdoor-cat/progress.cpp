// SPDX-License-Identifier: MIT
#include "ipcdoor-cat/progress.hpp"

#include <fmt/format.h>
#include <ipcdoor.h>
#include <unistd.h>

#include <cstdio>

#include "common/terminal.hpp"

namespace ipcdoor_cat {

namespace {

// What is over sooner needs no line.
constexpr std::uint64_t first_ns = 2'000'000'000;
constexpr std::uint64_t every_ns = 200'000'000;

}  // namespace

std::string readable_bytes(double bytes) {
    const char* unit = "B";
    for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
        if (bytes < 1024) break;
        bytes /= 1024;
        unit = larger;
    }
    return fmt::format("{:.{}f} {}", bytes, unit[1] == '\0' ? 0 : 2, unit);
}

progress::progress(bool shown)
    : shown_(shown && common::is_terminal(STDERR_FILENO)),
      begun_ns_(ipcdoor_now_ns()),
      next_ns_(begun_ns_ + first_ns) {}

progress::~progress() {
    if (on_screen_) fmt::print(stderr, "\n");
}

double progress::seconds() const {
    return static_cast<double>(ipcdoor_now_ns() - begun_ns_) * 1e-9;
}

void progress::add(std::uint64_t bytes) {
    bytes_ += bytes;
    if (!shown_) return;
    const std::uint64_t now = ipcdoor_now_ns();
    if (now >= next_ns_) show(now);
}

void progress::show(std::uint64_t now_ns) {
    next_ns_ = now_ns + every_ns;
    on_screen_ = true;
    const double seconds = static_cast<double>(now_ns - begun_ns_) * 1e-9;
    fmt::print(stderr, "\r{} in {:.0f} s, {}/s\033[K", readable_bytes(static_cast<double>(bytes_)),
               seconds, readable_bytes(static_cast<double>(bytes_) / seconds));
    std::fflush(stderr);
}

}  // namespace ipcdoor_cat
