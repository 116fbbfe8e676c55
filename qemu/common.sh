# shellcheck shell=bash
# What every script of the harness needs: where things are, and how to complain.
# Sourced, never run. Sets: TOP (the source tree), CACHE (outside the tree).

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${IPCDOOR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ipcdoor}
BUILD=${IPCDOOR_BUILD:-$TOP/build}
readonly TOP CACHE BUILD

me=${0##*/}

say() { printf '%s: %s\n' "$me" "$*" >&2; }

# Progress is for people: nothing in logs and pipes.
progress() { if [ -t 2 ]; then say "$@"; fi; }

die() {
    local status=1
    if [ "$1" = --status ]; then status=$2; shift 2; fi
    say "$@"
    exit "$status"
}

# The exit status of qemu/run and qemu/shell where there is no guest to speak of.
readonly SETUP=120
fail_setup() { die --status "$SETUP" "$@"; }

need() {
    command -v "$1" > /dev/null || fail_setup "needs '$1' (${2:-tools/setup installs what is missing})"
}

# Quote one word for any POSIX shell.
quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
