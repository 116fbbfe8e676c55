#!/bin/bash
# A CPU goes offline and comes back, again and again, in the middle of ringing and
# waiting on it: counts exact, nobody stuck, no complaint of the kernel's.
# IPCDOOR_TEST_OFFLINE_RINGS: how many rings, 400,000 unless set.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"

cat > "$work/offline.sh" <<'GUEST'
online=/sys/devices/system/cpu/cpu1/online
[ -w "$online" ] || { echo "this kernel takes no CPU offline"; exit 77; }
for source in msi ipi timer direct; do
    # The kernel tells processes of a CPU's return a little later.
    until [ "$(nproc)" = 2 ]; do echo 1 > "$online" 2> /dev/null; sleep 0.1; done
    IPCDOOR_TEST_SOURCE=$source ring_storm "$1" --any-cpu & storm=$!
    switches=0
    while kill -0 "$storm" 2> /dev/null; do
        echo 0 > "$online" && echo 1 > "$online" && switches=$((switches + 1))
        sleep 0.05
    done
    wait "$storm" || exit 1
    [ "$switches" -gt 0 ] || { echo "the storm was over before CPU 1 went offline: more rings are needed"; exit 1; }
    echo "note: CPU 1 went offline $switches times during that"
done
GUEST
"$top/qemu/run" --timeout 900 --cpus 2 --add "$build/plain/tests/system/ring_storm" --add "$work/offline.sh" -- \
    sh offline.sh "${IPCDOOR_TEST_OFFLINE_RINGS:-400000}"
