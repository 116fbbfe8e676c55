// SPDX-License-Identifier: MIT
/*
 * An endpoint of the software back end: its links to the peers, its books of
 * what was rung, and waiting. How links come to be is its makers' business
 * (soft_connection.cpp, soft_member.cpp).
 *
 * Threads: `mutex_` protects everything but what other processes share. Of the
 * threads that wait, one leads: it sleeps in epoll, without the mutex, for all;
 * the others sleep on `news_`, which moves when the leader is back.
 */
#ifndef IPCDOOR_SRC_SOFT_ENDPOINT_H
#define IPCDOOR_SRC_SOFT_ENDPOINT_H

#include <mutex>
#include <span>
#include <vector>

#include "backend.h"
#include "soft_link.h"

namespace ipcdoor::backend::soft {

class endpoint : public ipcdoor_endpoint {
public:
    struct plan {
        soft::shape shape;
        soft::seat seat;
        std::uint32_t flags = 0;  // IPCDOOR_ENDPOINT_*
        slot_pages own;
        owned_fd data;  // none where shape.max_data_bytes is 0
    };

    explicit endpoint(plan made);
    ~endpoint() override;

    // Takes up a peer. `announce`: it is news to this endpoint's user.
    void add_link(std::shared_ptr<link> peer, bool announce);

    const char* backend() const noexcept override { return "soft"; }
    void info(struct ipcdoor_endpoint_info& info) override;
    void* slot_memory(uint32_t slot) override;
    void* data_memory(size_t* bytes) override;
    int ring(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value) override;
    int wait(uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) override;
    int ring_wait(uint32_t slot, uint32_t generation, uint32_t vector, uint64_t value,
                  uint64_t mask, uint64_t deadline_ns, ipcdoor_event* event) override;
    int poll_fd() override;
    void bind_eventfd(int fd, uint64_t mask) override;
    void bind_signal(int signo, uint64_t mask) override;
    void peer_info(struct ipcdoor_peer_info& info) override;
    void slot_state(uint32_t slot, struct ipcdoor_slot_state& state) override;
    uint32_t seal(uint32_t add) override;
    void grow(uint64_t data_bytes) override;

protected:
    enum class event_kind : std::uint32_t { kick, join, socket, process };
    static std::uint64_t tag(event_kind kind, std::uint32_t slot, std::uint32_t serial);

    // Takes up peers that came by themselves, under the mutex; true if any did.
    virtual bool admit_newcomers() noexcept { return false; }
    // May throw failure; says who may ask for what.
    virtual void check_seal(uint32_t add) const;
    virtual void check_grow() const {}

    void watch(int fd, std::uint32_t events, std::uint64_t event_tag);
    void forget(int fd) { sys::epoll_forget(inner_.get(), fd); }
    void add_link_locked(std::shared_ptr<link> peer, bool announce);
    bool any_peer_alive_locked();
    const shape& layout() const { return shape_; }
    const seat& own_seat() const { return seat_; }
    control& own_control() { return own_->own_head(); }
    std::shared_ptr<link>& link_at(std::uint32_t slot) { return links_[slot]; }
    void bury_if_gone(const std::shared_ptr<link>& peer);

    std::mutex mutex_;

private:
    std::uint64_t data_bytes_now() const;
    std::shared_ptr<link> find(std::uint32_t slot);
    void check_slot(std::uint32_t slot) const;

    int count_ring(const std::shared_ptr<link>& target, bool lives, uint32_t generation,
                   uint32_t vector, uint64_t value);
    void ring_lifecycle_of_peers();
    int send_signal(const link& target, uint32_t vector, uint64_t value) const;

    int wait_locked(std::unique_lock<std::mutex>& lock, uint64_t mask, uint64_t deadline_ns,
                    ipcdoor_event* event);
    int follow(std::unique_lock<std::mutex>& lock, uint64_t deadline_ns);
    int lead(std::unique_lock<std::mutex>& lock, uint64_t mask, uint64_t deadline_ns);
    void step_down();
    void arm();
    void settle();
    void handle(std::span<const epoll_event> events);
    void handle(const epoll_event& event);
    void harvest();
    void harvest(link& peer);
    bool take(uint64_t mask, ipcdoor_event* event);
    bool peer_gone() const;
    void lifecycle();
    void bury(link& peer);

    const shape shape_;
    const seat seat_;
    const std::uint32_t flags_;
    const std::shared_ptr<slot_pages> own_;
    const owned_fd data_file_;
    sys::mapping data_;

    owned_fd kick_;   // eventfd: this process wakes its own leader
    owned_fd inner_;  // epoll: all that may bring news
    owned_fd level_;  // eventfd: set while something is pending
    owned_fd outer_;  // epoll of inner_ and level_: the caller's poll_fd()

    std::vector<std::shared_ptr<link>> links_;
    std::vector<std::shared_ptr<slot_pages>> kept_;  // replaced, but given out
    std::uint32_t next_serial_ = 1;

    std::uint64_t pending_ = 0;  // vectors
    std::uint64_t count_[IPCDOOR_VECTORS] = {};
    std::uint64_t value_[IPCDOOR_VECTORS] = {};
    std::uint64_t rung_before_[IPCDOOR_VECTORS] = {};  // by links that were replaced

    bool leading_ = false;
    unsigned followers_ = 0;
    std::atomic<std::uint32_t> news_{0};
    std::uint64_t epoch_ = 0;
};

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_ENDPOINT_H
