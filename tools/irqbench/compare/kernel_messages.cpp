// SPDX-License-Identifier: MIT
//
// What the kernel has for messages and calls: SOCK_SEQPACKET, POSIX message queues, and a stream
// socket with lengths before requests and replies.
#include <fcntl.h>
#include <fmt/format.h>
#include <mqueue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "irqbench/compare/kernel_io.hpp"
#include "irqbench/compare/transport.hpp"
#include "report/machine.hpp"

namespace irqbench::compare {

namespace {

class seqpacket_transport : public copying_transport {
public:
    explicit seqpacket_transport(std::size_t bytes)
        : copying_transport("unix-seqpacket", method_kind::peer, bytes), in_(bytes) {}

    void prepare() override {
        // The kernel counts its own administration, too; it doubles what it is asked for because
        // of that.
        ends_ = socket_pair(SOCK_SEQPACKET, std::max(queue_bytes, bytes_));
        int granted = 0;
        socklen_t length = sizeof(granted);
        getsockopt(ends_[0].get(), SOL_SOCKET, SO_SNDBUF, &granted, &length);
        constexpr std::size_t administration = 32;
        if (static_cast<std::size_t>(granted) < bytes_ + administration)
            throw unavailable(
                fmt::format("a packet has to fit the send buffer, and the kernel grants {} bytes "
                            "(net.core.wmem_max)",
                            granted));
    }
    void open(side s) override { fd_ = ends_[s == side::ringer ? 0 : 1].get(); }

protected:
    void put(std::span<const std::byte> message) override {
        ssize_t n;
        do n = ::send(fd_, message.data(), message.size(), MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n != static_cast<ssize_t>(message.size()))
            throw std::runtime_error(with_errno("unix-seqpacket: send"));
    }
    std::span<const std::byte> get() override {
        ssize_t n;
        do n = ::recv(fd_, in_.data(), in_.size(), 0);
        while (n < 0 && errno == EINTR);
        if (n < 0) throw std::runtime_error(with_errno("unix-seqpacket: recv"));
        return std::span(in_).first(static_cast<std::size_t>(n));
    }

private:
    std::array<owned_fd, 2> ends_;
    std::vector<std::byte> in_;
    int fd_ = -1;
};

class queue_transport : public copying_transport {
public:
    explicit queue_transport(std::size_t bytes)
        : copying_transport("mq", method_kind::peer, bytes), in_(bytes) {}
    ~queue_transport() override {
        for (mqd_t q : queues_)
            if (q != none) mq_close(q);
    }

    void prepare() override {
        // Root may exceed these; what is compared is what everybody can have.
        const std::size_t longest = limit("/proc/sys/fs/mqueue/msgsize_max");
        if (longest != 0 && bytes_ > longest)
            throw unavailable(fmt::format(
                "a message of a POSIX queue has at most {} bytes (fs.mqueue.msgsize_max)",
                longest));
        mq_attr attributes{};
        const std::size_t most = limit("/proc/sys/fs/mqueue/msg_max");
        attributes.mq_maxmsg = most == 0 ? 10 : static_cast<long>(most);
        attributes.mq_msgsize = static_cast<long>(bytes_);
        static unsigned made = 0;
        for (mqd_t& q : queues_) {
            const std::string path = fmt::format("/irqbench.compare.{}.{}", getpid(), made++);
            q = mq_open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
            if (q == none)
                throw unavailable(errno == ENOSYS ? "the kernel has no POSIX message queues "
                                                    "(CONFIG_POSIX_MQUEUE)"
                                                  : with_errno("mq_open"));
            mq_unlink(path.c_str());
        }
    }
    void open(side s) override {
        out_queue_ = queues_[static_cast<std::size_t>(s)];
        in_queue_ = queues_[1 - static_cast<std::size_t>(s)];
    }

protected:
    void put(std::span<const std::byte> message) override {
        while (mq_send(out_queue_, reinterpret_cast<const char*>(message.data()), message.size(),
                       0) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno("mq_send"));
    }
    std::span<const std::byte> get() override {
        ssize_t n;
        do n = mq_receive(in_queue_, reinterpret_cast<char*>(in_.data()), in_.size(), nullptr);
        while (n < 0 && errno == EINTR);
        if (n < 0) throw std::runtime_error(with_errno("mq_receive"));
        return std::span(in_).first(static_cast<std::size_t>(n));
    }

private:
    static constexpr mqd_t none = static_cast<mqd_t>(-1);

    // 0 where it cannot be told.
    static std::size_t limit(const char* path) {
        const std::string text = read_small_file(path);
        return text.empty() ? 0 : std::stoul(text);
    }

    std::array<mqd_t, 2> queues_{none, none};
    mqd_t in_queue_ = none;
    mqd_t out_queue_ = none;
    std::vector<std::byte> in_;
};

// The length in front of what it counts, in one write; read in one call where it is all there.
class request_transport : public copying_transport {
public:
    explicit request_transport(std::size_t bytes)
        : copying_transport("unix-request", method_kind::peer, bytes), in_(header_bytes + bytes) {}

    void prepare() override { ends_ = socket_pair(SOCK_STREAM, queue_bytes); }
    void open(side s) override { fd_ = ends_[s == side::ringer ? 0 : 1].get(); }

protected:
    void put(std::span<const std::byte> message) override {
        const std::uint64_t length = message.size();
        write_two(fd_, std::as_bytes(std::span(&length, 1)), message, name());
    }
    std::span<const std::byte> get() override {
        std::size_t have = 0;
        while (have < header_bytes) have += read_some(fd_, std::span(in_).subspan(have), name());
        std::uint64_t length;
        std::memcpy(&length, in_.data(), header_bytes);
        if (length > in_.size() - header_bytes)
            throw std::runtime_error(name() + ": a length of " + std::to_string(length));
        while (have < header_bytes + length)
            have += read_some(fd_, std::span(in_).subspan(have), name());
        return std::span(in_).subspan(header_bytes, length);
    }

private:
    static constexpr std::size_t header_bytes = sizeof(std::uint64_t);

    std::array<owned_fd, 2> ends_;
    std::vector<std::byte> in_;
    int fd_ = -1;
};

}  // namespace

transport_pointer make_unix_seqpacket(const door_choice&, std::size_t bytes) {
    return std::make_unique<seqpacket_transport>(bytes);
}
transport_pointer make_queue(const door_choice&, std::size_t bytes) {
    return std::make_unique<queue_transport>(bytes);
}
transport_pointer make_unix_request(const door_choice&, std::size_t bytes) {
    return std::make_unique<request_transport>(bytes);
}

}  // namespace irqbench::compare
