// SPDX-License-Identifier: MIT
//
// File descriptors that go along with messages. Only the kernel can hand them from process
// to process, and on Linux it does so over UNIX sockets: whoever takes descriptors listens
// on an abstract one, named by the kernel, and writes its number into the header of its
// slot. A sender connects once for each lane, so that descriptors come in the order of the
// lane's records. Each message's descriptors are one packet, sent before its record is
// published, with the number that the record names (its token): when the record is seen,
// the packet is there.
//
// Anybody in the network namespace can connect to such a name, and a hostile peer can name
// somebody else's: each side asks the kernel who is at the other end, and talks to the
// process alone that the doorbell's driver says is the peer.
#ifndef IPCDOOR_DETAIL_DESCRIPTOR_PASSING_HPP
#define IPCDOOR_DETAIL_DESCRIPTOR_PASSING_HPP

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ipcdoor/error.hpp>
#include <ipcdoor/message_layout.hpp>
#include <ipcdoor/owned_fd.hpp>

namespace ipcdoor::detail {

// Linux lets one packet carry so many (SCM_MAX_FD).
inline constexpr std::size_t max_descriptors_of_message = 253;

// The word in a slot's header that names a socket, 0 for none: its number, and how many
// descriptors a message may have.
struct descriptor_address {
    static constexpr std::uint64_t numbers = std::uint64_t{1} << 20;

    std::uint64_t number = 0;
    std::uint64_t most = 0;

    static descriptor_address of(std::uint64_t word) noexcept {
        return {word & 0xffffffffU, word >> 32};
    }
    std::uint64_t word() const noexcept { return number | most << 32; }
};

// The process at the other end of a connection, as the doorbell's driver captured it. Its
// user may change. Outside of this PID namespace all are 0, and nobody can be told.
struct peer_identity {
    pid_t pid;

    bool is_at(int socket) const noexcept {
        struct ucred other {};
        socklen_t length = sizeof other;
        return pid > 0 && ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &other, &length) == 0 &&
               other.pid == pid;
    }
};

[[noreturn]] inline void throw_descriptor_error(const char* what, int error_number) {
    throw_error(error_number, std::string("channel: ") + what +
                                  " for file descriptors: " + std::strerror(error_number));
}

inline owned_fd descriptor_socket() {
    owned_fd made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!made) throw_descriptor_error("socket", errno);
    return made;
}

// What a packet says: the first one of a socket its lane, each other one its token.
using descriptor_packet = std::uint64_t;

// ---- sending ----------------------------------------------------------------

// The sockets to a peer that takes descriptors. A lane's is used by whoever has the turn
// of that lane.
class descriptor_sender {
public:
    // Sends the descriptors of a lane's next message; they stay the caller's. False: the
    // socket is full, or the peer has yet to let it in; try again later. `token` is what
    // the record has to name.
    bool give(unsigned lane, std::uint64_t socket_word, const peer_identity& peer,
              std::span<const int> descriptors, std::uint64_t& token) {
        lane_state& to = lanes_[lane];
        if (!to.socket && !connect(lane, socket_word, peer)) return false;
        if (!send(to.socket.get(), to.next_token, descriptors)) return false;
        token = to.next_token++;
        return true;
    }
    int fd(unsigned lane) const noexcept { return lanes_[lane].socket.get(); }

    // In a forked child: the parent's go on.
    void close_all() noexcept {
        for (lane_state& lane : lanes_) lane.socket.reset();
    }

private:
    struct lane_state {
        owned_fd socket;
        std::uint64_t next_token = 1;
    };

    bool connect(unsigned lane, std::uint64_t socket_word, const peer_identity& peer) {
        const std::uint64_t number = descriptor_address::of(socket_word).number;
        if (number >= descriptor_address::numbers)
            throw_error(EPROTO, "channel: the peer names an impossible socket for descriptors");
        owned_fd socket = descriptor_socket();
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::array<char, 8> digits{};
        std::snprintf(digits.data(), digits.size(), "%05x", static_cast<unsigned>(number));
        std::memcpy(address.sun_path + 1, digits.data(), 5);
        if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                      offsetof(sockaddr_un, sun_path) + 6) != 0) {
            if (errno == EAGAIN || errno == EINTR) return false;
            throw_error(errno == ECONNREFUSED ? ENOTCONN : errno,
                        "channel: the peer's socket for file descriptors cannot be reached; is it "
                        "in another network namespace, or gone?");
        }
        if (!peer.is_at(socket.get())) {
            throw_error(EPROTO,
                        "channel: the socket for descriptors that the peer names is not its own");
        }
        if (!send(socket.get(), lane, {})) return false;
        lanes_[lane].socket = std::move(socket);
        return true;
    }

    static bool send(int socket, descriptor_packet word, std::span<const int> descriptors) {
        iovec bytes{&word, sizeof word};
        msghdr packet{};
        packet.msg_iov = &bytes;
        packet.msg_iovlen = 1;
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_descriptors_of_message)>
            control{};
        if (!descriptors.empty()) {
            packet.msg_control = control.data();
            packet.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
            cmsghdr* const header = CMSG_FIRSTHDR(&packet);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
            std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
        }
        if (::sendmsg(socket, &packet, MSG_NOSIGNAL) >= 0) return true;
        if (errno == EAGAIN || errno == EINTR) return false;
        // Its end is closed with its channel, so this is the peer's end; its death is told
        // by the doorbell in better words.
        if (errno == EPIPE || errno == ECONNRESET)
            throw_error(EPIPE, "channel: the peer has closed its channel; connect again");
        if (errno == EBADF)
            throw_error(EBADF, "channel: one of the descriptors to be sent is not open");
        throw_descriptor_error("sendmsg", errno);
    }

    std::array<lane_state, message_max_lanes> lanes_;
};

