// SPDX-License-Identifier: MIT
// usage: fail_nth [--list] [--dry] [CASE…]
//
// Makes every fault point of every call on the module fail once: for n = 1, 2, 3 …
// the n-th allocation or copy of the call fails, until the call has no n-th one.
// Each attempt is a process of its own. An injected failure must end in an errno
// that the call may give (or be survived), the same call must work right after it,
// and nothing may stay behind: descriptors, mappings, the user's bytes and
// endpoints, references to the module; and at the end of the guest kmemleak looks.
//
// Exits with 77 where the kernel cannot inject faults; --dry makes each call without
// one, which tries the cases themselves on any kernel.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <stdexcept>

#include "support/process.hpp"
#include "system/src/faults/injector.hpp"
#include "system/src/faults/subject.hpp"
#include "system/src/shared/baseline.hpp"
#include "system/src/shared/module_control.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

void require(bool condition, const char* what) {
    if (!condition) throw std::runtime_error(what);
}

namespace {

constexpr std::chrono::milliseconds settle_time{120'000};
// More points than any call has: a sweep that gets there does not end.
constexpr unsigned max_points = 20'000;
constexpr unsigned failures_shown = 5;
// Beyond it an attempt hangs.
constexpr std::chrono::milliseconds attempt_deadline{900'000};

// What one process holds.
struct holdings {
    std::size_t descriptors = 0;
    std::size_t mappings = 0;
    std::uint64_t user_bytes = 0;
    std::uint32_t user_endpoints = 0;

    bool operator==(const holdings&) const = default;
};

std::size_t door_mappings() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    std::size_t count = 0;
    while (std::getline(maps, line)) count += line.find("[ipcdoor]") != line.npos ? 1 : 0;
    return count;
}

// Without a door only what the process itself has.
holdings held(const unique_fd& door) {
    holdings now{open_fd_count(), door_mappings(), 0, 0};
    if (door) {
        const auto info = get_info(door);
        now.user_bytes = info.user_bytes;
        now.user_endpoints = info.user_endpoints;
    }
    return now;
}

// What an object that was half made held is given back after a grace period.
void require_held(const holdings& expected, const unique_fd& door, const char* when) {
    const auto deadline = deadline_in(settle_time);
    auto now = held(door);
    while (now != expected && now_ns() < deadline) {
        ::usleep(2000);
        now = held(door);
    }
    if (now == expected) return;
    const auto describe = [](const holdings& what) {
        return std::to_string(what.descriptors) + " descriptors, " + std::to_string(what.mappings) +
               " mappings, " + std::to_string(what.user_bytes) + " bytes, " +
               std::to_string(what.user_endpoints) + " endpoints";
    };
    throw std::runtime_error(std::string("left behind ") + when + ": " + describe(now) +
                             "; before " + describe(expected));
}

// What came of one attempt.
struct report {
    bool injected = false;
    int result = 0;
};

std::string name_of(int error) {
    const char* name = ::strerrorname_np(error);
    return name != nullptr ? name : std::to_string(error);
}

// A page of the program that is not there yet would be a fault point of its own.
void make_resident() {
    char stack[64 * 1024];
    std::memset(stack, 1, sizeof stack);
    asm volatile("" : : "r"(stack) : "memory");
    if (::mlockall(MCL_CURRENT) != 0)
        throw std::system_error(errno, std::generic_category(), "mlockall");
}

int attempt_in_child(const fault_case& one, unsigned nth, report& out) {
    std::optional<injector> inject;
    if (nth > 0) inject.emplace();
    unique_fd door;
    if (one.who != caller::no_door) door = open_door();
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    ::setrlimit(RLIMIT_MEMLOCK, &unlimited);
    if (one.who == caller::user) require(become_user(user_uid, user_uid), "become_user");
    make_resident();

    const auto subject = one.make(door);
    const auto before = held(door);
    subject->before();
    if (inject) inject->arm(nth);
    out.result = subject->attempt();
    out.injected = inject && inject->disarm();
    subject->after(out.result);
    require_held(before, door, "after the fault");

    if (out.result < 0) {
        if (!out.injected)
            throw std::runtime_error("failed without a fault: " + name_of(-out.result));
        if (std::find(one.allowed.begin(), one.allowed.end(), -out.result) == one.allowed.end())
            throw std::runtime_error("ended in " + name_of(-out.result));
    }

    subject->before();
    const int second = subject->attempt();
    subject->after(second);
    if (second < 0) throw std::runtime_error("the next call ended in " + name_of(-second));
    require_held(before, door, "after the next call");
    return 0;
}

struct tally {
    unsigned injected = 0;
    unsigned survived = 0;
    unsigned failures = 0;
    std::map<std::string, unsigned> ends;
};

// Makes the nth fault point fail; false where the call has no such one.
bool inject_one(const fault_case& one, unsigned nth, const shared<report>& out, tally& all) {
    *out = report{};
    child process([&] { return attempt_in_child(one, nth, *out); });
    const auto status = process.wait(attempt_deadline);
    all.injected += out->injected ? 1 : 0;
    if (!status.exited(0)) {
        const bool killed = WIFSIGNALED(status.raw);
        std::printf("%s, fault %u: the process %s %d\n", one.name.c_str(), nth,
                    killed ? "was killed by signal" : "exited with",
                    killed ? WTERMSIG(status.raw) : WEXITSTATUS(status.raw));
        ++all.failures;
        return all.failures < failures_shown;
    }
    if (one.who != caller::no_door) require_nothing_left();
    if (!out->injected) return false;
    ++all.survived;
    ++all.ends[out->result >= 0 ? "worked" : name_of(-out->result)];
    return true;
}

tally sweep(const fault_case& one) {
    const shared<report> out;
    tally all;
    for (unsigned nth = 1; inject_one(one, nth, out, all); ++nth)
        require(nth < max_points, "the sweep does not end");
    std::string ends;
    for (const auto& [end, count] : all.ends) ends += " " + end + " " + std::to_string(count);
    std::printf("%-30s %4u injected %4u survived %s\n", one.name.c_str(), all.injected,
                all.survived, ends.c_str());
    if (all.injected == 0 && one.expected == faults::some) {
        std::printf("%s: no fault was injected\n", one.name.c_str());
        ++all.failures;
    }
    return all;
}

// A fault may have hit kmemleak itself; a scan that was switched off finds nothing.
void require_leak_scan() {
    const char* path = "/sys/kernel/debug/kmemleak";
    if (::access(path, F_OK) != 0) return;
    require(static_cast<bool>(std::ofstream(path) << "scan" << std::flush),
            "kmemleak was switched off: raise CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE");
}

int run(const std::vector<fault_case>& cases) {
    const auto module = open_module_file();
    // Enabling a device for the first time has ACPI look for its interrupt: thousands of
    // fault points, a second each, none of them the module's, and some after which the
    // interpreter of Linux 6.1 uses objects that it has freed.
    ensure_unloaded();
    keep_edu_enabled();
    tally all;
    const auto started = now_ns();
    for (const auto& one : cases) {
        ensure_loaded(module);
        const auto of_this = sweep(one);
        all.injected += of_this.injected;
        all.survived += of_this.survived;
        all.failures += of_this.failures;
    }
    ensure_loaded(module);
    require_nothing_left();
    require_leak_scan();
    std::printf("note: %u faults injected in %zu calls, %u survived, %u failures; %.1f s\n",
                all.injected, cases.size(), all.survived, all.failures,
                static_cast<double>(now_ns() - started) / 1e9);
    require(all.injected > 0, "no fault was injected");
    return all.failures == 0 && all.injected == all.survived ? 0 : 1;
}

// Each call without a fault.
int run_dry(const std::vector<fault_case>& cases) {
    const auto module = open_module_file();
    const shared<report> out;
    tally all;
    for (const auto& one : cases) {
        ensure_loaded(module);
        inject_one(one, 0, out, all);
    }
    ensure_loaded(module);
    std::printf("%zu calls without a fault, %u failures\n", cases.size(), all.failures);
    return all.failures == 0 ? 0 : 1;
}

std::vector<fault_case> chosen_cases(const std::vector<std::string>& names) {
    std::vector<fault_case> all;
    add_door_cases(all);
    add_endpoint_cases(all);
    add_file_cases(all);
    add_memory_cases(all);
    add_module_cases(all);
    if (names.empty()) return all;
    std::vector<fault_case> chosen;
    for (const auto& name : names) {
        const auto found = std::find_if(all.begin(), all.end(),
                                        [&](const fault_case& one) { return one.name == name; });
        if (found == all.end())
            throw CLI::ValidationError("CASE", "no case '" + name + "' (see --list)");
        chosen.push_back(*found);
    }
    return chosen;
}

}  // namespace

}  // namespace ipcdoor::test

int main(int argc, char** argv) {
    using namespace ipcdoor::test;
    CLI::App app{"Makes every fault point of every call on the module fail once"};
    std::vector<std::string> names;
    bool list = false;
    bool dry = false;
    app.add_flag("--list", list, "Name the cases and exit");
    app.add_flag("--dry", dry, "Make each call without a fault");
    app.add_option("CASE", names, "Cases to run (default: all)");
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    try {
        app.parse(argc, argv);
        const auto cases = chosen_cases(names);
        if (list) {
            for (const auto& one : cases) std::puts(one.name.c_str());
            return 0;
        }
        if (dry) return run_dry(cases);
        const auto lacks = injection_lacks();
        if (!lacks.empty()) {
            std::printf("skipped: this kernel cannot inject faults: %s; boot 6.1-kasan\n",
                        lacks.c_str());
            return 77;
        }
        configure_injection();
        return run(cases);
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    } catch (const std::exception& error) {
        std::printf("fail_nth: %s\n", error.what());
        return 1;
    }
}
