// SPDX-License-Identifier: MIT
// usage: rpc_flood CONNECTIONS CALLS [USER]
//
// Two threads hold CONNECTIONS connections to one rpc::server and have CALLS calls under
// way on each, all at once: the server answers none before the last one was sent. In the
// middle of its work the server is killed; every call must end in a result or an error
// then, and every connection. A server that has the same name takes its place, all
// connect again and call again what has no result yet. In the end each call has one
// result, the right one, and the books of clients and servers agree.
//
// USER: a user's number, whose quotas are to be enough; the descriptors that it takes are
// allowed first, as an administrator would.
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <ipcdoor/rpc.hpp>

#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr unsigned client_threads = 2;
constexpr unsigned server_threads = 2;
// Nobody who gets on needs as long, on any machine: what does is stuck.
constexpr std::chrono::seconds stuck_after{240};

struct plan {
    std::string name = "flood-" + std::to_string(::getpid());
    std::uint64_t connections = 0;
    std::uint64_t calls = 0;  // on each of them

    std::uint64_t all() const { return connections * calls; }
};

// What a server has done, in memory that outlives it.
struct server_books {
    std::atomic<std::uint64_t> begun{0};
    std::atomic<std::uint64_t> done{0};
    std::atomic<std::uint64_t> connected{0};
    std::atomic<std::uint64_t> calls{0};   // as its stats() say, at its end
    std::atomic<std::uint64_t> failed{0};  // likewise
};

// What the clients have seen of it.
struct client_books {
    std::atomic<std::uint64_t> started{0};
    std::atomic<std::uint64_t> results{0};
    std::atomic<std::uint64_t> errors{0};
    std::atomic<std::uint64_t> wrong{0};
};

void check(bool right, const std::string& what) {
    if (!right) throw std::runtime_error(what);
}

std::uint64_t answer_to(std::uint64_t number) noexcept {
    number = (number ^ (number >> 31)) * 0x9e3779b97f4a7c15ULL;
    return number ^ (number >> 29);
}

// ---- the administrator's part -----------------------------------------------

// Of each process: the two ends of a connection lie in different ones.
std::uint64_t descriptors_needed(const plan& wanted) {
    const std::uint64_t each = door().backend() == "soft" ? 6 : 1;
    return each * wanted.connections + 100;
}

void allow_descriptors(std::uint64_t wanted) {
    rlimit now{};
    check(::getrlimit(RLIMIT_NOFILE, &now) == 0, "getrlimit");
    if (now.rlim_cur >= wanted) return;
    const rlimit more{wanted, std::max<rlim_t>(now.rlim_max, wanted)};
    if (::setrlimit(RLIMIT_NOFILE, &more) == 0) return;
    throw std::runtime_error("up to " + std::to_string(wanted) +
                             " descriptors are needed in a process, and " +
                             std::to_string(now.rlim_max) +
                             " are allowed: raise the hard limit (ulimit -Hn, LimitNOFILE=, "
                             "limits.conf), or ask for fewer connections");
}

