#!/bin/bash
# irqbench compare on the software back end, natively: every method and counterpart is
# measured at every size, the JSON's figures fit together, the reports are made from it,
# nothing is left behind, and nonsense is refused in words. How fast anything is, is not
# judged.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"
irqbench=$build/plain/tools/irqbench
cd "$work"

if [ "$(nproc)" -lt 2 ]; then echo "note: one CPU, so both processes share it"; fi

"$irqbench" compare --quick --door soft: --json run.json --html run.html --svg run.svg \
    > run.txt 2> run.err || fail "exit status $?: $(cat run.err)"
[ ! -s run.err ] || fail "without a terminal it said: $(cat run.err)"
"$build/plain/tests/system/compare_json" run.json soft || fail "run.json"
no_names_left

awk 'length > 80 { exit 1 }' run.txt || fail "lines of more than 80 characters: $(cat run.txt)"
for method in message 'message in place' call rpc pipe stream 'shared memory' pulse 'bound signal' doorbell; do
    grep -q "^$method beside " run.txt || fail "the text lacks $method: $(cat run.txt)"
done
grep -q 'not compared, POSIX mq: ' run.txt || fail "the limit of POSIX queues is not stated"
[ "$(grep -c '<svg ' run.html)" -ge 2 ] || fail "the page has no plots"
grep -q '<svg xmlns' run.svg || fail "the plot is none"

# What was kept gives the same reports again.
"$irqbench" report run.json --html again.html > again.txt || fail "report"
cmp run.txt again.txt || fail "report says something else"
cmp run.html again.html || fail "report makes another page"
"$irqbench" report run.json --summary | grep -q '^doorbell : futex' || fail "report --summary"

refused 2 "a multiple of 8" "$irqbench" compare --sizes 12
refused 2 "unknown name 'fifo'; known are message" "$irqbench" compare --methods fifo
refused 2 "unknown name 'lapic'" "$irqbench" compare --source lapic
refused 2 "stands before 'compare'" "$irqbench" --loops 5 compare
refused 2 "--scenario" "$irqbench" compare --scenario same-idle
refused 3 "/nowhere is missing" "$irqbench" compare --door door:/nowhere
refused 1 "source msi" "$irqbench" compare --door soft: --source msi --quick
