// SPDX-License-Identifier: MIT
//
// Owns: how times and sizes are written for people.
#pragma once

#include <cstddef>
#include <string>

namespace report {

// Nanoseconds as microseconds with as many decimals as are worth reading: "0.143", "12.31",
// "4096.5", "123457".
std::string microseconds(double ns);

// With the unit that fits: "143 ns", "12.3 us", "4.1 ms". `micro` is how the unit writes 10⁻⁶.
std::string with_unit(double ns, const char* micro = "us");

// 12345678 as "12,345,678".
std::string grouped(unsigned long long n);

// "64 B", "4 KiB", "1 MiB".
std::string size_name(std::size_t bytes);

}  // namespace report
