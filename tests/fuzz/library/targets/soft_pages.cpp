// SPDX-License-Identifier: MIT
// Fuzz target: an endpoint of the software back end whose peer writes anything into
// its control area and sends anything over the socket. The rings of others, the
// endpoint's to itself among them, must go on, each call must end with what it
// documents, and the dead stay dead.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>
#include <optional>

#include <ipcdoor.h>

#include "../userlib/src/soft_endpoint.h"
#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/soft_props.hpp"

namespace {

using namespace ipcdoor;
namespace soft = backend::soft;
namespace sys = backend::sys;

constexpr soft::shape shape{2, fuzz::page, 0, 0};
constexpr soft::seat own_seat{0, 1, fuzz::all_rights};
constexpr soft::seat peer_seat{1, 1, fuzz::all_rights};
// Nobody: a signal that a hostile page asks for must not reach this process, which
// plays both parts.
constexpr pid_t nobody = INT_MAX;

struct stage {
    fuzz::honest_slot own{shape, own_seat};
    fuzz::honest_slot peer{shape, peer_seat};
    ipcdoor::owned_fd own_file = fuzz::memory_file(shape.slot_file_bytes(), true, 0);
    sys::mapping own_pages{own_file.get(), 0, shape.slot_file_bytes(), sys::access::read_write};
};

// The peer's pages, read-only, and behind them a guard page.
std::shared_ptr<soft::slot_pages> seen_pages(const fuzz::honest_slot& slot) {
    auto seen = std::make_shared<soft::slot_pages>();
    const std::size_t bytes = shape.slot_file_bytes();
    seen->pages = sys::mapping::reserved(bytes + fuzz::page);
    FUZZ_CHECK(seen->pages.place(0, slot.file.get(), 0, bytes, sys::access::read) == 0);
    seen->control_bytes = shape.control_bytes();
    return seen;
}

class play {
public:
    play(fuzz::input& in, stage& on) : in_(in), head_(on.peer.pages.own_head()) {
        on.peer.reset();
        std::memcpy(on.own_pages.address(), on.own.pages.pages.address(), shape.slot_file_bytes());
        int sockets[2];
        FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
        socket_ = ipcdoor::owned_fd(sockets[1]);
        soft::endpoint::plan plan{shape, own_seat, IPCDOOR_ENDPOINT_CONNECTION, {}, {}};
        plan.own.pages =
            sys::mapping(on.own_file.get(), 0, shape.slot_file_bytes(), sys::access::read_write);
        plan.own.control_bytes = shape.control_bytes();
        auto end = std::make_unique<soft::endpoint>(std::move(plan));
        auto link = std::make_shared<soft::link>(peer_seat, seen_pages(on.peer),
                                                 ipcdoor::owned_fd(sockets[0]));
        // Of this PID namespace, or of another one.
        link->peer.pid = in.chance() ? nobody : 0;
        head_.out[0].generation = 1;
        end->add_link(std::move(link), true);
        end_.reset(end.release());
    }

    void run() {
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            if (op < 112)
                fuzz::spoil_control(in_, head_, shape.slots);
            else if (op < 144)
                use_socket();
            else
                operate(op);
        }
        ring_itself();
        wait(~std::uint64_t{0});
        state(1);
    }

private:
    struct closer {
        void operator()(ipcdoor_endpoint* end) const { ipcdoor_endpoint_close(end); }
    };

    void use_socket() {
        const std::uint8_t how = in_.byte();
        const char noise[256] = {};
        if (!socket_) return;
        const int fd = socket_.get();
        switch (how % 8) {
            case 0: socket_.reset(); break;
            case 1: sys::socket_shutdown(fd); break;
            case 2: ::shutdown(fd, SHUT_WR); break;
            case 3: sys::socket_send(fd, noise, 1, {&fd, 1}); break;
            case 4:
                for (int i = 0; i < how; ++i) sys::socket_send(fd, noise, 8);
                break;
            case 5: {
                char bells[16];
                while (sys::socket_receive(fd, bells, sizeof(bells)) > 0) {
                }
                break;
            }
            default: sys::socket_send(fd, noise, how);
        }
    }

