// SPDX-License-Identifier: MIT
#include "irqbench/pair.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "irqbench/clock.hpp"

namespace irqbench {

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000U;
constexpr std::uint64_t meeting_timeout_ns = 15 * second_ns;
constexpr std::uint64_t idle_timeout_ns = 3600 * second_ns;
constexpr std::uint64_t quit_timeout_ns = 2 * second_ns;
constexpr std::uint64_t quit_poll_ns = second_ns / 2000;

rusage own_usage() {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    return usage;
}

long voluntary_switches() { return own_usage().ru_nvcsw; }

template <std::size_t N>
void keep_text(char (&to)[N], const char* from) {
    std::snprintf(to, N, "%s", from);
}

}  // namespace

pair::pair(method_list methods, int waiter_priority, int ringer_priority)
    : methods_(std::move(methods)), priorities_{ringer_priority, waiter_priority} {
    if (methods_.size() > max_methods)
        throw std::logic_error("more methods than the pair has room for");
    for (std::size_t i = 0; i < methods_.size(); ++i) {
        for (side_status& s : area_->of_side) s.methods[i].present = true;
        try {
            methods_[i]->prepare();
        } catch (const unavailable& e) {
            for (side_status& s : area_->of_side) {
                s.methods[i].present = false;
                keep_text(s.methods[i].reason, e.what());
            }
        }
    }
    for (side s : {side::ringer, side::waiter})
        processes_[static_cast<int>(s)] = child([this, s] { return serve(s); });
    batch_order nothing;
    nothing.samples = 0;
    run(nothing);
}

bool pair::is_present(std::size_t i) const {
    return area_->of_side[0].methods[i].present && area_->of_side[1].methods[i].present;
}

std::vector<absence> pair::absent() const {
    std::vector<absence> list;
    for (std::size_t i = 0; i < methods_.size(); ++i) {
        if (is_present(i)) continue;
        const char* reason = "";
        // The waiter's is the better text: it creates what the ringer then fails to find.
        for (side s : {side::ringer, side::waiter})
            if (const auto& m = area_->of_side[static_cast<int>(s)].methods[i]; m.reason[0] != '\0')
                reason = m.reason;
        list.push_back({methods_[i]->name(), reason});
    }
    return list;
}

std::span<const sample> pair::run(const batch_order& order) {
    area& a = *area_;
    a.batch = order;
    a.batch.samples =
        order.counted || order.streamed ? order.samples : std::min(order.samples, max_batch);
    a.armed.store(0);
    a.last.store(0);
    a.done.store(0);
    const std::uint32_t number = a.order.load() + 1;
    a.order.store(number);
    wake_all(a.order);

    std::uint32_t moved_to = 0;
    std::uint64_t moved_at = now_ns();
    for (int s = 0; s < 2; ++s) {
        side_status& status = a.of_side[s];
        while (status.finished.load() != number) {
            wait_while(status.finished, number - 1, second_ns / 4);
            for (int other = 0; other < 2; ++other) {
                if (a.of_side[other].failed.load() != 0)
                    throw std::runtime_error(a.of_side[other].error);
                if (processes_[other].ended()) throw std::runtime_error("a measured process died");
            }
            const std::uint32_t done = a.done.load();
            if (done != moved_to) {
                moved_to = done;
                moved_at = now_ns();
            } else if (now_ns() - moved_at > stall_s * second_ns) {
                throw std::runtime_error(
                    methods_[order.method]->name() + ": nothing moved for " +
                    std::to_string(stall_s) + " s after ring " + std::to_string(done) + " of a " +
                    std::string(to_string(order.what)) + " batch: a ring or a wake-up was lost");
            }
        }
    }
    return {a.samples, a.done.load()};
}

pair::counted pair::run_counted(std::uint32_t method, std::uint32_t round_trips, int cpu,
                                std::uint64_t handicap_ns) {
    batch_order order;
    order.method = method;
    order.what = measure::round_trip;
    order.samples = round_trips;
    order.ringer_cpu = order.waiter_cpu = cpu;
    order.counted = true;
    order.handicap_ns = handicap_ns;
    run(order);
    return area_->count;
}

std::uint64_t pair::run_streamed(std::uint32_t method, std::uint32_t messages, int waiter_cpu,
                                 int ringer_cpu) {
    batch_order order;
    order.method = method;
    order.samples = messages;
    order.waiter_cpu = waiter_cpu;
    order.ringer_cpu = ringer_cpu;
    order.streamed = true;
    run(order);
    return area_->streamed_ns;
}

pair::~pair() {
    area& a = *area_;
    a.kind = order_kind::quit;
    const std::uint32_t number = a.order.load() + 1;
    a.order.store(number);
    wake_all(a.order);
    const std::uint64_t until = now_ns() + quit_timeout_ns;
    for (int s = 0; s < 2; ++s)
        while (!processes_[s].ended() && now_ns() < until) sleep_until(now_ns() + quit_poll_ns);
}

int pair::serve(side s) {
    side_status& status = area_->of_side[static_cast<int>(s)];
    try {
        set_timer_slack_ns(1);
        set_fifo(priorities_[static_cast<int>(s)]);
        join_methods(s);
        for (std::uint32_t number = 0;;) {
            if (!wait_while(area_->order, number, idle_timeout_ns)) continue;
            number = area_->order.load();
            if (area_->kind == order_kind::quit) {
                methods_.clear();
                return 0;
            }
            const batch_order order = area_->batch;
            if (order.samples != 0) carry_out(s, order);
            status.finished.store(number);
            wake_all(status.finished);
        }
    } catch (const std::exception& e) {
        keep_text(status.error, e.what());
        status.failed.store(1);
        return 1;
    }
}

