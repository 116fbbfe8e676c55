// SPDX-License-Identifier: MIT
// usage: door_storm
//
// An ordinary user rings as fast as the machine can, and a bystander of another user
// goes on with its own work on the CPU that the interrupts come on: it counts, or it
// plays ping-pong through a door of its own. For each storm short slices alternate:
//
//   idle       the attackers sleep
//   control    the attackers' threads burn CPU time where they would storm
//   limited    they storm
//   unlimited  they storm, user_max_interrupt_percent is 0
//
// The control takes the scheduler's fair share out of it: what is left is what the
// storm steals. With the limit the bystander must keep half of its control.
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/process.hpp"
#include "uapi/uapi.hpp"

using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

constexpr unsigned ringers_cpu = 0;
constexpr unsigned bystander_cpu = 1;
constexpr unsigned rounds = 12;
constexpr unsigned most_rounds = 10 * rounds;  // while the host has no time for the guest
constexpr auto slice = 20ms;
constexpr auto settle = 4ms;
constexpr double least_kept = 0.5;
const std::string limit_file = "/sys/module/ipcdoor/parameters/user_max_interrupt_percent";

enum class phase : std::uint32_t { idle, control, limited, unlimited, over };
constexpr std::array measured{phase::idle, phase::control, phase::limited, phase::unlimited};

// What attackers, bystander and referee share.
struct field {
    std::atomic<phase> now{phase::idle};
    std::atomic<std::uint64_t> progress{0};
    std::atomic<std::uint64_t> rings{0};
    std::atomic<std::uint32_t> ready{0};
    // by the phase that they happened in
    std::array<std::atomic<std::uint64_t>, measured.size()> interrupts{};
};

bool storming(phase now) { return now == phase::limited || now == phase::unlimited; }

void pause_for(std::chrono::microseconds time) { std::this_thread::sleep_for(time); }

void check(bool good, const std::string& what) {
    if (!good) throw std::runtime_error(what);
}

// A thread of an attacker: `storm` once and again while it is time for it.
void attack(field& all, unsigned cpu, const std::function<void()>& storm) {
    check(run_on_cpu(cpu), "cannot run on CPU " + std::to_string(cpu));
    ++all.ready;
    for (;;) {
        const phase now = all.now;
        if (now == phase::over) return;
        if (storming(now)) storm();
        if (now == phase::idle) pause_for(1ms);
        // control: burns time by looking
    }
}

// --- the attackers' endpoints ----------------------------------------------------

// Slot 1 of a segment, set up by a thread on the bystander's CPU, so that the
// interrupts are aimed there.
struct target {
    endpoint ringer;
    endpoint receiver;
    unique_fd eventfd;
};

ipcdoor_create storm_args(std::uint32_t source) {
    auto args = create_args();
    args.source = source;
    return args;
}

void bind_unread(target& to, std::uint64_t mask) {
    to.eventfd = unique_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ipcdoor_bind_eventfd args{};
    args.fd = to.eventfd.get();
    args.mask = mask;
    check(call(to.receiver.fd, IPCDOOR_IOC_BIND_EVENTFD, &args) == 0, "BIND_EVENTFD");
}

target make_target(const unique_fd& door, std::uint32_t source) {
    check(run_on_cpu(bystander_cpu), "no second CPU");
    auto both = attached_pair(door, storm_args(source));
    take(both.b, lifecycle_bit);
    return {std::move(both.a), std::move(both.b), unique_fd()};
}

void ring_on(field& all, const endpoint& from, std::uint32_t slot, unsigned vector) {
    constexpr unsigned batch = 16;
    for (unsigned i = 0; i < batch; ++i) check(ring(from, slot, vector, i) == 0, "RING");
    all.rings += batch;
}

// Sleeps in WAIT for vector 1 and takes what comes.
void sleep_on(const endpoint& on) {
    const int error = wait(on, bit(1), deadline_in(5ms)).error;
    check(error == 0 || error == -ETIMEDOUT, "WAIT");
}

// --- the storms ------------------------------------------------------------------

