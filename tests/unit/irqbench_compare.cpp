// SPDX-License-Identifier: MIT
#include <array>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "irqbench/compare/model.hpp"
#include "irqbench/compare/payload.hpp"
#include "irqbench/compare/reports.hpp"
#include "irqbench/options.hpp"
#include "report/units.hpp"
#include "support/catch.hpp"

using namespace irqbench;
using namespace irqbench::compare;

namespace {

figures around(double p50_ns, double per_s) {
    figures f;
    for (const double drift : {0.9, 1.0, 1.2}) {
        f.p50_ns.push_back(p50_ns * drift);
        f.p99_ns.push_back(3 * p50_ns * drift);
        f.per_s.push_back(per_s / drift);
    }
    f.samples = 300;
    f.streamed = 3000;
    return f;
}

compare_report small_comparison() {
    compare_report r;
    r.started = "2026-01-02T03:04:05Z";
    r.duration_s = 12.5;
    r.on.kernel = "6.1.0-<test>";
    r.on.cpus_online = 2;
    r.on.cpus_allowed = {0, 1};
    r.with.command_line = "irqbench compare";
    r.with.backend = "soft";
    r.with.source = "direct";
    r.with.sizes = {8, 65536};
    r.with.rounds = 3;
    r.with.turn_ns = 80'000'000;
    r.with.waiter_cpu = 1;

    contest message;
    message.method = "message";
    message.counterpart = "mq";
    message.matches.push_back({8, around(20e3, 4e6), around(10e3, 1e6)});
    message.absent.push_back({"mq", 65536, "too <long>"});
    r.contests.push_back(message);

    contest pipe;
    pipe.method = "pipe";
    pipe.counterpart = "pipe2";
    pipe.matches.push_back({8, around(9e3, 2e6), around(10e3, 1e6)});
    pipe.matches.push_back({65536, around(50e3, 2e4), around(49e3, 1e4)});
    r.contests.push_back(pipe);

    contest pulse;
    pulse.method = "pulse";
    pulse.counterpart = "eventfd";
    pulse.events = true;
    pulse.matches.push_back({8, around(10e3, 1e5), around(10e3, 2e5)});
    r.contests.push_back(pulse);
    return r;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

bool parses(std::vector<std::string> arguments, options& o, int& status) {
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    return parse_command_line(static_cast<int>(argv.size()), argv.data(), o, status);
}

}  // namespace

TEST_CASE("a message is told from every other one", "[irqbench][compare]") {
    std::vector<std::byte> memory(4096 + 4);
    // As decoded arguments lie: at any address.
    const auto message = std::span(memory).subspan(4);
    fill(message, 7);
    CHECK(is_filled(message, 7));
    CHECK_FALSE(is_filled(message, 8));
    CHECK_NOTHROW(check(message, 4096, 7, "test"));
    CHECK_THROWS_AS(check(message, 4096, 6, "test"), std::runtime_error);
    CHECK_THROWS_AS(check(message.first(4088), 4096, 7, "test"), std::runtime_error);
    for (const std::size_t at : {std::size_t{0}, std::size_t{2048}, std::size_t{4095}}) {
        message[at] ^= std::byte{1};
        CHECK_FALSE(is_filled(message, 7));
        message[at] ^= std::byte{1};
    }
    CHECK(is_filled(message, 7));
}

TEST_CASE("sizes are read and written", "[irqbench][compare]") {
    CHECK(parse_size("8") == 8);
    CHECK(parse_size("64B") == 64);
    CHECK(parse_size("4K") == 4096);
    CHECK(parse_size("4KiB") == 4096);
    CHECK(parse_size("1M") == 1048576);
    CHECK(size_name(8) == "8 B");
    CHECK(size_name(4096) == "4 KiB");
    CHECK(size_name(1536) == "1536 B");
    CHECK(size_name(1048576) == "1 MiB");
    for (const char* wrong : {"", "0", "7", "-8", "K", "8T", "8 ", "5M", "1e3", "9999999999999"})
        CHECK_THROWS_AS(parse_size(wrong), std::invalid_argument);
}

TEST_CASE("ratios say how many times as fast ipcdoor is", "[irqbench][compare]") {
    const match m{64, around(20e3, 3e6), around(10e3, 1e6)};
    CHECK(m.speedup(false) == Approx(0.5));
    CHECK(m.speedup(true) == Approx(3));
    // The rounds drifted alike.
    REQUIRE(m.speedups(false).size() == 3);
    for (const double round : m.speedups(false)) CHECK(round == Approx(0.5));
    CHECK(m.outcome(false) == verdict::slower);
    CHECK(m.outcome(true) == verdict::faster);
    CHECK(match{}.speedup(false) == 0);
}

TEST_CASE("slower is what differs enough, and in most rounds", "[irqbench][compare]") {
    const auto verdict_at = [](double s) { return verdict_of(s, {s, s, s}); };
    CHECK(verdict_at(0.5) == verdict::slower);
    CHECK(verdict_at(0.94) == verdict::slower);
    // What is printed as 0.95.
    CHECK(verdict_at(0.9486) == verdict::equal);
    CHECK(verdict_at(1.05) == verdict::equal);
    CHECK(verdict_at(1.06) == verdict::faster);
    CHECK(verdict_of(0.8, {0.8, 0.8, 0.7, 3}) == verdict::slower);
    CHECK(verdict_of(0.8, {0.8, 0.8, 2, 3}) == verdict::equal);
    CHECK(verdict_of(1.3, {0.8, 1.3, 2, 3}) == verdict::faster);
    CHECK(verdict_of(1.3, {0.8, 0.9, 1.3, 3, 3}) == verdict::equal);
}

TEST_CASE("a comparison comes back from its JSON", "[irqbench][compare]") {
    const compare_report r = small_comparison();
    const std::string text = json_compare(r);
    REQUIRE(is_json_compare(text));
    CHECK(json_compare(parse_json_compare(text)) == text);
    CHECK_FALSE(is_json_compare("{\"kind\":\"other\"}"));
    CHECK_FALSE(is_json_compare("{}"));
    CHECK_FALSE(is_json_compare("[1]"));
    CHECK_FALSE(is_json_compare("nonsense"));
    CHECK_THROWS_AS(parse_json_compare("nonsense"), std::runtime_error);
    CHECK_THROWS_AS(parse_json_compare("{\"kind\":\"comparison\"}"), std::runtime_error);

    const auto j = nlohmann::json::parse(text);
    const auto& line = j.at("comparisons").at(0).at("sizes").at(0);
    CHECK(line.at("round_trip").at("verdict") == "slower");
    CHECK(line.at("throughput").at("times").get<double>() == Approx(4));
    CHECK(line.at("ipcdoor").at("bytes_per_s").get<double>() == Approx(32e6));
    CHECK_FALSE(j.at("comparisons").at(2).at("sizes").at(0).at("ipcdoor").contains("bytes_per_s"));
}

TEST_CASE("the text marks where ipcdoor is slower and what is missing", "[irqbench][compare]") {
    const std::string text = text_compare(small_comparison(), false, false);
    CHECK(contains(text, "message beside POSIX mq"));
    CHECK(contains(text, "0.50<"));
    CHECK(contains(text, "not compared, POSIX mq: too <long>"));
    CHECK(contains(text, "events, 1000/s"));
    CHECK(contains(text, "1.11 "));
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find('\n', at);
        INFO(text.substr(at, end - at));
        CHECK(end - at <= 80);
        at = end + 1;
    }
    const std::string summary = text_compare(small_comparison(), true, false);
    CHECK(contains(summary, "message : POSIX mq"));
    CHECK(contains(summary, "0.98"));
    CHECK_FALSE(contains(summary, "MB/s"));
}

