// SPDX-License-Identifier: MIT
#include "irqbench/sources.hpp"

#include <ipcdoor.h>

#include <cerrno>
#include <memory>

namespace irqbench {

namespace {

constexpr struct {
    const char* name;
    std::uint32_t number;
    const char* remedy;
} sources[] = {
    {"msi", IPCDOOR_SOURCE_MSI,
     "no PCI device that ipcdoor can raise an MSI with; in QEMU add '-device edu'"},
    {"ipi", IPCDOOR_SOURCE_IPI, "the module offers no inter-processor interrupt here"},
    {"timer", IPCDOOR_SOURCE_TIMER, "the module offers no hrtimer here"},
    {"direct", IPCDOOR_SOURCE_DIRECT, "the module offers no direct wake-up here"},
};

}  // namespace

const std::vector<std::string>& source_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> list;
        for (const auto& s : sources) list.emplace_back(s.name);
        return list;
    }();
    return names;
}

std::optional<std::uint32_t> source_number(std::string_view name) {
    for (const auto& s : sources)
        if (name == s.name) return s.number;
    return std::nullopt;
}

std::string source_name(std::uint32_t number) {
    for (const auto& s : sources)
        if (number == s.number) return s.name;
    return "source " + std::to_string(number);
}

std::string source_remedy(const std::string& source) {
    for (const auto& s : sources)
        if (source == s.name) return s.remedy;
    return "unknown source";
}

bool means_absent(int error_number) {
    return error_number == ENODEV || error_number == ENOENT || error_number == ENXIO;
}

module_info describe_door(const std::string& uri) {
    ipcdoor_door* opened = nullptr;
    if (const int r = ipcdoor_door_open(uri.c_str(), &opened); r < 0) {
        if (means_absent(-r))
            throw door_absent("no door at " + uri +
                              ": load the module as root (insmod ipcdoor.ko), or compare what "
                              "works without it (irqbench --methods all)");
        throw std::runtime_error("cannot open " + uri + ": " + ipcdoor_error());
    }
    const std::unique_ptr<ipcdoor_door, void (*)(ipcdoor_door*)> door(opened, ipcdoor_door_close);

    ipcdoor_info info{};
    if (ipcdoor_door_info(door.get(), &info) < 0)
        throw std::runtime_error("cannot ask " + uri + ": " + ipcdoor_error());
    module_info m;
    info.version[sizeof(info.version) - 1] = '\0';
    m.version = info.version;
    m.abi_version = info.abi_version;
    m.default_source = source_name(info.default_source);
    for (const auto& s : sources)
        if ((info.sources & (1U << s.number)) != 0) m.sources.emplace_back(s.name);
    return m;
}

}  // namespace irqbench
