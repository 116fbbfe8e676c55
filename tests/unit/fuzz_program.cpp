// SPDX-License-Identifier: MIT
// The kernel fuzzer's programs: their text, and that they are made the same each time.
#include <set>
#include <stdexcept>
#include <string>

#include "fuzz/kernel/mutate.hpp"
#include "fuzz/kernel/program.hpp"
#include "support/catch.hpp"

using namespace kfuzz;

namespace {

std::vector<program> generate(std::uint64_t seed, unsigned count) {
    random_numbers random(seed);
    std::vector<program> made{make_program(random), make_program(random)};
    while (made.size() < count) switch (random.below(6)) {
            case 0: made.push_back(make_program(random)); break;
            case 1: made.push_back(make_race(random)); break;
            default:
                made.push_back(mutate(made[random.below(made.size())],
                                      made[random.below(made.size())], random));
        }
    return made;
}

}  // namespace

TEST_CASE("a fuzzing program's text reads back as the same program", "[fuzz]") {
    for (const program& one : generate(1, 2000)) {
        const auto lines = parse_programs(to_text(one));
        REQUIRE(lines.size() == 1);
        REQUIRE(lines[0] == one);
        const auto record = parse_programs(to_text(one, "; "));
        REQUIRE(record.size() == 1);
        REQUIRE(record[0] == one);
    }
}

TEST_CASE("the same seed makes the same fuzzing programs, another one others", "[fuzz]") {
    CHECK(generate(7, 300) == generate(7, 300));
    CHECK(generate(7, 300) != generate(8, 300));
}

TEST_CASE("fuzzing programs keep to their limits and use every operation", "[fuzz]") {
    std::set<op_kind> kinds;
    std::set<unsigned> players;
    for (const program& one : generate(3, 3000)) {
        REQUIRE(one.size() >= min_operations);
        REQUIRE(one.size() <= max_operations);
        for (const operation& op : one) {
            kinds.insert(op.kind);
            players.insert(op.actor);
        }
    }
    CHECK(kinds.size() == op_kinds);
    CHECK(players.size() == actors);
}

TEST_CASE("what is left out of an operation has its usual value", "[fuzz]") {
    const auto parsed = parse_programs("t1 create fd=f2 to=f3 name=\"a b\" slots=0x10\n");
    REQUIRE(parsed.size() == 1);
    const operation& op = parsed[0].at(0);
    CHECK(op.kind == op_kind::create);
    CHECK(op.actor == 1);
    CHECK(op.get("fd") == 2);
    CHECK(op.get("to") == 3);
    CHECK(op.get("slots") == 16);
    CHECK(names()[op.get("name")] == "a b");
    CHECK(op.get("mode") == 0600);
    CHECK(op.get("uid") == 0xffffffff);
}

TEST_CASE("an empty line ends a fuzzing program, a comment does not", "[fuzz]") {
    const auto parsed = parse_programs("t0 open to=f0\n# why\nt0 get_info fd=f0\n\n\nt0 exit\n");
    REQUIRE(parsed.size() == 2);
    CHECK(parsed[0].size() == 2);
    CHECK(parsed[1].size() == 1);
}

TEST_CASE("a fuzzing program that is none is refused with its line", "[fuzz]") {
    for (const char* wrong :
         {"t0 fly", "t9 open", "t0 open to=f12", "t0 open to=m0", "t0 open 5", "t0 open colour=1",
          "t0 create name=\"unheard-of\"", "t0 ring value=many", "t0 ring value=1x"}) {
        INFO(wrong);
        const std::string text = std::string("t0 open to=f0\n") + wrong + "\n";
        try {
            parse_programs(text);
            FAIL("it was taken");
        } catch (const std::runtime_error& error) {
            CHECK(std::string(error.what()).rfind("line 2: ", 0) == 0);
        }
    }
}
