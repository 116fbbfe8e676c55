// SPDX-License-Identifier: MIT
// One process publishes to many that are killed at random, and replaced; now and then it is
// killed itself, and a successor takes its names.
//
//     publish_kills [--seconds S] [--subscribers N] [--seed N]
//
//   --seconds      of kills, 10 unless given
//   --subscribers  1 to 64, 64 unless given
//   --seed         of the random numbers; printed
//
// The publisher has three names, one for each policy for slow subscribers, and a third of
// the subscribers each: numbered samples of 64 bytes to 64 KiB that carry a checksum, and a
// history. Subscribers are fast or slow, hold some, poll or sleep, leave and come back. None
// may see a torn sample or one out of order, held or not; who blocks the publisher loses none,
// the others as many as their counters say; after a publisher's death everything that it had
// published arrives, then EPIPE. All get on: who waits for a minute or two is stuck, and the
// program ends with 1. In the end every chunk is free, and no descriptor, name, endpoint or
// byte of the module's is left.
//
// The back end and the source are those of support/door_under_test.hpp.
#include <fcntl.h>
#include <linux/ipcdoor.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "support/door_under_test.hpp"
#include "support/process.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr std::chrono::seconds stuck_after{120};

constexpr std::size_t max_subscribers = 64;
constexpr std::size_t max_sample_bytes = 64 << 10;
constexpr std::uint32_t queue = 8;
constexpr std::uint32_t history = 4;
constexpr std::uint32_t max_held = 3;

struct policy {
    const char* name;
    slow_subscriber slow;
};
constexpr std::array<policy, 3> policies{{{"block", slow_subscriber::block},
                                          {"drop-oldest", slow_subscriber::drop_oldest},
                                          {"drop-newest", slow_subscriber::drop_newest}}};

void check(bool right, const std::string& what) {
    if (!right) throw std::runtime_error(what);
}

// ---- what outlives a process ----

struct publisher_books {
    std::array<std::atomic<std::uint64_t>, policies.size()> published;  // for sure
};
struct subscriber_books {
    std::atomic<std::uint64_t> taken;
    std::atomic<std::uint64_t> lost;  // and counted
    std::atomic<std::uint64_t> reconnects;
};
// More publishers than this are never killed while a subscriber looks up one of them.
constexpr std::size_t remembered_publishers = 1024;

struct all_books {
    std::array<publisher_books, remembered_publishers> publishers;
    std::array<subscriber_books, max_subscribers> subscribers;
    std::atomic<std::uint32_t> failures;
    std::atomic<bool> finish;  // no more kills: subscribers end, then the publisher
};

publisher_books& books_of(all_books& books, std::uint64_t publisher) {
    return books.publishers[publisher % remembered_publishers];
}

std::string name_of(std::size_t which) {
    static const pid_t supervisor = ::getpid();
    return std::string(policies[which].name) + "-" + std::to_string(supervisor);
}

// ---- samples ----

struct sample_header {
    std::uint64_t checksum;  // of all that follows
    std::uint64_t publisher;
    std::uint64_t number;
    std::uint64_t policy;
    std::uint64_t bytes;
};
constexpr std::size_t min_sample_bytes = 64;
static_assert(sizeof(sample_header) <= min_sample_bytes);

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
    std::uint64_t sum = bytes.size();
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
        std::uint64_t word;
        std::memcpy(&word, bytes.data() + at, 8);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15;
        sum ^= sum >> 29;
    }
    return sum;
}

// As many sizes of each order, in words.
std::size_t random_size(std::minstd_rand& random) {
    const std::size_t most = min_sample_bytes << random() % 11;
    const std::size_t bytes = most - random() % most / 2;
    return std::max(min_sample_bytes, bytes / 8 * 8);
}

void fill(loan& into, sample_header header, std::minstd_rand& random) {
    header.bytes = random_size(random);
    into.resize(header.bytes);
    const std::span<std::byte> bytes = into.bytes();
    std::uint64_t word = header.number * 0x2545f4914f6cdd1d + header.publisher;
    for (std::size_t at = sizeof header; at < bytes.size(); at += 8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        std::memcpy(bytes.data() + at, &word, 8);
    }
    std::memcpy(bytes.data(), &header, sizeof header);
    header.checksum = checksum_of(std::span<const std::byte>(bytes).subspan(8));
    std::memcpy(bytes.data(), &header, 8);
}

