#!/bin/bash
# Kills either side of shared segments and connections at random moments in a
# guest; the module must have nothing left and unload afterwards (qemu/run sees to
# that). IPCDOOR_TEST_KILLS: how many, 1000 unless set; IPCDOOR_TEST_SEED: a random
# one unless set.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
kills=${IPCDOOR_TEST_KILLS:-1000}
seed=${IPCDOOR_TEST_SEED:-}

exec "$top/qemu/run" --timeout $((900 + kills / 4)) --add "$build/plain/tests/system/kill_storm" -- \
    kill_storm "$kills" ${seed:+"$seed"}
