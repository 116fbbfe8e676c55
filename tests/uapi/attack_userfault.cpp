// SPDX-License-Identifier: MIT
// Stalls inside calls: argument pages whose faults nobody serves, by userfaultfd.
// Whoever stalls must hold up nobody else, and must be killable.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "support/catch.hpp"
#include "uapi/attack.hpp"

using namespace ipcdoor::test;

namespace {

// A page of which the first touch (or the first write) never ends.
class stalling_page {
public:
    enum class on { touch, write };

    // Needs root, as unprivileged users may not stall the kernel.
    stalling_page() : fd_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC_FLAG))) {
        if (!fd_) return;
        uffdio_api api{};
        api.api = UFFD_API;
        api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
        if (::ioctl(fd_.get(), UFFDIO_API, &api) != 0) fd_.reset();
        memory_ = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    bool supported() const { return static_cast<bool>(fd_) && memory_ != MAP_FAILED; }

    bool arm(on what, const void* content = nullptr, std::size_t bytes = 0) {
        uffdio_register range{};
        range.range.start = reinterpret_cast<std::uintptr_t>(memory_);
        range.range.len = 4096;
        range.mode =
            UFFDIO_REGISTER_MODE_MISSING | (what == on::write ? UFFDIO_REGISTER_MODE_WP : 0);
        if (::ioctl(fd_.get(), UFFDIO_REGISTER, &range) != 0) return false;
        if (what == on::touch) return true;
        static unsigned char page[4096];
        std::memcpy(page, content, bytes);
        uffdio_copy copy{};
        copy.dst = range.range.start;
        copy.src = reinterpret_cast<std::uintptr_t>(page);
        copy.len = 4096;
        copy.mode = UFFDIO_COPY_MODE_WP;
        return ::ioctl(fd_.get(), UFFDIO_COPY, &copy) == 0;
    }
    void* get() const { return memory_; }

private:
    static constexpr int O_CLOEXEC_FLAG = 02000000;
    unique_fd fd_;
    void* memory_ = nullptr;
};

// Everything that others want to go on with.
void check_others_go_on(const victim& v) {
    const auto& a = v.end();
    CHECK(ring(a, 0, 62) == 0);
    CHECK(take(a, bit(62)).error == 0);
    CHECK(wait(a, bit(61), deadline_in(std::chrono::milliseconds(1))).error == -ETIMEDOUT);
    CHECK(peer_info(a, 1).state != IPCDOOR_SLOT_PENDING);
    CHECK(seal(a, 0) == 0);
    CHECK(grow(a, 8192) == 0);
    {
        auto args = attach_args(v.name());
        args.slot = 3;
        const auto third = attach(v.door(), args);
        CHECK(ring(third, 0, 62) == 0);
        CHECK(map_data(third, PROT_READ).word(1) != 0);
    }
    take(a, ~std::uint64_t{0});
    const auto other = create(v.door(), create_args(fresh_name()));
    CHECK(get_info(v.door()).abi_version == IPCDOOR_ABI_VERSION);
}

// `stall` is run by an ordinary user with an endpoint in slot 1, and never ends.
void check_stall(const std::function<void(const victim&, const endpoint&, stalling_page&)>& stall) {
    const victim v;
    const auto before = get_info(v.door());
    shared<int> unsupported;
    gate seated;
    child stalled([&] {
        stalling_page page;
        if (!page.supported()) {
            *unsupported = 1;
            seated.open();
            return 0;
        }
        EXPECT_CHILD(become_user(user_uid, user_uid));
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        seated.open();
        stall(v, own, page);
        return 1;  // it must not get here
    });
    seated.wait();
    if (*unsupported != 0) {
        FAIL("userfaultfd is not available: the guest's kernel needs CONFIG_USERFAULTFD");
    }
    stalled.wait_asleep();
    check_others_go_on(v);
    CHECK(v.unchanged());
    stalled.kill();
    CHECK(stalled.wait().signaled(9));
    // it was told like any death, and left nothing behind
    CHECK(wait_long(v.end(), lifecycle_bit).error == 0);
    CHECK(peer_info(v.end(), 1).state == IPCDOOR_SLOT_DEAD);
    CHECK(get_info(v.door()).user_endpoints == before.user_endpoints);
    auto accounts = child::as_user(user_uid, [&] {
        EXPECT_CHILD(get_info(v.door()).user_endpoints == 0);
        EXPECT_CHILD(get_info(v.door()).user_bytes == 0);
        return 0;
    });
    CHECK(accounts.wait().exited());
}

using when = stalling_page::on;

}  // namespace