TEST_CASE("reasons are given where they are known", "[irqbench][compare]") {
    const compare_report r = small_comparison();
    compare_parameters kernel = r.with;
    kernel.backend = "kernel";
    kernel.source = "ipi";
    const contest &message = r.contests[0], &pulse = r.contests[2];
    const match& small = message.matches[0];
    CHECK(contains(known_reason(message, small, false, r.with), "four system calls"));
    CHECK(known_reason(message, small, false, kernel).empty());
    CHECK(contains(known_reason(pulse, pulse.matches[0], true, r.with), "ppoll"));
    CHECK(known_reason(pulse, pulse.matches[0], true, kernel).empty());
    kernel.ringer_cpu = kernel.waiter_cpu;
    CHECK(contains(known_reason(pulse, pulse.matches[0], true, kernel), "preempt"));
    const match large{std::size_t{1} << 20, {}, {}};
    CHECK(contains(known_reason(message, large, false, kernel), "power of two"));
    contest rpc;
    rpc.method = "rpc";
    rpc.calls = true;
    CHECK(contains(known_reason(rpc, large, true, kernel), "new memory"));
    // In the reports, too.
    const std::string text = text_compare(r, false, false);
    CHECK(contains(text, "0.50<a"));
    CHECK(contains(text, "<a          soft makes four"));
    CHECK(contains(html_compare(r), "round trip slower: soft makes four"));
}

