#!/bin/bash
# ipcdoor-cat on the software back end, natively: much data with equal checksums while
# the reader is stopped and goes on, in either order of starting; and how it ends when
# a side is killed, fails, never comes, or is asked for nonsense. Then data with equal
# checksums on the module, in a guest, where the reader is stopped, too.
# IPCDOOR_TEST_CAT_BYTES: how much natively, 268435456 unless set;
# IPCDOOR_TEST_CAT_GUEST_BYTES: in the guest, 16777216 unless set.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"
cat=$build/plain/tools/ipcdoor-cat
bytes=${IPCDOOR_TEST_CAT_BYTES:-268435456}
guest_bytes=${IPCDOOR_TEST_CAT_GUEST_BYTES:-16777216}
export IPCDOOR_URI=soft:
cd "$work"

# wanted STATUS PID WHAT: a background process ends with that exit status.
wanted() {
    local status=0
    wait "$2" || status=$?
    [ "$status" = "$1" ] || fail "$3: exit status $status where $1 was wanted: $(cat ./*.err 2> /dev/null)"
}

# until_there FILE: it has something in it.
until_there() { wait_until [ -s "$1" ]; }
# until_asleep PID: it waits for something.
until_asleep() { wait_until grep -q '^State:[[:space:]]*S' "/proc/$1/status"; }

# --- much data, and a reader that is stopped ----------------------------------

carries() {
    local first=$1 in out
    rm -f ./*.sum ./*.json ./*.err
    start_in() { "$cat" --json in.json in much 2> in.err > >(sha256sum > in.sum) & in=$!; }
    start_out() {
        { head -c "$bytes" /dev/urandom | tee >(sha256sum > out.sum) |
            "$cat" --json out.json out much 2> out.err; } & out=$!
    }
    "start_$first"
    sleep 0.2
    if [ "$first" = in ]; then start_out; else start_in; fi
    local stops=0
    while kill -STOP "$in" 2> /dev/null; do
        sleep 0.1
        kill -CONT "$in" && stops=$((stops + 1))
        sleep 0.1
    done
    wanted 0 "$in" "the reader"
    wanted 0 "$out" "the writer"
    until_there in.sum && until_there out.sum
    cmp in.sum out.sum || fail "the checksums differ"
    for side in in out; do
        json_says "$side.json" bytes "$bytes,"
        json_says "$side.json" complete true
        [ ! -s "$side.err" ] || fail "$side said: $(cat "$side.err")"
    done
    echo "note: $bytes bytes carried, the $first side first, the reader stopped $stops times"
}
carries in
carries out

# --- small ones ---------------------------------------------------------------

"$cat" in empty > nothing & in=$!
"$cat" out empty < /dev/null || fail "nothing at all could not be carried"
wanted 0 "$in" "the reader of nothing"
[ ! -s nothing ] || fail "nothing became something"

printf 'a\0b' | "$cat" --capacity 1 out small & out=$!
[ "$("$cat" in small | od -An -c | tr -d ' ')" = 'a\0b' ] || fail "three bytes were changed"
wanted 0 "$out" "the writer of three bytes"

# --- killed, failed ------------------------------------------------------------

# What a killed writer had written is passed on, and then the reader fails.
mkfifo feed
"$cat" --json in.json in killed > got 2> in.err & in=$!
"$cat" out killed < feed 2> out.err & out=$!
exec 3> feed
printf 'half of it' >&3
until_there got
kill -KILL "$out"
wanted 137 "$out" "the killed writer"
wanted 1 "$in" "the reader of a killed writer"
exec 3>&-
[ "$(cat got)" = 'half of it' ] || fail "what was written before the kill did not arrive: $(cat got)"
grep -q 'died before it had finished' in.err || fail "the reader said: $(cat in.err)"
json_says in.json complete false
json_says in.json bytes 10,

# A killed reader's writer fails.
"$cat" in killed > /dev/null & in=$!
yes | "$cat" out killed 2> out.err & out=$!
until_asleep "$in" || true
sleep 0.2
kill -KILL "$in"
wanted 137 "$in" "the killed reader"
wanted 1 "$out" "the writer to a killed reader"
grep -q 'the reader is gone' out.err || fail "the writer said: $(cat out.err)"

# A reader killed at the very end, before it has passed everything on, too.
mkfifo slow
"$cat" in killed > slow & in=$!
head -c 300000 /dev/zero | "$cat" out killed 2> out.err & out=$!
exec 4< slow
until_asleep "$out"
sleep 0.2
kill -KILL "$in"
wanted 137 "$in" "the reader killed at the end"
wanted 1 "$out" "the writer to a reader killed at the end"
exec 4<&-

# A writer whose input fails aborts, so the reader fails as well.
"$cat" in broken > /dev/null 2> in.err & in=$!
status=0
"$cat" out broken < "$work" 2> out.err || status=$?
[ "$status" = 1 ] || fail "reading a directory: exit status $status"
wanted 1 "$in" "the reader of a writer that failed"

# A consumer that goes away ends both: SIGPIPE here, an error there.
yes | "$cat" out gone 2> out.err & out=$!
status=0
{ "$cat" in gone || echo $? > in.status; } | head -c 1 > /dev/null
until_there in.status
[ "$(cat in.status)" = 141 ] || fail "without a consumer: exit status $(cat in.status)"
wanted 1 "$out" "the writer without a consumer"

# --- nobody, nonsense ----------------------------------------------------------

refused 1 "nobody opened the other end" "$cat" --timeout 0.1 in nobody
refused 1 "nobody opened the other end" "$cat" --timeout 0 out nobody
refused 1 "the schemes are" "$cat" --uri nonsense:x in nobody
refused 2 "NAME" "$cat" in
refused 2 "subcommand" "$cat" --timeout 1
refused 2 "is no mode" "$cat" --mode 9 in nobody
refused 2 "--capacity" "$cat" --capacity 3X in nobody
refused 2 "--timeout" "$cat" --timeout soon in nobody

"$cat" --timeout 60 out twice < /dev/null 2> first.err & first=$!
status=0
"$cat" --timeout 60 out twice < /dev/null 2> second.err || status=$?
[ "$status" = 1 ] || fail "two writers: exit status $status"
wanted 1 "$first" "the first of two writers"
for side in first second; do
    grep -q "this end is a pipe's writer" "$side.err" || fail "the $side of two writers said: $(cat "$side.err")"
done

no_names_left

# --- on the module --------------------------------------------------------------

cat > carry.sh <<'CARRY'
set -eu
bytes=$1
mkfifo to_sum from_cat
sha256sum < to_sum > out.sum & out_sum=$!
sha256sum < from_cat > in.sum & in_sum=$!
ipcdoor-cat --json in.json in much > from_cat & in=$!
{ head -c "$bytes" /dev/urandom | tee to_sum | ipcdoor-cat out much; } & out=$!
stops=0
while kill -STOP "$in" 2> /dev/null; do
    sleep 0.2
    kill -CONT "$in" && stops=$((stops + 1))
    sleep 0.5
done
wait "$in"
wait "$out"
wait "$out_sum"
wait "$in_sum"
cmp in.sum out.sum || { echo "the checksums differ"; exit 1; }
grep -q "\"bytes\": $bytes," in.json || { cat in.json; exit 1; }
echo "note: $bytes bytes carried on the module, the reader stopped $stops times"
CARRY
"$top/qemu/run" --timeout 1200 --env IPCDOOR_URI=door:/dev/ipcdoor0 --add "$cat" --add carry.sh -- \
    sh carry.sh "$guest_bytes" || fail "in the guest: status $?"