TEST_CASE("attack: a stall while arguments are read holds up nobody", "[uapi][attack][userfault]") {
    const auto stall_in = [](unsigned long command, bool on_door) {
        check_stall([=](const victim& v, const endpoint& own, stalling_page& page) {
            EXPECT_CHILD(page.arm(when::touch));
            call(on_door ? v.door().get() : own.get(), command, page.get());
        });
    };
    SECTION("GET_INFO") { stall_in(IPCDOOR_IOC_GET_INFO, true); }
    SECTION("CREATE") { stall_in(IPCDOOR_IOC_CREATE, true); }
    SECTION("ATTACH") { stall_in(IPCDOOR_IOC_ATTACH, true); }
    SECTION("LISTEN") { stall_in(IPCDOOR_IOC_LISTEN, true); }
    SECTION("CONNECT") { stall_in(IPCDOOR_IOC_CONNECT, true); }
    SECTION("RING") { stall_in(IPCDOOR_IOC_RING, false); }
    SECTION("WAIT") { stall_in(IPCDOOR_IOC_WAIT, false); }
    SECTION("RING_WAIT") { stall_in(IPCDOOR_IOC_RING_WAIT, false); }
    SECTION("PEER_INFO") { stall_in(IPCDOOR_IOC_PEER_INFO, false); }
    SECTION("SEAL") { stall_in(IPCDOOR_IOC_SEAL, false); }
    SECTION("GROW") { stall_in(IPCDOOR_IOC_GROW, false); }
    SECTION("BIND_EVENTFD") { stall_in(IPCDOOR_IOC_BIND_EVENTFD, false); }
}

TEST_CASE("attack: a stall while seen[] is read holds up nobody", "[uapi][attack][userfault]") {
    check_stall([](const victim&, const endpoint& own, stalling_page& page) {
        EXPECT_CHILD(page.arm(when::touch));
        ipcdoor_wait args{};
        args.mask = bit(3);
        args.seen = reinterpret_cast<std::uintptr_t>(page.get());
        call(own.fd, IPCDOOR_IOC_WAIT, &args);
    });
}

TEST_CASE("attack: a stall while results are written holds up nobody",
          "[uapi][attack][userfault]") {
    const auto stall_in = [](unsigned long command, bool on_door, const auto& args) {
        check_stall([=](const victim& v, const endpoint& own, stalling_page& page) {
            EXPECT_CHILD(ring(own, 1, 3) == 0);
            EXPECT_CHILD(page.arm(when::write, &args, sizeof args));
            call(on_door ? v.door().get() : own.get(), command, page.get());
        });
    };
    SECTION("WAIT that acknowledged") {
        ipcdoor_wait args{};
        args.mask = bit(3);
        args.flags = IPCDOOR_WAIT_ACK;
        stall_in(IPCDOOR_IOC_WAIT, false, args);
    }
    SECTION("CREATE that made a name") {
        stall_in(IPCDOOR_IOC_CREATE, true, create_args(fresh_name()));
    }
    SECTION("PEER_INFO") { stall_in(IPCDOOR_IOC_PEER_INFO, false, ipcdoor_peer_info{}); }
    SECTION("SEAL") { stall_in(IPCDOOR_IOC_SEAL, false, ipcdoor_seal{}); }
    SECTION("ENDPOINT_INFO") {
        stall_in(IPCDOOR_IOC_ENDPOINT_INFO, false, ipcdoor_endpoint_info{});
    }
    SECTION("GROW") {
        ipcdoor_grow args{};
        args.data_bytes = 8192;
        stall_in(IPCDOOR_IOC_GROW, false, args);
    }
    SECTION("ATTACH that took a slot") {
        // by a name that every victim has anew, so by descriptor
        check_stall([](const victim& v, const endpoint& own, stalling_page& page) {
            const auto args = attach_args_fd(own.get());
            EXPECT_CHILD(page.arm(when::write, &args, sizeof args));
            call(v.door(), IPCDOOR_IOC_ATTACH, page.get());
        });
    }
}

TEST_CASE("attack: the pages of a segment cannot be given to a userfaultfd",
          "[uapi][attack][userfault]") {
    const victim v;
    child attacker([&] {
        const unique_fd fd(static_cast<int>(::syscall(SYS_userfaultfd, 0)));
        if (!fd) return 0;
        uffdio_api api{};
        api.api = UFFD_API;
        EXPECT_CHILD(::ioctl(fd.get(), UFFDIO_API, &api) == 0);
        const auto own = attach_attacker(v, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE);
        const auto data = map_data(own, PROT_READ | PROT_WRITE);
        const auto state = map_state(own);
        for (const auto* pages : {&data, &state})
            for (const std::uint64_t mode : {std::uint64_t{UFFDIO_REGISTER_MODE_MISSING},
                                             std::uint64_t{UFFDIO_REGISTER_MODE_WP},
                                             std::uint64_t{UFFDIO_REGISTER_MODE_MINOR}}) {
                uffdio_register range{};
                range.range.start = reinterpret_cast<std::uintptr_t>(pages->get());
                range.range.len = 4096;
                range.mode = mode;
                EXPECT_CHILD(::ioctl(fd.get(), UFFDIO_REGISTER, &range) == -1);
            }
        return 0;
    });
    CHECK(attacker.wait().exited());
    CHECK(v.unchanged());
}
