// SPDX-License-Identifier: MIT
//
// POSIX message queues: one for each direction, one byte a ring.
#include <fcntl.h>
#include <mqueue.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "irqbench/method.hpp"

namespace irqbench {

namespace {

class posix_mq_method : public method {
public:
    posix_mq_method() : method("mq", method_kind::peer) {}
    ~posix_mq_method() override {
        for (mqd_t q : queues_)
            if (q != static_cast<mqd_t>(-1)) mq_close(q);
    }

    void prepare() override {
        for (std::size_t i = 0; i < queues_.size(); ++i) {
            const std::string path =
                "/irqbench." + std::to_string(getpid()) + "." + std::to_string(i);
            mq_attr attributes{};
            attributes.mq_maxmsg = 1;
            attributes.mq_msgsize = 1;
            queues_[i] =
                mq_open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
            if (queues_[i] == static_cast<mqd_t>(-1)) {
                if (errno == ENOSYS)
                    throw unavailable(
                        "the kernel has no POSIX message queues "
                        "(CONFIG_POSIX_MQUEUE)");
                throw unavailable(with_errno("mq_open"));
            }
            mq_unlink(path.c_str());
        }
    }

    void open(side s) override {
        out_ = queues_[static_cast<int>(s)];
        in_ = queues_[1 - static_cast<int>(s)];
    }

    void send() override {
        const char byte = 1;
        while (mq_send(out_, &byte, 1, 0) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno("mq_send"));
    }

    void receive() override {
        char byte;
        while (mq_receive(in_, &byte, 1, nullptr) < 0)
            if (errno != EINTR) throw std::runtime_error(with_errno("mq_receive"));
    }

private:
    std::array<mqd_t, 2> queues_{static_cast<mqd_t>(-1), static_cast<mqd_t>(-1)};
    mqd_t in_ = static_cast<mqd_t>(-1);
    mqd_t out_ = static_cast<mqd_t>(-1);
};

}  // namespace

std::unique_ptr<method> make_posix_mq() { return std::make_unique<posix_mq_method>(); }

}  // namespace irqbench