sample_header checked(const sample& got, std::size_t which) {
    check(got.size() >= sizeof(sample_header), "a sample is too short");
    const auto header = *reinterpret_cast<const sample_header*>(got.bytes().data());
    check(header.checksum == checksum_of(got.bytes().subspan(8)), "a sample is torn");
    check(header.bytes == got.size(), "a sample has another length");
    check(header.number == got.sequence(), "a sample has another number");
    check(header.policy == which, "a sample of another publisher");
    return header;
}

// ---- the publisher ----

publisher_options options_of(std::size_t which, std::uint32_t all_subscribers) {
    // A third of them, and as many that have died and are not missed yet.
    const std::uint32_t living = all_subscribers / policies.size() + 1;
    const std::uint32_t subscribers = 2 * living;
    publisher_options options;
    options.chunk_bytes = max_sample_bytes;
    options.queue = queue;
    options.history = history;
    options.max_held = max_held;
    options.max_subscribers = subscribers;
    options.slow = policies[which].slow;
    options.source = source();
    // With block so few that lend() has to wait, too. All can be lent at once, in the end.
    const std::uint32_t queued =
        options.slow == slow_subscriber::drop_newest ? subscribers * queue : queue;
    options.chunks = options.slow == slow_subscriber::block
                         ? queue + history + 2 + living
                         : queued + history + 2 + subscribers * max_held;
    options.max_loans = options.chunks - history;
    return options;
}

void publish_until_the_end(all_books& books, std::uint64_t self, std::size_t which,
                           publisher& paper, std::uint64_t seed) {
    std::minstd_rand random(static_cast<std::uint32_t>(seed));
    std::atomic<std::uint64_t>& published = books_of(books, self).published[which];
    while (!books.finish) {
        loan next = paper.lend(stuck_after);
        fill(next, {0, self, published + 1, which, 0}, random);
        published = paper.publish(std::move(next), stuck_after);
        // Who never waits for its subscribers gives them a moment at times.
        if (policies[which].slow != slow_subscriber::block && random() % 4 == 0)
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 2'000));
    }
    // Until all of them have left.
    const std::uint64_t limit = now_ns() + std::chrono::nanoseconds(stuck_after).count();
    while (paper.subscribers() != 0) {
        check(now_ns() < limit, "subscribers are there that have left");
        paper.poll();
        std::this_thread::sleep_for(1ms);
    }
    const publisher_stats stats = paper.stats();
    check(stats.broken == 0, "subscribers broke the protocol");
    check(stats.came == stats.gone, "other subscribers left than came");
    std::vector<loan> all;
    while (all.size() < paper.chunks() - history) all.push_back(paper.lend(stuck_after));
}

int run_publisher(all_books& books, std::uint64_t self, std::uint32_t subscribers,
                  std::uint64_t seed) {
    const std::size_t descriptors = open_fd_count();
    {
        door at(door_uri());
        std::vector<publisher> papers;
        for (std::size_t which = 0; which < policies.size(); ++which)
            papers.emplace_back(at, name_of(which), options_of(which, subscribers));
        std::vector<std::thread> publishing;
        for (std::size_t which = 0; which < papers.size(); ++which) {
            publishing.emplace_back([&, which] {
                try {
                    publish_until_the_end(books, self, which, papers[which], seed + which);
                } catch (const std::exception& wrong) {
                    std::printf("FAILED: publisher %s: %s\n", policies[which].name, wrong.what());
                    std::fflush(stdout);
                    ++books.failures;
                    ::_exit(1);
                }
            });
        }
        for (std::thread& one : publishing) one.join();
    }
    check(open_fd_count() == descriptors, "the publisher left descriptors open");
    return 0;
}

// ---- the subscribers ----

// Nothing where there is no publisher at this moment.
std::optional<subscriber> try_subscribe(door& at, std::size_t which) {
    try {
        return subscriber(at, name_of(which), {}, stuck_after);
    } catch (const error& wrong) {
        switch (wrong.error_number()) {
            case ENOENT:
            case ECONNREFUSED:
            case EPIPE: return std::nullopt;
            default: throw;
        }
    }
}

// What one subscription has come to.
class account {
public:
    account(all_books& books, std::size_t which) : books_(books), which_(which) {}

