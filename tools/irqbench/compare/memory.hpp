// SPDX-License-Identifier: MIT
//
// Owns: messages in shared memory with nothing but a counting bell beside it: memory_buffers
// buffers for each direction, filled in turn. Every message is rung for, and while they stream each
// is rung back for when it was read, which frees its buffer.
#pragma once

#include "irqbench/compare/transport.hpp"

namespace irqbench::compare {

class memory_transport : public transport {
public:
    using transport::transport;

    void send() final {
        write_next();
        ring();
    }
    void receive() final {
        await();
        read_next();
    }
    void exchange() final {
        write_next();
        if (rung_ == 0)
            rung_ += ring_take();
        else
            ring();
        read_next();
    }

    void send_many(std::uint64_t count) final {
        std::uint64_t free = memory_buffers;
        for (std::uint64_t i = 0; i < count; ++i) {
            while (free == 0) free += take();
            send();
            --free;
        }
        while (free < memory_buffers) free += take();
    }
    void receive_many(std::uint64_t count) final {
        for (std::uint64_t i = 0; i < count; ++i) {
            receive();
            ring();
        }
    }

protected:
    // Rings the other side; takes all rings so far, at least one; both, in one call if there is
    // one.
    virtual void ring() = 0;
    virtual std::uint64_t take() = 0;
    virtual std::uint64_t ring_take() {
        ring();
        return take();
    }

    void share(std::span<std::byte> mine, std::span<const std::byte> theirs) {
        mine_ = mine;
        theirs_ = theirs;
    }

private:
    void write_next() { fill_next(mine_.subspan(sent_ % memory_buffers * bytes_, bytes_)); }
    void read_next() {
        --rung_;
        check_next(theirs_.subspan(received_ % memory_buffers * bytes_, bytes_));
    }
    void await() {
        while (rung_ == 0) rung_ += take();
    }

    std::span<std::byte> mine_;
    std::span<const std::byte> theirs_;
    std::uint64_t rung_ = 0;  // messages that are there and not read
};

}  // namespace irqbench::compare
