// SPDX-License-Identifier: MIT
#include "irqbench/compare/run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "irqbench/clock.hpp"
#include "irqbench/compare/transport.hpp"
#include "irqbench/pair.hpp"
#include "irqbench/run.hpp"
#include "irqbench/sources.hpp"
#include "report/progress.hpp"
#include "report/units.hpp"

namespace irqbench::compare {

namespace {

using maker = transport_pointer (*)(const door_choice&, std::size_t);

enum class kind { data, calls, events };

constexpr struct {
    const char* method;
    maker make;
    const char* counterpart;
    maker make_counterpart;
    kind what;
} contests[] = {
    {"message", make_message, "unix-seqpacket", make_unix_seqpacket, kind::data},
    {"message", make_message, "mq", make_queue, kind::data},
    {"message-in-place", make_message_in_place, "unix-seqpacket", make_unix_seqpacket, kind::data},
    {"call", make_call, "unix-request", make_unix_request, kind::calls},
    {"rpc", make_rpc, "unix-request", make_unix_request, kind::calls},
    {"pipe", make_door_pipe, "pipe2", make_kernel_pipe, kind::data},
    {"stream", make_door_stream, "unix-stream", make_kernel_stream, kind::data},
    {"memory", make_door_memory, "memfd", make_memfd, kind::data},
    {"pulse", make_pulse, "eventfd", make_eventfd_bell, kind::events},
    {"signal", make_bound_signal, "sigqueue", make_sigqueue_bell, kind::events},
    {"doorbell", make_doorbell, "eventfd", make_eventfd_bell, kind::events},
    {"doorbell", make_doorbell, "futex", make_futex_bell, kind::events},
};

// A number's worth: what an event can carry.
constexpr std::size_t event_bytes = 8;
// Turns are as long as this many of the thing measured, at least and at most.
constexpr std::uint64_t fewest = 8;
constexpr std::uint64_t most_streamed = 1U << 22;

// The methods of one size, each once, in the two processes that all of them share.
class stage {
public:
    stage(const compare_options& o, const door_choice& door, const placement& cpus,
          std::size_t bytes, bool events_too)
        : cpus_(cpus) {
        method_list list;
        for (const auto& c : contests) {
            if (!wanted(o, c.method) || (c.what == kind::events && !events_too)) continue;
            add(list, c.method, c.make, door, bytes);
            add(list, c.counterpart, c.make_counterpart, door, bytes);
        }
        pair_.emplace(std::move(list), 0, 0);
    }

    static bool wanted(const compare_options& o, const char* method) {
        return std::find(o.methods.begin(), o.methods.end(), method) != o.methods.end();
    }

    std::size_t index_of(const std::string& name) const {
        return static_cast<std::size_t>(std::find(names_.begin(), names_.end(), name) -
                                        names_.begin());
    }

    // "" where it is there.
    std::string reason_against(const std::string& name) const {
        for (const absence& a : pair_->absent())
            if (a.method == name) return a.reason;
        return "";
    }

    std::span<const sample> round_trips(const std::string& name, std::uint64_t count,
                                        std::uint64_t limit_ns = 0) {
        batch_order order;
        order.method = static_cast<std::uint32_t>(index_of(name));
        order.what = measure::round_trip;
        order.samples = static_cast<std::uint32_t>(count);
        order.limit_ns = limit_ns;
        order.waiter_cpu = cpus_.waiter_cpu;
        order.ringer_cpu = cpus_.ringer_cpu;
        return pair_->run(order);
    }

    std::uint64_t stream_ns(const std::string& name, std::uint64_t count) {
        return pair_->run_streamed(static_cast<std::uint32_t>(index_of(name)),
                                   static_cast<std::uint32_t>(count), cpus_.waiter_cpu,
                                   cpus_.ringer_cpu);
    }

private:
    void add(method_list& list, const char* name, maker make, const door_choice& door,
             std::size_t bytes) {
        if (std::find(names_.begin(), names_.end(), name) != names_.end()) return;
        names_.emplace_back(name);
        list.push_back(make(door, bytes));
    }

    placement cpus_;
    std::vector<std::string> names_;
    std::optional<pair> pair_;
};

double elapsed_ns(std::span<const sample> taken) {
    return static_cast<double>(taken.back().user_ns - taken.front().before_ns);
}

// Both of a pair at one size. What is tried out first says how many of each make a turn, and warms
// up; the two get the same number, whatever the machine did meanwhile.
class bout {
public:
    bout(stage& on, const contest& c, match& into, std::uint64_t turn_ns)
        : on_(on), contest_(c), into_(into) {
        const std::uint64_t trial_ns = turn_ns / 4 + 1;
        double trip_ns = 0, message_ns = 0;
        for (const std::string& name : {c.method, c.counterpart}) {
            const auto tried = on_.round_trips(name, pair::max_batch, trial_ns);
            trip_ns += elapsed_ns(tried) / static_cast<double>(tried.size()) / 2;
            if (!c.calls) message_ns += try_stream(name, trial_ns) / 2;
        }
        const auto turn = static_cast<double>(turn_ns);
        trips_ = std::clamp(static_cast<std::uint64_t>(turn / trip_ns), fewest,
                            std::uint64_t{pair::max_batch});
        if (!c.calls)
            streamed_ =
                std::clamp(static_cast<std::uint64_t>(turn / message_ns), fewest, most_streamed);
    }