    void operate(std::uint8_t op) {
        switch (op % 8) {
            case 0:
            case 1: ring(1); break;
            case 2: wait(in_.number<std::uint64_t>() | 1); break;
            case 3: ring_itself(); break;
            case 4: state(op / 8 % 2); break;
            case 5: ring_wait(); break;
            case 6: poll(); break;
            default: memory(); break;
        }
    }

    void judge_ring(int rc) {
        FUZZ_CHECK_ERROR(-rc, EPIPE, ESTALE, EOPNOTSUPP, EAGAIN);
        if (dead_) FUZZ_CHECK(rc == -EPIPE);
        dead_ = dead_ || rc == -EPIPE;
    }

    void judge_wait(int rc, const ipcdoor_event& event, std::uint64_t mask) {
        FUZZ_CHECK_ERROR(-rc, ETIMEDOUT, EPIPE);
        if (rc == 0) FUZZ_CHECK(event.fired != 0 && (event.fired & ~mask) == 0);
        if (dead_) FUZZ_CHECK(rc != -ETIMEDOUT);
        dead_ = dead_ || rc == -EPIPE;
    }

    void ring(std::uint32_t slot) {
        const std::uint32_t generation = in_.byte() % 3;
        const int rc = ipcdoor_ring(end_.get(), slot, generation, 1 + in_.byte() % 63, in_.byte());
        if (rc != -ESTALE) judge_ring(rc);
        if (rc == -ESTALE) FUZZ_CHECK(generation == 2);
    }

    void wait(std::uint64_t mask) {
        ipcdoor_event event{};
        judge_wait(ipcdoor_wait(end_.get(), mask, in_.byte() % 2, &event), event, mask);
    }

    void ring_wait() {
        ipcdoor_event event{};
        const int rc = ipcdoor_ring_wait(end_.get(), 1, 0, 1, 7, ~std::uint64_t{0}, 0, &event);
        FUZZ_CHECK_ERROR(-rc, EPIPE, EOPNOTSUPP, EAGAIN, ETIMEDOUT);
        dead_ = dead_ || rc == -EPIPE;
    }

    // Nobody else can spoil it: it is there, and its value is the last one rung.
    void ring_itself() {
        const std::uint32_t vector = 1 + in_.byte() % 63;
        FUZZ_CHECK(ipcdoor_ring(end_.get(), 0, 1, vector, 0x5a5a) == 0);
        ipcdoor_event event{};
        const std::uint64_t bit = std::uint64_t{1} << vector;
        FUZZ_CHECK(ipcdoor_wait(end_.get(), bit, 0, &event) == 0 && event.fired == bit);
    }

    void state(std::uint32_t slot) {
        struct ipcdoor_slot_state now {};
        FUZZ_CHECK(ipcdoor_slot_state(end_.get(), slot, &now) == 0);
        FUZZ_CHECK(now.state == IPCDOOR_SLOT_ALIVE ||
                   (now.state == IPCDOOR_SLOT_DEAD && slot == 1));
        if (slot == 1 && dead_) FUZZ_CHECK(now.state == IPCDOOR_SLOT_DEAD);
        struct ipcdoor_peer_info about {};
        about.slot = slot;
        FUZZ_CHECK(ipcdoor_peer_info(end_.get(), &about) == 0);
        FUZZ_CHECK(about.state == now.state && about.uid == ::geteuid());
        FUZZ_CHECK(ipcdoor_slot_state(end_.get(), 2, &now) == -EINVAL);
    }

    void poll() {
        const int fd = ipcdoor_endpoint_fd(end_.get());
        FUZZ_CHECK(fd >= 0);
        pollfd asked{fd, POLLIN, 0};
        FUZZ_CHECK(::poll(&asked, 1, 0) >= 0);
    }

    void memory() {
        const auto* const peer = static_cast<const std::byte*>(ipcdoor_slot_memory(end_.get(), 1));
        FUZZ_CHECK(peer != nullptr);
        fuzz::touch({peer, fuzz::page});
        std::size_t bytes = 0;
        FUZZ_CHECK(ipcdoor_data_memory(end_.get(), &bytes) == nullptr && errno == ENODATA);
    }

    fuzz::input& in_;
    soft::control& head_;
    ipcdoor::owned_fd socket_;
    std::unique_ptr<ipcdoor_endpoint, closer> end_;
    bool dead_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static stage here;
    fuzz::keeps_descriptors([&] {
        fuzz::input in(data, size);
        play(in, here).run();
    });
    return 0;
}
