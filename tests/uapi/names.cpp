// SPDX-License-Identifier: MIT
// Names: their grammar, whose they are, who may use them, when they go.
#include <grp.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

int try_create(const unique_fd& door, const std::string& name) {
    auto args = create_args(name);
    const int result = call(door, IPCDOOR_IOC_CREATE, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

int try_attach(const unique_fd& door, const std::string& name,
               std::uint32_t rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE) {
    auto args = attach_args(name);
    args.rights = rights;
    const int result = call(door, IPCDOOR_IOC_ATTACH, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

int try_listen(const unique_fd& door, const std::string& name) {
    auto args = listen_args(name);
    const int result = call(door, IPCDOOR_IOC_LISTEN, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

int try_connect(const unique_fd& door, const std::string& name) {
    auto args = connect_args(name);
    const int result = call(door, IPCDOOR_IOC_CONNECT, &args);
    if (result >= 0) ::close(result);
    return result < 0 ? result : 0;
}

ipcdoor_create shared_args(const std::string& name, std::uint32_t mode) {
    auto args = create_args(name);
    args.slots = 16;
    args.mode = mode;
    return args;
}

}  // namespace

TEST_CASE("malformed names are EINVAL in every call that takes one", "[uapi][names]") {
    const auto door = open_door();
    std::vector<std::string> bad = {".hidden",       ".",    "..",       "a b",   "a\tb",
                                    "a\nb",          "\x80", "\xc3\xa9", "/a",    "0/",
                                    "0//a",          "0/.a", "0/a/b",    "x/a",   "-1/a",
                                    "+0/a",          " 0/a", "0 /a",     "0x0/a", "4294967296/a",
                                    "99999999999/a", "a/0",  "a:b",      "a*",    "a\\b",
                                    "a\x7f",         "\x01", "a,b",      "a@"};
    for (const auto& name : bad) {
        INFO("name \"" << name << "\"");
        CHECK(try_create(door, name) == -EINVAL);
        CHECK(try_attach(door, name) == -EINVAL);
        CHECK(try_listen(door, name) == -EINVAL);
        CHECK(try_connect(door, name) == -EINVAL);
    }
    const std::string unterminated(IPCDOOR_NAME_MAX, 'a');
    CHECK(try_create(door, unterminated) == -EINVAL);
    CHECK(try_attach(door, unterminated) == -EINVAL);
    CHECK(try_listen(door, unterminated) == -EINVAL);
    CHECK(try_connect(door, unterminated) == -EINVAL);
    CHECK(try_listen(door, "") == -EINVAL);
    CHECK(try_connect(door, "") == -EINVAL);
}

TEST_CASE("every allowed character and the longest name work", "[uapi][names]") {
    const auto door = open_door();
    const std::string all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";
    REQUIRE(all.size() == IPCDOOR_NAME_MAX - 1);
    for (const auto& name : {all, std::string("_"), std::string("-x"), std::string("a.b_c-d"),
                             std::string("0/own"), std::string("9")}) {
        INFO(name);
        const auto made = create(door, create_args(name));
        CHECK(try_attach(door, name) == 0);
        CHECK(try_create(door, name) == -EEXIST);
    }
}

TEST_CASE("a name is one thing: taken for both kinds, and used for its own", "[uapi][names]") {
    const auto door = open_door();
    const auto segment = fresh_name();
    const auto listening = fresh_name();
    const auto made = create(door, create_args(segment));
    const auto listener = listen(door, listen_args(listening));
    CHECK(try_create(door, segment) == -EEXIST);
    CHECK(try_create(door, listening) == -EEXIST);
    CHECK(try_listen(door, segment) == -EADDRINUSE);
    CHECK(try_listen(door, listening) == -EADDRINUSE);
    CHECK(try_attach(door, listening) == -EPROTOTYPE);
    CHECK(try_connect(door, segment) == -EPROTOTYPE);
    CHECK(try_attach(door, fresh_name()) == -ENOENT);
    CHECK(try_connect(door, fresh_name()) == -ENOENT);
    // with the prefix it is the same name
    CHECK(try_create(door, "0/" + segment) == -EEXIST);
    CHECK(try_attach(door, "0/" + segment) == 0);
}

TEST_CASE("a name is free again when its segment or listener has gone", "[uapi][names]") {
    const auto door = open_door();
    const auto name = fresh_name();
    for (int i = 0; i < 3; ++i) {
        auto first = create(door, create_args(name));
        auto second = attach(door, attach_args(name));
        first.fd.reset();
        // the segment lives on with its second endpoint, and so does the name
        CHECK(try_create(door, name) == -EEXIST);
        CHECK(try_attach(door, name) == 0);
        second.fd.reset();
        CHECK(try_attach(door, name) == -ENOENT);
        auto listener = listen(door, listen_args(name));
        listener.reset();
        CHECK(try_connect(door, name) == -ENOENT);
    }
}

TEST_CASE("each user's labels are their own, and a bare one falls back to root's",
          "[uapi][names]") {
    const auto door = open_door();
    const auto name = fresh_name();
    const auto roots = create(door, shared_args(name, 0666));
    gate ready;
    gate done;
    auto owner = child::as_user(user_uid, [&] {
        EXPECT_CHILD(try_attach(door, name) == 0);  // root's
        EXPECT_CHILD(try_create(door, "0/" + name) == -EPERM);
        EXPECT_CHILD(try_create(door, "1001/" + name) == -EPERM);
        EXPECT_CHILD(try_listen(door, "1001/" + name) == -EPERM);
        auto args = shared_args(name, 0666);
        args.data_bytes = 8192;
        const auto own = create(door, args);  // root's label does not stand in the way
        EXPECT_CHILD(try_create(door, "1000/" + name) == -EEXIST);
        EXPECT_CHILD(attach(door, attach_args(name)).info.data_bytes == 8192);
        EXPECT_CHILD(attach(door, attach_args("0/" + name)).info.data_bytes == 4096);
        ready.open();
        done.wait();
        return 0;
    });
    ready.wait();
    CHECK(attach(door, attach_args(name)).info.data_bytes == 4096);
    CHECK(attach(door, attach_args("1000/" + name)).info.data_bytes == 8192);
    auto third = child::as_user(other_uid, [&] {
        EXPECT_CHILD(attach(door, attach_args(name)).info.data_bytes == 4096);
        EXPECT_CHILD(attach(door, attach_args("1000/" + name)).info.data_bytes == 8192);
        EXPECT_CHILD(try_attach(door, "1001/" + name) == -ENOENT);
        return 0;
    });
    CHECK(third.wait().exited());
    done.open();
    CHECK(owner.wait().exited());
}

TEST_CASE("mode bits decide who may attach, by owner, group and others", "[uapi][names]") {
    const auto door = open_door();
    struct row {
        std::uint32_t mode;
        uid_t uid;
        gid_t gid;
        bool read;
        bool write;
    };
    // names are owned by 1000:1000 here
    const row rows[] = {
        {0600, 1000, 1000, true, true},   {0400, 1000, 1000, true, false},
        {0066, 1000, 1000, false, false},  // the owner's bits, not the others'
        {0060, 1001, 1000, true, true},   {0040, 1001, 1000, true, false},
        {0606, 1001, 1000, false, false},  // the group's bits, not the others'
        {0006, 1001, 1001, true, true},   {0004, 1001, 1001, true, false},
        {0660, 1001, 1001, false, false}, {0000, 1000, 1000, false, false},
        {0002, 1001, 1001, false, false},  // write alone: a segment needs read
    };
    for (const auto& r : rows) {
        INFO("mode " << std::oct << r.mode << std::dec << " for " << r.uid << ":" << r.gid);
        const auto name = fresh_name();
        auto args = shared_args(name, r.mode);
        args.uid = 1000;
        args.gid = 1000;
        const auto made = create(door, args);
        auto user = child::as_user(
            r.uid,
            [&] {
                const auto full = "0/" + name;
                EXPECT_CHILD(try_attach(door, full, IPCDOOR_RIGHT_READ) == (r.read ? 0 : -EACCES));
                EXPECT_CHILD(try_attach(door, full) == (r.read && r.write ? 0 : -EACCES));
                return 0;
            },
            r.gid);
        CHECK(user.wait().exited());
        // root overrides (CAP_IPC_OWNER)
        CHECK(try_attach(door, name) == 0);
    }
}

TEST_CASE("connecting needs the write bit", "[uapi][names]") {
    const auto door = open_door();
    for (const std::uint32_t mode : {0604u, 0602u, 0606u, 0600u}) {
        INFO("mode " << std::oct << mode);
        auto args = listen_args(fresh_name());
        args.mode = mode;
        const auto listener = listen(door, args);
        auto user = child::as_user(user_uid, [&] {
            EXPECT_CHILD(try_connect(door, args.name) == (mode & 2 ? 0 : -EACCES));
            return 0;
        });
        CHECK(user.wait().exited());
    }
}

TEST_CASE("only what is one's own can be given: uid and gid of a name", "[uapi][names]") {
    const auto door = open_door();
    auto user = child::as_user(user_uid, [&] {
        const auto with = [&](std::uint32_t uid, std::uint32_t gid) {
            auto args = create_args(fresh_name());
            args.uid = uid;
            args.gid = gid;
            const int result = call(door, IPCDOOR_IOC_CREATE, &args);
            auto listening = listen_args(fresh_name());
            listening.uid = uid;
            listening.gid = gid;
            const int second = call(door, IPCDOOR_IOC_LISTEN, &listening);
            EXPECT_CHILD((result >= 0) == (second >= 0));
            EXPECT_CHILD(result >= 0 || result == second);
            return result < 0 ? result : 0;
        };
        EXPECT_CHILD(with(caller_id, caller_id) == 0);
        EXPECT_CHILD(with(user_uid, user_uid) == 0);
        EXPECT_CHILD(with(0, caller_id) == -EPERM);
        EXPECT_CHILD(with(other_uid, caller_id) == -EPERM);
        EXPECT_CHILD(with(caller_id, 0) == -EPERM);
        EXPECT_CHILD(with(caller_id, other_uid) == -EPERM);
        return 0;
    });
    CHECK(user.wait().exited());
    auto args = create_args(fresh_name());
    args.uid = other_uid;
    args.gid = user_uid;
    CHECK(create(door, args).fd);  // root may
}

TEST_CASE("names belong to the network namespace", "[uapi][names]") {
    const auto door = open_door();
    const auto name = fresh_name();
    const auto made = create(door, shared_args(name, 0666));
    child elsewhere([&] {
        if (::unshare(CLONE_NEWNET) != 0) return 77;
        EXPECT_CHILD(try_attach(door, name) == -ENOENT);
        const auto same = create(door, create_args(name));
        EXPECT_CHILD(try_create(door, name) == -EEXIST);
        return 0;
    });
    CHECK(elsewhere.wait().exited());
    CHECK(try_attach(door, name) == 0);
}

// A namespace that something still holds counts against the limit of its user for ever.
TEST_CASE("a name that is gone holds no network namespace", "[uapi][names]") {
    const char* const limit_file = "/proc/sys/user/max_net_namespaces";
    const auto write_limit = [&](const std::string& limit) {
        std::ofstream(limit_file) << limit << std::flush;
    };
    std::string usual;
    REQUIRE(std::getline(std::ifstream(limit_file), usual));
    write_limit("2");
    const auto door = open_door();
    for (int round = 0; round < 8; ++round) {
        INFO("namespace " << round);
        child elsewhere([&] {
            // Those that ended go in the background; until then it is ENOSPC.
            for (int tries = 0; ::unshare(CLONE_NEWNET) != 0; ++tries) {
                EXPECT_CHILD(errno == ENOSPC && tries < 3000);
                ::usleep(20'000);
            }
            const auto made = create(door, create_args(fresh_name()));
            EXPECT_CHILD(listen(door, listen_args(fresh_name())).get() >= 0);
            return 0;
        });
        const bool passed = elsewhere.wait().exited();
        CHECK(passed);
        if (!passed) break;
    }
    write_limit(usual);
}