TEST_CASE("plots have a curve for each method and each counterpart", "[irqbench][compare]") {
    const compare_report r = small_comparison();
    const std::vector<curve> curves = curves_of(r, quantity::round_trip_ns);
    // Events have one size and so no curve.
    REQUIRE(curves.size() == 4);
    CHECK(curves[2].name == "pipe");
    CHECK(curves[2].own);
    CHECK(curves[3].css == curves[2].css);
    CHECK_FALSE(curves[3].own);
    REQUIRE(curves[3].points.size() == 2);
    CHECK(curves[3].points[1].x == 65536);
    CHECK(curves_of(r, quantity::bytes_per_s)[3].points[1].y == Approx(65536e4));

    const std::string html = html_compare(r);
    CHECK(contains(html, "too &lt;long&gt;"));
    CHECK(contains(html, "6.1.0-&lt;test&gt;"));
    CHECK(contains(svg_compare(r, quantity::round_trip_ns), "<svg "));
    compare_report events = r;
    events.contests.erase(events.contests.begin(), events.contests.begin() + 2);
    CHECK_THROWS_AS(svg_compare(events, quantity::round_trip_ns), std::runtime_error);
    CHECK_NOTHROW(html_compare(events));
}

TEST_CASE("the command line of a comparison", "[irqbench][compare]") {
    options o;
    int status = 0;
    REQUIRE(
        parses({"irqbench", "compare", "--quick", "--sizes", "1K,8,1024", "--methods", "pipe,rpc"},
               o, status));
    CHECK(o.what == command::compare);
    CHECK(o.comparison.sizes == std::vector<std::size_t>{8, 1024});
    CHECK(o.comparison.methods == std::vector<std::string>{"pipe", "rpc"});
    CHECK(o.comparison.rounds == 3);

    for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--sizes", "7"},
                                                  {"--methods", "fifo"},
                                                  {"--methods", "none"},
                                                  {"--source", "lapic"},
                                                  {"--rounds", "0"},
                                                  {"--scenario", "same-idle"},
                                                  {"extra"}}) {
        std::vector<std::string> line{"irqbench", "compare"};
        line.insert(line.end(), wrong.begin(), wrong.end());
        INFO(wrong.front());
        options ignored;
        CHECK_FALSE(parses(line, ignored, status));
        CHECK(status == exit_usage);
    }
    options ignored;
    CHECK_FALSE(parses({"irqbench", "--loops", "5", "compare"}, ignored, status));
    CHECK(status == exit_usage);
}

TEST_CASE("an option that means nothing to a command is refused", "[irqbench][tools]") {
    for (const std::vector<std::string>& line :
         {std::vector<std::string>{"irqbench", "info", "--html", "page.html"},
          {"irqbench", "--loops", "5", "info"},
          {"irqbench", "instructions", "--svg", "plot.svg"},
          {"irqbench", "instructions", "-h", "100"},
          {"irqbench", "--validate", "--html", "page.html"},
          {"irqbench", "validate", "--duration", "5"},
          {"irqbench", "report", "run.json", "--max-latency", "5"},
          {"irqbench", "report", "run.json", "--source", "ipi"}}) {
        INFO(line[1] + " " + line[2]);
        options o;
        int status = exit_ok;
        CHECK_FALSE(parses(line, o, status));
        CHECK(status == exit_usage);
    }
    for (const std::vector<std::string>& line :
         {std::vector<std::string>{"irqbench", "info", "--json", "info.json"},
          {"irqbench", "instructions", "--source", "ipi", "--methods", "futex", "--round-trips",
           "5"},
          {"irqbench", "--validate", "-l", "300", "-p", "50", "--json", "valid.json"},
          {"irqbench", "validate", "-a", "0,0"},
          {"irqbench", "report", "run.json", "--json", "a", "--html", "b", "--svg", "c", "-q"},
          {"irqbench", "run", "-h", "100", "--histfile", "h", "--html", "page.html"}}) {
        INFO(line[1] + " " + line[2]);
        options o;
        int status = exit_ok;
        CHECK(parses(line, o, status));
    }
}
