// SPDX-License-Identifier: MIT
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "irqbench/plots.hpp"
#include "irqbench/report_html.hpp"
#include "irqbench/report_json.hpp"
#include "irqbench/report_text.hpp"
#include "support/catch.hpp"

using namespace irqbench;

namespace {

histogram around(double median_ns, unsigned samples, unsigned seed) {
    std::mt19937 random(seed);
    std::lognormal_distribution<double> latency(std::log(median_ns), 0.3);
    histogram h;
    for (unsigned i = 0; i < samples; ++i) h.record(static_cast<std::uint64_t>(latency(random)));
    return h;
}

cell method_cell(const char* name, method_kind kind, measure what, double median_ns) {
    cell c;
    c.method = name;
    c.kind = kind;
    c.what = what;
    c.total_ns = around(median_ns, 1000, 7);
    if (what == measure::one_way) c.send_ns = around(median_ns / 5, 1000, 8);
    return c;
}

cell source_cell(const char* name, double median_ns) {
    cell c = method_cell(name, method_kind::source, measure::one_way, median_ns);
    c.awake = 3;
    c.unstamped = 1;
    c.by_stage.emplace();
    for (std::size_t i = 0; i < stage_count; ++i)
        c.by_stage->each_ns[i] = around(median_ns / 4, 1000, static_cast<unsigned>(i));
    c.by_stage->handler_to_user_ns = around(median_ns / 2, 1000, 9);
    c.by_stage->in_interrupt = 990;
    c.by_stage->handler_cpus = {{0, 10}, {1, 990}};
    c.by_stage->splits = {{50, 10, {1e3, 2e3, 3e3, 4e3}}, {99, 10, {1e3, 2e3, 3e3, 9e3}}};
    return c;
}

run_report small_report() {
    run_report r;
    r.started = "2026-01-02T03:04:05Z";
    r.duration_s = 12.5;
    r.on.kernel = "6.1.0-test";
    r.on.kernel_build = "#1 SMP PREEMPT_DYNAMIC <Test> & \"Co\"";
    r.on.architecture = "x86_64";
    r.on.cpu_model = "A processor";
    r.on.cpus_online = 2;
    r.on.cpus_allowed = {0, 1};
    r.on.clock_source = "tsc";
    r.on.where = environment::emulated;
    r.on.hypervisor = "QEMU TCG";
    r.on.preemption = "voluntary (PREEMPT_DYNAMIC)";
    r.module = {"0.1.0", 1, "msi", {"msi", "ipi"}};
    r.clock_cost = {144.5, 80};
    r.with = {"irqbench --json '<x>'", 50, 1000, 100, 5, 20, 0, 1, 0, 1};
    r.cells = {source_cell("msi", 60e3), source_cell("ipi", 55e3)};
    for (measure what : {measure::one_way, measure::round_trip}) {
        r.cells.push_back(method_cell("ipcdoor:msi", method_kind::door, what, 50e3));
        r.cells.push_back(method_cell("eventfd", method_kind::peer, what, 70e3));
    }
    cell loaded = source_cell("msi", 90e3);
    loaded.where = {true, true};
    r.cells.push_back(loaded);
    r.absent = {{"mq", "the kernel has no POSIX message queues (CONFIG_POSIX_MQUEUE)"}};
    r.notes = {"A note with <angle> brackets."};
    return r;
}

std::size_t count_of(const std::string& text, const std::string& what) {
    std::size_t n = 0;
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
    return n;
}

}  // namespace

TEST_CASE("a JSON report read back is the same report", "[irqbench][json]") {
    const std::string text = json_report(small_report());
    CHECK(json_report(parse_json_report(text)) == text);
}

