#!/bin/bash
# ipcdoor-proxy on the software back end, natively: two of them between clients and a
# server that know UNIX sockets only, with many connections at once and sides that vanish;
# a side where nobody is; nonsense. With redis-server and redis-benchmark installed those,
# too, and IPCDOOR_TEST_PROXY_REQUESTS (20000 unless set) of their requests.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"
proxy=$build/plain/tools/ipcdoor-proxy
requests=${IPCDOOR_TEST_PROXY_REQUESTS:-20000}
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$work"' EXIT
export IPCDOOR_URI=soft:
cd "$work"

fail() {
    echo "FAILED: $*"
    tail -n 5 ./*.err 2> /dev/null || true
    exit 1
}

listens_or_ended() { grep -qs 'back end soft' "$1" || ! kill -0 "$2" 2> /dev/null; }

# start NAME ARGUMENT…: a proxy in the background that listens when this returns.
start() {
    local name=$1
    shift
    "$proxy" --json "$name.json" "$@" 2> "$name.err" &
    eval "$name=$!"
    wait_until listens_or_ended "$name.err" "$!"
    kill -0 "$!" 2> /dev/null || fail "the proxy did not start: $(cat "$name.err")"
}

# stop NAME: it ends as it should, and has written its summary.
stop() {
    local status=0
    kill -TERM "${!1}"
    wait "${!1}" || status=$?
    [ "$status" = 0 ] || fail "$1: exit status $status: $(cat "$1.err")"
}

# --- many connections, and those that vanish -----------------------------------

start near ipcdoor:bridge unix:server.sock
start far unix:client.sock ipcdoor:bridge
"$build/plain/tests/system/proxy_clients" server.sock client.sock 60 2000000 || fail "the clients"
stop far
stop near
for side in near far; do
    json_says "$side.json" connections 62
    json_says "$side.json" failed 0
    json_says "$side.json" broken 2
done

# --- nobody is there, and nonsense ----------------------------------------------

start lonely unix:lonely.sock ipcdoor:nobody
"$build/plain/tests/system/proxy_clients" other.sock lonely.sock 1 10 > /dev/null 2>&1 &
clients=$!
wait_until grep -qs 'ipcdoor:nobody: ' lonely.err
# It may have ended by itself.
kill "$clients" 2> /dev/null || true
wait "$clients" 2> /dev/null || true
stop lonely
json_says lonely.json connections 0
for nonsense in "" "unix:a" "unix:a unix:b" "ipcdoor:a ipcdoor:b" "tcp:nowhere ipcdoor:a" "ipcdoor:a bogus:b"; do
    status=0
    # shellcheck disable=SC2086
    "$proxy" $nonsense > /dev/null 2>&1 || status=$?
    [ "$status" = 2 ] || fail "exit status $status for '$nonsense'"
done
: > plain.file
status=0
"$proxy" unix:plain.file ipcdoor:a 2> taken.err || status=$?
[ "$status" = 1 ] || fail "exit status $status where the path is a file"
[ -f plain.file ] || fail "a file that is no socket was removed"

# --- programs that know nothing of this ------------------------------------------

if command -v redis-server > /dev/null && command -v redis-benchmark > /dev/null; then
    redis-server --port 0 --unixsocket "$work/redis.sock" --save "" > redis.out 2>&1 &
    wait_until [ -S redis.sock ]
    start near ipcdoor:redis unix:redis.sock
    start far unix:client.sock ipcdoor:redis
    redis-benchmark -s client.sock -t set,get -n $((requests / 2)) --csv > bench.csv 2> bench.err ||
        fail "redis-benchmark: $(cat bench.err)"
    [ "$(grep -cE '^"(SET|GET)"' bench.csv)" = 2 ] || fail "redis-benchmark: $(cat bench.csv)"
    [ ! -s bench.err ] || fail "redis-benchmark: $(cat bench.err)"
    stop far
    stop near
    echo "note: redis-benchmark, $requests requests without an error"
else
    echo "note: redis is not installed, left out: apt-get install redis-server redis-tools"
fi