    void add(const sample& got, const subscriber_stats& stats) {
        const sample_header header = checked(got, which_);
        if (last_ == 0) {
            publisher_ = header.publisher;
            first_ = header.number - stats.dropped;
            published_then_ = published();
        }
        check(header.publisher == publisher_, "another publisher on the same connection");
        check(header.number > last_, "a sample out of order");
        last_ = header.number;
        const std::uint64_t all = last_ - first_ + 1;
        switch (policies[which_].slow) {
            case slow_subscriber::block: check(stats.taken == all, "a sample was lost"); break;
            case slow_subscriber::drop_oldest:
                check(stats.taken + stats.dropped == all, "others were lost than counted");
                break;
            case slow_subscriber::drop_newest:
                // Some that were counted may be behind this one.
                check(stats.taken + stats.missed >= all, "more were lost than counted");
                break;
        }
    }
    // The publisher is gone, and everything was taken.
    void end(const subscriber_stats& stats) const {
        if (last_ == 0) return;
        const std::uint64_t sure = published();
        // Else it may have died in the middle of the history.
        if (sure <= published_then_) return;
        const std::uint64_t all =
            stats.taken + stats.dropped + stats.missed + first_ - 1;  // the last that was put
        check(all == sure || all == sure + 1,
              "not all that was published came or was counted: " + std::to_string(all) + " of " +
                  std::to_string(sure));
        if (policies[which_].slow == slow_subscriber::drop_newest) return;
        check(last_ >= sure, "the last samples did not come");
    }

private:
    std::uint64_t published() const { return books_of(books_, publisher_).published[which_]; }

    all_books& books_;
    const std::size_t which_;
    std::uint64_t publisher_ = 0;
    std::uint64_t first_ = 0;  // that was put into the queue
    std::uint64_t last_ = 0;
    std::uint64_t published_then_ = 0;
};

// Until the publisher dies, it is over, or this one has had enough.
void read(all_books& books, subscriber_books& own, std::size_t which, subscriber& from,
          std::minstd_rand& random) {
    account seen(books, which);
    std::vector<std::pair<sample, std::uint64_t>> held;
    const auto release = [&](std::size_t keep) {
        while (held.size() > keep) {
            const auto oldest = held.begin();
            const std::uint64_t checksum = oldest->second;
            check(checked(oldest->first, which).checksum == checksum,
                  "a sample changed while it was held");
            held.erase(oldest);
        }
    };
    const unsigned slowness = random() % 3 == 0 ? 20 : 1'000;
    const bool polls = random() % 2 == 0;
    std::uint64_t lost = 0;
    try {
        for (;;) {
            std::optional<sample> got = from.try_take();
            if (!got) {
                if (books.finish) break;
                // A publisher that needs a chunk gets it before this one waits.
                release(0);
                if (polls) {
                    pollfd wanted{from.fd(), POLLIN, 0};
                    ::poll(&wanted, 1, 100);
                    continue;
                }
                try {
                    got.emplace(from.take(100ms));
                } catch (const error& wrong) {
                    if (!wrong.is_timeout()) throw;
                    continue;
                }
            }
            const subscriber_stats stats = from.stats();
            seen.add(*got, stats);
            own.lost += stats.dropped + stats.missed - lost;
            lost = stats.dropped + stats.missed;
            ++own.taken;
            const std::uint64_t checksum = checked(*got, which).checksum;
            held.emplace_back(std::move(*got), checksum);
            release(random() % max_held);
            if (random() % slowness == 0)
                std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
            if (random() % 4'000 == 0) {
                release(1);
                return;  // with one in use
            }
        }
    } catch (const error& wrong) {
        if (!wrong.is_peer_death()) throw;
        seen.end(from.stats());
        release(0);
    }
}