TEST_CASE("the JSON report names its version, sources, stages and methods", "[irqbench][json]") {
    const auto j = nlohmann::json::parse(json_report(small_report()));
    CHECK(j.at("output_version") == 1);
    CHECK(j.at("machine").at("comparison_only") == true);
    CHECK(j.at("sources").at("msi").at("samples") == 1000);
    const auto& main = j.at("sources").at("msi").at("cells").at(0);
    for (const char* stage : {"call_to_ring", "ring_to_handler", "handler_to_wake", "wake_to_user",
                              "handler_to_user"}) {
        CAPTURE(stage);
        CHECK(main.at("stages").at(stage).at("count") == 1000);
        CHECK(main.at("stages").at(stage).at("buckets").size() > 1);
    }
    CHECK(main.at("in_interrupt_percent") == Approx(99.0));
    CHECK(main.at("total").at("p50").get<double>() == Approx(60e3).epsilon(0.1));
    CHECK(j.at("sources").at("msi").at("cells").at(1).at("scenario") == "same-loaded");
    CHECK(j.at("methods").contains("eventfd"));
    CHECK(j.at("methods").contains("ipcdoor:msi"));
    CHECK(j.at("absent").at("mq").get<std::string>().find("CONFIG_POSIX_MQUEUE") !=
          std::string::npos);
}

TEST_CASE("what is not an irqbench report is refused with the reason", "[irqbench][json]") {
    CHECK_THROWS_WITH(parse_json_report("hello"),
                      ipcdoor::test::contains("not an irqbench report"));
    CHECK_THROWS_WITH(parse_json_report("{}"), ipcdoor::test::contains("output_version"));
    CHECK_THROWS_WITH(parse_json_report("{\"output_version\": 99}"),
                      ipcdoor::test::contains("output_version 1 expected, 99 found"));
    auto j = nlohmann::json::parse(json_report(small_report()));
    j["sources"]["msi"]["cells"][0]["scenario"] = "nowhere";
    CHECK_THROWS_WITH(parse_json_report(j.dump()), ipcdoor::test::contains("nowhere"));
    j = nlohmann::json::parse(json_report(small_report()));
    j["sources"]["msi"]["cells"][0]["total"]["max"] = 1;
    CHECK_THROWS_WITH(parse_json_report(j.dump()),
                      ipcdoor::test::contains("not an irqbench report"));
}

TEST_CASE("the text report is ASCII and fits a serial console", "[irqbench][text]") {
    std::istringstream lines(text_report(small_report(), false));
    std::size_t n = 0;
    for (std::string line; std::getline(lines, line); ++n) {
        CAPTURE(line);
        CHECK(line.size() <= 80);
        for (char c : line) REQUIRE((c >= 0x20 && c < 0x7f));
    }
    CHECK(n > 30);
}

TEST_CASE("the text report says what the figures are worth", "[irqbench][text]") {
    const std::string text = text_report(small_report(), false);
    for (const char* expected :
         {"emulated (QEMU TCG): latencies are good for comparison only", "99.0 % in interrupt",
          "a timestamp costs 144 ns", "wake to user", "dropped: 3 receiver awake", "POSIX mq",
          "nothing subtracted", "isolated CPUs: none"}) {
        CAPTURE(expected);
        CHECK(text.find(expected) != std::string::npos);
    }
    CHECK(text_report(small_report(), true).find("\033[1m") != std::string::npos);
}

TEST_CASE("the cyclictest-like histogram has a column for each method", "[irqbench][text]") {
    microsecond_histogram a, b;
    a.method = "msi";
    b.method = "eventfd";
    a.counts.resize(3);
    b.counts.resize(3);
    a.record(1500);
    b.record(2500);
    b.record(9000);
    const std::string text = text_histogram({a, b});
    CHECK(text.find("000000\t000000\t000000\n000001\t000001\t000000\n000002\t000000\t000001\n") !=
          std::string::npos);
    CHECK(text.find("# Total: 00001 00002\n") != std::string::npos);
    CHECK(text.find("# Histogram Overflows: 00000 00001\n") != std::string::npos);
    CHECK(text.find("# Max Latencies: 00001 00009\n") != std::string::npos);
}

TEST_CASE("the HTML report needs no network, no script and escapes what it quotes",
          "[irqbench][html]") {
    const std::string html = html_report(small_report());
    CHECK(html.find("http") == std::string::npos);
    CHECK(html.find("<script") == std::string::npos);
    CHECK(html.find("@import") == std::string::npos);
    CHECK(html.find("url(") == std::string::npos);
    CHECK(html.find("prefers-color-scheme:dark") != std::string::npos);
    CHECK(html.find("&lt;Test&gt; &amp; &quot;Co&quot;") != std::string::npos);
    CHECK(html.find("<Test>") == std::string::npos);
    CHECK(html.find("<angle>") == std::string::npos);
    CHECK(html.find("Emulated processor") != std::string::npos);
}

