#!/bin/bash
# 1,000 connections to one rpc::server with 100 calls under way on each, the server
# killed amid them and started again: natively on the software back end. In a guest, as an
# ordinary user with the module's own quotas, the same with IPCDOOR_TEST_FLOOD_CONNECTIONS
# connections (250 unless set).
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"
connections=${IPCDOOR_TEST_FLOOD_CONNECTIONS:-250}
calls=100

IPCDOOR_URI=soft: timeout 600 \
    "$build/plain/tests/system/rpc_flood" 1000 $calls || fail "on soft:, status $?"

# What an administrator does for users with many connections: the device for everybody. The
# program, started as root, has itself allowed as many descriptors.
"$top/qemu/run" --timeout 600 --module-args mode=0666 --env IPCDOOR_URI=door:/dev/ipcdoor0 \
    --add "$build/plain/tests/system/rpc_flood" -- rpc_flood "$connections" $calls 1000 ||
    fail "in a guest, status $?"
