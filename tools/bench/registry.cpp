// SPDX-License-Identifier: MIT
#include "bench/registry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "report/units.hpp"

namespace bench {

namespace {

struct registered {
    std::string file;
    std::string group_name;
    std::function<void(group&)> add;
};

std::vector<registered>& parts() {
    static std::vector<registered> all;
    return all;
}

}  // namespace

std::string group::label(double x) const {
    switch (axis) {
        case axis_kind::none: return "";
        case axis_kind::bytes: return report::size_name(static_cast<std::size_t>(x));
        case axis_kind::number: return fmt::format("{:.0f}", x);
    }
    return "";
}

std::string group::label(const key& of) const {
    return axis == axis_kind::none ? of.name : of.name + ", " + label(of.x);
}

part::part(std::string group_name, std::function<void(group&)> add, const char* file) {
    parts().push_back({file, std::move(group_name), std::move(add)});
}

std::vector<group> all_groups() {
    std::stable_sort(parts().begin(), parts().end(),
                     [](const registered& a, const registered& b) { return a.file < b.file; });
    std::vector<group> all;
    for (const registered& one : parts()) {
        auto found = std::find_if(all.begin(), all.end(),
                                  [&](const group& g) { return g.name == one.group_name; });
        if (found == all.end()) {
            all.emplace_back().name = one.group_name;
            found = std::prev(all.end());
        }
        one.add(*found);
    }
    return all;
}

}  // namespace bench