int run_subscriber(all_books& books, std::size_t self, std::uint64_t seed) {
    const std::size_t which = self % policies.size();
    subscriber_books& own = books.subscribers[self];
    const std::size_t descriptors = open_fd_count();
    try {
        std::minstd_rand random(static_cast<std::uint32_t>(seed));
        std::uint64_t limit = 0;
        while (!books.finish) {
            door at(door_uri());
            std::optional<subscriber> from = try_subscribe(at, which);
            const std::uint64_t now = now_ns();
            if (from) {
                limit = 0;
                ++own.reconnects;
                read(books, own, which, *from, random);
                continue;
            }
            if (limit == 0) limit = now + std::chrono::nanoseconds(stuck_after).count();
            check(now < limit, "no publisher comes");
            std::this_thread::sleep_for(1ms);
        }
        check(open_fd_count() == descriptors, "a subscriber left descriptors open");
    } catch (const std::exception& wrong) {
        std::printf("FAILED: subscriber %zu, %s: %s\n", self, policies[which].name, wrong.what());
        ++books.failures;
        return 1;
    }
    return 0;
}

// ---- what may be left behind ----

bool is_device(const std::string& text) { return text.starts_with("door:"); }

struct ipcdoor_info module_info() {
    const unique_fd device(::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC));
    struct ipcdoor_info info {};
    check(device && ::ioctl(device.get(), IPCDOOR_IOC_GET_INFO, &info) == 0,
          "/dev/ipcdoor0 does not answer");
    return info;
}

// Names under which nobody is any more.
std::vector<std::string> names_left(const std::string& directory) {
    std::vector<std::string> left;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
        if (entry.path().extension() == ".sock" || entry.path().extension() == ".seg")
            left.push_back(entry.path());
    return left;
}

class leftovers {
public:
    leftovers() : descriptors_(open_fd_count()) {
        if (is_device(door_uri())) before_ = module_info();
    }
    void check_none() const {
        check(open_fd_count() == descriptors_, "descriptors are left");
        if (door_uri().starts_with("soft:/")) {
            const auto names = names_left(door_uri().substr(5));
            check(names.empty(), "a name is left: " + (names.empty() ? "" : names[0]));
        }
        if (!is_device(door_uri())) return;
        // What a dying process had half made may be freed after a grace period.
        const std::uint64_t limit = now_ns() + 20'000'000'000;
        struct ipcdoor_info after = module_info();
        while ((after.user_endpoints != before_.user_endpoints ||
                after.user_bytes != before_.user_bytes) &&
               now_ns() < limit) {
            std::this_thread::sleep_for(10ms);
            after = module_info();
        }
        check(after.user_endpoints == before_.user_endpoints,
              "endpoints are left: " + std::to_string(after.user_endpoints));
        check(after.user_bytes == before_.user_bytes,
              "bytes are left: " + std::to_string(after.user_bytes));
    }

private:
    const std::size_t descriptors_;
    struct ipcdoor_info before_ {};
};

// ---- the supervisor ----

class storm {
public:
    storm(std::uint32_t subscribers, std::uint64_t seed) : random_(seed) {
        subscribers_.resize(subscribers);
        start_publisher();
        for (std::size_t i = 0; i < subscribers; ++i) start_subscriber(i);
    }

