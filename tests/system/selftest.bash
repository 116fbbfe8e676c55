# shellcheck shell=bash
# For the tests of the harness itself: a stand-in for the module that misbehaves on
# demand (qemu/selftest), and what must become of it. Sourced; sets misbehaving, the
# module's file, beside what scratch.bash does.

. "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/scratch.bash"

build_misbehaving() {
    local release kdir
    read -r release _ kdir <<< "$("$top/qemu/kernel")"
    misbehaving=$build/qemu-selftest/$release/ipcdoor.ko
    mkdir -p "${misbehaving%/*}"
    cp -u "$top"/qemu/selftest/* "${misbehaving%/*}"
    "$top/kmod/make" "$kdir" "${misbehaving%/*}" > "$work/make.log" 2>&1 || { cat "$work/make.log"; exit 1; }
}

: > "$work/failures"
# Goes on: what else is wrong is worth knowing.
fail() {
    echo "FAILED: $*"
    echo "$*" >> "$work/failures"
}
# Exits: with 0 if nothing failed.
finish() { [ ! -s "$work/failures" ]; }

# How long a guest may take; a debug kernel needs more.
timeout_s=120

# expect STATUS TEXT ARGUMENT…: qemu/run with the arguments exits with one of STATUS
# (several with "|" between them), and what it writes to stderr contains TEXT.
expect() {
    local wanted=$1 text=$2 log status=0
    shift 2
    log=$(mktemp "$work/log.XXXXXX")
    "$top/qemu/run" --module "$misbehaving" --timeout "$timeout_s" "$@" > /dev/null 2> "$log" || status=$?
    if [[ "|$wanted|" != *"|$status|"* ]] || { [ -n "$text" ] && ! grep -qF -- "$text" "$log"; }; then
        fail "wanted exit status $wanted and \"$text\", got $status: $*"
        sed 's/^/    /' "$log"
    fi
}

# Two guests at a time.
running=0
background() {
    "$@" &
    running=$((running + 1))
    if [ "$running" -ge 2 ]; then
        wait -n
        running=$((running - 1))
    fi
}
