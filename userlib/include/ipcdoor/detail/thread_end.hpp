// SPDX-License-Identifier: MIT
//
// Tells an object of the end of threads that have used it. A thread's number cannot: another
// thread may have it by the time that somebody asks.
#ifndef IPCDOOR_DETAIL_THREAD_END_HPP
#define IPCDOOR_DETAIL_THREAD_END_HPP

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ipcdoor::detail {

// Of one object. Threads may call watch() at once; the object may be destroyed by any thread,
// also while one that has used it ends.
class thread_end {
public:
    // Called by the thread that ends.
    using call = void (*)(void* object) noexcept;

    thread_end(void* object, call at_end) : link_(std::make_shared<link>(object, at_end)) {}
    thread_end(const thread_end&) = delete;
    thread_end& operator=(const thread_end&) = delete;
    ~thread_end() {
        if (!link_) return;
        const std::lock_guard lock(link_->guard);
        link_->object = nullptr;
    }

    // In a forked child, where the guard may be locked for ever.
    void forget() noexcept { link_.reset(); }

    // The calling thread, of this process, will call when it ends; not if it is destroying its
    // thread_local objects already.
    void watch(pid_t process) {
        if (recent() == link_.get() && process_ == process) [[likely]]
            return;
        watch_slowly(process);
    }

private:
    struct link {
        link(void* of, call how) : object(of), at_end(how) {}
        std::mutex guard;
        void* object;  // null: it was destroyed
        const call at_end;
    };
    // Of one thread, sorted.
    using links = std::vector<std::shared_ptr<link>>;
    struct watcher {
        links all;
        std::size_t room = 16;  // at more than that, those of destroyed objects go
        ~watcher() {
            recent_.fill(nullptr);
            if (std::exchange(process_, -1) != ::getpid()) return;
            for (const auto& one : all) {
                const std::lock_guard lock(one->guard);
                if (one->object != nullptr) one->at_end(one->object);
            }
        }
        void add(const std::shared_ptr<link>& one) {
            const auto at = std::lower_bound(all.begin(), all.end(), one);
            if (at != all.end() && *at == one) return;
            all.insert(at, one);
            if (all.size() <= room) return;
            recent_.fill(nullptr);
            std::erase_if(all, [](const auto& each) {
                const std::lock_guard lock(each->guard);
                return each->object == nullptr;
            });
            room = 2 * all.size() + 16;
        }
    };

    void watch_slowly(pid_t process) {
        if (process_ == -1) return;
        static thread_local watcher mine;
        // A forked child's threads have used nothing.
        if (process_ != process) {
            recent_.fill(nullptr);
            mine.all.clear();
        }
        process_ = process;
        mine.add(link_);
        recent() = link_.get();
    }

    // Where this object is, if it was used lately: a thread that takes several in turn looks
    // for none.
    const link*& recent() const noexcept {
        return recent_[reinterpret_cast<std::uintptr_t>(link_.get()) / sizeof(link) %
                       recent_.size()];
    }

    // Usable for as long as the thread runs: nothing destroys them. The process is 0 before the
    // first use, -1 when the watcher is gone.
    static inline constinit thread_local pid_t process_ = 0;
    // Only links that the watcher keeps: an address means the same object for as long.
    static inline constinit thread_local std::array<const link*, 8> recent_{};

    std::shared_ptr<link> link_;
};

}  // namespace ipcdoor::detail

#endif  // IPCDOOR_DETAIL_THREAD_END_HPP
