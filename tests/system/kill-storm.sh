#!/bin/bash
# Kills either side of shared segments and connections at random moments in a
# guest; the module must have nothing left and unload afterwards (qemu/run sees to
# that). IPCDOOR_TEST_KILLS: how many, 1000 unless set.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}

exec "$top/qemu/run" --timeout 900 --add "$build/plain/tests/system/kill_storm" -- \
    kill_storm "${IPCDOOR_TEST_KILLS:-1000}"
