#!/bin/bash
# Rings from four threads on two CPUs of a guest, counts exact, nobody stuck.
# IPCDOOR_TEST_RINGS: how many, a million unless set; `make storms` does ten.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
source=${IPCDOOR_TEST_SOURCE:-}

exec "$top/qemu/run" --timeout 1800 --cpus 2 ${source:+--env "IPCDOOR_TEST_SOURCE=$source"} \
    --add "$build/plain/tests/system/ring_storm" -- ring_storm "${IPCDOOR_TEST_RINGS:-1000000}"