TEST_CASE("every plot of the HTML report is labelled, once", "[irqbench][html]") {
    const std::string html = html_report(small_report());
    const std::size_t plots = count_of(html, "<svg ");
    CHECK(plots >= 10);
    CHECK(count_of(html, "role=\"img\"") == plots);
    CHECK(count_of(html, "<desc id=") == plots);
    CHECK(count_of(html, "id=\"p1-t\"") == 1);
    CHECK(html.find("nan") == std::string::npos);
    CHECK(html.find("inf\"") == std::string::npos);
    for (const char* tag : {"table", "div", "tr", "svg", "p", "main"}) {
        CAPTURE(tag);
        const std::string name(tag);
        CHECK(count_of(html, "<" + name + ">") + count_of(html, "<" + name + " ") ==
              count_of(html, "</" + name + ">"));
    }
}

TEST_CASE("a report of peers alone is complete too", "[irqbench][html]") {
    run_report r = small_report();
    std::erase_if(r.cells, [](const cell& c) { return c.kind != method_kind::peer; });
    r.module.reset();
    CHECK(html_report(r).find("eventfd") != std::string::npos);
    CHECK(svg_report(r).find("eventfd") != std::string::npos);
    CHECK(text_report(r, false).find("eventfd") != std::string::npos);
    CHECK(json_report(parse_json_report(json_report(r))) == json_report(r));
}

TEST_CASE("an empty report is an error, not an empty page", "[irqbench][html]") {
    CHECK_THROWS_AS(html_report(run_report{}), std::runtime_error);
    CHECK_THROWS_AS(svg_report(run_report{}), std::runtime_error);
}

TEST_CASE("the SVG file stands alone in light and dark", "[irqbench][svg]") {
    const std::string svg = svg_report(small_report());
    CHECK(svg.rfind("<svg xmlns=\"http://www.w3.org/2000/svg\"", 0) == 0);
    CHECK(svg.find("prefers-color-scheme:dark") != std::string::npos);
    CHECK(svg.find("ipcdoor msi") != std::string::npos);
    CHECK(svg.find("(emulated)") != std::string::npos);
    CHECK(svg.substr(svg.size() - 7) == "</svg>\n");
}

TEST_CASE("labels are moved apart, stay in order and within their range", "[irqbench][svg]") {
    const std::vector<double> wanted{100, 101, 102, 5, 300, 299};
    const auto placed = spread_labels(wanted, 15, 0, 305);
    for (std::size_t i = 0; i < wanted.size(); ++i)
        for (std::size_t k = 0; k < wanted.size(); ++k) {
            if (wanted[i] < wanted[k]) {
                CAPTURE(i, k);
                CHECK(placed[k] - placed[i] >= 15 - 1e-9);
            }
        }
    for (double p : placed) {
        CHECK(p >= 0);
        CHECK(p <= 305 + 1e-9);
    }
    CHECK(placed[3] == 5);  // far from the others: stays
    CHECK(placed[1] == Approx(101));
}

TEST_CASE("axes have round ticks", "[irqbench][svg]") {
    CHECK(linear_ticks(70, 8) == std::vector<double>{0, 10, 20, 30, 40, 50, 60, 70});
    CHECK(linear_ticks(1.5, 5).back() >= 1.5);
    CHECK(linear_ticks(0, 5).size() >= 2);
    const auto [low, high] = nice_log_range(23, 890);
    CHECK(low == 20);
    CHECK(high == 1000);
    const log_scale scale(10, 1000, 0, 100);
    CHECK(scale(100) == Approx(50));
    CHECK(scale(1) == 0);
    CHECK(scale(1e9) == 100);
    CHECK(scale.ticks().front() == Approx(10));
}

TEST_CASE("text is escaped for SVG and HTML", "[irqbench][svg]") {
    CHECK(escape("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
    CHECK(escape(std::string("x\x01y")) == "x?y");
}
