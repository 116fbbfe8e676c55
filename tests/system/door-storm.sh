#!/bin/bash
# An ordinary user's rings at full rate beside a bystander, in a guest with two
# CPUs: the bystander keeps half of what it does beside those who burn CPU time.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}

exec "$top/qemu/run" --timeout 600 --cpus 2 --add "$build/plain/tests/system/door_storm" -- door_storm
