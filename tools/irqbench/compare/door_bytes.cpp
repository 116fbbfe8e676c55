// SPDX-License-Identifier: MIT
//
// ipcdoor's byte streams, and its shared memory with the doorbell alone.
#include "irqbench/compare/memory.hpp"
#include "irqbench/compare/transport.hpp"

namespace irqbench::compare {

namespace {

constexpr std::uint32_t vector = 1;

// One pipe for each direction.
class door_pipe : public copying_transport {
public:
    door_pipe(const door_choice& door, std::size_t bytes)
        : copying_transport("pipe", method_kind::door, bytes),
          there_(door),
          back_(door),
          in_(bytes) {}

    void open(side s) override {
        there_.open(s, ipcdoor::stream_slot_bytes(queue_bytes));
        back_.open(s, ipcdoor::stream_slot_bytes(queue_bytes));
    }
    void connect(side s) override {
        or_unavailable([&] {
            ipcdoor::endpoint there = there_.connect(s), back = back_.connect(s);
            const bool rings = s == side::ringer;
            writer_.emplace(std::move(rings ? there : back));
            reader_.emplace(std::move(rings ? back : there));
        });
    }

protected:
    void put(std::span<const std::byte> message) override { writer_->write(message, until_); }
    std::span<const std::byte> get() override {
        if (!reader_->read_exact(in_, until_)) throw std::runtime_error("pipe: it ended");
        return in_;
    }

private:
    connector there_, back_;
    std::vector<std::byte> in_;
    std::optional<ipcdoor::pipe_writer> writer_;
    std::optional<ipcdoor::pipe_reader> reader_;
};

class door_stream : public copying_transport {
public:
    door_stream(const door_choice& door, std::size_t bytes)
        : copying_transport("stream", method_kind::door, bytes), connector_(door), in_(bytes) {}

    void open(side s) override { connector_.open(s, ipcdoor::stream_slot_bytes(queue_bytes)); }
    void connect(side s) override {
        or_unavailable([&] { socket_.emplace(connector_.connect(s)); });
    }

protected:
    void put(std::span<const std::byte> message) override { socket_->write(message, until_); }
    std::span<const std::byte> get() override {
        if (!socket_->read_exact(in_, until_)) throw std::runtime_error("stream: it ended");
        return in_;
    }

private:
    connector connector_;
    std::vector<std::byte> in_;
    std::optional<ipcdoor::stream_socket> socket_;
};

// Each side writes its own slot, which the other one can only read.
class door_memory : public memory_transport {
public:
    door_memory(const door_choice& door, std::size_t bytes)
        : memory_transport("memory", method_kind::door, bytes), connector_(door) {}

    void open(side s) override { connector_.open(s, memory_buffers * bytes_); }
    void connect(side s) override {
        or_unavailable([&] {
            end_ = connector_.connect(s);
            peer_ = 1 - end_.slot();
            share(end_.memory(), end_.memory(peer_));
        });
    }

protected:
    void ring() override { end_.ring(peer_, vector); }
    std::uint64_t take() override { return counted(end_.wait(ipcdoor::vectors(vector), until_)); }
    std::uint64_t ring_take() override {
        return counted(end_.ring_wait(peer_, vector, 0, ipcdoor::vectors(vector), until_));
    }

private:
    static std::uint64_t counted(const std::optional<ipcdoor::event>& taken) {
        if (!taken) throw std::runtime_error("memory: no ring came");
        return taken->count;
    }

    connector connector_;
    ipcdoor::endpoint end_;
    std::uint32_t peer_ = 0;
};

}  // namespace

transport_pointer make_door_pipe(const door_choice& door, std::size_t bytes) {
    return std::make_unique<door_pipe>(door, bytes);
}
transport_pointer make_door_stream(const door_choice& door, std::size_t bytes) {
    return std::make_unique<door_stream>(door, bytes);
}
transport_pointer make_door_memory(const door_choice& door, std::size_t bytes) {
    return std::make_unique<door_memory>(door, bytes);
}

}  // namespace irqbench::compare
