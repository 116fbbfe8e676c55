#!/bin/bash
# Each detector of a debug kernel reports what is planted for it, one bug a boot (a
# report of KASAN's switches lockdep off). A packaged kernel has none: skipped.
set -euo pipefail
. "$(dirname "$(realpath "$0")")/selftest.bash"

config=$("$top/qemu/kernel" --config)
case ,$config, in
    *,debug,*) ;;
    *) echo "a packaged kernel has no detectors; there are: $("$top/qemu/kernel" --list | awk '$4 ~ /debug/ { printf "%s ", $1 }')"; exit 77 ;;
esac
build_misbehaving
timeout_s=600

planted=0
# plant MISDEED TEXT: a guest that does it must report TEXT.
plant() {
    planted=$((planted + 1))
    background expect "124|122" "$2" --cpus 2 -- sh -c "echo $1 > /dev/ipcdoor0"
}

# Every debug kernel.
plant inversion "possible circular locking dependency"
plant atomic-sleep "sleeping function called from invalid context"
plant refcount "refcount_t:"
plant list "list_add double add"
case ,$config, in
    *,kasan,*)
        plant use-after-free "KASAN: "
        plant out-of-bounds "KASAN: "
        plant shift "UBSAN: shift-out-of-bounds"
        plant index "UBSAN: array-index-out-of-bounds"
        plant memory-leak "kmemleak: unreferenced object"
        plant active-object "ODEBUG: free active"
        ;;
    *,rt,*)
        plant nesting "Invalid wait context"
        ;;
    *,kcsan,*)
        plant race "KCSAN: data-race in selftest_race"
        ;;
esac
wait

# The detector of races is on: it sets watchpoints while the module works.
case ,$config, in
    *,kcsan,*)
        "$top/qemu/run" --timeout 600 --env IPCDOOR_TEST_SOURCE=ipi --add "$build/plain/tests/uapi" -- \
            sh -c 'uapi "[doorbell]" > /dev/null; cat /sys/kernel/debug/kcsan' > "$work/kcsan" ||
            fail "the module's tests on this kernel: exit status $?"
        watchpoints=$(sed -n 's/^setup_watchpoints: //p' "$work/kcsan")
        [ "${watchpoints:-0}" -gt 0 ] || fail "KCSAN has set no watchpoint: $(cat "$work/kcsan")"
        echo "note: KCSAN set $watchpoints watchpoints"
        ;;
esac
finish
echo "note: $planted planted bugs, each reported by its detector"
