#!/bin/bash
# The harness itself: every way in which a run can end has its exit status, and
# what passes through it arrives unchanged. Uses a stand-in for the module that
# misbehaves on demand (qemu/selftest).
set -euo pipefail

. "$(dirname "$(realpath "$0")")/selftest.bash"
build_misbehaving

# Output, files, arguments and environment, one boot.
passes_through() {
    local words=("a b" "it's" '$HOME' '*' '') status=0
    head -c 20000 /dev/urandom > "$work/sent"
    # shellcheck disable=SC2016
    "$top/qemu/run" --module "$misbehaving" --timeout 120 --env "NOTE=x 'y'" \
        --add "$work/sent" --add "$(command -v ls)=/usr/bin/host-ls" \
        --get /tmp/copy="$work/copy" -- \
        sh -c 'cat sent; cp sent /tmp/copy; host-ls -d /dev/ipcdoor0 >&2; nproc >&2
            id -u user >&2; id -u other >&2; printf "<%s>" "$NOTE" "$@" >&2; exit 7' sh "${words[@]}" \
        > "$work/received" 2> "$work/errors" || status=$?
    [ "$status" = 7 ] || fail "an exit status of 7 came back as $status: $(cat "$work/errors")"
    cmp "$work/sent" "$work/received" || fail "stdout was changed on the way"
    cmp "$work/sent" "$work/copy" || fail "a file was changed on the way"
    {
        printf '/dev/ipcdoor0\n2\n1000\n1001\n'
        printf '<%s>' "x 'y'" "${words[@]}"
    } > "$work/wanted"
    cmp "$work/wanted" "$work/errors" || fail "stderr was: $(cat "$work/errors")"
}

# Which lines of a console are complaints, without a boot.
judges_the_console() {
    local line wanted
    . "$top/qemu/console.sh"
    while IFS='|' read -r wanted line; do
        printf 'WARNING: before the harness\nipcdoor-harness: begin\n%s\n' "$line" > "$work/console"
        case $wanted-$(console_complaints "$work/console") in
            yes-?* | no-) ;;
            *) fail "is this a complaint? ($wanted was expected): $line" ;;
        esac
    done <<'LINES'
yes|WARNING: possible circular locking dependency detected
yes|BUG: sleeping function called from invalid context at mm/slab.h:1
yes|BUG kmalloc-64 (Tainted: G): Redzone overwritten
yes|watchdog: BUG: soft lockup - CPU#0 stuck for 26s!
yes|rcu: INFO: rcu_preempt self-detected stall on CPU
yes|rcu: INFO: rcu_sched detected stalls on CPUs/tasks:
yes|INFO: task unit:12 blocked for more than 120 seconds.
yes|general protection fault, probably for non-canonical address 0xdead: 0000 [#1]
yes|invalid opcode: 0000 [#1] PREEMPT SMP
yes|refcount_t: underflow; use-after-free.
yes|irq 26: nobody cared (try booting with the "irqpoll" option)
yes|UBSAN: array-index-out-of-bounds in segment.c:1
yes|kmemleak: unreferenced object 0xffff888000000000 (size 64):
no|ipcdoor: loading out-of-tree module taints kernel.
no|traps: unit[12] general protection fault ip:401 sp:7ff error:0
no|unit[12]: segfault at 0 ip 0000000000401 sp 00007ff error 4
no|DEBUG: an innocent word
no|clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable
no|hrtimer: interrupt took 12345 ns
LINES
    # A data race is one of ours if either access is, at most by a helper.
    local ours=' ipcdoor_ring+0x12/0x40 [ipcdoor]' theirs=' tick_sched_timer+0x30/0x50' stack
    while IFS='|' read -r wanted stack; do
        stack=${stack//ours/$ours}
        stack=${stack//theirs/$theirs}
        {
            printf '%s\n' 'ipcdoor-harness: begin' '====================' 'BUG: KCSAN: data-race in x / y' \
                'read to 0xffff of 8 bytes by task 1 on cpu 0:' "$theirs" '' 'write to 0xffff of 8 bytes by task 2 on cpu 1:'
            tr ',' '\n' <<< "$stack"
            echo '===================='
        } > "$work/console"
        case $wanted-$(console_complaints "$work/console") in
            yes-?* | no-) ;;
            *) fail "is a race with '$stack' on a stack a complaint? ($wanted was expected)" ;;
        esac
    done <<'STACKS'
yes|ours
yes|theirs,ours
no|theirs,theirs,ours
no|theirs
STACKS
}

# An emulator whose first kernel stumbles while it boots; or whose every kernel does.
boots_again() {
    mkdir -p "$work/first" "$work/always"
    cat > "$work/always/qemu-system-x86_64" <<'EMULATOR'
#!/bin/bash
PATH=${PATH#*:}
if [ "$1" = --version ] || [ -e "${0%/*}/recovers" ]; then exec qemu-system-x86_64 "$@"; fi
console=$(printf '%s\n' "$@" | sed -n 's/^file:\(.*console\)$/\1/p')
echo 'Oops: int3: 0000 [#1] PREEMPT SMP NOPTI' > "$console"
[[ $0 == */always/* ]] || : > "${0%/*}/recovers"
EMULATOR
    cp "$work/always/qemu-system-x86_64" "$work/first"
    chmod +x "$work"/{first,always}/qemu-system-x86_64
    IPCDOOR_ACCEL=tcg PATH=$work/first:$PATH expect 0 "booting it again (1 of 2)" --cpus 1 -- true
    IPCDOOR_ACCEL=tcg PATH=$work/always:$PATH expect 122 "booting it again (2 of 2)" -- true
}

judges_the_console
boots_again
expect 120 "see --help" --no-such-option 1 -- true
expect 120 "no such file" --add /no/such/file -- true
expect 123 "hrtimer_nanosleep" --cpus 1 --timeout 20 -- sleep 60 & # mostly idle
background passes_through
background expect 0 "" --cpus 1 -- rmmod ipcdoor
background expect 119 "reported as 119" --cpus 1 -- sh -c 'exit 122'
background expect 121 "No such device" --cpus 1 --module-args refuse=1 -- true
background expect 122 "sysrq triggered crash" --cpus 1 -- sh -c 'echo c > /proc/sysrq-trigger'
background expect 122 "NULL pointer dereference" --cpus 1 -- sh -c 'echo oops > /dev/ipcdoor0'
background expect 124 "planted warning" --cpus 1 -- sh -c 'echo warn > /dev/ipcdoor0'
background expect 125 "can't unload" --cpus 1 -- sh -c 'echo module-leak > /dev/ipcdoor0'
background expect 0 "" --cpus 1 -- sh -c 'sleep 60 > /dev/ipcdoor0 & sleep 0.1'
wait
finish
