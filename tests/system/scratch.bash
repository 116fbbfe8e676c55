# shellcheck shell=bash
# What tests begin with that run programs here; to be sourced. Sets top, build, and `work`, a
# directory that is removed at the end (not by exec). soft: has its names in it.

top=$(cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
work=$(mktemp -d "${TMPDIR:-/tmp}/ipcdoor-$(basename "$0" .sh).XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -m 700 "$work/runtime"
export IPCDOOR_RUNTIME_DIR=$work/runtime

fail() {
    echo "FAILED: $*"
    exit 1
}

# wait_until COMMAND…: it succeeds; for a minute.
wait_until() {
    local end=$((SECONDS + 60))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "not within a minute: $*"
        sleep 0.02
    done
}

# refused STATUS TEXT COMMAND…: it ends with that status, and says so on stderr.
refused() {
    local wanted=$1 text=$2 status=0
    shift 2
    "$@" < /dev/null > /dev/null 2> "$work/refused.err" || status=$?
    [ "$status" = "$wanted" ] || fail "'$*' ended with $status where $wanted was wanted"
    grep -qF -e "$text" "$work/refused.err" || fail "'$*' was refused with: $(cat "$work/refused.err")"
}

# json_says FILE KEY VALUE: of a summary, which has a line for each.
json_says() { grep -q "\"$2\": $3" "$1" || fail "$1 does not say $2: $3: $(cat "$1")"; }

no_names_left() {
    local left
    left=$(find "$work/runtime" -name '*.sock' -o -name '*.listener')
    [ -z "$left" ] || fail "names were left behind: $left"
}
