#!/bin/bash
# A publisher and 64 subscribers that are killed at random, for IPCDOOR_TEST_SECONDS, 20 unless
# set: in a guest, and before that, for 20 at most, natively on the software back end.
# IPCDOOR_TEST_SEED: a random one unless set. `make publish-kills` runs it for ten minutes.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"
seconds=${IPCDOOR_TEST_SECONDS:-20}
seed=${IPCDOOR_TEST_SEED:-}
natively=$((seconds < 20 ? seconds : 20))
options=(--subscribers 64 ${seed:+--seed "$seed"})

env -u IPCDOOR_URI IPCDOOR_TEST_SOURCE=soft timeout $((natively + 600)) \
    "$build/plain/tests/stress/publish_kills" --seconds "$natively" "${options[@]}" ||
    fail "on soft:, status $?"

# Loaded by root and run by root, who needs no more than the default mode.
"$top/qemu/run" --cpus 2 --timeout $((seconds * 2 + 900)) --env IPCDOOR_URI=door:/dev/ipcdoor0 \
    --env "IPCDOOR_TEST_SOURCE=${IPCDOOR_TEST_SOURCE:-}" \
    --add "$build/plain/tests/stress/publish_kills" -- \
    publish_kills --seconds "$seconds" "${options[@]}" || fail "in a guest, status $?"
