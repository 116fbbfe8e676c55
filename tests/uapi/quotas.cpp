// SPDX-License-Identifier: MIT
// Limits of bytes and endpoints by user, and of a segment.
#include <vector>

#include "support/catch.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;

namespace {

template <typename Args>
int refusal(const unique_fd& door, unsigned long command, Args args) {
    const int result = call(door, command, &args);
    if (result >= 0) unique_fd closed(result);
    return result < 0 ? result : 0;
}

}  // namespace

TEST_CASE("the documented defaults are in force", "[uapi][quota]") {
    const auto info = get_info(open_door());
    CHECK(info.user_max_bytes == 256ull << 20);
    CHECK(info.user_max_endpoints == 4096);
    CHECK(info.max_bytes == 1ull << 30);
}

TEST_CASE("a user's bytes are bounded, in CREATE, GROW and CONNECT", "[uapi][quota]") {
    const auto door = open_door();
    const module_parameter limit("user_max_bytes", "1048576");
    auto listening = listen_args(fresh_name());
    listening.mode = 0666;
    listening.data_bytes = 1 << 20;
    const auto listener = listen(door, listening);
    auto user = child::as_user(user_uid, [&] {
        EXPECT_CHILD(get_info(door).user_max_bytes == 1 << 20);
        EXPECT_CHILD(get_info(door).user_bytes == 0);
        EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CREATE, create_args("", 1 << 20)) == -EDQUOT);
        auto growing = create_args("", 4096);
        growing.max_data_bytes = 2 << 20;
        auto a = create(door, growing);
        const std::uint64_t fixed = get_info(door).user_bytes - 4096;  // STATE and SLOTs
        EXPECT_CHILD(fixed > 0);
        EXPECT_CHILD(grow(a, 1 << 20) == -EDQUOT);
        EXPECT_CHILD(get_info(door).user_bytes == fixed + 4096);
        EXPECT_CHILD(grow(a, (1 << 20) - fixed) == 0);  // exactly all of it
        EXPECT_CHILD(get_info(door).user_bytes == 1 << 20);
        EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CREATE, create_args("", 0)) == -EDQUOT);
        a.fd.reset();
        EXPECT_CHILD(get_info(door).user_bytes == 0);
        // the client pays for a connection
        EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CONNECT, connect_args(listening.name)) == -EDQUOT);
        EXPECT_CHILD(get_info(door).user_bytes == 0);
        EXPECT_CHILD(get_info(door).user_endpoints == 0);
        return 0;
    });
    CHECK(user.wait().exited());
    // CAP_SYS_RESOURCE is exempt
    CHECK(refusal(door, IPCDOOR_IOC_CREATE, create_args("", 2 << 20)) == 0);
}

TEST_CASE("a refused CONNECT gives its place in the backlog back", "[uapi][quota]") {
    const auto door = open_door();
    auto listening = listen_args(fresh_name());
    listening.mode = 0666;
    listening.backlog = 1;
    const auto listener = listen(door, listening);
    {
        const module_parameter limit("user_max_bytes", "4096");
        auto user = child::as_user(user_uid, [&] {
            for (int i = 0; i < 3; ++i)
                EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CONNECT, connect_args(listening.name)) ==
                             -EDQUOT);
            return 0;
        });
        CHECK(user.wait().exited());
    }
    auto args = connect_args(listening.name);
    args.deadline_ns = 0;
    CHECK(refusal(door, IPCDOOR_IOC_CONNECT, args) == 0);
}

TEST_CASE("a user's endpoints and listeners are bounded", "[uapi][quota]") {
    const auto door = open_door();
    const module_parameter limit("user_max_endpoints", "5");
    auto user = child::as_user(user_uid, [&] {
        auto args = create_args(fresh_name());
        args.slots = 16;
        const auto a = create(door, args);
        std::vector<endpoint> others;
        for (int i = 0; i < 3; ++i) others.push_back(attach_to(door, a));
        {
            const auto listener = listen(door, listen_args(fresh_name()));
            EXPECT_CHILD(get_info(door).user_endpoints == 5);
            EXPECT_CHILD(refusal(door, IPCDOOR_IOC_ATTACH, attach_args_fd(a.get())) == -EDQUOT);
            EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CREATE, create_args()) == -EDQUOT);
            EXPECT_CHILD(refusal(door, IPCDOOR_IOC_LISTEN, listen_args(fresh_name())) == -EDQUOT);
        }
        EXPECT_CHILD(get_info(door).user_endpoints == 4);
        EXPECT_CHILD(refusal(door, IPCDOOR_IOC_ATTACH, attach_args_fd(a.get())) == 0);
        return 0;
    });
    CHECK(user.wait().exited());
}

TEST_CASE("users do not count against each other", "[uapi][quota]") {
    const auto door = open_door();
    gate full;
    gate done;
    const module_parameter limit("user_max_endpoints", "2");
    auto first = child::as_user(user_uid, [&] {
        const auto both = attached_pair(door);
        EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CREATE, create_args()) == -EDQUOT);
        full.open();
        done.wait();
        return 0;
    });
    full.wait();
    auto second = child::as_user(other_uid, [&] {
        EXPECT_CHILD(get_info(door).user_endpoints == 0);
        EXPECT_CHILD(refusal(door, IPCDOOR_IOC_CREATE, create_args()) == 0);
        return 0;
    });
    CHECK(second.wait().exited());
    done.open();
    CHECK(first.wait().exited());
}

TEST_CASE("a segment's size is bounded for everybody", "[uapi][quota]") {
    const auto door = open_door();
    const module_parameter limit("max_bytes", "1048576");
    CHECK(get_info(door).max_bytes == 1 << 20);
    CHECK(refusal(door, IPCDOOR_IOC_CREATE, create_args("", 1 << 20)) == -EINVAL);
    CHECK(refusal(door, IPCDOOR_IOC_CREATE, create_args("", 1 << 19)) == 0);
}

TEST_CASE("a dead endpoint counts for as long as somebody keeps its descriptor", "[uapi][quota]") {
    const auto door = open_door();
    auto user = child::as_user(user_uid, [&] {
        const fd_channel passed;
        child owner([&] {
            passed.send(create(door).get());
            return 0;
        });
        auto kept = passed.receive();
        EXPECT_CHILD(owner.wait().exited());
        EXPECT_CHILD(get_info(door).user_endpoints == 1);
        EXPECT_CHILD(get_info(door).user_bytes == 0);
        kept.reset();
        EXPECT_CHILD(get_info(door).user_endpoints == 0);
        return 0;
    });
    CHECK(user.wait().exited());
}
