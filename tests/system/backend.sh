#!/bin/bash
# The module's parameter `backend`: each source that is there is the default when it is asked
# for, and what is not there, or nothing that anybody knows, does not load and says why.
set -euo pipefail

. "$(dirname "$(realpath "$0")")/scratch.bash"

cat > "$work/backend.sh" <<'GUEST'
# default_is SOURCE BACKEND
default_is() {
    insmod /ipcdoor.ko backend="$2" || { echo "backend=$2 does not load"; exit 1; }
    irqbench info --quiet --json info.json || exit 1
    grep -q "\"default_source\": *\"$1\"" info.json || { echo "backend=$2:"; cat info.json; exit 1; }
    rmmod ipcdoor || exit 1
}
# refused BACKEND TEXT
refused() {
    dmesg -c > /dev/null
    if insmod /ipcdoor.ko backend="$1" 2> /dev/null; then echo "backend=$1 loads"; exit 1; fi
    dmesg | grep -qF "$2" || { echo "backend=$1 is refused without '$2':"; dmesg; exit 1; }
}

for source in msi ipi timer direct; do
    if [ "$1" = none ] && [ "$source" = msi ]; then continue; fi
    default_is "$source" "$source"
done
if [ "$1" = none ]; then
    default_is ipi auto
    refused msi "backend=msi is not present on this machine: it needs QEMU's edu device"
else
    default_is msi auto
fi
refused lapic "backend=lapic is unknown: use auto, msi, ipi, timer or direct"
GUEST
release=$(cd "$top" && qemu/kernel | cut -d ' ' -f 1)
for device in edu none; do
    "$top/qemu/run" --timeout 120 --device "$device" --no-module --add "$build/kmod/$release/ipcdoor.ko=/ipcdoor.ko" \
        --add "$build/plain/tools/irqbench" --add "$work/backend.sh" -- sh backend.sh "$device"
    echo "note: with the device '$device' each value does what it says"
done
