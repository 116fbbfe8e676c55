#!/bin/bash
# The harness itself: every way in which a run can end has its exit status, and
# what passes through it arrives unchanged. Uses a stand-in for the module that
# misbehaves on demand (qemu/selftest).
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
work=$(mktemp -d "${TMPDIR:-/tmp}/ipcdoor-harness.XXXXXX")
trap 'rm -rf "$work"' EXIT

read -r release _ kdir <<< "$("$top/qemu/kernel")"
module=$build/qemu-selftest/$release
mkdir -p "$module"
cp -u "$top"/qemu/selftest/* "$module"
make -s -C "$kdir" M="$module" CONFIG_DEBUG_INFO_BTF_MODULES= modules > "$work/make.log" 2>&1 ||
    { cat "$work/make.log"; exit 1; }

failures=$work/failures
: > "$failures"
fail() {
    echo "FAILED: $*"
    echo "$*" >> "$failures"
}

# expect STATUS TEXT ARGUMENT…: qemu/run with the arguments exits with STATUS, and
# what it writes to stderr contains TEXT.
expect() {
    local wanted=$1 text=$2 log status=0
    shift 2
    log=$(mktemp "$work/log.XXXXXX")
    "$top/qemu/run" --module "$module/ipcdoor.ko" --cpus 1 --timeout 60 "$@" > /dev/null 2> "$log" || status=$?
    if [ "$status" != "$wanted" ] || { [ -n "$text" ] && ! grep -qF -- "$text" "$log"; }; then
        fail "wanted exit status $wanted and \"$text\", got $status: $*"
        sed 's/^/    /' "$log"
    fi
}

# Output, files, arguments and environment, one boot.
passes_through() {
    local words=("a b" "it's" '$HOME' '*' '') status=0
    head -c 20000 /dev/urandom > "$work/sent"
    # shellcheck disable=SC2016
    "$top/qemu/run" --module "$module/ipcdoor.ko" --timeout 60 --env "NOTE=x 'y'" \
        --add "$work/sent" --add "$(command -v ls)=/usr/bin/host-ls" \
        --get /tmp/copy="$work/copy" -- \
        sh -c 'cat sent; cp sent /tmp/copy; host-ls -d /dev/ipcdoor0 >&2; nproc >&2
            id -u user >&2; id -u other >&2; printf "<%s>" "$NOTE" "$@" >&2; exit 7' sh "${words[@]}" \
        > "$work/received" 2> "$work/errors" || status=$?
    [ "$status" = 7 ] || fail "an exit status of 7 came back as $status: $(cat "$work/errors")"
    cmp "$work/sent" "$work/received" || fail "stdout was changed on the way"
    cmp "$work/sent" "$work/copy" || fail "a file was changed on the way"
    {
        printf '/dev/ipcdoor0\n2\n1000\n1001\n'
        printf '<%s>' "x 'y'" "${words[@]}"
    } > "$work/wanted"
    cmp "$work/wanted" "$work/errors" || fail "stderr was: $(cat "$work/errors")"
}

# Two guests at a time, besides the one that only sleeps.
running=0
background() {
    "$@" &
    running=$((running + 1))
    if [ "$running" -ge 2 ]; then
        wait -n
        running=$((running - 1))
    fi
}

expect 120 "see --help" --no-such-option 1 -- true
expect 120 "no such file" --add /no/such/file -- true
expect 123 "hrtimer_nanosleep" --timeout 20 -- sleep 60 & # mostly idle
background passes_through
background expect 0 "" -- rmmod ipcdoor
background expect 119 "reported as 119" -- sh -c 'exit 122'
background expect 121 "No such device" --module-args refuse=1 -- true
background expect 122 "sysrq triggered crash" -- sh -c 'echo c > /proc/sysrq-trigger'
background expect 122 "NULL pointer dereference" -- sh -c 'echo oops > /dev/ipcdoor0'
background expect 124 "planted warning" -- sh -c 'echo warn > /dev/ipcdoor0'
background expect 124 "scheduling while atomic" -- sh -c 'echo atomic > /dev/ipcdoor0'
background expect 125 "can't unload" -- sh -c 'echo leak > /dev/ipcdoor0'
background expect 0 "" -- sh -c 'sleep 60 > /dev/ipcdoor0 & sleep 0.1'
wait
[ ! -s "$failures" ]
