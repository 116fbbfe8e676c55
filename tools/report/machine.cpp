// SPDX-License-Identifier: MIT
#include "report/machine.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace report {

namespace {

std::string cpu_model() {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        for (const char* key : {"model name", "Hardware", "cpu model", "uarch"}) {
            if (line.rfind(key, 0) != 0) continue;
            const auto colon = line.find(':');
            if (colon == std::string::npos || colon + 2 > line.size()) continue;
            std::string model = line.substr(colon + 1);
            model.erase(0, model.find_first_not_of(' '));
            return model;
        }
    }
    return "unknown";
}

#if defined(__x86_64__) || defined(__i386__)

std::string hypervisor_signature() {
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & (1U << 31)) == 0) return "";
    // Not __get_cpuid(): its check of the largest leaf does not cover the hypervisor's range.
    __cpuid(0x40000000, a, b, c, d);
    std::array<char, 13> text{};
    std::memcpy(text.data(), &b, 4);
    std::memcpy(text.data() + 4, &c, 4);
    std::memcpy(text.data() + 8, &d, 4);
    return text[0] == '\0' ? "unnamed" : text.data();
}

hypervisor_verdict find_environment() {
    hypervisor_verdict verdict = classify_hypervisor(hypervisor_signature());
    // QEMU can be told to hide its hypervisor leaf; its firmware tables still name it.
    if (verdict.where == environment::bare_metal &&
        read_small_file("/sys/class/dmi/id/sys_vendor") == "QEMU")
        return {environment::unknown, "QEMU without a hypervisor leaf"};
    return verdict;
}

#else

hypervisor_verdict find_environment() {
    const std::string tree = read_small_file("/proc/device-tree/hypervisor/compatible");
    if (!tree.empty()) return {environment::virtualised, tree};
    const std::string type = read_small_file("/sys/hypervisor/type");
    if (!type.empty()) return {environment::virtualised, type};
    return {environment::unknown, ""};
}

#endif

}  // namespace

std::string_view to_string(environment e) {
    switch (e) {
        case environment::bare_metal: return "bare metal";
        case environment::virtualised: return "virtualised";
        case environment::emulated: return "emulated";
        case environment::unknown: break;
    }
    return "unknown";
}

std::string read_small_file(const char* path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    std::string s = text.str();
    while (!s.empty() && (s.back() == '\n' || s.back() == ' ' || s.back() == '\0')) s.pop_back();
    return s;
}

hypervisor_verdict classify_hypervisor(std::string_view signature) {
    if (signature.empty()) return {environment::bare_metal, ""};
    if (signature == "TCGTCGTCGTCG") return {environment::emulated, "QEMU TCG"};
    static constexpr struct {
        std::string_view signature, name;
    } known[] = {{"KVMKVMKVM", "KVM"},        {"Linux KVM Hv", "KVM"},
                 {"Microsoft Hv", "Hyper-V"}, {"VMwareVMware", "VMware"},
                 {"XenVMMXenVMM", "Xen"},     {"ACRNACRNACRN", "ACRN"},
                 {"bhyve bhyve ", "bhyve"},   {"VBoxVBoxVBox", "VirtualBox"},
                 {"Jailhouse", "Jailhouse"},  {"prl hyperv", "Parallels"}};
    for (const auto& k : known)
        if (signature == k.signature) return {environment::virtualised, std::string(k.name)};
    return {environment::virtualised, std::string(signature)};
}

std::string preemption_model(std::string_view kernel_build, std::string_view sched_preempt) {
    // PREEMPT_DYNAMIC's choice stands in parentheses: "none voluntary (full)".
    std::string chosen;
    const auto open = sched_preempt.find('(');
    const auto close = sched_preempt.find(')', open == std::string_view::npos ? 0 : open);
    if (open != std::string_view::npos && close != std::string_view::npos)
        chosen = sched_preempt.substr(open + 1, close - open - 1);

    const auto has_word = [&](std::string_view word) {
        std::istringstream words{std::string(kernel_build)};
        for (std::string w; words >> w;)
            if (w == word) return true;
        return false;
    };
    if (has_word("PREEMPT_RT")) return "full, real-time (PREEMPT_RT)";
    if (has_word("PREEMPT_DYNAMIC"))
        return chosen.empty() ? "chosen at boot (PREEMPT_DYNAMIC)" : chosen + " (PREEMPT_DYNAMIC)";
    if (has_word("PREEMPT_LAZY")) return "lazy (PREEMPT_LAZY)";
    if (has_word("PREEMPT")) return "full (PREEMPT)";
    return "none or voluntary";
}

std::string environment_line(const machine& m) {
    std::string line(to_string(m.where));
    if (!m.hypervisor.empty()) line += " (" + m.hypervisor + ")";
    if (m.where == environment::emulated) line += ": latencies are good for comparison only";
    return line;
}

machine describe_machine() {
    machine m;
    utsname names{};
    if (uname(&names) == 0) {
        m.kernel = names.release;
        m.kernel_build = names.version;
        m.architecture = names.machine;
    }
    m.cpu_model = cpu_model();
    m.cpus_online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
            if (CPU_ISSET(cpu, &allowed)) m.cpus_allowed.push_back(cpu);
    const char* clocks = "/sys/devices/system/clocksource/clocksource0/";
    m.clock_source = read_small_file((std::string(clocks) + "current_clocksource").c_str());
    m.clock_sources_available =
        read_small_file((std::string(clocks) + "available_clocksource").c_str());
    if (m.clock_source.empty()) m.clock_source = "unknown";
    const hypervisor_verdict verdict = find_environment();
    m.where = verdict.where;
    m.hypervisor = verdict.name;
    m.preemption =
        preemption_model(m.kernel_build, read_small_file("/sys/kernel/debug/sched/preempt"));
    m.realtime_kernel = read_small_file("/sys/kernel/realtime") == "1";
    m.isolated_cpus = read_small_file("/sys/devices/system/cpu/isolated");
    m.governor = read_small_file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    return m;
}

void write_machine(text_writer& to, const machine& m) {
    to.field("kernel", fmt::format("{} {} ({})", m.kernel, m.architecture, m.kernel_build));
    to.field("CPU", fmt::format("{} x {}{}", m.cpus_online, m.cpu_model,
                                m.governor.empty() ? "" : "; governor " + m.governor));
    to.field("machine", m.where == environment::emulated
                            ? to.styled("\033[33m", environment_line(m))
                            : environment_line(m));
    to.field("preemption", m.preemption + "; isolated CPUs: " +
                               (m.isolated_cpus.empty() ? "none" : m.isolated_cpus));
}

std::vector<std::pair<std::string, std::string>> facts_of(const machine& m) {
    return {{"Kernel", fmt::format("{} {} ({})", m.kernel, m.architecture, m.kernel_build)},
            {"Processor", fmt::format("{} × {}", m.cpus_online, m.cpu_model)},
            {"Frequency governor", m.governor.empty() ? "not known" : m.governor},
            {"Machine", environment_line(m)},
            {"Preemption", m.preemption},
            {"Isolated CPUs", m.isolated_cpus.empty() ? "none" : m.isolated_cpus}};
}

std::string utc_now() {
    const std::time_t t = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&t, &parts);
    char text[32];
    std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

}  // namespace report