using attackers = std::vector<std::thread>;

attackers storm_of_wakes(field& all, target& to) {
    attackers started;
    started.emplace_back([&] { attack(all, bystander_cpu, [&] { sleep_on(to.receiver); }); });
    started.emplace_back([&] { attack(all, ringers_cpu, [&] { ring_on(all, to.ringer, 1, 1); }); });
    return started;
}

attackers storm_on_eventfd(field& all, target& to) {
    bind_unread(to, bit(1));
    attackers started;
    started.emplace_back([&] { attack(all, ringers_cpu, [&] { ring_on(all, to.ringer, 1, 1); }); });
    return started;
}

// A thread sleeps for good, and what is rung is not what it waits for.
attackers storm_past_a_sleeper(field& all, target& to) {
    attackers started;
    started.emplace_back([&] {
        check(run_on_cpu(bystander_cpu), "no second CPU");
        ++all.ready;
        while (all.now != phase::over) wait(to.receiver, bit(5), deadline_in(200ms));
    });
    started.emplace_back([&] { attack(all, ringers_cpu, [&] { ring_on(all, to.ringer, 1, 6); }); });
    return started;
}

// Each ring wakes several, in one interrupt.
attackers storm_on_several(field& all, target& to) {
    constexpr unsigned crowd = 2;  // with more the control would have nothing left
    attackers started;
    for (unsigned i = 0; i < crowd; ++i)
        started.emplace_back([&] {
            std::array<std::uint64_t, IPCDOOR_VECTORS> seen{};
            attack(all, bystander_cpu, [&] {
                ipcdoor_wait args{};
                args.mask = bit(1);
                args.deadline_ns = deadline_in(5ms);
                args.seen = reinterpret_cast<std::uintptr_t>(seen.data());
                const int error = call(to.receiver.fd, IPCDOOR_IOC_WAIT, &args);
                check(error == 0 || error == -ETIMEDOUT, "WAIT");
            });
        });
    started.emplace_back([&] { attack(all, ringers_cpu, [&] { ring_on(all, to.ringer, 1, 1); }); });
    return started;
}

// On the bystander's own CPU.
attackers storm_on_itself(field& all, target& to) {
    bind_unread(to, bit(1));
    attackers started;
    started.emplace_back(
        [&] { attack(all, bystander_cpu, [&] { ring_on(all, to.receiver, 1, 1); }); });
    return started;
}

// Everything bound: a poller that acknowledges, an eventfd, a signal.
attackers storm_on_a_poller(field& all, target& to) {
    bind_unread(to, bit(1));
    attackers started;
    started.emplace_back([&] {
        ::signal(SIGUSR1, SIG_IGN);
        ipcdoor_bind_signal args{};
        args.signo = SIGUSR1;
        args.mask = bit(1);
        check(call(to.receiver.fd, IPCDOOR_IOC_BIND_SIGNAL, &args) == 0, "BIND_SIGNAL");
        attack(all, bystander_cpu, [&] {
            if ((poll_now(to.receiver.get(), POLLIN, 5) & POLLIN) != 0) take(to.receiver, bit(1));
        });
    });
    started.emplace_back([&] { attack(all, ringers_cpu, [&] { ring_on(all, to.ringer, 1, 1); }); });
    return started;
}

// Joins and leaves a segment with many others, who all are told.
attackers storm_of_joins(field& all, const unique_fd& door, std::vector<target>& seats) {
    attackers started;
    started.emplace_back([&] {
        attack(all, ringers_cpu, [&] {
            attach_to(door, seats.front().receiver);
            all.rings += 2 * seats.size();
        });
    });
    return started;
}

attackers storm_on_many(field& all, std::vector<target>& targets) {
    attackers started;
    started.emplace_back([&] {
        attack(all, ringers_cpu, [&] {
            for (auto& to : targets) check(ring(to.ringer, 1, 1) == 0, "RING");
            all.rings += targets.size();
        });
    });
    return started;
}

struct scenario {
    const char* name;
    std::uint32_t source;
    bool ping_pong;  // what the bystander does
    std::function<attackers(field&, const unique_fd&, std::vector<target>&)> start;
};

