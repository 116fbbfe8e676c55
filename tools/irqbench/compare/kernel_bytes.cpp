// SPDX-License-Identifier: MIT
//
// What the kernel has for bytes and shared memory: pipe(2), a stream socket, memfd with eventfd.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "irqbench/compare/kernel_io.hpp"
#include "irqbench/compare/memory.hpp"
#include "irqbench/compare/transport.hpp"

namespace irqbench::compare {

namespace {

class kernel_pipe : public copying_transport {
public:
    explicit kernel_pipe(std::size_t bytes)
        : copying_transport("pipe2", method_kind::peer, bytes), in_(bytes) {}

    void prepare() override {
        for (auto& [read_end, write_end] : pipes_) {
            int fds[2];
            if (pipe2(fds, O_CLOEXEC) < 0) throw unavailable(with_errno("pipe2"));
            read_end = owned_fd(fds[0]);
            write_end = owned_fd(fds[1]);
            const int granted = fcntl(fds[1], F_SETPIPE_SZ, static_cast<int>(queue_bytes));
            if (granted != static_cast<int>(queue_bytes))
                throw unavailable(with_errno(
                    fmt::format("F_SETPIPE_SZ of {} bytes (fs.pipe-max-size)", queue_bytes)));
        }
    }
    void open(side s) override {
        const std::size_t out = s == side::ringer ? 0 : 1;
        out_fd_ = pipes_[out].second.get();
        in_fd_ = pipes_[1 - out].first.get();
    }

protected:
    void put(std::span<const std::byte> message) override { write_all(out_fd_, message, name()); }
    std::span<const std::byte> get() override {
        read_all(in_fd_, in_, name());
        return in_;
    }

private:
    std::array<std::pair<owned_fd, owned_fd>, 2> pipes_;
    std::vector<std::byte> in_;
    int out_fd_ = -1;
    int in_fd_ = -1;
};

class kernel_stream : public copying_transport {
public:
    explicit kernel_stream(std::size_t bytes)
        : copying_transport("unix-stream", method_kind::peer, bytes), in_(bytes) {}

    void prepare() override { ends_ = socket_pair(SOCK_STREAM, queue_bytes); }
    void open(side s) override { fd_ = ends_[s == side::ringer ? 0 : 1].get(); }

protected:
    void put(std::span<const std::byte> message) override { write_all(fd_, message, name()); }
    std::span<const std::byte> get() override {
        read_all(fd_, in_, name());
        return in_;
    }

private:
    std::array<owned_fd, 2> ends_;
    std::vector<std::byte> in_;
    int fd_ = -1;
};

// One memfd of two halves, one for each side, and an eventfd for each direction. Both sides could
// write both halves; nothing but good manners keeps them.
class memfd_transport : public memory_transport {
public:
    explicit memfd_transport(std::size_t bytes)
        : memory_transport("memfd", method_kind::peer, bytes), half_(memory_buffers * bytes) {}
    ~memfd_transport() override {
        if (!all_.empty()) munmap(all_.data(), all_.size());
    }

    void prepare() override {
        memory_ = owned_fd(memfd_create("irqbench", MFD_CLOEXEC));
        if (memory_.get() < 0) throw unavailable(with_errno("memfd_create"));
        if (ftruncate(memory_.get(), static_cast<off_t>(2 * half_)) < 0)
            throw unavailable(with_errno("ftruncate"));
        void* const at = mmap(nullptr, 2 * half_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                              memory_.get(), 0);
        if (at == MAP_FAILED) throw unavailable(with_errno("mmap"));
        all_ = {static_cast<std::byte*>(at), 2 * half_};
        for (owned_fd& bell : bells_) {
            bell = owned_fd(eventfd(0, EFD_CLOEXEC));
            if (bell.get() < 0) throw unavailable(with_errno("eventfd"));
        }
    }
    void open(side s) override {
        const auto mine = static_cast<std::size_t>(s);
        share(all_.subspan(mine * half_, half_), all_.subspan((1 - mine) * half_, half_));
        out_fd_ = bells_[mine].get();
        in_fd_ = bells_[1 - mine].get();
    }

protected:
    void ring() override {
        const std::uint64_t one = 1;
        write_all(out_fd_, std::as_bytes(std::span(&one, 1)), name());
    }
    std::uint64_t take() override {
        std::uint64_t count = 0;
        read_all(in_fd_, std::as_writable_bytes(std::span(&count, 1)), name());
        return count;
    }

private:
    const std::size_t half_;
    owned_fd memory_;
    std::span<std::byte> all_;
    std::array<owned_fd, 2> bells_;
    int out_fd_ = -1;
    int in_fd_ = -1;
};

}  // namespace

transport_pointer make_kernel_pipe(const door_choice&, std::size_t bytes) {
    return std::make_unique<kernel_pipe>(bytes);
}
transport_pointer make_kernel_stream(const door_choice&, std::size_t bytes) {
    return std::make_unique<kernel_stream>(bytes);
}
transport_pointer make_memfd(const door_choice&, std::size_t bytes) {
    return std::make_unique<memfd_transport>(bytes);
}

}  // namespace irqbench::compare
