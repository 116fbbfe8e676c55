// SPDX-License-Identifier: MIT
// Shared pages as two processes have them: one memory file, mapped for the library
// between two guard pages, and for the hostile peer, who writes it, elsewhere. The
// last byte is the last before a guard page, and a slot of a peer's is read-only
// for the library: each access out of bounds and each write to it is a crash.
// (TSan goes by addresses, so under it both views are one, and writable.)
#ifndef IPCDOOR_TESTS_FUZZ_WINDOW_HPP
#define IPCDOOR_TESTS_FUZZ_WINDOW_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ipcdoor::fuzz {

enum class owner { library, peer };

class window {
public:
    window(std::size_t bytes, owner whose);
    window(const window&) = delete;
    window& operator=(const window&) = delete;
    ~window();

    std::size_t size() const { return bytes_; }
    // The library's view.
    std::byte* seen() const { return seen_; }
    // The harness's view, always writable.
    std::byte* written() const { return written_; }

    void clear() const { std::memset(written_, 0, bytes_); }

    // Makes the library's accesses to [from, to) a crash, where ASan is built in.
    void forbid(std::size_t from, std::size_t to) const;

private:
    std::size_t bytes_;
    std::size_t page_bytes_;  // of the pages between the guards
    std::byte* guarded_;      // the first guard page
    std::byte* pages_;        // the peer's mapping
    std::byte* seen_;
    std::byte* written_;
};

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_WINDOW_HPP