    // The first to go changes with each round.
    void take_round(std::uint64_t round) {
        for (const bool own : {round % 2 == 0, round % 2 != 0})
            take_turn(own ? contest_.method : contest_.counterpart,
                      own ? into_.own : into_.counterpart);
    }

private:
    double try_stream(const std::string& name, std::uint64_t trial_ns) {
        for (std::uint64_t count = fewest;; count *= 4) {
            const std::uint64_t took = on_.stream_ns(name, count);
            if (took >= trial_ns || count * 4 > most_streamed)
                return static_cast<double>(std::max<std::uint64_t>(took, 1)) /
                       static_cast<double>(count);
        }
    }

    void take_turn(const std::string& name, figures& to) {
        const auto taken = on_.round_trips(name, trips_);
        histogram round;
        for (const sample& s : taken) round.record(s.user_ns - s.before_ns);
        to.p50_ns.push_back(static_cast<double>(round.percentile(50)));
        to.p99_ns.push_back(static_cast<double>(round.percentile(99)));
        to.samples += taken.size();
        if (contest_.calls) {
            to.per_s.push_back(static_cast<double>(taken.size()) * 1e9 / elapsed_ns(taken));
            to.streamed += taken.size();
            return;
        }
        const std::uint64_t took = std::max<std::uint64_t>(on_.stream_ns(name, streamed_), 1);
        to.per_s.push_back(static_cast<double>(streamed_) * 1e9 / static_cast<double>(took));
        to.streamed += streamed_;
    }

    stage& on_;
    const contest& contest_;
    match& into_;
    std::uint64_t trips_ = 0;
    std::uint64_t streamed_ = 0;
};

door_choice choose_door(const compare_options& o, compare_parameters& with) {
    try {
        const ipcdoor::door door(o.door);
        const struct ipcdoor_info info = door.info();
        with.backend = door.backend();
        with.module_version =
            std::string(info.version, strnlen(info.version, sizeof(info.version)));
        std::uint32_t source = IPCDOOR_SOURCE_AUTO;
        if (o.source != "auto") {
            source = *source_number(o.source);
            if ((info.sources & (1U << source)) == 0)
                throw std::runtime_error("--source " + o.source + ": " + source_remedy(o.source));
        }
        with.source = source_name(source == IPCDOOR_SOURCE_AUTO ? info.default_source : source);
        return {o.door, source};
    } catch (const ipcdoor::error& e) {
        if (means_absent(e.error_number()))
            throw door_absent(std::string(e.what()) + " (--door soft: compares without it)");
        throw std::runtime_error(e.what());
    }
}

}  // namespace

const std::vector<std::string>& compared_methods() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> list;
        for (const auto& c : contests)
            if (std::find(list.begin(), list.end(), c.method) == list.end())
                list.emplace_back(c.method);
        return list;
    }();
    return names;
}

compare_report compare_all(const compare_options& o) {
    compare_report r;
    const std::uint64_t start = now_ns();
    r.started = utc_now();
    r.on = describe_machine();
    r.clock_cost = measure_timestamp_cost();
    placement cpus = choose_cpus(o.affinity, r.on.cpus_allowed);
    // To wake another emulated CPU takes as long as the host's scheduler likes, which would be all
    // that is measured.
    if (o.affinity.empty() && r.on.where == environment::emulated)
        cpus.ringer_cpu = cpus.waiter_cpu;
    r.with.command_line = o.command_line;
    r.with.door = o.door;
    r.with.sizes = o.sizes;
    r.with.rounds = o.rounds;
    r.with.turn_ns = o.turn_ms * 1'000'000U;
    r.with.ringer_cpu = cpus.ringer_cpu;
    r.with.waiter_cpu = cpus.waiter_cpu;
    const door_choice door = choose_door(o, r.with);

    for (const auto& c : contests)
        if (stage::wanted(o, c.method)) {
            contest made;
            made.method = c.method;
            made.counterpart = c.counterpart;
            made.events = c.what == kind::events;
            made.calls = c.what == kind::calls;
            r.contests.push_back(std::move(made));
        }

    progress_line progress(!o.quiet);
    // Events have one size, whatever sizes the others are measured at.
    const bool data = std::any_of(r.contests.begin(), r.contests.end(),
                                  [](const contest& c) { return !c.events; });
    std::vector<std::size_t> sizes = data ? o.sizes : std::vector<std::size_t>{event_bytes};
    for (std::size_t nth = 0; nth < sizes.size(); ++nth) {
        const std::size_t bytes = sizes[nth];
        stage on(o, door, cpus, bytes, nth == 0);
        for (contest& c : r.contests) {
            if (c.events && nth != 0) continue;
            const std::size_t carried = c.events ? event_bytes : bytes;
            bool there = true;
            for (const std::string& name : {c.method, c.counterpart})
                if (const std::string reason = on.reason_against(name); there && !reason.empty()) {
                    c.absent.push_back({name, carried, reason});
                    there = false;
                }
            if (!there) continue;
            progress.show(fmt::format("{} of {}: {} and {}", size_name(bytes),
                                      size_name(sizes.back()), method_title(c.method),
                                      method_title(c.counterpart)));
            match m;
            m.bytes = carried;
            bout both(on, c, m, r.with.turn_ns);
            for (std::uint64_t round = 0; round < o.rounds; ++round) both.take_round(round);
            c.matches.push_back(std::move(m));
        }
    }
    r.duration_s = static_cast<double>(now_ns() - start) / 1e9;
    return r;
}

}  // namespace irqbench::compare