// ---- receiving --------------------------------------------------------------

// The socket that a peer's descriptors come to. Not thread-safe.
class descriptor_receiver {
public:
    // 0 descriptors: takes none.
    explicit descriptor_receiver(std::size_t most) : most_(most) {
        if (most > max_descriptors_of_message) {
            throw_error(EINVAL, "channel: a message carries at most " +
                                    std::to_string(max_descriptors_of_message) +
                                    " descriptors, not " + std::to_string(most));
        }
        if (most == 0) return;
        nameless_.reserve(message_max_lanes);  // whoever was let in is not lost for want of memory
        names_ = descriptor_socket();
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        // Without a path, the kernel finds a free name: five hexadecimal digits.
        if (::bind(names_.get(), reinterpret_cast<const sockaddr*>(&address),
                   sizeof(sa_family_t)) != 0)
            throw_descriptor_error("bind", errno);
        if (::listen(names_.get(), queue_length) != 0) throw_descriptor_error("listen", errno);
        socklen_t length = sizeof address;
        if (::getsockname(names_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
            throw_descriptor_error("getsockname", errno);
        if (length != offsetof(sockaddr_un, sun_path) + 6)
            throw_descriptor_error("an unexpected name of a socket", EPROTO);
        const std::string digits(address.sun_path + 1, 5);
        word_ = descriptor_address{std::strtoull(digits.c_str(), nullptr, 16), most}.word();
    }

    std::size_t most() const noexcept { return most_; }
    // For the header of the slot.
    std::uint64_t word() const noexcept { return word_; }

    // The descriptors of a lane's next record with some; empty ones stand for those that
    // found no room among this process's open files.
    std::vector<owned_fd> take(unsigned lane, std::uint64_t token, std::size_t count,
                               const peer_identity& peer) {
        // Strangers may come before the peer, but it has come before its record: at most a full
        // queue of them. Those who come after it do not keep this thread.
        for (int looks = 0; !lanes_[lane]; ++looks) {
            const int refusal = admit(peer);
            if (lanes_[lane]) break;
            if (refusal != 0 && refusal != EAGAIN) throw_descriptor_error("accept", refusal);
            if (refusal == EAGAIN || looks * admitted_at_once > queue_length)
                ring_violation("descriptors that were never sent");
        }
        return receive(lanes_[lane].get(), token, count);
    }

    // Lets the peer in, and sends strangers away, who may fill the queue. 0: there may be
    // more; else the errno value that accept4() failed with, EAGAIN where nobody waits.
    int admit(const peer_identity& peer) {
        if (!names_) return EAGAIN;
        int refusal = 0;
        // Others wait for this thread.
        for (int i = 0; i < admitted_at_once && refusal == 0; ++i) {
            owned_fd came(::accept4(names_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (!came) {
                if (errno != EINTR && errno != ECONNABORTED) refusal = errno;
                continue;
            }
            if (peer.is_at(came.get()) && nameless_.size() < message_max_lanes)
                nameless_.push_back(std::move(came));
        }
        for (owned_fd& came : nameless_) {
            descriptor_packet lane = 0;
            const ssize_t got = ::recv(came.get(), &lane, sizeof lane, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got == sizeof lane && lane < message_max_lanes && !lanes_[lane])
                lanes_[lane] = std::move(came);
            else
                came.reset();
        }
        std::erase_if(nameless_, [](const owned_fd& came) { return !came; });
        return refusal;
    }

    void close_all() noexcept {
        names_.reset();
        nameless_.clear();
        for (owned_fd& socket : lanes_) socket.reset();
    }

private:
    static constexpr int queue_length = 64;
    static constexpr int admitted_at_once = 64;

    static std::vector<owned_fd> receive(int socket, std::uint64_t token, std::size_t count) {
        descriptor_packet word = 0;
        iovec bytes{&word, sizeof word};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_descriptors_of_message)>
            control{};
        msghdr packet{};
        packet.msg_iov = &bytes;
        packet.msg_iovlen = 1;
        packet.msg_control = control.data();
        packet.msg_controllen = control.size();
        std::vector<owned_fd> taken;
        taken.reserve(max_descriptors_of_message);
        ssize_t got;
        do {
            got = ::recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
        } while (got < 0 && errno == EINTR);
        for (cmsghdr* header = CMSG_FIRSTHDR(&packet); got >= 0 && header != nullptr;
             header = CMSG_NXTHDR(&packet, header)) {
            if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
            const std::size_t some = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t i = 0; i < some; ++i) {
                int fd = -1;
                std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
                taken.emplace_back(fd);
            }
        }
        if (got != sizeof word || word != token) ring_violation("descriptors of another message");
        // The kernel leaves out those that this process has no room for, and says so.
        const bool cut = (packet.msg_flags & MSG_CTRUNC) != 0;
        if (taken.size() > count || (taken.size() < count && !cut))
            ring_violation("another number of descriptors than a record says");
        taken.resize(count);
        return taken;
    }

    const std::size_t most_;
    std::uint64_t word_ = 0;
    owned_fd names_;
    std::vector<owned_fd> nameless_;  // their first packet is not there yet
    std::array<owned_fd, message_max_lanes> lanes_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_DESCRIPTOR_PASSING_HPP
