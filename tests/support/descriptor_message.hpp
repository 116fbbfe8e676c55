// SPDX-License-Identifier: MIT
// A message that carries one descriptor through a UNIX socket (SCM_RIGHTS). The calls
// stay with the user: what an error means differs from test to test.
#ifndef IPCDOOR_TESTS_SUPPORT_DESCRIPTOR_MESSAGE_HPP
#define IPCDOOR_TESTS_SUPPORT_DESCRIPTOR_MESSAGE_HPP

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

namespace ipcdoor::test {

class descriptor_message {
public:
    // To receive one.
    descriptor_message() {
        message_.msg_iov = &payload_;
        message_.msg_iovlen = 1;
        message_.msg_control = control_;
        message_.msg_controllen = sizeof control_;
    }
    // To send `fd`, which may be none.
    explicit descriptor_message(int fd) : descriptor_message() {
        cmsghdr* header = CMSG_FIRSTHDR(&message_);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    // It points into itself.
    descriptor_message(const descriptor_message&) = delete;
    descriptor_message& operator=(const descriptor_message&) = delete;

    // For sendmsg() and recvmsg().
    msghdr* get() { return &message_; }

    // The descriptor that came with it, for the caller to own; -1 where none did.
    [[nodiscard]] int received() {
        const cmsghdr* header = CMSG_FIRSTHDR(&message_);
        if (header == nullptr || header->cmsg_type != SCM_RIGHTS ||
            header->cmsg_len != CMSG_LEN(sizeof(int)))
            return -1;
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
        return fd;
    }

private:
    char byte_ = 0;
    iovec payload_{&byte_, 1};
    alignas(cmsghdr) char control_[CMSG_SPACE(sizeof(int))] = {};
    msghdr message_{};
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SUPPORT_DESCRIPTOR_MESSAGE_HPP