attackers with_one(field& all, const unique_fd& door, std::vector<target>& targets,
                   std::uint32_t source, attackers (*start)(field&, target&)) {
    targets.push_back(make_target(door, source));
    return start(all, targets.front());
}

scenario one_target(const char* name, std::uint32_t source, attackers (*start)(field&, target&),
                    bool ping_pong = false) {
    return {name, source, ping_pong, [=](auto& all, const auto& door, auto& targets) {
                return with_one(all, door, targets, source, start);
            }};
}

using starter = attackers (*)(field&, const unique_fd&, std::vector<target>&, std::uint32_t);

scenario with_many(const char* name, std::uint32_t source, starter start, bool ping_pong = false) {
    return {name, source, ping_pong, [=](auto& all, const auto& door, auto& targets) {
                return start(all, door, targets, source);
            }};
}

attackers many_segments(field& all, const unique_fd& door, std::vector<target>& targets,
                        std::uint32_t source) {
    constexpr unsigned segments = 64;
    for (unsigned i = 0; i < segments; ++i) {
        targets.push_back(make_target(door, source));
        bind_unread(targets.back(), bit(1));
    }
    return storm_on_many(all, targets);
}

// Eventfds that a crowd of epoll instances watches: each of them is told in the
// interrupt, and nobody has to run before the next one.
attackers watched_segments(field& all, const unique_fd& door, std::vector<target>& targets,
                           std::uint32_t source) {
    constexpr unsigned segments = 64;
    constexpr unsigned watchers = 100;
    std::vector<int> epolls;  // they end with the process
    for (unsigned i = 0; i < watchers; ++i) epolls.push_back(::epoll_create1(EPOLL_CLOEXEC));
    for (unsigned i = 0; i < segments; ++i) {
        targets.push_back(make_target(door, source));
        bind_unread(targets.back(), bit(1));
        for (const int epoll : epolls) {
            epoll_event wanted{};
            wanted.events = EPOLLIN;
            check(::epoll_ctl(epoll, EPOLL_CTL_ADD, targets.back().eventfd.get(), &wanted) == 0,
                  "EPOLL_CTL_ADD");
        }
    }
    return storm_on_many(all, targets);
}

attackers full_segment(field& all, const unique_fd& door, std::vector<target>& targets,
                       std::uint32_t source) {
    constexpr unsigned seats = 64;
    check(run_on_cpu(bystander_cpu), "no second CPU");
    auto args = storm_args(source);
    args.slots = seats + 1;  // one is left to join
    targets.push_back({endpoint(), create(door, args), unique_fd()});
    while (targets.size() < seats)
        targets.push_back({endpoint(), attach_to(door, targets.front().receiver), unique_fd()});
    for (auto& to : targets) bind_unread(to, lifecycle_bit);
    return storm_of_joins(all, door, targets);
}

std::vector<scenario> scenarios() {
    constexpr auto ipi = IPCDOOR_SOURCE_IPI;
    constexpr auto msi = IPCDOOR_SOURCE_MSI;
    constexpr auto timer = IPCDOOR_SOURCE_TIMER;
    constexpr auto direct = IPCDOOR_SOURCE_DIRECT;
    return {
        one_target("an unread eventfd, ipi", ipi, storm_on_eventfd),
        one_target("an unread eventfd, msi", msi, storm_on_eventfd),
        one_target("an unread eventfd, timer", timer, storm_on_eventfd),
        with_many("64 eventfds that 100 epolls watch, ipi", ipi, watched_segments),
        with_many("64 eventfds that 100 epolls watch, msi", msi, watched_segments),
        with_many("the same, ipi, against a ping-pong", ipi, watched_segments, true),
        one_target("a sleeper in WAIT, ipi", ipi, storm_of_wakes),
        one_target("a sleeper in WAIT, msi", msi, storm_of_wakes),
        one_target("a sleeper in WAIT, timer", timer, storm_of_wakes),
        one_target("a sleeper in WAIT, direct", direct, storm_of_wakes),
        one_target("a sleeper in WAIT, ipi, against a ping-pong", ipi, storm_of_wakes, true),
        one_target("past a sleeper in WAIT, ipi", ipi, storm_past_a_sleeper),
        one_target("two sleepers in WAIT, ipi", ipi, storm_on_several),
        one_target("poller, eventfd and signal, ipi", ipi, storm_on_a_poller),
        one_target("rings to itself, ipi", ipi, storm_on_itself),
        one_target("rings to itself, timer", timer, storm_on_itself),
        with_many("64 segments with unread eventfds, ipi", ipi, many_segments),
        with_many("joins and leaves among 64, ipi", ipi, full_segment),
    };
}

