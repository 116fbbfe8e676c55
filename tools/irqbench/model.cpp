// SPDX-License-Identifier: MIT
#include "irqbench/model.hpp"

#include <algorithm>

namespace irqbench {

std::string scenario::name() const {
    return std::string(same_cpu ? "same" : "apart") + (loaded ? "-loaded" : "-idle");
}

std::string scenario::description() const {
    return std::string(same_cpu ? "same CPU" : "different CPUs") + (loaded ? ", loaded" : ", idle");
}

std::optional<scenario> scenario::parse(std::string_view name) {
    for (bool same : {false, true})
        for (bool loaded : {false, true})
            if (const scenario s{same, loaded}; s.name() == name) return s;
    return std::nullopt;
}

std::string_view to_string(measure m) { return m == measure::one_way ? "one-way" : "round-trip"; }

std::string_view to_string(method_kind k) {
    switch (k) {
        case method_kind::source: return "source";
        case method_kind::door: return "door";
        case method_kind::peer: break;
    }
    return "peer";
}

const cell* run_report::find(std::string_view method, method_kind kind, measure what,
                             const scenario& where) const {
    const auto it = std::find_if(cells.begin(), cells.end(), [&](const cell& c) {
        return c.method == method && c.kind == kind && c.what == what && c.where == where;
    });
    return it == cells.end() ? nullptr : &*it;
}

std::vector<scenario> run_report::scenarios() const {
    std::vector<scenario> found;
    for (const cell& c : cells)
        if (std::find(found.begin(), found.end(), c.where) == found.end()) found.push_back(c.where);
    return found;
}

std::vector<std::string> run_report::methods(method_kind kind) const {
    std::vector<std::string> found;
    for (const cell& c : cells)
        if (c.kind == kind && std::find(found.begin(), found.end(), c.method) == found.end())
            found.push_back(c.method);
    return found;
}

std::vector<run_report::stamp_cost> run_report::stamp_costs() const {
    std::vector<stamp_cost> costs;
    for (const std::string& source : methods(method_kind::source)) {
        const scenario where = scenarios().front();
        const cell* stamped = find(source, method_kind::source, measure::one_way, where);
        const cell* plain = find("ipcdoor:" + source, method_kind::door, measure::one_way, where);
        if (stamped != nullptr && plain != nullptr) costs.push_back({source, stamped, plain});
    }
    return costs;
}

std::string display_name(std::string_view method) {
    if (method.rfind("ipcdoor:", 0) == 0) return "ipcdoor " + std::string(method.substr(8));
    if (method == "unix-stream") return "UNIX stream";
    if (method == "unix-dgram") return "UNIX datagram";
    if (method == "mq") return "POSIX mq";
    if (method == "semaphore") return "POSIX semaphore";
    if (method == "signal") return "RT signal";
    return std::string(method);
}

}  // namespace irqbench