void pair::join_methods(side s) {
    side_status& status = area_->of_side[static_cast<int>(s)];
    for (std::size_t i = 0; i < methods_.size(); ++i) {
        auto& mine = status.methods[i];
        if (!mine.present) continue;  // prepare() failed, which both sides know
        for (auto step : {&method::open, &method::connect}) {
            bool ok = true;
            try {
                (methods_[i].get()->*step)(s);
            } catch (const unavailable& e) {
                ok = false;
                keep_text(mine.reason, e.what());
            }
            if (!area_->meeting.meet(ok, meeting_timeout_ns)) {
                mine.present = false;
                break;
            }
        }
    }
}

void pair::carry_out(side s, const batch_order& order) {
    pin_to(s == side::ringer ? order.ringer_cpu : order.waiter_cpu);
    if (order.handicap_ns != 0) {
        const std::uint64_t until = now_ns() + order.handicap_ns;
        if (s == side::ringer) sleep_until(until + order.handicap_ns / 8);
        while (now_ns() < until) {
        }
    }
    method& m = *methods_[order.method];
    m.begin_batch();
    if (order.streamed) return stream_batch(s, m, order);
    if (s == side::ringer)
        order.counted                    ? count_batch(m, order)
        : order.what == measure::one_way ? ring_batch(m, order)
                                         : call_batch(m, order);
    else
        order.what == measure::one_way ? wait_batch(m) : answer_batch(s, m);
}

// Sleeps for the interval, and if the waiter was not yet back at its wait then, until it is and an
// interval longer: it needs that time to fall asleep.
void pair::await_armed(std::uint32_t index, std::uint64_t interval_ns) {
    sleep_until(now_ns() + interval_ns);
    if (area_->armed.load(std::memory_order_acquire) == index + 1) return;
    const std::uint64_t poll_ns = std::max<std::uint64_t>(interval_ns, 10'000);
    while (area_->armed.load(std::memory_order_acquire) != index + 1)
        sleep_until(now_ns() + poll_ns);
    sleep_until(now_ns() + interval_ns);
}

void pair::ring_batch(method& m, const batch_order& order) {
    area& a = *area_;
    const std::uint64_t start = now_ns();
    for (std::uint32_t i = 0; i < order.samples; ++i) {
        await_armed(i, order.interval_ns);
        const bool late = order.limit_ns != 0 && now_ns() - start > order.limit_ns;
        const bool last = i + 1 == order.samples || late;
        if (last) a.last.store(1);
        sample& s = a.samples[i];
        s.before_ns = now_ns();
        m.send();
        s.after_ns = now_ns();
        if (last) break;
    }
}

void pair::wait_batch(method& m) {
    area& a = *area_;
    long switches = voluntary_switches();
    for (std::uint32_t i = 0;; ++i) {
        sample& s = a.samples[i];
        a.armed.store(i + 1, std::memory_order_release);
        m.receive();
        s.user_ns = now_ns();
        s.kernel = {};
        s.stamped = m.read_stamps(s.kernel);
        const long switches_now = voluntary_switches();
        s.slept = switches_now != switches;
        switches = switches_now;
        a.done.store(i + 1, std::memory_order_relaxed);
        if (a.last.load() != 0) return;
    }
}

void pair::call_batch(method& m, const batch_order& order) {
    area& a = *area_;
    const std::uint64_t start = now_ns();
    for (std::uint32_t i = 0; i < order.samples; ++i) {
        sample& s = a.samples[i];
        s.before_ns = now_ns();
        const bool late = order.limit_ns != 0 && s.before_ns - start > order.limit_ns;
        const bool last = i + 1 == order.samples || late;
        if (last) {
            a.last.store(1);
            s.before_ns = now_ns();
        }
        m.exchange();
        s.user_ns = now_ns();
        s.after_ns = s.user_ns;
        s.stamped = false;
        s.slept = true;
        a.done.store(i + 1, std::memory_order_relaxed);
        if (last) return;
    }
}

void pair::count_batch(method& m, const batch_order& order) {
    area& a = *area_;
    const rusage before = own_usage();
    const std::uint64_t start = cycle_counter();
    for (std::uint32_t i = 1; i < order.samples; ++i) m.exchange();
    a.last.store(1);
    m.exchange();
    a.count.cycles = cycle_counter() - start;
    count_switches(side::ringer, before);
}

void pair::count_switches(side s, const rusage& before) {
    const rusage after = own_usage();
    const auto i = static_cast<std::size_t>(s);
    area_->count.slept[i] = static_cast<std::uint64_t>(after.ru_nvcsw - before.ru_nvcsw);
    area_->count.preempted[i] = static_cast<std::uint64_t>(after.ru_nivcsw - before.ru_nivcsw);
}

void pair::answer_batch(side s, method& m) {
    const rusage before = own_usage();
    m.answer(area_->last);
    count_switches(s, before);
}

void pair::stream_batch(side s, method& m, const batch_order& order) {
    if (s == side::waiter) return m.receive_many(order.samples);
    const std::uint64_t start = now_ns();
    m.send_many(order.samples);
    area_->streamed_ns = now_ns() - start;
}

}  // namespace irqbench