std::string parameter(const char* name) {
    const std::string path = std::string("/sys/module/ipcdoor/parameters/") + name;
    std::string text = "?";
    if (std::FILE* const file = std::fopen(path.c_str(), "re")) {
        char line[64] = {};
        if (std::fgets(line, sizeof line, file) != nullptr) text = line;
        std::fclose(file);
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

// ---- servers ----------------------------------------------------------------

struct server_gates {
    gate listen;  // open it to let it take its name
    gate work;    // nothing is answered before
    gate stop;
};

// Serves until it is stopped; begins `most` calls, and would hang with the next one.
int serve(const plan& wanted, const server_gates& gates, server_books& books, std::uint64_t most) {
    gates.listen.wait(stuck_after);
    mailbox_options options;
    // Room for all calls of a connection: 24 bytes before an argument of 8, and 16 of the ring.
    options.record_bytes = std::max<std::uint64_t>(4096, wanted.calls * 64);
    options.max_senders = wanted.connections;
    door own;
    rpc::server served(own, wanted.name, options);
    served.bind("answer", [&](std::uint64_t number) {
        gates.work.wait(stuck_after);
        const std::uint64_t before = books.begun.fetch_add(1);
        if (before == 0) books.connected = served.clients().stats().connected;
        while (before >= most) ::pause();
        ++books.done;
        return answer_to(number);
    });
    std::vector<std::thread> pool;
    for (unsigned i = 0; i < server_threads; ++i) pool.emplace_back([&] { served.serve(); });
    gates.stop.wait(2 * stuck_after);
    served.stop();
    for (auto& thread : pool) thread.join();
    books.connected = served.clients().stats().connected;
    books.calls = served.stats().calls;
    books.failed = served.stats().failed;
    return 0;
}

// ---- clients ----------------------------------------------------------------

// The connections of one thread.
class crowd {
public:
    crowd(const plan& wanted, std::uint64_t first, std::uint64_t count)
        : plan_(wanted), epoll_(::epoll_create1(EPOLL_CLOEXEC)), all_(count) {
        check(epoll_.get() >= 0, "epoll_create1");
        for (std::uint64_t i = 0; i < count; ++i)
            for (std::uint64_t j = 0; j < wanted.calls; ++j)
                all_[i].open.push_back((first + i) * wanted.calls + j);
    }

    // All of them; where there is no server yet, waits for one.
    void connect(deadline until) {
        for (std::size_t i = 0; i < all_.size(); ++i) {
            all_[i].client.emplace(connect_one(until));
            epoll_event wanted{};
            wanted.events = EPOLLIN;
            wanted.data.u64 = i;
            check(
                ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, all_[i].client->end().fd(), &wanted) == 0,
                "epoll_ctl");
        }
    }

    // Everything that has no result yet.
    void start(client_books& books, deadline until) {
        for (auto& one : all_) {
            one.calls.clear();
            one.calls.reserve(one.open.size());
            for (const std::uint64_t number : one.open)
                one.calls.push_back(
                    {number, one.client->start_until<std::uint64_t>(until, "answer", number)});
            one.open.clear();
            one.waiting = one.calls.size();
            waiting_ += one.calls.size();
            books.started += one.calls.size();
            for (auto& each : one.calls)
                each.reply.then([this, &one, &each, &books] { finish(one, each, books); });
            one.client->poll();  // from now on its descriptor tells
        }
    }

    // Until all calls have ended.
    void finish_calls(deadline until) {
        while (waiting_ != 0) check(turn(until), "calls never ended: " + std::to_string(waiting_));
        check(dead_ == 0, "connections that ended: " + std::to_string(dead_));
    }

    // Until all connections have ended, and their calls with them.
    void finish_connections(deadline until) {
        while (dead_ != all_.size())
            check(turn(until), "connections never ended: " + std::to_string(all_.size() - dead_) +
                                   ", calls: " + std::to_string(waiting_));
        check(waiting_ == 0,
              "the connections ended, but calls did not: " + std::to_string(waiting_));
        dead_ = 0;
    }

    const std::map<int, std::uint64_t>& error_numbers() const { return error_numbers_; }

private:
    struct call {
        std::uint64_t number;
        rpc::pending<std::uint64_t> reply;
    };
    struct connection {
        std::optional<rpc::client> client;
        std::vector<call> calls;          // under way, or over
        std::vector<std::uint64_t> open;  // have no result
        std::uint64_t waiting = 0;
    };

    rpc::client connect_one(deadline until) const {
        for (;;) {
            try {
                door own;
                return rpc::client(own, plan_.name, until);
            } catch (const error& wrong) {
                const int number = wrong.error_number();
                if ((number != ENOENT && number != ECONNREFUSED) || until.is_past()) throw;
                std::this_thread::sleep_for(5ms);
            }
        }
    }

    void finish(connection& of, call& ended, client_books& books) {
        --of.waiting;
        --waiting_;
        try {
            if (ended.reply.get(0s) != answer_to(ended.number)) ++books.wrong;
            ++books.results;
        } catch (const error& wrong) {
            ++books.errors;
            ++error_numbers_[wrong.error_number()];
            of.open.push_back(ended.number);
        }
    }

    // Takes what came. False: nothing comes any more.
    bool turn(deadline until) {
        epoll_event events[64];
        const int ready = ::epoll_wait(epoll_.get(), events, 64, 1000);
        check(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < ready; ++i) {
            connection& one = all_[events[i].data.u64];
            try {
                one.client->poll();
            } catch (const error& wrong) {
                if (!wrong.is_peer_death()) throw;
                check(one.waiting == 0, "a dead connection's calls have not ended");
                ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, one.client->end().fd(), nullptr);
                one.client.reset();
                ++dead_;
            }
        }
        return ready > 0 || !until.is_past();
    }

    const plan& plan_;
    unique_fd epoll_;
    std::vector<connection> all_;
    std::uint64_t waiting_ = 0;
    std::uint64_t dead_ = 0;
    std::map<int, std::uint64_t> error_numbers_;
};

