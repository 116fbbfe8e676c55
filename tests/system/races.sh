#!/bin/bash
# Lets everything that ends or moves an endpoint meet everything else, pair by pair,
# on the two CPUs of a guest; the module must have nothing left and unload
# afterwards. IPCDOOR_TEST_RACE_ROUNDS: of each pair, 20 unless set, with a packaged
# kernel 5; IPCDOOR_TEST_RACE_PAIRS: which ones, separated by spaces, all unless set;
# IPCDOOR_TEST_SEED: a random one unless set.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
read -ra pairs <<< "${IPCDOOR_TEST_RACE_PAIRS:-}"
seed=${IPCDOOR_TEST_SEED:-}
rounds=20
if [ "$("$top/qemu/kernel" --config "${IPCDOOR_KERNEL:-6.1-cloud}")" = - ]; then rounds=5; fi

exec "$top/qemu/run" --cpus 2 --timeout "${IPCDOOR_TEST_RACE_TIMEOUT_S:-1800}" \
    --add "$build/plain/tests/system/races" -- \
    races --rounds "${IPCDOOR_TEST_RACE_ROUNDS:-$rounds}" ${seed:+--seed "$seed"} "${pairs[@]}"
