#!/bin/bash
# ipcdoor-bench --quick: every contestant of every group runs, its system calls are
# counted, the JSON's figures fit together, the page is made, nothing is left behind, and
# nonsense is refused in words. How fast anything is, is not judged.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"
bench=$build/plain/tools/ipcdoor-bench
cd "$work"

if [ ! -x "$bench" ]; then
    echo "$bench is not built (it needs Google Benchmark): tools/setup --bench, then make bench"
    exit 77
fi

"$bench" --list > list.txt || fail "--list"
"$bench" --quick --json run.json --html run.html > run.txt 2> run.err ||
    fail "exit status $?: $(cat run.err run.txt)"
[ ! -s run.err ] || fail "without a terminal it said: $(cat run.err)"
"$build/plain/tests/system/bench_json" run.json list.txt || fail "run.json"
no_names_left

awk 'length > 80 { exit 1 }' run.txt || fail "lines of more than 80 characters: $(cat run.txt)"
grep -q '^Goals: [0-9]* met, [0-9]* not met$' run.txt || fail "no sum of goals: $(cat run.txt)"
groups=$(grep -c '^[a-z]' list.txt)
[ "$(grep -c '<svg ' run.html)" = "$groups" ] || fail "not a plot for each of $groups groups"

# Some of it.
"$bench" --quick --repetitions 5 --filter '^semaphore/sem_t$' --json some.json > some.txt || fail "--filter"
grep -q '^sem_t ' some.txt || fail "--filter: $(cat some.txt)"
if grep -q 'ipcdoor::' some.txt; then fail "--filter lets others through: $(cat some.txt)"; fi
grep -q '"repetitions":5,' some.json || fail "--repetitions"

refused 2 "--repetitions" "$bench" --repetitions 0
refused 2 "--scenario" "$bench" --scenario
refused 1 "nothing matches the filter" "$bench" --filter 'no such thing'
refused 1 "no regular expression" "$bench" --filter '['
refused 1 "cannot write" "$bench" --quick --filter sem_t --json nowhere/run.json