// --- the bystander -----------------------------------------------------------------

void count(field& all) {
    check(run_on_cpu(bystander_cpu), "no second CPU");
    ++all.ready;
    while (all.now != phase::over) {
        volatile unsigned work = 0;
        for (unsigned i = 0; i < 1000; ++i) work = work + i;
        ++all.progress;
    }
}

void play(field& all, const unique_fd& door) {
    check(run_on_cpu(bystander_cpu), "no second CPU");
    const auto own = create(door);
    gate seated;
    child partner([&] {
        const auto peer = attach_to(door, own);
        seated.open();
        while (wait_long(peer, bit(1)).error == 0)
            if (ring(peer, 0, 2) != 0) break;
        return 0;
    });
    seated.wait();
    ++all.ready;
    while (all.now != phase::over) {
        check(ring(own, 1, 1) == 0, "RING of the bystander");
        check(wait(own, bit(2), deadline_in(20'000ms)).error == 0, "WAIT of the bystander");
        ++all.progress;
    }
}

// --- the referee -------------------------------------------------------------------

void set_limit(const std::string& percent) {
    check(static_cast<bool>(std::ofstream(limit_file) << percent << std::flush),
          limit_file + " cannot be set to " + percent);
}

struct tally {
    std::uint64_t progress = 0;
    std::uint64_t rings = 0;
    std::uint64_t time_ns = 0;

    double rate(std::uint64_t amount) const {
        return static_cast<double>(amount) * 1e9 / static_cast<double>(time_ns);
    }
};

void measure(field& all, phase now, tally& into) {
    all.now = now;
    pause_for(settle);
    const auto begun = now_ns();
    const std::uint64_t progress = all.progress;
    const std::uint64_t rings = all.rings;
    pause_for(slice);
    into.progress += all.progress - progress;
    into.rings += all.rings - rings;
    into.time_ns += now_ns() - begun;
}

class tallies {
public:
    tally& of(phase which) { return by_phase_[static_cast<std::size_t>(which)]; }
    double progress(phase which) { return of(which).rate(of(which).progress); }
    double rings(phase which) { return of(which).rate(of(which).rings); }
    // Of its control.
    double kept(phase storm) { return progress(storm) / progress(phase::control); }
    bool measured_something() {
        return of(phase::control).progress > 0 && of(phase::limited).rings > 0 &&
               of(phase::unlimited).rings > 0;
    }

private:
    std::array<tally, measured.size()> by_phase_;
};

void report(const scenario& one, const field& all, tallies& result) {
    const double idle = result.progress(phase::idle);
    const auto of_idle = [&](phase which) { return 100 * result.progress(which) / idle; };
    const auto interrupts = [&](phase which) {
        return result.of(which).rate(all.interrupts[static_cast<std::size_t>(which)]);
    };
    std::printf(
        "note: %-44s keeps %3.0f %% of its control, %3.0f %% without the limit (of idle: "
        "control %.0f, %.0f, %.0f %%); %.0f, %.0f thousand rings/s, %.0f, %.0f "
        "interrupts/s\n",
        one.name, 100 * result.kept(phase::limited), 100 * result.kept(phase::unlimited),
        of_idle(phase::control), of_idle(phase::limited), of_idle(phase::unlimited),
        result.rings(phase::limited) / 1000, result.rings(phase::unlimited) / 1000,
        interrupts(phase::limited), interrupts(phase::unlimited));
    std::fflush(stdout);
}

// Reads the kernel's counters whenever the phase changes, until the storm is over.
void watch(field& all, const std::vector<target>& targets) {
    check(run_on_cpu(ringers_cpu), "no first CPU");
    std::vector<mapping> pages;
    for (const auto& to : targets) pages.push_back(map_state(to.receiver));
    const auto interrupts = [&] {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < targets.size(); ++i)
            sum += slot_state(pages[i], targets[i].receiver.info.slot).interrupts;
        return sum;
    };
    std::uint64_t before = interrupts();
    for (phase last = all.now; last != phase::over;) {
        pause_for(1ms);
        const phase now = all.now;
        if (now == last) continue;
        const auto after = interrupts();
        all.interrupts[static_cast<std::size_t>(last)] += after - before;
        before = after;
        last = now;
    }
}

// Whether the bystander kept its due. What is short of it is looked at for longer: the
// guest's CPUs may get little time from a busy host.
bool run(const scenario& one, const unique_fd& door, const std::string& percent) {
    shared<field> all;
    auto bystander = child::as_user(other_uid, [&] {
        one.ping_pong ? play(*all, door) : count(*all);
        return 0;
    });
    shared<std::atomic<std::uint32_t>> threads;
    auto attacker = child::as_user(user_uid, [&] {
        std::vector<target> targets;
        auto started = one.start(*all, door, targets);
        *threads = static_cast<std::uint32_t>(started.size());
        watch(*all, targets);
        for (auto& thread : started) thread.join();
        return 0;
    });
    const auto deadline = deadline_in(partner_deadline);
    while (*threads == 0 || all->ready < *threads + 1) {
        check(now_ns() < deadline, "attackers or bystander did not start");
        pause_for(1ms);
    }
    tallies result;
    const auto enough = [&] {
        return result.measured_something() && result.kept(phase::limited) >= least_kept;
    };
    for (unsigned round = 0; round < rounds || (round < most_rounds && !enough()); ++round)
        for (const phase now : measured) {
            set_limit(now == phase::unlimited ? "0" : percent);
            measure(*all, now, result.of(now));
        }
    set_limit(percent);
    all->now = phase::over;
    check(attacker.wait().exited(), std::string(one.name) + ": an attacker failed");
    check(bystander.wait().exited(), std::string(one.name) + ": the bystander failed");
    report(one, *all, result);
    return enough();
}

// The device's interrupts come where the system wants them; here: on the bystander.
void aim_device() {
    std::ifstream interrupts("/proc/interrupts");
    for (std::string line; std::getline(interrupts, line);) {
        if (line.find("ipcdoor-edu") == std::string::npos) continue;
        std::istringstream words(line);
        unsigned number = 0;
        words >> number;
        const auto path = "/proc/irq/" + std::to_string(number) + "/smp_affinity_list";
        check(static_cast<bool>(std::ofstream(path) << bystander_cpu << std::flush), path);
        return;
    }
    throw std::runtime_error("no interrupt of ipcdoor-edu");
}

}  // namespace

int main() {
    if (cpu_count() < 2) {
        std::puts("door_storm needs two CPUs");
        return 77;
    }
    try {
        // The referee's own slices shall not wait for those it judges.
        sched_param first{};
        first.sched_priority = 1;
        check(::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) == 0,
              "sched_setscheduler");
        const auto door = open_door();
        std::string percent;
        std::ifstream(limit_file) >> percent;
        check(!percent.empty() && percent != "0", limit_file + " is no limit");
        std::string cost;
        std::ifstream("/sys/module/ipcdoor/parameters/interrupt_ns") >> cost;
        std::printf("note: limit %s %%; an interrupt costs %s ns here\n", percent.c_str(),
                    cost.c_str());
        aim_device();
        unsigned failed = 0;
        for (const auto& one : scenarios())
            if (!run(one, door, percent)) ++failed;
        check(failed == 0, std::to_string(failed) + " storms left the bystander less than half");
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
    return 0;
}
