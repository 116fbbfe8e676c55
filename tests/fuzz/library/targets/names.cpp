// SPDX-License-Identifier: MIT
// Fuzz target: the strings that a user gives: URIs and names. A grammar written
// from ipcdoor.h says which of them are well-formed; those must fail for want of
// such a name, the others with EINVAL (EPROTONOSUPPORT for another scheme).
#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include <ipcdoor.h>

#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/room.hpp"

namespace {

using namespace ipcdoor;

constexpr std::string_view label_characters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

// LABEL or UID/LABEL, IPCDOOR_NAME_MAX - 1 characters at most.
bool is_name(std::string_view text) {
    if (text.size() >= IPCDOOR_NAME_MAX) return false;
    if (const std::size_t slash = text.find('/'); slash != text.npos) {
        const std::string_view uid = text.substr(0, slash);
        if (uid.empty() || uid.find_first_not_of("0123456789") != uid.npos) return false;
        std::uint64_t value = 0;
        for (const char digit : uid) {
            value = value * 10 + static_cast<unsigned>(digit - '0');
            if (value >= 0xffffffff) return false;
        }
        text.remove_prefix(slash + 1);
    }
    return !text.empty() && text.front() != '.' &&
           text.find_first_not_of(label_characters) == text.npos;
}

void try_name(ipcdoor_door* door, std::string name) {
    name = name.c_str();  // what follows a NUL is no part of it
    const bool good = is_name(name);
    ipcdoor_endpoint* end = nullptr;
    FUZZ_CHECK(ipcdoor_connect(door, name.c_str(), 0, &end) == (good ? -ENOENT : -EINVAL));
    ipcdoor_attach_options attaching{};
    attaching.size = sizeof(attaching);
    attaching.name = name.c_str();
    FUZZ_CHECK(ipcdoor_attach(door, &attaching, &end) == (good ? -ENOENT : -EINVAL));
    FUZZ_CHECK(end == nullptr && *ipcdoor_error() != '\0');
    // Making names touches the file system, so only what must be refused is tried:
    // bad names, and good ones that are another user's.
    const bool others =
        name.find('/') != name.npos && std::strtoull(name.c_str(), nullptr, 10) != ::geteuid();
    if (good && !others) return;
    ipcdoor_listen_options listening{};
    listening.size = sizeof(listening);
    listening.name = name.c_str();
    ipcdoor_listener* listener = nullptr;
    FUZZ_CHECK(ipcdoor_listen(door, &listening, &listener) == (good ? -EPERM : -EINVAL));
}

// Paths lead into the room, wherever they would have led.
void try_uri(const fuzz::room& room, std::string uri) {
    uri = uri.c_str();
    const std::size_t colon = uri.find(':');
    const std::string scheme = uri.substr(0, colon);
    const bool has_path = colon != uri.npos && colon + 1 < uri.size() && uri[colon + 1] == '/';
    if (has_path && (scheme == "soft" || scheme == "door")) {
        if (uri.find("..") != uri.npos) return;
        uri.insert(colon + 1, room.path());
    }
    ipcdoor_door* door = nullptr;
    const int error = -ipcdoor_door_open(uri.c_str(), &door);
    FUZZ_CHECK((error == 0) == (door != nullptr));
    if (error == 0) FUZZ_CHECK(std::string_view(ipcdoor_door_backend(door)) == "soft");
    ipcdoor_door_close(door);
    if (colon == uri.npos) {
        // $IPCDOOR_URI, which is soft: here.
        FUZZ_CHECK(error == (uri.empty() ? 0 : EINVAL));
    } else if (scheme == "soft") {
        if (colon + 1 == uri.size())
            FUZZ_CHECK(error == 0);
        else if (!has_path)
            FUZZ_CHECK(error == EINVAL);
        else
            FUZZ_CHECK_ERROR(error, ENOENT, ENOTDIR, ENAMETOOLONG);
    } else if (scheme == "door") {
        if (!has_path)
            FUZZ_CHECK(error == EINVAL);
        else
            FUZZ_CHECK(fuzz::is_one_of(error, {ENODEV, ENOTDIR, ENAMETOOLONG, EISDIR, ENOTTY}));
    } else if (scheme == "local") {
        if (colon + 1 != uri.size()) FUZZ_CHECK(error == EINVAL);
    } else {
        FUZZ_CHECK(error == EPROTONOSUPPORT);
    }
}

struct stage {
    stage() { FUZZ_CHECK(ipcdoor_door_open(room.uri().c_str(), &door) == 0); }
    ~stage() { ipcdoor_door_close(door); }
    fuzz::room room;
    ipcdoor_door* door = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static stage here;
    fuzz::input in(data, size);
    const std::uint8_t how = in.byte();
    const auto rest = in.bytes(in.left());
    std::string text(rest.begin(), rest.end());
    const char* const starts[] = {
        "", "soft:", "door:", "local:", "soft:/", "0/", "1/", "4294967294/"};
    text.insert(0, starts[how >> 1 & 7]);
    if ((how & 1) != 0) {
        try_name(here.door, std::move(text));
    } else {
        ::setenv("IPCDOOR_RUNTIME_DIR", here.room.path().c_str(), 1);
        ::setenv("IPCDOOR_URI", "soft:", 1);
        try_uri(here.room, text);
        ::unsetenv("IPCDOOR_RUNTIME_DIR");
        ::unsetenv("IPCDOOR_URI");
    }
    return 0;
}
