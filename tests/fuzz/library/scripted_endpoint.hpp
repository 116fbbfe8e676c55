// SPDX-License-Identifier: MIT
// A connection's endpoint without a back end: its two slots are windows, and what
// ringing and waiting come to, and what the hostile peer does meanwhile, is the
// script's to say. Nothing sleeps and nothing makes a system call.
#ifndef IPCDOOR_TESTS_FUZZ_SCRIPTED_ENDPOINT_HPP
#define IPCDOOR_TESTS_FUZZ_SCRIPTED_ENDPOINT_HPP

#include <cerrno>
#include <cstdint>

#include "../userlib/src/backend.h"
#include "../userlib/src/failure.h"
#include "fuzz/library/window.hpp"

namespace ipcdoor::fuzz {

class script {
public:
    virtual ~script() = default;
    // 0 or a negative errno value that ipcdoor_ring() or ipcdoor_wait() documents.
    virtual int on_ring(std::uint32_t slot, std::uint32_t vector) = 0;
    virtual int on_wait(std::uint64_t mask) = 0;
};

class scripted_endpoint final : public ipcdoor_endpoint {
public:
    explicit scripted_endpoint(std::size_t slot_bytes)
        : own(slot_bytes, fuzz::owner::library), peer(slot_bytes, fuzz::owner::peer) {}

    // Both slots as the kernel gives them, and a new story.
    void restart(script& play) {
        play_ = &play;
        own.clear();
        peer.clear();
    }

    const window own;   // slot 0
    const window peer;  // slot 1

    const char* backend() const noexcept override { return "scripted"; }
    void info(struct ipcdoor_endpoint_info& info) override {
        info = {};
        info.slot_bytes = own.size();
        info.slots = 2;
        info.generation = 1;
        info.flags = IPCDOOR_ENDPOINT_CONNECTION;
    }
    void* slot_memory(uint32_t slot) override { return slot == 0 ? own.seen() : peer.seen(); }
    int ring(uint32_t slot, uint32_t, uint32_t vector, uint64_t) override {
        return said(play_->on_ring(slot, vector));
    }
    int wait(uint64_t mask, uint64_t, ipcdoor_event*) override {
        return said(play_->on_wait(mask));
    }
    int ring_wait(uint32_t slot, uint32_t, uint32_t vector, uint64_t, uint64_t mask, uint64_t,
                  ipcdoor_event*) override {
        const int rung = said(play_->on_ring(slot, vector));
        return rung < 0 ? rung : said(play_->on_wait(mask));
    }

    void* data_memory(size_t*) override { throw backend::failure(ENODATA, "scripted"); }
    int poll_fd() override { throw backend::failure(EOPNOTSUPP, "scripted"); }
    void bind_eventfd(int, uint64_t) override { throw backend::failure(EOPNOTSUPP, "scripted"); }
    void bind_signal(int, uint64_t) override { throw backend::failure(EOPNOTSUPP, "scripted"); }
    void peer_info(struct ipcdoor_peer_info&) override {}
    void slot_state(uint32_t, struct ipcdoor_slot_state&) override {}
    uint32_t seal(uint32_t) override { return 0; }
    void grow(uint64_t) override {}

private:
    static int said(int rc) { return rc < 0 ? backend::fail(-rc, "the script says so") : rc; }

    script* play_ = nullptr;
};

}  // namespace ipcdoor::fuzz

#endif  // IPCDOOR_TESTS_FUZZ_SCRIPTED_ENDPOINT_HPP
