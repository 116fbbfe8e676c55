// SPDX-License-Identifier: MIT
// The fuzz targets without a fuzzer: each input that is kept in corpus/TARGET/ runs
// through its target, so a crash that was found and fixed stays a test by adding its
// file there. Besides, each victim of flip is flipped for a moment.
//
// IPCDOOR_TEST_CORPUS names another directory than tests/fuzz/library/corpus, as
// seen from the working directory or from the sources.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "fuzz/library/flip_victims.hpp"
#include "support/catch.hpp"

using target = int(const std::uint8_t* data, std::size_t size);
extern "C" {
target ipcdoor_fuzz_channel;
target ipcdoor_fuzz_names;
target ipcdoor_fuzz_pulse;
target ipcdoor_fuzz_ring_consumer;
target ipcdoor_fuzz_ring_producer;
target ipcdoor_fuzz_soft_accept;
target ipcdoor_fuzz_soft_connect;
target ipcdoor_fuzz_soft_pages;
target ipcdoor_fuzz_soft_segment;
target ipcdoor_fuzz_stream;
}

namespace {

namespace fs = std::filesystem;

const std::map<std::string, target*> targets{
    {"channel", ipcdoor_fuzz_channel},
    {"names", ipcdoor_fuzz_names},
    {"pulse", ipcdoor_fuzz_pulse},
    {"ring_consumer", ipcdoor_fuzz_ring_consumer},
    {"ring_producer", ipcdoor_fuzz_ring_producer},
    {"soft_accept", ipcdoor_fuzz_soft_accept},
    {"soft_connect", ipcdoor_fuzz_soft_connect},
    {"soft_pages", ipcdoor_fuzz_soft_pages},
    {"soft_segment", ipcdoor_fuzz_soft_segment},
    {"stream", ipcdoor_fuzz_stream},
};

fs::path corpus() {
    const char* const given = std::getenv("IPCDOOR_TEST_CORPUS");
    if (given != nullptr && *given != '\0') return given;
    return fs::path(__FILE__).parent_path() / "corpus";
}

std::vector<std::uint8_t> read(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("Every kept input runs through its target", "[corpus]") {
    REQUIRE(fs::is_directory(corpus()));
    for (const auto& directory : fs::directory_iterator(corpus())) {
        INFO(directory.path() << " is not a target's");
        CHECK(targets.count(directory.path().filename().string()) == 1);
    }
    for (const auto& [name, run] : targets) {
        std::vector<fs::path> files;
        for (const auto& file : fs::directory_iterator(corpus() / name)) files.push_back(file);
        std::sort(files.begin(), files.end());
        INFO("target " << name);
        CHECK(!files.empty());
        for (const fs::path& file : files) {
            INFO(file);
            const auto input = read(file);
            CHECK(run(input.data(), input.size()) == 0);
        }
        // Nothing, and too little, are inputs too.
        CHECK(run(nullptr, 0) == 0);
        for (unsigned first = 0; first < 256; ++first) {
            const auto byte = static_cast<std::uint8_t>(first);
            CHECK(run(&byte, 1) == 0);
        }
    }
}

TEST_CASE("No victim breaks while its peer rewrites the shared words", "[flip]") {
    using namespace ipcdoor::fuzz;
    for (const std::string& name : victim_names()) {
        INFO("victim " << name);
        const auto who = make_victim(name);
        REQUIRE(who);
        flip_limits limits;
        limits.flips = 20'000;
        limits.seed = 1;
        const flip_counts counts = run_victim(*who, limits);
        CHECK(counts.flips >= limits.flips);
        CHECK(counts.operations > 0);
    }
}