    void run(std::chrono::seconds how_long) {
        // The serial port of a guest is one, too.
        const char* const terminal = std::getenv("TERM");
        const bool shows = ::isatty(STDOUT_FILENO) == 1 && terminal != nullptr &&
                           std::string_view(terminal) != "dumb";
        const auto begin = std::chrono::steady_clock::now();
        auto shown = begin;
        std::uint64_t until_all_get_on = 0;
        while (std::chrono::steady_clock::now() - begin < how_long) {
            std::this_thread::sleep_for(std::chrono::microseconds(random_() % 40'000));
            if (random_() % 64 == 0)
                kill_publisher();
            else
                kill_subscriber(random_() % subscribers_.size());
            if (++until_all_get_on % 256 == 0) await_progress();
            const auto now = std::chrono::steady_clock::now();
            if (!shows || now - shown < 1s) continue;
            shown = now;
            std::printf("\r%3lld s: %" PRIu64 " kills of subscribers, %" PRIu64
                        " of the publisher, %" PRIu64 " samples taken ",
                        static_cast<long long>((now - begin) / 1s), kills_, publisher_kills_,
                        taken());
            std::fflush(stdout);
        }
        if (shows) std::printf("\r\033[K");
        await_progress();
    }

    void finish() {
        books_->finish = true;
        for (child& one : subscribers_)
            check(one.wait(stuck_after).exited(0), "a subscriber did not end well");
        check(publisher_.wait(stuck_after).exited(0), "the publisher did not end well");
        check(books_->failures == 0, "somebody failed");
    }

    void sum_up() const {
        std::uint64_t lost = 0;
        std::uint64_t connections = 0;
        for (const subscriber_books& one : books_->subscribers) {
            lost += one.lost;
            connections += one.reconnects;
        }
        std::printf("note: %" PRIu64 " kills: %" PRIu64 " of %zu subscribers, %" PRIu64
                    " of the publisher; %" PRIu64 " subscriptions, %" PRIu64
                    " samples taken, %" PRIu64 " dropped and counted\n",
                    kills_ + publisher_kills_, kills_, subscribers_.size(), publisher_kills_,
                    connections, taken(), lost);
    }

private:
    void start_publisher() {
        const std::uint64_t self = ++publishers_;
        for (auto& published : books_of(*books_, self).published) published = 0;
        const auto most = static_cast<std::uint32_t>(subscribers_.size());
        publisher_ = child([this, self, most, seed = random_()] {
            return run_publisher(*books_, self, most, seed);
        });
    }
    void start_subscriber(std::size_t which) {
        subscribers_[which] =
            child([this, which, seed = random_()] { return run_subscriber(*books_, which, seed); });
    }
    void kill_publisher() {
        publisher_.kill();
        check(publisher_.wait().signaled(SIGKILL), "the publisher ended by itself");
        ++publisher_kills_;
        start_publisher();
    }
    void kill_subscriber(std::size_t which) {
        subscribers_[which].kill();
        check(subscribers_[which].wait().signaled(SIGKILL), "a subscriber ended by itself");
        ++kills_;
        start_subscriber(which);
    }

    // Each of them takes another sample.
    void await_progress() {
        for (std::size_t i = 0; i < subscribers_.size(); ++i) {
            const std::atomic<std::uint64_t>& count = books_->subscribers[i].taken;
            const std::uint64_t before = count;
            const std::uint64_t limit = now_ns() + std::chrono::nanoseconds(stuck_after).count();
            while (count == before) {
                check(books_->failures == 0, "somebody failed");
                check(now_ns() < limit, "subscriber " + std::to_string(i) + " is stuck");
                std::this_thread::sleep_for(200us);
            }
        }
    }

    std::uint64_t taken() const {
        std::uint64_t all = 0;
        for (const subscriber_books& one : books_->subscribers) all += one.taken;
        return all;
    }

    shared<all_books> books_;
    std::mt19937_64 random_;
    child publisher_;
    std::vector<child> subscribers_;
    std::uint64_t publishers_ = 0;
    std::uint64_t kills_ = 0;
    std::uint64_t publisher_kills_ = 0;
};

// False where the text is no number, or none of those.
bool parse(std::string_view text, std::uint64_t least, std::uint64_t most, std::uint64_t& number) {
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && number >= least &&
           number <= most;
}

}  // namespace

int main(int argc, char** argv) try {
    std::uint64_t seconds = 10;
    std::uint64_t subscribers = max_subscribers;
    std::uint64_t seed = std::random_device{}();
    bool understood = argc % 2 == 1;
    for (int i = 1; understood && i < argc; i += 2) {
        const std::string_view option = argv[i];
        if (option == "--seconds")
            understood = parse(argv[i + 1], 1, 1'000'000, seconds);
        else if (option == "--subscribers")
            understood = parse(argv[i + 1], 1, max_subscribers, subscribers);
        else if (option == "--seed")
            understood = parse(argv[i + 1], 0, ~std::uint64_t{0}, seed);
        else
            understood = false;
    }
    if (!understood) {
        std::fprintf(stderr,
                     "usage: publish_kills [--seconds S] [--subscribers N] [--seed N]\n"
                     "1 to %zu subscribers\n",
                     max_subscribers);
        return 2;
    }
    std::printf("seed %" PRIu64 "\n", seed);
    // The children's, too.
    static_cast<void>(name_of(0));
    static_cast<void>(source());
    const leftovers left;
    {
        storm kills(static_cast<std::uint32_t>(subscribers), seed);
        kills.run(std::chrono::seconds(seconds));
        kills.finish();
        kills.sum_up();
    }
    left.check_none();
    std::printf("ok\n");
    return 0;
} catch (const std::exception& wrong) {
    std::printf("FAILED: %s\n", wrong.what());
    return 1;
}
