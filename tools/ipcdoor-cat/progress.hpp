// SPDX-License-Identifier: MIT
//
// Owns: what was carried in what time, and the line on a terminal that says so.
#pragma once

#include <cstdint>
#include <string>

namespace ipcdoor_cat {

// "1.50 GiB"
std::string readable_bytes(double bytes);

class progress {
public:
    // `shown`: on stderr, where that is a terminal.
    explicit progress(bool shown);
    ~progress();
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;

    void add(std::uint64_t bytes);

    std::uint64_t bytes() const { return bytes_; }
    double seconds() const;

private:
    void show(std::uint64_t now_ns);

    const bool shown_;
    const std::uint64_t begun_ns_;
    std::uint64_t next_ns_;  // when the line is due
    bool on_screen_ = false;
    std::uint64_t bytes_ = 0;
};

}  // namespace ipcdoor_cat
