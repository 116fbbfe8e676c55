// SPDX-License-Identifier: MIT
#include "ipcdoor-proxy/dialer.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <system_error>
#include <utility>

#include "common/throw_errno.hpp"

namespace ipcdoor_proxy {

dialer::dialer(const options& o, ipcdoor::door& door)
    : o_(o), door_(door), news_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!news_) common::throw_errno("eventfd");
    thread_ = std::thread([this] { run(); });
}

dialer::~dialer() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
        waiting_.clear();
    }
    changed_.notify_one();
    thread_.join();
}

void dialer::complete(half came) {
    {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(std::move(came));
    }
    changed_.notify_one();
}

std::optional<dialer::result> dialer::take() {
    const std::lock_guard lock(mutex_);
    if (done_.empty()) {
        std::uint64_t count = 0;
        static_cast<void>(::read(news_.get(), &count, sizeof count));
        return std::nullopt;
    }
    result next = std::move(done_.front());
    done_.pop_front();
    return next;
}

void dialer::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return ending_ || !waiting_.empty(); });
        if (ending_) return;
        half came = std::move(waiting_.front());
        waiting_.pop_front();
        lock.unlock();
        result made = dial(std::move(came));
        lock.lock();
        done_.push_back(std::move(made));
        const std::uint64_t one = 1;
        static_cast<void>(::write(news_.get(), &one, sizeof one));
    }
}

dialer::result dialer::dial(half came) {
    try {
        if (came.socket) {
            return {std::make_unique<relay>(
                        std::move(*came.socket),
                        ipcdoor::connect_stream(door_, o_.to.path, {},
                                                std::chrono::duration<double>(o_.timeout_s))),
                    ""};
        }
        return {std::make_unique<relay>(connect_socket(), std::move(*came.stream)), ""};
    } catch (const std::exception& wrong) {
        if (came.stream) came.stream->abort();
        if (came.socket) reset_on_close(came.socket->get());
        return {nullptr, o_.to.text + ": " + wrong.what()};
    }
}

ipcdoor::owned_fd dialer::connect_socket() {
    ipcdoor::owned_fd made = connect_to(o_.to);
    pollfd there{made.get(), POLLOUT, 0};
    const int timeout_ms = static_cast<int>(std::ceil(std::min(o_.timeout_s, 2e6) * 1000));
    int ready;
    do {
        ready = ::poll(&there, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    const int error = ready == 0 ? ETIMEDOUT : connection_error(made.get());
    if (error != 0) throw std::system_error(error, std::generic_category(), "connecting");
    return made;
}

}  // namespace ipcdoor_proxy
