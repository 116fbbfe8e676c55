#!/bin/bash
# Makes every fault point of every call on the module fail once in a guest whose
# kernel can inject faults (IPCDOOR_KERNEL=6.1-kasan); skipped with another one.
# IPCDOOR_TEST_FAULT_CASES: the cases to run, one a line, all unless set.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
kernel=${IPCDOOR_KERNEL:-}
cases=()
if [ -n "${IPCDOOR_TEST_FAULT_CASES:-}" ]; then mapfile -t cases <<< "$IPCDOOR_TEST_FAULT_CASES"; fi

if [ -z "$kernel" ] || [ "$("$top/qemu/kernel" --config "$kernel")" = - ]; then
    echo "packaged kernels cannot inject faults: run with IPCDOOR_KERNEL=6.1-kasan"
    exit 77
fi
# Every cache may fail but that of /proc's files, see injector.cpp.
exec "$top/qemu/run" --timeout 3600 --append "slub_debug=A;-,proc_dir_entry" --add "$build/plain/tests/system/fail_nth" -- fail_nth "${cases[@]}"