// Does the same in a thread for each crowd; all have done it when this returns.
template <class What>
void in_threads(std::vector<crowd>& crowds, What what) {
    std::mutex mutex;
    std::exception_ptr wrong;
    std::vector<std::thread> threads;
    for (auto& one : crowds) {
        threads.emplace_back([&] {
            try {
                what(one);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!wrong) wrong = std::current_exception();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    if (wrong) std::rethrow_exception(wrong);
}

double seconds_since(std::uint64_t begin_ns) {
    return static_cast<double>(now_ns() - begin_ns) / 1e9;
}

void flood(const plan& wanted) {
    const std::uint64_t half = wanted.all() / 2;
    const shared<server_books> books[2];
    server_gates gates[2];
    // Both before there are threads and connections; the second waits for its time.
    child first([&] { return serve(wanted, gates[0], *books[0], half + half / 2); });
    child second([&] { return serve(wanted, gates[1], *books[1], ~std::uint64_t{0}); });
    gates[0].listen.open();
    gates[1].work.open();

    const deadline until = stuck_after;
    std::vector<crowd> crowds;
    crowds.reserve(client_threads);
    for (unsigned i = 0; i < client_threads; ++i) {
        const std::uint64_t begin = wanted.connections * i / client_threads;
        const std::uint64_t end = wanted.connections * (i + 1) / client_threads;
        crowds.emplace_back(wanted, begin, end - begin);
    }
    client_books seen[2];
    const std::uint64_t begin_ns = now_ns();
    in_threads(crowds, [&](crowd& one) { one.connect(until); });
    std::printf("note: %s, %" PRIu64 " connections by %u threads in %.1f s, %zu descriptors\n",
                std::string(door().backend()).c_str(), wanted.connections, client_threads,
                seconds_since(begin_ns), open_fd_count());
    std::fflush(stdout);

    const std::uint64_t start_ns = now_ns();
    in_threads(crowds, [&](crowd& one) { one.start(seen[0], until); });
    check(seen[0].results + seen[0].errors == 0, "calls ended before the server was let work");
    std::printf("note: %" PRIu64 " calls in flight after %.1f s\n", seen[0].started.load(),
                seconds_since(start_ns));
    std::fflush(stdout);

    const std::uint64_t work_ns = now_ns();
    std::thread killer([&] {
        while (books[0]->done < half && !until.is_past()) std::this_thread::sleep_for(200us);
        first.kill();
        first.wait();
        gates[1].listen.open();
    });
    gates[0].work.open();
    std::exception_ptr wrong;
    try {
        in_threads(crowds, [&](crowd& one) { one.finish_connections(until); });
    } catch (...) {
        wrong = std::current_exception();
    }
    killer.join();
    if (wrong) std::rethrow_exception(wrong);
    const double killed_s = seconds_since(work_ns);

    std::string numbers;
    for (const auto& one : crowds) {
        for (const auto& [number, count] : one.error_numbers()) {
            check(number == EPIPE, "a call ended with " + std::string(std::strerror(number)));
            numbers += (numbers.empty() ? "" : " + ") + std::to_string(count);
        }
    }
    std::printf("note: killed after %" PRIu64 " of them: %" PRIu64 " results, %" PRIu64
                " errors (EPIPE: %s) in %.1f s\n",
                books[0]->done.load(), seen[0].results.load(), seen[0].errors.load(),
                numbers.c_str(), killed_s);
    std::fflush(stdout);
    check(seen[0].started == wanted.all(), "calls started: " + std::to_string(seen[0].started));
    check(seen[0].results + seen[0].errors == seen[0].started, "calls that ended in nothing");
    check(seen[0].results <= books[0]->done, "more results than the server has made");
    check(books[0]->done >= half && books[0]->done <= half + half / 2,
          "the server was not killed in the middle: " + std::to_string(books[0]->done));
    check(books[0]->connected == wanted.connections,
          "connections of the first server: " + std::to_string(books[0]->connected));

    const std::uint64_t again_ns = now_ns();
    in_threads(crowds, [&](crowd& one) {
        one.connect(until);
        one.start(seen[1], until);
        one.finish_calls(until);
    });
    const double again_s = seconds_since(again_ns);
    gates[1].stop.open();
    check(second.wait().exited(), "the second server did not end as it should");
    std::printf("note: restarted: %" PRIu64 " connections again, %" PRIu64 " calls again, %" PRIu64
                " results, %" PRIu64 " errors in %.1f s; %" PRIu64 " wrong results in all\n",
                books[1]->connected.load(), seen[1].started.load(), seen[1].results.load(),
                seen[1].errors.load(), again_s, seen[0].wrong + seen[1].wrong);
    std::fflush(stdout);
    check(seen[1].started == seen[0].errors, "calls started again");
    check(seen[1].errors == 0 && seen[1].results == seen[1].started, "calls that failed again");
    check(seen[0].results + seen[1].results == wanted.all(), "results of all calls");
    check(seen[0].wrong + seen[1].wrong == 0, "wrong results");
    check(books[1]->connected == wanted.connections, "connections of the second server");
    check(books[1]->begun == seen[1].started && books[1]->done == seen[1].started &&
              books[1]->calls == seen[1].started && books[1]->failed == 0,
          "calls in the second server's books: " + std::to_string(books[1]->calls));
}

}  // namespace

int main(int argc, char** argv) try {
    plan wanted;
    if (argc == 3 || argc == 4) {
        wanted.connections = std::strtoull(argv[1], nullptr, 10);
        wanted.calls = std::strtoull(argv[2], nullptr, 10);
    }
    if (wanted.connections < client_threads || wanted.calls == 0) {
        std::fprintf(stderr, "usage: rpc_flood CONNECTIONS CALLS [USER]\n");
        return 2;
    }
    allow_descriptors(descriptors_needed(wanted));
    if (argc == 4) {
        const auto uid = static_cast<uid_t>(std::strtoul(argv[3], nullptr, 10));
        check(become_user(uid, uid), "cannot become user " + std::to_string(uid));
        std::printf("note: user %u may hold %s endpoints, %s bytes\n", uid,
                    parameter("user_max_endpoints").c_str(), parameter("user_max_bytes").c_str());
    }
    flood(wanted);
    return 0;
} catch (const std::exception& wrong) {
    std::fflush(stdout);
    std::fprintf(stderr, "rpc_flood: %s\n", wrong.what());
    return 1;
}
