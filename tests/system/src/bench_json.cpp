// SPDX-License-Identifier: MIT
//
// Checks what `ipcdoor-bench --json` has written: bench_json FILE LIST, LIST being what --list
// prints. Exits with 1 and says what is wrong.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using nlohmann::json;

void require(bool met, const std::string& what) {
    if (!met) throw std::runtime_error(what);
}

// "  GROUP/LABEL" of each contestant.
std::set<std::string> listed(const char* path) {
    std::ifstream file(path);
    std::set<std::string> all;
    for (std::string line; std::getline(file, line);)
        if (line.rfind("  ", 0) == 0) all.insert(line.substr(2));
    require(all.size() > 10, "the list is short");
    return all;
}

double median_of(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

bool is_near(double a, double b) { return std::abs(a - b) <= 1e-9 * std::max(std::abs(a), 1.0); }

using turns = std::map<json, std::vector<double>>;  // by {name, x}

json key_of(const json& one) { return {one.at("name"), one.contains("x") ? one.at("x") : json()}; }

void check_contestant(const json& one, const std::string& clock, std::uint64_t repetitions,
                      turns& all, const std::string& where) {
    for (const char* name : {"cpu_ns", "wall_ns"}) {
        const auto each = one.at("turns").at(name).get<std::vector<double>>();
        require(each.size() == repetitions, where + ": not all turns");
        for (const double ns : each)
            require(std::isfinite(ns) && ns > 0, where + ": " + std::to_string(ns) + " ns");
    }
    const auto each = one.at("turns").at(clock + "_ns").get<std::vector<double>>();
    require(is_near(one.at("median_ns"), median_of(each)), where + ": another median");
    require(one.at("min_ns") <= one.at("median_ns") && one.at("median_ns") <= one.at("max_ns"),
            where + ": the median is out of range");
    require(one.at("operations") > 0, where + ": no operations");
    require(all.emplace(key_of(one), each).second, where + " comes twice");

    const json& calls = one.at("system_calls");
    if (!calls.at("counted").get<bool>()) {
        require(!calls.at("why_not").get<std::string>().empty(), where + ": not counted");
        std::printf("note: %s: no system calls counted: %s\n", where.c_str(),
                    calls.at("why_not").get<std::string>().c_str());
        return;
    }
    double sum = 0;
    for (const auto& [name, count] : calls.at("by_name").items()) sum += count.get<double>();
    require(is_near(sum, calls.at("per_operation")), where + ": the calls do not add up");
    // One whose calls are known.
    if (one.at("name") == "epoll") require(sum == 3, where + ": not three calls");
}

void check_finding(const json& one, const turns& all, const std::string& where) {
    const double median = one.at("median");
    require(one.at("min") <= median && median <= one.at("max"), where + ": out of range");
    if (one.at("kind") == "ratio") {
        const auto &of = all.at(key_of(one.at("of"))), &by = all.at(key_of(one.at("by")));
        std::vector<double> ratios;
        for (std::size_t i = 0; i < of.size(); ++i) ratios.push_back(of[i] / by[i]);
        require(is_near(median, median_of(ratios)), where + ": the turns give another ratio");
    } else {
        require(one.at("kind") == "system calls", where + ": of another kind");
    }
    if (one.contains("at_most"))
        require(one.at("met") == (median <= one.at("at_most").get<double>()),
                where + ": the verdict is wrong");
}

void check(const json& report, std::set<std::string> wanted) {
    require(report.at("kind") == "bench" && report.at("output_version") == 1,
            "another kind or version");
    require(report.at("parameters").at("quick") == true, "not a quick run");
    require(!report.at("machine").at("kernel").get<std::string>().empty(), "no kernel");
    const std::uint64_t repetitions = report.at("parameters").at("repetitions");
    std::map<bool, std::uint64_t> goals;
    for (const json& group : report.at("groups")) {
        const std::string name = group.at("name");
        require(!group.at("title").get<std::string>().empty(), name + ": no title");
        turns all;
        for (const json& one : group.at("contestants")) {
            const std::string where = name + "/" + one.at("label").get<std::string>();
            require(wanted.erase(where) == 1, where + " is not listed");
            check_contestant(one, group.at("clock"), repetitions, all, where);
        }
        for (const json& one : group.at("absent")) {
            const std::string where = name + "/" + one.at("label").get<std::string>();
            require(wanted.erase(where) == 1, where + " is not listed");
            require(!one.at("failed").get<bool>(), where + " failed");
            std::printf("note: %s: %s\n", where.c_str(),
                        one.at("reason").get<std::string>().c_str());
        }
        require(!group.at("findings").empty(), name + ": nothing was found");
        for (const json& one : group.at("findings")) {
            check_finding(one, all, name + ", " + one.at("title").get<std::string>());
            if (one.contains("met")) ++goals[one.at("met").get<bool>()];
        }
    }
    require(wanted.empty(), "missing: " + (wanted.empty() ? "" : *wanted.begin()));
    require(report.at("goals").at("met") == goals[true] &&
                report.at("goals").at("missed") == goals[false],
            "the goals are counted wrong");
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: bench_json FILE LIST");
    std::ifstream file(argv[1]);
    check(json::parse(file), listed(argv[2]));
    return 0;
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "%s\n", wrong.what());
    return 1;
}
