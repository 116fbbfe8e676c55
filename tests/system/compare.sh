#!/bin/bash
# irqbench compare on the software back end, natively: every method and counterpart is
# measured at every size, the JSON's figures fit together, the reports are made from it,
# nothing is left behind, and nonsense is refused in words. How fast anything is, is not
# judged.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
irqbench=$build/plain/tools/irqbench
work=$(mktemp -d "${TMPDIR:-/tmp}/ipcdoor-compare.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -m 700 "$work/runtime"
export IPCDOOR_RUNTIME_DIR=$work/runtime
cd "$work"

fail() {
    echo "FAILED: $*"
    exit 1
}

if [ "$(nproc)" -lt 2 ]; then echo "note: one CPU, so both processes share it"; fi

"$irqbench" compare --quick --door soft: --json run.json --html run.html --svg run.svg \
    > run.txt 2> run.err || fail "exit status $?: $(cat run.err)"
[ ! -s run.err ] || fail "without a terminal it said: $(cat run.err)"
"$build/plain/tests/system/compare_json" run.json soft || fail "run.json"
[ -z "$(find runtime -name '*.sock')" ] || fail "names were left behind: $(find runtime -name '*.sock')"

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

# refused WORDS ARGUMENT…: a usage error that says so.
refused() {
    local words=$1 status=0
    shift
    "$irqbench" "$@" > /dev/null 2> refused.err || status=$?
    [ "$status" = 2 ] || fail "'$*' ended with $status where 2 was wanted"
    grep -q -e "$words" refused.err || fail "'$*' was refused with: $(cat refused.err)"
}
refused "a multiple of 8" compare --sizes 12
refused "unknown name 'fifo'; known are message" compare --methods fifo
refused "unknown name 'lapic'" compare --source lapic
refused "stands before 'compare'" --loops 5 compare
refused "--scenario" compare --scenario same-idle

status=0
"$irqbench" compare --door door:/nowhere > /dev/null 2> nowhere.err || status=$?
[ "$status" = 3 ] || fail "a door that is not there: exit status $status, $(cat nowhere.err)"
status=0
"$irqbench" compare --door soft: --source msi --quick > /dev/null 2> source.err || status=$?
[ "$status" = 1 ] || fail "an absent source: exit status $status, $(cat source.err)"
grep -q 'source msi' source.err || fail "an absent source: $(cat source.err)"
